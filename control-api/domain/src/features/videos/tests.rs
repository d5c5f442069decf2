use std::time::Duration;

use super::{
    commands::*,
    details::{Details, Edits, Tags, Visibility},
    events::{DELETED, Event, PUBLISHED},
    processing::*,
    queries,
    queries::Access,
    state::{Cause, Media, State},
    tables::{COUNTS, MAX_OF_A_CHANNEL},
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        categories::{self, commands::MakeStartSet},
        channels::{self, events::Visibility as OfChannel},
        tags::commands::Merge,
    },
    id::{ChannelId, VideoId},
    password::PasswordHash,
    scenario::Scenario,
    text::Tag,
};

mod lists;

const MEDIA: Media = Media { duration_ms: 60_000, width: Some(1920), height: Some(1080) };

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn tags(texts: &[&str]) -> Tags {
    texts.iter().map(|text| tag(text)).collect::<Vec<_>>().try_into().expect("few tags")
}

fn details(title: &str, visibility: Visibility) -> Details {
    Details {
        title: title.parse().expect("a title"),
        description: String::new().try_into().expect("a text"),
        tags: Tags::default(),
        category: None,
        language: None,
        visibility,
        chapters: Vec::new().try_into().expect("no chapters"),
    }
}

fn announce(channel: ChannelId, title: &str) -> Announce {
    Announce { channel, details: details(title, Visibility::Public), password: None }
}

fn publish(video: VideoId) -> Publish {
    Publish { video, at: None }
}

fn hash() -> PasswordHash {
    PasswordHash("$argon2id$video".to_owned())
}

/// A platform with Ada and her public channel, and Bob.
fn platform() -> (Scenario, Actor, ChannelId, Actor) {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let bob = scenario.person("bob", Role::Creator);
    let channel = scenario.channel(ada, "engine", OfChannel::Public);
    (scenario, ada, channel, bob)
}

/// A draft whose media were uploaded and processed.
fn ready(scenario: &mut Scenario, owner: Actor, announce: &Announce) -> VideoId {
    let video = scenario.send(owner, announce).expect("the owner");
    scenario.send(owner, &StartUpload { video }).expect("the owner");
    scenario.send(Actor::System, &FinishUpload { video, bytes: 9 }).expect("the upload");
    let processed = FinishProcessing { video, media: MEDIA };
    scenario.send(Actor::System, &processed).expect("the daemon");
    video
}

fn published(scenario: &mut Scenario, owner: Actor, announce: &Announce) -> VideoId {
    let video = ready(scenario, owner, announce);
    scenario.send(owner, &publish(video)).expect("the owner");
    video
}

fn state(scenario: &Scenario, video: VideoId) -> &'static str {
    queries::video(&scenario.rows, video).expect("it exists").video.state.name()
}

fn rule(refused: Result<impl Sized, Refusal>) -> &'static str {
    match refused.err() {
        Some(Refusal::Conflict { rule, .. }) => rule,
        Some(Refusal::Forbidden { .. }) => "forbidden",
        Some(Refusal::SignIn) => "sign_in",
        Some(Refusal::NotFound { .. }) => "not_found",
        Some(Refusal::Changed { .. }) => "changed",
        Some(other) => panic!("{other}"),
        None => "carried out",
    }
}

#[test]
fn a_video_lives_from_its_draft_to_its_deletion() {
    let (mut scenario, ada, channel, bob) = platform();
    let video = scenario.send(ada, &announce(channel, "Notes")).expect("the owner");
    assert_eq!(state(&scenario, video), "draft");
    scenario.send(ada, &StartUpload { video }).expect("the owner");
    assert_eq!(state(&scenario, video), "uploading");
    scenario.send(Actor::System, &FinishUpload { video, bytes: 9 }).expect("the upload");
    assert_eq!(state(&scenario, video), "processing");
    let processed = FinishProcessing { video, media: MEDIA };
    scenario.send(Actor::System, &processed).expect("the daemon");
    assert_eq!(state(&scenario, video), "ready");
    assert_eq!(rule(queries::visible(&scenario.rows, &bob, video)), "not_found");
    scenario.send(ada, &publish(video)).expect("the owner");
    let entry = queries::visible(&scenario.rows, &bob, video).expect("it is public");
    assert!(matches!(entry.video.state, State::Published { media: MEDIA, .. }));
    scenario.send(ada, &Unpublish { video }).expect("the owner");
    assert_eq!(state(&scenario, video), "ready");
    scenario.send(ada, &Delete { video }).expect("the owner");
    assert_eq!(rule(queries::video(&scenario.rows, video)), "not_found");
    assert_eq!(queries::count(&scenario.rows, channel).expect("memory"), 0);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_step_that_is_sent_again_changes_nothing_and_one_out_of_order_is_refused() {
    let (mut scenario, ada, channel, _) = platform();
    let video = scenario.send(ada, &announce(channel, "Notes")).expect("the owner");
    let (uploaded, processed) =
        (FinishUpload { video, bytes: 9 }, FinishProcessing { video, media: MEDIA });
    let reason = || "no picture".parse().expect("a reason");
    let fail = Fail { video, cause: Cause::Media, reason: reason() };
    assert_eq!(rule(scenario.send(Actor::System, &uploaded)), "wrong_state");
    assert_eq!(rule(scenario.send(Actor::System, &processed)), "wrong_state");
    assert_eq!(rule(scenario.send(Actor::System, &fail)), "wrong_state");
    scenario.take_events::<Event>();
    for _ in 0..2 {
        scenario.send(ada, &StartUpload { video }).expect("the owner");
    }
    assert_eq!(rule(scenario.send(Actor::System, &processed)), "wrong_state");
    for _ in 0..2 {
        scenario.send(Actor::System, &uploaded).expect("the upload");
    }
    assert_eq!(rule(scenario.send(ada, &StartUpload { video })), "wrong_state");
    for _ in 0..2 {
        scenario.send(Actor::System, &processed).expect("the daemon");
    }
    scenario.send(Actor::System, &uploaded).expect("late, and no error");
    assert_eq!(rule(scenario.send(Actor::System, &fail)), "wrong_state");
    for _ in 0..2 {
        scenario.send(ada, &publish(video)).expect("the owner");
    }
    assert_eq!(rule(scenario.send(ada, &StartUpload { video })), "wrong_state");
    let events = scenario.take_events::<Event>();
    assert_eq!(events.len(), 4, "one event a step: {events:?}");
}

#[test]
fn a_failed_video_has_its_reason_and_can_be_uploaded_again() {
    let (mut scenario, ada, channel, _) = platform();
    let video = scenario.send(ada, &announce(channel, "Notes")).expect("the owner");
    scenario.send(ada, &StartUpload { video }).expect("the owner");
    let reason = "the file has no picture".parse().expect("a reason");
    let fail = Fail { video, cause: Cause::Media, reason };
    assert_eq!(rule(scenario.send(ada, &fail)), "forbidden");
    scenario.send(Actor::System, &fail).expect("the daemon");
    scenario.send(Actor::System, &fail).expect("again is no error");
    let failed = queries::video(&scenario.rows, video).expect("it exists").video.state;
    let State::Failed { cause: Cause::Media, reason } = failed else { panic!("{failed:?}") };
    assert_eq!(reason.as_str(), "the file has no picture");
    assert_eq!(rule(scenario.send(ada, &publish(video))), "has_failed");
    scenario.send(ada, &StartUpload { video }).expect("the owner");
    assert_eq!(state(&scenario, video), "uploading");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_video_that_is_published_before_it_is_processed_appears_as_soon_as_it_is() {
    let (mut scenario, ada, channel, _) = platform();
    let video = scenario.send(ada, &announce(channel, "Notes")).expect("the owner");
    scenario.send(ada, &publish(video)).expect("the owner");
    scenario.take_events::<Event>();
    scenario.send(ada, &publish(video)).expect("the owner");
    assert_eq!(scenario.take_events::<Event>(), [], "it waits already");
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!(state(&scenario, video), "draft", "it has no media");
    scenario.send(ada, &StartUpload { video }).expect("the owner");
    scenario.send(Actor::System, &FinishUpload { video, bytes: 9 }).expect("the upload");
    let processed = FinishProcessing { video, media: MEDIA };
    scenario.send(Actor::System, &processed).expect("the daemon");
    assert_eq!(state(&scenario, video), "published");
}

#[test]
fn a_scheduled_video_is_published_when_it_is_due_by_the_daemon_alone() {
    let (mut scenario, ada, channel, _) = platform();
    let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
    let begin = scenario.now();
    let first = ready(&mut scenario, ada, &announce(channel, "First"));
    let second = ready(&mut scenario, ada, &announce(channel, "Second"));
    let at = |video, wait| Publish { video, at: Some(begin.after(wait)) };
    scenario.send(ada, &at(second, day)).expect("the owner");
    scenario.send(ada, &at(first, day)).expect("the owner");
    scenario.send(ada, &at(first, hour)).expect("another time");
    let next = |scenario: &Scenario| queries::next_due(&scenario.rows).expect("memory");
    assert_eq!(next(&scenario), Some(begin.after(hour)));
    let due =
        |scenario: &Scenario| queries::due(&scenario.rows, scenario.now(), 10).expect("memory");
    assert_eq!(due(&scenario), []);
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!(state(&scenario, first), "ready");

    scenario.wait(hour);
    assert_eq!(due(&scenario), [first]);
    assert_eq!(rule(scenario.send(ada, &PublishDue)), "forbidden");
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!((state(&scenario, first), state(&scenario, second)), ("published", "ready"));
    assert_eq!(next(&scenario), Some(begin.after(day)));
    assert_eq!(rule(scenario.send(ada, &at(first, day))), "is_published");

    scenario.send(ada, &Unpublish { video: second }).expect("the owner");
    assert_eq!(next(&scenario), None);
    scenario.wait(day);
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!(state(&scenario, second), "ready");
    scenario.send(ada, &Unpublish { video: second }).expect("again is no error");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn other_media_put_a_scheduled_video_off_until_they_are_processed() {
    let (mut scenario, ada, channel, _) = platform();
    let video = ready(&mut scenario, ada, &announce(channel, "Notes"));
    let at = Some(scenario.now().after(Duration::from_secs(60)));
    scenario.send(ada, &Publish { video, at }).expect("the owner");
    scenario.send(ada, &StartUpload { video }).expect("other media");
    scenario.wait(Duration::from_secs(120));
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!(state(&scenario, video), "uploading");
    scenario.send(Actor::System, &FinishUpload { video, bytes: 9 }).expect("the upload");
    let processed = FinishProcessing { video, media: MEDIA };
    scenario.send(Actor::System, &processed).expect("the daemon");
    assert_eq!(state(&scenario, video), "published");
}

#[test]
fn each_command_about_a_video_has_its_actors() {
    let (mut scenario, ada, channel, bob) = platform();
    let moderator = scenario.person("eve", Role::Moderator);
    let draft = scenario.send(ada, &announce(channel, "Draft")).expect("the owner");
    let shown = published(&mut scenario, ada, &announce(channel, "Shown"));
    let edit = |video, title: &str| Edit {
        video,
        edits: Edits { title: Some(title.parse().expect("a title")), ..Edits::default() },
        password: None,
        expected: None,
    };
    assert_eq!(rule(scenario.send(bob, &announce(channel, "Foreign"))), "forbidden");
    assert_eq!(rule(scenario.send(Actor::Anonymous, &announce(channel, "Foreign"))), "sign_in");
    for (video, refused) in [(draft, "not_found"), (shown, "forbidden")] {
        assert_eq!(rule(scenario.send(bob, &edit(video, "Foreign"))), refused);
        assert_eq!(rule(scenario.send(bob, &publish(video))), refused);
        assert_eq!(rule(scenario.send(bob, &Unpublish { video })), refused);
        assert_eq!(rule(scenario.send(bob, &Delete { video })), refused);
        assert_eq!(rule(scenario.send(bob, &StartUpload { video })), refused);
    }
    assert_eq!(rule(scenario.send(moderator, &edit(shown, "Moderated"))), "carried out");
    assert_eq!(rule(scenario.send(moderator, &publish(shown))), "forbidden");
    assert_eq!(rule(scenario.send(moderator, &Unpublish { video: shown })), "carried out");
    assert_eq!(rule(scenario.send(moderator, &Delete { video: shown })), "carried out");
    for system in [
        rule(scenario.send(moderator, &FinishUpload { video: draft, bytes: 1 })),
        rule(scenario.send(moderator, &FinishProcessing { video: draft, media: MEDIA })),
        rule(scenario.send(moderator, &DeleteOrphans)),
    ] {
        assert_eq!(system, "forbidden");
    }
}

#[test]
fn an_edit_changes_the_named_properties_and_only_the_version_that_was_read() {
    let (mut scenario, ada, channel, _) = platform();
    let video = scenario.send(ada, &announce(channel, "Notes")).expect("the owner");
    let edit = |title: &str, expected| Edit {
        video,
        edits: Edits { title: Some(title.parse().expect("a title")), ..Edits::default() },
        password: None,
        expected,
    };
    scenario.send(ada, &edit("Notes A", Some(1))).expect("the current version");
    assert_eq!(rule(scenario.send(ada, &edit("Notes B", Some(1)))), "changed");
    scenario.take_events::<Event>();
    scenario.send(ada, &edit("Notes A", Some(2))).expect("the current version");
    assert_eq!(scenario.take_events::<Event>(), [], "nothing changed");
    let row = queries::video(&scenario.rows, video).expect("it exists").video;
    let expected = Details { title: "Notes A".parse().expect("a title"), ..row.details.clone() };
    assert_eq!((row.details, row.version), (expected, 2));
    assert!(row.changed > row.announced);
}

#[test]
fn a_category_must_exist_when_it_is_chosen_and_may_be_removed_later() {
    let (mut scenario, ada, channel, _) = platform();
    scenario.send(Actor::System, &MakeStartSet).expect("the operator");
    let (category, _) = categories::queries::all(&scenario.rows).expect("memory")[0];
    let mut announce = announce(channel, "Notes");
    announce.details.category = Some(category);
    let video = published(&mut scenario, ada, &announce);
    let by_category = |scenario: &Scenario| {
        queries::by_category(&scenario.rows, &Actor::Anonymous, category, None, 10)
    };
    assert_eq!(by_category(&scenario).expect("it exists").items[0].id, video);
    let remove = categories::commands::Remove { category };
    scenario.send(Actor::System, &remove).expect("the operator");
    assert_eq!(rule(by_category(&scenario)), "not_found");
    assert_eq!(rule(scenario.send(ada, &announce)), "not_found");
    let edits = Edits { category: Some(Some(category)), ..Edits::default() };
    let edit = Edit { video, edits, password: None, expected: None };
    assert_eq!(rule(scenario.send(ada, &edit)), "carried out", "it has the category already");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_visibility_password_needs_a_password_which_only_its_owners_key_opens() {
    let (mut scenario, ada, channel, bob) = platform();
    let secret =
        Announce { details: details("Notes", Visibility::Password), ..announce(channel, "Notes") };
    assert_eq!(rule(scenario.send(ada, &secret)), "password_missing");
    let unused = Announce { password: Some(hash()), ..announce(channel, "Notes") };
    assert_eq!(rule(scenario.send(ada, &unused)), "password_unused");
    let secret = Announce { password: Some(hash()), ..secret };
    let video = published(&mut scenario, ada, &secret);
    let entry = queries::visible(&scenario.rows, &bob, video).expect("he has the address");
    assert_eq!(entry.access(&bob), Access::Password);
    let password = |scenario: &Scenario| {
        let video = queries::video(&scenario.rows, video).expect("it exists").video;
        queries::password(&scenario.vault, &video).expect("memory")
    };
    assert_eq!(password(&scenario), Some(hash()));
    let log = serde_json::to_string(&scenario.log).expect("events are JSON");
    assert!(!log.contains("argon2id$video"), "{log}");

    // Another visibility ends it, so that the old password does not return with the visibility.
    let show = |visibility, password| Edit {
        video,
        edits: Edits { visibility: Some(visibility), ..Edits::default() },
        password,
        expected: None,
    };
    scenario.send(ada, &show(Visibility::Public, None)).expect("the owner");
    assert_eq!(password(&scenario), None);
    let without = show(Visibility::Password, None);
    assert_eq!(rule(scenario.send(ada, &without)), "password_missing");
    scenario.send(ada, &show(Visibility::Password, Some(hash()))).expect("the owner");
    assert_eq!(password(&scenario), Some(hash()));

    let row = queries::video(&scenario.rows, video).expect("it exists").video;
    scenario.erase(ada);
    assert_eq!(queries::password(&scenario.vault, &row).expect("memory"), None);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_channel_has_a_greatest_number_of_videos() {
    let (mut scenario, ada, channel, _) = platform();
    COUNTS.put(&mut scenario.rows, &channel, &MAX_OF_A_CHANNEL).expect("memory");
    let refused = scenario.send(ada, &announce(channel, "One more"));
    assert!(matches!(refused, Err(Refusal::Limit { limit: MAX_OF_A_CHANNEL, .. })), "{refused:?}");
}

#[test]
fn the_videos_of_a_deleted_channel_are_gone_at_once_and_their_deletions_follow() {
    let (mut scenario, ada, channel, bob) = platform();
    let other = scenario.channel(bob, "other", OfChannel::Public);
    let kept = published(&mut scenario, bob, &announce(other, "Kept"));
    let mut videos = Vec::new();
    for n in 0..DeleteOrphans::MAX + 3 {
        videos.push(scenario.send(ada, &announce(channel, &format!("V{n:03}"))).expect("hers"));
    }
    let shown = published(&mut scenario, ada, &announce(channel, "Shown"));
    scenario.send(ada, &channels::commands::Delete { channel }).expect("the owner");
    assert_eq!(rule(queries::visible(&scenario.rows, &ada, shown)), "not_found");
    assert_eq!(rule(scenario.send(ada, &publish(videos[0]))), "not_found");
    let newest = |scenario: &Scenario| {
        let page = queries::newest(&scenario.rows, &Actor::System, None, 100).expect("memory");
        page.items.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!(newest(&scenario), [kept]);

    for left in [4, 0] {
        scenario.send(Actor::System, &DeleteOrphans).expect("the daemon");
        let orphans = queries::orphans(&scenario.rows, 1_000).expect("memory");
        assert_eq!(orphans.len(), left);
        assert_eq!(scenario.rebuilt(), scenario.rows);
    }
    let deleted = scenario.log.iter().filter(|event| event.kind == DELETED).count();
    assert_eq!(deleted, videos.len() + 1);
    assert_eq!(newest(&scenario), [kept]);
}

#[test]
fn due_videos_of_deleted_channels_do_not_keep_others_waiting() {
    let (mut scenario, ada, channel, bob) = platform();
    let other = scenario.channel(bob, "other", OfChannel::Public);
    let at = Some(scenario.now().after(Duration::from_secs(3_600)));
    for n in 0..PublishDue::MAX {
        let video = ready(&mut scenario, ada, &announce(channel, &format!("V{n:03}")));
        scenario.send(ada, &Publish { video, at }).expect("the owner");
    }
    let waiting = ready(&mut scenario, bob, &announce(other, "Waiting"));
    scenario.send(bob, &Publish { video: waiting, at }).expect("the owner");
    scenario.send(ada, &channels::commands::Delete { channel }).expect("the owner");
    scenario.wait(Duration::from_secs(3_600));
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    scenario.send(Actor::System, &PublishDue).expect("the daemon");
    assert_eq!(state(&scenario, waiting), "published");
    let published = scenario.log.iter().filter(|event| event.kind == PUBLISHED).count();
    assert_eq!(published, 1, "none of the deleted channel");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_videos_of_an_erased_account_are_gone() {
    let (mut scenario, ada, channel, bob) = platform();
    let video = published(&mut scenario, ada, &announce(channel, "Notes"));
    scenario.erase(ada);
    assert_eq!(rule(queries::visible(&scenario.rows, &bob, video)), "not_found");
    assert_eq!(scenario.rebuilt(), scenario.rows);
    scenario.send(Actor::System, &channels::commands::DeleteOrphans).expect("the daemon");
    scenario.send(Actor::System, &DeleteOrphans).expect("the daemon");
    assert_eq!(queries::count(&scenario.rows, channel).expect("memory"), 0);
    let last = scenario.log.last().expect("an event");
    assert_eq!((last.kind.as_str(), last.subject.clone()), (DELETED, video.to_string()));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

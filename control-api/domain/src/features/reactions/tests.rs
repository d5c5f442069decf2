use super::{
    commands::*,
    events::{Event, Reaction},
    queries::{self, Counts},
    tables::{BY_PERSON, COUNTS, DELETED, ERASED, REACTIONS, SWEPT, SWEPT_AT_ONCE},
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    features::{
        channels::events::Visibility as OfChannel,
        videos::{
            commands::{Announce, Delete, Edit, Publish},
            details::{Details, Edits, Visibility},
            processing::{FinishProcessing, FinishUpload, StartUpload},
            state::Media,
        },
    },
    id::{ChannelId, VideoId},
    rows::Order,
    scenario::Scenario,
};

fn draft(scenario: &mut Scenario, owner: Actor, channel: ChannelId) -> VideoId {
    let details = Details {
        title: "Notes".parse().expect("a title"),
        description: String::new().try_into().expect("a text"),
        tags: Vec::new().try_into().expect("no tags"),
        category: None,
        language: None,
        visibility: Visibility::Public,
        chapters: Vec::new().try_into().expect("no chapters"),
    };
    let announce = Announce { channel, details, password: None };
    scenario.send(owner, &announce).expect("the owner")
}

fn published(scenario: &mut Scenario, owner: Actor, channel: ChannelId) -> VideoId {
    let video = draft(scenario, owner, channel);
    let media = Media { duration_ms: 1, width: None, height: None };
    scenario.send(owner, &StartUpload { video }).expect("the owner");
    scenario.send(Actor::System, &FinishUpload { video, bytes: 1 }).expect("the upload");
    scenario.send(Actor::System, &FinishProcessing { video, media }).expect("the daemon");
    scenario.send(owner, &Publish { video, at: None }).expect("the owner");
    video
}

/// A platform with Ada, her channel and her video, and Bob.
fn platform() -> (Scenario, Actor, ChannelId, VideoId, Actor) {
    let mut scenario = Scenario::default();
    let ada = scenario.person("ada", Role::Creator);
    let bob = scenario.person("bob", Role::Viewer);
    let channel = scenario.channel(ada, "engine", OfChannel::Public);
    let video = published(&mut scenario, ada, channel);
    (scenario, ada, channel, video, bob)
}

fn like(video: VideoId) -> React {
    React { video, reaction: Reaction::Like }
}

fn dislike(video: VideoId) -> React {
    React { video, reaction: Reaction::Dislike }
}

fn counts(scenario: &Scenario, video: VideoId) -> (u64, u64) {
    let Counts { likes, dislikes } = queries::counts(&scenario.rows, video).expect("memory");
    (likes, dislikes)
}

fn reacted(scenario: &Scenario, actor: Actor) -> Vec<(VideoId, Reaction)> {
    let person = actor.account().expect("a person");
    let page = queries::of_person(&scenario.rows, &actor, person, None, 100).expect("memory");
    page.items.into_iter().map(|(entry, reaction)| (entry.id, reaction)).collect()
}

#[test]
fn a_person_has_one_reaction_to_a_video_and_it_is_counted_once() {
    let (mut scenario, ada, _, video, bob) = platform();
    scenario.take_events::<Event>();
    for _ in 0..2 {
        scenario.send(bob, &like(video)).expect("a person");
    }
    scenario.send(ada, &like(video)).expect("a person");
    assert_eq!(counts(&scenario, video), (2, 0));
    scenario.send(bob, &dislike(video)).expect("a person");
    assert_eq!(counts(&scenario, video), (1, 1));
    assert_eq!(reacted(&scenario, bob), [(video, Reaction::Dislike)]);
    for _ in 0..2 {
        scenario.send(bob, &Withdraw { video }).expect("again is no error");
    }
    assert_eq!((counts(&scenario, video), reacted(&scenario, bob)), ((1, 0), vec![]));
    assert_eq!(scenario.take_events::<Event>().len(), 4, "repeated ones change nothing");
}

#[test]
fn only_people_react_and_only_to_published_videos_that_they_may_know_of() {
    let (mut scenario, ada, channel, video, bob) = platform();
    let refused = scenario.send(Actor::Anonymous, &like(video));
    assert!(matches!(refused, Err(Refusal::SignIn)), "{refused:?}");
    let draft = draft(&mut scenario, ada, channel);
    let refused = scenario.send(bob, &like(draft));
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "video" })), "{refused:?}");
    let refused = scenario.send(ada, &like(draft));
    assert!(matches!(refused, Err(Refusal::Conflict { rule: "not_published", .. })));

    scenario.send(bob, &like(video)).expect("a person");
    let edits = Edits { visibility: Some(Visibility::Private), ..Edits::default() };
    let edit = Edit { video, edits, password: None, expected: None };
    scenario.send(ada, &edit).expect("the owner");
    assert_eq!(reacted(&scenario, bob), [], "he may not know of it");
    scenario.send(bob, &Withdraw { video }).expect("it is his");
    assert_eq!(counts(&scenario, video), (0, 0));

    scenario.erase(bob);
    let refused = scenario.send(bob, &like(video));
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "account" })), "{refused:?}");
}

#[test]
fn a_list_of_reactions_is_read_page_by_page_from_the_newest_video_on() {
    let (mut scenario, ada, channel, first, bob) = platform();
    let second = published(&mut scenario, ada, channel);
    let third = published(&mut scenario, ada, channel);
    for video in [second, first, third] {
        scenario.send(bob, &like(video)).expect("a person");
    }
    let person = bob.account().expect("a person");
    let page = |after| {
        let page = queries::of_person(&scenario.rows, &bob, person, after, 2).expect("memory");
        (page.items.into_iter().map(|(entry, _)| entry.id).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None), (vec![third, second], Some(second)));
    assert_eq!(page(Some(second)), (vec![first], None));
}

#[test]
fn the_reactions_of_an_erased_account_are_removed_at_once_or_in_steps() {
    let (mut scenario, ada, _, video, bob) = platform();
    scenario.send(bob, &like(video)).expect("a person");
    scenario.send(ada, &like(video)).expect("a person");
    // So many that an erasure does not remove all, of videos that are gone.
    let person = bob.account().expect("a person");
    for n in 0..SWEPT_AT_ONCE + SWEPT {
        let old = VideoId::new(uuid::Uuid::from_u128(u128::MAX - n as u128));
        REACTIONS.put(&mut scenario.rows, &(old, person), &Reaction::Like).expect("memory");
        BY_PERSON.put(&mut scenario.rows, &(person, old), &()).expect("memory");
        COUNTS.put(&mut scenario.rows, &old, &Counts { likes: 1, dislikes: 0 }).expect("memory");
    }
    scenario.erase(bob);
    let left = |scenario: &Scenario| {
        let rows = BY_PERSON.page(&scenario.rows, &person, None, Order::Up, 10_000);
        rows.expect("memory").len()
    };
    assert_eq!(left(&scenario), SWEPT + 1);
    assert_eq!(counts(&scenario, video), (1, 0));
    scenario.send(ada, &dislike(video)).expect("a person");
    assert_eq!(left(&scenario), 1);
    scenario.send(ada, &like(video)).expect("a person");
    assert_eq!(left(&scenario), 0);
    assert_eq!(ERASED.page(&scenario.rows, &(), None, Order::Up, 10).expect("memory"), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn the_reactions_to_a_deleted_video_are_removed_in_steps() {
    let (mut scenario, ada, channel, video, bob) = platform();
    let kept = published(&mut scenario, ada, channel);
    for n in 0..SWEPT + 2 {
        let person = scenario.person(&format!("p{n}"), Role::Viewer);
        scenario.send(person, &like(video)).expect("a person");
    }
    scenario.send(bob, &dislike(video)).expect("a person");
    scenario.send(ada, &Delete { video }).expect("the owner");
    assert_eq!(reacted(&scenario, bob), []);
    let (likes, dislikes) = counts(&scenario, video);
    assert_eq!(likes + dislikes, 3);
    scenario.send(bob, &like(kept)).expect("a person");
    assert_eq!(counts(&scenario, video), (0, 0));
    assert_eq!(DELETED.page(&scenario.rows, &(), None, Order::Up, 10).expect("memory"), []);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

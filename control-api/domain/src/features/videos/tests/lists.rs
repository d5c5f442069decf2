//! The lists of videos, and the actors that see them.

use super::*;
use crate::page::Page;

type Listed = Page<queries::Entry, queries::Place>;

fn titles(page: &Listed) -> Vec<&str> {
    page.items.iter().map(|entry| entry.video.details.title.as_str()).collect()
}

fn tagged(channel: ChannelId, title: &str, texts: &[&str]) -> Announce {
    let details = Details { tags: tags(texts), ..details(title, Visibility::Public) };
    Announce { details, ..announce(channel, title) }
}

fn newest(scenario: &Scenario, actor: &Actor) -> Vec<String> {
    let page = queries::newest(&scenario.rows, actor, None, 100).expect("memory");
    titles(&page).into_iter().map(str::to_owned).collect()
}

#[test]
fn each_visibility_has_its_viewers_and_its_place_in_lists() {
    let (mut scenario, ada, channel, bob) = platform();
    let eve = scenario.person("eve", Role::Moderator);
    let nobody = Actor::Anonymous;
    use Access::{Closed, Open, Password, Token};
    for (visibility, anonymous, signed_in, is_listed) in [
        (Visibility::Public, Open, Open, (true, true)),
        (Visibility::Unlisted, Open, Open, (false, false)),
        (Visibility::Private, Token, Token, (false, false)),
        (Visibility::Members, Token, Token, (false, false)),
        (Visibility::Internal, Closed, Open, (false, true)),
        (Visibility::Password, Password, Password, (false, false)),
    ] {
        let password = (visibility == Visibility::Password).then(hash);
        let details = details("Notes", visibility);
        let video = published(&mut scenario, ada, &Announce { channel, details, password });
        let entry = queries::video(&scenario.rows, video).expect("it exists");
        assert_eq!(entry.access(&nobody), anonymous, "{visibility:?}");
        assert_eq!(entry.access(&bob), signed_in, "{visibility:?}");
        assert_eq!((entry.access(&ada), entry.access(&eve)), (Open, Open));
        let is_found = |actor| queries::visible(&scenario.rows, actor, video).is_ok();
        assert_eq!(is_found(&nobody), matches!(anonymous, Open | Password), "{visibility:?}");
        assert_eq!(is_found(&bob), matches!(signed_in, Open | Password), "{visibility:?}");
        let has = |actor| newest(&scenario, actor).len() == 1;
        assert_eq!((has(&nobody), has(&bob)), is_listed, "{visibility:?}");
        scenario.send(ada, &Delete { video }).expect("the owner");
    }
}

#[test]
fn nobody_may_know_more_of_a_video_than_of_its_channel() {
    let (mut scenario, ada, _, bob) = platform();
    let unlisted = scenario.channel(ada, "quiet", OfChannel::Unlisted);
    let private = scenario.channel(ada, "secret", OfChannel::Private);
    let in_unlisted = published(&mut scenario, ada, &announce(unlisted, "In unlisted"));
    let in_private = published(&mut scenario, ada, &announce(private, "In private"));
    assert_eq!(newest(&scenario, &bob), [] as [&str; 0]);
    assert_eq!(newest(&scenario, &ada), ["In private", "In unlisted"]);
    assert!(queries::visible(&scenario.rows, &bob, in_unlisted).is_ok());
    assert_eq!(rule(queries::visible(&scenario.rows, &bob, in_private)), "not_found");
    let entry = queries::video(&scenario.rows, in_private).expect("it exists");
    assert_eq!(entry.access(&bob), Access::Token);
    let of = |actor, channel| queries::of_channel(&scenario.rows, actor, channel, None, 10);
    assert_eq!(titles(&of(&bob, unlisted).expect("he has its address")), ["In unlisted"]);
    assert_eq!(rule(of(&bob, private)), "not_found");
    assert_eq!(titles(&of(&ada, private).expect("hers")), ["In private"]);
}

#[test]
fn lists_are_read_page_by_page_from_the_newest_publication_on() {
    let (mut scenario, ada, channel, bob) = platform();
    let other = scenario.channel(bob, "other", OfChannel::Public);
    let late = ready(&mut scenario, ada, &announce(channel, "Late"));
    for n in 0..9 {
        let (owner, channel) = if n % 3 == 0 { (bob, other) } else { (ada, channel) };
        let mut announce = announce(channel, &format!("V-{n}"));
        if n % 4 == 0 {
            announce.details.visibility = Visibility::Internal;
        }
        published(&mut scenario, owner, &announce);
    }
    scenario.send(ada, &publish(late)).expect("the owner");
    let read = |limit, page: &dyn Fn(Option<queries::Place>, usize) -> Listed| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = page(after, limit);
            assert!(page.items.len() <= limit);
            all.extend(titles(&page).into_iter().map(str::to_owned));
            after = page.next;
            if after.is_none() {
                return all.join(" ");
            }
        }
    };
    let rows = &scenario.rows;
    for limit in [1, 2, 3, 100] {
        let anonymous =
            |after, limit| queries::newest(rows, &Actor::Anonymous, after, limit).expect("memory");
        assert_eq!(read(limit, &anonymous), "Late V-7 V-6 V-5 V-3 V-2 V-1");
        let of_channel = |after, limit| {
            queries::of_channel(rows, &bob, channel, after, limit).expect("it is public")
        };
        assert_eq!(read(limit, &of_channel), "Late V-8 V-7 V-5 V-4 V-2 V-1");
    }
    let all = |actor| {
        let page = queries::all_of_channel(rows, actor, channel, None, 100).expect("memory");
        page.items
            .into_iter()
            .map(|entry| entry.video.details.title.into())
            .collect::<Vec<String>>()
    };
    assert_eq!(all(&ada).join(" "), "V-8 V-7 V-5 V-4 V-2 V-1 Late", "by announcement");
    assert_eq!(all(&Actor::Anonymous).join(" "), "V-7 V-5 V-2 V-1 Late");
}

#[test]
fn drafts_are_listed_for_their_owner_and_moderators_alone() {
    let (mut scenario, ada, channel, bob) = platform();
    let eve = scenario.person("eve", Role::Moderator);
    scenario.send(ada, &announce(channel, "Draft")).expect("the owner");
    let count = |actor| {
        let page = queries::all_of_channel(&scenario.rows, actor, channel, None, 100);
        page.expect("it is public").items.len()
    };
    assert_eq!([count(&ada), count(&eve), count(&bob), count(&Actor::Anonymous)], [1, 1, 0, 0]);
    assert_eq!(newest(&scenario, &ada), [] as [&str; 0], "it is not published");
}

#[test]
fn a_list_of_a_tag_has_the_videos_of_all_its_spellings() {
    let (mut scenario, ada, channel, _) = platform();
    published(&mut scenario, ada, &tagged(channel, "First", &["Films"]));
    published(&mut scenario, ada, &tagged(channel, "Both", &["cinema", "films"]));
    published(&mut scenario, ada, &tagged(channel, "Third", &["Cinema"]));
    let by_tag = |scenario: &Scenario, text: &str, after, limit| {
        queries::by_tag(&scenario.rows, &Actor::Anonymous, &tag(text), after, limit)
            .expect("memory")
    };
    assert_eq!(titles(&by_tag(&scenario, "FILMS", None, 10)), ["Both", "First"]);
    let merge = Merge { tag: tag("films"), into: tag("cinema") };
    scenario.send(Actor::System, &merge).expect("the operator");
    for text in ["films", "cinema"] {
        let first = by_tag(&scenario, text, None, 2);
        assert_eq!(titles(&first), ["Third", "Both"]);
        assert_eq!(titles(&by_tag(&scenario, text, first.next, 2)), ["First"]);
    }
    let video = published(&mut scenario, ada, &tagged(channel, "New", &["FILMS", "cinema"]));
    let row = queries::video(&scenario.rows, video).expect("it exists").video;
    assert_eq!(row.details.tags, tags(&["cinema"]), "new videos have the meaning");
    let edits = Edits { tags: Some(tags(&["Films", "news"])), ..Edits::default() };
    let edit = Edit { video, edits, password: None, expected: None };
    scenario.send(ada, &edit).expect("the owner");
    let row = queries::video(&scenario.rows, video).expect("it exists").video;
    assert_eq!(row.details.tags, tags(&["cinema", "news"]));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

fn completions(scenario: &Scenario, beginning: &str) -> String {
    let tags = queries::complete_tag(&scenario.rows, beginning, 3).expect("memory");
    let tags = tags.into_iter().map(|row| format!("{} {}", row.tag, row.videos));
    tags.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_tag_is_completed_by_the_most_frequent_ones_of_public_videos() {
    let (mut scenario, ada, channel, _) = platform();
    for (n, texts) in
        [&["Music", "Mud"][..], &["music", "mule"], &["music", "mule", "art"], &["Mu", "muse"]]
            .into_iter()
            .enumerate()
    {
        published(&mut scenario, ada, &tagged(channel, &format!("V-{n}"), texts));
    }
    let mut hidden = tagged(channel, "Hidden", &["mute", "art"]);
    hidden.details.visibility = Visibility::Internal;
    let hidden = published(&mut scenario, ada, &hidden);
    assert_eq!(completions(&scenario, "mu"), "Music 3, mule 2, Mu 1");
    assert_eq!(completions(&scenario, " MUS"), "Music 3, muse 1");
    assert_eq!(completions(&scenario, ""), "Music 3, mule 2, art 1");
    assert_eq!(completions(&scenario, "mut"), "");
    assert_eq!(completions(&scenario, "x"), "");

    let edits = Edits { visibility: Some(Visibility::Public), ..Edits::default() };
    let edit = Edit { video: hidden, edits, password: None, expected: None };
    scenario.send(ada, &edit).expect("the owner");
    assert_eq!(completions(&scenario, "a"), "art 2");
    assert_eq!(completions(&scenario, "mut"), "mute 1");
    scenario.send(ada, &Delete { video: hidden }).expect("the owner");
    assert_eq!(
        (completions(&scenario, "mut"), completions(&scenario, "a")),
        ("".into(), "art 1".into())
    );
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_merged_tag_is_completed_by_its_meaning_with_the_videos_of_all() {
    let (mut scenario, ada, channel, _) = platform();
    for (n, text) in ["films", "films", "cinema", "fish", "fish", "fish"].iter().enumerate() {
        published(&mut scenario, ada, &tagged(channel, &format!("V-{n}"), &[text]));
    }
    assert_eq!(completions(&scenario, "fi"), "fish 3, films 2");
    for text in ["films", "filums"] {
        let merge = Merge { tag: tag(text), into: tag("cinema") };
        scenario.send(Actor::System, &merge).expect("the operator");
    }
    assert_eq!(completions(&scenario, "fi"), "cinema 3, fish 3");
    assert_eq!(completions(&scenario, "cin"), "cinema 3");
    assert_eq!(completions(&scenario, "filu"), "cinema 3", "no video has it");
}

use super::{commands::*, events::Event, queries, tables::MAX_OF_A_TAG};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    id::AccountId,
    scenario::Scenario,
    text::Tag,
};

const ADMINISTRATOR: Actor =
    Actor::Person { id: AccountId::new(uuid::Uuid::nil()), role: Role::Administrator };

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn merge(tag: &str, into: &str) -> Merge {
    Merge { tag: tag.parse().expect("a tag"), into: into.parse().expect("a tag") }
}

fn meaning(scenario: &Scenario, text: &str) -> String {
    queries::meaning(&scenario.rows, &tag(text)).expect("memory").into()
}

#[test]
fn a_merged_tag_means_the_other_one_in_any_case() {
    let mut scenario = Scenario::default();
    scenario.send(ADMINISTRATOR, &merge("Films", "Cinema")).expect("an administrator");
    assert_eq!(meaning(&scenario, "FILMS"), "Cinema");
    assert_eq!(meaning(&scenario, "cinema"), "cinema", "it is written as it was");
    let spellings = queries::spellings(&scenario.rows, &tag("films")).expect("memory");
    assert_eq!(spellings, ["cinema", "films"]);
    let moderator = Actor::Person { id: AccountId::new(uuid::Uuid::nil()), role: Role::Moderator };
    let refused = scenario.send(moderator, &merge("Movies", "Cinema"));
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let refused = scenario.send(moderator, &Separate { tag: tag("Films") });
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
}

#[test]
fn tags_that_were_merged_into_a_merged_tag_follow_it() {
    let mut scenario = Scenario::default();
    scenario.send(ADMINISTRATOR, &merge("movies", "films")).expect("an administrator");
    scenario.send(ADMINISTRATOR, &merge("films", "cinema")).expect("an administrator");
    // The target was merged, so that its meaning is the target.
    scenario.send(ADMINISTRATOR, &merge("flicks", "movies")).expect("an administrator");
    for spelling in ["movies", "films", "flicks"] {
        assert_eq!(meaning(&scenario, spelling), "cinema");
    }
    let refused = scenario.send(ADMINISTRATOR, &merge("cinema", "films"));
    assert!(matches!(refused, Err(Refusal::Conflict { rule: "same_tag", .. })), "{refused:?}");
    scenario.take_events::<Event>();
    scenario.send(ADMINISTRATOR, &merge("FILMS", "cinema")).expect("an administrator");
    assert_eq!(scenario.take_events::<Event>(), [], "nothing changed");
}

#[test]
fn a_separated_tag_means_itself_and_a_merged_one_can_be_merged_elsewhere() {
    let mut scenario = Scenario::default();
    scenario.send(ADMINISTRATOR, &merge("films", "cinema")).expect("an administrator");
    scenario.send(ADMINISTRATOR, &merge("films", "photos")).expect("an administrator");
    let of = |scenario: &Scenario, text: &str| {
        queries::spellings(&scenario.rows, &tag(text)).expect("memory")
    };
    assert_eq!(of(&scenario, "cinema"), ["cinema"]);
    assert_eq!(of(&scenario, "photos"), ["photos", "films"]);
    scenario.send(ADMINISTRATOR, &Separate { tag: tag("Films") }).expect("an administrator");
    assert_eq!(of(&scenario, "films"), ["films"]);
    let events = scenario.log.len();
    scenario.send(ADMINISTRATOR, &Separate { tag: tag("films") }).expect("again is no error");
    assert_eq!(scenario.log.len(), events);
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_limited_number_of_tags_mean_the_same() {
    let mut scenario = Scenario::default();
    for n in 0..MAX_OF_A_TAG {
        scenario.send(ADMINISTRATOR, &merge(&format!("t{n}"), "target")).expect("below the limit");
    }
    let refused = scenario.send(ADMINISTRATOR, &merge("more", "target"));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 20, .. })), "{refused:?}");
    let refused = scenario.send(ADMINISTRATOR, &merge("target", "other"));
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "it brings its own: {refused:?}");
}

use std::collections::BTreeMap;

use super::{
    commands::*,
    events::{Event, Translations},
    queries,
    tables::MAX,
};
use crate::{
    actor::{Actor, Role},
    command::Refusal,
    id::{AccountId, CategoryId},
    scenario::Scenario,
};

const ADMINISTRATOR: Actor = Actor::Person {
    id: AccountId::new(uuid::Uuid::from_u128(1 << 100)),
    role: Role::Administrator,
};

fn make(name: &str) -> Make {
    Make { name: name.parse().expect("a name"), translations: Translations::default() }
}

fn translations(names: &[(&str, &str)]) -> Translations {
    let names = names.iter().map(|(tag, name)| {
        (tag.parse().expect("a language"), name.parse().expect("a category name"))
    });
    names.collect::<BTreeMap<_, _>>().try_into().expect("few")
}

fn names(scenario: &Scenario) -> Vec<String> {
    let all = queries::all(&scenario.rows).expect("memory");
    all.into_iter().map(|(_, category)| category.name.into()).collect()
}

/// A platform with three categories, in this order.
fn with_three() -> (Scenario, [CategoryId; 3]) {
    let mut scenario = Scenario::default();
    let ids = ["Music", "Films", "Art"]
        .map(|name| scenario.send(ADMINISTRATOR, &make(name)).expect("an administrator"));
    (scenario, ids)
}

#[test]
fn a_new_platform_gets_eighteen_categories_once() {
    let mut scenario = Scenario::default();
    assert!(queries::is_new(&scenario.rows).expect("memory"));
    let refused = scenario.send(ADMINISTRATOR, &MakeStartSet);
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    scenario.send(Actor::System, &MakeStartSet).expect("the operator");
    let all = queries::all(&scenario.rows).expect("memory");
    assert_eq!(all.len(), 18);
    assert!(all.iter().all(|(_, category)| category.translations.iter().count() == 3));
    assert_eq!((all[0].1.name.as_str(), all[17].1.name.as_str()), ("Music", "Food"));
    assert!(!queries::is_new(&scenario.rows).expect("memory"));

    // Categories that were removed do not return at the next start.
    for (category, _) in all {
        scenario.send(ADMINISTRATOR, &Remove { category }).expect("an administrator");
    }
    scenario.send(Actor::System, &MakeStartSet).expect("the operator");
    assert_eq!(names(&scenario), [] as [&str; 0]);
    assert!(!queries::is_new(&scenario.rows).expect("memory"));
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn only_administrators_change_categories() {
    let (mut scenario, [music, ..]) = with_three();
    let moderator = Actor::Person { id: AccountId::new(uuid::Uuid::nil()), role: Role::Moderator };
    let rename = Rename { category: music, name: None, translations: None, expected: None };
    let refusals = [
        scenario.send(moderator, &make("Food")).map(drop),
        scenario.send(moderator, &rename),
        scenario.send(moderator, &Move { category: music, position: 1 }),
        scenario.send(moderator, &Remove { category: music }),
    ];
    for refused in refusals {
        assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    }
    assert_eq!(names(&scenario), ["Music", "Films", "Art"]);
}

#[test]
fn a_category_moves_to_a_position_and_the_others_keep_their_order() {
    let (mut scenario, [music, films, art]) = with_three();
    let mut moved = |category, position| {
        let command = Move { category, position };
        scenario.send(ADMINISTRATOR, &command).expect("an administrator");
        names(&scenario).join(" ")
    };
    assert_eq!(moved(art, 0), "Art Music Films");
    assert_eq!(moved(art, 99), "Music Films Art");
    assert_eq!(moved(music, 1), "Films Music Art");
    assert_eq!(moved(films, 0), "Films Music Art");
    let events = scenario.take_events::<Event>();
    assert_eq!(events.len(), 3 + 3, "the last move changed nothing: {events:?}");
}

#[test]
fn names_are_unique_and_a_name_that_was_given_up_is_free() {
    let (mut scenario, [music, films, _]) = with_three();
    let rename = |category, name: &str| Rename {
        category,
        name: Some(name.parse().expect("a name")),
        translations: None,
        expected: None,
    };
    for refused in [
        scenario.send(ADMINISTRATOR, &make("MUSIC")).map(drop),
        scenario.send(ADMINISTRATOR, &rename(films, "music")),
    ] {
        assert!(matches!(refused, Err(Refusal::Conflict { rule: "name_taken", .. })));
    }
    scenario.send(ADMINISTRATOR, &rename(music, "MUSIC")).expect("its own name in another case");
    scenario.send(ADMINISTRATOR, &rename(music, "Sound")).expect("a free name");
    scenario.send(ADMINISTRATOR, &rename(films, "Music")).expect("the name was given up");
    scenario.send(ADMINISTRATOR, &Remove { category: films }).expect("an administrator");
    scenario.send(ADMINISTRATOR, &make("Music")).expect("the name is free");
    assert_eq!(names(&scenario), ["Sound", "Art", "Music"]);
    let refused = scenario.send(ADMINISTRATOR, &Remove { category: films });
    assert!(matches!(refused, Err(Refusal::NotFound { thing: "category" })), "{refused:?}");
    assert_eq!(scenario.rebuilt(), scenario.rows);
}

#[test]
fn a_change_that_depends_on_an_older_version_is_refused() {
    let (mut scenario, [music, ..]) = with_three();
    let rename = |name: &str, expected| Rename {
        category: music,
        name: Some(name.parse().expect("a name")),
        translations: None,
        expected,
    };
    scenario.send(ADMINISTRATOR, &rename("Sound", Some(1))).expect("the current version");
    let refused = scenario.send(ADMINISTRATOR, &rename("Noise", Some(1)));
    assert!(matches!(refused, Err(Refusal::Changed { thing: "category" })), "{refused:?}");
    scenario.send(ADMINISTRATOR, &rename("Noise", Some(2))).expect("the current version");
}

#[test]
fn a_reader_gets_the_name_in_the_nearest_language() {
    let mut scenario = Scenario::default();
    let translations = translations(&[("de", "Musik"), ("zh-Hant", "音樂")]);
    let make = Make { translations, ..make("Music") };
    let id = scenario.send(ADMINISTRATOR, &make).expect("an administrator");
    let category = queries::category(&scenario.rows, id).expect("it exists");
    for (language, name) in [
        ("de", "Musik"),
        ("de-AT-x-private", "Musik"),
        ("zh-Hant-TW", "音樂"),
        ("zh", "Music"),
        ("fr", "Music"),
    ] {
        let language = language.parse().expect("a language");
        assert_eq!(queries::name(&category, &language), name, "{language}");
    }
}

#[test]
fn there_is_a_greatest_number_of_categories() {
    let mut scenario = Scenario::default();
    for n in 0..MAX {
        scenario.send(ADMINISTRATOR, &make(&format!("c{n}"))).expect("below the limit");
    }
    let refused = scenario.send(ADMINISTRATOR, &make("more"));
    assert!(matches!(refused, Err(Refusal::Limit { limit: 100, .. })), "{refused:?}");
}

use std::{collections::BTreeSet, fmt::Write as _};

use super::*;
use crate::{feature::ANY_EVENT, scope::Scope};

mod rebuilt;

#[test]
fn the_table_of_permissions_is_this() {
    let mut table = String::new();
    for permission in permissions() {
        let line = format!("{:<28} {}", permission.command, permission.who);
        writeln!(table, "{line}").expect("text can be written");
    }
    assert_eq!(table, include_str!("permissions.txt"), "the table is now:\n{table}");
}

/// An API key needs this scope for each command; without one, no key may send it.
#[test]
fn the_table_of_scopes_is_this() {
    let mut table = String::new();
    for permission in permissions() {
        let scope = Scope::of(permission.command).map_or("none", Scope::name);
        writeln!(table, "{:<28} {scope}", permission.command).expect("text can be written");
    }
    assert_eq!(table, include_str!("scopes.txt"), "the table is now:\n{table}");
}

#[test]
fn each_event_type_and_each_table_belongs_to_one_feature() {
    let mut names = BTreeSet::new();
    for feature in ALL {
        for event in feature.events {
            assert!(names.insert(event.name), "{} is declared twice", event.name);
        }
        for table in feature.tables {
            let prefix = format!("{}.", feature.name);
            assert!(table.starts_with(&prefix), "{table} of feature {}", feature.name);
            assert!(names.insert(table), "{table} is declared twice");
        }
    }
}

#[test]
fn a_foreign_event_is_an_event_of_another_feature() {
    for feature in ALL {
        for kind in feature.foreign_events.iter().filter(|kind| **kind != ANY_EVENT) {
            let owners = ALL.iter().filter(|other| other.events.iter().any(|e| e.name == *kind));
            let owners = owners.map(|other| other.name).collect::<Vec<_>>();
            assert_eq!(owners.len(), 1, "{kind}");
            assert_ne!(owners[0], feature.name, "{kind}");
        }
    }
}

#[test]
fn event_types_have_a_thing_a_past_tense_and_a_version() {
    for event in ALL.iter().flat_map(|feature| feature.events) {
        let parts = event.name.split('.').collect::<Vec<_>>();
        let [streamforge, thing, verb, version] = parts[..] else { panic!("{}", event.name) };
        assert_eq!(streamforge, "streamforge");
        assert!(thing.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", event.name);
        assert!(verb.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", event.name);
        assert!(version.strip_prefix('v').is_some_and(|v| v.parse::<u32>().is_ok()));
    }
}

/// The schema of an event never changes. A new version of the event is another type.
#[test]
fn the_schemas_of_all_events_are_those_that_were_released() {
    for event in ALL.iter().flat_map(|feature| feature.events) {
        let schema =
            serde_json::to_string_pretty(&(event.schema)()).expect("a schema is JSON") + "\n";
        let root = env!("CARGO_MANIFEST_DIR");
        let file = std::path::Path::new(root).join("schemas").join(format!("{}.json", event.name));
        if std::env::var_os("STREAMFORGE_WRITE_SCHEMAS").is_some() && !file.exists() {
            std::fs::write(&file, &schema).expect("the folder can be written");
        }
        let released = std::fs::read_to_string(&file).unwrap_or_else(|err| {
            panic!(
                "{}: {err}; STREAMFORGE_WRITE_SCHEMAS=1 writes schemas that are missing",
                file.display()
            )
        });
        assert_eq!(schema, released, "{} has changed: make another version", event.name);
    }
}

//! The categories with which a platform begins. Administrators change them afterwards.

use std::collections::BTreeMap;

use super::events::Translations;
use crate::{language::Language, text::CategoryName};

/// The languages of the columns behind the English name in [`SET`].
const LANGUAGES: [&str; 3] = ["de", "es", "fr"];

/// English, German, Spanish and French.
const SET: [[&str; 4]; 18] = [
    ["Music", "Musik", "Música", "Musique"],
    ["Films", "Filme", "Películas", "Films"],
    ["Vehicles", "Fahrzeuge", "Vehículos", "Véhicules"],
    ["Art", "Kunst", "Arte", "Art"],
    ["Sports", "Sport", "Deportes", "Sports"],
    ["Travel", "Reisen", "Viajes", "Voyages"],
    ["Gaming", "Spiele", "Videojuegos", "Jeux vidéo"],
    ["People", "Menschen", "Gente", "Personnes"],
    ["Comedy", "Komik", "Comedia", "Humour"],
    ["Entertainment", "Unterhaltung", "Entretenimiento", "Divertissement"],
    [
        "News and politics",
        "Nachrichten und Politik",
        "Noticias y política",
        "Actualité et politique",
    ],
    ["How-to", "Anleitungen", "Tutoriales", "Tutoriels"],
    ["Education", "Bildung", "Educación", "Éducation"],
    ["Activism", "Aktivismus", "Activismo", "Militantisme"],
    [
        "Science and technology",
        "Wissenschaft und Technik",
        "Ciencia y tecnología",
        "Science et technologie",
    ],
    ["Animals", "Tiere", "Animales", "Animaux"],
    ["Kids", "Kinder", "Niños", "Enfants"],
    ["Food", "Essen", "Comida", "Cuisine"],
];

/// The names and translations of all categories of the set, in order.
pub(super) fn set() -> impl Iterator<Item = (CategoryName, Translations)> {
    SET.iter().map(|[name, translations @ ..]| {
        let names =
            LANGUAGES.iter().zip(translations).map(|(tag, name)| (language(tag), text(name)));
        let names = names.collect::<BTreeMap<_, _>>();
        let translations = Translations::try_from(names).expect("there are three translations");
        (text(name), translations)
    })
}

fn text(name: &str) -> CategoryName {
    name.parse().expect("the names above have at most 50 characters")
}

fn language(tag: &str) -> Language {
    tag.parse().expect("the languages above have two letters")
}

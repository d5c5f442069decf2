//! A feature costs one folder, its declaration, and its line in the list: the rules that keep it
//! so, read from the sources as text.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use control_domain::features;

/// A source file without comments and tests.
struct Source {
    /// The path below `src`, as module names: `features`, `channels`, `queries`.
    module: Vec<String>,
    text: String,
}

impl Source {
    /// The feature to which the file belongs.
    fn feature(&self) -> Option<&str> {
        let [features, feature, ..] = self.module.as_slice() else { return None };
        (features == "features").then_some(feature)
    }

    fn name(&self) -> String {
        self.module.join("/")
    }

    /// All paths of the crate that the file names, each as its parts behind `crate`.
    fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        // Modules that are imported as such, under their last name: `use super::channels`.
        let mut modules = Vec::new();
        let mut rest = String::new();
        let mut text = self.text.as_str();
        while let Some(start) = find_word(text, "use") {
            let Some(length) = text[start..].find(';') else { break };
            rest += &text[..start];
            for path in flattened(&text[start + 3..start + length]) {
                if let Some(path) = self.resolved(&path) {
                    modules.push(path.clone());
                    paths.insert(path);
                }
            }
            text = &text[start + length + 1..];
        }
        rest += text;
        for path in qualified(&rest) {
            let imported = modules.iter().find(|module| module.last() == path.first());
            match imported {
                Some(module) => paths.insert([module.as_slice(), &path[1..]].concat()),
                None => self.resolved(&path).is_some_and(|path| paths.insert(path)),
            };
        }
        paths
    }

    /// The parts of a path behind `crate`; `None` if it is of another crate.
    fn resolved(&self, path: &[String]) -> Option<Vec<String>> {
        let mut at = self.module.clone();
        let ups = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" => return Some([at, path[1..].to_vec()].concat()),
            "super" => at.truncate(at.len().saturating_sub(ups)),
            _ => return None,
        }
        Some([at, path[ups..].to_vec()].concat())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The position of the first occurrence of a whole word.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let is_alone = |start: &usize| {
        let after = text[start + word.len()..].chars().next();
        let before = text[..*start].chars().next_back();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    text.match_indices(word).map(|(start, _)| start).find(is_alone)
}

/// The paths of a `use` without its braces.
fn flattened(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let parts = path.split("::").map(|part| part.trim().to_owned());
        return vec![parts.filter(|part| !part.is_empty() && part != "self").collect()];
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&group[start..]);
    let heads = head.split("::").map(|part| part.trim().to_owned());
    let heads = heads.filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let items = items.into_iter().filter(|item| !item.trim().is_empty());
    items.flat_map(flattened).map(|path| [heads.as_slice(), &path].concat()).collect()
}

/// The paths with `::` in code.
fn qualified(text: &str) -> Vec<Vec<String>> {
    let words = text.split(|c: char| !is_word(c) && c != ':');
    let paths = words.filter(|word| word.contains("::") && !word.starts_with("::"));
    paths
        .map(|path| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect())
        .collect()
}

/// All files below `src` but tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_owned();
            if name == "tests" || name == "scenario" {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(source(&root, path)),
            }
        }
    }
    assert!(found.len() > 30, "the sources are elsewhere");
    found
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file");
    let text = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let text = text.collect::<Vec<_>>().join("\n");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    let module = path.strip_prefix(root).expect("below src").with_extension("");
    let module = module.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    Source { module, text }
}

#[test]
fn a_feature_uses_the_ground_and_the_queries_and_events_of_other_features() {
    let mut uses = 0;
    for source in sources() {
        let Some(own) = source.feature() else { continue };
        for path in source.paths() {
            let [ground, path @ ..] = path.as_slice() else { continue };
            assert!(ground != "scenario", "{} uses a module for tests", source.name());
            let [other, path @ ..] = path else { continue };
            if ground != "features" || other == own {
                continue;
            }
            // A module that is imported as such is judged where it is used.
            let Some(part) = path.first() else { continue };
            let is_open = matches!(part.as_str(), "queries" | "events");
            assert!(is_open, "{} uses features::{other}::{part}", source.name());
            uses += 1;
        }
    }
    assert!(uses > 20, "the scan has found {uses} uses alone");
}

#[test]
fn the_ground_knows_no_feature() {
    for source in sources().iter().filter(|source| source.module[0] != "features") {
        let path =
            source.paths().into_iter().find(|path| path.first().is_some_and(|p| p == "features"));
        assert_eq!(path, None, "{}", source.name());
    }
}

#[test]
fn a_feature_is_a_module_and_a_line_in_the_list() {
    let list = sources().into_iter().find(|source| source.module == ["features"]);
    let list = list.expect("the list of features").text;
    for feature in features::ALL {
        let name = feature.name;
        let mut lines = Vec::new();
        for line in list.lines().filter(|line| find_word(line, name).is_some()) {
            lines.push(line.trim());
        }
        assert_eq!(lines, [format!("pub mod {name};"), format!("&{name}::FEATURE,")]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/features").join(name);
        assert!(folder.join("tests.rs").exists(), "{name} has no tests");
    }
    let modules = list.matches("pub mod ").count();
    assert_eq!(modules, features::ALL.len(), "a module is not in the list");
}

#[test]
fn each_event_has_a_schema_and_each_schema_an_event() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let files = fs::read_dir(schemas).expect("the schemas");
    let files = files.map(|file| file.expect("an entry").file_name().into_string().expect("text"));
    let events = features::ALL.iter().flat_map(|feature| feature.events);
    let events = events.map(|event| format!("{}.json", event.name));
    assert_eq!(files.collect::<BTreeSet<_>>(), events.collect::<BTreeSet<_>>());
}

#[test]
fn each_command_has_a_row_in_the_table_of_permissions() {
    let rows = features::permissions().map(|row| row.command).collect::<Vec<_>>();
    let unique = rows.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(rows.len(), unique.len(), "a row is there twice: {rows:?}");
    let mut commands = 0;
    for source in sources().iter().filter(|source| source.feature().is_some()) {
        for (_, line) in lines_after(&source.text, "const NAME: &'static str =") {
            let command = line.split('"').nth(1).expect("a name");
            assert!(unique.contains(command), "{command} of {} has no row", source.name());
            commands += 1;
        }
        let implemented = source.text.matches("impl Command for").count();
        let named = source.text.matches("const NAME: &'static str =").count();
        assert_eq!(implemented, named, "{}", source.name());
    }
    assert!(commands > 20, "the scan has found {commands} commands alone");
}

#[test]
fn each_table_is_declared_by_the_feature_whose_name_begins_its_own() {
    let declared = features::ALL.iter().flat_map(|feature| {
        feature.tables.iter().map(|table| (feature.name.to_owned(), (*table).to_owned()))
    });
    let declared = declared.collect::<BTreeSet<_>>();
    let mut found = BTreeSet::new();
    for source in sources() {
        let Some(feature) = source.feature() else { continue };
        for (_, line) in lines_after(&source.text, "Table::new(") {
            let table = line.split('"').nth(1).expect("a name");
            assert!(table.starts_with(&format!("{feature}.")), "{table} of {}", source.name());
            assert!(found.insert((feature.to_owned(), table.to_owned())), "{table} is there twice");
        }
    }
    assert_eq!(found, declared);
}

/// The text behind each occurrence of a pattern.
fn lines_after<'a>(text: &'a str, pattern: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    text.match_indices(pattern).map(|(at, _)| (at, &text[at + pattern.len()..]))
}

//! The layers of a configuration: built-in values, overridden by a file, overridden by the
//! environment.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, Error, overlay::lay_over, shown};

/// Prefix of the variables that are settings.
const PREFIX: &str = "STREAMFORGE_";
/// The file that is read if none is named, if it exists.
const DEFAULT_FILE: &str = "conf/streamforge.toml";

/// The default file, if it exists.
pub(crate) fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists())
}

/// A configuration together with its explicit settings, so that two can be compared key by key.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The checked settings, defaults included.
    pub(crate) config: Config,
    /// The values from the file and the environment.
    said: Table,
}

impl Loaded {
    /// The keys whose values differ in `newer`, for example `live.part_ms`.
    pub(crate) fn changes(&self, newer: &Self) -> Vec<String> {
        let keys: BTreeSet<_> = keys(&self.said).chain(keys(&newer.said)).collect();
        let changed = |key: &Key| {
            // An explicit setting may differ without a change of the value, if it equals the
            // default.
            look_up(&self.said, key) != look_up(&newer.said, key)
                && self
                    .with(newer, |other| other == key)
                    .is_none_or(|with| with.config != self.config)
        };
        keys.iter().filter(|key| changed(key)).map(name).collect()
    }

    /// All keys with their values, built-in ones included, and with secrets masked.
    pub(crate) fn shown(&self) -> serde_json::Value {
        shown::shown(&self.said)
    }

    /// This configuration, with the keys of `newer` that `take` selects. `None` if the result is
    /// not valid.
    pub(crate) fn adopt(&self, newer: &Self, take: impl Fn(&str) -> bool) -> Option<Self> {
        self.with(newer, |key| take(&name(key)))
    }

    /// This configuration, with the keys of `newer` that `take` selects.
    fn with(&self, newer: &Self, take: impl Fn(&Key) -> bool) -> Option<Self> {
        let mut said = self.said.clone();
        let keys: BTreeSet<_> = keys(&self.said).chain(keys(&newer.said)).collect();
        for key in keys.iter().filter(|key| take(key)) {
            set(&mut said, key, look_up(&newer.said, key).cloned());
        }
        let config = Config::deserialize(said.clone()).ok()?;
        Some(Self { config, said })
    }
}

/// A section and a key, or a key outside of sections.
type Key = (Option<String>, String);

/// The key as in `changes`, for example `live.part_ms`.
fn name((section, key): &Key) -> String {
    match section {
        Some(section) => format!("{section}.{key}"),
        None => key.clone(),
    }
}

/// All keys of a table, a section's keys with their section.
fn keys(table: &Table) -> impl Iterator<Item = Key> {
    table.iter().flat_map(|(name, value)| match value {
        Value::Table(section) => {
            section.keys().map(|key| (Some(name.clone()), key.clone())).collect()
        }
        _ => vec![(None, name.clone())],
    })
}

/// The value of a key, if it is set explicitly.
fn look_up<'a>(table: &'a Table, (section, key): &Key) -> Option<&'a Value> {
    match section {
        Some(section) => table.get(section)?.get(key),
        None => table.get(key),
    }
}

/// Sets or removes the value of a key.
fn set(table: &mut Table, (section, key): &Key, value: Option<Value>) {
    let table = match section {
        Some(section) => {
            // Both tables were read as configurations before, so a section is a table.
            let section =
                table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            match section {
                Value::Table(section) => section,
                _ => return,
            }
        }
        None => table,
    };
    match value {
        Some(value) => drop(table.insert(key.clone(), value)),
        None => drop(table.remove(key)),
    }
}

/// Reads and checks a configuration: `variables` over `file` over the built-in values.
///
/// # Errors
/// The first fault.
pub(crate) fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Error> {
    let text = match file {
        Some(file) => fs::read_to_string(file)
            .map_err(|source| Error::Unreadable { file: file.into(), source })?,
        None => String::new(),
    };
    let name = file.unwrap_or(Path::new("built-in"));
    let loaded = parse(name, &text, &settings(variables)?)?;
    loaded.config.check()?;
    Ok(loaded)
}

/// Each setting of the environment as a table with one entry.
type Settings = Vec<(String, Table)>;

/// Parses the text of a file, and lays the settings of the environment over it. The constraints
/// between values are not checked.
pub(super) fn parse(file: &Path, text: &str, settings: &Settings) -> Result<Loaded, Error> {
    // The file alone is parsed first, because only then an error has its line.
    let config: Config = toml::from_str(text).map_err(|err| at_line(file, text, &err))?;
    let mut said: Table = toml::from_str(text).map_err(|err| at_line(file, text, &err))?;
    if settings.is_empty() {
        return Ok(Loaded { config, said });
    }
    for (_, setting) in settings {
        lay_over(&mut said, setting.clone());
    }
    // Each part was parsed before, so no single value can cause an error here.
    let config = Config::deserialize(said.clone())
        .map_err(|err| Error::Layers { what: one_line(err.message()) })?;
    Ok(Loaded { config, said })
}

/// The settings among `variables`, each checked alone, in the order of their names.
pub(super) fn settings(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, Error> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let Some(path) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let name = format!("{PREFIX}{path}");
        let wrong = |what: String| Error::Variable { name: name.clone(), what };
        let value = value.into_string().map_err(|_| wrong("its value is not UTF-8".into()))?;
        let path = path.to_ascii_lowercase();
        // As TOML if that is a valid value for this key, otherwise as text.
        let as_toml = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"));
        let as_text = Value::String(value);
        // The configuration is read with this value alone, so that a fault is this variable's.
        let mut tries = as_toml.into_iter().chain([as_text]).map(|value| {
            let table = at_path(&path, value);
            Config::deserialize(table.clone()).map(|_| table)
        });
        // The first attempt decides about the error, because a value that parses as TOML was
        // probably meant so.
        let table = match tries.next() {
            Some(Ok(table)) => table,
            Some(Err(err)) => match tries.next() {
                Some(Ok(table)) => table,
                _ => return Err(wrong(one_line(err.message()))),
            },
            None => continue,
        };
        settings.push((name, table));
    }
    // Two names may differ only in case. With this order the same one wins at each start.
    settings.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(settings)
}

/// `section_key` as a table; no section's name has an underscore, and only `data_dir` is outside of
/// sections.
fn at_path(path: &str, value: Value) -> Table {
    match path.split_once('_') {
        Some((section, key)) if path != "data_dir" => Table::from_iter([(
            section.to_owned(),
            Value::Table(Table::from_iter([(key.to_owned(), value)])),
        )]),
        _ => Table::from_iter([(path.to_owned(), value)]),
    }
}

/// The error with its line and the key in that line; values are omitted, because some are secret.
fn at_line(file: &Path, text: &str, err: &toml::de::Error) -> Error {
    // Counted in bytes, because the parser's position need not be at the start of a character.
    let before = err.span().map_or(0, |span| span.start);
    let line = text.bytes().take(before).filter(|&byte| byte == b'\n').count() + 1;
    let key =
        text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let key = key.map_or(String::new(), |key| format!("{key}: "));
    Error::Line { file: file.into(), line, key, what: one_line(err.message()) }
}

/// One line, without the unexpected value, which may be a secret.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = line.strip_prefix("invalid type: ").and_then(|rest| rest.split_once([' ', ',']));
    match (found, line.rfind(", expected ")) {
        (Some((kind, _)), Some(expected)) => format!("invalid type: {kind}{}", &line[expected..]),
        _ => line,
    }
}

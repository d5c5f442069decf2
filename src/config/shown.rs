//! The configuration in force as the operator reads it: all keys with their values, and no secret.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::overlay::lay_over;

/// The shipped file, which has each key with its built-in value.
const BUILT_IN: &str = include_str!("../../conf/streamforge.toml");
/// The text in place of a secret.
const MASK: &str = "***";
/// Last words of the names of secrets: `admin_token`, `admin_token_sha256`, `key`, `secret`.
const SECRETS: [&str; 6] = ["key", "passphrase", "password", "secret", "sha256", "token"];
/// Keys with such a name that are no secrets: a public key, and the path of a file.
const PUBLIC: [&str; 3] = ["public_key", "tls.key", "tls.cert"];

/// The keys that were set over the built-in values, with secrets masked.
pub(super) fn shown(said: &Table) -> Json {
    // The shipped file is parsed by a test, too.
    let mut all = toml::from_str::<Table>(BUILT_IN).unwrap_or_default();
    lay_over(&mut all, said.clone());
    of_table("", all)
}

fn of_table(path: &str, table: Table) -> Json {
    let entries = table.into_iter().map(|(key, value)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = value_of(&path, value);
        (key, value)
    });
    Json::Object(entries.collect())
}

fn value_of(path: &str, value: Value) -> Json {
    match value {
        Value::Table(table) => of_table(path, table),
        Value::Array(values) => values.into_iter().map(|value| value_of(path, value)).collect(),
        // An empty text is none, which is no secret.
        Value::String(text) if text.is_empty() => text.into(),
        _ if is_secret(path) => MASK.into(),
        // Its path is the prefix of a proxy, which everybody sees.
        Value::String(text) if path == "http.public_url" => text.into(),
        Value::String(text) => masked_address(&text).into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Boolean(yes) => yes.into(),
        Value::Datetime(time) => time.to_string().into(),
    }
}

/// Whether a key is a secret, by its name.
fn is_secret(path: &str) -> bool {
    // Credentials of a collector, under any name.
    if path.starts_with("traces.headers.") {
        return true;
    }
    let key = path.rsplit('.').next().unwrap_or(path);
    let is_public = PUBLIC.contains(&key) || PUBLIC.contains(&path);
    !is_public && SECRETS.contains(&key.rsplit('_').next().unwrap_or(key))
}

/// An address with its host alone: a password, a path or a query may be a secret, as in the address
/// of a back end. Other texts are unchanged.
fn masked_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    let rest = match rest {
        "" | "/" => rest,
        _ => "/***",
    };
    format!("{scheme}://{host}{rest}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::source;

    #[test]
    fn every_key_of_the_shipped_file_is_shown_with_its_value() {
        let shown = shown(&Table::new());
        let built_in = toml::from_str::<Table>(BUILT_IN).expect("the shipped file is valid");
        let built_in = serde_json::to_value(built_in).expect("JSON");
        // It has no secret, so that nothing is masked.
        assert_eq!(shown, built_in);
        assert_eq!(shown["live"]["part_ms"], 200);
    }

    #[test]
    fn values_that_were_set_replace_the_built_in_ones() {
        let said = toml::from_str("data_dir = \"/srv\"\n[live]\npart_ms = 100").expect("TOML");
        let shown = shown(&said);
        assert_eq!((&shown["data_dir"], &shown["live"]["part_ms"]), (&json!("/srv"), &json!(100)));
        assert_eq!(shown["live"]["window_s"], 60);
    }

    #[test]
    fn no_secret_of_any_section_is_shown() {
        let text = r#"
            [api]
            admin_token = "SECRET-of-the-administrator"
            mailed_token_limit = "7/5m"
            [tls]
            cert = "/etc/cert.pem"
            key = "/etc/key.pem"
            [publish]
            policy = "webhook"
            [[publish.keys]]
            channel = "studio"
            key = "SECRET-stream-key"
            [[publish.keys]]
            channel = "stage"
            key_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            [publish.jwt]
            secret = "SECRET-0123456789abcdef0123456789abcdef"
            public_key = "/etc/tokens.pem"
            [publish.webhook]
            url = "https://hooks.example:8443/SECRET?token=SECRET"
            [platform]
            enabled = true
            [bus]
            url = "tls://me:SECRET-password@a.example,tls://b.example:4300"
            token = "SECRET-token-of-the-bus"
            [traces.headers]
            x-team = "SECRET"
            [[playback.keys]]
            id = "2026-12"
            secret = "SECRET-0123456789abcdef0123456789abcdef"
        "#;
        // The text is a configuration, so that these are the names of its secrets.
        let path = std::path::Path::new("test");
        source::parse(path, text, &Vec::new()).expect("a configuration");
        let shown = shown(&toml::from_str(text).expect("TOML"));
        let written = shown.to_string();
        assert!(!written.contains("SECRET") && !written.contains("ba7816bf"), "{written}");
        assert_eq!(shown["api"]["admin_token"], "***");
        assert_eq!(shown["api"]["mailed_token_limit"], "7/5m");
        assert_eq!(shown["tls"]["key"], "/etc/key.pem");
        assert_eq!(shown["publish"]["keys"][0], json!({ "channel": "studio", "key": "***" }));
        assert_eq!(shown["publish"]["jwt"]["public_key"], "/etc/tokens.pem");
        let url = &shown["publish"]["webhook"]["url"];
        assert_eq!(url, "https://hooks.example:8443/***");
        assert_eq!(shown["bus"]["token"], "***");
        assert_eq!(
            masked_address("nats://me:SECRET@bus.example:4222"),
            "nats://***@bus.example:4222"
        );
        assert_eq!(masked_address("https://bus.example/"), "https://bus.example/");
        assert_eq!(shown["playback"]["keys"][0], json!({ "id": "2026-12", "secret": "***" }));
    }
}

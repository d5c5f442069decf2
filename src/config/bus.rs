//! `[bus]`: the platform's events in NATS JetStream.

use std::{path::PathBuf, str::FromStr};

use control_api::bus::{Address, StreamName, SubjectPrefix, Token};
use http::Uri;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Error, within::Within};

/// The bus. Without `url` there is none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bus {
    /// The servers; empty for none.
    #[serde(deserialize_with = "optional")]
    pub(crate) url: Option<Address>,
    /// A file of credentials; empty for none.
    pub(crate) credentials: PathBuf,
    /// A token; empty for none.
    #[serde(deserialize_with = "token")]
    pub(crate) token: Option<Token>,
    /// Certificate authorities in PEM; empty: those of the system.
    pub(crate) ca: PathBuf,
    /// The stream.
    #[serde(deserialize_with = "parsed")]
    pub(crate) stream: StreamName,
    /// The first words of all subjects.
    #[serde(deserialize_with = "parsed")]
    pub(crate) subject_prefix: SubjectPrefix,
    /// Servers that hold the stream.
    copies: Within<1, 5>,
    /// The address of the writer's API, for replicas; empty: unknown.
    #[serde(deserialize_with = "writer")]
    pub(crate) writer: Option<String>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            url: None,
            credentials: PathBuf::new(),
            token: None,
            ca: PathBuf::new(),
            stream: StreamName::default(),
            subject_prefix: SubjectPrefix::default(),
            copies: Within::new(1),
            writer: None,
        }
    }
}

impl Bus {
    /// Servers that hold the stream.
    #[cfg(feature = "nats")]
    pub(crate) fn copies(&self) -> usize {
        usize::try_from(self.copies.get()).unwrap_or(1)
    }

    /// Checks the constraints between values.
    pub(super) fn check(&self, has_platform: bool) -> Result<(), Error> {
        let Some(url) = &self.url else { return Ok(()) };
        if !cfg!(feature = "nats") {
            return Err(Error::NoBus);
        }
        if !has_platform {
            return Err(Error::BusWithoutPlatform);
        }
        let has_file = !self.credentials.as_os_str().is_empty();
        let logins = [has_file, self.token.is_some(), url.has_login()];
        if logins.into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err(Error::TwoLogins);
        }
        if !self.ca.as_os_str().is_empty() && !url.is_encrypted() {
            return Err(Error::BusWithoutTls);
        }
        if self.copies.get().is_multiple_of(2) {
            return Err(Error::EvenCopies { copies: self.copies.get() });
        }
        Ok(())
    }

    /// Whether a secret would be sent to another machine without encryption.
    pub(crate) fn is_exposed(&self) -> bool {
        self.url.as_ref().is_some_and(|url| {
            let has_secret = self.token.is_some() || url.has_login();
            has_secret && !url.is_encrypted() && !url.is_local()
        })
    }
}

/// A text of a type that checks it. The text is not a part of the error.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// The same; an empty text is none.
fn optional<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Ok(None),
        false => text.parse().map(Some).map_err(D::Error::custom),
    }
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.len() {
        0 => Ok(None),
        8..=1024 => Ok(Some(Token::new(&text))),
        _ => Err(D::Error::custom(
            "a token has 8 to 1024 bytes; `openssl rand -hex 32` makes a good one",
        )),
    }
}

/// An address of HTTP, without a slash at the end.
fn writer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let uri = text.parse::<Uri>().ok();
    let is_address = uri.as_ref().is_some_and(|uri| {
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let is_host = !authority.is_empty() && !authority.contains('@');
        is_http && is_host && uri.path() == "/" && uri.query().is_none()
    });
    match is_address {
        true => Ok(Some(text.trim_end_matches('/').to_owned())),
        false => Err(D::Error::custom("it is an address like https://live.example.org")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, source};

    fn check(text: &str) -> Result<Config, String> {
        let parsed = source::parse(Path::new("test"), text, &Vec::new());
        let config = parsed.map_err(|err| err.to_string())?.config;
        config.check().map_err(|err| err.to_string())?;
        Ok(config)
    }

    fn parse(bus: &str) -> Result<Config, String> {
        let text = format!("[platform]\nenabled = true\n[bus]\n{bus}");
        check(&text)
    }

    #[test]
    fn a_bus_has_an_address_a_stream_and_one_login() {
        let config = parse(
            "url = \"tls://a:4300,tls://b\"\ntoken = \"0123456789abcdef\"\nstream = \"prod\"\n\
             subject_prefix = \"sf.prod\"\ncopies = 3\nwriter = \"https://live.example.org/\"\n\
             ca = \"/etc/ca.pem\"",
        );
        let bus = config.expect("a configuration").bus;
        assert_eq!(bus.url.as_ref().expect("servers").hosts(), ["a:4300", "b:4222"]);
        assert_eq!((bus.stream.as_str(), bus.subject_prefix.as_str()), ("prod", "sf.prod"));
        assert_eq!(bus.writer.as_deref(), Some("https://live.example.org"));
        assert!(!bus.is_exposed());
        let shown = format!("{bus:?}");
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        let plain = parse("url = \"nats://me:0123456789@bus.example\"").expect("a configuration");
        assert!(plain.bus.is_exposed());
        let shown = format!("{:?}", plain.bus);
        assert!(!shown.contains("0123456789"), "{shown}");
    }

    #[test]
    fn nonsense_is_refused_without_a_secret_in_the_message() {
        for (bus, words) in [
            ("url = \"SECRET\"", "nats://HOST:PORT"),
            ("url = \"http://me:SECRET-key@bus\"", "nats://HOST:PORT"),
            ("url = \"nats://a,tls://b\"", "either all servers"),
            ("stream = \"a.b\"", "the name of a stream"),
            ("subject_prefix = \"sf.*\"", "a prefix of subjects"),
            ("token = \"SECRET\"", "a token has 8"),
            ("copies = 7", "copies"),
            ("url = \"nats://a\"\ncopies = 2", "1, 3 or 5"),
            ("writer = \"live.example.org\"", "it is an address"),
            ("writer = \"https://me:SECRET@live.example.org\"", "it is an address"),
            ("url = \"nats://me:SECRET-key@a\"\ntoken = \"SECRET-key\"", "keep one"),
            ("url = \"nats://a\"\nca = \"/etc/ca.pem\"", "bus.ca needs tls://"),
            ("urls = \"nats://a\"", "urls"),
        ] {
            let err = parse(bus).expect_err(bus);
            assert!(err.contains(words) && !err.contains("SECRET"), "{bus}: {err}");
        }
        let err = check("[bus]\nurl = \"nats://a\"").expect_err("no platform");
        assert!(err.contains("platform.enabled"), "{err}");
    }
}

//! `[traces]`: the export of traces by OTLP.

use std::{fmt, path::PathBuf};

use control_api::traces::Networks;
use http::{HeaderName, HeaderValue, Uri, uri::Scheme};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::error::Error;

/// Greatest number of headers.
const MAX_HEADERS: usize = 16;
/// The path of the protocol below the address of a collector (OTLP 1.9, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";
/// Parts of a sampled share.
const MILLION: f64 = 1_000_000.0;

/// The export of traces. Without `url` there are none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Traces {
    /// The collector; empty for none.
    #[serde(deserialize_with = "collector")]
    url: Option<Uri>,
    /// Headers of each request to it, such as credentials.
    pub(crate) headers: Headers,
    /// The share of traces that are exported, 0 to 1, unless the caller has decided.
    sample_ratio: Ratio,
    /// The name of this service in traces.
    pub(crate) service: ServiceName,
    /// File with certificate authorities in PEM that are trusted in place of the system's. Empty:
    /// the system's.
    pub(crate) ca: PathBuf,
    /// The networks whose requests continue the traces that they name.
    pub(crate) trusted: Networks,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            url: None,
            headers: Headers::default(),
            sample_ratio: Ratio(1_000_000),
            service: ServiceName("streamforge".to_owned()),
            ca: PathBuf::new(),
            trusted: Networks::default(),
        }
    }
}

impl Traces {
    /// The address to which traces are posted, if there is a collector.
    pub(crate) fn endpoint(&self) -> Option<Uri> {
        let url = self.url.clone()?;
        if url.path() != "/" {
            return Some(url);
        }
        let mut parts = url.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static(PATH));
        Uri::from_parts(parts).ok()
    }

    /// The share of traces that are exported.
    pub(crate) fn ratio(&self) -> f64 {
        f64::from(self.sample_ratio.0) / MILLION
    }

    /// Checks the constraints between values.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(url) = &self.url else { return Ok(()) };
        if cfg!(not(feature = "otel")) {
            return Err(Error::NoTraces);
        }
        let is_plain = url.scheme() == Some(&Scheme::HTTP);
        if is_plain && !self.headers.0.is_empty() && !is_local(url) {
            return Err(Error::PlainHeaders { host: url.host().unwrap_or_default().to_owned() });
        }
        Ok(())
    }
}

/// Whether an address is on this machine, by its text.
fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The address of a collector, from a text.
fn collector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uri>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let is_valid = |url: &Uri| {
        let is_http = url.scheme() == Some(&Scheme::HTTP) || url.scheme() == Some(&Scheme::HTTPS);
        let authority = url.authority().map_or("", |authority| authority.as_str());
        is_http && !authority.is_empty() && !authority.contains('@') && url.query().is_none()
    };
    // The text is not repeated, because it may have a password.
    text.parse::<Uri>().ok().filter(is_valid).map(Some).ok_or_else(|| {
        D::Error::custom(
            "traces.url is the address of an OTLP collector over HTTP, as in \
             http://127.0.0.1:4318; credentials belong to [traces.headers]",
        )
    })
}

/// Headers whose values are secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// The headers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, "***"))).finish()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        if given.len() > MAX_HEADERS {
            let words = format!(
                "traces.headers has {} entries, at most {MAX_HEADERS} are permitted",
                given.len()
            );
            return Err(D::Error::custom(words));
        }
        let header = |(name, value): (String, String)| {
            let parsed = name.parse::<HeaderName>().ok();
            // Those of the request itself.
            let parsed = parsed.filter(|name| {
                let own =
                    ["content-type", "content-length", "host", "transfer-encoding", "connection"];
                !own.contains(&name.as_str())
            });
            let value = value.parse::<HeaderValue>().ok();
            parsed.zip(value).ok_or_else(|| {
                D::Error::custom(format!("traces.headers: {name:?} is no header that can be sent"))
            })
        };
        given.into_iter().map(header).collect::<Result<_, _>>().map(Self)
    }
}

/// A share, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio(u32);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ratio = f64::deserialize(deserializer)?;
        if !(0.0..=1.0).contains(&ratio) {
            let words = format!("traces.sample_ratio is {ratio}, it must be 0 to 1");
            return Err(D::Error::custom(words));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to a million"
        )]
        let millionths = (ratio * MILLION).round() as u32;
        Ok(Self(millionths))
    }
}

/// The name of a service: 1 to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceName(String);

impl ServiceName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match (1..=100).contains(&name.chars().count()) && !name.contains(char::is_control) {
            true => Ok(Self(name)),
            false => Err(D::Error::custom("traces.service has 1 to 100 characters")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(text: &str) -> Result<Traces, toml::de::Error> {
        toml::from_str(text)
    }

    fn endpoint(url: &str) -> Option<String> {
        let traces = traces(&format!("url = {url:?}")).ok()?;
        traces.endpoint().map(|url| url.to_string())
    }

    #[test]
    fn traces_are_posted_to_the_path_of_the_protocol_unless_the_address_has_one() {
        assert_eq!(
            endpoint("http://127.0.0.1:4318").as_deref(),
            Some("http://127.0.0.1:4318/v1/traces")
        );
        assert_eq!(
            endpoint("https://otlp.example/").as_deref(),
            Some("https://otlp.example/v1/traces")
        );
        let own = "https://otlp.example/tenant/otlp";
        assert_eq!(endpoint(own).as_deref(), Some(own));
        assert_eq!(endpoint(""), None);
        assert_eq!(Traces::default().endpoint(), None);
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_being_repeated() {
        for url in [
            "ftp://a",
            "127.0.0.1:4318",
            "http://",
            "/v1/traces",
            "http://ada:S3CRET@a",
            "http://a/?k=S3CRET",
        ] {
            let refused = traces(&format!("url = {url:?}")).expect_err(url).message().to_owned();
            assert!(!refused.contains("S3CRET"), "{refused}");
        }
    }

    #[test]
    fn other_values_are_in_their_range() {
        for text in [
            "sample_ratio = 1.5",
            "sample_ratio = -0.1",
            "sample_ratio = \"all\"",
            "service = \"\"",
            "trusted = [\"localhost\"]",
            "headers = { \"a b\" = \"c\" }",
            "headers = { host = \"c\" }",
            "headers = { authorization = \"a\\nb\" }",
            "colour = \"red\"",
        ] {
            assert!(traces(text).is_err(), "{text}");
        }
        let exact = traces("sample_ratio = 0.25").expect("a share");
        assert!((exact.ratio() - 0.25).abs() < 1e-9);
        assert!((traces("sample_ratio = 1").expect("a share").ratio() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn headers_are_secrets_and_are_not_sent_without_tls() {
        let headers = "headers = { authorization = \"Bearer S3CRET\" }";
        let at = |url: &str| traces(&format!("url = {url:?}\n{headers}")).expect("valid");
        assert!(!format!("{:?}", at("https://otlp.example")).contains("S3CRET"));
        let is_accepted = |url: &str| at(url).check().is_ok();
        if cfg!(feature = "otel") {
            for url in [
                "https://otlp.example",
                "http://127.0.0.1:4318",
                "http://[::1]:4318",
                "http://localhost",
            ] {
                assert!(is_accepted(url), "{url}");
            }
        }
        assert!(!is_accepted("http://otlp.example:4318"));
    }
}

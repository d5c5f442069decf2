//! Shared configuration of all listeners: addresses to listen on, and the check of a number's
//! range.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

/// A number in the configuration is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{section}.{key} is {value}, it must be {min} to {max}")]
pub struct OutOfRange {
    section: &'static str,
    key: &'static str,
    value: u64,
    min: u64,
    max: u64,
}

/// One line for the operator.
impl From<OutOfRange> for String {
    fn from(err: OutOfRange) -> Self {
        err.to_string()
    }
}

/// Checks that the key `section.key` has a value from `min` to `max`.
///
/// # Errors
/// The value is out of range.
pub fn within(
    section: &'static str,
    key: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), OutOfRange> {
    // The message has all numbers, so that the operator can correct the key without the
    // documentation.
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(OutOfRange { section, key, value, min, max }),
    }
}

/// Deserializes addresses to listen on: an address and port as text, or a list of them. The empty
/// text is an empty list.
///
/// # Errors
/// A text is not an address and port.
pub fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    one_or_many(deserializer)?
        .iter()
        .map(|text| {
            text.parse().map_err(|_| {
                D::Error::custom(format!(
                    "{text:?} is not an address and port such as \"127.0.0.1:8080\""
                ))
            })
        })
        .collect()
}

/// Deserializes a text, or a list of texts. The empty text is an empty list.
///
/// # Errors
/// The value is neither.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text, or a list of them")]
    // Environment variables are texts, so each list can also be a single text.
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        // An empty environment variable clears a list.
        OneOrMany::One(text) if text.is_empty() => vec![],
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Section {
        #[serde(deserialize_with = "addresses")]
        listen: Vec<SocketAddr>,
    }

    fn read(listen: &str) -> Result<Vec<SocketAddr>, toml::de::Error> {
        toml::from_str(&format!("listen = {listen}")).map(|section: Section| section.listen)
    }

    #[test]
    fn addresses_are_one_text_or_a_list_and_the_empty_text_is_none() {
        let [one, two] = ["127.0.0.1:0", "[::1]:80"].map(|address| address.parse().unwrap());
        assert_eq!(read("''").unwrap(), []);
        assert_eq!(read("[]").unwrap(), []);
        assert_eq!(read("'127.0.0.1:0'").unwrap(), [one]);
        assert_eq!(read("['127.0.0.1:0', '[::1]:80']").unwrap(), [one, two]);
        let refusal = read("'here'").unwrap_err().to_string();
        assert!(refusal.contains("\"here\" is not an address and port"), "{refusal}");
        assert!(read("80").is_err() && read("['']").is_err());
    }

    #[test]
    fn a_value_out_of_its_range_is_named_with_the_range() {
        assert_eq!([1, 3].map(|value| within("http", "key", value, 1, 3)), [Ok(()), Ok(())]);
        let refusals =
            [0, 4].map(|value| String::from(within("http", "key", value, 1, 3).unwrap_err()));
        assert_eq!(refusals[0], "http.key is 0, it must be 1 to 3");
        assert_eq!(refusals[1], "http.key is 4, it must be 1 to 3");
    }
}

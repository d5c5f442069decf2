//! Shared configuration of all listeners: addresses to listen on, the check of a number's range,
//! and the error of all checks.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

/// Why a value of the configuration is refused, in one line for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A number is out of its range.
    #[error("{section}.{key} is {number}")]
    OutOfRange {
        /// The section of the key.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// The number and its range.
        number: OutOfRange,
    },
    /// A text is not of the required form.
    #[error("{key} is {value:?}, it must be {form}")]
    Malformed {
        /// The key with its section.
        key: &'static str,
        /// The configured value.
        value: String,
        /// The form.
        form: &'static str,
    },
    /// An entry of a list is not of the required form.
    #[error("{key}: {entry:?} is not {form}")]
    MalformedEntry {
        /// The key with its section.
        key: &'static str,
        /// The entry.
        entry: String,
        /// The form.
        form: &'static str,
    },
    /// A list has too many entries.
    #[error("{key} has {count} entries, at most {max} are permitted")]
    TooManyEntries {
        /// The key with its section.
        key: &'static str,
        /// The number of entries.
        count: usize,
        /// The largest number allowed.
        max: usize,
    },
    /// More servers are listed than are asked.
    #[error("{key} lists {count} origins, at most {max} are permitted")]
    TooManyOrigins {
        /// The key with its section.
        key: &'static str,
        /// The number of servers.
        count: usize,
        /// The largest number allowed.
        max: usize,
    },
    /// One of two keys that belong together is not set.
    #[error("{set} is set, but {unset} is {value}: set both, or neither")]
    Unpaired {
        /// The key that is set, with its section.
        set: &'static str,
        /// The other one.
        unset: &'static str,
        /// Its value: `0`, or `not` for an empty text.
        value: &'static str,
    },
}

/// A number that is not in its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
// All numbers are named, so that the operator can correct the key without the documentation.
#[error("{value}, it must be {min} to {max}")]
pub struct OutOfRange {
    /// The configured number, which may be negative.
    pub value: i128,
    /// The smallest number allowed.
    pub min: u64,
    /// The largest number allowed.
    pub max: u64,
}

/// Returns `value` if it is from `min` to `max`. For a check without the name of the key.
///
/// # Errors
/// [`OutOfRange`].
pub fn in_range(value: impl Into<i128>, min: u64, max: u64) -> Result<u64, OutOfRange> {
    let value = value.into();
    let number = u64::try_from(value).ok().filter(|number| (min..=max).contains(number));
    number.ok_or(OutOfRange { value, min, max })
}

/// Checks that the key `section.key` has a value from `min` to `max`.
///
/// # Errors
/// [`Error::OutOfRange`].
pub fn within(
    section: &'static str,
    key: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), Error> {
    let checked = in_range(value, min, max);
    checked.map(drop).map_err(|number| Error::OutOfRange { section, key, number })
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
    fn addresses_are_a_string_or_a_list_and_an_empty_string_is_none() {
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
    fn a_value_out_of_range_is_refused_with_its_key_and_range() {
        assert_eq!([1, 3].map(|value| within("http", "key", value, 1, 3)), [Ok(()), Ok(())]);
        let refusals =
            [0, 4].map(|value| within("http", "key", value, 1, 3).unwrap_err().to_string());
        assert_eq!(refusals[0], "http.key is 0, it must be 1 to 3");
        assert_eq!(refusals[1], "http.key is 4, it must be 1 to 3");
        assert_eq!([1, 3].map(|value| in_range(value, 1, 3)), [Ok(1), Ok(3)]);
        let negative = in_range(-1, 0, 3).unwrap_err();
        assert_eq!(negative.to_string(), "-1, it must be 0 to 3");
    }
}

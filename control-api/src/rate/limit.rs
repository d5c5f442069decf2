//! A configured rate: a number of requests in a time, such as `50/10s`.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// Largest number of requests.
const MAX_REQUESTS: u32 = 1_000_000;
/// Longest time: the state of an address is kept for it.
const MAX_WINDOW: Duration = Duration::from_secs(86_400);

/// At most this number of requests in this time. It is the size of a bucket that is full at first
/// and is filled evenly: after a pause the whole number may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    requests: NonZeroU32,
    window: Duration,
}

/// The text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rate: a rate is \"off\", or a number of requests up to 1000000 and a time up to \
     24h, such as \"50/10s\", \"15/5m\" or \"100/1h\""
)]
pub struct NotARate(String);

impl Limit {
    /// A limit that is known to be valid.
    pub(super) const fn new(requests: NonZeroU32, seconds: u64) -> Self {
        Self { requests, window: Duration::from_secs(seconds) }
    }

    /// The number of requests.
    pub fn requests(self) -> NonZeroU32 {
        self.requests
    }

    /// The time, whole seconds.
    pub fn window(self) -> Duration {
        self.window
    }
}

impl FromStr for Limit {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let parsed = || {
            let (requests, time) = text.split_once('/')?;
            let unit = match time.as_bytes().last()? {
                b's' => 1,
                b'm' => 60,
                b'h' => 3_600,
                _ => return None,
            };
            let number: u32 = time[..time.len() - 1].parse().ok()?;
            let window = Duration::from_secs(u64::from(number) * unit);
            let requests: NonZeroU32 = requests.parse().ok()?;
            let valid = requests.get() <= MAX_REQUESTS
                && (Duration::from_secs(1)..=MAX_WINDOW).contains(&window);
            valid.then_some(Self { requests, window })
        };
        parsed().ok_or_else(|| NotARate(text.to_owned()))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests in {} s", self.requests, self.window.as_secs())
    }
}

/// A rate, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<Limit>);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "off" => Ok(Self(None)),
            text => text.parse().map(|limit| Self(Some(limit))).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_time_within_their_ranges() {
        for (text, requests, seconds) in [
            ("50/10s", 50, 10),
            ("15/5m", 15, 300),
            ("1/24h", 1, 86_400),
            ("1000000/1s", 1_000_000, 1),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.requests().get(), limit.window().as_secs()), (requests, seconds));
        }
        for text in
            ["", "50", "0/1s", "1/0s", "-1/1s", "1/1d", "1/s", "1/25h", "1000001/1s", "1/1é", "/"]
        {
            assert_eq!(text.parse::<Limit>(), Err(NotARate(text.to_owned())), "{text}");
        }
    }
}

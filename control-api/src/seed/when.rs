//! Times in fixtures: points in time, or relative to the time at which they are applied.

use std::{fmt, str::FromStr, time::Duration};

use control_domain::Time;
use serde::{Deserialize, Deserializer, de};

/// The greatest distance in days: ten years.
const MAX_DAYS: u64 = 3_653;
/// Seconds of a day.
const DAY: u64 = 86_400;

/// A point in time (RFC 3339), or a distance from the application of the fixtures: `-3d`, `+90m`,
/// with the units `m`, `h`, `d` and `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// This time.
    At(Time),
    /// So much earlier.
    Before(Duration),
    /// So much later.
    After(Duration),
}

/// The text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a time: write one as in RFC 3339, or a distance of at most {MAX_DAYS} days such as \
     -3d or +90m"
)]
pub(super) struct NotATime;

impl When {
    /// The point in time, for fixtures that are applied at `now`.
    pub(super) fn at(&self, now: Time) -> Time {
        match *self {
            Self::At(time) => time,
            Self::Before(distance) => {
                let distance = u64::try_from(distance.as_millis()).unwrap_or(u64::MAX);
                Time::from_millis(now.as_millis().saturating_sub(distance))
            }
            Self::After(distance) => now.after(distance),
        }
    }
}

/// The time of a thing that has happened; `None`: now.
pub(super) fn past(when: Option<&When>, now: Time) -> Option<Time> {
    when.map(|when| when.at(now))
}

impl FromStr for When {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let Some((sign, distance)) =
            text.split_at_checked(1).filter(|(sign, _)| "+-".contains(sign))
        else {
            let time = Time::deserialize(de::value::StrDeserializer::<de::value::Error>::new(text));
            return time.map(Self::At).map_err(|_| NotATime);
        };
        let end = distance.len().saturating_sub(1);
        let (number, unit) = distance.split_at_checked(end).ok_or(NotATime)?;
        let seconds = match unit {
            "m" => 60,
            "h" => 3_600,
            "d" => DAY,
            "w" => 7 * DAY,
            _ => return Err(NotATime),
        };
        // `parse` would accept another sign.
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        let number = number.parse::<u64>().ok().filter(|_| is_number).ok_or(NotATime)?;
        let seconds = number.checked_mul(seconds).filter(|seconds| *seconds <= MAX_DAYS * DAY);
        let distance = Duration::from_secs(seconds.ok_or(NotATime)?);
        Ok(if sign == "-" { Self::Before(distance) } else { Self::After(distance) })
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<When, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl schemars::JsonSchema for When {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "When".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A time as in RFC 3339, or a distance from now such as -3d or +90m.",
            "anyOf": [
                { "type": "string", "pattern": "^[+-][0-9]{1,7}[mhdw]$" },
                { "type": "string", "format": "date-time" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_distance_from_now_or_a_point() {
        let now = Time::from_millis(1_796_000_000_000);
        let at = |text: &str| text.parse::<When>().map(|when| when.at(now).as_millis());
        assert_eq!(at("-3d"), Ok(1_796_000_000_000 - 3 * 86_400_000));
        assert_eq!(at("+90m"), Ok(1_796_000_000_000 + 5_400_000));
        assert_eq!(at("-2w"), Ok(1_796_000_000_000 - 14 * 86_400_000));
        assert_eq!(at("+0h"), Ok(1_796_000_000_000));
        assert_eq!(at("2026-11-30T00:53:20Z"), Ok(1_796_000_000_000));
        for refused in [
            "",
            "-",
            "3d",
            "-d",
            "--3d",
            "-+3d",
            "-3",
            "-3y",
            "+3660d",
            "-3dd",
            "-99999999999w",
            "é",
        ] {
            assert_eq!(at(refused), Err(NotATime), "{refused}");
        }
    }
}

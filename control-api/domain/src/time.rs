//! Points in time, in whole milliseconds.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The greatest time: the end of the year 9999, the last that RFC 3339 can write.
const MAX_MS: u64 = 253_402_300_799_999;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, up to the year 9999.
///
/// In JSON it is text as in RFC 3339, in UTC with milliseconds; in tables a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The time so many milliseconds after 1970, at most the end of the year 9999.
    pub const fn from_millis(ms: u64) -> Self {
        Self(if ms < MAX_MS { ms } else { MAX_MS })
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time so much later.
    pub fn after(self, wait: Duration) -> Self {
        Self::from_millis(
            self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl From<SystemTime> for Time {
    /// A time before 1970 becomes 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::default().after(since)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0)).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => serializer.serialize_u64(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self::from_millis);
        }
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self::from).map_err(de::Error::custom)
    }
}

impl crate::table::Key for Time {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        u64::parse(bytes).map(Self::from_millis)
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_text_in_json_and_is_read_back() {
        let time = Time::from_millis(1_796_000_000_123);
        let text = serde_json::to_string(&time).expect("a time is text");
        assert_eq!(text, "\"2026-11-30T00:53:20.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).expect("the same text"), time);
        assert!(serde_json::from_str::<Time>("\"yesterday\"").is_err());
    }

    #[test]
    fn no_time_is_later_than_text_can_express() {
        let last = Time::from_millis(u64::MAX);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(last.after(Duration::MAX), last);
    }
}

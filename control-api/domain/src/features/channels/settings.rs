//! The settings of a channel's live broadcasts. A setting that is absent is the platform's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::CategoryId, language::Language, patch};

/// The renditions that are made of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ladder {
    /// All rungs of the platform.
    #[default]
    On,
    /// None: viewers get the source alone.
    Off,
    /// Those rungs of the platform that are named here.
    Rungs(Rungs),
}

/// Rungs, named by their heights in lines, from the greatest on: 1 to 10 different even numbers of
/// 64 to 4320.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u16>", into = "Vec<u16>")]
pub struct Rungs(Vec<u16>);

/// Why heights are not rungs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RungsError {
    /// There are none, or too many.
    #[error("{0} rungs are named; 1 to 10 are allowed")]
    Count(usize),
    /// No rung can have this height.
    #[error("a rung of {0} lines is named; even numbers of 64 to 4320 are allowed")]
    Height(u16),
    /// A rung is named twice.
    #[error("the rung of {0} lines is named twice")]
    Twice(u16),
}

impl Rungs {
    /// The heights, from the greatest on.
    pub fn heights(&self) -> &[u16] {
        &self.0
    }
}

impl TryFrom<Vec<u16>> for Rungs {
    type Error = RungsError;

    fn try_from(mut heights: Vec<u16>) -> Result<Self, RungsError> {
        if !(1..=10).contains(&heights.len()) {
            return Err(RungsError::Count(heights.len()));
        }
        let is_height = |height: u16| (64..=4320).contains(&height) && height.is_multiple_of(2);
        if let Some(height) = heights.iter().find(|height| !is_height(**height)) {
            return Err(RungsError::Height(*height));
        }
        heights.sort_unstable_by(|a, b| b.cmp(a));
        match heights.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(RungsError::Twice(pair[0])),
            None => Ok(Self(heights)),
        }
    }
}

impl From<Rungs> for Vec<u16> {
    fn from(rungs: Rungs) -> Self {
        rungs.0
    }
}

impl JsonSchema for Rungs {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rungs".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "array",
            "items": { "type": "integer", "minimum": 64, "maximum": 4320, "multipleOf": 2 },
            "minItems": 1,
            "maxItems": 10,
            "uniqueItems": true,
        })
    }
}

/// Seconds for which a broadcast waits for its publisher to return: 0 to 3600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ReconnectSeconds(u16);

/// It is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} s is longer than 3600 s")]
pub struct TooLong(u16);

impl ReconnectSeconds {
    /// The seconds.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for ReconnectSeconds {
    type Error = TooLong;

    fn try_from(seconds: u16) -> Result<Self, TooLong> {
        match seconds {
            ..=3600 => Ok(Self(seconds)),
            _ => Err(TooLong(seconds)),
        }
    }
}

impl From<ReconnectSeconds> for u16 {
    fn from(seconds: ReconnectSeconds) -> Self {
        seconds.0
    }
}

impl JsonSchema for ReconnectSeconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReconnectSeconds".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 0, "maximum": 3600 })
    }
}

/// How far viewers are behind the live broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Latency {
    /// Playlists list parts: about a second.
    #[default]
    Low,
    /// Playlists list whole segments: some seconds, with fewer requests.
    Standard,
}

/// How publishers without a stream key of the channel are authorised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublishPolicy {
    /// Anyone may publish: the stream key is the channel's name.
    Open,
    /// They are not: a publisher needs a stream key.
    #[default]
    Keys,
    /// By a signed token.
    Jwt,
    /// By an HTTP server of the operator.
    Webhook,
}

/// Settings that change. Fields that are absent keep their value, `null` removes a value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// The renditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Ladder>,
    /// Whether broadcasts are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<bool>,
    /// The wait for a publisher that has disconnected. `null`: the platform's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "patch::nullable"
    )]
    pub reconnect_s: Option<Option<ReconnectSeconds>>,
    /// The distance of viewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// How publishers are authorised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishPolicy>,
    /// The category of broadcasts.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "patch::nullable"
    )]
    pub category: Option<Option<CategoryId>>,
    /// The language of broadcasts.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "patch::nullable"
    )]
    pub language: Option<Option<Language>>,
}

/// The settings of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The renditions.
    pub ladder: Ladder,
    /// Whether broadcasts are recorded.
    pub recording: bool,
    /// The wait for a publisher that has disconnected, if it is not the platform's.
    pub reconnect_s: Option<ReconnectSeconds>,
    /// The distance of viewers.
    pub latency: Latency,
    /// How publishers are authorised.
    pub publish: PublishPolicy,
    /// The category of broadcasts. It may have been removed.
    pub category: Option<CategoryId>,
    /// The language of broadcasts.
    pub language: Option<Language>,
    /// The number of changes, for conditional edits.
    pub version: u64,
}

impl Settings {
    /// The changes without those that change nothing.
    pub(super) fn effective(&self, changes: &Changes) -> Changes {
        let changes = changes.clone();
        Changes {
            ladder: changes.ladder.filter(|new| *new != self.ladder),
            recording: changes.recording.filter(|new| *new != self.recording),
            reconnect_s: changes.reconnect_s.filter(|new| *new != self.reconnect_s),
            latency: changes.latency.filter(|new| *new != self.latency),
            publish: changes.publish.filter(|new| *new != self.publish),
            category: changes.category.filter(|new| *new != self.category),
            language: changes.language.filter(|new| *new != self.language),
        }
    }

    /// The settings after the changes.
    pub(super) fn with(self, changes: Changes) -> Self {
        Self {
            ladder: changes.ladder.unwrap_or(self.ladder),
            recording: changes.recording.unwrap_or(self.recording),
            reconnect_s: changes.reconnect_s.unwrap_or(self.reconnect_s),
            latency: changes.latency.unwrap_or(self.latency),
            publish: changes.publish.unwrap_or(self.publish),
            category: changes.category.unwrap_or(self.category),
            language: changes.language.unwrap_or(self.language),
            version: self.version + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_is_on_off_or_names_its_rungs() {
        let ladder =
            |json: &str| serde_json::from_str::<Ladder>(json).map_err(|err| err.to_string());
        assert_eq!(ladder(r#""on""#), Ok(Ladder::On));
        assert_eq!(ladder(r#""off""#), Ok(Ladder::Off));
        let Ok(Ladder::Rungs(rungs)) = ladder(r#"{"rungs":[360,1080,720]}"#) else { panic!() };
        assert_eq!(rungs.heights(), [1080, 720, 360]);
        for (heights, reason) in [
            (vec![], RungsError::Count(0)),
            (vec![64; 11], RungsError::Count(11)),
            (vec![720, 361], RungsError::Height(361)),
            (vec![62], RungsError::Height(62)),
            (vec![4322], RungsError::Height(4322)),
            (vec![720, 360, 720], RungsError::Twice(720)),
        ] {
            assert_eq!(Rungs::try_from(heights), Err(reason));
        }
    }

    #[test]
    fn a_publisher_is_awaited_for_an_hour_at_most() {
        assert_eq!(ReconnectSeconds::try_from(3600).map(ReconnectSeconds::get), Ok(3600));
        assert_eq!(ReconnectSeconds::try_from(3601), Err(TooLong(3601)));
    }
}

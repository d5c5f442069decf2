//! `[analytics]`: how views and watch time are counted, and how long their numbers are kept.

use control_api::{store::Kept, views::Settings};
use serde::Deserialize;

use super::within::Within;

/// Rules for the numbers about audiences.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Analytics {
    /// Whether views are counted, if the platform is enabled.
    pub(crate) enabled: bool,
    /// Hours for which the numbers of each minute are kept.
    minutes_h: Within<1, 720>,
    /// Days for which the numbers of each day are kept.
    days: Within<1, 3_660>,
    /// Greatest number of viewers at a time whose sessions are followed.
    max_sessions: Within<100, 1_000_000>,
}

impl Default for Analytics {
    fn default() -> Self {
        Self {
            enabled: true,
            minutes_h: Within::new(48),
            days: Within::new(1_096),
            max_sessions: Within::new(100_000),
        }
    }
}

impl Analytics {
    /// The settings of the task that counts.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            max_sessions: usize::try_from(self.max_sessions.get()).unwrap_or(usize::MAX),
            kept: Kept { minutes: 60 * self.minutes_h.get(), days: self.days.get() },
        }
    }
}

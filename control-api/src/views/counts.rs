//! Numbers about an audience in a minute or a day, which can be added. Plain data.

use serde::{Deserialize, Serialize};

/// Numbers about an audience, of a channel or video, or of one of its renditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The views that became views in this time.
    pub views: u64,
    /// The media that were watched, in milliseconds.
    pub watched_ms: u64,
    /// The greatest number of sessions at a time; 0 for a rendition.
    pub peak: u64,
    /// Segments and parts that were sent.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The reports of players.
    pub quality: Quality,
}

/// What players have reported with their requests (CTA-5004). They may report anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Requests with a report.
    pub reports: u64,
    /// Reports that the player has rebuffered since the one before.
    pub rebuffers: u64,
    /// The time to the first picture, in milliseconds.
    pub startup: Mean,
    /// The bit rate of requested video, in kbit/s.
    pub bitrate: Mean,
    /// The throughput that players have measured, in kbit/s.
    pub throughput: Mean,
    /// The media in players' buffers, in milliseconds.
    pub buffer: Mean,
    /// The distance to the live edge, in milliseconds.
    pub latency: Mean,
}

/// A mean that can be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    /// Adds a value, if there is one.
    pub fn add(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.sum = self.sum.saturating_add(value);
            self.count = self.count.saturating_add(1);
        }
    }

    /// Adds all values of another one.
    fn merge(&mut self, other: Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.count = self.count.saturating_add(other.count);
    }

    /// The mean, rounded; `None` without a value.
    pub fn get(self) -> Option<u64> {
        let half = self.count / 2;
        self.sum.saturating_add(half).checked_div(self.count)
    }

    /// The number of values.
    pub fn count(self) -> u64 {
        self.count
    }
}

impl Quality {
    fn merge(&mut self, other: &Self) {
        self.reports = self.reports.saturating_add(other.reports);
        self.rebuffers = self.rebuffers.saturating_add(other.rebuffers);
        self.startup.merge(other.startup);
        self.bitrate.merge(other.bitrate);
        self.throughput.merge(other.throughput);
        self.buffer.merge(other.buffer);
        self.latency.merge(other.latency);
    }
}

impl Counts {
    /// Adds numbers of another time. The peak is the greater of both.
    pub fn merge(&mut self, other: &Self) {
        self.views = self.views.saturating_add(other.views);
        self.watched_ms = self.watched_ms.saturating_add(other.watched_ms);
        self.peak = self.peak.max(other.peak);
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.quality.merge(&other.quality);
    }
}

/// The numbers of a channel or video in a minute or a day, and those of its renditions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// Of all viewers.
    pub all: Counts,
    /// Of each rendition that was sent, by its track's name, at most [`MAX_RENDITIONS`].
    pub renditions: Vec<(String, Counts)>,
}

/// Greatest number of renditions in a row. Names of tracks may differ between broadcasts of a day.
pub const MAX_RENDITIONS: usize = 32;

impl Row {
    /// The numbers of a rendition; `None` beyond the limit.
    pub fn rendition(&mut self, name: &str) -> Option<&mut Counts> {
        let position = self.renditions.iter().position(|(known, _)| known == name);
        let position = match position {
            Some(position) => position,
            None if self.renditions.len() < MAX_RENDITIONS => {
                self.renditions.push((name.to_owned(), Counts::default()));
                self.renditions.len() - 1
            }
            None => return None,
        };
        self.renditions.get_mut(position).map(|(_, counts)| counts)
    }

    /// Adds the numbers of another time.
    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        for (name, counts) in &other.renditions {
            if let Some(own) = self.rendition(name) {
                own.merge(counts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_continued_and_rounded() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        for value in [Some(1), None, Some(2)] {
            mean.add(value);
        }
        assert_eq!((mean.get(), mean.count()), (Some(2), 2));
        let mut other = Mean::default();
        other.add(Some(9));
        mean.merge(other);
        assert_eq!(mean.get(), Some(4));
        other.add(Some(u64::MAX));
        assert!(other.get().is_some());
    }

    #[test]
    fn rows_are_added_by_rendition_and_have_a_limit() {
        let counts = |views, peak| Counts { views, peak, ..Counts::default() };
        let mut row = Row { all: counts(1, 5), renditions: vec![("v0".into(), counts(1, 0))] };
        let other = Row {
            all: counts(2, 3),
            renditions: vec![("a0".into(), counts(0, 0)), ("v0".into(), counts(2, 0))],
        };
        row.merge(&other);
        assert_eq!(row.all, counts(3, 5));
        let expected = [("v0".to_owned(), counts(3, 0)), ("a0".to_owned(), counts(0, 0))];
        assert_eq!(row.renditions, expected);
        for n in 0..2 * MAX_RENDITIONS {
            row.rendition(&format!("v{n}"));
        }
        assert_eq!(row.renditions.len(), MAX_RENDITIONS);
        assert!(row.rendition("v0").is_some() && row.rendition("other").is_none());
    }
}

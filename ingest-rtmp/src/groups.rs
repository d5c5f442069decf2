//! The interval of start points in a publisher's video, and the pictures at which groups start.
//! Pure: kinds and timestamps of pictures in.
//!
//! IDR pictures start groups. A source may have none but the first: open groups start at recovery
//! points or plain intra pictures, and with periodic intra refresh there is no such picture at all.
//! There, recovery points start groups: from 3.5 s after the last IDR picture on, or from 12 s if
//! IDR pictures have been regular (docs/decisions/0026).

use std::time::Duration;

use media_core::{codec::nal::Access, cut};

use crate::advice::Advice;

/// Time without an IDR picture after which recovery points start groups: two groups of 2 s, minus
/// the pictures that are shown before the first one of an open group but decoded after it.
const UNTIL_RECOVERY_MS: i64 = 3_500;
/// Maximum contribution of a step of the timestamps, because clocks jump.
const MAX_STEP_MS: i64 = 5_000;

/// The groups of one publisher's video.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Timestamp of the last picture in milliseconds.
    newest_ms: Option<i64>,
    /// Milliseconds since the last IDR picture, or the first picture.
    since_idr: i64,
    /// Milliseconds since the last key frame.
    since_key: i64,
    /// Number of IDR pictures so far.
    idr_pictures: u64,
    /// Number of key frames so far.
    keys: u64,
    /// Interval between the last two key frames. In milliseconds.
    interval: Option<i64>,
    /// recovery_frame_cnt of the newest recovery point since the last IDR picture; 0 for an intra
    /// picture.
    recovery: Option<u32>,
}

/// The role of a picture in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whether a group starts here.
    pub(crate) key: bool,
    /// Whether it refers to no earlier picture.
    pub(crate) independent: bool,
    /// Whether it is the first one at which an IDR picture is overdue.
    pub(crate) overdue: bool,
}

impl Groups {
    /// Records the next picture, in decoding order.
    pub(crate) fn enter(&mut self, access: Access, ms: i64) -> Entry {
        let step = self.newest_ms.map_or(0, |newest| ms.saturating_sub(newest));
        let step = step.clamp(0, MAX_STEP_MS);
        self.newest_ms = Some(ms);
        let was_overdue = self.since_idr > longest_ms();
        self.since_idr += step;
        self.since_key += step;
        let key = match access {
            Access::Idr => true,
            Access::Recovery { frames } => {
                self.recovery = Some(frames);
                self.since_idr
                    >= if self.idr_pictures > 1 { longest_ms() } else { UNTIL_RECOVERY_MS }
            }
            // Encoders insert such pictures at scene changes, too. So they count only if there is
            // no other kind.
            Access::Intra => {
                let until = if self.idr_pictures > 0 { longest_ms() } else { UNTIL_RECOVERY_MS };
                let key = self.since_idr >= until && self.recovery.is_none_or(|frames| frames == 0);
                self.recovery = if key { Some(0) } else { self.recovery };
                key
            }
            Access::Dependent => false,
        };
        let independent = access == Access::Idr;
        if key {
            self.interval = (self.keys > 0).then_some(self.since_key);
            self.keys += 1;
            self.since_key = 0;
        }
        if independent {
            self.idr_pictures += 1;
            (self.since_idr, self.recovery) = (0, None);
        }
        // Only the first such picture is marked: the caller updates the advice then, and not at
        // each picture.
        let overdue = !was_overdue && self.since_idr > longest_ms();
        Entry { key, independent, overdue }
    }

    /// The last interval between key frames.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let ms = u64::try_from(self.interval?).ok()?;
        Some(Duration::from_millis(ms))
    }

    /// The setting to change at the encoder, if any. `gridded`: segments start where players
    /// cannot.
    pub(crate) fn advice(&self, gridded: bool) -> Option<Advice> {
        let overdue = self.since_idr > longest_ms();
        match self.recovery {
            // The stream has recovery points instead of IDR pictures. 0 frames until recovery is an
            // open group, more is intra refresh.
            Some(frames) if overdue || self.since_idr > UNTIL_RECOVERY_MS && gridded => {
                Some(match frames {
                    0 => Advice::OpenGroups,
                    _ => Advice::IntraRefresh,
                })
            }
            _ if overdue && self.keys <= 1 => Some(Advice::NoKeyFrame),
            _ => match self.interval().filter(|interval| *interval > cut::LONGEST) {
                Some(interval) => Some(Advice::LongGroups { interval }),
                None if overdue => Some(Advice::NoKeyFrame),
                None if gridded => Some(Advice::GrowingGroups),
                None => None,
            },
        }
    }
}

/// The longest segment in milliseconds.
fn longest_ms() -> i64 {
    i64::try_from(cut::LONGEST.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECOVERY: Access = Access::Recovery { frames: 0 };
    const REFRESH: Access = Access::Recovery { frames: 24 };

    /// 25 pictures a second for `seconds`, `access` every `every_s`, and `first` at the start.
    /// Returns the starts of groups, and the final advice.
    fn run(
        first: Access,
        access: Access,
        every_s: i64,
        seconds: i64,
    ) -> (Vec<i64>, Option<Advice>) {
        let mut groups = Groups::default();
        let mut keys = Vec::new();
        for n in 0..seconds * 25 {
            let access = match n {
                0 => first,
                n if n % (every_s * 25) == 0 => access,
                _ => Access::Dependent,
            };
            // A clock that wraps or jumps costs no more than the step.
            let jump = if n > 100 { -7_000_000 } else { 0 };
            // In an open group the first picture is decoded before those shown before it.
            let early = if n > 0 && access == RECOVERY { 80 } else { 0 };
            if groups.enter(access, n * 40 + jump - early).key {
                keys.push(n / 25);
            }
        }
        let gridded = first != Access::Idr || access != Access::Idr && keys.len() > 1;
        (keys, groups.advice(gridded))
    }

    #[test]
    fn groups_of_idr_pictures_need_no_advice_up_to_twelve_seconds() {
        assert_eq!(run(Access::Idr, Access::Idr, 2, 9), (vec![0, 2, 4, 6, 8], None));
        assert_eq!(run(Access::Idr, Access::Idr, 8, 17), (vec![0, 8, 16], None));
        let long = Advice::LongGroups { interval: Duration::from_millis(19_960) };
        assert_eq!(run(Access::Idr, Access::Idr, 20, 22), (vec![0, 20], Some(long)));
        assert_eq!(run(Access::Idr, Access::Dependent, 1, 11).1, None);
        assert_eq!(run(Access::Idr, Access::Dependent, 1, 13), (vec![0], Some(Advice::NoKeyFrame)));
    }

    #[test]
    fn recovery_points_start_groups_after_3_5_s_without_idr_pictures() {
        let open = Some(Advice::OpenGroups);
        assert_eq!(run(Access::Idr, RECOVERY, 2, 9), (vec![0, 4, 6, 8], open));
        assert_eq!(run(RECOVERY, RECOVERY, 2, 9), (vec![4, 6, 8], open));
        assert_eq!(run(Access::Idr, REFRESH, 2, 9), (vec![0, 4, 6, 8], Some(Advice::IntraRefresh)));
    }

    #[test]
    fn recovery_points_between_regular_idr_pictures_start_no_groups() {
        let mut groups = Groups::default();
        let mut keys = Vec::new();
        for n in 0..600 {
            let access = match n {
                n if n % 75 == 0 => Access::Idr,
                n if n % 25 == 0 => RECOVERY,
                _ => Access::Dependent,
            };
            let entry = groups.enter(access, n * 40);
            assert_eq!(entry.key, entry.independent);
            if entry.key {
                keys.push(n);
            }
        }
        assert_eq!(keys, [0, 75, 150, 225, 300, 375, 450, 525]);
        assert_eq!((groups.advice(false), groups.interval()), (None, Some(Duration::from_secs(3))));
    }

    #[test]
    fn intra_pictures_start_groups_only_without_idr_pictures_and_recovery_points() {
        // A scene change 5 s after an IDR picture: no group starts there.
        assert_eq!(run(Access::Idr, Access::Intra, 5, 11).0, [0]);
        assert_eq!(run(Access::Idr, Access::Intra, 5, 26).0, [0, 15, 20, 25]);
        assert_eq!(
            run(Access::Intra, Access::Intra, 2, 9),
            (vec![4, 6, 8], Some(Advice::OpenGroups))
        );
    }

    #[test]
    fn groups_longer_than_the_first_of_a_gridded_source_cause_advice() {
        let mut groups = Groups::default();
        for ms in [0, 2_000, 6_000, 14_000] {
            groups.enter(Access::Idr, ms.min(9_000));
        }
        assert_eq!(groups.advice(true), Some(Advice::GrowingGroups));
        assert_eq!(groups.advice(false), None);
    }
}

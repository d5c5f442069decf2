//! Decode times for video whose timestamps are presentation times in decoding order, as some
//! encoders and gateways send them.
//!
//! The decode time of a frame is the (depth + 1)th highest timestamp so far, where depth is the
//! number of frames that are shown after a frame but decoded before it. Where timestamps are in
//! decoding order depth is 0, and each is its own decode time.

use std::collections::VecDeque;

use crate::MediaSpan;

/// Maximum number of frames that a decoder reorders (ITU-T H.264 A.3.1, `max_dec_frame_buffering`).
const MAX_DEPTH: usize = 16;
/// The depth is what so many frames have needed: a timestamp that went back once is forgotten after
/// them.
const REMEMBERED: u8 = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Reorder {
    /// The highest timestamps, in ascending order; one more than [`MAX_DEPTH`] at most.
    highest: VecDeque<MediaSpan>,
    depth: usize,
    needed: Needed,
}

/// The depth that frames have needed since it was last lowered.
#[derive(Debug, Clone, Copy, Default)]
struct Needed {
    depth: usize,
    /// Number of these frames.
    frames: u8,
}

impl Reorder {
    /// Whether timestamps are not in decoding order.
    pub(super) fn is_needed(&self) -> bool {
        self.depth > 0
    }

    /// The decode time of the next frame, at or before its timestamp.
    pub(super) fn decode(&mut self, stamp: MediaSpan) -> MediaSpan {
        let later = match self.highest.back() {
            // Most timestamps are the highest so far.
            Some(&highest) if highest > stamp => {
                let place = self.highest.partition_point(|&other| other <= stamp);
                self.highest.insert(place, stamp);
                self.highest.len() - 1 - place
            }
            _ => {
                self.highest.push_back(stamp);
                0
            }
        };
        self.need(later.min(MAX_DEPTH));
        if self.highest.len() > MAX_DEPTH + 1 {
            self.highest.pop_front();
        }
        if self.depth == 0 {
            return stamp;
        }
        let index = self.highest.len().saturating_sub(1 + self.depth);
        self.highest.get(index).copied().unwrap_or(stamp).min(stamp)
    }

    fn need(&mut self, depth: usize) {
        self.depth = self.depth.max(depth);
        self.needed.depth = self.needed.depth.max(depth);
        self.needed.frames += 1;
        if self.needed.frames == REMEMBERED {
            self.depth = self.needed.depth;
            self.needed = Needed::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(stamps: &[i64]) -> Vec<i64> {
        let mut reorder = Reorder::default();
        let stamps = stamps.iter().map(|stamp| MediaSpan::from_ticks(*stamp));
        stamps.map(|stamp| reorder.decode(stamp).ticks()).collect()
    }

    #[test]
    fn timestamps_in_decoding_order_are_used_as_decode_times() {
        assert_eq!(decoded(&[0, 40, 80, 121]), [0, 40, 80, 121]);
    }

    #[test]
    fn a_single_decreasing_timestamp_stops_reordering_after_some_frames() {
        let mut reorder = Reorder::default();
        reorder.decode(MediaSpan::from_ticks(40));
        reorder.decode(MediaSpan::from_ticks(35));
        assert!(reorder.is_needed());
        let mut stamps = (2..130).map(|n| MediaSpan::from_ticks(n * 40));
        let late = stamps.by_ref().filter(|stamp| reorder.decode(*stamp) < *stamp).count();
        assert!(!reorder.is_needed() && late < 128, "{late} frames are early");
        // B-frames come more often than that.
        let stamps: Vec<i64> =
            (0..50).flat_map(|group| [0, 3, 1, 2].map(|at| group * 4 + at)).collect();
        let decoded = decoded(&stamps);
        assert!(decoded[4..].windows(2).all(|pair| pair[1] == pair[0] + 1), "{decoded:?}");
    }

    #[test]
    fn decode_times_are_derived_one_frame_late_for_b_frames_and_three_for_a_pyramid() {
        assert_eq!(decoded(&[0, 3, 1, 2, 6, 4, 5, 9, 7, 8])[4..], [3, 4, 5, 6, 7, 8]);
        let pyramid = [0, 8, 4, 2, 1, 3, 6, 5, 7, 16, 12, 10, 9, 11, 14, 13, 15, 24];
        assert_eq!(decoded(&pyramid)[8..], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    }
}

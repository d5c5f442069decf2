//! Outputs and frames for the tests of the kinds of tracks: no hub, no program.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use hex_literal::hex;
use media_core::{
    Anchor, Frame, Mark, MediaTime, Ticks, TrackName,
    codec::{Config, aac, avc},
};

use super::{Cut, cut::PendingCut, output::Output};
use crate::{Segment, window::Window};

/// Ticks of 2 s at 90 kHz.
pub(super) const T: i64 = 180_000;

/// Video of 30 frames a second.
pub(super) fn video() -> Arc<Config> {
    let record = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );
    Arc::new(Config::Avc(avc::Config::parse(&record).unwrap()))
}

/// Stereo at 48 kHz.
pub(super) fn audio() -> Arc<Config> {
    Arc::new(Config::Aac(aac::Config::parse(&hex!("1190")).unwrap()))
}

/// The output of a track with parts of 200 ms.
pub(super) fn output(config: &Arc<Config>, rendition: bool, late: bool) -> Output {
    let (part, list) = (Duration::from_millis(200), Duration::from_secs(60));
    let name = TrackName::source_video();
    let window = Window::new(name, Arc::clone(config), rendition, 0, part, list);
    let anchor = Anchor::new(Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(2_000));
    Output::new(window, Arc::clone(config), anchor, part, rendition, late)
}

/// The mark of segment `msn` at `pts`.
pub(super) fn mark(msn: u64, pts: i64) -> Mark {
    let pts = MediaTime::from_ticks(pts);
    Mark { msn, pts, gap: false, discontinuity: false }
}

/// A cut of the master at `mark`, where its segment starts.
pub(super) fn cut(mark: Mark) -> Cut {
    Cut { mark, start: mark.pts, held: false, discontinuities: 0, gridded: false }
}

/// The same, as it waits for a track whose init segment stays.
pub(super) fn pending(mark: Mark) -> PendingCut {
    PendingCut { cut: cut(mark), init: 0, config: None }
}

/// A frame that is decoded when it is shown.
pub(super) fn frame(pts: i64, key: bool) -> Frame {
    Frame {
        dts: Ticks::new(pts),
        pts: Ticks::new(pts),
        key,
        independent: key,
        mark: None,
        arrived: Instant::now(),
        payload: Bytes::from_static(&[0, 0, 0, 1, 0x65]),
    }
}

/// Number, start, duration and whether it is a gap, of each complete segment.
pub(super) fn segments(output: &Output) -> Vec<(u64, i64, i64, bool)> {
    let (first, last) = (output.window.oldest(), output.window.newest());
    let numbers = first.zip(last).map(|(first, last)| first..=last);
    let segments = numbers.into_iter().flatten().filter_map(|msn| output.segment(msn));
    let described =
        |segment: &Segment| (segment.msn, segment.start.get(), segment.duration.get(), segment.gap);
    segments.map(described).collect()
}

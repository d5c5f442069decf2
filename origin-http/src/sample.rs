//! Synthetic tracks for tests: the bytes of every part are its address, in two pieces.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use media_core::{Ticks, Timescale, codec::Config};
use net_core::Rope;
use packager::{Init, Part, Segment, Track};

/// `complete` segments of `parts` parts each from number `first` on, and after them an open one of
/// `open` parts.
pub(crate) fn track(
    name: &str,
    first: u64,
    complete: usize,
    parts: usize,
    open: Option<usize>,
) -> Track {
    let config = Arc::new(config());
    let init =
        Init { number: 0, config: Arc::clone(&config), bytes: Bytes::from_static(b"header") };
    let next = first + complete as u64;
    Track {
        name: name.parse().unwrap(),
        rendition: false,
        gridded: false,
        clock: config.timescale(),
        config,
        part_target: Duration::from_millis(234),
        peak_bps: 1,
        average_bps: 1,
        frame_rate: None,
        inits: vec![Arc::new(init)],
        segments: (first..next).map(|msn| Arc::new(segment(msn, parts, true))).collect(),
        listed_from: 0,
        withdrawn: 0,
        dependent: 0,
        open: open.map(|parts| Arc::new(segment(next, parts, false))),
        discontinuity_sequence: 0,
    }
}

/// The same part without media.
pub(crate) fn gap_of(part: &Part) -> Part {
    Part {
        start: part.start,
        duration: part.duration,
        independent: false,
        gap: true,
        bytes: Rope::default(),
    }
}

fn segment(msn: u64, parts: usize, complete: bool) -> Segment {
    let parts: Vec<_> = (0..parts).map(|index| Arc::new(part(msn, index))).collect();
    let bytes =
        if complete { Rope::concat(parts.iter().map(|part| &part.bytes)) } else { Rope::default() };
    Segment {
        msn,
        start: Ticks::ZERO,
        duration: parts.iter().map(|part| part.duration).sum(),
        init: 0,
        discontinuity: false,
        gap: false,
        independent: true,
        still: None,
        parts,
        bytes,
    }
}

fn part(msn: u64, index: usize) -> Part {
    let bytes = Rope::new([Bytes::from(format!("{msn}.")), Bytes::from(format!("{index} "))]);
    Part { start: Ticks::ZERO, duration: Ticks::new(10_000), independent: true, gap: false, bytes }
}

/// AAC at 48 kHz.
pub(crate) fn config() -> Config {
    Config::Aac(media_core::codec::aac::Config {
        record: Bytes::from_static(&[0x11, 0x90]),
        codec_string: "mp4a.40.2".into(),
        timescale: Timescale::new(48_000).unwrap(),
        channels: 2,
        frame_samples: 1_024,
    })
}

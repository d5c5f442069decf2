//! The memory limit of a broadcast, for any timestamps.

use super::*;

const MIB: usize = 1 << 20;

/// A bench whose program may hold `window_bytes`.
fn bounded(window_bytes: usize) -> Bench {
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.settings.window_bytes = window_bytes;
    bench.restart();
    bench
}

impl Bench {
    /// Sends a picture of `size` bytes. Returns the program's result.
    fn picture(
        &mut self,
        ms: i64,
        dts: i64,
        key: bool,
        size: usize,
    ) -> Result<(), super::super::Full> {
        let unit = AccessUnit {
            dts: MediaSpan::from_millis(dts),
            pts: MediaSpan::from_millis(dts),
            key,
            independent: key,
            arrived: self.at(ms),
            payload: vec![0; size].into(),
        };
        let _ = self.producer.as_ref().unwrap().push(TrackIndex::new(0), unit);
        let now = self.at(ms);
        while let Some(event) = self.consumer.try_next() {
            self.program.apply(event, now)?;
        }
        self.last = self.program.snapshot().map(|now| now.presentation).or(self.last.take());
        Ok(())
    }
}

#[test]
fn the_oldest_segments_are_removed_early_and_the_list_keeps_12_s() {
    let mut bench = bounded(8 * MIB);
    let mut newest = Vec::new();
    for n in 0..1_500i64 {
        bench.send(1, n * 40, n * 40, 0, true);
        bench.picture(n * 40, n * 40, n % 50 == 0, 20_000).unwrap();
        assert!(bench.program.bytes() <= 8 * MIB);
        let Some(presentation) = &bench.last else { continue };
        let numbers = presentation.tracks.iter();
        let first: Vec<_> = numbers.map(|track| track.listed().first().unwrap().msn).collect();
        assert!(
            newest.iter().zip(&first).all(|(before, now)| before <= now),
            "{newest:?} {first:?}"
        );
        newest = first;
    }
    let presentation = bench.last.as_ref().unwrap();
    let track = &presentation.tracks[0];
    let listed: Ticks = track.listed().map(|segment| segment.duration).sum();
    // 500 kB a second: 8 MiB hold 16 s, less the bookkeeping; three target durations are 12 s.
    assert!((12 * 90_000..17 * 90_000).contains(&listed.get()), "{listed:?}");
    assert_eq!(track.listed().len(), track.segments.len());
    assert_eq!(track.listed().newest().unwrap().msn, 1_028);
}

#[test]
fn a_stream_whose_shortest_list_exceeds_the_limit_is_refused_with_the_numbers() {
    let mut bench = bounded(4 * MIB);
    let full = (0..1_500i64).find_map(|n| bench.picture(n * 40, n * 40, n % 50 == 0, 20_000).err());
    let full = full.unwrap();
    assert_eq!((full.limit_mb, full.least_s), (4, 12));
    let words = full.to_string();
    assert!(
        words.contains("4 MiB") && words.contains("12 s") && words.contains("timestamps"),
        "{words}"
    );
    assert!(bench.program.bytes() < 5 * MIB);
    // The lists end as they should.
    bench.program.finish();
    let presentation = bench.program.snapshot().unwrap().presentation;
    assert!(presentation.ended && presentation.tracks[0].listed().len() > 1);
}

#[test]
fn memory_is_bounded_for_pictures_whose_timestamps_do_not_advance() {
    for (size, count) in [(8, 20_000), (1_000, 20_000), (100_000, 2_000)] {
        let mut bench = bounded(16 * MIB);
        let full = (0..count).find_map(|n| {
            // A thousand a second are taken.
            let full = bench.picture(n, 1_000, n % 50 == 0, size).err();
            assert!(bench.program.bytes() <= 16 * MIB + size + 1_024, "{n} pictures of {size}");
            full
        });
        assert_eq!(full.is_some(), size > 8, "pictures of {size}");
    }
}

#[test]
fn audio_queued_for_video_counts_toward_the_memory_limit() {
    let mut bench = bounded(16 * MIB);
    let mut sent = 0;
    let full = (0..200i64).find_map(|n| {
        let unit = AccessUnit {
            dts: MediaSpan::from_ticks(n),
            pts: MediaSpan::from_ticks(n),
            key: true,
            independent: true,
            arrived: bench.at(0),
            payload: vec![0; MIB].into(),
        };
        sent += MIB;
        let frame = Frame {
            dts: Ticks::new(n),
            pts: Ticks::new(n),
            key: true,
            independent: true,
            mark: None,
            arrived: unit.arrived,
            payload: unit.payload,
        };
        let now = bench.at(0);
        let full = bench.program.apply(Event::Frame { track: TrackIndex::new(1), frame }, now);
        // The units' bytes, and less than a tenth of that for the bookkeeping.
        let counted = bench.program.bytes();
        assert!((sent..sent + sent / 10).contains(&counted), "{counted} of {sent}");
        full.err()
    });
    assert!(full.is_some() && sent <= 17 * MIB, "{sent}");
}

#[test]
fn the_window_gauge_equals_the_held_bytes_and_is_zero_after_the_program_is_dropped() {
    let metrics = Metrics::default();
    let mut bench = Bench::new(tracks(AAC_48, true));
    bench.metrics = metrics.clone();
    bench.restart();
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..9.0, 0.0);
    let held = metrics.window_bytes("source").get();
    assert_eq!(usize::try_from(held).unwrap(), bench.program.bytes());
    assert!(held > 10_000 && metrics.window_bytes("rendition").get() == 0);
    drop(bench);
    assert_eq!(metrics.window_bytes("source").get(), 0);
}

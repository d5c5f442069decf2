//! Renditions on the virtual clock of a [`Bench`]: a worker that shows the source's pictures again some time later, and what must hold of
//! them beside the source.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use media_core::broadcast::Rendition;

use super::*;

/// A rendition and the worker that makes it.
pub(super) struct Rung {
    broadcast: Arc<Broadcast>,
    source: Option<Consumer>,
    rendition: Option<Rendition>,
    config: Config,
    /// How late its units are, in milliseconds.
    pub(super) delay: i64,
    /// Of two pictures it shows one.
    pub(super) halved: bool,
    /// It encodes I P B P B, in closed groups.
    pub(super) b_frames: bool,
    /// Units of it (counted since its start) that do not come.
    pub(super) lost: Vec<usize>,
    /// Source frames (counted since its start) that it cannot decode.
    pub(super) undecodable: Vec<usize>,
    decoded: usize,
    /// Decoded, to be shown when no earlier picture can come.
    pictures: Vec<i64>,
    /// Marks that no key frame was made for.
    marks: VecDeque<i64>,
    odd: bool,
    /// A picture that is encoded after the next, as a B-frame.
    held: Option<i64>,
    /// The times of pictures shown, for decode times that lie one picture before.
    times: VecDeque<i64>,
    /// Units on their way, and when they arrive.
    queue: VecDeque<(i64, AccessUnit)>,
    /// Units made since its start.
    pub(super) made: usize,
}

impl Rung {
    pub(super) fn new(broadcast: &Arc<Broadcast>, name: &str, delay: i64) -> Self {
        let Some((_, Config::Avc(avc))) = tracks(None, true).pop() else {
            panic!("video")
        };
        let config = Config::Avc(avc::Config {
            width: 320,
            height: 180,
            ..avc
        });
        Self {
            broadcast: Arc::clone(broadcast),
            source: Some(broadcast.subscribe()),
            rendition: Some(broadcast.rendition(name.parse().unwrap()).unwrap()),
            config,
            delay,
            halved: false,
            b_frames: false,
            lost: Vec::new(),
            undecodable: Vec::new(),
            decoded: 0,
            pictures: Vec::new(),
            marks: VecDeque::new(),
            odd: false,
            held: None,
            times: VecDeque::new(),
            queue: VecDeque::new(),
            made: 0,
        }
    }

    /// Audio of the source's at 44.1 kHz, whose access units lie beside the source's.
    fn of_audio(broadcast: &Arc<Broadcast>, name: &str, delay: i64) -> Self {
        let (_, config) = tracks(AAC_44, false).remove(0);
        Self {
            config,
            ..Self::new(broadcast, name, delay)
        }
    }

    /// The worker is killed: what was on its way is lost.
    pub(super) fn kill(&mut self) {
        (self.source, self.held) = (None, None);
        self.pictures.clear();
        self.marks.clear();
        self.times.clear();
        self.queue.clear();
        self.rendition.as_mut().unwrap().absent();
    }

    /// Another worker, fed from the newest group's first frame.
    pub(super) fn restart(&mut self) {
        self.source = Some(self.broadcast.subscribe());
    }

    /// Of two pictures of `fps` a second it shows one, and says so.
    fn halve(&mut self, fps: f64) {
        self.halved = true;
        if let Config::Avc(avc) = &mut self.config {
            avc.frame_rate = Some(fps / 2.0);
        }
    }

    pub(super) fn reconfigure(&mut self, width: u16) {
        if let Config::Avc(avc) = &mut self.config {
            avc.width = width.into();
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty() || !self.pictures.is_empty() || self.held.is_some()
    }

    /// What it does up to `ms`.
    pub(super) fn work(&mut self, ms: i64, now: Instant) {
        while let Some(event) = self.source.as_mut().and_then(Consumer::try_next) {
            match event {
                Event::Frame { track: 0, frame } if self.config.is_video() => self.decode(&frame, ms),
                Event::Frame { track, frame }
                    if !self.config.is_video() && !self.broadcast.tracks()[track].config.is_video() =>
                {
                    self.resample(&frame, ms);
                }
                Event::Gap(_) => self.show_until(i64::MAX, ms),
                _ => {}
            }
        }
        // A socket keeps the order.
        while let Some((_, unit)) = self.queue.pop_front_if(|(due, _)| *due <= ms) {
            let rendition = self.rendition.as_mut().unwrap();
            rendition.configure(&self.config).unwrap();
            let _ = rendition.push(AccessUnit { arrived: now, ..unit });
        }
    }

    /// Nothing follows.
    pub(super) fn flush(&mut self) {
        let last = self.queue.back().map_or(0, |(due, _)| *due - self.delay);
        self.show_until(i64::MAX, last);
        if let Some(held) = self.held.take() {
            self.emit(held, false, last);
        }
    }

    /// Units of 1024 at 44.1 kHz up to where the source's unit ends.
    fn resample(&mut self, frame: &Frame, ms: i64) {
        let until = (frame.pts + 1_024) * 90_000 / 48_000;
        let mut next = self.times.pop_front().unwrap_or(frame.pts * 90_000 / 48_000 + 313);
        while next + 2_090 <= until {
            self.times.push_back(next);
            self.emit(next, true, ms);
            next += 2_090;
        }
        self.times.push_back(next);
    }

    fn decode(&mut self, frame: &Frame, ms: i64) {
        self.show_until(frame.dts, ms);
        self.marks
            .extend(frame.mark.filter(|mark| !mark.gap).map(|mark| mark.pts));
        if !self.undecodable.contains(&self.decoded) {
            self.pictures.push(frame.pts);
            self.pictures.sort_unstable();
        }
        self.decoded += 1;
        self.show_until(frame.dts, ms);
    }

    /// No picture will be decoded that is to be shown before `until` or then.
    fn show_until(&mut self, until: i64, ms: i64) {
        while self.pictures.first().is_some_and(|pts| *pts <= until) {
            let pts = self.pictures.remove(0);
            let mut key = false;
            while self.marks.pop_front_if(|mark| *mark <= pts + 45).is_some() {
                key = true;
            }
            self.odd = !key && !self.odd;
            if !self.halved || !self.odd {
                self.encode(pts, key, ms);
            }
        }
    }

    fn encode(&mut self, pts: i64, key: bool, ms: i64) {
        if key && let Some(held) = self.held.take() {
            self.emit(held, false, ms);
        }
        if self.times.is_empty() {
            self.times.push_back(pts - if self.b_frames { 3_000 } else { 0 });
        }
        if self.b_frames || !self.times.contains(&pts) {
            self.times.push_back(pts);
        }
        match self.held.take() {
            Some(held) => {
                self.emit(pts, key, ms);
                self.emit(held, false, ms);
            }
            None if self.b_frames && !key => self.held = Some(pts),
            None => self.emit(pts, key, ms),
        }
    }

    fn emit(&mut self, pts: i64, key: bool, ms: i64) {
        let dts = self.times.pop_front().unwrap();
        self.made += 1;
        if self.lost.contains(&self.made) {
            return;
        }
        let unit = AccessUnit {
            dts,
            pts,
            key,
            independent: key,
            arrived: Instant::now(),
            payload: Bytes::copy_from_slice(&pts.to_be_bytes()),
        };
        self.queue.push_back((ms + self.delay, unit));
    }
}

/// What must hold of every video rendition beside the source, whatever came: the source's numbers, starts and durations.
pub(super) fn assert_renditions_agree(presentation: &Presentation) {
    assert_renditions_agree_but(presentation, "");
}

fn assert_renditions_agree_but(presentation: &Presentation, audio: &str) {
    let source = &presentation.tracks[0];
    let renditions = presentation.tracks.iter().filter(|track| track.rendition);
    for track in renditions.filter(|track| track.name.as_str() != audio) {
        assert_continuous(track);
        assert!(!track.segments[0].gap, "{} appears with media", track.name);
        for segment in track.segments.iter() {
            let same = source.segment(segment.msn).unwrap();
            let place =
                |segment: &crate::Segment| (segment.msn, segment.start, segment.duration, segment.discontinuity);
            let last = track.listed().newest().is_some_and(|last| last.msn == segment.msn);
            if presentation.ended && last {
                // It ends with its media.
                assert_eq!(place(segment).1, place(same).1, "{} {}", track.name, kinds(track));
                assert!(segment.duration <= same.duration, "{} {}", track.name, kinds(track));
            } else {
                assert_eq!(place(segment), place(same), "{} {}", track.name, kinds(track));
            }
            assert_eq!(
                segment.gap,
                segment.parts.iter().any(|part| part.gap),
                "{}",
                segment.msn
            );
            assert!(track.init(segment.init).is_some());
            for part in &segment.parts {
                let samples = payloads(track, part).len();
                let duration = Timescale::VIDEO.duration(part.duration);
                assert!(
                    duration <= track.part_target || samples == 1,
                    "{duration:?} of {:?}, {samples} samples in {} of {}",
                    track.part_target,
                    segment.msn,
                    track.name
                );
                assert_eq!(part.gap, part.bytes.is_empty());
            }
        }
        assert!(presentation.part_hold_back >= 3 * track.part_target);
        let listed = |track: &Track| track.listed().first().map(|segment| segment.msn);
        if listed(track) == listed(source) {
            assert_eq!(track.discontinuity_sequence, source.discontinuity_sequence);
        }
    }
}

fn named<'a>(presentation: &'a Presentation, name: &str) -> &'a Track {
    let found = presentation.tracks.iter().find(|track| track.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn kinds(track: &Track) -> String {
    track
        .segments
        .iter()
        .map(|segment| if segment.gap { 'g' } else { 'm' })
        .collect()
}

impl Bench {
    fn with_rungs(delays: &[(&str, i64)]) -> Self {
        let mut bench = Self::new(tracks(AAC_48, true));
        let broadcast = Arc::clone(&bench.program.broadcast);
        bench.rungs = delays
            .iter()
            .map(|(name, delay)| Rung::new(&broadcast, name, *delay))
            .collect();
        bench
    }

    fn act(&mut self, ms: i64, act: impl FnOnce(&mut Self) + 'static) {
        self.script.push_back((ms, Box::new(act)));
    }
}

#[test]
fn each_segment_of_every_rendition_has_the_number_start_and_duration_of_the_source() {
    for fps in [25.0, 29.97, 30.0, 60.0] {
        for group_s in [1.0, 2.0, 2.5, 8.3] {
            for b_frames in [false, true] {
                let mut bench = Bench::with_rungs(&[("v720", 120), ("v480", 350), ("v360", 90)]);
                (bench.rungs[1].halved, bench.rungs[2].b_frames) = (fps > 50.0, true);
                let group = (0..).take_while(|n| f64::from(*n) < fps * group_s - 0.5).count() as u64;
                bench.run(fps, group, b_frames, Some(48_000.0), 0.0..26.0, 0.0);
                let presentation = bench.end(26_000);
                assert_sound(presentation);
                assert_renditions_agree(presentation);
                let names: Vec<_> = presentation.tracks.iter().map(|track| track.name.as_str()).collect();
                assert_eq!(names.len(), 5, "{names:?}");
                let source = &presentation.tracks[0];
                for track in &presentation.tracks[2..] {
                    assert_eq!(track.segments.len(), source.segments.len());
                    assert!(track.segments.iter().all(|segment| !segment.gap), "{}", kinds(track));
                    assert_eq!(track.part_target, Duration::from_millis(234));
                    let rate = fps
                        / if fps > 50.0 && track.name.as_str() == "v480" {
                            2.0
                        } else {
                            1.0
                        };
                    assert!(
                        (track.frame_rate.unwrap() - rate).abs() < 0.05,
                        "{:?} of {rate}",
                        track.frame_rate
                    );
                    let (shown, sent) = (stamps(track).len(), stamps(source).len());
                    let wanted = if fps > 50.0 && track.name.as_str() == "v480" {
                        sent / 2
                    } else {
                        sent
                    };
                    assert!(shown.abs_diff(wanted) <= source.segments.len(), "{shown} of {wanted}");
                    // The source may end between a picture and one to be shown before it.
                    assert!(
                        fps > 50.0 || shown == sent || b_frames && shown + 1 == sent,
                        "{shown} of {sent}"
                    );
                }
                assert_eq!(presentation.periods.first().unwrap().inits.len(), 5);
                assert_eq!(presentation.part_hold_back, Duration::from_millis(702));
            }
        }
    }
}

/// 30 frames a second and a key frame every 2 s, for 20 s; `v720` is killed and back at these milliseconds.
fn run_with_a_death(killed: i64, back: i64, delay: i64) -> Bench {
    let mut bench = Bench::with_rungs(&[("v720", delay), ("v480", 100)]);
    bench.act(killed, |bench| bench.rungs[0].kill());
    bench.act(back, |bench| bench.rungs[0].restart());
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    bench
}

#[test]
fn a_worker_that_is_killed_and_back_within_a_segment_costs_the_rest_of_that_segment() {
    let mut bench = run_with_a_death(8_900, 9_300, 150);
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let [killed, other] = ["v720", "v480"].map(|name| named(presentation, name));
    assert_eq!(kinds(killed), "mmmmgmmmmm");
    assert_eq!(kinds(other), "mmmmmmmmmm");
    let hit = &killed.segments[4];
    let gaps = hit.parts.iter().map(|part| part.gap);
    let first = gaps.clone().take_while(|gap| !gap).count();
    assert!(
        (3..=4).contains(&first),
        "0.75 s of 2 had come, in parts of 0.2 s: {first}"
    );
    assert!(gaps.skip(first).all(|gap| gap));
    assert!(!hit.bytes.is_empty());
}

#[test]
fn a_rendition_is_gaps_while_nobody_makes_it_and_starts_at_the_next_mark_when_it_is_back() {
    for (killed, back, wanted) in [
        // Dead for two marks and back in the middle.
        (8_900, 13_000, "mmmmgggmmm"),
        // What it had on its way as the segment ended is lost with it, and all of the next.
        (9_900, 12_100, "mmmmggmmmm"),
        // No more than a part of it: the last picture is shown for so long.
        (10_050, 12_100, "mmmmmgmmmm"),
        // Back in time for the mark's own picture, since a new worker begins with the newest group.
        (8_900, 10_300, "mmmmgmmmmm"),
        // All of one segment had come and nothing of the next.
        (10_160, 10_300, "mmmmmmmmmm"),
        (10_400, 10_500, "mmmmmgmmmm"),
        // Not any more.
        (8_900, 21_000, "mmmmgggggg"),
    ] {
        let mut bench = run_with_a_death(killed, back, 150);
        let presentation = bench.end(20_000);
        assert_sound(presentation);
        assert_renditions_agree(presentation);
        let case = format!("{killed} to {back}");
        assert_eq!(kinds(named(presentation, "v720")), wanted, "{case}");
        assert_eq!(kinds(named(presentation, "v480")), "mmmmmmmmmm", "{case}");
    }
}

#[test]
fn gaps_of_a_rendition_are_told_in_step_with_the_source() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].kill());
    for ms in (10_000..20_000).step_by(170) {
        bench.act(ms, move |bench| {
            let last = bench.last.as_ref().unwrap();
            let end = |track: &Track| track.open.as_ref().map_or(0, |open| open.end());
            let behind = end(&last.tracks[0]) - end(named(last, "v720"));
            // Patience, a part, and what the source has not told of yet.
            assert!((0..90 * 1_200).contains(&behind), "{behind} at {ms}");
        });
    }
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    assert_eq!(bench.script.len(), 0);
    assert_renditions_agree(bench.end(20_000));
}

#[test]
fn a_worker_slower_than_patience_is_given_up_and_counted() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].delay = 8_000);
    bench.act(22_000, |bench| {
        assert_eq!(bench.program.metrics.renditions_late.get(), 1);
        bench.rungs[0].kill();
        bench.rungs[0].delay = 150;
        bench.rungs[0].restart();
    });
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..30.0, 0.0);
    let presentation = bench.end(30_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    assert_eq!(kinds(named(presentation, "v720")), "mmmmgggggggmmmm");
}

#[test]
fn a_worker_that_stalls_for_a_while_loses_nothing() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].delay = 4_000);
    bench.act(11_000, |bench| bench.rungs[0].delay = 150);
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..20.0, 0.0);
    let presentation = bench.end(20_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!((kinds(track).as_str(), stamps(track).len()), ("mmmmmmmmmm", 600));
}

#[test]
fn pictures_that_the_worker_cannot_decode_are_bridged_and_the_segment_starts_at_the_mark() {
    // The mark's own picture, one amid the segment, five before a mark and four from a mark on.
    for lost in [
        vec![120],
        vec![150],
        vec![175, 176, 177, 178, 179],
        vec![180, 181, 182, 183],
    ] {
        for b_frames in [false, true] {
            let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
            (bench.rungs[0].undecodable, bench.rungs[0].b_frames) = (lost.clone(), b_frames);
            bench.run(30.0, 60, false, Some(48_000.0), 0.0..12.0, 0.0);
            let presentation = bench.end(12_000);
            assert_sound(presentation);
            assert_renditions_agree(presentation);
            let track = named(presentation, "v720");
            assert_eq!(kinds(track), "mmmmmm", "{lost:?}");
            assert_eq!(stamps(track).len(), 360 - lost.len(), "{lost:?}");
            assert!(track.segments.iter().all(|segment| segment.parts[0].independent));
        }
    }
}

#[test]
fn a_hole_in_a_rendition_is_a_gap_up_to_the_next_mark() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.rungs[0].undecodable = (125..175).collect();
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..12.0, 0.0);
    let presentation = bench.end(12_000);
    assert_renditions_agree(presentation);
    assert_eq!(kinds(named(presentation, "v720")), "mmgmmm");
}

#[test]
fn the_first_snapshot_waits_for_renditions_but_not_for_ever() {
    // Renditions whose first segment is complete 2.6 s after the source's, and one that never comes.
    let first = |delay: i64, dead: bool| {
        let mut bench = Bench::with_rungs(&[("v720", delay), ("v480", 100)]);
        if dead {
            bench.rungs[0].kill();
        }
        let mut shown = None;
        for n in 0..400i64 {
            bench.send(0, n * 40, n * 40, 0, n % 50 == 0);
            bench.send(1, n * 40, n * 40, 0, true);
            shown = shown.or(bench.last.as_ref().map(|last| (n * 40, last.tracks.len())));
        }
        let presentation = bench.end(16_000);
        assert_renditions_agree(presentation);
        (shown.unwrap(), presentation.tracks.len(), presentation.periods.len())
    };
    let (shown, tracks, periods) = first(2_600, false);
    assert_eq!((tracks, periods), (4, 1));
    assert!(shown.1 == 4 && (4_600..4_800).contains(&shown.0), "{shown:?}");
    let (shown, tracks, periods) = first(100, true);
    assert_eq!((tracks, periods), (3, 1));
    assert!(shown.1 == 3 && (6_000..6_100).contains(&shown.0), "{shown:?}");
}

#[test]
fn a_late_rendition_has_the_sources_numbers_and_a_period_from_the_next_mark_on() {
    let mut bench = Bench::with_rungs(&[("v720", 100)]);
    bench.act(9_100, |bench| {
        let broadcast = Arc::clone(&bench.program.broadcast);
        bench.rungs.push(Rung::new(&broadcast, "v360", 300));
    });
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    let held_back = bench.last.as_ref().unwrap().part_hold_back;
    let presentation = bench.end(20_000);
    assert_sound_but_late(presentation);
    assert_renditions_agree(presentation);
    let late = named(presentation, "v360");
    assert_eq!(late.segments.first().unwrap().msn, 1_004);
    assert_eq!(presentation.tracks[3].name, late.name);
    assert_eq!(presentation.part_hold_back, held_back);
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(3)))
        .collect();
    assert_eq!(periods, [(1_000, None), (1_006, Some(0))]);
}

/// [`assert_sound`] for what does not have all the source's segments.
fn assert_sound_but_late(presentation: &Presentation) {
    let newest = presentation.tracks[0].segments.last().unwrap().msn;
    for track in &presentation.tracks {
        assert_continuous(track);
        assert_eq!(track.segments.last().unwrap().msn, newest, "{}", track.name);
    }
}

#[test]
fn a_late_rendition_agrees_on_discontinuities() {
    let mut bench = Bench::with_rungs(&[("v720", 100)]);
    let source = |bench: &Bench, width: u16| {
        let Some((_, Config::Avc(avc))) = tracks(None, true).pop() else {
            panic!("video")
        };
        let config = Config::Avc(avc::Config {
            width: width.into(),
            ..avc
        });
        bench.producer.as_ref().unwrap().configure(0, &config).unwrap();
    };
    bench.act(3_000, move |bench| source(bench, 720));
    bench.act(9_100, |bench| {
        let broadcast = Arc::clone(&bench.program.broadcast);
        bench.rungs.push(Rung::new(&broadcast, "v360", 300));
    });
    bench.act(11_000, move |bench| source(bench, 640));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
    let presentation = bench.end(20_000);
    assert_renditions_agree(presentation);
    let (source, late) = (&presentation.tracks[0], named(presentation, "v360"));
    let sequence = source.discontinuity_sequence;
    assert_eq!(late.discontinuity_sequence, sequence + 1);
    assert_eq!(source.discontinuities(), late.discontinuities());
    // Another init segment at each discontinuity, whether or not it says anything else.
    let inits = |track: &Track| track.segments.iter().map(|segment| segment.init).collect::<Vec<_>>();
    assert_eq!(inits(named(presentation, "v720")), [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    for period in presentation.periods.iter() {
        for (index, track) in presentation.tracks.iter().enumerate() {
            let Some(init) = period.init(index) else { continue };
            assert_eq!(track.segment(period.first).unwrap().init, init, "{}", track.name);
        }
    }
}

#[test]
fn another_configuration_of_a_rendition_takes_effect_at_the_next_mark_that_knows_it() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.act(8_900, |bench| bench.rungs[0].reconfigure(400));
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..16.0, 0.0);
    let presentation = bench.end(16_000);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!(kinds(track), "mmmmgmmm");
    assert_eq!(
        track.segments.iter().map(|segment| segment.init).collect::<Vec<_>>(),
        [0, 0, 0, 0, 0, 1, 1, 1]
    );
    let index = presentation
        .tracks
        .iter()
        .position(|other| other.name == track.name)
        .unwrap();
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(index)))
        .collect();
    assert_eq!(periods, [(1_000, Some(0)), (1_005, Some(1))]);
    assert_eq!(presentation.periods[1].continues, None);
}

#[test]
fn a_publisher_that_goes_and_returns_leaves_the_renditions_in_step() {
    for (other, worker_dies) in [(false, false), (true, false), (false, true), (true, true)] {
        for b_frames in [false, true] {
            let mut bench = Bench::with_rungs(&[("v720", 300), ("v480", 100)]);
            bench.run(30.0, 60, b_frames, Some(48_000.0), 0.0..5.0, 0.0);
            bench.producer.take().unwrap().leave(bench.at(5_000));
            if worker_dies {
                bench.act(6_000, |bench| bench.rungs.iter_mut().for_each(Rung::kill));
            }
            bench.tick(5_000..9_000);
            let mut again = tracks(AAC_48, true);
            if let (true, (_, Config::Avc(avc))) = (other, &mut again[0]) {
                avc.width = 480;
            }
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            bench.producer = Some(claim.start(again, bench.at(9_000), SystemTime::UNIX_EPOCH).unwrap());
            if worker_dies {
                bench.rungs.iter_mut().for_each(Rung::restart);
            }
            if other {
                bench.rungs.iter_mut().for_each(|rung| rung.reconfigure(240));
            }
            bench.run(30.0, 60, b_frames, Some(48_000.0), 9.0..14.0, 9.0);
            let presentation = bench.end(14_000);
            assert_sound(presentation);
            assert_renditions_agree(presentation);
            for name in ["v720", "v480"] {
                let track = named(presentation, name);
                assert_eq!(kinds(track), "mmmggmmm", "{name} {other} {worker_dies} {b_frames}");
                let inits: Vec<_> = track.segments.iter().map(|segment| segment.init).collect();
                assert_eq!(inits[5..], [u32::from(other); 3], "{name}");
            }
            let periods: Vec<_> = presentation
                .periods
                .iter()
                .map(|period| (period.first, &period.inits[2..]))
                .collect();
            let init = Some(u32::from(other));
            assert_eq!(periods, [(1_000, &[Some(0); 2][..]), (1_005, &[init; 2][..])]);
        }
    }
}

#[test]
fn a_worker_that_follows_another_at_a_mark_makes_no_period() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    // The first worker's tail has come as the mark's own frame does, and the next begins with that.
    bench.act(10_100, |bench| {
        let rung = &mut bench.rungs[0];
        rung.queue.retain(|(_, unit)| unit.pts < 900_000 + 10 * 90_000);
        for (due, _) in &mut rung.queue {
            *due = 10_100;
        }
    });
    bench.act(10_101, |bench| {
        bench.rungs[0].kill();
        bench.rungs[0].restart();
    });
    bench.run(30.0, 60, false, Some(48_000.0), 0.0..16.0, 0.0);
    let presentation = bench.end(16_000);
    assert_renditions_agree(presentation);
    let track = named(presentation, "v720");
    assert_eq!((kinds(track).as_str(), stamps(track).len()), ("mmmmmmmm", 480));
    assert_eq!(presentation.periods.len(), 1);
}

#[test]
fn a_gridded_source_has_renditions_that_are_not() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
    bench.run(30.0, 1_000, true, Some(48_000.0), 0.0..27.0, 0.0);
    let presentation = bench.end(27_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let source = &presentation.tracks[0];
    assert!(source.gridded && source.segments.iter().any(|segment| !segment.independent));
    for name in ["v720", "v480"] {
        let track = named(presentation, name);
        assert!(
            !track.gridded
                && track
                    .segments
                    .iter()
                    .all(|segment| segment.parts[0].independent && !segment.gap)
        );
    }
    let gridded: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.gridded))
        .collect();
    assert_eq!(gridded, [(1_000, false), (1_001, true)]);
    let text = String::from_utf8(presentation.multivariant().plain().to_vec()).unwrap();
    assert!(!text.contains("v0.m3u8") && text.contains("v720.m3u8"), "{text}");
}

#[test]
fn segments_that_start_at_recovery_points_are_not_listed_as_independent() {
    let mut bench = Bench::with_rungs(&[("v720", 150)]);
    bench.open_gop = true;
    bench.run(30.0, 60, true, Some(48_000.0), 0.0..9.0, 0.0);
    let presentation = bench.end(9_000);
    assert_sound(presentation);
    assert_renditions_agree(presentation);
    let source = &presentation.tracks[0];
    let independent = |track: &Track| -> Vec<_> {
        let segments = track.segments.iter();
        segments
            .map(|segment| (segment.independent, segment.parts[0].independent))
            .collect()
    };
    assert_eq!(
        independent(source),
        [
            (true, true),
            (false, false),
            (false, false),
            (false, false),
            (false, false)
        ]
    );
    assert_eq!(independent(named(presentation, "v720")), [(true, true); 5]);
    assert!(source.gridded);
    let playlist = String::from_utf8(presentation.media_playlist(0, crate::Skip::No).plain().to_vec()).unwrap();
    assert!(!playlist.contains("EXT-X-INDEPENDENT-SEGMENTS"), "{playlist}");
    let manifest = String::from_utf8(presentation.manifest().plain().to_vec()).unwrap();
    let last = manifest.rsplit("<Period").next().unwrap();
    assert_eq!(
        last.matches("startWithSAP").count(),
        2,
        "the rendition and the audio: {manifest}"
    );
    let text = String::from_utf8(presentation.multivariant().plain().to_vec()).unwrap();
    assert!(!text.contains("v0.m3u8") && text.contains("v720.m3u8"), "{text}");
}

#[test]
fn periods_have_the_renditions_that_are_there() {
    let mut bench = run_with_a_death(8_900, 13_000, 150);
    let presentation = bench.end(20_000);
    let index = presentation
        .tracks
        .iter()
        .position(|track| track.name.as_str() == "v720")
        .unwrap();
    let periods: Vec<_> = presentation
        .periods
        .iter()
        .map(|period| (period.first, period.init(index)))
        .collect();
    assert_eq!(periods, [(1_000, Some(0)), (1_005, None), (1_007, Some(0))]);
    assert_eq!(presentation.periods[1].continues, Some(1_000));
    assert_eq!(presentation.periods[2].continues, Some(1_005));
}

#[test]
fn a_part_of_a_rendition_that_is_hinted_at_comes() {
    let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 470)]);
    let hints = Rc::new(RefCell::new(Vec::new()));
    for ms in (3_000..16_000).step_by(20) {
        let hints = Rc::clone(&hints);
        bench.act(ms, move |bench| {
            let tracks = bench.last.as_ref().map(|last| &last.tracks[2..]).unwrap_or_default();
            let open = tracks
                .iter()
                .filter_map(|track| track.open.as_ref().map(|open| (&track.name, open)));
            let hinted = open.map(|(name, open)| (name.to_string(), open.msn, open.parts.len()));
            hints.borrow_mut().extend(hinted);
        });
    }
    bench.run(25.0, 48, false, Some(48_000.0), 0.0..18.0, 0.0);
    let presentation = bench.end(18_000);
    assert!(hints.borrow().len() > 1_000);
    for (name, msn, part) in hints.borrow().iter() {
        let parts = named(presentation, name).segment(*msn).unwrap().parts.len();
        assert!(parts > *part, "part {part} of {msn} in {name} was hinted at");
    }
}

#[test]
fn audio_alone_may_have_a_rendition() {
    let mut bench = Bench::new(tracks(AAC_48, false));
    let broadcast = Arc::clone(&bench.program.broadcast);
    bench.rungs.push(Rung::of_audio(&broadcast, "a64", 300));
    for n in 0..500i64 {
        let ms = n * 1_024 * 1_000 / 48_000;
        bench.send(0, ms, ms, 0, true);
    }
    let presentation = bench.end(10_640);
    assert_sound(presentation);
    let [source, audio] = &presentation.tracks[..] else {
        panic!("two tracks")
    };
    assert_eq!((kinds(source), kinds(audio)), ("mmmmmm".into(), "mmmmmm".into()));
    assert!(bench.program.metrics.audio.silence.get() <= 3);
}

#[test]
fn an_audio_rendition_is_cut_like_any_audio() {
    for delay in [60, 400, 900] {
        let mut bench = Bench::with_rungs(&[("v720", 150)]);
        let broadcast = Arc::clone(&bench.program.broadcast);
        bench.rungs.push(Rung::of_audio(&broadcast, "a64", delay));
        bench.run(30.0, 60, true, Some(48_000.0), 0.0..20.0, 0.0);
        let presentation = bench.end(20_000);
        assert_sound(presentation);
        assert_renditions_agree_but(presentation, "a64");
        let (source, audio) = (&presentation.tracks[0], named(presentation, "a64"));
        assert_eq!(kinds(audio), "mmmmmmmmmm");
        for (segment, same) in audio.segments.iter().zip(source.segments.iter()) {
            let late = audio.timescale().rescale(segment.start, Timescale::VIDEO) - same.start;
            assert!(
                (-1..=2_100).contains(&late),
                "{late} in {} after {delay} ms",
                segment.msn
            );
        }
        let silent = bench.program.metrics.audio.silence.get();
        assert!(silent <= 3, "{silent} after {delay} ms");
        assert_eq!(bench.last.as_ref().unwrap().periods[0].inits.len(), 4);
    }
}

/// What happens to a worker in a random run.
#[derive(Debug, Clone)]
enum Fate {
    Delayed(i64),
    Killed,
    Restarted,
    /// From its n-th unit on so many do not come.
    Loses(usize, usize),
    Blind(usize, usize),
    Reconfigured(u16),
}

fn fate() -> impl proptest::strategy::Strategy<Value = Fate> {
    use proptest::prelude::*;
    prop_oneof![
        3 => (0i64..900).prop_map(Fate::Delayed),
        1 => (900i64..7_000).prop_map(Fate::Delayed),
        2 => Just(Fate::Killed),
        3 => Just(Fate::Restarted),
        2 => (0usize..600, 1usize..80).prop_map(|(from, count)| Fate::Loses(from, count)),
        2 => (0usize..600, 1usize..80).prop_map(|(from, count)| Fate::Blind(from, count)),
        1 => (100u16..900).prop_map(Fate::Reconfigured),
    ]
}

impl Rung {
    fn suffer(&mut self, fate: Fate) {
        match fate {
            Fate::Delayed(delay) => self.delay = delay,
            Fate::Killed => self.kill(),
            Fate::Restarted => {
                self.kill();
                self.restart();
            }
            Fate::Loses(from, count) => self.lost.extend(from..from + count),
            Fate::Blind(from, count) => self.undecodable.extend(from..from + count),
            Fate::Reconfigured(width) => self.reconfigure(width),
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_becomes_of_its_worker_a_rendition_has_the_sources_segments(
        rate in 2usize..8, group in 20u64..150, b_frames: bool, encodes_b_frames: bool, halved: bool, away in 0i64..5_000, other: bool,
        fates in proptest::collection::vec((0i64..24_000, 0usize..2, fate()), 0..12),
    ) {
        let mut bench = Bench::with_rungs(&[("v720", 150), ("v480", 100)]);
        let (fps, _) = RATES[rate];
        bench.rungs[0].b_frames = encodes_b_frames;
        if halved {
            bench.rungs[1].halve(fps);
        }
        let mut fates = fates;
        fates.sort_by_key(|(at, ..)| *at);
        for (at, rung, fate) in fates {
            bench.act(at, move |bench| bench.rungs[rung].suffer(fate));
        }
        bench.run(fps, group, b_frames, Some(48_000.0), 0.0..12.0, 0.0);
        let mut back = 12_000;
        if away > 500 {
            bench.producer.take().unwrap().leave(bench.at(12_000));
            back += away;
            bench.tick(12_000..back);
            let mut again = tracks(AAC_48, true);
            if let (true, (_, Config::Avc(avc))) = (other, &mut again[0]) {
                avc.width = 480;
            }
            let claim = bench.hub.claim("demo".parse().unwrap()).unwrap();
            bench.producer = Some(claim.start(again, bench.at(back), SystemTime::UNIX_EPOCH).unwrap());
        }
        let from = f64::from(i32::try_from(back).unwrap()) / 1_000.0;
        bench.run(fps, group, b_frames, Some(48_000.0), from..from + 10.0, if away > 500 { from } else { 0.0 });
        let presentation = bench.end(back + 10_000);
        assert_sound_but_late(presentation);
        assert_renditions_agree(presentation);
        for period in presentation.periods.iter() {
            for (index, track) in presentation.tracks.iter().enumerate() {
                let Some(init) = period.init(index) else { continue };
                for msn in period.first..period.last.map_or(period.first, |(last, _)| last) {
                    // What a Period says of a rendition is so, or it has nothing there.
                    let segment = track.segment(msn);
                    assert!(segment.is_none_or(|segment| segment.gap || segment.init == init), "{msn} of {}", track.name);
                }
            }
        }
    }
}

//! Renditions on the virtual clock of a [`Bench`]: a worker that shows the source's pictures again some time later, and what must hold of
//! them beside the source.

use std::collections::VecDeque;

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
                Event::Frame { track: 0, frame } => self.decode(&frame, ms),
                Event::Gap(_) => self.show_until(i64::MAX, ms),
                _ => {}
            }
        }
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
        let unit = AccessUnit {
            dts,
            pts,
            key,
            arrived: Instant::now(),
            payload: Bytes::copy_from_slice(&pts.to_be_bytes()),
        };
        self.queue.push_back((ms + self.delay, unit));
    }
}

/// What must hold of every video rendition beside the source, whatever came: the source's numbers, starts and durations.
pub(super) fn assert_renditions_agree(presentation: &Presentation) {
    let source = &presentation.tracks[0];
    for track in presentation.tracks.iter().filter(|track| track.rendition) {
        assert_continuous(track);
        assert!(!track.segments[0].gap, "{} appears with media", track.name);
        for segment in track.segments.iter() {
            let same = source.segment(segment.msn).unwrap();
            let place =
                |segment: &crate::Segment| (segment.msn, segment.start, segment.duration, segment.discontinuity);
            assert_eq!(place(segment), place(same), "{} {}", track.name, kinds(track));
            assert_eq!(
                segment.gap,
                segment.parts.iter().any(|part| part.gap),
                "{}",
                segment.msn
            );
            assert!(track.init(segment.init).is_some());
            for part in &segment.parts {
                let samples = part.bytes.pieces().count().saturating_sub(1);
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

//! A worker that makes a rendition on the virtual clock of a [`Bench`]: it shows the source's
//! pictures again some time later.

use media_core::{Broadcast, MediaSpan, broadcast::Rendition};

use super::*;

/// A rendition and the worker that makes it.
pub(super) struct Rung {
    broadcast: Arc<Broadcast>,
    source: Option<Consumer>,
    rendition: Option<Rendition>,
    config: Config,
    /// How late its units are, in milliseconds.
    pub(super) delay: i64,
    /// No unit arrives before this time, in milliseconds.
    pub(super) stalled: i64,
    /// Of two pictures it shows one.
    pub(super) halved: bool,
    /// It encodes I P B P B, in closed groups.
    pub(super) b_frames: bool,
    /// Units of it (counted since its start) that are lost.
    pub(super) lost: Vec<usize>,
    /// Source frames (counted since its start) that it cannot decode.
    pub(super) undecodable: Vec<usize>,
    decoded: usize,
    /// Decoded, to be shown when no earlier picture can follow.
    pictures: Vec<i64>,
    /// Marks that no key frame was made for.
    marks: VecDeque<i64>,
    odd: bool,
    /// A picture that is encoded after the next, as a B-frame.
    held: Option<i64>,
    /// The times of pictures shown, for decode times that lie one picture before.
    times: VecDeque<i64>,
    /// Units on their way.
    pub(super) queue: VecDeque<Sent>,
    /// Units made since its start.
    pub(super) made: usize,
}

/// A unit on its way.
pub(super) struct Sent {
    /// When it arrives, in milliseconds.
    pub(super) due: i64,
    pub(super) unit: AccessUnit,
}

impl Rung {
    pub(super) fn new(broadcast: &Arc<Broadcast>, name: &str, delay: i64) -> Self {
        let Some((_, Config::Avc(avc))) = tracks(None, true).pop() else { panic!("video") };
        let config = Config::Avc(avc::Config { width: 320, height: 180, ..avc });
        Self {
            broadcast: Arc::clone(broadcast),
            source: Some(broadcast.subscribe()),
            rendition: Some(broadcast.rendition(name.parse().unwrap()).unwrap()),
            config,
            delay,
            stalled: 0,
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
    pub(super) fn of_audio(broadcast: &Arc<Broadcast>, name: &str, delay: i64) -> Self {
        let (_, config) = tracks(AAC_44, false).remove(0);
        Self { config, ..Self::new(broadcast, name, delay) }
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

    /// Of two pictures of `fps` a second it shows one, and its configuration has that rate.
    pub(super) fn halve(&mut self, fps: f64) {
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

    /// Decodes, encodes and sends up to `ms`.
    pub(super) fn work(&mut self, ms: i64, now: Instant) {
        while let Some(event) = self.source.as_mut().and_then(Consumer::try_next) {
            match event {
                Event::Frame { track: TrackIndex::FIRST, frame } if self.config.is_video() => {
                    self.decode(&frame, ms)
                }
                Event::Frame { track, frame }
                    if !self.config.is_video()
                        && !self.broadcast.tracks()[track.get()].config.is_video() =>
                {
                    self.resample(&frame, ms);
                }
                Event::Gap(_) => self.show_until(i64::MAX, ms),
                _ => {}
            }
        }
        // A socket keeps the order.
        while let Some(Sent { unit, .. }) = self.queue.pop_front_if(|sent| sent.due <= ms) {
            let rendition = self.rendition.as_mut().unwrap();
            rendition.configure(&self.config).unwrap();
            let _ = rendition.push(AccessUnit { arrived: now, ..unit });
        }
    }

    /// Nothing follows.
    pub(super) fn flush(&mut self) {
        let last = self.queue.back().map_or(0, |sent| sent.due - self.delay);
        self.show_until(i64::MAX, last);
        if let Some(held) = self.held.take() {
            self.emit(held, false, last);
        }
    }

    /// Units of 1024 at 44.1 kHz up to where the source's unit ends.
    fn resample(&mut self, frame: &Frame, ms: i64) {
        let until = (frame.pts.get() + 1_024) * 90_000 / 48_000;
        let mut next = self.times.pop_front().unwrap_or(frame.pts.get() * 90_000 / 48_000 + 313);
        while next + 2_090 <= until {
            self.times.push_back(next);
            self.emit(next, true, ms);
            next += 2_090;
        }
        self.times.push_back(next);
    }

    fn decode(&mut self, frame: &Frame, ms: i64) {
        self.show_until(frame.dts.get(), ms);
        self.marks.extend(frame.mark.filter(|mark| !mark.gap).map(|mark| mark.pts.ticks()));
        if !self.undecodable.contains(&self.decoded) {
            self.pictures.push(frame.pts.get());
            self.pictures.sort_unstable();
        }
        self.decoded += 1;
        self.show_until(frame.dts.get(), ms);
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
            dts: MediaSpan::from_ticks(dts),
            pts: MediaSpan::from_ticks(pts),
            key,
            independent: key,
            arrived: Instant::now(),
            payload: Bytes::copy_from_slice(&pts.to_be_bytes()),
        };
        self.queue.push_back(Sent { due: (ms + self.delay).max(self.stalled), unit });
    }
}

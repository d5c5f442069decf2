//! Samples of delivered media: each segment or part that was sent to its end, with the viewer, the
//! media time and the player's report. They are the ground for views and watch time; nothing is
//! counted here.
//!
//! Requests pay for little: a hash, a copy of the report, and two moves under a lock that only the
//! threads of one shard share. Samples are made once and used again, so that nothing is allocated
//! for a request. There are at most [`MAX_SAMPLES`]; a request beyond that is not sampled, and
//! counted as lost.
//!
//! A viewer is a hash of address and user agent under a key that changes each day. Neither address
//! nor hash is stored on a disk.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::{Method, header::USER_AGENT, request::Parts};
use http_server::{Arrival, Client};
use media_core::{BroadcastId, ChannelName, Ticks, TrackName};
use net_core::Host;
use packager::{Live, Track};
use prometheus_client::{metrics::counter::Counter, registry::Registry};

use crate::{
    cmcd::{Cmcd, Malformed, Raw},
    resource::Object,
};

/// Greatest number of samples: of responses that are being sent or wait, and of those that were
/// sent since the last collection.
pub(crate) const MAX_SAMPLES: usize = 32_768;
/// Number of locks.
const SHARDS: usize = 16;

/// The secret of a day, under which viewers are hashed.
pub type Key = [u8; 16];

/// Takes samples of requests. Clones are one.
#[derive(Clone)]
pub struct Sampler(Arc<Shared>);

struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    keys: ArcSwap<Keys>,
    /// Specific to this process.
    hasher: RandomState,
    /// Whether no more samples are taken.
    closed: AtomicBool,
    /// Number of samples that exist.
    made: AtomicUsize,
    /// The empty list of the next collection.
    spare: Mutex<Samples>,
    lost: Counter,
}

/// Samples that wait. Their boxes go to the bodies of responses and return.
type Samples = Vec<Box<Sample>>;

/// The samples whose requests began on some threads.
#[derive(Default)]
struct Shard {
    free: Samples,
    /// Those of delivered media, which wait for collection.
    done: Samples,
}

/// The present key, and the one before for a while, so that viewers are recognised at the change.
#[derive(Clone, Copy)]
struct Keys {
    present: Key,
    before: Option<Key>,
}

/// A sample, empty or of one request.
struct Sample {
    /// Where it belongs, while it is in use.
    home: Option<Arc<Shared>>,
    shard: usize,
    viewer: u64,
    viewer_before: Option<u64>,
    host: u64,
    report: Raw,
    media: Option<Delivery>,
}

/// Media of a response that is being sent.
pub(crate) struct Delivery {
    live: Arc<Live>,
    track: TrackName,
    is_video: bool,
    span: Span,
    bytes: u64,
}

/// The media time of an object, in milliseconds since the start of its broadcast's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start_ms: u64,
    duration_ms: u64,
}

/// Media that were delivered to a viewer.
#[derive(Debug)]
pub struct Delivered<'a> {
    /// The viewer, as far as the address and the user agent distinguish it.
    pub viewer: u64,
    /// The same viewer under the key before the last change.
    pub viewer_before: Option<u64>,
    /// The viewer's host, the same for all viewers with its address (IPv6: of its /64).
    pub host: u64,
    /// The channel.
    pub channel: &'a ChannelName,
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// The track.
    pub track: &'a TrackName,
    /// Whether the track is video.
    pub is_video: bool,
    /// The start of the media on the broadcast's timeline, in milliseconds.
    pub start_ms: u64,
    /// Their duration; 0 if only a range of the object was sent.
    pub duration_ms: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// The player's report, if the request had one.
    pub report: Option<Result<Cmcd<'a>, Malformed>>,
}

/// The sample of a request, until its response is known. Dropping it discards the sample.
pub(crate) struct Sampled(Option<Box<Sample>>);

impl Sampler {
    /// A sampler with the key of the first day.
    pub fn new(key: Key) -> Self {
        Self(Arc::new(Shared {
            shards: Default::default(),
            keys: ArcSwap::from_pointee(Keys { present: key, before: None }),
            hasher: RandomState::new(),
            closed: AtomicBool::new(false),
            made: AtomicUsize::new(0),
            spare: Mutex::default(),
            lost: Counter::default(),
        }))
    }

    /// Adds its metric to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "view_samples_lost",
            "Requests for media that were not sampled, because too many samples were in use",
            self.0.lost.clone(),
        );
    }

    /// Changes the key. Viewers are hashed under the old one, too, until [`Self::forget_key`].
    pub fn change_key(&self, key: Key) {
        let before = Some(self.0.keys.load().present);
        self.0.keys.store(Arc::new(Keys { present: key, before }));
    }

    /// Forgets the key before the present one.
    pub fn forget_key(&self) {
        let present = self.0.keys.load().present;
        self.0.keys.store(Arc::new(Keys { present, before: None }));
    }

    /// Takes no more samples.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Passes on the media that were delivered since the last call.
    pub fn collect(&self, mut each: impl FnMut(Delivered<'_>)) {
        // Held meanwhile, so that there is one collection at a time.
        let mut batch = lock(&self.0.spare);
        for shard in &self.0.shards {
            mem::swap(&mut lock(shard).done, &mut *batch);
            for sample in batch.iter_mut() {
                let Some(Delivery { live, track, is_video, span, bytes }) = sample.media.take()
                else {
                    continue;
                };
                each(Delivered {
                    viewer: sample.viewer,
                    viewer_before: sample.viewer_before,
                    host: sample.host,
                    channel: live.channel(),
                    broadcast: live.broadcast(),
                    track: &track,
                    is_video,
                    start_ms: span.start_ms,
                    duration_ms: span.duration_ms,
                    bytes,
                    report: sample.report.parse(),
                });
            }
            // The emptied list becomes the next shard's, with its memory.
            lock(shard).free.append(&mut batch);
        }
    }

    /// Begins to sample a request for media of this process.
    pub(crate) fn begin(&self, head: &Parts, client: Client) -> Sampled {
        let shared = &self.0;
        // A process of this daemon forwards requests of its own clients.
        if client.ours || head.method != Method::GET || shared.closed.load(Ordering::Relaxed) {
            return Sampled::NONE;
        }
        let shard = own_shard();
        let free = lock(&shared.shards[shard]).free.pop();
        let Some(mut sample) = free.or_else(|| shared.make(shard)) else {
            shared.lost.inc();
            return Sampled::NONE;
        };
        let agent = head.headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        let keys = shared.keys.load();
        let address = client.peer.ip();
        sample.viewer = shared.viewer(keys.present, address, agent);
        sample.host = shared.hasher.hash_one((keys.present, Host::of(address)));
        sample.viewer_before = keys.before.map(|key| shared.viewer(key, address, agent));
        sample.report.copy(head.uri.query(), &head.headers);
        sample.home = Some(Arc::clone(shared));
        Sampled(Some(sample))
    }
}

impl Shared {
    fn viewer(&self, key: Key, address: IpAddr, agent: Option<&[u8]>) -> u64 {
        self.hasher.hash_one((key, address, agent))
    }

    /// Another sample, if there may be one.
    fn make(&self, shard: usize) -> Option<Box<Sample>> {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        if made >= MAX_SAMPLES {
            self.made.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Box::new(Sample {
            home: None,
            shard,
            viewer: 0,
            viewer_before: None,
            host: 0,
            report: Raw::default(),
            media: None,
        }))
    }
}

impl Sample {
    /// Gives the sample back, for collection if its media were delivered.
    fn finish(mut self: Box<Self>, delivered: bool) {
        let Some(home) = self.home.take() else { return };
        if !delivered {
            self.media = None;
        }
        let mut shard = lock(&home.shards[self.shard]);
        match self.media {
            Some(_) => shard.done.push(self),
            None => shard.free.push(self),
        }
    }
}

impl Arrival for Sample {
    fn arrived(self: Box<Self>, complete: bool) {
        self.finish(complete);
    }
}

impl Sampled {
    /// A request that is not sampled.
    pub(crate) const NONE: Self = Self(None);

    /// Whether there is a sample.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The observer of a body with these media.
    pub(crate) fn observer(mut self, media: Delivery) -> Option<Box<dyn Arrival>> {
        let mut sample = self.0.take()?;
        sample.media = Some(media);
        Some(sample)
    }

    /// These media were delivered.
    pub(crate) fn delivered(mut self, media: Delivery) {
        if let Some(mut sample) = self.0.take() {
            sample.media = Some(media);
            sample.finish(true);
        }
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        if let Some(sample) = self.0.take() {
            sample.finish(false);
        }
    }
}

impl Delivery {
    /// An object of a track, of which `bytes` are sent; all of it if `whole`. `None` if it has no
    /// media.
    pub(crate) fn of(
        live: &Arc<Live>,
        track: &Track,
        object: Object,
        bytes: u64,
        whole: bool,
    ) -> Option<Self> {
        let span = Span::of(track, object)?;
        let span = if whole { span } else { Span { duration_ms: 0, ..span } };
        let (track, is_video) = (track.name.clone(), track.config.is_video());
        Some(Self { live: Arc::clone(live), track, is_video, span, bytes })
    }
}

impl Span {
    /// The media time of an object that is held. `None` for init segments and gaps.
    fn of(track: &Track, object: Object) -> Option<Self> {
        let (start, duration) = match object {
            Object::Init(_) => return None,
            Object::Part(msn, index) => {
                let part = track.segment(msn)?.parts.get(index).filter(|part| !part.gap)?;
                (part.start, part.duration)
            }
            Object::Segment(msn) => {
                let segment = track.segment(msn)?;
                match segment.gap {
                    false => (segment.start, segment.duration),
                    // The media of an interrupted segment are at its start.
                    true => {
                        let parts = segment.parts.iter().filter(|part| !part.gap);
                        let zero = Ticks::ZERO;
                        (segment.start, parts.fold(zero, |sum, part| sum + part.duration))
                    }
                }
            }
        };
        let hz = u64::from(track.timescale().hz());
        let ms = |ticks: Ticks| {
            u64::try_from(i128::from(ticks.get()) * 1_000 / i128::from(hz)).unwrap_or(0)
        };
        // The end is rounded, not the duration, so that parts without a hole between them have
        // none here.
        let (start_ms, end_ms) = (ms(start), ms(start + duration));
        let span = Self { start_ms, duration_ms: end_ms.saturating_sub(start_ms) };
        (span.duration_ms > 0).then_some(span)
    }
}

/// The shard of this thread.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    OWN.with(|own| *own)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.0.made.load(Ordering::Relaxed);
        f.debug_struct("Sampler").field("made", &made).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

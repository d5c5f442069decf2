//! The newest picture of each live broadcast, as JPEG. The ladder's worker reports one every few
//! seconds; without a ladder, a separate worker makes one of the newest key frame on demand. A
//! broadcast that nobody looks at costs nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dashmap::DashMap;
use media_core::{
    Broadcast, BroadcastId, Frame, Timescale,
    broadcast::{Event, Presence},
    codec::{Config, avc},
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};
use tracing::debug;

use crate::{
    plan,
    process::{self, SUBCOMMAND},
    protocol::{Encoder, Job, Media, Order, Report, Tuning},
};

/// The largest stored picture, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Maximum number of lines of a picture.
pub(crate) const HEIGHT: u32 = 360;
/// Maximum number of pictures made on demand at the same time.
const PLACES: usize = 2;
/// Maximum wait of a request for a picture.
const LIMIT: Duration = Duration::from_secs(5);
/// Memory limit of a worker that makes one picture, in bytes.
const MEMORY_BYTES: u64 = 512 << 20;

/// A picture of a broadcast.
#[derive(Debug, Clone)]
pub struct Picture {
    /// JPEG.
    pub jpeg: Bytes,
    /// When it was received.
    pub made: Instant,
}

/// The newest picture of each broadcast. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Pictures(Arc<Shared>);

/// The state behind all clones.
#[derive(Debug)]
struct Shared {
    /// The daemon's own program.
    program: PathBuf,
    /// Time for which a picture is fresh.
    every: Duration,
    /// Niceness of the workers that make pictures on demand.
    nice: u8,
    /// The pictures, by broadcast. An entry of an ended broadcast is removed when another begins.
    of: DashMap<BroadcastId, Entry>,
    /// Permits of the workers that make pictures on demand.
    places: Semaphore,
}

/// The picture of one broadcast, and the attempts to make it.
#[derive(Debug)]
struct Entry {
    /// Weak, so that a picture does not keep an ended broadcast in memory.
    broadcast: Weak<Broadcast>,
    picture: Option<Picture>,
    /// Last request that found no picture, so that a picture that cannot be made is not attempted
    /// repeatedly.
    tried: Option<Instant>,
    /// Held while a picture is being made.
    turn: Arc<Mutex<()>>,
}

impl Pictures {
    /// An empty store. `program` is the daemon's own program, which makes pictures with niceness
    /// `nice`, 0 to 19; a picture is fresh for `every`.
    pub fn new(program: PathBuf, every: Duration, nice: u8) -> Self {
        Self(Arc::new(Shared {
            program,
            every,
            nice,
            of: DashMap::new(),
            places: Semaphore::new(PLACES),
        }))
    }

    /// Time for which a picture is fresh.
    pub fn every(&self) -> Duration {
        self.0.every
    }

    /// The newest picture of a broadcast, made now if the stored one is too old; the older one if
    /// none can be made. Takes at most a few seconds.
    pub async fn newest(&self, broadcast: &Arc<Broadcast>) -> Option<Picture> {
        if self.held(broadcast).is_none_or(|held| self.is_old(&held))
            && broadcast.presence() == Presence::Live
        {
            // A request that does not get its turn in time uses the stored picture.
            let _ = timeout(LIMIT, self.renew(broadcast)).await;
        }
        self.held(broadcast)
    }

    /// Stores a picture, if it is a JPEG.
    pub(crate) fn keep(&self, broadcast: &Arc<Broadcast>, jpeg: Bytes, made: Instant) {
        // A worker is untrusted, so only the markers at both ends of a JPEG (ITU-T T.81 B.1.1.3:
        // SOI, EOI) and the size are checked; browsers parse the rest.
        let is_jpeg = jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]);
        if is_jpeg && jpeg.len() <= MAX_BYTES {
            self.entry(broadcast, |entry| entry.picture = Some(Picture { jpeg, made }));
        }
    }

    fn held(&self, broadcast: &Broadcast) -> Option<Picture> {
        self.0.of.get(&broadcast.id())?.picture.clone()
    }

    /// Whether a picture is too old. A ladder's worker gets twice the time before another worker
    /// makes one.
    fn is_old(&self, picture: &Picture) -> bool {
        picture.made.elapsed() >= 2 * self.0.every
    }

    /// Makes a picture, unless another request has made one meanwhile or has just failed.
    async fn renew(&self, broadcast: &Arc<Broadcast>) {
        let turn = self.entry(broadcast, |entry| Arc::clone(&entry.turn));
        let _turn = turn.lock().await;
        // Requests for the same broadcast wait for one worker; the others find its picture here.
        if self.held(broadcast).is_some_and(|held| !self.is_old(&held)) {
            return;
        }
        let every = self.0.every;
        let tried_lately =
            self.entry(broadcast, |entry| entry.tried.is_some_and(|tried| tried.elapsed() < every));
        if tried_lately {
            return;
        }
        let Ok(_place) = self.0.places.acquire().await else {
            return;
        };
        let Some((config, frame)) = newest_key(broadcast) else {
            return;
        };
        // Recorded before the attempt: a timeout cancels this future, and must count as an attempt.
        self.entry(broadcast, |entry| entry.tried = Some(Instant::now()));
        match self.make(&config, frame).await {
            Some(jpeg) => self.keep(broadcast, jpeg, Instant::now()),
            None => debug!(broadcast = %broadcast.name(), "poster cannot be made"),
        }
    }

    /// Starts a worker that makes one picture, and waits for its end.
    async fn make(&self, config: &avc::Config, frame: Frame) -> Option<Bytes> {
        let job = Job {
            video: config.record.to_vec(),
            audio: None,
            frame_rate: plan::rate(config),
            renditions: Vec::new(),
            audio_rendition: None,
            encoder: Encoder::X264,
            preset: String::new(),
            tuning: Tuning::Latency,
            picture_ms: 1,
            picture_size: plan::picture_size(config, HEIGHT),
            memory_bytes: MEMORY_BYTES,
            nice: self.0.nice,
        };
        let unit = Order::Unit {
            media: Media::Video,
            key: true,
            dts: frame.dts.media_time(Timescale::VIDEO),
            pts: frame.pts.media_time(Timescale::VIDEO),
            mark: None,
            payload: frame.payload,
        };
        let (process, mut orders, mut reports, _stderr) =
            process::start(&self.0.program, &[SUBCOMMAND.into()]).ok()?;
        let making = async {
            for order in [Order::Job(Box::new(job)), unit, Order::End] {
                orders.send(&order).await.ok()?;
            }
            while let Ok(Some(report)) = reports.next().await {
                if let Report::Picture { jpeg, .. } = report {
                    return Some(jpeg);
                }
            }
            None
        };
        let jpeg = timeout(LIMIT, making).await.ok().flatten();
        // Whether it succeeded or not, the worker has no further use.
        let _ = process.kill().await;
        jpeg
    }

    /// Applies `act` to a broadcast's entry, after removing the entries of ended broadcasts.
    fn entry<T>(&self, broadcast: &Arc<Broadcast>, act: impl FnOnce(&mut Entry) -> T) -> T {
        let id = broadcast.id();
        if !self.0.of.contains_key(&id) {
            let lives = |entry: &Entry| {
                let broadcast = entry.broadcast.upgrade();
                broadcast.is_some_and(|broadcast| broadcast.presence() != Presence::Ended)
            };
            self.0.of.retain(|_, entry| lives(entry));
        }
        act(&mut self.0.of.entry(id).or_insert_with(|| Entry {
            broadcast: Arc::downgrade(broadcast),
            picture: None,
            tried: None,
            turn: Arc::default(),
        }))
    }
}

/// The newest key frame of a broadcast's video in the hub's log.
fn newest_key(broadcast: &Arc<Broadcast>) -> Option<(avc::Config, Frame)> {
    let mut consumer = broadcast.subscribe();
    let mut tracks = consumer.tracks().iter();
    let track = tracks.find(|track| track.config.is_video())?;
    let (video, mut config) = (track.index, Arc::clone(&track.config));
    let mut newest = None;
    // Configurations are followed, so that the frame gets its own.
    while let Some(event) = consumer.try_next() {
        match event {
            Event::Frame { track, frame } if track == video && frame.key => {
                newest = Some((Arc::clone(&config), frame))
            }
            Event::Config { track, config: next } if track == video => config = next,
            _ => {}
        }
    }
    let (config, frame) = newest?;
    match &*config {
        Config::Avc(avc) => Some((avc.clone(), frame)),
        Config::Aac(_) => None,
    }
}

//! The ladder of one broadcast from its announcement to its end: one worker after the other, started again with growing delays.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    Broadcast, Frame, TrackName,
    broadcast::{Consumer, Event, Presence},
    codec::{Config, aac, avc},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Shared,
    rungs::Rungs,
    shedding::Shedding,
    stretch::{self, End, Feed},
};
use crate::plan::{self, Planned, Rung};

/// A worker that ran this long was well: the next one starts at once.
const WELL_AFTER: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// How often a broadcast for which there is no room looks for some.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The source as it is at present.
struct Source {
    video: (usize, avc::Config),
    audio: Option<(usize, aac::Config)>,
}

impl Source {
    /// `None` if there is no video.
    fn of(consumer: &Consumer) -> Option<Self> {
        let configs = consumer.configs().iter().enumerate();
        let (mut video, mut audio) = (None, None);
        for (index, config) in configs {
            match &**config {
                Config::Avc(avc) if video.is_none() => video = Some((index, avc.clone())),
                Config::Aac(aac) if audio.is_none() => audio = Some((index, aac.clone())),
                _ => {}
            }
        }
        Some(Self { video: video?, audio })
    }

    fn change(&mut self, track: usize, config: &Config) {
        match config {
            Config::Avc(avc) if track == self.video.0 => self.video.1 = avc.clone(),
            Config::Aac(aac) => {
                if let Some(audio) = self.audio.as_mut().filter(|audio| audio.0 == track) {
                    audio.1 = aac.clone();
                }
            }
            Config::Avc(_) => {}
        }
    }

    /// The next key frame of the video. `None`: it is over.
    async fn next_key(&mut self, consumer: &mut Consumer) -> Option<Frame> {
        loop {
            match consumer.next().await? {
                Event::Frame { track, frame } if track == self.video.0 && frame.key => return Some(frame),
                Event::Config { track, config } => self.change(track, &config),
                _ => {}
            }
        }
    }
}

/// Runs until the broadcast is over or `stop`.
pub(super) async fn run(shared: Arc<Shared>, broadcast: Arc<Broadcast>, stop: CancellationToken) {
    let consumer = broadcast.subscribe();
    if let Some(source) = Source::of(&consumer) {
        climb(&shared, &broadcast, consumer, source, &stop).await;
    }
    shared.status.forget(broadcast.id());
}

async fn climb(
    shared: &Shared,
    broadcast: &Arc<Broadcast>,
    mut consumer: Consumer,
    mut source: Source,
    stop: &CancellationToken,
) {
    let mut planned = plan::renditions(&source.video.1, &shared.config.rungs, None);
    if planned.is_empty() {
        let (width, height) = (source.video.1.width, source.video.1.height);
        info!(
            width,
            height, "no rung is below the source, which is passed through alone"
        );
    }
    while planned.is_empty() {
        // It may need one of its own size yet.
        tokio::select! {
            () = sleep(ASK_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        if broadcast.presence() == Presence::Ended {
            return;
        }
        if broadcast.is_gridded() {
            planned.extend(stand_in(broadcast, &source, &shared.config.rungs));
            (consumer, source) = match again(broadcast) {
                Some(again) => again,
                None => return,
            };
        }
    }
    let audio = shared.audio_name().filter(|_| source.audio.is_some());
    let mut rungs = Rungs::new(broadcast, &source.video.1, planned, audio, &shared.capacity);
    announce(shared, broadcast, &rungs);
    let mut shedding = Shedding::new(Instant::now());
    let mut delay = FIRST_DELAY;
    let mut resume_after = None;
    loop {
        if !rungs.any_made() {
            tokio::select! {
                () = sleep(ASK_AGAIN) => {}
                () = stop.cancelled() => return,
            }
            if broadcast.presence() == Presence::Ended {
                return;
            }
            if rungs.admit().is_empty() {
                continue;
            }
            announce(shared, broadcast, &rungs);
            // It appears late, at a mark that comes.
            resume_after = Some(broadcast.media_time(Instant::now()));
            (consumer, source) = match again(broadcast) {
                Some(again) => again,
                None => return,
            };
        }
        let first = tokio::select! {
            first = source.next_key(&mut consumer) => first,
            () = stop.cancelled() => return,
        };
        let Some(first) = first else { return };
        let started = Instant::now();
        let feed = Feed {
            broadcast,
            consumer: &mut consumer,
            video: source.video.clone(),
            audio: source.audio.clone(),
            first,
            resume_after,
        };
        let (end, reached) = stretch::run(shared, &mut rungs, &mut shedding, feed, stop).await;
        resume_after = reached;
        match end {
            End::Stopped | End::Over => return,
            End::Drained(config) => {
                if let Some(config) = config {
                    let track = if config.is_video() {
                        Some(source.video.0)
                    } else {
                        source.audio.as_ref().map(|audio| audio.0)
                    };
                    track.into_iter().for_each(|track| source.change(track, &config));
                }
                continue;
            }
            End::Replan => {
                if let Some(planned) = stand_in(broadcast, &source, &shared.config.rungs) {
                    rungs.stand_in(planned);
                }
                announce(shared, broadcast, &rungs);
            }
            End::Failed(reason) => {
                shared.metrics.failed(reason);
                rungs.absent();
                let well = started.elapsed() >= WELL_AFTER;
                if well {
                    delay = FIRST_DELAY;
                }
                let wait = if well { Duration::ZERO } else { delay };
                warn!(reason, retry_ms = wait.as_millis(), "worker failed");
                tokio::select! {
                    () = sleep(wait) => {}
                    () = stop.cancelled() => return,
                }
                if !well {
                    delay = (delay * 2).min(LONGEST_DELAY);
                }
            }
        }
        (consumer, source) = match again(broadcast) {
            Some(again) => again,
            None => return,
        };
    }
}

/// A rendition of the source's own size, at the rate that the source has.
fn stand_in(broadcast: &Broadcast, source: &Source, rungs: &[Rung]) -> Option<Planned> {
    let tracks = broadcast.tracks();
    let bitrate_bps = u32::try_from(tracks.get(source.video.0)?.bitrate_bps).unwrap_or(u32::MAX);
    let least = rungs
        .iter()
        .map(|rung| rung.video_kbps.saturating_mul(1_000))
        .max()
        .unwrap_or(0);
    plan::renditions(&source.video.1, rungs, Some(bitrate_bps.max(least)))
        .into_iter()
        .next()
}

/// Reads the source again, from its newest group.
fn again(broadcast: &Arc<Broadcast>) -> Option<(Consumer, Source)> {
    let consumer = broadcast.subscribe();
    let source = Source::of(&consumer)?;
    Some((consumer, source))
}

fn announce(shared: &Shared, broadcast: &Broadcast, rungs: &Rungs) {
    let status = rungs.status();
    let names = |made| {
        let names: Vec<_> = status
            .iter()
            .filter(|rendition| (rendition.state == super::State::Made) == made)
            .map(|rendition| TrackName::as_str(&rendition.name))
            .collect();
        names.join(" ")
    };
    let (made, refused) = (names(true), names(false));
    // Of what encoders may take of this machine.
    let load = (shared.capacity.load() * 100.0).round() / 100.0;
    if refused.is_empty() {
        info!(made, load, "ladder");
    } else {
        shared.metrics.refused.inc();
        warn!(
            made,
            refused, "ladder, with less than wanted: the machine has no room for the rest"
        );
    }
    shared.status.set(broadcast.id(), status);
}

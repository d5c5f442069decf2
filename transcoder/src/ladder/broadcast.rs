//! The ladder of one broadcast from its announcement to its end: it runs one worker at a time, and
//! restarts it with growing delays.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use media_core::{
    Broadcast, Frame, TrackName,
    broadcast::{Consumer, Event},
    codec::{Config, aac, avc},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Shared,
    rungs::{Rungs, State},
    shedding::Shedding,
    stretch::{self, End, Feed},
};
use crate::plan::{self, Planned, Rung};

/// A worker that ran this long counts as healthy: the next one starts at once.
const WELL_AFTER: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Minimum time between the starts of two workers if neither has failed.
const LEAST_LIFE: Duration = Duration::from_secs(1);
/// Interval at which a broadcast is planned again while no rung fits.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The current state of the source.
struct Source {
    video: (usize, avc::Config),
    audio: Option<(usize, aac::Config)>,
}

impl Source {
    /// `None` if there is no video.
    fn of(consumer: &Consumer) -> Option<Self> {
        let (mut video, mut audio) = (None, None);
        for (index, config) in consumer.configs() {
            match &**config {
                Config::Avc(avc) if video.is_none() => video = Some((*index, avc.clone())),
                Config::Aac(aac) if audio.is_none() => audio = Some((*index, aac.clone())),
                _ => {}
            }
        }
        Some(Self { video: video?, audio })
    }

    /// Whether the video still has this configuration.
    fn is_current(&self, broadcast: &Broadcast) -> bool {
        let (track, video) = &self.video;
        matches!(broadcast.tracks().get(*track).map(|track| &*track.config), Some(Config::Avc(now)) if now == video)
    }

    fn change(&mut self, track: usize, config: &Config) {
        match config {
            Config::Avc(avc) if track == self.video.0 => self.video.1 = avc.clone(),
            // An audio track that was not there before was added late.
            Config::Aac(aac) if self.audio.as_ref().is_none_or(|audio| audio.0 == track) => {
                self.audio = Some((track, aac.clone()));
            }
            Config::Aac(_) => {}
            Config::Avc(_) => {}
        }
    }

    /// The next key frame of the video. `None`: the broadcast is over.
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
    let mut begun = again(&broadcast);
    // A camera may be switched on later than the microphone.
    while begun.is_none() && pause(ASK_AGAIN, &broadcast, &stop).await {
        begun = again(&broadcast);
    }
    if let Some((consumer, source)) = begun {
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
    let (mut planned, mut stands_in) = plan(shared, broadcast, &source);
    if planned.is_empty() && !shared.config.rungs.is_empty() {
        let (width, height) = (source.video.1.width, source.video.1.height);
        info!(
            width,
            height, "no rung is below the source: only the source is published"
        );
    }
    while planned.is_empty() {
        // The source may become larger, or may later need a rendition of its own size.
        if !pause(ASK_AGAIN, broadcast, stop).await {
            return;
        }
        if !broadcast.is_gridded() && source.is_current(broadcast) {
            continue;
        }
        (consumer, source) = match again(broadcast) {
            Some(again) => again,
            None => return,
        };
        (planned, stands_in) = plan(shared, broadcast, &source);
    }
    let audio = shared.audio_name().filter(|_| source.audio.is_some());
    let mut rungs = Rungs::new(broadcast, &source.video.1, planned, audio, &shared.capacity);
    if stands_in {
        rungs.note_stand_in();
    }
    announce(shared, broadcast, &rungs);
    let refused = rungs
        .status()
        .iter()
        .filter(|rung| rung.state == State::Refused)
        .count();
    shared.metrics.refused.inc_by(refused as u64);
    let mut shedding = Shedding::new(Instant::now());
    let mut delay = FIRST_DELAY;
    let mut resume_after = None;
    let mut started: Option<Instant> = None;
    loop {
        if !rungs.any_made() {
            if !pause(rungs.ask_every(Instant::now()), broadcast, stop).await {
                return;
            }
            if rungs.admit().is_empty() {
                continue;
            }
            announce(shared, broadcast, &rungs);
            // The rendition appears late, at a future mark.
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
        if rungs.is_of_another(&source.video.1) {
            let planned = plan::renditions(&source.video.1, &shared.config.rungs, None);
            rungs.follow(&source.video.1, planned);
            announce(shared, broadcast, &rungs);
            if !rungs.any_made() {
                continue;
            }
        }
        // A source that often has gaps or changes must not cost a process each time. Meanwhile the
        // hub holds its frames.
        let rest = started.map_or(Duration::ZERO, |started: Instant| {
            LEAST_LIFE.saturating_sub(started.elapsed())
        });
        if !pause(rest, broadcast, stop).await && stop.is_cancelled() {
            return;
        }
        started = Some(Instant::now());
        if let Some(name) = shared.audio_name().filter(|_| source.audio.is_some()) {
            rungs.hear(name);
        }
        let feed = Feed {
            broadcast,
            consumer: &mut consumer,
            video: source.video.clone(),
            audio: source.audio.clone(),
            first,
            resume_after,
        };
        let (end, reached) = stretch::run(shared, &mut rungs, &mut shedding, feed, stop).await;
        let was_well = reached > resume_after && started.is_some_and(|started| started.elapsed() >= WELL_AFTER);
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
                if rungs.wants_stand_in(broadcast.is_gridded())
                    && let Some(planned) = stand_in(broadcast, &source, &shared.config.rungs)
                {
                    rungs.stand_in(planned);
                }
                announce(shared, broadcast, &rungs);
            }
            End::Failed(reason) => {
                shared.metrics.failed(reason);
                rungs.absent();
                // A worker that got stuck would get stuck again.
                let well = was_well && reason != "stuck";
                if well {
                    delay = FIRST_DELAY;
                }
                let wait = if well { Duration::ZERO } else { delay };
                warn!(reason, retry_ms = wait.as_millis(), "worker failed");
                if !pause(wait, broadcast, stop).await {
                    return;
                }
                started = None;
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

/// Waits. Returns false if the broadcast is over or the daemon stops.
async fn pause(wait: Duration, broadcast: &Broadcast, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = broadcast.ended() => false,
        () = stop.cancelled() => false,
        () = sleep(wait) => true,
    }
}

/// The plan for the source, and whether it includes a rendition of the source's own size, needed
/// because players cannot start in the source's segments.
fn plan(shared: &Shared, broadcast: &Broadcast, source: &Source) -> (Vec<Planned>, bool) {
    let rungs = &shared.config.rungs;
    let mut planned = plan::renditions(&source.video.1, rungs, None);
    let stand_in = broadcast
        .is_gridded()
        .then(|| stand_in(broadcast, source, rungs))
        .flatten();
    let stands_in = stand_in.is_some();
    planned.splice(0..0, stand_in);
    (planned, stands_in)
}

/// A rendition of the source's own size, at the source's bit rate.
fn stand_in(broadcast: &Broadcast, source: &Source, rungs: &[Rung]) -> Option<Planned> {
    let tracks = broadcast.tracks();
    let bitrate_bps = u32::try_from(tracks.get(source.video.0)?.bitrate_bps).unwrap_or(u32::MAX);
    let least = rungs
        .iter()
        .map(|rung| rung.video_kbps.saturating_mul(1_000))
        .max()
        .unwrap_or(0);
    // Until the bit rate is measured, the usual one is the minimum, also without configured rungs.
    let least = match bitrate_bps {
        0 => least.max(plan::usual_bitrate(&source.video.1)),
        _ => least,
    };
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
    let names = |state| {
        let names: Vec<_> = status
            .iter()
            .filter(|rendition| rendition.state == state)
            .map(|rendition| TrackName::as_str(&rendition.name))
            .collect();
        names.join(" ")
    };
    let (made, refused) = (names(State::Made), names(State::Refused));
    // The reserved share of the encoders' capacity.
    let load = (shared.capacity.load() * 100.0).round() / 100.0;
    if refused.is_empty() {
        info!(made, load, "ladder planned");
    } else {
        warn!(
            made,
            refused, load, "ladder planned without some renditions: no capacity left"
        );
    }
    shared.status.set(broadcast.id(), status);
}

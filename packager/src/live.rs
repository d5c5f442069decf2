//! From the hub to what is served: one task a broadcast, the snapshot it swaps, and where the origin finds it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use media_core::{
    Broadcast, BroadcastId, ChannelName, Hub,
    broadcast::{Consumer, Event, MAX_TRACKS},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::Notify, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    Error, Presentation, Rope, Segment,
    metrics::Metrics,
    program::{Full, Program, Settings},
    waiters::{Awaited, Crowd, Ticket, Waiters},
};

/// How often the clock acts on a window that it drives.
const GAP_TICK: Duration = Duration::from_millis(50);
/// Events of the hub that are taken before others run and what has come is published: a publisher
/// that sends thousands at once does not hold the thread.
const BATCH: usize = 256;
/// How long a broadcast stays that took too much memory: for players to read its end.
const FULL_STAY: Duration = Duration::from_secs(10);
/// How often it is asked whose wait is over first: no more than the shortest wait.
const LOOK: Duration = Duration::from_secs(1);

/// What a packager is told.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Part duration aimed at: 50 ms to 2 s.
    pub part: Duration,
    /// How far playlists reach back: at least 6 segments' worth is wanted, 6 s to 24 h taken. About twice as much is held in memory.
    pub window: Duration,
    /// Memory that a broadcast may take, in MiB, all its tracks together: 16 to 1 048 576. Where that
    /// is less than the window needs, playlists reach back less far; a broadcast of which not even
    /// the shortest playlist fits is ended.
    pub window_mb: usize,
}

impl Config {
    /// # Errors
    /// [`Error::OutOfRange`] names the setting, its value and its bounds in milliseconds.
    pub fn check(&self) -> Result<(), Error> {
        if !(16..=1 << 20).contains(&self.window_mb) {
            return Err(Error::MemoryOutOfRange { mb: self.window_mb });
        }
        let within = |setting: &'static str, value: Duration, least_ms: u64, most_ms: u64| {
            let bounds = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
            let error = Error::OutOfRange {
                setting,
                value_ms: value.as_millis(),
                least_ms,
                most_ms,
            };
            if bounds.contains(&value) { Ok(()) } else { Err(error) }
        };
        within("part_ms", self.part, 50, 2_000)?;
        within("window_s", self.window, 6_000, 86_400_000)
    }
}

/// Packages every broadcast of a hub.
#[derive(Debug)]
pub struct Packager {
    hub: Hub,
    settings: Settings,
    presentations: Presentations,
    metrics: Metrics,
    after: Option<u64>,
}

impl Packager {
    /// A packager of what `hub` announces. Nothing happens before [`Packager::serve`].
    ///
    /// # Errors
    /// See [`Config::check`].
    pub fn new(hub: Hub, config: Config) -> Result<Self, Error> {
        config.check()?;
        let settings = Settings {
            part: config.part,
            window: config.window,
            window_bytes: config.window_mb << 20,
        };
        Ok(Self {
            hub,
            settings,
            presentations: Presentations::default(),
            metrics: Metrics::default(),
            after: None,
        })
    }

    /// Players may come over from another process that has reached this discontinuity sequence, without an end between: each broadcast starts
    /// with a discontinuity, at least there.
    #[must_use]
    pub fn after(self, discontinuities: u64) -> Self {
        Self {
            after: Some(discontinuities),
            ..self
        }
    }

    /// Where presentations are found.
    pub fn presentations(&self) -> Presentations {
        self.presentations.clone()
    }

    /// What packages `broadcast`, and reads it; `before` is what was there under its name.
    fn program(&self, broadcast: &Arc<Broadcast>, before: Option<&Live>) -> (Program, Consumer) {
        let consumer = broadcast.subscribe_from_oldest();
        let before = before
            .and_then(Live::current)
            .and_then(|before| before.tracks.first().map(|track| track.discontinuities()))
            .max(self.after);
        let (settings, metrics) = (self.settings, self.metrics.clone());
        let program = Program::new(&consumer, settings, metrics, before);
        (program, consumer)
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Packages until `shutdown`, then until the broadcasts that are left have ended: the hub must have been closed by then, or
    /// be closed soon.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut announcements = self.hub.announcements();
        loop {
            let broadcast = tokio::select! {
                broadcast = announcements.next() => broadcast,
                () = shutdown.cancelled() => break,
            };
            let span = tracing::info_span!("broadcast", name = %broadcast.name());
            let (keeper, before) = self.list(broadcast, &shutdown);
            let (program, consumer) = self.program(&keeper.broadcast, before.as_deref());
            let package = package(program, consumer, keeper.listed.clone(), self.metrics.clone());
            tasks.spawn(keeper.run(package).instrument(span));
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Makes `broadcast` known; and what was there under its name.
    fn list(&self, broadcast: Arc<Broadcast>, shutdown: &CancellationToken) -> (Keeper, Option<Arc<Live>>) {
        let live = Arc::new(Live::new(&broadcast));
        let before = self.presentations.insert(&live);
        let keeper = Keeper {
            hub: self.hub.clone(),
            metrics: self.metrics.clone(),
            window: self.settings.window,
            shutdown: shutdown.clone(),
            broadcast,
            listed: Listed {
                presentations: self.presentations.clone(),
                live,
            },
        };
        (keeper, before)
    }
}

/// What a publisher is told whose broadcast ended by our fault.
const FAILED: &str = "a fault of the server has ended this broadcast: connect again";

/// A presentation, and where it can be found.
#[derive(Debug, Clone)]
struct Listed {
    presentations: Presentations,
    live: Arc<Live>,
}

impl Listed {
    /// Swaps in a snapshot; the first gives the broadcast its channel's name.
    fn publish(&self, presentation: Presentation, changed: &[usize]) {
        if self.live.publish(presentation, changed) {
            self.presentations.name(&self.live);
        }
    }
}

/// A broadcast's task has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed;

/// Keeps a broadcast to be found while it is packaged, and for a while after. When it is dropped, however
/// its task ends, those who wait are told that no more follows, and it is found no more.
struct Keeper {
    hub: Hub,
    metrics: Metrics,
    window: Duration,
    shutdown: CancellationToken,
    broadcast: Arc<Broadcast>,
    listed: Listed,
}

impl Keeper {
    /// Runs `package`; what that returns beside its result is what is held of the broadcast.
    async fn run<T>(self, package: impl Future<Output = (T, Result<(), Full>)>) {
        let Ok((held, packaged)) = self.serve(package).await else {
            self.metrics.failures.inc();
            tracing::error!("the broadcast is ended by a fault of this program; report it");
            let (hub, broadcast) = (self.hub.clone(), Arc::clone(&self.broadcast));
            drop(self);
            hub.fail(&broadcast, FAILED.into());
            return;
        };
        let stay = match packaged {
            Ok(()) => self.window,
            Err(full) => {
                tracing::warn!(%full, "the broadcast is ended");
                self.hub.fail(&self.broadcast, full.to_string());
                FULL_STAY.min(self.window)
            }
        };
        let over = async {
            tokio::select! {
                () = time::sleep(stay) => {}
                () = self.shutdown.cancelled() => {}
            }
        };
        // Nothing in it can fail.
        let _ = self.serve(over).await;
        drop(held);
    }

    /// Runs `work`, and wakes the crowd that it leaves to be woken.
    ///
    /// # Errors
    /// [`Failed`]: it has panicked. What it was working on is not to be used any more.
    async fn serve<T>(&self, work: impl Future<Output = T>) -> Result<T, Failed> {
        let mut work = pin!(work);
        let caught = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            match polled {
                Ok(polled) => polled.map(Ok),
                Err(_) => Poll::Ready(Err(Failed)),
            }
        });
        tokio::select! {
            biased;
            result = caught => result,
            never = self.listed.live.crowd.wake_rest() => match never {},
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let live = &self.listed.live;
        live.close();
        live.crowd.wake_now();
        self.listed.presentations.remove(live);
    }
}

/// Counts a broadcast for as long as it is packaged.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Packages a broadcast to its end. [`Full`]: it takes more memory than it may; what there is of it has
/// been ended.
async fn package(
    mut program: Program,
    mut consumer: Consumer,
    listed: Listed,
    metrics: Metrics,
) -> (Program, Result<(), Full>) {
    let live = &listed.live;
    tracing::info!(id = %live.broadcast, "packaging");
    let _counted = Counted::new(&metrics.broadcasts);
    let result = loop {
        let gap = program.in_gap().then(|| Instant::now() + GAP_TICK);
        let look = Some(Instant::now() + LOOK);
        let deadline = [program.poll_timeout(), gap, look, live.first_until()]
            .into_iter()
            .flatten()
            .min();
        let event = tokio::select! {
            event = consumer.next() => match event {
                Some(event) => Some(event),
                None => break Ok(()),
            },
            () = sleep_until(deadline) => None,
        };
        let taken = match event {
            Some(first) => take(&mut program, first, &mut consumer),
            None => {
                program.handle_timeout(Instant::now());
                Ok(Taken::default())
            }
        };
        let Taken { arrived, more } = match taken {
            Ok(taken) => taken,
            Err(full) => break Err(full),
        };
        if let Some((presentation, changed)) = program.snapshot() {
            listed.publish(presentation, &changed);
            if let Some(arrived) = arrived {
                metrics.part_latency.observe(arrived.elapsed().as_secs_f64());
            }
        }
        live.look();
        if more {
            tokio::task::yield_now().await;
        }
    };
    program.finish();
    if let Some((presentation, changed)) = program.snapshot() {
        listed.publish(presentation, &changed);
    }
    live.close();
    tracing::info!("ended");
    (program, result)
}

/// What came of a batch of events.
#[derive(Default)]
struct Taken {
    /// When the newest of the source's frames arrived.
    arrived: Option<Instant>,
    /// There may be more events.
    more: bool,
}

/// Takes `first` and the events that are there already, up to [`BATCH`].
fn take(program: &mut Program, first: Event, consumer: &mut Consumer) -> Result<Taken, Full> {
    let now = Instant::now();
    let mut taken = Taken::default();
    let mut next = Some(first);
    for _ in 0..BATCH {
        let Some(event) = next.take() else {
            return Ok(taken);
        };
        // A rendition's frames arrive when a worker has made them: what that takes is the ladder's to tell.
        if let Event::Frame { track, frame } = &event
            && program.is_source(*track)
        {
            taken.arrived = Some(frame.arrived);
        }
        program.apply(event, now)?;
        next = consumer.try_next();
    }
    taken.more = true;
    match next {
        Some(last) => program.apply(last, now).map(|()| taken),
        None => Ok(taken),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Where presentations are found, by channel and by broadcast. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Presentations(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    channels: DashMap<ChannelName, Arc<Live>>,
    broadcasts: DashMap<BroadcastId, Arc<Live>>,
}

impl Presentations {
    /// The presentation under a channel's name: live, waiting for its publisher, or ended less than a window ago.
    pub fn channel(&self, name: &ChannelName) -> Option<Arc<Live>> {
        self.0.channels.get(name).map(|live| Arc::clone(&live))
    }

    /// The same by the broadcast's identity, though another may have its name by now.
    pub fn broadcast(&self, id: BroadcastId) -> Option<Arc<Live>> {
        self.0.broadcasts.get(&id).map(|live| Arc::clone(&live))
    }

    /// The greatest discontinuity sequence that any has reached; 0 if there is none.
    pub fn discontinuities(&self) -> u64 {
        let reached = self.0.broadcasts.iter().filter_map(|live| {
            let presentation = live.current()?;
            Some(presentation.tracks.first()?.discontinuities())
        });
        reached.max().unwrap_or(0)
    }

    /// Whether there is nothing to be found: nothing is live, and what has ended has been forgotten.
    pub fn is_empty(&self) -> bool {
        self.0.broadcasts.is_empty()
    }

    /// Makes `live` known, under its name too unless another has it: that one is shown until there is something to show of
    /// this one. Returns it.
    fn insert(&self, live: &Arc<Live>) -> Option<Arc<Live>> {
        self.0.broadcasts.insert(live.broadcast, Arc::clone(live));
        let before = self.channel(&live.channel);
        if before.is_none() {
            self.name(live);
        }
        before
    }

    fn name(&self, live: &Arc<Live>) {
        self.0.channels.insert(live.channel.clone(), Arc::clone(live));
    }

    fn remove(&self, live: &Arc<Live>) {
        self.0.broadcasts.remove(&live.broadcast);
        let held = self
            .0
            .channels
            .remove_if(&live.channel, |_, held| Arc::ptr_eq(held, live));
        // One that has nothing to show yet, and waited for the name.
        let heir = self
            .0
            .broadcasts
            .iter()
            .find(|other| other.channel == live.channel)
            .map(|other| Arc::clone(&other));
        if let Some(heir) = heir.filter(|_| held.is_some()) {
            self.name(&heir);
        }
    }
}

/// One broadcast's presentation as it changes. Reading it takes no lock.
#[derive(Debug)]
pub struct Live {
    broadcast: BroadcastId,
    channel: ChannelName,
    current: ArcSwapOption<Presentation>,
    /// Those who wait for each track that there is or may be.
    waiters: [Waiters; MAX_TRACKS],
    crowd: Crowd,
    /// No snapshot follows.
    ended: AtomicBool,
    /// Told at the first snapshot, and when no more follow.
    turned: Notify,
}

impl Live {
    fn new(broadcast: &Broadcast) -> Self {
        Self {
            broadcast: broadcast.id(),
            channel: broadcast.name().clone(),
            current: ArcSwapOption::empty(),
            waiters: Default::default(),
            crowd: Crowd::default(),
            ended: AtomicBool::new(false),
            turned: Notify::new(),
        }
    }

    /// Whose it is.
    pub fn broadcast(&self) -> BroadcastId {
        self.broadcast
    }

    /// The channel it was published under.
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The present snapshot. None until each track has a complete segment: nothing can be listed before.
    pub fn current(&self) -> Option<Arc<Presentation>> {
        self.current.load_full()
    }

    /// Waits for the first snapshot; `None`: it ended before there was one. Unbounded: the caller sets a limit. Cancel-safe.
    pub async fn first(&self) -> Option<Arc<Presentation>> {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if let Some(presentation) = self.current() {
                return Some(presentation);
            }
            if self.has_ended() {
                return None;
            }
            turned.await;
        }
    }

    /// Waits until no snapshot follows. Unbounded. Cancel-safe.
    pub async fn ended(&self) {
        loop {
            let mut turned = pin!(self.turned.notified());
            turned.as_mut().enable();
            if self.has_ended() {
                return;
            }
            turned.await;
        }
    }

    /// Waits until track `track` has segment `msn`, or its part `part`, or all is over, for `limit` at most, which is a second or more. See [`Changed`].
    pub fn changed(self: &Arc<Self>, track: usize, msn: u64, part: Option<usize>, limit: Duration) -> Changed {
        let until = time::Instant::now() + limit;
        Changed {
            live: Arc::clone(self),
            track,
            awaited: Awaited::Listed { msn, part },
            until: Some(until),
            ticket: None,
        }
    }

    /// Follows segment `msn` of a track from its first part, whether it is open or complete.
    pub fn follow(self: &Arc<Self>, track: usize, msn: u64) -> Follow {
        Follow {
            live: Arc::clone(self),
            track,
            msn,
            next: 0,
            waiting: None,
        }
    }

    /// Swaps in a snapshot; whether it is the first.
    fn publish(&self, presentation: Presentation, changed: &[usize]) -> bool {
        if let Some(before) = self.current() {
            presentation.rendered.keep_sites(&before.rendered, Instant::now());
        }
        let first = self.current.swap(Some(Arc::new(presentation))).is_none();
        if first {
            self.turned.notify_waiters();
        }
        if let Some(current) = self.current() {
            let now = time::Instant::now();
            for &index in changed {
                if let (Some(waiters), Some(track)) = (self.waiters.get(index), current.tracks.get(index)) {
                    match current.ended {
                        true => waiters.wake_all(&self.crowd),
                        false => waiters.wake(track, now, &self.crowd),
                    }
                }
            }
        }
        first
    }

    /// When somebody will have waited long enough: of those who wait now, nobody before.
    fn first_until(&self) -> Option<Instant> {
        let waited_for = self.waited_for().filter_map(Waiters::first_until);
        waited_for.min().map(time::Instant::into_std)
    }

    /// Wakes those who have waited long enough.
    fn look(&self) {
        let now = time::Instant::now();
        self.waited_for()
            .for_each(|waiters| waiters.wake_late(now, &self.crowd));
    }

    /// Of the tracks that there are.
    fn waited_for(&self) -> impl Iterator<Item = &Waiters> {
        let tracks = self.current.load().as_ref().map_or(0, |current| current.tracks.len());
        self.waiters.iter().take(tracks)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.ended.store(true, Ordering::Release);
        self.turned.notify_waiters();
        self.waiters.iter().for_each(|waiters| waiters.wake_all(&self.crowd));
    }
}

/// A wait for what is to come of a track; the snapshot that has it, or the last one. `None`: it did not come in time, it ended before there
/// was a snapshot, or there is no such track. Dropping it gives up.
#[derive(Debug)]
pub struct Changed {
    live: Arc<Live>,
    track: usize,
    awaited: Awaited,
    until: Option<time::Instant>,
    ticket: Option<Ticket>,
}

impl Changed {
    /// What there is to say already: before it has come, nothing.
    fn look(&self) -> Option<Option<Arc<Presentation>>> {
        // Read before the snapshot, which is then the last.
        let ended = self.live.has_ended();
        let Some(current) = self.live.current() else {
            return Some(None);
        };
        match current.tracks.get(self.track) {
            _ if ended || current.ended => Some(Some(current)),
            None => Some(None),
            Some(track) => self.awaited.is_in(track).then(|| Some(Arc::clone(&current))),
        }
    }

    fn leave(&mut self) {
        if let (Some(ticket), Some(waiters)) = (self.ticket.take(), self.live.waiters.get(self.track)) {
            waiters.leave(ticket);
        }
    }
}

impl Future for Changed {
    type Output = Option<Arc<Presentation>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(come) = this.look() {
            this.leave();
            return Poll::Ready(come);
        }
        if this.until.is_some_and(|until| until <= time::Instant::now()) {
            this.leave();
            return Poll::Ready(None);
        }
        let Some(waiters) = this.live.waiters.get(this.track) else {
            return Poll::Ready(None);
        };
        if this.ticket.is_some_and(|ticket| waiters.renew(ticket, cx.waker())) {
            return Poll::Pending;
        }
        this.ticket = Some(waiters.join(this.awaited, this.until, cx.waker().clone()));
        // What came before it joined wakes nobody.
        let Some(come) = this.look() else { return Poll::Pending };
        this.leave();
        Poll::Ready(come)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What was being followed is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rest of the segment is not held any more")]
pub struct Gone;

/// The parts of one segment as they come.
#[derive(Debug)]
pub struct Follow {
    live: Arc<Live>,
    track: usize,
    msn: u64,
    next: usize,
    waiting: Option<Changed>,
}

impl Follow {
    /// The bytes of the parts that have come since, in one rope; `None` when the segment is complete.
    ///
    /// # Errors
    /// [`Gone`]: the reader was so slow that the rest is not held any more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Rope, Gone>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(Pin::new(waiting).poll(cx));
                self.waiting = None;
            }
            // Read before the snapshot, which is then the last.
            let ended = self.live.has_ended();
            let Some(presentation) = self.live.current() else {
                return Poll::Ready(None);
            };
            let Some(track) = presentation.tracks.get(self.track) else {
                return Poll::Ready(None);
            };
            let Some(segment) = track.segment(self.msn) else {
                return Poll::Ready(Some(Err(Gone)));
            };
            if let Some(bytes) = self.take(segment) {
                return Poll::Ready(Some(Ok(bytes)));
            }
            let open = track.open.as_ref().is_some_and(|open| open.msn == self.msn);
            if !open || ended || presentation.ended {
                return Poll::Ready(None);
            }
            self.waiting = Some(Changed {
                live: Arc::clone(&self.live),
                track: self.track,
                awaited: Awaited::More {
                    msn: self.msn,
                    parts: self.next,
                },
                until: None,
                ticket: None,
            });
        }
    }

    fn take(&mut self, segment: &Segment) -> Option<Rope> {
        let parts = segment.parts.get(self.next..)?;
        self.next = segment.parts.len();
        match parts {
            // The rest of one that was interrupted has no bytes.
            parts if parts.iter().all(|part| part.gap) => None,
            [part] => Some(part.bytes.clone()),
            parts => Some(Rope::concat(parts.iter().map(|part| &part.bytes))),
        }
    }
}

#[cfg(test)]
mod tests;

//! The task of one broadcast: applies the hub's events and timeouts, and publishes a snapshot for
//! each change.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use media_core::broadcast::{Consumer, Event};
use net_core::Counted;
use tokio::time;

use super::keeper::Listed;
use crate::{
    metrics::Metrics,
    program::{Full, Program, Snapshot},
};

/// Events that are taken before a snapshot is published and other tasks run, so that a publisher
/// that sends thousands at once does not occupy the thread.
pub(super) const BATCH: usize = 256;
/// How often the first deadline of all waiters is looked up: at most the shortest wait, so that
/// none is missed.
const LOOK: Duration = Duration::from_secs(1);

/// Packages a broadcast to its end. Returns the program, which holds its segments, and [`Full`] if
/// the broadcast takes more memory than its limit. Its lists have ended in either case.
pub(super) async fn package(
    mut program: Program,
    mut consumer: Consumer,
    listed: Listed,
    metrics: Metrics,
) -> (Program, Result<(), Full>) {
    let live = &listed.live;
    tracing::info!(id = %live.broadcast(), "broadcast packaging started");
    let _counted = Counted::new(&metrics.broadcasts);
    let mut timer = pin!(time::sleep(LOOK));
    let result = loop {
        let now = Instant::now();
        // One timer serves units that wait for the master and requests that wait for a snapshot.
        let deadlines = [program.poll_timeout(), live.first_until()];
        let deadline = deadlines.into_iter().flatten().fold(now + LOOK, Instant::min).into();
        // A later deadline is noticed when the timer fires, so that frames do not touch the timer.
        if deadline < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        let event = tokio::select! {
            event = consumer.next() => match event {
                Some(event) => Some(event),
                None => break Ok(()),
            },
            () = &mut timer => None,
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
        if let Some(Snapshot { presentation, changed }) = program.snapshot() {
            listed.publish(presentation, &changed);
            if let Some(arrived) = arrived {
                metrics.part_latency.observe(arrived.elapsed().as_secs_f64());
            }
        }
        live.look();
        // A publisher that sends a backlog must not keep other tasks from this thread.
        if more {
            tokio::task::yield_now().await;
        }
    };
    program.finish();
    if let Some(Snapshot { presentation, changed }) = program.snapshot() {
        listed.publish(presentation, &changed);
    }
    live.close();
    tracing::info!("broadcast packaging ended");
    (program, result)
}

/// The result of a batch of events.
#[derive(Default)]
struct Taken {
    /// When the newest of the source's frames arrived.
    arrived: Option<Instant>,
    /// More events may have arrived.
    more: bool,
}

/// Applies `first` and the events that have arrived already, up to [`BATCH`].
///
/// # Errors
/// [`Full`]: the broadcast cannot go on.
fn take(program: &mut Program, first: Event, consumer: &mut Consumer) -> Result<Taken, Full> {
    let now = Instant::now();
    let mut taken = Taken::default();
    let mut next = Some(first);
    for _ in 0..BATCH {
        let Some(event) = next.take() else {
            return Ok(taken);
        };
        // A rendition's frames arrive when a worker has made them. The ladder measures that delay.
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

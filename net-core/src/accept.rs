//! The accept loop of every listener.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::{ConnectionLimit, Listener, Permit, limit::CLOSING_WAIT, notice::Notice};

/// Pause after a failed accept, for example when there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Errors of accept(2): the process, or the system, has no file descriptor left. The numbers are
/// the same on all platforms of Linux.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Accepts connections from `listener` until `stop`, and passes each that `limit` admits to
/// `serve`. The others are closed unread. `serve` must not block; it spawns the task of the
/// connection, which drops the permit when it ends.
///
/// Errors are logged at most once a minute, with their number. If there are no file descriptors,
/// idle connections are closed.
pub async fn accept<L: Listener>(
    listener: &L,
    limit: &Arc<ConnectionLimit>,
    stop: impl Future<Output = ()>,
    mut serve: impl FnMut(L::Socket, SocketAddr, Permit),
) {
    let mut stop = pin!(stop);
    // At the limit of descriptors errors and connections alternate for as long as peers connect, so
    // a success is no reason to log the next error.
    let (mut failures, epoch) = (Notice::<u64>::default(), Instant::now());
    loop {
        // `next` is cancel-safe: a connection that is not returned stays in the kernel's queue,
        // where a new process may accept it.
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                // The wait for closing connections is short, and the accept loop stands still
                // meanwhile: further connections would need permits too. The peer may have sent a
                // request already: a connection that can be admitted is not lost to a stop at the
                // same moment.
                let admitted = tokio::select! {
                    biased;
                    admitted = limit.admit(Some(peer.ip()), CLOSING_WAIT) => admitted,
                    () = &mut stop => return,
                };
                match admitted {
                    Ok(permit) => serve(socket, peer, permit),
                    Err(limit) => debug!(%peer, ?limit, "connection refused: limit reached"),
                }
            }
            Err(err) => {
                let now_ms = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
                if let Some(failures) = failures.add(now_ms, |failures| *failures += 1) {
                    warn!(of = limit.name(), %err, failures, "connections cannot be accepted");
                }
                // Without a free descriptor no connection can be accepted, and so none refused:
                // idle ones must give theirs back.
                if matches!(err.raw_os_error(), Some(EMFILE | ENFILE)) {
                    limit.free_descriptors();
                }
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::IpAddr,
        sync::atomic::{AtomicBool, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        sync::{Mutex, mpsc},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Connections and errors in the order in which a test sends them.
    struct Script(Mutex<mpsc::Receiver<io::Result<(DuplexStream, SocketAddr)>>>);

    impl Listener for Script {
        type Socket = DuplexStream;

        async fn next(&self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.lock().await.recv().await {
                Some(next) => next,
                None => std::future::pending().await,
            }
        }
    }

    struct Running {
        listener: mpsc::Sender<io::Result<(DuplexStream, SocketAddr)>>,
        served: mpsc::UnboundedReceiver<(DuplexStream, Permit)>,
        stop: CancellationToken,
        accepting: tokio::task::JoinHandle<()>,
    }

    impl Running {
        fn start(limit: Arc<ConnectionLimit>) -> Self {
            let (listener, next) = mpsc::channel(1_024);
            let (serve, served) = mpsc::unbounded_channel();
            let stop = CancellationToken::new();
            let stopped = stop.clone().cancelled_owned();
            let accepting = tokio::spawn(async move {
                let serve = |socket, _, permit| serve.send((socket, permit)).unwrap();
                accept(&Script(Mutex::new(next)), &limit, stopped, serve).await;
            });
            Self { listener, served, stop, accepting }
        }

        /// The peer's end of a connection from this address.
        async fn connect(&self, last: u8) -> DuplexStream {
            let (peer, socket) = duplex(64);
            let address = SocketAddr::new(IpAddr::from([192, 0, 2, last]), 1_000);
            self.listener.send(Ok((socket, address))).await.unwrap();
            peer
        }

        async fn serve(&mut self) -> (DuplexStream, Permit) {
            self.served.recv().await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_beyond_the_limit_are_closed_and_the_loop_ends_on_shutdown() {
        let mut running = Running::start(ConnectionLimit::new("connections", 1, 1, Arc::new(())));
        let _first = running.connect(1).await;
        let (_socket, permit) = running.serve().await;
        assert!(permit.usage().begin());
        let mut second = running.connect(2).await;
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
        running.stop.cancel();
        running.accepting.await.unwrap();
    }

    /// One connection, which is ready.
    #[derive(Default)]
    struct One(AtomicBool);

    impl Listener for One {
        type Socket = DuplexStream;

        async fn next(&self) -> io::Result<(DuplexStream, SocketAddr)> {
            match self.0.swap(true, Ordering::Relaxed) {
                false => Ok((duplex(64).0, SocketAddr::from(([192, 0, 2, 1], 1_000)))),
                true => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_accepted_at_the_moment_of_shutdown_is_served() {
        // `select!` chooses by chance which of the two is first.
        for _ in 0..64 {
            let (listener, mut served) = (One::default(), 0);
            let limit = ConnectionLimit::new("connections", 9, 9, Arc::new(()));
            accept(&listener, &limit, async {}, |_, _, _| served += 1).await;
            assert_eq!(served, u32::from(listener.0.load(Ordering::Relaxed)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_free_descriptors_idle_connections_are_closed_and_accepting_continues() {
        let mut running = Running::start(ConnectionLimit::new("connections", 9, 9, Arc::new(())));
        let _first = running.connect(1).await;
        let (_socket, permit) = running.serve().await;
        for errno in [EMFILE, ENFILE] {
            let none = io::Error::from_raw_os_error(errno);
            running.listener.send(Err(none)).await.unwrap();
        }
        permit.usage().closed().await;
        let _second = running.connect(2).await;
        running.serve().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_a_closing_one_and_is_refused_if_none_closes() {
        let mut running =
            Running::start(ConnectionLimit::new("connections", 1_000, 1, Arc::new(())));
        let (mut served, mut peers) = (Vec::new(), Vec::new());
        // Each is closed for the next, but its task does not end.
        for _ in 0..257 {
            peers.push(running.connect(1).await);
            served.push(running.serve().await);
        }
        peers.push(running.connect(1).await);
        sleep(CLOSING_WAIT / 2).await;
        assert!(running.served.try_recv().is_err());
        served.remove(0);
        served.push(running.serve().await);
        // If none closes, it is refused.
        let mut refused = running.connect(1).await;
        assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
    }
}

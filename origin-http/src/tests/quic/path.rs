//! A path between client and server that is slow, or loses datagrams from the server.

use std::{
    mem,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::net;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Free,
    /// At most this many bytes a second to the client, with a queue of 64 KiB.
    Bytes(u64),
    /// No datagram from the server arrives.
    OneWay,
    /// Only the first datagram from the server arrives.
    Once,
    /// After the first, the client's datagrams arrive when the server has sent one.
    Halting,
}

#[derive(Default)]
struct Seen {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    first: Mutex<Option<u8>>,
    is_mute: AtomicBool,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
    _stop: tokio_util::sync::DropGuard,
}

impl Relay {
    /// Starts a relay for one client's socket.
    pub(super) async fn start(server: SocketAddr, rate: Rate) -> Self {
        let near = Arc::new(net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let far = Arc::new(net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(server).await.unwrap();
        let (address, seen, stop) =
            (near.local_addr().unwrap(), Arc::<Seen>::default(), CancellationToken::new());
        let client = Arc::new(Mutex::new(None));
        {
            let (near, far, client, seen, stop) =
                (near.clone(), far.clone(), client.clone(), seen.clone(), stop.clone());
            let there = async move {
                let mut buf = [0; 2_048];
                while let Ok((len, from)) = near.recv_from(&mut buf).await {
                    *client.lock().unwrap() = Some(from);
                    if rate == Rate::Halting && seen.sent.load(Ordering::Relaxed) > 0 {
                        until(|| seen.received.load(Ordering::Relaxed) > 0).await;
                    }
                    seen.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
                    let _ = far.send(&buf[..len]).await;
                    seen.sent.fetch_add(1, Ordering::Relaxed);
                }
            };
            tokio::spawn(async move { stop.run_until_cancelled(there).await });
        }
        let (queue, mut queued) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
        {
            let (seen, stop) = (seen.clone(), stop.clone());
            let back = async move {
                let mut buf = [0; 2_048];
                while let Ok(len) = far.recv(&mut buf).await {
                    seen.first.lock().unwrap().get_or_insert(buf[0]);
                    seen.received.fetch_add(1, Ordering::Relaxed);
                    seen.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
                    // Datagrams that do not fit are lost.
                    let _ = queue.try_send(buf[..len].to_vec());
                }
            };
            tokio::spawn(async move { stop.run_until_cancelled(back).await });
        }
        {
            let (seen, stop) = (seen.clone(), stop.clone());
            let deliver = async move {
                let (mut due, mut come) = (tokio::time::Instant::now(), false);
                while let Some(datagram) = queued.recv().await {
                    if let Rate::Bytes(rate) = rate {
                        let took = Duration::from_secs_f64(datagram.len() as f64 / rate as f64);
                        due = due.max(tokio::time::Instant::now()) + took;
                        tokio::time::sleep_until(due).await;
                    }
                    let to = *client.lock().unwrap();
                    let lost = match rate {
                        Rate::OneWay => true,
                        Rate::Once => mem::replace(&mut come, true),
                        _ => seen.is_mute.load(Ordering::Relaxed),
                    };
                    if let (Some(to), false) = (to, lost) {
                        let _ = near.send_to(&datagram, to).await;
                    }
                }
            };
            tokio::spawn(async move { stop.run_until_cancelled(deliver).await });
        }
        Self { address, seen, _stop: stop.drop_guard() }
    }

    /// From now on no datagram from the server arrives, until [`Self::unmute`].
    pub(super) fn mute(&self) {
        self.seen.is_mute.store(true, Ordering::Relaxed);
    }

    /// From now on the server's datagrams arrive again.
    pub(super) fn unmute(&self) {
        self.seen.is_mute.store(false, Ordering::Relaxed);
    }

    /// Datagrams that the client has sent.
    pub(super) fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::Relaxed)
    }

    /// Bytes that the client has sent, and the server.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let sent = self.seen.sent_bytes.load(Ordering::Relaxed);
        (sent, self.seen.received_bytes.load(Ordering::Relaxed))
    }

    /// Datagrams that the server has sent.
    pub(super) fn received(&self) -> u64 {
        self.seen.received.load(Ordering::Relaxed)
    }

    /// The first byte of the first datagram that the server has sent.
    pub(super) fn first_received(&self) -> u8 {
        self.seen.first.lock().unwrap().unwrap()
    }
}

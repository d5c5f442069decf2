//! A UDP socket that passes from one process to the next without losing connections.
//!
//! Both processes hold the socket and send on it; only the newest reads it. A datagram for a
//! connection of a former owner, recognized by its connection id ([`Keys`]), is forwarded through a
//! Unix socket ([`forward`]).
//!
//! Order of events: [`QuicHandover::prepare`] in the old process; the new one starts and does not
//! read yet; [`QuicHandover::complete`] in the old one, which stops reading;
//! [`QuicHandover::begin`] in the new one. Datagrams that arrive between the last two wait
//! in the kernel, so that two processes never receive first datagrams of one client.

use std::{
    fmt, io,
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState},
};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net,
    time::{Instant, sleep},
};

use super::{
    budget::{Budgets, HeldDatagram, destination, is_long},
    forward,
    keys::{Keys, MAX_OWNERS},
};

/// The pause after the socket was full, when no event reports that there is room.
const FULL: Duration = Duration::from_millis(1);

/// A UDP socket for HTTP/3, with the state inherited from its former owners. It is read when an
/// endpoint is created on it.
#[derive(Debug)]
pub struct QuicSocket {
    udp: UdpSocket,
    keys: Keys,
    /// Processes that hold connections of the socket, the latest owner first: the same order as in
    /// `keys`.
    former: Vec<Former>,
    inbox: Arc<Inbox>,
}

/// Hands a [`QuicSocket`] over to another process while it is served.
#[derive(Debug, Clone)]
pub struct QuicHandover(Arc<Inbox>);

/// The parts of a socket that a successor needs.
#[derive(Debug)]
pub struct QuicLegacy {
    /// The socket itself.
    pub socket: UdpSocket,
    /// For [`QuicSocket::inherit`]. At most 128 bytes. It is secret: do not log it.
    pub note: Vec<u8>,
    /// Unix sockets of the processes that hold connections, this process's first.
    pub inboxes: Vec<UnixDatagram>,
}

/// A process that holds connections of the socket.
#[derive(Debug)]
struct Former {
    inbox: UnixDatagram,
    /// It has ended, or has closed its end: nothing is forwarded to it any more.
    gone: AtomicBool,
}

impl QuicSocket {
    /// Bytes of datagrams that the kernel is asked to buffer in each direction: 4 MiB are 30 ms at
    /// 1 Gbit/s. The sysctls `net.core.rmem_max` and `net.core.wmem_max` may reduce it.
    pub const BUFFER: usize = 4 << 20;

    /// Wraps a bound socket that no other process has used.
    ///
    /// # Errors
    /// The system provides no randomness, or no file descriptor.
    pub fn new(udp: UdpSocket) -> io::Result<Self> {
        Self::with(udp, Keys::new()?, vec![])
    }

    /// Wraps a socket inherited from another process, with `note` and `inboxes` of its
    /// [`QuicLegacy`]. The socket is not read before [`QuicHandover::begin`].
    ///
    /// # Errors
    /// `InvalidData` if `note` is malformed or does not match `inboxes`; otherwise the system
    /// provides no randomness, or no file descriptor.
    pub fn inherit(udp: UdpSocket, note: &[u8], inboxes: Vec<UnixDatagram>) -> io::Result<Self> {
        let keys = Keys::inherit(note)?;
        if keys.former() != inboxes.len() {
            let what = format!("{} former owners and {} inboxes", keys.former(), inboxes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let former = inboxes.into_iter().map(Former::new).collect::<io::Result<_>>()?;
        let socket = Self::with(udp, keys, former)?;
        socket.inbox.mail().reads = Reads::Before;
        Ok(socket)
    }

    /// Sets up the socket, and duplicates the descriptors that a handover needs.
    fn with(udp: UdpSocket, keys: Keys, former: Vec<Former>) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        let socket = SockRef::from(&udp);
        // The kernel's limit may reduce the size; a larger buffer only avoids losses under load.
        let _ = socket.set_recv_buffer_size(QuicSocket::BUFFER);
        let _ = socket.set_send_buffer_size(QuicSocket::BUFFER);
        // The inbox keeps duplicates of all descriptors, because a handover may begin after the
        // endpoint has taken the originals.
        let left = former.iter().map(|former| former.inbox.try_clone());
        let inbox = Inbox {
            udp: udp.try_clone()?,
            keys: keys.clone(),
            former: left.collect::<io::Result<_>>()?,
            mail: Mutex::default(),
        };
        Ok(Self { udp, keys, former, inbox: Arc::new(inbox) })
    }

    /// The address of the socket.
    ///
    /// # Errors
    /// The system cannot report it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// The handle to hand the socket over while it is served.
    pub fn handover(&self) -> QuicHandover {
        QuicHandover(Arc::clone(&self.inbox))
    }

    /// The keys that the endpoint is configured with.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The socket for quinn. Call it inside a tokio runtime. A handshake takes `handshake` at most.
    pub(super) fn open(self, handshake: Duration) -> io::Result<Arc<Socket>> {
        let Self { udp, keys, former, inbox } = self;
        Ok(Arc::new(Socket {
            state: UdpSocketState::new(UdpSockRef::from(&udp))?,
            local: udp.local_addr()?,
            plain: udp.try_clone()?,
            udp: ArcSwapOption::from_pointee(net::UdpSocket::from_std(udp)?),
            full: AtomicBool::new(false),
            budgets: Mutex::new(Budgets::new(handshake)),
            limited: AtomicBool::new(false),
            keys,
            former,
            inbox,
        }))
    }
}

impl QuicHandover {
    /// Returns the parts that the successor needs. From here on its forwarded datagrams are read;
    /// the socket is still read, too. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The system provides no file descriptor.
    pub fn prepare(&self) -> io::Result<QuicLegacy> {
        let (theirs, ours) = UnixDatagram::pair()?;
        for end in [&theirs, &ours] {
            end.set_nonblocking(true)?;
            let end = SockRef::from(end);
            let _ = end.set_recv_buffer_size(QuicSocket::BUFFER);
            let _ = end.set_send_buffer_size(QuicSocket::BUFFER);
        }
        let mut inboxes = vec![theirs];
        for former in self.0.former.iter().take(MAX_OWNERS - 2) {
            inboxes.push(former.try_clone()?);
        }
        let legacy =
            QuicLegacy { socket: self.0.udp.try_clone()?, note: self.0.keys.note(), inboxes };
        let mut mail = self.0.mail();
        mail.inbox = Some(net::UnixDatagram::from_std(ours)?);
        mail.wake();
        Ok(legacy)
    }

    /// Stops reading the socket, so that the successor may read it. Forwarded datagrams are still
    /// read.
    pub fn complete(&self) {
        let mut mail = self.0.mail();
        mail.reads = Reads::Successor;
        mail.wake();
    }

    /// Begins to read the socket, in the successor: the former owner has stopped reading, or is
    /// gone. No effect if the socket is being read.
    pub fn begin(&self) {
        let mut mail = self.0.mail();
        if mail.reads == Reads::Before {
            mail.reads = Reads::Us;
            mail.wake();
        }
    }

    /// Cancels the handover: the state is as before [`QuicHandover::prepare`].
    pub fn abandon(&self) {
        let mut mail = self.0.mail();
        *mail = Mail { waker: mail.waker.take(), ..Mail::default() };
        mail.wake();
    }
}

/// Receives datagrams that a successor forwards to this process.
struct Inbox {
    udp: UdpSocket,
    keys: Keys,
    /// Duplicates of the former owners' sockets, for the next successor.
    former: Vec<UnixDatagram>,
    mail: Mutex<Mail>,
}

/// The state that a handover changes. The reading task and the handover share it.
#[derive(Default)]
struct Mail {
    /// The end at which forwarded datagrams arrive, from `prepare` on.
    inbox: Option<net::UnixDatagram>,
    /// The process that may read the UDP socket.
    reads: Reads,
    /// The waker of the reading task.
    waker: Option<Waker>,
    /// The buffer of one forwarded datagram; empty before the first handover.
    forwarded: Vec<u8>,
}

/// The process that may read the socket.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The former owner, until [`QuicHandover::begin`].
    Before,
    /// This process.
    #[default]
    Us,
    /// The process that took over.
    Successor,
}

impl Inbox {
    /// The lock is held for one read of the sockets at most.
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl Mail {
    /// Wakes the reading task, which then checks the changed state.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Receives as many forwarded datagrams as there are, up to the number of buffers.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> usize {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let Some(inbox) = &self.inbox else { return 0 };
        self.forwarded.resize(forward::MAX, 0);
        let mut count = 0;
        while count < bufs.len().min(metas.len()) {
            // Datagrams that do not decode are skipped. Their content is not checked further,
            // because QUIC authenticates each packet.
            let Poll::Ready(Ok(())) = inbox.poll_recv_ready(cx) else {
                break;
            };
            match inbox.try_recv(&mut self.forwarded) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(0) | Err(_) => {
                    // The successor is gone, or the Unix socket has failed.
                    self.inbox = None;
                    break;
                }
                Ok(len) => {
                    if let Some((meta, datagram)) = forward::open(&self.forwarded[..len])
                        && let Some(buf) = bufs[count].get_mut(..datagram.len())
                    {
                        buf.copy_from_slice(datagram);
                        metas[count] = meta;
                        count += 1;
                    }
                }
            }
        }
        count
    }
}

impl Former {
    fn new(inbox: UnixDatagram) -> io::Result<Self> {
        inbox.set_nonblocking(true)?;
        Ok(Self { inbox, gone: AtomicBool::new(false) })
    }

    /// Forwards a datagram. It is dropped if the receiver's buffer is full; QUIC recovers from the
    /// loss. Returns false if the receiver is gone.
    fn pass(&self, meta: &RecvMeta, datagram: &[u8]) -> bool {
        if self.gone.load(Ordering::Relaxed) {
            return false;
        }
        let head = forward::seal(meta);
        let forwarded = [IoSlice::new(&head), IoSlice::new(datagram)];
        // Never waits: a process that does not read must not stop the one that reads the UDP
        // socket.
        match SockRef::from(&self.inbox).send_vectored(&forwarded) {
            Ok(_) => true,
            Err(err)
                if err.kind() == io::ErrorKind::WouldBlock
                    || err.raw_os_error() == Some(ENOBUFS) =>
            {
                true
            }
            Err(_) => {
                self.gone.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

/// The kernel has no memory for a datagram now. `io::ErrorKind` has no name for it.
const ENOBUFS: i32 = 105;

/// The socket as quinn uses it.
#[derive(Debug)]
pub(super) struct Socket {
    /// The runtime's registration, present while this process reads the socket: afterwards,
    /// datagrams for another process would wake this one.
    udp: ArcSwapOption<net::UdpSocket>,
    /// The same socket without a registration, for the system calls themselves.
    plain: UdpSocket,
    /// The kernel has refused a datagram, and no event reports when there is room.
    full: AtomicBool,
    /// The addresses that may be spoofed.
    budgets: Mutex<Budgets>,
    /// `budgets` tracks an address. Without one, neither sending nor receiving takes the lock.
    limited: AtomicBool,
    /// quinn's capabilities of the socket: segmentation offload, ECN.
    state: UdpSocketState,
    local: SocketAddr,
    keys: Keys,
    former: Vec<Former>,
    inbox: Arc<Inbox>,
}

impl Socket {
    /// Forwards the datagrams of other processes and keeps this process's: `buf` holds `meta.len`
    /// bytes in datagrams of `meta.stride`, and afterwards those that are kept.
    fn sort(&self, meta: &mut RecvMeta, buf: &mut [u8]) {
        // The kernel may join datagrams of one sender (GRO) that belong to connections of two
        // processes, so each is decided on its own. One whose owner is gone is kept: quinn responds
        // with a stateless reset.
        let (len, stride) = (meta.len, meta.stride.max(1));
        let mut kept = 0;
        for start in (0..len).step_by(stride) {
            let end = (start + stride).min(len);
            let datagram = &buf[start..end];
            let passed = destination(datagram)
                .and_then(|id| self.keys.owner(id))
                .is_some_and(|owner| self.former[owner].pass(meta, datagram));
            if !passed {
                buf.copy_within(start..end, kept);
                kept += end - start;
            }
        }
        meta.len = kept;
    }

    /// Counts datagrams received from addresses that may be spoofed, and sends the datagrams held
    /// for them.
    fn account(&self, meta: &RecvMeta, buf: &[u8]) {
        // Datagrams with a short header cannot begin a handshake. While no address is tracked they
        // need no accounting, so established connections cost nothing here.
        let datagrams = buf[..meta.len].chunks(meta.stride.max(1));
        if !self.limited.load(Ordering::Relaxed) && !datagrams.clone().any(is_long) {
            return;
        }
        let now = Instant::now();
        for datagram in datagrams {
            let mut budgets = self.budgets();
            let held = budgets.received(meta.addr, datagram, now, |id| self.keys.is_ours(id));
            self.limited.store(!budgets.is_empty(), Ordering::Relaxed);
            drop(budgets);
            if let Some(held) = held {
                // Dropped if the socket is full; QUIC recovers from the loss.
                let _ = self.send(&Transmit {
                    destination: held.destination,
                    ecn: held.ecn,
                    contents: &held.contents,
                    segment_size: None,
                    src_ip: held.src_ip,
                });
            }
        }
    }

    /// Sends to an address that may be spoofed within its limit. Of the rest the first datagram is
    /// held, and the others are dropped.
    fn send_limited(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let contents = transmit.contents;
        let segment = transmit.segment_size.unwrap_or(contents.len());
        let Some(count) = self.budgets().take(transmit.destination, contents, segment) else {
            return self.send(transmit);
        };
        let (now, later) = contents.split_at(count);
        if !now.is_empty() {
            let sent = self.send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents: now,
                segment_size: transmit.segment_size.filter(|segment| *segment < now.len()),
                src_ip: transmit.src_ip,
            });
            if sent.is_err() {
                self.budgets().give_back(transmit.destination, count);
                return sent;
            }
        }
        if !later.is_empty() {
            self.budgets().hold(HeldDatagram {
                destination: transmit.destination,
                contents: later[..segment.min(later.len())].to_vec(),
                ecn: transmit.ecn,
                src_ip: transmit.src_ip,
            });
        }
        Ok(())
    }

    /// Sends datagrams to the kernel. `WouldBlock` if it has no room.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // The registration records `WouldBlock`, so that the runtime reports when there is room.
        // After a handover there is none, and `Writable` pauses instead.
        let send = || self.state.send(UdpSockRef::from(&self.plain), transmit);
        if let Some(udp) = &*self.udp.load() {
            return udp.try_io(Interest::WRITABLE, send);
        }
        let sent = send();
        if sent.as_ref().is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// The lock is not held during a system call.
    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.limited.load(Ordering::Relaxed) {
            true => self.send_limited(transmit),
            false => self.send(transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // The lock is held while the socket is read: when [`QuicHandover::complete`] has acquired
        // it, no read follows.
        let mut mail = self.inbox.mail();
        let forwarded = mail.poll_recv(cx, bufs, metas);
        if forwarded > 0 {
            for (meta, buf) in metas.iter().zip(bufs.iter()).take(forwarded) {
                self.account(meta, buf);
            }
            return Poll::Ready(Ok(forwarded));
        }
        // While another process may read the socket, this task waits for forwarded datagrams and
        // for a change of `reads`, both of which wake it.
        match mail.reads {
            Reads::Us => {}
            Reads::Before => return Poll::Pending,
            Reads::Successor => {
                self.udp.store(None);
                return Poll::Pending;
            }
        }
        let udp = self.udp.load();
        let Some(udp) = &*udp else { return Poll::Pending };
        loop {
            ready!(udp.poll_recv_ready(cx))?;
            let receive = || self.state.recv(UdpSockRef::from(&self.plain), bufs, metas);
            // `try_io` clears the readiness on `WouldBlock`, so that the next `poll_recv_ready`
            // registers the task.
            let count = match udp.try_io(Interest::READABLE, receive) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                received => received?,
            };
            if !self.former.is_empty() {
                for (meta, buf) in metas.iter_mut().zip(bufs.iter_mut()).take(count) {
                    self.sort(meta, buf);
                }
            }
            for (meta, buf) in metas.iter().zip(bufs.iter()).take(count) {
                self.account(meta, buf);
            }
            return Poll::Ready(Ok(count));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room in the socket, for one of many senders.
struct Writable {
    socket: Arc<Socket>,
    /// The wait in progress. It is dropped when there is room.
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = match &mut this.waiting {
            Some(waiting) => waiting,
            waiting => {
                let waits: Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>> =
                    match this.socket.udp.load_full() {
                        Some(udp) => {
                            // There is room in most cases; then nothing is allocated.
                            if let Poll::Ready(writable) = pin!(udp.writable()).poll(cx) {
                                return Poll::Ready(writable);
                            }
                            Box::pin(async move { udp.writable().await })
                        }
                        None if this.socket.full.swap(false, Ordering::Relaxed) => {
                            Box::pin(async {
                                sleep(FULL).await;
                                Ok(())
                            })
                        }
                        None => return Poll::Ready(Ok(())),
                    };
                waiting.insert(waits)
            }
        };
        let ready = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(ready)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

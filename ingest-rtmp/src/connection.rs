//! One connection's life: reads feed the session, its events go to a publisher or a player, its output is written.
//! Generic over the byte stream, so that TLS is a matter of what is passed in. All waits have a limit.

use std::{
    future::Future, io, io::IoSlice, net::SocketAddr, pin::Pin, pin::pin, sync::Arc, time::Duration, time::Instant,
};

use bytes::BytesMut;
use media_core::{ChannelName, Error as HubError, Hub, broadcast, hub::Revocation};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    Error,
    auth::{Authorize, PublishRequest, Reason, Refusal},
    metrics::{Cause, Metrics},
    player::Player,
    publisher::{self, Publisher},
    session::{self, Event, Session},
};

/// Read buffer while frames come: one wake-up takes what the kernel holds. Used again and again.
const READ_BYTES: usize = 64 << 10;
/// Read buffer of all others.
const SMALL_READ_BYTES: usize = 4 << 10;
/// Slices in one vectored write.
const SLICES: usize = 64;
/// How long a peer may take to hang up after its last message: closing with unread input would reset the connection, and
/// the reason could be lost on its way.
const LINGER: Duration = Duration::from_secs(1);
/// A deadline that is no deadline.
const FAR: Duration = Duration::from_secs(86_400);

/// What all connections of a server share.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) authorize: Arc<dyn Authorize>,
    pub(crate) metrics: Metrics,
    pub(crate) session: session::Settings,
    pub(crate) write_limit: Duration,
}

/// What the peer has become.
enum Role {
    Nobody,
    Publisher {
        publisher: Publisher,
        /// Why it is sent off, once it is.
        revoked: Pin<Box<dyn Future<Output = Refusal> + Send>>,
    },
    Player(Player),
}

/// What woke the connection.
enum Wake {
    Read(io::Result<usize>),
    Timer,
    /// The hub has something for the player; none when the broadcast is over.
    Play(Option<broadcast::Event>),
    Revoked(Refusal),
    Retire,
    Shutdown,
}

struct Connection<'a, S> {
    socket: S,
    peer: SocketAddr,
    context: &'a Context,
    session: Session,
    input: BytesMut,
    role: Role,
}

/// Serves one peer until it goes or is sent off; how it ended is counted and logged here.
///
/// Once `retire` is cancelled a publisher is asked to connect again; at `shutdown` everyone is sent off.
pub(crate) async fn run<S>(
    socket: S,
    peer: SocketAddr,
    context: &Context,
    retire: CancellationToken,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = Session::new(context.session.clone(), now());
    let mut connection = Connection {
        socket,
        peer,
        context,
        session,
        input: BytesMut::new(),
        role: Role::Nobody,
    };
    let ended = connection.drive(&retire, &shutdown).await;
    if let Role::Publisher { publisher, .. } = std::mem::replace(&mut connection.role, Role::Nobody) {
        publisher.leave(now());
    }
    let cause = match ended {
        Ok(cause) => {
            debug!(?cause, "connection closed");
            cause
        }
        Err(err) => {
            debug!(%err, "connection closed");
            match err {
                Error::Io(_) => Cause::Socket,
                Error::TimedOut { .. } => Cause::Timeout,
                _ => Cause::Protocol,
            }
        }
    };
    context.metrics.close(cause);
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn drive(&mut self, retire: &CancellationToken, shutdown: &CancellationToken) -> Result<Cause, Error> {
        let mut shutdown = pin!(shutdown.cancelled());
        let mut retire = pin!(retire.cancelled());
        let mut retiring = false;
        let mut timer = pin!(sleep_until((now() + FAR).into()));
        let mut now = now();
        loop {
            self.handle_events(now)?;
            self.flush().await?;
            if self.session.is_closing() {
                // The name is free from here on.
                self.leave(now);
                self.linger().await;
                return Ok(Cause::Refused);
            }
            self.prepare_read();
            arm(timer.as_mut(), self.session.poll_timeout(), now);
            let woken = tokio::select! {
                // Most wake-ups are reads, and cost no look at the rest. A peer that always has more to read does not keep the
                // others from being seen: the runtime's budget makes a read pending now and then.
                biased;
                read = self.socket.read_buf(&mut self.input) => Wake::Read(read),
                wake = self.role.wake() => wake,
                () = &mut timer => Wake::Timer,
                () = &mut retire, if !retiring => Wake::Retire,
                () = &mut shutdown => Wake::Shutdown,
            };
            now = self::now();
            match woken {
                Wake::Read(read) => match read? {
                    0 => return Ok(Cause::Peer),
                    count => drop(self.context.metrics.received.inc_by(count as u64)),
                },
                Wake::Timer => {
                    self.session.handle_timeout(now)?;
                    arm_again(timer.as_mut(), self.session.poll_timeout(), now);
                }
                Wake::Play(Some(event)) => {
                    if let Role::Player(player) = &mut self.role {
                        player.send(event, self.session.transmit());
                    }
                }
                Wake::Play(None) => self.session.end_play()?,
                Wake::Revoked(refusal) => self.refuse(refusal)?,
                Wake::Retire => {
                    retiring = true;
                    if self.session.request_reconnect()? {
                        debug!("asked to connect again");
                    }
                }
                Wake::Shutdown => self.refuse(Refusal::new(
                    Reason::Shutdown,
                    "the server is going down, try again in a moment",
                ))?,
            }
        }
    }

    /// Acts on all that was read.
    fn handle_events(&mut self, now: Instant) -> Result<(), Error> {
        while let Some(event) = self.session.poll_event(&mut self.input, now)? {
            let taken = match (event, &mut self.role) {
                (Event::Video { timestamp, body }, Role::Publisher { publisher, .. }) => {
                    publisher.video(timestamp, body, now)
                }
                (Event::Audio { timestamp, body }, Role::Publisher { publisher, .. }) => {
                    publisher.audio(timestamp, body, now)
                }
                (Event::Metadata(metadata), Role::Publisher { publisher, .. }) => publisher.metadata(&metadata, now),
                (Event::Publish { app, key, query }, _) => self.publish(
                    &PublishRequest {
                        app,
                        key,
                        query,
                        peer: self.peer,
                    },
                    now,
                )?,
                (Event::Play { name }, _) => self.play(&name)?,
                (Event::Closed, _) => {
                    self.leave(now);
                    Ok(())
                }
                // The session raises these of a publisher only.
                (Event::Video { .. } | Event::Audio { .. } | Event::Metadata(_), _) => Ok(()),
            };
            if let Err(refusal) = taken {
                self.refuse(refusal)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, request: &PublishRequest, now: Instant) -> Result<Result<(), Refusal>, Error> {
        let context = self.context;
        let claim = context.authorize.authorize(request).and_then(|grant| {
            let claim = context.hub.claim(grant.channel).map_err(|err| match err {
                HubError::Busy { name } => Refusal::new(
                    Reason::Name,
                    format!("{name} is live already: stop the other encoder, or wait until it is gone"),
                ),
                other => Refusal::new(Reason::Busy, other.to_string()),
            })?;
            Ok((claim, grant.withdrawn))
        });
        let (claim, withdrawn) = match claim {
            Ok(granted) => granted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        debug!(channel = %claim.name(), "publishing");
        let revoked = Box::pin(revoked(claim.revoked(), withdrawn));
        let publisher = Publisher::new(claim, context.metrics.clone(), now);
        self.role = Role::Publisher { publisher, revoked };
        self.session.accept().map(Ok)
    }

    fn play(&mut self, name: &str) -> Result<Result<(), Refusal>, Error> {
        let broadcast = name
            .parse::<ChannelName>()
            .ok()
            .and_then(|name| self.context.hub.broadcast(&name));
        let Some(broadcast) = broadcast else {
            return Ok(Err(Refusal::new(Reason::NotFound, "nothing is live under this name")));
        };
        self.session.accept()?;
        if let Some(stream_id) = self.session.playing() {
            let player = Player::new(broadcast.subscribe(), stream_id, self.context.metrics.clone());
            player.begin(self.session.transmit())?;
            self.role = Role::Player(player);
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), Error> {
        debug!(
            reason = refusal.reason.label(),
            description = refusal.description,
            "sent off"
        );
        self.context.metrics.refuse(refusal.reason);
        self.session.refuse(&refusal)
    }

    fn leave(&mut self, now: Instant) {
        if let Role::Publisher { publisher, .. } = std::mem::replace(&mut self.role, Role::Nobody) {
            publisher.leave(now);
        }
    }

    /// Makes room for a read. The buffer is never split off, so this moves at most an incomplete header to its front.
    fn prepare_read(&mut self) {
        let room = if let Role::Publisher { .. } = self.role {
            READ_BYTES
        } else {
            SMALL_READ_BYTES
        };
        if self.input.is_empty() {
            self.input.clear();
        }
        self.input.reserve(room.saturating_sub(self.input.len()).max(1));
    }

    /// Writes all that is queued; each step within the write limit.
    async fn flush(&mut self) -> Result<(), Error> {
        let transmit = self.session.transmit();
        if transmit.is_empty() {
            return Ok(());
        }
        let limit = self.context.write_limit;
        while !transmit.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = transmit.slices(&mut slices);
            let written = within(limit, self.socket.write_vectored(&slices[..filled])).await?;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.context.metrics.sent.inc_by(written as u64);
            transmit.advance(written);
        }
        // TLS may have kept some of it.
        within(limit, self.socket.flush()).await
    }

    /// Says that nothing more comes, and waits a moment for the peer to hang up.
    async fn linger(&mut self) {
        let hang_up = async {
            self.socket.shutdown().await?;
            loop {
                self.input.clear();
                self.input.reserve(SMALL_READ_BYTES);
                if self.socket.read_buf(&mut self.input).await? == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        // Whether it did or not, the connection is closed next.
        let _ = timeout(LINGER, hang_up).await;
    }
}

impl Role {
    /// What this role waits for besides the peer. Cancel-safe.
    async fn wake(&mut self) -> Wake {
        match self {
            Self::Nobody => std::future::pending().await,
            Self::Publisher { revoked, .. } => Wake::Revoked(revoked.await),
            Self::Player(player) => Wake::Play(player.next().await),
        }
    }
}

/// Waits until a publisher must go; why.
async fn revoked(claim: Revocation, withdrawn: CancellationToken) -> Refusal {
    tokio::select! {
        cause = claim.revoked() => publisher::ended(Some(&cause)),
        () = withdrawn.cancelled() => Refusal::new(
            Reason::Withdrawn,
            "this stream key has been withdrawn: ask the server's operator for another",
        ),
    }
}

/// One step of writing, within `limit`.
async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    let done = timeout(limit, step).await.map_err(|_| Error::TimedOut {
        what: "write",
        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    })?;
    Ok(done?)
}

/// Brings the timer forward if the deadline is sooner. A later deadline is seen when the timer fires: so a publisher's every
/// read does not touch the timer.
fn arm(timer: Pin<&mut Sleep>, deadline: Option<Instant>, now: Instant) {
    let deadline = deadline.unwrap_or(now + FAR).into();
    if deadline < timer.deadline() {
        timer.reset(deadline);
    }
}

/// Sets a timer that has fired.
fn arm_again(timer: Pin<&mut Sleep>, deadline: Option<Instant>, now: Instant) {
    timer.reset(deadline.unwrap_or(now + FAR).into());
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! One connection's life: reads feed the session, its events go to a publisher or a player
//! (`role`), and `writes` sends its output. `right` decides requests to publish. Generic over the
//! byte stream, so that RTMPS only passes another stream. All waits have a limit.

mod right;
mod role;
mod traced;
mod writes;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use media_core::{ChannelName, Hub, broadcast};
use net_core::{Dormant, Permit, Quota, Share};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug};

use crate::{
    Error,
    auth::{Authorize, Grant, PlayRequest, PublishRequest, Reason, Refusal, StreamKey},
    clock::{self, now},
    metrics::{Cause, Metrics},
    pace::Pace,
    player::Player,
    publisher::Publisher,
    reports::Reports,
    session::{self, Event, Session},
};
use right::{decided, going_down, revoked, unclaimed};
use role::{Role, Wake, signalled};
use traced::Traced;
use writes::{Writer, linger, stopped};

/// Read buffer of publishers: one wake-up reads everything that the kernel holds. Reused.
const READ_BYTES: usize = 64 << 10;
/// Read buffer of all other peers.
const SMALL_READ_BYTES: usize = 4 << 10;
/// Interval at which a publisher that is not read is marked active, shorter than the silence after
/// which another takes over its name.
const AHEAD_TICK: Duration = Duration::from_millis(500);
/// In place of a deadline: none.
const FAR: Duration = Duration::from_secs(86_400);

/// State shared by all connections of a server.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    /// Decides requests to publish.
    pub(crate) authorize: Arc<dyn Authorize>,
    pub(crate) metrics: Metrics,
    /// How many connections may play.
    pub(crate) players: Arc<Quota>,
    /// Log lines about peers, limited in number.
    pub(crate) reports: Reports,
    /// Settings of each session.
    pub(crate) session: session::Settings,
    /// Time within which a peer must accept some of the bytes sent to it.
    pub(crate) write_limit: Duration,
}

/// One connection and the state of its peer.
struct Connection<'a, S> {
    socket: S,
    peer: SocketAddr,
    /// Active while the peer publishes or plays: an idle connection may be closed for another.
    permit: Permit,
    /// Among the players, while it is one.
    share: Option<Share>,
    context: &'a Context,
    session: Session,
    /// Bytes that were read and that the session has not consumed.
    input: BytesMut,
    /// The result of the read after which nothing more can be read, while earlier data still wait
    /// for the wall clock.
    ended: Option<io::Result<usize>>,
    role: Role,
    /// The rate at which the peer accepts output.
    pace: Pace,
    /// The channel that it published, or tried to publish, last.
    channel: Option<ChannelName>,
    /// The exported span of the publisher.
    traced: Traced,
}

/// Serves one peer until it disconnects or is disconnected; the result is counted and logged here.
///
/// Once `retire` is cancelled a publisher is asked to reconnect; at `shutdown` every peer is
/// disconnected, and the connection ends within the write limit and a second. If it is evicted, it
/// ends at once.
pub(crate) async fn run<S>(
    socket: S,
    peer: SocketAddr,
    permit: Permit,
    context: &Context,
    retire: CancellationToken,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = pin!(stopped(Arc::clone(permit.usage()), &shutdown, context.write_limit));
    let mut connection = Connection {
        socket,
        peer,
        permit,
        share: None,
        context,
        session: Session::new(context.session.clone(), now()),
        input: BytesMut::new(),
        ended: None,
        role: Role::Idle,
        pace: Pace::new(context.write_limit),
        channel: None,
        traced: Traced::default(),
    };
    let ended = connection.drive(&retire, &shutdown, stop.as_mut()).await;
    match &ended {
        Ok(Cause::Evicted) => connection.traced.ending("evicted"),
        Err(Error::Io(_)) => connection.traced.ending("socket"),
        Err(Error::TimedOut { .. } | Error::TooSlow { .. }) => connection.traced.ending("timeout"),
        Err(_) => connection.traced.ending("protocol"),
        Ok(_) => {}
    }
    connection.leave(now());
    // Peers disconnect in many ways, so an error of the socket is logged for debugging only. A
    // violation of the protocol or of a limit is reported.
    let cause = match &ended {
        Ok(cause) => {
            debug!(?cause, "connection closed");
            *cause
        }
        Err(Error::Io(err)) => {
            debug!(%err, "connection closed");
            Cause::Socket
        }
        Err(err) => {
            let cause = match err {
                Error::TimedOut { .. } | Error::TooSlow { .. } => Cause::Timeout,
                _ => Cause::Protocol,
            };
            let channel = connection.channel.as_ref();
            context.reports.failed(peer, channel, cause, err, now());
            cause
        }
    };
    context.metrics.close(cause);
    if let Err(err) = ended {
        connection.explain(&err, stop).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Handles wake-ups until the connection ends. Returns the cause.
    ///
    /// # Errors
    /// The socket failed, or the peer violated the protocol or a limit.
    async fn drive(
        &mut self,
        retire: &CancellationToken,
        shutdown: &CancellationToken,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) -> Result<Cause, Error> {
        let usage = Arc::clone(self.permit.usage());
        let mut signal = Dormant::new(Box::pin(signalled(&usage, shutdown, Some(retire))));
        let mut timer = pin!(sleep_until((now() + FAR).into()));
        let mut now = clock::now();
        // Each turn handles the input, writes all output and then waits for one event, so that
        // output never accumulates for a peer that does not accept it.
        loop {
            self.handle_events(now)?;
            if let Some(cause) = self.write(now, stop.as_mut()).await? {
                return Ok(cause);
            }
            // A long wait is divided, so that a publisher that is not read on purpose stays active
            // in the hub.
            let resume_at = self.resume_at(now).map(|at| at.min(now + AHEAD_TICK));
            if let Some(read) = self.ended.take_if(|_| resume_at.is_none()) {
                return Ok(read.map(|_| Cause::Peer)?);
            }
            let reads = self.may_read(resume_at, now);
            if reads {
                self.prepare_read();
            }
            arm(timer.as_mut(), self.deadline().into_iter().chain(resume_at).min(), now);
            let woken = tokio::select! {
                // Most wake-ups are reads, and need no check of the other branches. A peer that
                // always has more data does not starve them, because the runtime's budget makes a
                // read pending now and then.
                biased;
                read = self.socket.read_buf(&mut self.input), if reads => Wake::Read(read),
                wake = self.role.wake() => wake,
                () = &mut timer => Wake::Timer,
                wake = &mut signal => wake,
            };
            now = clock::now();
            // Errors end the connection in `run`; refusals are sent to the peer first.
            match woken {
                Wake::Read(Ok(count)) if count > 0 => self.count(count, now),
                Wake::Read(read) => self.end_input(read),
                Wake::Timer => {
                    self.handle_timeout(resume_at.is_some(), now)?;
                    arm_again(timer.as_mut(), self.deadline(), now);
                }
                Wake::Play(event) => self.send(event)?,
                Wake::Authorized(decision) => {
                    if let Err(refusal) = self.publish(decision, now)? {
                        self.refuse(refusal)?;
                    }
                }
                Wake::Revoked(refusal) => self.refuse(refusal)?,
                Wake::Retire => {
                    // It is handled once: afterwards only the other two signals are awaited.
                    signal = Dormant::new(Box::pin(signalled(&usage, shutdown, None)));
                    if self.session.request_reconnect()? {
                        debug!("publisher asked to reconnect");
                    }
                }
                Wake::Shutdown => self.refuse(going_down())?,
                Wake::Evicted => return Ok(Cause::Evicted),
            }
        }
    }

    /// Writes all output, and then ends a session that is closing. Returns the cause if the
    /// connection ends.
    ///
    /// # Errors
    /// The socket failed, or the peer accepts bytes too slowly.
    async fn write(
        &mut self,
        now: Instant,
        mut stop: Pin<&mut impl Future<Output = Cause>>,
    ) -> Result<Option<Cause>, Error> {
        if self.session.is_closing() {
            // The name is free from here on.
            self.leave(now);
        }
        // After the end of the input nothing is written: a failed write would end the connection
        // before its remaining media are due.
        if self.ended.is_none()
            && let Some(cause) = self.writer().flush(stop.as_mut()).await?
        {
            return Ok(Some(cause));
        }
        if !self.session.is_closing() {
            return Ok(None);
        }
        linger(&mut self.socket, &mut self.input, stop).await;
        Ok(Some(Cause::Refused))
    }

    /// Handles the passage of time; `paced`: the connection waited for the wall clock.
    ///
    /// # Errors
    /// The peer exceeded a time limit.
    fn handle_timeout(&mut self, paced: bool, now: Instant) -> Result<(), Error> {
        // A wait for the wall clock is our own, so it does not count as the peer's silence.
        match paced {
            true => self.excuse_silence(now),
            false => self.session.handle_timeout(now)?,
        }
        if let Role::Publisher { publisher, .. } = &mut self.role
            && let Err(refusal) = publisher.handle_timeout(now)
        {
            self.refuse(refusal)?;
        }
        Ok(())
    }

    /// Queues an event of the hub for the player; `None` ends its play.
    ///
    /// # Errors
    /// The response could not be framed.
    fn send(&mut self, event: Option<broadcast::Event>) -> Result<(), Error> {
        let Some(event) = event else {
            return self.session.end_play();
        };
        if let Role::Player(player) = &mut self.role {
            player.send(event, self.session.transmit());
        }
        Ok(())
    }

    /// The writing side, which sends the session's output.
    fn writer(&mut self) -> Writer<'_, S> {
        // A publisher is active as long as it sends, so only a player's permit depends on its
        // writes.
        Writer {
            socket: &mut self.socket,
            transmit: self.session.transmit(),
            pace: &mut self.pace,
            player: matches!(self.role, Role::Player(_)).then_some(&mut self.permit),
            limit: self.context.write_limit,
            sent: &self.context.metrics.sent,
        }
    }

    /// Sends the peer the reason of the failure, if the connection still permits it.
    async fn explain(&mut self, err: &Error, mut stop: Pin<&mut impl Future<Output = Cause>>) {
        // After a socket error or a slow write nothing more can be sent.
        let gone = matches!(
            err,
            Error::Io(_) | Error::TooSlow { .. } | Error::TimedOut { what: "write", .. }
        );
        if gone || self.session.fail(err).is_err() || self.session.transmit().is_empty() {
            return;
        }
        if matches!(self.writer().flush(stop.as_mut()).await, Ok(None)) {
            linger(&mut self.socket, &mut self.input, stop).await;
        }
    }

    /// Time until which a publisher is not read, because its media lead the wall clock.
    fn resume_at(&self, now: Instant) -> Option<Instant> {
        match &self.role {
            Role::Publisher { publisher, .. } if !self.session.is_closing() => {
                publisher.resume_at(now)
            }
            _ => None,
        }
    }

    /// Whether a request to publish is being decided. Until then nothing more is read or handled.
    fn is_authorizing(&self) -> bool {
        matches!(self.role, Role::Authorizing(_))
    }

    /// A publisher that is not read is not silent.
    fn excuse_silence(&mut self, now: Instant) {
        self.session.excuse_silence(now);
        if let Role::Publisher { hold, publisher, .. } = &mut self.role {
            hold.touch(now);
            publisher.excuse_silence(now);
        }
    }

    /// Counts read bytes; the peer is active.
    fn count(&mut self, bytes: usize, now: Instant) {
        self.context.metrics.received.inc_by(bytes as u64);
        if let Role::Publisher { publisher, hold, .. } = &mut self.role {
            hold.touch(now);
            publisher.note_received(bytes, now);
        }
    }

    /// Whether the peer is read. `resume_at` is the end of a wait for the wall clock.
    fn may_read(&mut self, resume_at: Option<Instant>, now: Instant) -> bool {
        // Flow control: a publisher that leads the wall clock is not read, so that TCP slows it
        // down. During a decision the next bytes wait, because responses keep the order of the
        // requests.
        self.ended.is_none()
            && !self.is_authorizing()
            && (resume_at.is_none() || self.reads_ahead(now))
    }

    /// Whether a publisher that leads the wall clock is read all the same.
    fn reads_ahead(&mut self, now: Instant) -> bool {
        match &mut self.role {
            Role::Publisher { publisher, .. } => publisher.reads_ahead(self.input.len(), now),
            _ => false,
        }
    }

    /// Nothing more can be read. The data that wait for the wall clock are published first.
    fn end_input(&mut self, read: io::Result<usize>) {
        self.ended = Some(read);
        if let Role::Publisher { publisher, .. } = &mut self.role {
            publisher.note_end();
        }
    }

    /// Handles the events of the bytes read so far, unless the publisher leads the wall clock.
    fn handle_events(&mut self, now: Instant) -> Result<(), Error> {
        while self.resume_at(now).is_none()
            && !self.is_authorizing()
            && let Some(event) = self.session.poll_event(&mut self.input, now)?
        {
            // A refusal is a decision about the peer's request or media, and ends the connection
            // with its reason. An error of the session is a violation of the protocol, and ends it
            // in `run`.
            let taken = match (event, &mut self.role) {
                (Event::Video { timestamp, body }, Role::Publisher { publisher, .. }) => {
                    publisher.video(timestamp, body, now)
                }
                (Event::Audio { timestamp, body }, Role::Publisher { publisher, .. }) => {
                    publisher.audio(timestamp, body, now)
                }
                (Event::Metadata(metadata), Role::Publisher { publisher, .. }) => {
                    publisher.metadata(&metadata, now)
                }
                (Event::Publish { app, key, verbatim, query, client }, _) => {
                    let (peer, client) = (self.peer, *client);
                    self.authorize(PublishRequest { app, key, verbatim, query, peer, client });
                    Ok(())
                }
                (Event::Play { name, query }, _) => self.play(&name, query)?,
                (Event::Closed, _) => {
                    self.leave(now);
                    Ok(())
                }
                (Event::Refused(refusal), _) => {
                    self.report(&refusal);
                    Ok(())
                }
                // The session raises these events only for a publisher.
                (Event::Video { .. } | Event::Audio { .. } | Event::Metadata(_), _) => Ok(()),
            };
            if let Err(refusal) = taken {
                self.refuse(refusal)?;
            }
        }
        if let Role::Publisher { publisher, .. } = &mut self.role {
            publisher.note_held(self.input.len(), now);
            if let Some(words) = publisher.take_words() {
                self.session.advise(&words)?;
            }
        }
        Ok(())
    }

    /// The earliest deadline of the session and the publisher.
    fn deadline(&self) -> Option<Instant> {
        let publisher = match &self.role {
            Role::Publisher { publisher, .. } => publisher.poll_timeout(),
            _ => None,
        };
        self.session.poll_timeout().into_iter().chain(publisher).min()
    }

    /// Requests the decision about the right to publish.
    fn authorize(&mut self, request: PublishRequest) {
        let (authorize, limit) = (Arc::clone(&self.context.authorize), self.context.session.setup);
        let decision: Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send>> =
            Box::pin(decided(authorize, request, limit).instrument(self.traced.begin()));
        self.role = Role::Authorizing(Dormant::new(decision));
    }

    /// Publishes as granted, or returns the refusal.
    ///
    /// # Errors
    /// The response could not be framed.
    fn publish(
        &mut self,
        decision: Result<Grant, Refusal>,
        now: Instant,
    ) -> Result<Result<(), Refusal>, Error> {
        let context = self.context;
        self.role = Role::Idle;
        let grant = match decision {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.channel = Some(grant.channel.clone());
        self.traced.permitted(&grant.channel);
        // Only with the right to publish: a claim can take the name from a publisher that is
        // silent.
        let claim = match context.hub.claim_active(grant.channel, now) {
            Ok(claim) => claim.with_settings(grant.settings),
            Err(err) => return Ok(Err(unclaimed(&err))),
        };
        debug!(channel = %claim.name(), "publish request accepted");
        // The hub may revoke the right at any time, for example for another publisher, so the
        // connection waits for that from now on.
        let hold = claim.hold().clone();
        let revoked: Pin<Box<dyn Future<Output = Refusal> + Send>> =
            Box::pin(revoked(hold.clone(), grant.withdrawn, grant.expires));
        let revoked = Dormant::new(revoked);
        let publisher = Publisher::new(claim, context.metrics.clone(), context.session.idle, now);
        self.permit.set_active();
        self.role = Role::Publisher { publisher, hold, revoked, _lease: grant.lease };
        // It was not read during the decision, so it was not silent.
        self.session.excuse_silence(now);
        self.session.accept().map(Ok)
    }

    /// Starts to play the broadcast `name`, or returns the refusal.
    ///
    /// # Errors
    /// The response could not be framed.
    fn play(&mut self, name: &str, query: Option<StreamKey>) -> Result<Result<(), Refusal>, Error> {
        let not_found = || Refusal::new(Reason::NotFound, "nothing is live under this name");
        let Ok(channel) = name.parse::<ChannelName>() else {
            return Ok(Err(not_found()));
        };
        let broadcast = self.context.hub.broadcast(&channel);
        // Decided first, so that a refusal does not reveal whether the channel is live.
        let id = broadcast.as_ref().map(|broadcast| broadcast.id());
        let request = PlayRequest { channel, broadcast: id, query, peer: self.peer };
        if let Err(refusal) = self.context.authorize.may_play(&request) {
            return Ok(Err(refusal));
        }
        let Some(broadcast) = broadcast else {
            return Ok(Err(not_found()));
        };
        self.channel = Some(broadcast.name().clone());
        // Players have a limit of their own, below that of connections, so that they cannot keep
        // publishers out.
        if self.share.is_none() {
            let Ok(share) = self.context.players.take(None) else {
                let words = "the limit of players is reached: try again later";
                return Ok(Err(Refusal::new(Reason::Players, words)));
            };
            self.share = Some(share);
        }
        self.permit.set_active();
        self.session.accept()?;
        if let Some(stream_id) = self.session.playing() {
            let player =
                Player::new(broadcast.subscribe(), stream_id, self.context.metrics.clone());
            player.begin(self.session.transmit())?;
            self.role = Role::Player(player);
        }
        Ok(Ok(()))
    }

    /// Sends a refusal, after which the session is closing, and reports it.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), Error> {
        self.traced.ending(refusal.reason.label());
        self.report(&refusal);
        self.session.refuse(&refusal)
    }

    /// Logs and counts a refusal.
    fn report(&self, refusal: &Refusal) {
        self.context.metrics.refuse(refusal.reason);
        // At a shutdown every peer is refused, so the lines would only fill the log.
        if refusal.reason == Reason::Shutdown {
            debug!("peer disconnected at shutdown");
            return;
        }
        let channel = self.channel.as_ref();
        self.context.reports.refused(self.peer, channel, refusal, now());
    }

    /// Ends the role of the peer: a broadcast waits for its publisher's return, and the permit is
    /// idle.
    fn leave(&mut self, now: Instant) {
        // It may be called again at the end of the connection, which then changes nothing: the
        // permit stays idle since the first call.
        let role = std::mem::replace(&mut self.role, Role::Idle);
        let broadcast = match &role {
            Role::Publisher { publisher, .. } => publisher.broadcast(),
            _ => None,
        };
        self.traced.finish(broadcast);
        match role {
            Role::Idle => return,
            Role::Publisher { publisher, .. } => publisher.leave(now),
            Role::Authorizing(_) | Role::Player(_) => {}
        }
        self.share = None;
        self.permit.set_idle(now.into());
    }

    /// Makes room for a read. The buffer is never split, so this moves at most an incomplete header
    /// to its front, or what is read ahead. After that, its memory is released.
    fn prepare_read(&mut self) {
        let room =
            if let Role::Publisher { .. } = self.role { READ_BYTES } else { SMALL_READ_BYTES };
        if self.input.is_empty() {
            self.input.clear();
        }
        let held = self.input.len();
        // Data that are read ahead of the wall clock can fill the buffer, which then grows by one
        // read at a time. A large buffer is replaced once most of it has been used up.
        match held < READ_BYTES {
            true if self.input.capacity() > 4 * READ_BYTES => {
                let mut input = BytesMut::with_capacity(READ_BYTES);
                input.extend_from_slice(&self.input);
                self.input = input;
            }
            true => self.input.reserve(room.saturating_sub(held).max(1)),
            false => self.input.reserve(READ_BYTES),
        }
    }
}

/// Brings the timer forward if the deadline is sooner. A later deadline is noticed when the timer
/// fires, so that a publisher's reads do not touch the timer.
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

#[cfg(test)]
mod tests;

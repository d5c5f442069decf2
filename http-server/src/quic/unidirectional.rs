//! A client's unidirectional streams: control, the two of QPACK, and those that a client must not
//! open (RFC 9114 6.2, 7.2; RFC 9204 4.2 to 4.4).
//!
//! [`Stream`] is pure: bytes in, protocol errors out. Nothing on these streams affects responses:
//! they refer to no dynamic table, the server never pushes, and a client that sends GOAWAY limits
//! pushes and may continue to send requests. The streams are read to detect protocol errors, and at
//! most one frame of each is held. [`read`] does this for a connection in a task of its own; for
//! most connections it has no work after its first run.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, ready},
};

use h3::error::Code;
use tokio::task::coop;
use tracing::debug;

use crate::metrics::{Metrics, Reason};

use super::{
    transport::{Stopped, wire},
    varint,
};

/// Stream types (RFC 9114 11.2.4, RFC 9204 8.2).
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;
/// Frame types (RFC 9114 11.2.1).
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const GOAWAY: u64 = 0x7;
/// The last of the types that HTTP/2 had: those without a name here are forbidden on a control
/// stream.
const CONTINUATION: u64 = 0x9;
const MAX_PUSH_ID: u64 = 0xd;
/// Settings whose value is 0 or 1: extended CONNECT (RFC 9220 3) and datagrams (RFC 9297 2.1.1).
const SWITCHES: [u64; 2] = [0x8, 0x33];
/// Limit in bytes of a frame on the control stream: some hundreds of settings.
const MAX_FRAME: u64 = 4 << 10;
/// Limit of the bytes of an integer on QPACK's streams after its first byte: 62 bits (RFC 9204
/// 4.1.1).
const MAX_CONTINUED: u8 = 9;
/// Limit of the bytes of a frame's type and length.
const MAX_HEAD: usize = 16;

/// The reason why the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The error code of the close.
    code: Code,
    /// A phrase for the peer's log.
    why: &'static str,
}

/// The client's state across all its streams.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Which of the streams that occur once have been opened.
    control: bool,
    encoder: bool,
    decoder: bool,
    /// SETTINGS have arrived.
    settled: bool,
    /// The last MAX_PUSH_ID, which may only grow (RFC 9114 7.2.7).
    max_push_id: Option<u64>,
    /// The last GOAWAY, which may only shrink (RFC 9114 5.2).
    goaway: Option<u64>,
}

/// One stream, read as its bytes arrive.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    state: State,
    /// The bytes of an incomplete stream type or frame.
    partial: Vec<u8>,
}

/// The type of the stream, and the position in it.
#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the stream type.
    #[default]
    Type,
    /// On the control stream, within a frame's type, length or content.
    Control,
    /// On the control stream, within a frame that is skipped; bytes left.
    Skipping(u64),
    /// On QPACK's encoder stream.
    Encoder,
    /// On the decoder stream; within an integer, the number of its bytes so far.
    Decoder(Option<u8>),
    /// A stream of unknown type: it is not read further.
    Unknown,
}

impl Stream {
    /// Processes the next bytes. Returns whether more are wanted.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(crate) fn read(&mut self, bytes: &[u8], peer: &mut Peer) -> Result<bool, Fault> {
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            // Byte by byte, except for skipped frames: these streams carry some dozens of bytes in
            // a connection's life.
            match &mut self.state {
                State::Type => {
                    rest = after;
                    self.partial.push(first);
                    if let Some((kind, _)) = varint::read(&self.partial) {
                        self.partial.clear();
                        self.state = open(kind, peer)?;
                    }
                }
                State::Control => {
                    rest = after;
                    self.partial.push(first);
                    self.frame(peer)?;
                }
                State::Skipping(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    rest = &rest[count..];
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::Control;
                    }
                }
                State::Encoder => {
                    rest = after;
                    // Set Dynamic Table Capacity to 0 is the only valid instruction for the table
                    // that this server allows, which is none.
                    if first != 0x20 {
                        return Err(fault(
                            Code::QPACK_ENCODER_STREAM_ERROR,
                            "there is no dynamic table",
                        ));
                    }
                }
                State::Decoder(within) => {
                    rest = after;
                    *within = decoder(first, *within)?;
                }
                State::Unknown => return Ok(false),
            }
        }
        Ok(self.state != State::Unknown)
    }

    /// Checks that the stream may end, or be reset, here.
    ///
    /// # Errors
    /// The connection must be closed.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::Type | State::Unknown => Ok(()),
            State::Control if !self.partial.is_empty() => {
                Err(fault(Code::H3_FRAME_ERROR, "the stream ended within a frame"))
            }
            State::Skipping(_) => {
                Err(fault(Code::H3_FRAME_ERROR, "the stream ended within a frame"))
            }
            State::Control | State::Encoder | State::Decoder(_) => {
                Err(fault(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream has ended"))
            }
        }
    }

    /// Takes the frame in `partial` if it is complete, or skips it if its type is unknown. Called
    /// after each byte, so that a frame is checked when its type and length are complete, before
    /// its content is held.
    ///
    /// # Errors
    /// The frame is not permitted here, too long, or malformed.
    fn frame(&mut self, peer: &mut Peer) -> Result<(), Fault> {
        let Some((kind, length, head)) = varint::read_pair(&self.partial) else {
            return Ok(());
        };
        // The type and length have just become complete: their checks come before any content is
        // held.
        if self.partial.len() == head {
            permitted(kind, length, peer)?;
            if !is_known(kind) {
                self.partial.clear();
                if length > 0 {
                    self.state = State::Skipping(length);
                }
                return Ok(());
            }
        }
        let payload = &self.partial[head..];
        if (payload.len() as u64) < length {
            return Ok(());
        }
        take(kind, payload, peer)?;
        self.partial.clear();
        // A frame with many settings arrives only once, so its memory is released.
        self.partial.shrink_to(MAX_HEAD);
        Ok(())
    }
}

/// A protocol error.
fn fault(code: Code, why: &'static str) -> Fault {
    Fault { code, why }
}

/// The state of a new stream of type `kind`.
///
/// # Errors
/// The type is for servers only, or has occurred before (RFC 9114 6.2.1, 6.2.2; RFC 9204 4.2).
fn open(kind: u64, peer: &mut Peer) -> Result<State, Fault> {
    // Each critical stream may be opened once; streams of unknown types are permitted and ignored
    // (RFC 9114 9).
    let (seen, state) = match kind {
        CONTROL => (&mut peer.control, State::Control),
        ENCODER => (&mut peer.encoder, State::Encoder),
        DECODER => (&mut peer.decoder, State::Decoder(None)),
        PUSH => return Err(fault(Code::H3_STREAM_CREATION_ERROR, "a client must not push")),
        _ => return Ok(State::Unknown),
    };
    match std::mem::replace(seen, true) {
        true => Err(fault(Code::H3_STREAM_CREATION_ERROR, "a second stream of its type")),
        false => Ok(state),
    }
}

/// Whether this server interprets frames of this type on the control stream.
fn is_known(kind: u64) -> bool {
    matches!(kind, SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH)
}

/// Checks whether a frame is permitted now and with this length (RFC 9114 6.2.1, 7.2).
///
/// # Errors
/// The order of frames, their type on this stream, or their length.
fn permitted(kind: u64, length: u64, peer: &Peer) -> Result<(), Fault> {
    match kind {
        SETTINGS if peer.settled => {
            Err(fault(Code::H3_FRAME_UNEXPECTED, "a second SETTINGS frame"))
        }
        SETTINGS => Ok(()),
        _ if !peer.settled => Err(fault(Code::H3_MISSING_SETTINGS, "a frame before SETTINGS")),
        ..=CONTINUATION if !is_known(kind) => {
            Err(fault(Code::H3_FRAME_UNEXPECTED, "a frame that is forbidden on the control stream"))
        }
        _ => Ok(()),
    }?;
    match is_known(kind) && length > MAX_FRAME {
        true => Err(fault(Code::H3_EXCESSIVE_LOAD, "a frame of the control stream is too long")),
        false => Ok(()),
    }
}

/// Processes a complete frame (RFC 9114 7.2.3 to 7.2.7).
///
/// # Errors
/// Its content is malformed, or an identifier changes in the wrong direction.
fn take(kind: u64, payload: &[u8], peer: &mut Peer) -> Result<(), Fault> {
    if kind == SETTINGS {
        peer.settled = true;
        return settings(payload);
    }
    let Some((id, len)) = varint::read(payload) else {
        return Err(fault(Code::H3_FRAME_ERROR, "a frame without its identifier"));
    };
    if len != payload.len() {
        return Err(fault(Code::H3_FRAME_ERROR, "a frame with more than its identifier"));
    }
    match kind {
        GOAWAY => match peer.goaway.replace(id) {
            Some(before) if before < id => {
                Err(fault(Code::H3_ID_ERROR, "GOAWAY with a larger identifier"))
            }
            _ => Ok(()),
        },
        MAX_PUSH_ID => match peer.max_push_id.replace(id) {
            Some(before) if before > id => {
                Err(fault(Code::H3_ID_ERROR, "MAX_PUSH_ID with a smaller identifier"))
            }
            _ => Ok(()),
        },
        _ => Err(fault(Code::H3_ID_ERROR, "CANCEL_PUSH of a push that was never promised")),
    }
}

/// Checks settings: each once, none of HTTP/2's (RFC 9114 7.2.4, 7.2.4.1). Their values have no
/// effect, because responses refer to no dynamic table and their heads are short.
fn settings(mut payload: &[u8]) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    while !payload.is_empty() {
        let Some((name, value, len)) = varint::read_pair(payload) else {
            return Err(fault(Code::H3_FRAME_ERROR, "an incomplete setting"));
        };
        payload = &payload[len..];
        // Identifiers of HTTP/2's settings are reserved, and a repeated one is an error (RFC 9114
        // 7.2.4).
        if matches!(name, 0 | 2..=5)
            || !seen.insert(name)
            || (SWITCHES.contains(&name) && value > 1)
        {
            return Err(fault(Code::H3_SETTINGS_ERROR, "a setting that is repeated or forbidden"));
        }
    }
    Ok(())
}

/// Processes one byte of the decoder stream; `within` is the number of bytes of an incomplete
/// integer so far. Stream Cancellation is the only valid instruction, because responses refer to no
/// table (RFC 9204 4.4).
fn decoder(byte: u8, within: Option<u8>) -> Result<Option<u8>, Fault> {
    match within {
        None if byte & 0xc0 != 0x40 => Err(fault(
            Code::QPACK_DECODER_STREAM_ERROR,
            "an instruction for an empty dynamic table",
        )),
        None => Ok((byte & 0x3f == 0x3f).then_some(0)),
        Some(MAX_CONTINUED) => {
            Err(fault(Code::QPACK_DECODER_STREAM_ERROR, "an integer of more than 62 bits"))
        }
        Some(count) => Ok((byte & 0x80 != 0).then_some(count + 1)),
    }
}

/// Reads a client's unidirectional streams until the connection ends. Closes it after a protocol
/// error, or if the client stops reading a stream of this server that must stay open.
pub(crate) async fn read(quic: quinn::Connection, mut ours: Vec<Stopped>, metrics: Metrics) {
    let (mut peer, mut streams) = (Peer::default(), Vec::new());
    let fault = loop {
        tokio::select! {
            accepted = quic.accept_uni() => match accepted {
                // The limit of streams bounds their number.
                Ok(stream) => streams.push((stream, Stream::default())),
                Err(err) => return debug!(%err, "connection ended"),
            },
            fault = poll_fn(|cx| poll(&mut streams, &mut peer, cx)) => break fault,
            () = poll_fn(|cx| poll_any(&mut ours, cx)) => break fault(
                Code::H3_CLOSED_CRITICAL_STREAM,
                "the client stopped reading a critical stream",
            ),
        }
    };
    metrics.refuse(Reason::Malformed);
    debug!(?fault, "connection closed");
    quic.close(wire(fault.code.value()), fault.why.as_bytes());
}

/// Reads the available bytes of all streams, and drops those that have ended. Ready with the first
/// protocol error.
fn poll(
    streams: &mut Vec<(quinn::RecvStream, Stream)>,
    peer: &mut Peer,
    cx: &mut Context<'_>,
) -> Poll<Fault> {
    let mut fault = None;
    streams.retain_mut(|(recv, stream)| match (&fault, poll_one(recv, stream, peer, cx)) {
        (None, Poll::Ready(Err(found))) => {
            fault = Some(found);
            false
        }
        (_, outcome) => outcome.is_pending(),
    });
    fault.map_or(Poll::Pending, Poll::Ready)
}

/// Ready when the client has stopped reading one of this server's streams.
fn poll_any(ours: &mut [Stopped], cx: &mut Context<'_>) -> Poll<()> {
    match ours.iter_mut().any(|stopped| stopped.as_mut().poll(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}

/// Ready when the stream has ended, or is not read further.
fn poll_one(
    recv: &mut quinn::RecvStream,
    stream: &mut Stream,
    peer: &mut Peer,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Fault>> {
    // The stream keeps the waker, not this future.
    let next = |cx: &mut Context<'_>| pin!(recv.read_chunk(usize::MAX, true)).poll(cx);
    if !ready!(read_on(next, stream, peer, cx))? {
        // Stopped with the code for an unknown stream type (RFC 9114 6.2).
        let _ = recv.stop(wire(Code::H3_STREAM_CREATION_ERROR.value()));
    }
    Poll::Ready(Ok(()))
}

/// Reads chunks of a stream from `next`, within the task's cooperative budget. Ready with true at
/// the stream's end, and with false when no more bytes are wanted.
fn read_on(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<quinn::Chunk>, quinn::ReadError>>,
    stream: &mut Stream,
    peer: &mut Peer,
    cx: &mut Context<'_>,
) -> Poll<Result<bool, Fault>> {
    loop {
        let turn = ready!(coop::poll_proceed(cx));
        let chunk = ready!(next(cx));
        turn.made_progress();
        let Ok(Some(chunk)) = chunk else {
            // Ended, reset, or lost with its connection.
            let lost = matches!(chunk, Err(quinn::ReadError::ConnectionLost(_)));
            return Poll::Ready(if lost { Ok(true) } else { stream.end().map(|()| true) });
        };
        if !stream.read(&chunk.bytes, peer)? {
            return Poll::Ready(Ok(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        varint::write(kind, &mut frame);
        varint::write(payload.len() as u64, &mut frame);
        frame.extend_from_slice(payload);
        frame
    }

    /// Reads a stream in pieces of `size` bytes, and its end if `ends`.
    fn run(peer: &mut Peer, bytes: &[u8], size: usize, ends: bool) -> Result<bool, Code> {
        let mut stream = Stream::default();
        let mut more = true;
        for piece in bytes.chunks(size) {
            more = stream.read(piece, peer).map_err(|fault| fault.code)?;
        }
        if ends {
            stream.end().map_err(|fault| fault.code)?;
        }
        Ok(more)
    }

    /// The same in pieces of any size, each on a connection of its own.
    #[track_caller]
    fn each(bytes: &[u8], ends: bool, expected: Result<bool, Code>) {
        for size in [1, 2, 3, bytes.len().max(1)] {
            let found = run(&mut Peer::default(), bytes, size, ends);
            assert_eq!(found, expected, "{bytes:02x?} in pieces of {size}");
        }
    }

    fn control(frames: &[Vec<u8>]) -> Vec<u8> {
        [&[0][..], &frames.concat()].concat()
    }

    #[test]
    fn a_control_stream_begins_with_settings_and_has_only_control_frames() {
        let settings = frame(SETTINGS, &[0x01, 0x00, 0x06, 0x40, 0x64, 0x21, 0x3f]);
        let unknown = frame(0x21, &[7; 300]);
        let priority = frame(0xf_0700, b"\0u=1");
        let good = [settings.clone(), unknown.clone(), priority, frame(0x21, b"")];
        each(&control(&good), false, Ok(true));
        each(&control(&good), true, Err(Code::H3_CLOSED_CRITICAL_STREAM));
        each(&control(&[]), true, Err(Code::H3_CLOSED_CRITICAL_STREAM));
        for first in [unknown, frame(0, b"data"), frame(GOAWAY, &[0])] {
            each(&control(&[first]), false, Err(Code::H3_MISSING_SETTINGS));
        }
        // DATA, HEADERS, HTTP/2's PRIORITY, PUSH_PROMISE, HTTP/2's PING, WINDOW_UPDATE and
        // CONTINUATION, and a second SETTINGS.
        for kind in [0, 1, 2, 5, 6, 8, 9, SETTINGS] {
            let frames = [settings.clone(), frame(kind, &[0])];
            each(&control(&frames), false, Err(Code::H3_FRAME_UNEXPECTED));
        }
    }

    #[test]
    fn duplicate_reserved_or_invalid_settings_are_errors() {
        for (payload, code) in [
            (&[0x02, 0x00][..], Code::H3_SETTINGS_ERROR),
            (&[0x05, 0x00], Code::H3_SETTINGS_ERROR),
            (&[0x06, 0x01, 0x06, 0x01], Code::H3_SETTINGS_ERROR),
            (&[0x21, 0x01, 0x21, 0x02], Code::H3_SETTINGS_ERROR),
            (&[0x08, 0x02], Code::H3_SETTINGS_ERROR),
            (&[0x33, 0x02], Code::H3_SETTINGS_ERROR),
            (&[0x06], Code::H3_FRAME_ERROR),
            (&[0x06, 0x40], Code::H3_FRAME_ERROR),
        ] {
            each(&control(&[frame(SETTINGS, payload)]), false, Err(code));
        }
        each(&control(&[frame(SETTINGS, &[0x08, 0x01, 0x33, 0x00])]), false, Ok(true));
        let mut long = vec![0, 4];
        varint::write(MAX_FRAME + 1, &mut long);
        each(&long, false, Err(Code::H3_EXCESSIVE_LOAD));
    }

    #[test]
    fn goaway_ids_never_increase_and_max_push_ids_never_decrease() {
        let settings = frame(SETTINGS, &[]);
        for (frames, expected) in [
            (&[(GOAWAY, &[8][..]), (GOAWAY, &[4]), (GOAWAY, &[4])][..], Ok(true)),
            (&[(GOAWAY, &[4]), (GOAWAY, &[8])], Err(Code::H3_ID_ERROR)),
            (&[(MAX_PUSH_ID, &[1]), (MAX_PUSH_ID, &[1]), (MAX_PUSH_ID, &[9])], Ok(true)),
            (&[(MAX_PUSH_ID, &[9]), (MAX_PUSH_ID, &[1])], Err(Code::H3_ID_ERROR)),
            (&[(CANCEL_PUSH, &[0])], Err(Code::H3_ID_ERROR)),
            (&[(MAX_PUSH_ID, &[9]), (CANCEL_PUSH, &[0])], Err(Code::H3_ID_ERROR)),
            (&[(GOAWAY, &[])], Err(Code::H3_FRAME_ERROR)),
            (&[(GOAWAY, &[4, 4])], Err(Code::H3_FRAME_ERROR)),
            (&[(MAX_PUSH_ID, &[0x40])], Err(Code::H3_FRAME_ERROR)),
        ] {
            let frames = frames.iter().map(|(kind, payload)| frame(*kind, payload));
            let all: Vec<_> = [settings.clone()].into_iter().chain(frames).collect();
            each(&control(&all), false, expected);
        }
    }

    #[test]
    fn a_truncated_frame_is_an_error_and_unknown_frames_are_not_buffered() {
        let settings = frame(SETTINGS, &[]);
        for cut in [&[7][..], &[7, 1], &[0x21, 5, 0]] {
            each(&control(&[settings.clone(), cut.to_vec()]), true, Err(Code::H3_FRAME_ERROR));
        }
        let (mut stream, mut peer) = (Stream::default(), Peer::default());
        let mut begin = control(&[settings]);
        varint::write(0x21, &mut begin);
        varint::write(1 << 40, &mut begin);
        assert_eq!(stream.read(&begin, &mut peer), Ok(true));
        for _ in 0..100 {
            assert_eq!(stream.read(&[1; 1_000], &mut peer), Ok(true));
            assert!(stream.partial.is_empty());
        }
    }

    #[test]
    fn qpack_instructions_for_the_absent_dynamic_table_are_errors() {
        each(&[2], false, Ok(true));
        each(&[2, 0x20, 0x20], false, Ok(true));
        // Capacity 1, capacity 31 and more, an insertion by name, by literal, a duplicate.
        for instruction in
            [&[0x21][..], &[0x3f, 0xe1, 0x1f], &[0xc0, 1, b'x'], &[0x41, b'x', 1, b'y'], &[0x00]]
        {
            let bytes = [&[2], instruction].concat();
            each(&bytes, false, Err(Code::QPACK_ENCODER_STREAM_ERROR));
        }
        // Streams 4 and 200 cancelled.
        each(&[3, 0x44, 0x7f, 0x89, 0x01, 0x48], false, Ok(true));
        // An acknowledgement, an increment by 0 and by 1, an integer without end.
        let endless = [&[0x7f][..], &[0x80; 12]].concat();
        for instruction in [&[0x84][..], &[0x00], &[0x01], &endless] {
            let bytes = [&[3], instruction].concat();
            each(&bytes, false, Err(Code::QPACK_DECODER_STREAM_ERROR));
        }
        for kind in [2, 3] {
            each(&[kind], true, Err(Code::H3_CLOSED_CRITICAL_STREAM));
        }
    }

    #[test]
    fn duplicate_critical_streams_and_push_streams_of_a_client_are_errors() {
        for kind in [0, 2, 3] {
            let mut peer = Peer::default();
            assert_eq!(run(&mut peer, &[kind], 1, false), Ok(true));
            assert_eq!(run(&mut peer, &[kind], 1, false), Err(Code::H3_STREAM_CREATION_ERROR));
        }
        each(&[1, 0], false, Err(Code::H3_STREAM_CREATION_ERROR));
        each(&[0x21, 1, 2, 3], false, Ok(false));
        each(&[0x40, 0x54, 1], true, Ok(false)); // WebTransport's
        each(&[], true, Ok(true));
        each(&[0x40], true, Ok(true));
    }

    #[tokio::test]
    async fn a_stream_with_endless_data_yields_to_other_tasks() {
        let (mut stream, mut peer, mut chunks) = (Stream::default(), Peer::default(), 0);
        let mut flood = control(&[frame(SETTINGS, &[])]);
        let more = frame(0x21, &[7; 100]);
        let mut next = |_: &mut Context<'_>| {
            chunks += 1;
            assert!(chunks < 10_000, "it is never left");
            let bytes = std::mem::replace(&mut flood, more.clone()).into();
            Poll::Ready(Ok(Some(quinn::Chunk { offset: 0, bytes })))
        };
        for _ in 0..3 {
            let read =
                poll_fn(|cx| Poll::Ready(read_on(&mut next, &mut stream, &mut peer, cx))).await;
            assert_eq!(read, Poll::Pending);
            tokio::task::yield_now().await;
        }
        assert!(chunks > 3);
    }

    proptest::proptest! {
        #[test]
        fn buffered_bytes_are_bounded_for_arbitrary_input(bytes: Vec<u8>, kind in 0..5_u8) {
            let (mut stream, mut peer) = (Stream::default(), Peer::default());
            let _ = stream.read(&[&[kind][..], &bytes].concat(), &mut peer);
            proptest::prop_assert!(stream.partial.len() as u64 <= MAX_FRAME + MAX_HEAD as u64);
        }
    }
}

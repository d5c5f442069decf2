use std::{
    io::{Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt, DuplexStream, ReadBuf, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    cork::Uncork,
    testing::{certificate, client},
};

const SUITES: &[rustls::SupportedCipherSuite] = rustls::crypto::ring::DEFAULT_CIPHER_SUITES;

struct Pair {
    acceptor: Acceptor,
    client: Arc<ClientConfig>,
}

impl Pair {
    fn new(suites: &[rustls::SupportedCipherSuite], alpn: &[&str]) -> Self {
        let (certificates, roots) = certificate();
        Self {
            acceptor: Acceptor::new(certificates, true).unwrap(),
            client: Arc::new(client(roots, suites, alpn)),
        }
    }

    /// Both ends of a connection over a pipe that holds `held` bytes.
    async fn connect(
        &self,
        held: usize,
    ) -> (Stream<Counted<DuplexStream>>, Protocol, tokio_rustls::client::TlsStream<DuplexStream>)
    {
        let (ours, theirs) = duplex(held);
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let name = "origin".try_into().unwrap();
        let (accepted, connected) =
            tokio::join!(self.acceptor.accept(Counted::new(ours)), connector.connect(name, theirs));
        let (stream, protocol) = accepted.unwrap();
        (stream, protocol, connected.unwrap())
    }
}

/// A socket that counts the bytes of each write.
#[derive(Debug)]
struct Counted<S> {
    inner: S,
    writes: Vec<usize>,
}

impl<S> Counted<S> {
    fn new(inner: S) -> Self {
        Self { inner, writes: vec![] }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = result {
            self.writes.push(count);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send>(flush: &mut Flush<S>) {
    std::future::poll_fn(|cx| flush.poll(cx)).await.unwrap();
}

#[tokio::test]
async fn alpn_selects_the_protocol_and_http1_is_the_default() {
    for (alpn, expected) in [
        (&["h2", "http/1.1"][..], Protocol::Http2),
        (&["http/1.1", "h2"], Protocol::Http2),
        (&["http/1.1"], Protocol::Http1),
        (&[], Protocol::Http1),
    ] {
        let (_stream, protocol, _client) = Pair::new(SUITES, alpn).connect(1 << 16).await;
        assert_eq!(protocol, expected, "{alpn:?}");
    }
}

#[tokio::test]
async fn aes_128_is_preferred_unless_the_client_prefers_chacha20() {
    let suites = |first: &[rustls::SupportedCipherSuite]| [first, SUITES].concat();
    for (offered, expected) in [
        (suites(&[suite::TLS13_AES_256_GCM_SHA384]), CipherSuite::TLS13_AES_128_GCM_SHA256),
        (
            suites(&[suite::TLS13_CHACHA20_POLY1305_SHA256]),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
        (
            vec![suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256],
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ),
        (
            vec![
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ],
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
    ] {
        let (_stream, _, client) = Pair::new(&offered, &[]).connect(1 << 16).await;
        let agreed = client.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(agreed, expected);
    }
}

#[tokio::test]
async fn http2_frames_are_coalesced_into_full_records_and_few_writes() {
    let (mut stream, _, mut client) = Pair::new(SUITES, &["h2"]).connect(1 << 22).await;
    let mut flush = stream.flusher();
    send(&mut flush).await; // the tickets
    stream.with(|socket| socket.writes.clear());
    // Sixteen frames of HTTP/2, each flushed on its own:
    let (head, payload) = ([1; 9], vec![2; 16 << 10]);
    for _ in 0..16 {
        let frame = [io::IoSlice::new(&head), io::IoSlice::new(&payload)];
        let count =
            std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &frame)).await;
        assert_eq!(count.unwrap(), head.len() + payload.len());
        stream.flush().await.unwrap();
    }
    send(&mut flush).await;
    let writes = stream.with(|socket| std::mem::take(&mut socket.writes));
    let plain = 16 * (head.len() + payload.len());
    // Each record adds a header of 5 bytes, 1 byte for its type and 16 for its tag.
    let records = plain.div_ceil(16 << 10);
    assert_eq!(writes.iter().sum::<usize>(), plain + 22 * records);
    assert!(writes.len() <= 3, "{writes:?}");
    let mut read = vec![0; plain];
    client.read_exact(&mut read).await.unwrap();
    let frame = [&head[..], &payload].concat();
    assert!(read.chunks(frame.len()).all(|chunk| chunk == frame));
}

#[tokio::test]
async fn all_bytes_arrive_in_order_for_writes_of_any_size_through_a_narrow_pipe() {
    let (mut stream, _, mut client) = Pair::new(SUITES, &[]).connect(1_000).await;
    let mut flush = stream.flusher();
    let sizes =
        [1, 2_047, 2_048, 2_049, 16_383, 16_384, 16_385, 40_000, 300_000, 7, 131_072, 0, 9, 16_375];
    let bytes: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
    let expected = bytes.clone();
    let writing = async move {
        let mut rest = &bytes[..];
        for (index, &size) in sizes.iter().enumerate() {
            let (now, later) = rest.split_at(size);
            rest = later;
            stream.write_all(now).await.unwrap();
            if index % 3 == 0 {
                send(&mut flush).await;
            }
        }
        stream.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let (read_all, ()) = tokio::join!(client.read_to_end(&mut read), writing);
    read_all.expect("the end is said");
    assert!(read == expected);
}

#[tokio::test]
async fn bytes_that_the_peer_does_not_read_are_bounded() {
    let (mut stream, _, _client) = Pair::new(SUITES, &[]).connect(4_096).await;
    let bytes = vec![0; 1 << 20];
    let mut taken = 0;
    loop {
        let written =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &bytes)))
                .await;
        match written {
            Poll::Ready(count) => taken += count.unwrap(),
            Poll::Pending => break,
        }
        assert!(taken <= 256 << 10, "{taken}");
    }
    assert!(taken >= 64 << 10);
}

#[tokio::test]
async fn each_side_sends_close_notify_and_may_close_before_the_other() {
    let (mut stream, _, mut client) = Pair::new(SUITES, &[]).connect(1 << 16).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    stream.read_to_end(&mut question).await.expect("the peer closes its side");
    assert_eq!(question, b"question");
    stream.write_all(b"answer").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("we have said that we are done");
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error() {
    let (mut stream, _, mut client) = Pair::new(SUITES, &[]).connect(1 << 16).await;
    client.write_all(b"half of a ").await.unwrap();
    client.flush().await.unwrap();
    drop(client.into_inner());
    let mut read = Vec::new();
    let err = stream.read_to_end(&mut read).await.unwrap_err();
    assert_eq!((err.kind(), &read[..]), (io::ErrorKind::UnexpectedEof, &b"half of a "[..]));
}

#[tokio::test]
async fn a_failed_tls_handshake_is_reported_by_an_alert() {
    let pair = Pair::new(SUITES, &[]);
    for (bytes, alert) in [
        (&b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n"[..], 2),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 2),
    ] {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(bytes).await.unwrap();
        let err = pair.acceptor.accept(ours).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidData, "{err}");
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        // One record: a fatal alert.
        assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&alert)), "{answer:02x?}");
    }
    // No suite or version in common:
    let (certificates, roots) = certificate();
    let acceptor = Acceptor::new(certificates, true).unwrap();
    let (ours, theirs) = duplex(1 << 16);
    let config = Arc::new(client(roots, SUITES, &["spdy/3"]));
    let name = "origin".try_into().unwrap();
    let (accepted, connected) =
        tokio::join!(acceptor.accept(ours), TlsConnector::from(config).connect(name, theirs));
    assert!(accepted.is_err());
    assert!(connected.unwrap_err().to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn the_handshake_fails_when_the_client_disconnects_after_its_hello() {
    let pair = Pair::new(SUITES, &[]);
    let (ours, mut theirs) = duplex(1 << 16);
    let mut session =
        ClientConnection::new(Arc::clone(&pair.client), "origin".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    theirs.write_all(&hello).await.unwrap();
    theirs.shutdown().await.unwrap();
    let err = pair.acceptor.accept(ours).await.unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
}

/// A client that has a session, and its first flight with a request as early data.
async fn returning(pair: &Pair) -> (ClientConnection, Vec<u8>) {
    let (stream, _, mut client) = pair.connect(1 << 16).await;
    send(&mut stream.flusher()).await;
    // Receives the tickets.
    tokio::time::timeout(std::time::Duration::from_millis(50), client.read_u8()).await.unwrap_err();
    let mut session =
        ClientConnection::new(Arc::clone(&pair.client), "origin".try_into().unwrap()).unwrap();
    session.early_data().expect("a ticket that allows it").write_all(b"question").unwrap();
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight).unwrap();
    }
    (session, flight)
}

#[tokio::test]
async fn early_data_is_read_and_answered_before_the_handshake_is_complete() {
    let pair = Pair::new(SUITES, &["http/1.1"]);
    let (mut session, flight) = returning(&pair).await;
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(&flight).await.unwrap();
    let (mut stream, protocol) = pair.acceptor.accept(ours).await.unwrap();
    assert_eq!(protocol, Protocol::Http1);
    let (early, mut flush) = (stream.early(), stream.flusher());
    let mut question = [0; 8];
    stream.read_exact(&mut question).await.unwrap();
    assert!(question == *b"question" && early.load(std::sync::atomic::Ordering::Acquire));
    stream.write_all(b"answer").await.unwrap();
    send(&mut flush).await;
    // The response arrives with the server's own flight:
    let mut bytes = vec![0; 1 << 14];
    let count = theirs.read(&mut bytes).await.unwrap();
    session.read_tls(&mut &bytes[..count]).unwrap();
    session.process_new_packets().unwrap();
    let mut answer = [0; 6];
    session.reader().read_exact(&mut answer).unwrap();
    assert!(answer == *b"answer" && session.is_early_data_accepted());
    session.writer().write_all(b"more").unwrap();
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight).unwrap();
    }
    theirs.write_all(&flight).await.unwrap();
    let mut more = [0; 4];
    stream.read_exact(&mut more).await.unwrap();
    assert!(more == *b"more" && !early.load(std::sync::atomic::Ordering::Acquire));
}

#[tokio::test]
async fn replayed_early_data_is_accepted_only_once() {
    let pair = Pair::new(SUITES, &["http/1.1"]);
    let (_session, flight) = returning(&pair).await;
    let mut taken = 0;
    for _ in 0..3 {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(&flight).await.unwrap();
        theirs.shutdown().await.unwrap();
        // Without early data the handshake ends with the client's last message, which a replay
        // cannot produce.
        taken += usize::from(pair.acceptor.accept(ours).await.is_ok());
    }
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn early_data_can_be_disabled() {
    let (certificates, roots) = certificate();
    let pair = Pair {
        acceptor: Acceptor::new(certificates, false).unwrap(),
        client: Arc::new(client(roots, SUITES, &[])),
    };
    let (stream, _, mut first) = pair.connect(1 << 16).await;
    send(&mut stream.flusher()).await;
    tokio::time::timeout(std::time::Duration::from_millis(50), first.read_u8()).await.unwrap_err();
    let mut session =
        ClientConnection::new(Arc::clone(&pair.client), "origin".try_into().unwrap()).unwrap();
    assert!(session.early_data().is_none());
    let (_stream, _, second) = pair.connect(1 << 16).await;
    assert_eq!(second.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}

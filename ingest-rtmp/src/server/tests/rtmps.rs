//! RTMP over TLS: publishers, and failed handshakes.

use rustls::ClientConnection;
use tokio::net::TcpSocket;

use super::*;

impl Running {
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_safe_default_protocol_versions().unwrap();
        Arc::new(client.with_root_certificates(roots).with_no_client_auth())
    }

    /// To the listener of RTMPS, from an address of this machine.
    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap();
        socket.connect(self.private).await.unwrap()
    }

    async fn shake_hands(&self, socket: TcpStream) {
        let name = "localhost".try_into().unwrap();
        let shaken = TlsConnector::from(self.client()).connect(name, socket);
        timeout(Duration::from_secs(20), shaken).await.expect("the handshake ends").unwrap();
    }
}

#[tokio::test]
async fn ffmpeg_publishes_over_tls() {
    let running = Running::start(|_| ());
    let url = format!("rtmps://{}/live/demo", running.private);
    let publish = "-hide_banner -loglevel error -f lavfi -i testsrc2=size=320x180:rate=25 -t 2 \
                   -c:v libx264 -preset ultrafast -g 25 -f flv -tls_verify 0";
    let ffmpeg = Command::new("ffmpeg")
        .args(publish.split_whitespace())
        .arg(&url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ffmpeg = timeout(Duration::from_secs(30), ffmpeg).await.expect("ffmpeg ends").unwrap();
    assert!(ffmpeg.status.success(), "{}", String::from_utf8_lossy(&ffmpeg.stderr));
    running.wait("all frames", |running| running.metrics.video_frames.get() == 50).await;
    assert_eq!(running.metrics.shaken(Handshake::Done), 1);
}

#[tokio::test]
async fn a_peer_without_a_valid_tls_handshake_is_closed_and_counted() {
    let running = Running::start(|config| config.handshake_ms = 300);
    hangs_up(running.private, b"").await;
    hangs_up(running.private, &[3; 1537]).await;
    running.wait("both places", |running| running.metrics.connections.get() == 0).await;
    let shaken = |how| running.metrics.shaken(how);
    assert_eq!((shaken(Handshake::TimedOut), shaken(Handshake::Failed)), (1, 1));
    assert_eq!(running.metrics.closed(Cause::Tls), 2);
}

#[tokio::test]
async fn silent_peers_do_not_block_tls_handshakes() {
    const SILENT: usize = 140;
    let running = Running::start(|config| {
        config.handshake_ms = 60_000;
        config.max_connections_per_address = 1_000;
    });
    let mut silent = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(running.private).await.unwrap());
    }
    running.wait("all of them", |running| running.metrics.connections.get() == 140).await;
    let socket = TcpStream::connect(running.private).await.unwrap();
    running.shake_hands(socket).await;
}

/// From an address of this machine, a ClientHello and nothing more.
async fn stall(running: &Running, last: u8) -> TcpStream {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(running.client(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut socket = running.connect_from(last).await;
    socket.write_all(&hello).await.unwrap();
    socket
}

#[tokio::test]
async fn tls_handshakes_stalled_after_the_client_hello_do_not_block_other_addresses() {
    let running = Running::start(|config| {
        config.handshake_ms = 60_000;
        config.max_connections_per_address = 1_000;
    });
    let mut stalled = Vec::new();
    for _ in 0..140 {
        stalled.push(stall(&running, 1).await);
    }
    running.wait("all of them", |running| running.metrics.accepted.get() == 140).await;
    running.shake_hands(running.connect_from(2).await).await;
}

#[tokio::test]
async fn stalled_tls_handshakes_are_closed_for_waiting_ones() {
    let running = Running::start(|config| {
        config.handshake_ms = 60_000;
        config.max_connections_per_address = 1_000;
    });
    let mut stalled = Vec::new();
    for last in 1..=5 {
        for _ in 0..32 {
            stalled.push(stall(&running, last).await);
        }
    }
    running.wait("all of them", |running| running.metrics.accepted.get() == 160).await;
    running.shake_hands(running.connect_from(1).await).await;
    assert!(running.metrics.shaken(Handshake::TimedOut) > 0);
}

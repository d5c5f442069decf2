//! Over loopback: rml_rtmp's client and ffmpeg against the server, and peers that misbehave. Each
//! affects only itself.

mod rtmps;

use std::{future::ready, process::Stdio, time::Duration};

use hex_literal::hex;
use media_core::{ChannelName, broadcast::Presence};
use rml_rtmp::sessions::ClientSessionEvent as Seen;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::ClientHello,
    sign::CertifiedKey,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    auth::{Authorization, Grant, PublishRequest, Refusal},
    metrics::Handshake,
    testing::{AVC, Client, IDR, Peer, audio_config, audio_frame, hub, video_config, video_frame},
};

/// The stream key is the channel's name; `closed` is refused, and the right to `temporary` can be
/// withdrawn.
struct Open {
    withdrawn: CancellationToken,
}

impl Authorize for Open {
    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a> {
        let decision = match request.key.expose() {
            "closed" => Err(Refusal::denied("no key fits, ask the operator for one")),
            "temporary" => Ok(Grant {
                withdrawn: self.withdrawn.clone(),
                ..Grant::from("temporary".parse::<ChannelName>().expect("a name"))
            }),
            key => key
                .parse::<ChannelName>()
                .map(Grant::from)
                .map_err(|_| Refusal::denied("the stream key must be a channel's name")),
        };
        Box::pin(ready(decision))
    }
}

struct Running {
    hub: Hub,
    metrics: Metrics,
    address: SocketAddr,
    private: SocketAddr,
    /// The server's certificate.
    certificate: CertificateDer<'static>,
    withdrawn: CancellationToken,
    retire: CancellationToken,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

/// Provides a certificate for `localhost`.
#[derive(Debug)]
struct Localhost(Arc<CertifiedKey>);

impl Localhost {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let chain = vec![made.cert.der().clone()];
        Self(Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider()).unwrap()))
    }
}

impl ResolvesServerCert for Localhost {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Running {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (rtmp, rtmps) = (listen(), listen());
        let (address, private) = (rtmp.local_addr().unwrap(), rtmps.local_addr().unwrap());
        let listeners = Listeners { rtmp: vec![rtmp], rtmps: vec![rtmps] };
        let (hub, metrics, withdrawn) = (hub(), Metrics::default(), CancellationToken::new());
        let open = Arc::new(Open { withdrawn: withdrawn.clone() });
        let localhost = Localhost::new();
        let certificate = localhost.0.cert[0].clone();
        let certificates: Arc<dyn ResolvesServerCert> = Arc::new(localhost);
        let server =
            Server::new(&config, listeners, Some(certificates), hub.clone(), open, metrics.clone())
                .unwrap();
        let (retire, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let served = tokio::spawn(server.serve(retire.clone(), shutdown.clone()));
        Self { hub, metrics, address, private, certificate, withdrawn, retire, shutdown, served }
    }

    async fn connect(&self) -> Peer<TcpStream> {
        Peer { socket: TcpStream::connect(self.address).await.unwrap(), client: Client::new() }
    }

    async fn publisher(&self, name: &str) -> Peer<TcpStream> {
        let mut peer = self.connect().await;
        peer.open().await;
        peer.client.publish(name);
        peer.until(|seen| *seen == Seen::PublishRequestAccepted).await;
        peer
    }

    async fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let all = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), all)
            .await
            .unwrap_or_else(|_| panic!("waited for: {what}"));
    }

    fn broadcast(&self, name: &str) -> Option<Arc<media_core::Broadcast>> {
        self.hub.broadcast(&name.parse().unwrap())
    }

    /// Checks that a well-behaved publisher still succeeds.
    async fn still_serves(&self) {
        let mut peer = self.publisher("other").await;
        peer.client.video(0, video_config(AVC));
        peer.client.audio(0, audio_config());
        peer.client.video(0, video_frame(IDR));
        peer.client.audio(0, audio_frame());
        peer.flush().await;
        self.wait("another broadcast", |running| running.broadcast("other").is_some()).await;
    }
}

/// Sends bytes that are no session, and waits until the server closes the connection.
async fn hangs_up(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    // A reset is a close, too.
    let _ =
        timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await.expect("still open");
}

#[tokio::test]
async fn frames_of_a_publisher_reach_the_hub_and_a_player() {
    let running = Running::start(|_| ());
    let mut publisher = running.publisher("demo").await;
    publisher.client.audio(0, audio_config());
    publisher.client.video(0, video_config(AVC));
    publisher.client.video(0, video_frame(IDR));
    publisher.client.audio(10, audio_frame());
    publisher.flush().await;
    running.wait("frames", |running| running.metrics.video_frames.get() == 1).await;

    let mut player = running.connect().await;
    player.open().await;
    player.client.play("demo");
    player
        .until(|seen| {
            matches!(
                seen,
                Seen::VideoDataReceived { data, .. } if *data == video_frame(IDR)
            )
        })
        .await;
    let video = |body| {
        move |seen: &&Seen| {
            matches!(
                seen,
                Seen::VideoDataReceived { data, .. } if *data == body
            )
        }
    };
    assert!(
        player.client.events.iter().any(|seen| matches!(seen, Seen::StreamMetadataReceived { .. }))
    );
    let order: Vec<_> = [video_config(AVC), video_frame(IDR)]
        .map(|body| {
            player.client.events.iter().position(|seen| video(body.clone())(&seen)).unwrap()
        })
        .into();
    assert!(order[0] < order[1]);

    running.hub.kick(&"demo".parse().unwrap());
    assert!(player.codes().await.contains(&"NetStream.Play.UnpublishNotify".to_owned()));
    assert_eq!(publisher.codes().await, ["NetStream.Publish.Denied"]);
}

#[tokio::test]
async fn ffmpeg_publishes_and_ffprobe_plays_over_rtmp() {
    let running = Running::start(|_| ());
    let url = format!("rtmp://{}/live/demo", running.address);
    let publish = "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=320x180:rate=25 -f \
                   lavfi -i sine=frequency=440:sample_rate=48000 -t 6 -c:v libx264 -preset \
                   ultrafast -g 25 -bf 2 -c:a aac -b:a 64k -f flv";
    let mut ffmpeg = Command::new("ffmpeg")
        .args(publish.split_whitespace())
        .arg(&url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg is installed");
    running.wait("one second of ffmpeg", |running| running.metrics.video_frames.get() >= 25).await;
    let broadcast = running.broadcast("demo").unwrap();
    let codecs: Vec<_> =
        broadcast.tracks().iter().map(|track| track.config.codec_string().to_owned()).collect();
    assert!(codecs[0].starts_with("avc1.") && codecs[1] == "mp4a.40.2", "{codecs:?}");

    let probe =
        "-v error -read_intervals %+1 -show_entries stream=codec_name,width,height -of csv=p=0";
    let probe = Command::new("ffprobe")
        .args(probe.split_whitespace())
        .arg(&url)
        .kill_on_drop(true)
        .output();
    let probe = timeout(Duration::from_secs(30), probe).await.expect("ffprobe ends").unwrap();
    let (seen, errors) =
        (String::from_utf8_lossy(&probe.stdout), String::from_utf8_lossy(&probe.stderr));
    assert!(seen.contains("h264,320,180") && seen.contains("aac"), "{seen}{errors}");
    assert_eq!(errors, "");

    assert!(
        timeout(Duration::from_secs(30), ffmpeg.wait())
            .await
            .expect("ffmpeg ends")
            .unwrap()
            .success()
    );
    running.wait("the end", |_| matches!(broadcast.presence(), Presence::Away(_))).await;
    // 6 s at 25 frames a second, and 48 000 / 1024 access units a second and those that the encoder
    // adds.
    assert_eq!(running.metrics.video_frames.get(), 150);
    assert!(
        (281..=284).contains(&running.metrics.audio_frames.get()),
        "{}",
        running.metrics.audio_frames.get()
    );
}

#[tokio::test]
async fn a_second_publisher_of_a_live_name_is_refused_and_the_first_continues() {
    let running = Running::start(|_| ());
    let mut first = running.publisher("demo").await;
    let mut second = running.connect().await;
    second.open().await;
    second.client.publish("demo");
    assert_eq!(second.codes().await, ["NetStream.Publish.BadName"]);
    first.client.audio(0, audio_config());
    first.client.video(0, video_config(AVC));
    first.client.video(0, video_frame(IDR));
    first.client.audio(0, audio_frame());
    first.flush().await;
    running.wait("the first", |running| running.broadcast("demo").is_some()).await;
    // A reset and an immediate reconnect: the same broadcast continues.
    let id = running.broadcast("demo").unwrap().id();
    SockRef::from(&first.socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(first);
    running.wait("the name", |running| running.metrics.publishers.get() == 0).await;
    let mut again = running.publisher("demo").await;
    again.client.audio(5, audio_config());
    again.client.video(5, video_config(AVC));
    again.client.video(5, video_frame(IDR));
    again.client.audio(5, audio_frame());
    again.flush().await;
    running.wait("the return", |running| running.metrics.video_frames.get() == 2).await;
    let broadcast = running.broadcast("demo").unwrap();
    assert_eq!((broadcast.id(), broadcast.presence()), (id, Presence::Live));
}

#[tokio::test]
async fn refusals_are_sent_before_the_connection_closes() {
    let running = Running::start(|_| ());
    for (key, code) in
        [("closed", "NetStream.Publish.Denied"), ("../../etc/passwd", "NetStream.Publish.Denied")]
    {
        let mut peer = running.connect().await;
        peer.open().await;
        peer.client.publish(key);
        assert_eq!(peer.codes().await, [code], "{key}");
    }
    let mut peer = running.connect().await;
    peer.open().await;
    peer.client.play("nothing");
    assert_eq!(peer.codes().await, ["NetStream.Play.StreamNotFound"]);
    let mut peer = running.publisher("demo").await;
    peer.client.video(0, bytes::Bytes::from_static(b"\x90hvc1\x01"));
    assert_eq!(peer.codes().await, ["NetStream.Publish.Rejected"]);
}

#[tokio::test]
async fn hostile_peers_are_closed_and_the_server_still_serves() {
    let running = Running::start(|config| (config.handshake_ms, config.setup_ms) = (300, 600));
    hangs_up(running.address, &[0xff; 4096]).await; // no handshake
    hangs_up(running.address, &[3; 1000]).await; // half of one
    hangs_up(running.address, b"").await;
    assert_eq!(
        (running.metrics.closed(Cause::Protocol), running.metrics.closed(Cause::Timeout)),
        (1, 2)
    );
    let shaken = [&[3][..], &[0; 2 * 1536]].concat();
    let nested =
        [&hex!("03 000000 013880 14 00000000")[..], &hex!("0a 00000001").repeat(16_000)].concat();
    let streams: Vec<u8> = (0..65u8)
        .flat_map(|id| [&[0, id][..], &hex!("000000 000000 08 01000000")].concat())
        .collect();
    for (what, bytes) in [
        ("a message of 16 MiB", &hex!("03 000000 ffffff 14 00000000")[..]),
        ("a string of 4 GiB", &hex!("03 000000 000005 14 00000000 0c ffffffff")),
        ("80 KB of nested arrays", &nested),
        ("a chunk size of 0", &hex!("02 000000 000004 01 00000000 00000000")),
        ("a chunk size of 4 GiB", &hex!("02 000000 000004 01 00000000 ffffffff")),
        ("65 chunk streams", &streams),
        ("a header after nothing", &hex!("c3")),
    ] {
        let before = running.metrics.closed(Cause::Protocol);
        hangs_up(running.address, &[&shaken[..], bytes].concat()).await;
        running.wait(what, |running| running.metrics.closed(Cause::Protocol) == before + 1).await;
    }
    running.still_serves().await;
}

#[tokio::test]
async fn a_silent_publisher_is_closed_and_its_name_becomes_free() {
    let running = Running::start(|config| config.idle_ms = 1_000);
    let peer = running.publisher("demo").await;
    running.wait("the name", |running| running.metrics.publishers.get() == 0).await;
    assert_eq!(running.metrics.closed(Cause::Timeout), 1);
    drop(peer);
    running.publisher("demo").await;
}

#[tokio::test]
async fn connections_over_the_limit_of_an_address_are_closed_unread() {
    let running = Running::start(|config| config.max_connections_per_address = 2);
    let (first, second) = (running.publisher("one").await, running.publisher("two").await);
    hangs_up(running.address, b"").await;
    assert_eq!(running.metrics.closed(Cause::Limit), 1);
    drop(first);
    running.wait("a place", |running| running.metrics.connections.get() == 1).await;
    running.publisher("one").await;
    drop(second);
}

#[tokio::test]
async fn a_player_that_does_not_read_is_closed_and_does_not_delay_the_publisher() {
    let running = Running::start(|config| config.write_ms = 300);
    let mut publisher = running.publisher("demo").await;
    publisher.client.audio(0, audio_config());
    publisher.client.video(0, video_config(AVC));
    publisher.client.video(0, video_frame(IDR));
    publisher.client.audio(0, audio_frame());
    publisher.flush().await;
    running.wait("a broadcast", |running| running.metrics.video_frames.get() == 1).await;
    let mut player = running.connect().await;
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    // More than all socket buffers in between hold.
    let large = video_frame(&[&[0, 15, 0, 0, 0x65][..], &[0; 0x000e_ffff]].concat());
    for n in 1..=40 {
        publisher.client.video(n * 40, large.clone());
        publisher.flush().await;
    }
    running.wait("all frames", |running| running.metrics.video_frames.get() == 41).await;
    running.wait("the player's end", |running| running.metrics.closed(Cause::Timeout) == 1).await;
    assert_eq!(running.metrics.players.get(), 0);
    assert_eq!(running.metrics.publishers.get(), 1);
}

#[tokio::test]
async fn a_publisher_whose_key_is_withdrawn_is_refused() {
    let running = Running::start(|_| ());
    let other = running.publisher("other").await;
    let publisher = running.publisher("temporary").await;
    running.withdrawn.cancel();
    assert_eq!(publisher.codes().await, ["NetStream.Publish.Denied"]);
    running.wait("the other alone", |running| running.metrics.publishers.get() == 1).await;
    drop(other);
}

#[tokio::test]
async fn a_retired_server_serves_its_connections_and_ends_with_the_last() {
    let running = Running::start(|_| ());
    let mut publisher = running.publisher("demo").await;
    running.retire.cancel();
    let refused = async { while TcpStream::connect(running.address).await.is_ok() {} };
    timeout(Duration::from_secs(5), refused).await.expect("it accepts no more");
    publisher.client.audio(0, audio_config());
    publisher.client.video(0, video_config(AVC));
    publisher.client.video(0, video_frame(IDR));
    publisher.client.audio(0, audio_frame());
    publisher.flush().await;
    running.wait("frames", |running| running.metrics.audio_frames.get() == 1).await;
    assert!(!running.served.is_finished());
    drop(publisher);
    timeout(Duration::from_secs(5), running.served).await.expect("serve returns").unwrap();
}

#[tokio::test]
async fn at_shutdown_publishers_are_notified_and_all_connections_end() {
    let running = Running::start(|_| ());
    let publisher = running.publisher("demo").await;
    let idle = TcpStream::connect(running.address).await.unwrap();
    running.wait("both", |running| running.metrics.connections.get() == 2).await;
    running.shutdown.cancel();
    assert_eq!(publisher.codes().await, ["NetConnection.Connect.Closed"]);
    timeout(Duration::from_secs(5), running.served).await.expect("serve returns").unwrap();
    assert_eq!(running.metrics.connections.get(), 0);
    drop(idle);
    assert!(TcpStream::connect(running.address).await.is_err());
}

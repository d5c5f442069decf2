//! Connections over in-memory pipes, with a paused clock.

use std::future::pending;

use media_core::broadcast::{self, Presence};
use net_core::ConnectionLimit;
use rml_rtmp::sessions::ClientSessionEvent as Seen;
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::sleep,
};

use super::{writes::STALL, *};
use crate::{
    amf0::Value,
    auth::{Authorization, Lease, StreamKey},
    config::Config,
    testing::{
        AVC, Client, IDR, Peer, SLICE, audio_config, audio_frame, hub, video_config, video_frame,
    },
};

/// How long the decision about the key `slow` takes.
const SLOW: Duration = Duration::from_secs(3);

/// The key is the channel's name. `space/` is valid with the slash; `slow` takes a while, `never`
/// forever. The right to `brief` ends after [`BRIEF`].
#[derive(Default)]
struct Open {
    /// A clone of it is the lease of each grant.
    leased: Arc<()>,
}

/// The duration of the right to publish `brief`: less than a publisher without media is kept.
const BRIEF: Duration = Duration::from_secs(20);

impl Authorize for Open {
    fn may_play(&self, request: &PlayRequest) -> Result<(), Refusal> {
        let query = request.query.as_ref().map(|query| query.expose());
        match request.channel.as_str() == "private" && query != Some("token=x") {
            true => Err(Refusal::new(Reason::Private, "this needs a token")),
            false => Ok(()),
        }
    }

    fn authorize<'a>(&'a self, request: &'a PublishRequest) -> Authorization<'a> {
        Box::pin(async {
            let key = request.key.expose();
            if key == "slow" {
                sleep(SLOW).await;
            }
            if key == "never" {
                pending::<()>().await;
            }
            let exact = request.verbatim.as_ref().map(StreamKey::expose);
            let name = if exact == Some("space/") { "secret" } else { key };
            let channel = name.parse::<ChannelName>();
            let channel = channel.map_err(|_| Refusal::denied("this is no channel's name"))?;
            let expires = (key == "brief").then(|| now() + BRIEF);
            let lease = Lease::new(Arc::clone(&self.leased));
            Ok(Grant { expires, lease, ..Grant::from(channel) })
        })
    }
}

struct Bench {
    context: Arc<Context>,
    /// Counts the publishers' leases, in addition to itself and the authoriser's.
    leased: Arc<()>,
    limit: Arc<ConnectionLimit>,
    retire: CancellationToken,
    shutdown: CancellationToken,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let leased = Arc::new(());
        let context = Context {
            hub: hub(),
            authorize: Arc::new(Open { leased: Arc::clone(&leased) }),
            metrics: Metrics::default(),
            reports: Reports::default(),
            players: Quota::new(config.max_connections, usize::MAX),
            session: config.session(),
            write_limit: config.write_limit(),
        };
        let (max, max_per_address) = (config.max_connections, config.max_connections_per_address);
        Self {
            context: Arc::new(context),
            leased,
            limit: ConnectionLimit::new("rtmp connections", max, max_per_address, Arc::new(())),
            retire: CancellationToken::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// A connection whose pipe holds `bytes` bytes in each direction.
    fn connect(&self, bytes: usize) -> (Peer<DuplexStream>, JoinHandle<()>) {
        let (socket, ours) = duplex(bytes);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1_000));
        let permit = self.limit.try_admit(Some(peer.ip()), now().into());
        let permit = permit.expect("there is room");
        let (context, retire, shutdown) =
            (Arc::clone(&self.context), self.retire.clone(), self.shutdown.clone());
        let task =
            tokio::spawn(async move { run(ours, peer, permit, &context, retire, shutdown).await });
        let client = Client::new();
        (Peer { socket, client }, task)
    }

    async fn publisher(&self, name: &str) -> Peer<DuplexStream> {
        let (mut peer, _) = self.connect(1 << 20);
        peer.open().await;
        peer.client.publish(name);
        peer.until(|seen| *seen == Seen::PublishRequestAccepted).await;
        peer
    }

    /// A publisher that has sent a key frame and audio at this time.
    async fn live(&self, name: &str) -> Peer<DuplexStream> {
        let mut peer = self.publisher(name).await;
        peer.client.video(0, video_config(AVC));
        peer.client.audio(0, audio_config());
        peer.client.video(0, video_frame(IDR));
        peer.client.audio(0, audio_frame());
        peer.flush().await;
        // Time passes, because the first picture waits for the next message.
        while self.broadcast(name).is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        peer
    }

    fn broadcast(&self, name: &str) -> Option<Arc<media_core::Broadcast>> {
        self.context.hub.broadcast(&name.parse().unwrap())
    }
}

fn closed(bench: &Bench, cause: Cause) -> u64 {
    bench.context.metrics.closed(cause)
}

/// Waits for the first connection that ends with `cause`.
async fn until_closed(bench: &Bench, cause: Cause) {
    while closed(bench, cause) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(closed(bench, cause), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_for_its_authorization() {
    let bench = Bench::new(|_| ());
    let begun = now();
    bench.live("slow").await;
    assert!((SLOW..2 * SLOW).contains(&(now() - begun)));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_not_silent_while_its_right_is_decided() {
    let bench = Bench::new(|config| config.idle_ms = 1_000);
    let peer = bench.publisher("slow").await;
    sleep(Duration::from_millis(900)).await;
    assert_eq!(closed(&bench, Cause::Timeout), 0);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(closed(&bench, Cause::Timeout), 1, "it is silent now");
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_whose_authorization_times_out_is_refused() {
    let bench = Bench::new(|_| ());
    let (mut peer, task) = bench.connect(1 << 20);
    peer.open().await;
    peer.client.publish("never");
    assert_eq!(peer.codes().await, [Reason::Failed.code()]);
    task.await.unwrap();
    assert_eq!(closed(&bench, Cause::Refused), 1);
    assert!(bench.broadcast("never").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_publisher_silent_for_a_second_is_replaced_at_once_and_notified() {
    let bench = Bench::new(|_| ());
    let mut first = bench.live("demo").await;
    let id = bench.broadcast("demo").unwrap().id();
    // While it sends anything, even if no frame, another publisher is refused.
    sleep(Duration::from_millis(900)).await;
    first.client.metadata();
    first.flush().await;
    tokio::task::yield_now().await;
    sleep(Duration::from_millis(900)).await;
    let (mut second, _) = bench.connect(1 << 20);
    second.open().await;
    second.client.publish("demo");
    assert_eq!(second.codes().await, ["NetStream.Publish.BadName"]);

    sleep(Duration::from_secs(1)).await;
    let third = bench.live("demo").await;
    assert_eq!(first.codes().await, ["NetStream.Publish.BadName"]);
    let broadcast = bench.broadcast("demo").unwrap();
    while broadcast.tracks()[1].frames < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((broadcast.id(), broadcast.presence()), (id, Presence::Live));
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn a_player_below_the_minimum_rate_is_closed_after_six_write_limits() {
    let bench = Bench::new(|config| config.idle_ms = 600_000);
    let mut publisher = bench.live("demo").await;
    let (mut player, task) = bench.connect(4 << 10);
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    let large = video_frame(&[&[0, 1, 0, 0, 0x41][..], &[0; 0xffff]].concat());
    for n in 1..4 {
        publisher.client.video(n * 40, large.clone());
    }
    publisher.flush().await;
    let mut some = [0; 64];
    let begun = now();
    while !task.is_finished() {
        sleep(Duration::from_secs(4)).await;
        let _ = player.socket.read(&mut some).await.unwrap();
    }
    assert_eq!(closed(&bench, Cause::Timeout), 1);
    let after = now() - begun;
    // Six write limits of 5 s, and the steps of the peer.
    assert!((30..=38).contains(&after.as_secs()), "{after:?}");
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn a_slow_player_above_the_minimum_rate_stays() {
    let bench = Bench::new(|config| config.idle_ms = 600_000);
    let mut publisher = bench.live("demo").await;
    let (mut player, task) = bench.connect(4 << 10);
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    publisher.client.video(40, video_frame(&[&[0, 3, 0, 0, 0x41][..], &[0; 0x0002_ffff]].concat()));
    publisher.flush().await;
    let mut some = [0; 4_096];
    for _ in 0..30 {
        sleep(Duration::from_secs(2)).await;
        assert!(player.socket.read(&mut some).await.unwrap() > 0);
    }
    assert!(!task.is_finished());
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn a_player_that_reads_slowly_delays_shutdown_by_at_most_6_s() {
    let bench = Bench::new(|_| ());
    let mut publisher = bench.live("demo").await;
    let (mut player, task) = bench.connect(4 << 10);
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    publisher.client.video(40, video_frame(&[&[0, 3, 0, 0, 0x41][..], &[0; 0x0002_ffff]].concat()));
    publisher.flush().await;
    sleep(Duration::from_secs(1)).await;
    let (mut some, begun) = ([0; 16], now());
    bench.shutdown.cancel();
    let trickle = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            let _ = player.socket.read(&mut some).await;
        }
    };
    tokio::select! {
        ended = task => ended.unwrap(),
        () = trickle => {}
    }
    assert!(now() - begun <= Duration::from_secs(6), "the write limit and a second");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_evicted_for_a_new_one_and_a_publisher_is_not() {
    let bench =
        Bench::new(|config| (config.max_connections, config.max_connections_per_address) = (2, 2));
    let publisher = bench.live("demo").await;
    let (mut idle, task) = bench.connect(1 << 20);
    idle.open().await;
    let (mut next, _) = bench.connect(1 << 20);
    task.await.unwrap();
    assert_eq!(closed(&bench, Cause::Evicted), 1);
    next.open().await;
    next.client.publish("other");
    next.until(|seen| *seen == Seen::PublishRequestAccepted).await;
    assert_eq!(bench.context.metrics.publishers.get(), 2);
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn a_player_that_reads_nothing_for_a_second_is_evicted_for_a_new_connection() {
    let bench =
        Bench::new(|config| (config.max_connections, config.max_connections_per_address) = (2, 2));
    let mut publisher = bench.live("demo").await;
    let (mut player, task) = bench.connect(4 << 10);
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    let address = "192.0.2.1".parse().unwrap();
    let refused = bench.limit.try_admit(Some(address), now().into());
    assert!(refused.is_err(), "it takes what there is");
    publisher.client.video(40, video_frame(&[&[0, 3, 0, 0, 0x41][..], &[0; 0x0002_ffff]].concat()));
    publisher.flush().await;
    sleep(STALL + Duration::from_millis(1)).await;
    let permit = bench.limit.try_admit(Some(address), now().into()).unwrap();
    task.await.unwrap();
    assert_eq!(closed(&bench, Cause::Evicted), 1);
    assert_eq!(bench.context.metrics.players.get(), 0);
    drop((permit, publisher));
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_or_timeout_is_sent_to_the_peer_and_counted() {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    // A chunk size of 0.
    peer.client.output.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(peer.codes().await, ["NetStream.Failed"]);
    until_closed(&bench, Cause::Protocol).await;
    assert!(matches!(bench.broadcast("demo").unwrap().presence(), Presence::Away(Some(_))));
    // A silent publisher gets it, too.
    let peer = bench.live("other").await;
    assert_eq!(peer.codes().await, ["NetConnection.Connect.IdleTimeOut"]);
    until_closed(&bench, Cause::Timeout).await;
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_sends_only_pings_and_metadata_is_refused_after_30_s() {
    for messages in [
        &[2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1][..], // a ping
        &[5, 0, 0, 0, 0, 0, 2, 15, 1, 0, 0, 0, 1, 2],                // AMF3 data
        &[5, 0, 0, 0, 0, 0, 2, 99, 1, 0, 0, 0, 1, 2],                // an unknown type
    ] {
        let bench = Bench::new(|_| ());
        let mut peer = bench.publisher("quiet").await;
        for _ in 0..29 {
            peer.client.metadata();
            peer.client.output.extend(messages);
            peer.flush().await;
            sleep(Duration::from_secs(1)).await;
        }
        let claim = || bench.context.hub.claim("quiet".parse().unwrap());
        assert!(claim().is_err(), "it has its name for almost 30 s");
        peer.client.output.extend(messages);
        assert_eq!(peer.codes().await, ["NetStream.Publish.Rejected"]);
        until_closed(&bench, Cause::Refused).await;
        assert_eq!(bench.context.metrics.refused(Reason::Unusable), 1);
        assert!(claim().is_ok(), "the name is free");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_key_that_is_valid_verbatim_is_not_normalized() {
    let bench = Bench::new(|_| ());
    let _secret = bench.publisher("space/").await;
    assert!(bench.context.hub.claim("secret".parse().unwrap()).is_err());
    let _plain = bench.publisher(" plain\r\n").await;
    assert!(bench.context.hub.claim("plain".parse().unwrap()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_publisher_whose_right_has_expired_is_disconnected_and_its_lease_ends() {
    let bench = Bench::new(|config| config.idle_ms = 600_000);
    let peer = bench.publisher("brief").await;
    let expires = now() + BRIEF;
    assert_eq!(Arc::strong_count(&bench.leased), 3);
    sleep(BRIEF - Duration::from_secs(1)).await;
    assert_eq!(closed(&bench, Cause::Refused), 0, "it has its right until the end");
    assert_eq!(peer.codes().await, [Reason::Withdrawn.code()]);
    assert!((expires - Duration::from_secs(1)..expires + Duration::from_secs(2)).contains(&now()));
    until_closed(&bench, Cause::Refused).await;
    assert_eq!(bench.context.metrics.refused(Reason::Withdrawn), 1);
    assert_eq!(Arc::strong_count(&bench.leased), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_the_stream_although_the_connection_stays() {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    assert_eq!(Arc::strong_count(&bench.leased), 3);
    peer.client.stop_publishing();
    peer.flush().await;
    while Arc::strong_count(&bench.leased) > 2 {
        sleep(Duration::from_millis(10)).await;
    }
    // A request that is refused after the decision has no lease either.
    let _live = bench.live("demo").await;
    let (mut second, _) = bench.connect(1 << 20);
    second.open().await;
    second.client.publish("demo");
    assert_eq!(second.codes().await, ["NetStream.Publish.BadName"]);
    assert_eq!(Arc::strong_count(&bench.leased), 3);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_refused_second_publish_does_not_disturb_the_first() {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    let mut body = Vec::new();
    crate::amf0::write(&["publish".into(), 9.0.into(), Value::Null, "another".into()], &mut body);
    let len = u8::try_from(body.len()).unwrap();
    peer.client.output.extend([10, 0, 0, 0, 0, 0, len, 20, 1, 0, 0, 0]);
    peer.client.output.extend(body);
    peer.until(|seen| matches!(seen, Seen::UnhandleableOnStatusCode { .. })).await;
    peer.client.video(40, video_frame(SLICE));
    peer.flush().await;
    let broadcast = bench.broadcast("demo").unwrap();
    while broadcast.tracks()[0].frames < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(broadcast.presence(), Presence::Live);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_faster_than_real_time_is_paced_and_loses_no_frame() {
    let bench = Bench::new(|config| config.idle_ms = 1_000);
    let mut peer = bench.live("demo").await;
    let (begun, broadcast) = (now(), bench.broadcast("demo").unwrap());
    // 20 s of media, which the pipe holds.
    for n in 1..500 {
        let picture = if n % 50 == 0 { IDR } else { SLICE };
        peer.client.video(n * 40, video_frame(picture));
        peer.client.audio(n * 40, audio_frame());
    }
    peer.flush().await;
    sleep(Duration::from_secs(4)).await;
    // Its name is not free for others although it is not read.
    let (mut second, _) = bench.connect(1 << 20);
    second.open().await;
    second.client.publish("demo");
    assert_eq!(second.codes().await, ["NetStream.Publish.BadName"]);
    let frames = || {
        let tracks = broadcast.tracks();
        (tracks[0].frames, tracks[1].frames)
    };
    while frames() != (500, 500) {
        assert!(now() - begun < Duration::from_secs(30), "{:?}", frames());
        sleep(Duration::from_millis(20)).await;
    }
    // The last frame's time minus 2.5 s that a publisher may be ahead, and minus a picture that
    // waits for the next.
    let took = now() - begun;
    let wanted = Duration::from_millis(17_000)..Duration::from_millis(17_600);
    assert!(wanted.contains(&took), "{took:?}");
    assert_eq!(bench.context.metrics.corrected("jumped"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_while_it_is_read_ahead_is_published_whole() {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    let (begun, broadcast) = (now(), bench.broadcast("demo").unwrap());
    for n in 1..500 {
        let picture = if n % 50 == 0 { IDR } else { SLICE };
        peer.client.video(n * 40, video_frame(picture));
        peer.client.audio(n * 40, audio_frame());
    }
    peer.flush().await;
    std::mem::drop(peer);
    while closed(&bench, Cause::Peer) == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let tracks = broadcast.tracks();
    assert_eq!((tracks[0].frames, tracks[1].frames), (500, 500));
    assert!(now() - begun >= Duration::from_secs(17));
}

/// The newest capture time that is published after 50 s, in milliseconds.
async fn newest_after(sent: impl Fn(u32) -> u32) -> (Bench, u32) {
    let (bench, placed) = placed_after(sent).await;
    let newest = placed.iter().map(|(_, captured, _)| *captured).max();
    (bench, newest.unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_burst_of_a_relay_adds_no_latency_and_a_fast_file_loses_no_frame() {
    for burst in [3_000, 10_000, 20_000] {
        let (bench, newest) = newest_after(|ms| ms + burst).await;
        assert!(newest + 100 >= 49_980 + burst, "{burst}: {newest}");
        let metrics = &bench.context.metrics;
        assert!(metrics.dropped(crate::metrics::Drop::AfterOutage) > 0);
        assert_eq!((metrics.corrected("jumped"), metrics.corrected("late")), (0, 0));
        // It is not paced for long.
        assert!(metrics.paced.get() < 4.0, "{}", metrics.paced.get());
    }
    // Three times as fast as real time.
    let (bench, newest) = newest_after(|ms| ms * 3).await;
    assert!((52_000..53_000).contains(&newest), "{newest}");
    assert_eq!(bench.context.metrics.dropped(crate::metrics::Drop::AfterOutage), 0);
}

#[tokio::test(start_paused = true)]
async fn leaping_timestamps_are_corrected_without_pacing() {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    let (begun, broadcast) = (now(), bench.broadcast("demo").unwrap());
    for n in 1..200 {
        peer.client.audio(n * 3_000, audio_frame());
    }
    peer.flush().await;
    while broadcast.tracks()[1].frames < 200 {
        assert!(now() - begun < Duration::from_secs(1));
        sleep(Duration::from_millis(20)).await;
    }
    let metrics = &bench.context.metrics;
    assert_eq!((metrics.corrected("jumped"), metrics.corrected("retimed")), (2, 1));
}

/// Publishes for 50 s beside the wall clock, at 25 pictures and 50 frames of audio a second, in
/// groups of 2 s. `sent` returns, for a time in milliseconds, the capture time up to which media
/// have been sent. Returns for each frame the track, its capture time, and the time between capture
/// and media time, in milliseconds.
async fn placed_after(sent: impl Fn(u32) -> u32) -> (Bench, Vec<(usize, u32, i64)>) {
    let bench = Bench::new(|_| ());
    let mut peer = bench.live("demo").await;
    let (begun, broadcast) = (now(), bench.broadcast("demo").unwrap());
    let wall = |at| broadcast.anchor().media_time(at).ticks() / 90;
    let mut consumer = broadcast.subscribe_from_oldest();
    let configs = broadcast.tracks();
    let (mut captured, mut placed) = (20, Vec::new());
    for ms in (20..50_000).step_by(20) {
        while captured <= sent(ms) {
            // The frame's number follows the bytes that matter.
            let number = captured.to_be_bytes();
            let picture = if captured % 2_000 == 0 { IDR } else { SLICE };
            let picture = [&[0, 0, 0, 8], &picture[4..], &number].concat();
            if captured % 40 == 0 {
                let first = if captured % 2_000 == 0 { 0x17 } else { 0x27 };
                peer.client.video(captured, [&[first, 1, 0, 0, 0], &picture[..]].concat().into());
            }
            peer.client.audio(captured, [&audio_frame()[..], &number].concat().into());
            captured += 20;
        }
        peer.flush().await;
        sleep(Duration::from_millis(20)).await;
        bench.context.hub.advance(now());
        while let Some(event) = consumer.try_next() {
            let broadcast::Event::Frame { track, frame } = event else {
                continue;
            };
            let Some(number) = frame.payload.last_chunk::<4>().filter(|_| frame.payload.len() > 10)
            else {
                continue;
            };
            let captured = u32::from_be_bytes(*number);
            let hz = i64::from(configs[track.get()].config.timescale().hz());
            let at = begun + Duration::from_millis(captured.into());
            placed.push((track.get(), captured, frame.dts.get() * 1_000 / hz - wall(at)));
        }
    }
    (bench, placed)
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_live_publisher_adds_no_lasting_latency() {
    // Nothing is delivered for 8 s, then everything at once, or at two and a half times the rate.
    let at_once = |ms| if (9_000..17_000).contains(&ms) { 9_000 } else { ms };
    let by_and_by = |ms: u32| match ms {
        0..9_000 => ms,
        9_000..17_000 => 9_000,
        _ => ms.min(9_000 + (ms - 17_000) * 5 / 2),
    };
    let at_once: Box<dyn Fn(u32) -> u32> = Box::new(at_once);
    // Of a backlog that arrives slowly, the shift may remain that makes a publisher lead by less
    // than 2.5 s: nothing is dropped for that.
    for (sent, remains) in [(at_once, 1_500), (Box::new(by_and_by), 2_500)] {
        let (bench, placed) = placed_after(sent).await;
        let of = |track, from| {
            let of =
                move |(of, captured, _): &&(usize, u32, i64)| *of == track && *captured >= from;
            placed.iter().filter(of).map(|(_, _, after)| *after)
        };
        for (track, frames) in [(0, 575), (1, 1_150)] {
            assert!(of(track, 26_000).count() >= frames, "all of {track} comes by then");
            let (least, most) =
                (of(track, 26_000).min().unwrap(), of(track, 26_000).max().unwrap());
            assert!(least >= -100 && most < remains, "{track}: {least} to {most}");
        }
        // Audio and video are still in step.
        assert!((of(0, 40_000).next().unwrap() - of(1, 40_000).next().unwrap()).abs() <= 3);
        // Some of the backlog was kept, and the rest counted.
        assert!(of(0, 9_020).next().unwrap() > 4_000);
        assert!(bench.context.metrics.dropped(crate::metrics::Drop::AfterOutage) > 0);
        assert_eq!(bench.context.metrics.corrected("jumped"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_private_channel_plays_only_with_its_token_whether_it_is_live_or_not() {
    let bench = Bench::new(|_| ());
    for live in [false, true] {
        let _publisher = match live {
            true => Some(bench.live("private").await),
            false => None,
        };
        let (mut player, _) = bench.connect(1 << 20);
        player.open().await;
        player.client.play("private?token=y");
        assert_eq!(player.codes().await, ["NetStream.Play.Failed"]);
        let (mut player, _) = bench.connect(1 << 20);
        player.open().await;
        player.client.play("private?token=x");
        match live {
            true => player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await,
            false => assert_eq!(player.codes().await, ["NetStream.Play.StreamNotFound"]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn players_over_their_limit_are_refused_until_one_leaves() {
    let bench = Bench::new(|config| config.max_connections = 3);
    let first = bench.live("demo").await;
    let players = &bench.context.players;
    let mut shares: Vec<_> = (0..3).map(|_| players.take(None).unwrap()).collect();
    let (mut player, _) = bench.connect(1 << 20);
    player.open().await;
    player.client.play("demo");
    assert_eq!(player.codes().await, ["NetStream.Play.Failed"]);
    shares.pop();
    let (mut player, task) = bench.connect(1 << 20);
    player.open().await;
    player.client.play("demo");
    player.until(|seen| matches!(seen, Seen::VideoDataReceived { .. })).await;
    assert!(players.take(None).is_err());
    drop((player, first));
    task.await.unwrap();
    assert!(players.take(None).is_ok());
}

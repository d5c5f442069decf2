//! The costs of the data plane's separate steps, each with the input that the daemon gives it: RTMP
//! bytes to frames, frames to parts, rendering a text, serving a request. One publisher of 2.5
//! Mbit/s, the shipped settings, a full window.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use benches::{
    client::Client,
    path::{PART, WINDOW, frames, get_as, hub, router},
    stream::{AAC, AVC, BITRATE_BPS, Kind, PERIOD, Stream, Tag},
    wire::Wire,
};
use bytes::{Buf as _, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ingest_rtmp::{
    flv,
    session::{Event, Session, Settings},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use media_core::{
    AccessUnit, MediaSpan, TrackIndex, TrackName,
    codec::{Config, aac, avc},
    hub::Producer,
};
use origin_http::{Playback, Sampler, playback};
use packager::{
    LiveEdge, Metrics, Packager, Presentation, Rendered, Skip, TextKey, program, program::Program,
};
use tokio_util::sync::CancellationToken;

criterion_group!(
    dataplane,
    rtmp_to_frames,
    frames_to_parts,
    rendered,
    requests,
    playback_tokens,
    samples
);
criterion_main!(dataplane);

/// Maximum size of a read from a socket.
const READ_BYTES: usize = 64 << 10;

/// Chunks of common sizes to access units: the session and the FLV tags.
fn rtmp_to_frames(criterion: &mut Criterion) {
    let stream = Stream::new(BITRATE_BPS);
    let mut group = criterion.benchmark_group("rtmp_to_frames");
    for chunk_bytes in [128, 4_096, 65_536] {
        // The default of RTMP, that of most encoders, and one chunk for nearly each message.
        let wire = Wire::new(&stream, chunk_bytes);
        let mut session = publishing();
        let mut input = BytesMut::with_capacity(READ_BYTES);
        // The preamble changes the chunk size, so it is read before the measurement.
        assert_eq!(read(&mut session, &mut input, &wire.preamble), 0);
        group.throughput(Throughput::Bytes(wire.bytes.len() as u64));
        group.bench_function(format!("chunks of {chunk_bytes}"), |bencher| {
            bencher.iter(|| {
                let frames = read(&mut session, &mut input, &wire.bytes);
                assert_eq!(frames, stream.tags.len());
            });
        });
    }
    group.finish();
}

/// Reads `bytes` as if from a socket. Returns the number of access units in them.
fn read(session: &mut Session, input: &mut BytesMut, bytes: &[u8]) -> usize {
    let (mut frames, now) = (0, Instant::now());
    for part in bytes.chunks(READ_BYTES) {
        input.extend_from_slice(part);
        while let Some(event) = session.poll_event(input, now).expect("it is RTMP") {
            let tag = match event {
                Event::Video { body, .. } => flv::parse_video(body),
                Event::Audio { body, .. } => flv::parse_audio(body),
                _ => continue,
            };
            frames += usize::from(matches!(tag, Ok(flv::Tag::Frame { .. })));
        }
        // The session's output, acknowledgements, is discarded: writing to a socket is not
        // measured.
        let acknowledged = session.transmit().len();
        session.transmit().advance(acknowledged);
    }
    frames
}

/// A session whose peer may send media.
fn publishing() -> Session {
    let settings = Settings {
        app: "live".into(),
        message_bytes: 8 << 20,
        handshake: Duration::from_secs(5),
        setup: Duration::from_secs(10),
        idle: Duration::from_secs(10),
    };
    let now = Instant::now();
    let mut session = Session::new(settings, now);
    let mut client = Client::new("bench").expect("a client");
    let mut input = BytesMut::new();
    // The client's and the session's bytes are exchanged in memory until `publish` is accepted.
    while !client.is_publishing() {
        input.extend_from_slice(&client.output());
        while let Some(event) = session.poll_event(&mut input, now).expect("it is RTMP") {
            if let Event::Publish { .. } = event {
                session.accept().expect("an answer");
            }
        }
        let mut answer = Vec::new();
        // A copy of the output, eight slices at a time, as a vectored write would take it.
        while !session.transmit().is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = session.transmit().slices(&mut slices);
            let chunk =
                slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
            session.transmit().advance(chunk.len());
            answer.extend(chunk);
        }
        client.input(&answer).expect("it is RTMP");
    }
    session
}

/// Publishes a stream into a hub on a simulated clock.
struct Publisher {
    /// Pushes frames into the hub.
    producer: Producer,
    /// One period of frames, which is repeated.
    stream: Stream,
    /// Zero of the simulated clock.
    start: Instant,
    /// Complete periods so far; added to all times.
    periods: u32,
}

impl Publisher {
    /// Claims the name `bench` and announces a video and an audio track.
    fn new(hub: &media_core::Hub) -> Self {
        let start = Instant::now();
        let claim = hub.claim("bench".parse().expect("a name")).expect("a free name");
        let tracks = vec![
            (TrackName::source_video(), Config::Avc(avc::Config::parse(AVC).expect("an avcC"))),
            (TrackName::source_audio(), Config::Aac(aac::Config::parse(AAC).expect("an ASC"))),
        ];
        let producer = claim.start(tracks, start, SystemTime::now()).expect("a catalogue");
        Self { producer, stream: Stream::new(BITRATE_BPS), start, periods: 0 }
    }

    /// One frame of the present period.
    fn push(&self, tag: &Tag) {
        let ms = i64::from(tag.stamp_ms)
            + i64::try_from((PERIOD * self.periods).as_millis()).expect("short");
        let unit = AccessUnit {
            // 90 kHz ticks. Without reordering both times are equal.
            dts: MediaSpan::from_millis(ms),
            pts: MediaSpan::from_millis(ms),
            key: tag.key,
            independent: tag.key,
            arrived: self.start + PERIOD * self.periods + tag.at,
            payload: tag.payload(),
        };
        let track = usize::from(tag.kind == Kind::Audio);
        // Audio before the first picture belongs to no segment.
        let _ = self.producer.push(TrackIndex::new(track), unit);
    }
}

/// A period's frames through the hub to parts, segments and snapshots.
fn frames_to_parts(criterion: &mut Criterion) {
    let hub = hub();
    let mut publisher = Publisher::new(&hub);
    let broadcast = Arc::clone(publisher.producer.broadcast());
    let mut consumer = broadcast.subscribe_from_oldest();
    let settings = program::Settings { part: PART, window: WINDOW, window_bytes: 1 << 30 };
    let mut program = Program::new(&consumer, settings, Metrics::default(), None);
    let mut period = || {
        let mut snapshots = 0;
        for tag in &publisher.stream.tags {
            publisher.push(tag);
            // The program reads each event at once, as the packager's task does if it is not
            // behind.
            while let Some(event) = consumer.try_next() {
                let now = publisher.start + PERIOD * publisher.periods + tag.at;
                program.apply(event, now).expect("it fits");
            }
            snapshots += usize::from(program.snapshot().is_some());
        }
        publisher.periods += 1;
        snapshots
    };
    for _ in 0..3 * WINDOW.as_secs() / PERIOD.as_secs() {
        period();
    }
    // Three windows have passed, so each further period removes as much as it adds.
    let mut group = criterion.benchmark_group("frames_to_parts");
    group.throughput(Throughput::Elements(Stream::new(BITRATE_BPS).tags.len() as u64));
    group.bench_function("a period of 8 s", |bencher| bencher.iter(|| assert!(period() >= 40)));
    group.finish();
}

/// A full window behind a router.
fn stage(runtime: &tokio::runtime::Runtime) -> (origin_http::Router, Arc<Presentation>, Publisher) {
    runtime.block_on(async {
        let hub = hub();
        let settings = packager::Config { part: PART, window: WINDOW, window_mb: 1_024 };
        let packager = Packager::new(hub.clone(), settings).expect("settings in range");
        let presentations = packager.presentations();
        tokio::spawn(packager.serve(CancellationToken::new()));
        let mut publisher = Publisher::new(&hub);
        for _ in 0..3 * WINDOW.as_secs() / PERIOD.as_secs() {
            for (n, tag) in publisher.stream.tags.iter().enumerate() {
                publisher.push(tag);
                if n % 16 == 0 {
                    // The packager must not fall behind the hub's log.
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
            }
            publisher.periods += 1;
        }
        // A few parts of a segment that stays open.
        for tag in publisher.stream.tags.iter().take(100) {
            publisher.push(tag);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let live =
            presentations.broadcast(publisher.producer.broadcast().id()).expect("it is packaged");
        let current = live.current().expect("it is listed");
        assert!(current.tracks[0].listed_from > 0, "the window is full");
        (router(presentations), current, publisher)
    })
}

/// The same snapshot without any rendered text.
fn fresh(presentation: &Presentation) -> Presentation {
    Presentation {
        broadcast: presentation.broadcast,
        channel: presentation.channel.clone(),
        tracks: presentation.tracks.clone(),
        periods: presentation.periods.clone(),
        rendered: Rendered::new(presentation.tracks.len()),
        ..*presentation
    }
}

/// The texts of a snapshot: what the first request after a change costs.
fn rendered(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (_router, presentation, _publisher) = stage(&runtime);
    let mut group = criterion.benchmark_group("rendered");
    let mut bench = |name: &str, render: &dyn Fn(&Presentation) -> usize| {
        // A text is rendered once for each snapshot, so each iteration gets a snapshot without
        // texts.
        let new = || fresh(&presentation);
        group.bench_function(format!("{name}, {} bytes", render(&new())), |bencher| {
            bencher.iter_batched_ref(new, |snapshot| render(snapshot), BatchSize::SmallInput);
        });
    };
    let playlist = |skip| TextKey::Playlist { track: TrackIndex::new(0), skip };
    for (name, listing) in [
        ("playlist", playlist(Skip::No)),
        ("playlist, delta", playlist(Skip::Yes)),
        ("manifest", TextKey::Manifest(None)),
        ("plain manifest", TextKey::PlainManifest(None)),
    ] {
        bench(name, &|snapshot| snapshot.text(&listing).plain().len());
        bench(&format!("{name}, gzip"), &|snapshot| snapshot.text(&listing).gzip().len());
    }
    group.finish();
}

/// The secret of HS256, and an Ed25519 key pair, for tokens of this bench.
const SECRET: &str = "a secret of thirty-two bytes, or more";
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIOgviOeEGdbk7b80KhcwTM+jLPkr6OJpbCNghrKnuC4O
-----END PRIVATE KEY-----
";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAlNnWlsZHMIflTKaXIEVAGE92m2ZPVwTUQCR5BVl+4tQ=
-----END PUBLIC KEY-----
";

/// The keys `hs` and `ed`, with these private channels.
fn rules(private: &[&str]) -> playback::Config {
    let keys = [
        serde_json::json!({ "id": "hs", "secret": SECRET }),
        serde_json::json!({ "id": "ed", "public_key": PUBLIC_KEY }),
    ];
    let rules = serde_json::json!({ "private": private, "keys": keys });
    serde_json::from_value(rules).expect("a configuration")
}

/// A token for the channel `bench`.
fn token(kid: &str) -> String {
    let (algorithm, key) = match kid {
        "hs" => (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes())),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(PRIVATE_KEY.as_bytes())),
    };
    let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
    let claims = serde_json::json!({
        "exp": 4_000_000_000_u64, "channel": "bench", "sub": "01890a5d-ac96-774b-bcce-b302099a8057"
    });
    encode(&header, &claims, &key.expect("a key")).expect("a token")
}

/// Playback tokens: the first check of a token, a later one, and their part of a request.
fn playback_tokens(criterion: &mut Criterion) {
    let address = IpAddr::from([127, 0, 0, 1]);
    let channel = "bench".parse().expect("a name");
    let mut group = criterion.benchmark_group("playback_tokens");
    for (name, kid) in [("HS256", "hs"), ("EdDSA", "ed")] {
        let (rules, token) = (rules(&["bench"]), token(kid));
        let check = |playback: &mut Playback| {
            let opened = playback.check_token(Some(&token), address, &channel, None);
            assert!(opened.is_ok());
        };
        group.bench_function(format!("{name}, first"), |bencher| {
            let new = || Playback::new(&rules);
            bencher.iter_batched_ref(new, check, BatchSize::SmallInput);
        });
        let mut known = Playback::new(&rules);
        group.bench_function(format!("{name}, known"), |bencher| {
            bencher.iter(|| check(&mut known));
        });
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (mut router, presentation, _publisher) = stage(&runtime);
    let LiveEdge { msn, parts } = presentation.tracks[0].edge().expect("it is live");
    let part = format!("/media/{}/v0/{msn}.{}.m4s", presentation.broadcast, parts - 1);
    let prefixed = format!("/t/{}{part}", token("ed"));
    for (name, private, address) in [
        ("part, all channels public", &[][..], &part),
        ("part, another channel private", &["other"], &part),
        ("part, private, token known", &["bench"], &prefixed),
    ] {
        router.guard(Arc::new(Playback::new(&rules(private))));
        let router = &router;
        let status = runtime.block_on(get_as(router, address, "identity")).status();
        assert_eq!(status, 200, "{address}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    frames(get_as(router, address, "identity").await.into_body()).await.len()
                })
            });
        });
    }
    group.finish();
}

/// Requests through the router, whose texts are already rendered; bodies are read frame by frame,
/// not written.
fn requests(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (router, presentation, _publisher) = stage(&runtime);
    let track = &presentation.tracks[0];
    let LiveEdge { msn, parts } = track.edge().expect("it is live");
    let media = format!("/media/{}/v0", presentation.broadcast);
    let part = format!("{media}/{msn}.{}.m4s", parts - 1);
    let segment = format!("{media}/{}.m4s", msn - 1);
    let mut group = criterion.benchmark_group("requests");
    for (name, address, encodings) in [
        ("playlist", "/live/bench/v0.m3u8", "gzip"),
        ("part", &part, "identity"),
        ("segment", &segment, "identity"),
    ] {
        // The first request renders the text, which is not part of the measurement.
        let status = runtime.block_on(get_as(&router, address, encodings)).status();
        assert_eq!(status, 200, "{address}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    frames(get_as(&router, address, encodings).await.into_body()).await.len()
                })
            });
        });
    }
    group.finish();
}

/// Requests for a part with and without samples of delivered media, which are collected now and
/// then as the daemon does it.
fn samples(criterion: &mut Criterion) {
    const REPORT: &str = "br%3D1254%2Cbl%3D5100%2Ccid%3D%22show%22%2Cd%3D200%2Cmtp%3D25400%2C\
        ot%3Dv%2Csf%3Dh%2Csid%3D%226e2fb550-c457-11e9-bb97-0800200c9a66%22%2Cst%3Dl";
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (mut router, presentation, _publisher) = stage(&runtime);
    let LiveEdge { msn, parts } = presentation.tracks[0].edge().expect("it is live");
    let part = format!("/media/{}/v0/{msn}.{}.m4s", presentation.broadcast, parts - 1);
    let reported = format!("{part}?CMCD={REPORT}");
    let sampler = Sampler::new([1; 16]);
    let mut group = criterion.benchmark_group("samples");
    for (name, address, is_sampled) in [
        ("part, no samples", &part, false),
        ("part", &part, true),
        ("part with a report", &reported, true),
        ("part with a report, no samples", &reported, false),
    ] {
        router.sample(is_sampled.then(|| sampler.clone()));
        let router = &router;
        let status = runtime.block_on(get_as(router, address, "identity")).status();
        assert_eq!(status, 200, "{address}");
        let mut requests = 0_u32;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let response = runtime.block_on(get_as(router, address, "identity"));
                for mut data in runtime.block_on(frames(response.into_body())) {
                    data.advance(data.remaining());
                }
                requests += 1;
                if requests.is_multiple_of(1_024) {
                    sampler.collect(|_| ());
                }
            });
        });
    }
    group.finish();
}

//! Peers that violate the rules harm only themselves: a healthy broadcast beside them continues,
//! the daemon's log has no error, and its memory does not follow a peer's claims.

use crate::support::{
    daemon::{Daemon, Entry, Settings},
    ffprobe, follow, fragment, http,
    live::{Live, Shared},
    media::{PLAIN, Recipe},
    playlist::resolve,
    process::Process,
    publisher,
    rtmp::{self, Amf, Client, Tag},
    wait_for,
};
use benches::bad::Crowd;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};

/// Longer than every time limit of the daemon for a silent or an incomplete peer.
const PATIENCE: Duration = Duration::from_secs(40);

fn live() -> Arc<Live> {
    static SHARED: Shared = Mutex::new(Weak::new());
    Live::with_short_segments(&SHARED)
}

/// Resident memory of the daemon, in bytes.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.id()))
        .expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
}

/// Waits until the peer closes. Returns whether it did within [`PATIENCE`].
fn closes(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a limit");
    let mut sink = [0; 4096];
    loop {
        match socket.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(err) => {
                return !matches!(
                    err.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

// Before a publish.

#[test]
fn a_garbage_handshake_closes_only_its_own_connection() {
    let live = live();
    for seed in [0x47_u8, 0x16, 0x00, 0xff] {
        let mut socket = TcpStream::connect(live.rtmp).expect("the listener accepts");
        let garbage: Vec<u8> =
            (0..8192_u32).map(|n| seed ^ n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        // The daemon may close before it has read all of it.
        let _ = socket.write_all(&garbage);
        assert!(closes(&mut socket), "garbage that begins with {:#x}", garbage[0]);
    }
    live.assert_unharmed();
}

#[test]
fn an_incomplete_rtmp_handshake_is_closed_after_the_time_limit() {
    let live = live();
    let mut silent = TcpStream::connect(live.rtmp).expect("the listener accepts");
    let mut half = TcpStream::connect(live.rtmp).expect("the listener accepts");
    half.write_all(&[3; 700]).expect("the bytes are taken");
    assert!(closes(&mut half), "half of C1");
    assert!(closes(&mut silent), "nothing at all");
    live.assert_unharmed();
}

#[test]
fn a_peer_without_a_command_after_the_handshake_is_closed_after_the_time_limit() {
    let live = live();
    let mut client = Client::connect(live.rtmp);
    assert!(client.is_closed_within(PATIENCE));
    live.assert_unharmed();
}

#[test]
fn a_declared_message_length_allocates_no_memory() {
    let live = live();
    let before = memory(&live);
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(live.rtmp);
        // A chunk of 2 GiB minus one byte, and the longest message that a header can declare.
        let _ = client.message(2, rtmp::SET_CHUNK_SIZE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
        let _ = client.raw(&[3, 0, 0, 0, 0xff, 0xff, 0xff, rtmp::COMMAND, 0, 0, 0, 0]);
        let _ = client.raw(&[0x41; 1000]);
        clients.push(client);
    }
    let grown = memory(&live).saturating_sub(before);
    assert!(grown < 64 << 20, "40 messages of 16 MiB said, {} MiB of memory taken", grown >> 20);
    for mut client in clients {
        assert!(client.is_closed_within(PATIENCE));
    }
    live.assert_unharmed();
}

#[test]
fn a_long_message_of_a_publisher_allocates_no_memory_before_its_bytes_arrive() {
    let live = live();
    let before = memory(&live);
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client =
            Client::publish(live.rtmp, "live", &format!("long{number}")).expect("the name is free");
        let _ = client.raw(&[6, 0, 0, 0, 0xff, 0xff, 0xff, rtmp::VIDEO, 1, 0, 0, 0]);
        let _ = client.raw(&[0x17; 1000]);
        clients.push(client);
    }
    thread::sleep(Duration::from_secs(1));
    let grown = memory(&live).saturating_sub(before);
    assert!(grown < 64 << 20, "20 messages of 16 MiB said, {} MiB of memory taken", grown >> 20);
    drop(clients);
    live.assert_unharmed();
}

#[test]
fn nested_amf0_of_80_kb_closes_only_its_own_connection() {
    let live = live();
    let mut nested = rtmp::amf(&[Amf::string("connect"), Amf::Number(1.0)]);
    // Strict arrays of one element, each inside the other.
    for _ in 0..16_000 {
        nested.extend([0x0a, 0, 0, 0, 1]);
    }
    for split in [false, true] {
        let mut client = Client::connect(live.rtmp);
        if !split {
            client.set_chunk_size(1 << 20);
        }
        let _ = client.message(3, rtmp::COMMAND, 0, 0, &nested);
        assert!(client.is_closed_within(PATIENCE));
    }
    live.assert_unharmed();
}

#[test]
fn a_channel_named_like_a_path_is_refused() {
    let live = live();
    for key in ["../../etc/passwd", "..", "a/../b", "a b", "", "a\u{0}b", &"a".repeat(65)] {
        let refusal = Client::publish(live.rtmp, "live", key).expect_err("no name of a channel");
        assert!(
            refusal.code.is_empty() || refusal.code.starts_with("NetStream.Publish."),
            "{key:?}: {refusal:?}"
        );
    }
    let mut ffmpeg = publisher::ffmpeg(&PLAIN, &live.rtmp_url("../../etc/passwd"));
    assert!(!ffmpeg.wait(PATIENCE).success(), "ffmpeg is refused");
    assert_eq!(live.get("/live/../../etc/passwd/master.m3u8").status / 100, 4);
    live.assert_unharmed();
}

// While publishing.

/// Sends `tags` in real time, with timestamps changed by `stamp`.
fn push(client: &mut Client, tags: &[Tag], mut stamp: impl FnMut(u32) -> u32) {
    let start = Instant::now();
    for tag in tags {
        let due = Duration::from_millis(u64::from(tag.timestamp));
        thread::sleep(due.saturating_sub(start.elapsed()));
        client.tag(tag, stamp(tag.timestamp)).expect("the server reads");
    }
}

fn tags_of(seconds: u32) -> Vec<Tag> {
    let tags = rtmp::tags(&PLAIN.flv());
    tags.into_iter().take_while(|tag| tag.timestamp < seconds * 1000).collect()
}

#[test]
fn interleaved_chunks_of_audio_and_video_are_reassembled() {
    let live = live();
    let file = live.workdir.path().join("interleaved.mp4");
    let tags = tags_of(12);
    let mut client = Client::publish(live.rtmp, "live", "interleaved").expect("the name is free");
    client.set_chunk_size(128);
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            live.wait_until_live("interleaved");
            follow::follow(live.http, "/live/interleaved/v0.m3u8", PATIENCE, |media| {
                media.segments.len() >= 4
            })
        });
        let start = Instant::now();
        let mut waiting: Option<&Tag> = None;
        for tag in &tags {
            thread::sleep(
                Duration::from_millis(u64::from(tag.timestamp)).saturating_sub(start.elapsed()),
            );
            if tag.kind == rtmp::VIDEO && !tag.is_header() && waiting.is_none() {
                waiting = Some(tag);
                continue;
            }
            let sound = rtmp::chunks(4, tag.kind, 1, tag.timestamp, &tag.payload, 128);
            let Some(picture) = waiting.take().filter(|_| tag.kind == rtmp::AUDIO) else {
                client.raw(&sound.concat()).expect("the server reads");
                continue;
            };
            // Alternates between a chunk of one and a chunk of the other.
            let picture =
                rtmp::chunks(6, picture.kind, 1, picture.timestamp, &picture.payload, 128);
            let (mut sound, mut picture) = (sound.into_iter(), picture.into_iter());
            loop {
                let pair = (picture.next(), sound.next());
                for chunk in [&pair.0, &pair.1].into_iter().flatten() {
                    client.raw(chunk).expect("the server reads");
                }
                if pair == (None, None) {
                    break;
                }
            }
        }
        follower.join().expect("the playlist can be followed")
    });
    let bytes = seen.segments.iter().flat_map(|(_, bytes)| bytes);
    fs::write(&file, seen.init.iter().chain(bytes).copied().collect::<Vec<u8>>())
        .expect("a file under target/");
    let numbers = ffprobe::numbers(&file, None);
    assert!(numbers.len() >= 150, "{} pictures", numbers.len());
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
    live.assert_unharmed();
}

#[test]
fn a_timestamp_that_wraps_at_32_bits_causes_no_gap_or_discontinuity() {
    let live = live();
    let tags = tags_of(12);
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            live.wait_until_live("wrap");
            follow::follow(live.http, "/live/wrap/v0.m3u8", PATIENCE, |media| {
                media.segments.len() >= 4
            })
        });
        let mut client = Client::publish(live.rtmp, "live", "wrap").expect("the name is free");
        push(&mut client, &tags, |stamp| stamp.wrapping_sub(5000));
        follower.join().expect("the playlist can be followed")
    });
    assert!(
        seen.segments.iter().all(|(segment, _)| !segment.gap && !segment.discontinuity),
        "{:#?}",
        seen.last.segments
    );
    let chunks: Vec<_> =
        seen.segments.iter().flat_map(|(_, bytes)| fragment::chunks(bytes)).collect();
    for pair in chunks.windows(2) {
        assert_eq!(pair[0].end(), pair[1].decode_time);
    }
    live.assert_unharmed();
}

/// Publishes 16 s, with timestamps shifted by `by` ms from the sixth second on; segments must still
/// follow.
fn continues_after_a_jump(name: &str, by: i32) {
    let live = live();
    let path = format!("/live/{name}/v0.m3u8");
    let tags = tags_of(16);
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            live.wait_until_live(name);
            follow::follow_any(live.http, &path, PATIENCE, |media| {
                media.segments.iter().filter(|segment| !segment.gap).count() >= 6
            })
        });
        let mut client = Client::publish(live.rtmp, "live", name).expect("the name is free");
        push(&mut client, &tags, |stamp| {
            // Starts at ten minutes, so that a jump back stays positive.
            let stamp = stamp + 600_000;
            if stamp < 606_000 { stamp } else { stamp.wrapping_add_signed(by) }
        });
        follower.join().expect("the playlist can be followed across the jump")
    });
    let numbers: Vec<u64> = seen.segments.iter().map(|(segment, _)| segment.msn).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "numbers go on: {numbers:?}");
    live.assert_unharmed();
}

#[test]
fn a_publisher_continues_after_a_timestamp_jump_of_an_hour_forward() {
    continues_after_a_jump("ahead", 3_600_000);
}

#[test]
fn a_publisher_continues_after_a_timestamp_jump_of_five_minutes_backward() {
    continues_after_a_jump("back", -300_000);
}

#[test]
fn garbage_pictures_do_not_harm_other_broadcasts() {
    let live = live();
    let mut client = Client::publish(live.rtmp, "live", "garbage").expect("the name is free");
    let mut tags = tags_of(4);
    for (index, tag) in tags.iter_mut().enumerate().skip(20) {
        let keep = index % 5;
        for (at, byte) in tag.payload.iter_mut().enumerate().skip(keep) {
            *byte = byte.wrapping_mul(31).wrapping_add(at.to_le_bytes()[0]);
        }
    }
    for tag in &tags {
        if client.tag(tag, tag.timestamp).is_err() {
            break;
        }
    }
    drop(client);
    live.assert_unharmed();
}

#[test]
fn publishers_with_invalid_timestamps_do_not_harm_other_broadcasts() {
    let limits = [("STREAMFORGE_LIVE_WINDOW_MB", "16"), ("STREAMFORGE_LIVE_BACKLOG_MB", "8")];
    let mut daemon = Daemon::start(&Settings {
        env: limits.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Settings::default()
    });
    let _good = publisher::ffmpeg(&PLAIN, &daemon.rtmp_url("good"));
    daemon.wait_until_live("good");
    let crowd = Crowd::publish(daemon.rtmp);
    let followed =
        follow::follow(daemon.http, "/live/good/v0.m3u8", Duration::from_secs(120), |media| {
            media.segments.len() >= 6 && crowd.sent() > 300 << 20
        });
    let gaps = followed.segments.iter().filter(|(segment, _)| segment.gap);
    assert_eq!(gaps.count(), 0);
    // Each channel holds its window and, at most, as much of broadcasts that have ended.
    let held = memory(&daemon);
    assert!(held < 200 << 20, "{} MiB", held >> 20);
    daemon.assert_healthy();
    // They still send.
    daemon.process.terminate();
    let status = daemon.process.wait(PATIENCE);
    assert!(status.success(), "{status}");
}

// Players.

#[test]
fn killed_players_do_not_harm_the_broadcast() {
    let live = live();
    let hls = live.url("/live/beside/master.m3u8");
    let rtmp = live.rtmp_url("beside");
    let mut players: Vec<Process> = [&hls, &rtmp]
        .into_iter()
        .map(|url| {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args([
                "-nostdin",
                "-loglevel",
                "error",
                "-i",
                url,
                "-c",
                "copy",
                "-f",
                "null",
                "-",
            ]);
            Process::run("ffmpeg", ffmpeg)
        })
        .collect();
    // A request that waits for a part, and a segment that is not read.
    let next = follow::next_of(&follow::read(live.http, "/live/beside/v0.m3u8"));
    let mut held = TcpStream::connect(live.http).expect("the listener accepts");
    write!(held, "GET /live/beside/v0.m3u8?{next} HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("the request is taken");
    thread::sleep(Duration::from_secs(3));
    drop(held);
    for player in &mut players {
        assert!(player.is_running(), "{}", player.stderr());
        player.kill();
    }
    live.assert_unharmed();
}

#[test]
fn an_rtmp_player_that_reads_nothing_does_not_harm_the_broadcast() {
    // A daemon of its own, whose log has no other failed connection.
    let live = Live::with_short_segments(&Mutex::new(Weak::new()));
    let mut client = Client::connect_with_small_buffers(live.rtmp);
    client.open("live").expect("the application is there");
    client.command(1, &[Amf::string("play"), Amf::Number(3.0), Amf::Null, Amf::string("beside")]);
    // The daemon closes the connection when all buffers have been full for a while.
    let reason = wait_for("end of the player", PATIENCE, || {
        let lines = live.process.lines();
        let mut entries = lines.iter().filter_map(|line| Entry::parse(line));
        let failed = entries.find(|entry| entry.message() == "connection failed")?;
        failed.field("description").map(str::to_owned)
    });
    assert!(reason.starts_with("write took longer than"), "{reason}");
    // The playlist still lists all segments of that time: none is a gap.
    live.assert_unharmed();
    drop(client);
}

#[test]
fn invalid_http_requests_are_refused() {
    let live = live();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    let smuggled = "POST /live/beside/v0.m3u8 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for (request, answers) in [
        ("\x16\x03\x01\x02\x00\x01\x00", &[""][..]),
        ("GET / HTTP/9.9\r\n\r\n", &["", "HTTP/1.1 4", "HTTP/1.1 505"]),
        (&long, &["HTTP/1.1 4"]),
        (&many, &["HTTP/1.1 4"]),
        (smuggled, &["HTTP/1.1 4"]),
    ] {
        let answer = http::raw(live.http, request.as_bytes(), PATIENCE);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let shown = &request[..request.len().min(40)];
        assert!(answers.iter().any(|start| answer.starts_with(start)), "{shown:?}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{shown:?} was answered twice: {answer}");
    }
    live.assert_unharmed();
}

#[test]
fn warnings_of_libraries_do_not_fill_the_log() {
    let live = live();
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let len = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, len, kind, flags, 0, 0, 0, 0], payload].concat()
    };
    let (settings, ping, ack) = (4, 6, 1);
    let mut socket = TcpStream::connect(live.http).expect("the listener accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a limit");
    socket
        .write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(settings, 0, b"")].concat())
        .expect("the bytes are taken");
    for _ in 0..20 {
        let acknowledgements = frame(ping, ack, b"unasked!").repeat(1_000);
        socket.write_all(&acknowledgements).expect("the bytes are taken");
    }
    // A request after them: its response shows that all of them have been read.
    socket.write_all(&frame(ping, 0, b"question")).expect("the bytes are taken");
    let (answer, mut read) = (frame(ping, ack, b"question"), Vec::new());
    while !read.windows(answer.len()).any(|window| window == answer) {
        let mut some = [0; 4096];
        let count = socket.read(&mut some).expect("an answer in time");
        assert!(count > 0, "closed");
        read.extend_from_slice(&some[..count]);
    }
    let lines = live.process.lines();
    let of_libraries = lines.iter().filter(|line| line.contains("\"target\":\"h2")).count();
    assert!(of_libraries < 10, "{of_libraries} lines");
}

#[test]
fn an_incomplete_http_request_is_closed_after_the_time_limit() {
    let live = live();
    let mut silent = TcpStream::connect(live.http).expect("the listener accepts");
    let mut half = TcpStream::connect(live.http).expect("the listener accepts");
    half.write_all(b"GET /live/beside/v0.m3u8 HTTP/1.1\r\nHost: x\r\n")
        .expect("the bytes are taken");
    assert!(closes(&mut half), "half a header");
    assert!(closes(&mut silent), "nothing at all");
    live.assert_unharmed();
}

#[test]
fn a_name_is_live_again_after_a_publisher_with_another_encoding_returns() {
    let live = live();
    let path = "/live/shape/v0.m3u8";
    // The same name, first with pictures of one size, then of another: both must play.
    let mut first = publisher::ffmpeg_for(&PLAIN, 6, &live.rtmp_url("shape"));
    live.wait_until_live("shape");
    first.kill();
    let other = Recipe { seconds: 20, size: (480, 360), ..PLAIN };
    let _second = publisher::ffmpeg(&other, &live.rtmp_url("shape"));
    let seen = follow::follow_any(live.http, path, PATIENCE, |media| {
        let whole = media.segments.iter().filter(|segment| !segment.gap);
        let maps: BTreeSet<_> = whole.map(|segment| &segment.map).collect();
        maps.len() == 2
    });
    let mut sizes = Vec::new();
    for (segment, bytes) in seen.segments.iter().filter(|(segment, _)| !segment.gap) {
        let init = live.get(&resolve(path, segment.map.as_ref().expect("a map"))).body;
        let file = live.workdir.path().join("shape.mp4");
        fs::write(&file, [&init, bytes].map(Vec::as_slice).concat()).expect("a file under target/");
        let stream = &ffprobe::streams(&file)[0];
        let size = ["width", "height"].map(|side| stream.get(side).and_then(Value::as_u64));
        assert!(!ffprobe::numbers(&file, None).is_empty(), "pictures of {size:?}");
        sizes.push(size.map(|side| side.expect("a size")));
    }
    sizes.dedup();
    assert_eq!(sizes, [[640, 360], [480, 360]]);
    live.assert_unharmed();
}

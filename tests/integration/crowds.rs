//! Crowds of idle connections: they keep nobody out, and active connections stay.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::support::{
    daemon::{Daemon, Settings},
    http,
    media::{PLAIN, Recipe},
    publisher, rtmp,
};
use socket2::{Domain, Socket, Type};

/// Less than the size of the crowd.
const MAX_CONNECTIONS: usize = 96;
/// Bytes that idle connections send before they become silent.
const WORDS: [&str; 4] = [
    "",
    "GET /time HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /time HTTP/1.1\r\nHo",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// A connection from another address of this machine.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(&from.into()).expect("an address of loopback");
    socket.connect(&to.into()).expect("the listener accepts");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    socket
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// The status of the response on `socket`, which then closes.
fn status(mut socket: &TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer, whole");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn idle_connections_of_a_few_addresses_do_not_block_new_connections() {
    let limit = |key: &str, value: usize| (format!("STREAMFORGE_HTTP_{key}"), value.to_string());
    let daemon = Daemon::start(&Settings {
        env: vec![
            limit("MAX_CONNECTIONS", MAX_CONNECTIONS),
            limit("MAX_CONNECTIONS_PER_ADDRESS", MAX_CONNECTIONS / 4),
        ],
        ..Settings::default()
    });
    let _publisher = publisher::ffmpeg(&Recipe { group: 25, ..PLAIN }, &daemon.rtmp_url("beside"));
    daemon.wait_until_live("beside");
    // A viewer with a response in progress, because it waits for future media.
    let playlist = daemon.get("/live/beside/v0.m3u8").text();
    let number = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    let segments = playlist.matches("#EXTINF:").count();
    let next = number.expect("a number").parse::<usize>().expect("a number") + segments + 1;
    let mut viewer = connect_from(200, daemon.http);
    let waits = get(&format!("/live/beside/v0.m3u8?_HLS_msn={next}"));
    viewer.write_all(waits.as_bytes()).expect("a request is taken");

    let mut crowd = Vec::new();
    for n in 0..3 * MAX_CONNECTIONS {
        let mut socket = connect_from(2 + u8::try_from(n % 12).expect("below 12"), daemon.http);
        // It may have been closed for the next one already.
        let _ = socket.write_all(WORDS[n % WORDS.len()].as_bytes());
        crowd.push(socket);
    }
    // New connections get a response at once; the crowd still waits.
    for last in 100..120 {
        let mut socket = connect_from(last, daemon.http);
        socket.write_all(get("/time").as_bytes()).expect("a request is taken");
        assert_eq!(status(&socket), "HTTP/1.1 200 OK", "address {last}");
    }
    assert_eq!(http::get(daemon.admin, "/healthz").status, 200);
    drop(rtmp::Client::connect(daemon.rtmp));
    assert_eq!(status(&viewer), "HTTP/1.1 200 OK", "a viewer that waits is no victim");
    assert!(daemon.metric("streamforge_http_evicted_total") > 0);
    let words = daemon.process.lines();
    let told = words.iter().filter(|line| line.contains("connection limit reached"));
    assert_eq!(told.count(), 1, "one line a minute");
}

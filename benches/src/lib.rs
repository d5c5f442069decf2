//! Code shared by the benches and programs: a publisher's stream, cheap clients, and the daemon or
//! its path as their target.
//!
//! - [`stream`]: an encoder's output. [`wire`]: the same as RTMP chunks, made once and sent
//!   repeatedly.
//! - [`client`]: the connection up to `publish`. [`load`]: many publishers on one thread, each
//!   frame sent when it is due.
//! - [`http`]: a keep-alive reader. [`playlist`]: the subset of playlists that it parses.
//! - [`bad`]: publishers whose timestamps or configurations violate the rules.
//! - [`process`]: servers as separate processes: started, pinned to a core, their CPU time and
//!   memory read. [`port`]: addresses for them.
//! - [`path`]: the daemon's path of a frame, from an RTMP socket to an HTTP body, inside this
//!   process.
//! - [`certificate`]: for a run. [`rival`]: other servers with their best settings. [`raw`],
//!   [`quic`]: minimal servers.
//! - [`loader`]: wrk and h2load. [`quic`]: a loader for HTTP/3.
//! - [`fleet`]: thousands of requests held open. [`player`]: players of each protocol and format.
//! - [`site`]: a daemon with a filled platform. [`postgres`]: PostgreSQL beside it.
//! - [`counting`]: an allocator that counts.

#![deny(unsafe_code)]

pub mod bad;
pub mod certificate;
pub mod client;
#[expect(unsafe_code, reason = "an allocator cannot be written without; see its header")]
pub mod counting;
pub mod fleet;
pub mod http;
pub mod load;
pub mod loader;
pub mod path;
pub mod player;
pub mod playlist;
pub mod port;
pub mod postgres;
pub mod process;
pub mod quic;
pub mod raw;
pub mod rival;
pub mod scratch;
pub mod site;
pub mod stream;
pub mod wire;

/// The error that ends a program, as one line for the user.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

//! What the benches and programs share: a publisher's stream, clients that cost little, and the daemon or its path to put them to.
//!
//! - [`stream`]: what one encoder sends. [`wire`]: the same as RTMP chunks, made once and sent again and again.
//! - [`client`]: the way to `publish`. [`load`]: many publishers on one thread, each frame sent when it is due.
//! - [`http`]: a keep-alive reader. [`playlist`]: the little that it must understand.
//! - [`bad`]: publishers whose stamps or configurations break the rules.
//! - [`process`]: servers as processes of their own: started, pinned to a core, their CPU time and memory read.
//! - [`path`]: the daemon's way of a frame, from an RTMP socket to an HTTP body, inside this process.
//! - [`certificate`]: of a run. [`rival`]: other servers with their best settings. [`raw`], [`quic`]: servers that do the least there is to do.
//! - [`loader`]: wrk and h2load. [`quic`]: a loader for HTTP/3.
//! - [`fleet`]: thousands of requests held open. [`player`]: players of each protocol and format.
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
pub mod process;
pub mod quic;
pub mod raw;
pub mod rival;
pub mod scratch;
pub mod stream;
pub mod wire;

/// What ends a program: one line for who runs it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

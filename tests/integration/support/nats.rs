//! A real NATS server with JetStream, and a client of it that is not the daemon's
//! (tests/players/bus.py).

use super::{Workdir, process::Process, wait_for};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players")
}

/// A server on a port of its own, which it keeps when it is started again.
#[derive(Debug)]
pub(crate) struct Nats {
    process: Option<Process>,
    port: u16,
    store: Workdir,
    token: Option<&'static str>,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    headers: Value,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.as_str()
    }

    #[track_caller]
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("JSON")
    }
}

impl Nats {
    /// Starts a server.
    pub(crate) fn start() -> Self {
        let mut nats = Self::stopped();
        nats.begin();
        nats
    }

    /// A server that does not run yet.
    pub(crate) fn stopped() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        Self { process: None, port, store: Workdir::new("nats"), token: None }
    }

    /// A server that asks for a token.
    pub(crate) fn start_with(token: &'static str) -> Self {
        let mut nats = Self { token: Some(token), ..Self::stopped() };
        nats.begin();
        nats
    }

    /// Starts it, with the streams that it had.
    #[track_caller]
    pub(crate) fn begin(&mut self) {
        let mut command = Command::new(tools().join(".venv/bin/nats-server"));
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]);
        command.arg(self.store.path());
        command.args(self.token.iter().flat_map(|token| ["--auth", token]));
        self.process = Some(Process::run("nats-server", command));
        wait_for("NATS server", Duration::from_secs(20), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// The address without a token.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address for clients.
    fn own_url(&self) -> String {
        match self.token {
            Some(token) => format!("nats://{token}@127.0.0.1:{}", self.port),
            None => self.url(),
        }
    }

    /// The lines that the client prints.
    #[track_caller]
    fn ask(&self, args: &[&str]) -> String {
        let mut command = Command::new(tools().join(".venv/bin/python"));
        command.arg(tools().join("bus.py")).arg(self.own_url()).args(args);
        let output = command.output().expect("`make test` installs it");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bus.py {args:?}: {complaint}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// All messages of a stream, in order.
    #[track_caller]
    pub(crate) fn read(&self, stream: &str) -> Vec<Message> {
        let text = self.ask(&["read", stream]);
        let lines = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let payload = line["payload"].as_str().expect("base 64");
            Message {
                sequence: line["sequence"].as_u64().expect("a number"),
                subject: line["subject"].as_str().expect("text").to_owned(),
                headers: line["headers"].clone(),
                payload: decode(payload),
            }
        });
        lines.collect()
    }

    /// The state and the configuration of a stream.
    #[track_caller]
    pub(crate) fn info(&self, stream: &str) -> Value {
        serde_json::from_str(&self.ask(&["info", stream])).expect("JSON")
    }

    /// Drops all messages but the last.
    #[track_caller]
    pub(crate) fn trim(&self, stream: &str, count: u64) {
        self.ask(&["trim", stream, &count.to_string()]);
    }

    /// Deletes a stream.
    #[track_caller]
    pub(crate) fn delete(&self, stream: &str) {
        self.ask(&["delete", stream]);
    }

    /// Publishes a message of another writer.
    #[track_caller]
    pub(crate) fn publish(&self, stream: &str, subject: &str, id: &str) -> Value {
        serde_json::from_str(&self.ask(&["publish", stream, subject, id])).expect("JSON")
    }

    /// Whether a text is in a file of the server.
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        fn search(folder: &Path, text: &[u8]) -> bool {
            let entries = std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
            let mut paths = entries.map(|entry| entry.path());
            paths.any(|path| match path.is_dir() {
                true => search(&path, text),
                false => {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    bytes.windows(text.len()).any(|window| window == text)
                }
            })
        }
        search(self.store.path(), text)
    }
}

/// Decodes base 64 (RFC 4648 4).
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let value = |byte| DIGITS.iter().position(|digit| *digit == byte).expect("a digit");
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_usize, 0);
    for digit in digits {
        (bits, count) = (bits << 6 | value(digit), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

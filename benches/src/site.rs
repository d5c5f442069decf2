//! A daemon with the platform, filled with channels through its API, and edits of them at a given
//! rate.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Failure,
    http::{Answer, Reader},
    process::Daemon,
};

/// The operator's token.
pub const TOKEN: &str = "the-token-of-this-run";
/// Most channels of an account.
const CHANNELS_OF_AN_ACCOUNT: usize = 20;
/// Connections that fill the database.
const FILLERS: usize = 16;
/// Connections that edit channels.
const EDITORS: u32 = 32;

/// The daemon and its channels. Dropping it removes the database.
#[derive(Debug)]
pub struct Site {
    /// The daemon.
    pub daemon: Daemon,
    /// The identifiers of its channels.
    pub channels: Arc<[String]>,
    /// Its data, on a disk.
    _folder: Folder,
}

/// A folder on a disk, removed when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// The edits of a run.
#[derive(Debug)]
pub struct Edits {
    /// Edits that were acknowledged.
    pub done: u64,
    /// The time from the request to the acknowledgement of each, ascending.
    pub times: Vec<Duration>,
    /// How long they went on.
    pub lasted: Duration,
}

impl Folder {
    /// A new one in the directory for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(name: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("streamforge-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Site {
    /// Starts the daemon, with a core on that core only, and makes about `channels` channels.
    ///
    /// # Errors
    /// The daemon does not start, or refuses a request.
    pub fn start(core: Option<usize>, channels: usize) -> Result<Self, Failure> {
        let folder = Folder::new("site")?;
        let data = folder.path().display().to_string();
        let daemon = Daemon::start(
            core,
            &[
                ("STREAMFORGE_DATA_DIR", data.as_str()),
                ("STREAMFORGE_PLATFORM_ENABLED", "true"),
                ("STREAMFORGE_API_ADMIN_TOKEN", TOKEN),
                ("STREAMFORGE_API_SIGN_UP_LIMIT", "off"),
            ],
        )?;
        let accounts = channels.div_ceil(CHANNELS_OF_AN_ACCOUNT);
        let next = Arc::new(AtomicU64::new(0));
        let fillers: Vec<_> = (0..FILLERS)
            .map(|_| {
                let (http, next) = (daemon.http, Arc::clone(&next));
                thread::spawn(move || fill(http, &next, accounts as u64))
            })
            .collect();
        let mut made = Vec::new();
        for filler in fillers {
            made.extend(filler.join().map_err(|_| "a filler has failed")??);
        }
        Ok(Self { daemon, channels: made.into(), _folder: folder })
    }

    /// Edits random channels at `rate` a second, or as fast as responses arrive if it is 0, until
    /// `end`.
    ///
    /// # Errors
    /// An edit was refused.
    pub fn edit(&self, rate: u32, end: Instant) -> Result<Edits, Failure> {
        let begun = Instant::now();
        // Each connection has the same share of the rate.
        let pause = (rate > 0).then(|| Duration::from_secs(1) * EDITORS / rate);
        let editors: Vec<_> = (0..EDITORS)
            .map(|n| {
                let (http, channels) = (self.daemon.http, Arc::clone(&self.channels));
                thread::spawn(move || edit(http, &channels, n as usize, pause, end))
            })
            .collect();
        let mut times = Vec::new();
        for editor in editors {
            times.extend(editor.join().map_err(|_| "an editor has failed")??);
        }
        times.sort_unstable();
        Ok(Edits { done: times.len() as u64, times, lasted: begun.elapsed() })
    }
}

/// Makes accounts with their channels until `accounts` have been made. Returns the channels.
fn fill(http: SocketAddr, next: &AtomicU64, accounts: u64) -> Result<Vec<String>, Failure> {
    let mut reader = Reader::connect(http)?;
    let mut made = Vec::new();
    loop {
        let n = next.fetch_add(1, Relaxed);
        if n >= accounts {
            return Ok(made);
        }
        let account = json!({
            "name": format!("person {n}"),
            "email": format!("person{n}@example.org"),
            "password": format!("a password of {n}"),
            "role": "creator",
        });
        let owner = post(&mut reader, "/api/v1/accounts", &account)?;
        for m in 0..CHANNELS_OF_AN_ACCOUNT {
            let channel = json!({ "name": format!("channel-{n}-{m}"), "owner": owner });
            made.push(post(&mut reader, "/api/v1/channels", &channel)?);
        }
    }
}

/// Makes a thing. Returns its identifier.
fn post(reader: &mut Reader, path: &str, thing: &Value) -> Result<String, Failure> {
    let answer = send(reader, "POST", path, thing)?;
    let made: Value = serde_json::from_slice(&answer.body)?;
    match (answer.status, made["id"].as_str()) {
        (201, Some(id)) => Ok(id.to_owned()),
        (status, _) => Err(format!("POST {path}: {status} {made}").into()),
    }
}

/// Sends JSON as the operator.
fn send(reader: &mut Reader, method: &str, path: &str, body: &Value) -> Result<Answer, Failure> {
    let kind = if method == "PATCH" { "merge-patch+json" } else { "json" };
    let fields = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/{kind}\r\n");
    reader.exchange(method, path, &fields, &body.to_string())
}

/// Edits channels over one connection. Returns the times.
fn edit(
    http: SocketAddr,
    channels: &[String],
    first: usize,
    pause: Option<Duration>,
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    let mut reader = Reader::connect(http)?;
    let (mut times, mut due) = (Vec::new(), Instant::now());
    let mut n = first;
    while due < end && Instant::now() < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A stride that visits all channels, and never the same one from two connections at once.
        n += EDITORS as usize;
        let channel = channels.get(n % channels.len()).ok_or("there are no channels")?;
        let path = format!("/api/v1/channels/{channel}");
        let begun = Instant::now();
        let answer = send(&mut reader, "PATCH", &path, &json!({ "title": format!("title {n}") }))?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("PATCH {path}: {} {text}", answer.status).into());
        }
        times.push(answer.arrived.saturating_duration_since(begun));
        due = pause.map_or_else(Instant::now, |pause| due + pause);
    }
    Ok(times)
}

//! Servers as separate processes: the daemon from its release binary and shipped configuration,
//! others by a command. Each ends with its owner. CPU time and memory are the kernel's values for
//! the process and its children.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, certificate::Certificate, port::free_port};

/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, 100 on every Linux.
const TICKS: f64 = 100.0;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    /// The process, or `taskset` until it has replaced itself by the program.
    child: Child,
}

/// Resources that a process and its children have used, and use at present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU seconds in user space and in the kernel (proc(5): utime, stime).
    pub user_s: f64,
    /// See `user_s`.
    pub system_s: f64,
    /// The same by the scheduler's clock, without the resolution of ticks (`schedstat`).
    pub scheduled_s: f64,
    /// Memory in bytes (VmRSS).
    pub resident: u64,
}

impl Usage {
    /// CPU seconds in all.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Server {
    /// Starts `program`; with a core, on that core only.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: &Path,
        core: Option<usize>,
        set: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        // `taskset` sets the mask before the program starts, so that all of its threads inherit it.
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        set(&mut command);
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.map_err(|err| format!("{} does not start: {err}", program.display()))?;
        Ok(Self { child })
    }

    /// Its process id; `taskset` is replaced by the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, if it is piped and not taken yet.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends SIGTERM. Returns the time until the process ended.
    ///
    /// # Errors
    /// It has not ended within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<Duration, Failure> {
        let started = Instant::now();
        // The standard library can only send SIGKILL.
        Command::new("kill").arg(self.id().to_string()).status()?;
        while started.elapsed() < limit {
            if self.child.try_wait()?.is_some() {
                return Ok(started.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("the daemon has not ended {} s after SIGTERM", limit.as_secs()).into())
    }

    /// The resources of the process and its children.
    ///
    /// # Errors
    /// The process has ended.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let mut all = Usage::default();
        // Workers are children of the daemon, and their cost is part of its.
        for id in family(self.id())? {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // The name, in parentheses, may contain any character; the third field follows it.
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
            let field =
                |n: usize| after.split(' ').nth(n - 3).and_then(|value| value.parse::<f64>().ok());
            all.user_s += field(14).unwrap_or(0.0) / TICKS;
            all.system_s += field(15).unwrap_or(0.0) / TICKS;
            for task in fs::read_dir(format!("/proc/{id}/task"))? {
                // A thread may end between the listing and the read; its time is then missing.
                let ran = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                let ran = ran.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
                all.scheduled_s += ran.unwrap_or(0.0) / 1e9;
            }
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib =
                resident.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            all.resident += kib.unwrap_or(0) << 10;
        }
        Ok(all)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended and was waited for has no id any more.
        if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        // SIGTERM first, so that it ends its children.
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        // At most 2 s, then SIGKILL.
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process and its children.
///
/// # Errors
/// The process has ended.
fn family(id: u32) -> Result<Vec<u32>, Failure> {
    let mut family = vec![id];
    // A child belongs to the thread that started it.
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace();
        family.extend(children.filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(family)
}

/// The daemon, and its addresses.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub server: Server,
    /// The address for publishers.
    pub rtmp: SocketAddr,
    /// The HTTP address.
    pub http: SocketAddr,
    /// The TLS address, for TCP and UDP, if it was given a certificate.
    pub https: Option<SocketAddr>,
    /// The address of `/healthz` and `/metrics`.
    pub admin: SocketAddr,
}

impl Daemon {
    /// Starts the release binary on `conf/streamforge.toml`, with open publishing and listeners on
    /// free ports of loopback; `settings` are more environment variables. `--daemon FILE` and
    /// `--config FILE` on the command line select others.
    ///
    /// # Errors
    /// There is no such binary, or it does not listen within 10 s.
    pub fn start(core: Option<usize>, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        Self::begin(core, None, settings)
    }

    /// The same with HTTP/1.1, HTTP/2 and HTTP/3 over TLS.
    ///
    /// # Errors
    /// See [`Daemon::start`].
    pub fn start_tls(
        core: Option<usize>,
        certificate: &Certificate,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        Self::begin(core, Some(certificate), settings)
    }

    /// Starts the daemon, with TLS if there is a certificate, and waits for its listeners.
    fn begin(
        core: Option<usize>,
        certificate: Option<&Certificate>,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let program = option("--daemon", release(&root, "streamforge"))?;
        let config = option("--config", root.join("conf/streamforge.toml"))?;
        // HTTPS and HTTP/3 share a port, so one that is free in TCP and UDP is chosen here.
        let https = certificate.map(|_| free_port()).transpose()?;
        if !program.exists() {
            return Err(format!("{} is not there: cargo build --release", program.display()).into());
        }
        let mut server = Server::start(&program, core, |command| {
            command.args(["--log-format", "json", "serve", "--config"]);
            command.arg(&config);
            command.env("STREAMFORGE_PUBLISH_POLICY", "open");
            // Ports of 0: the kernel chooses them, and the log has the result. Runs at the same
            // time do not disturb each other.
            for listener in ["RTMP", "HTTP", "ADMIN"] {
                command.env(format!("STREAMFORGE_{listener}_LISTEN"), "127.0.0.1:0");
            }
            command.env("STREAMFORGE_RTMPS_LISTEN", "");
            command
                .env("STREAMFORGE_HTTPS_LISTEN", https.map_or(String::new(), |at| at.to_string()));
            if let Some(certificate) = certificate {
                command.env("STREAMFORGE_TLS_CERT", &certificate.cert);
                command.env("STREAMFORGE_TLS_KEY", &certificate.key);
            }
            command.envs(settings.iter().copied()).stderr(Stdio::piped());
        })?;
        let log = server.child.stderr.take().ok_or("the daemon has no stderr")?;
        let (tell, told) = mpsc::channel();
        // Keeps reading, so that the daemon never waits for its log.
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                match serde_json::from_str::<serde_json::Value>(&line) {
                    Ok(entry) if entry["fields"]["message"] == "listening" => {
                        let field = |name: &str| {
                            entry["fields"][name].as_str().unwrap_or_default().to_owned()
                        };
                        let _ = tell.send((field("listener"), field("addr")));
                    }
                    // Everything above INFO, and lines that are not JSON, may explain a result.
                    Ok(entry) if entry["level"] == "INFO" => {}
                    _ => eprintln!("daemon: {line}"),
                }
            }
        });
        let (mut rtmp, mut http, mut admin) = (None, None, None);
        // The daemon logs its listeners only after all parts run.
        while rtmp.is_none() || http.is_none() || admin.is_none() {
            let told = told.recv_timeout(Duration::from_secs(10));
            let (listener, address) = told.map_err(|_| "the daemon does not listen")?;
            match listener.as_str() {
                "rtmp" => rtmp = address.parse().ok(),
                "http" => http = address.parse().ok(),
                "admin" => admin = address.parse().ok(),
                _ => {}
            }
        }
        match (rtmp, http, admin) {
            (Some(rtmp), Some(http), Some(admin)) => Ok(Self { server, rtmp, http, https, admin }),
            _ => Err("the daemon's addresses cannot be read".into()),
        }
    }
}

/// The path of a release binary of this workspace.
fn release(root: &Path, name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release").join(name)
}

/// Keeps this process, including its future threads, on one core.
///
/// # Errors
/// There is no such core, or no `taskset`.
pub fn pin(core: usize) -> Result<(), Failure> {
    let mut command = Command::new("taskset");
    command.args(["-c", "-p", &core.to_string(), &std::process::id().to_string()]);
    match command.stdout(Stdio::null()).status()?.success() {
        true => Ok(()),
        false => Err(format!("core {core} cannot be had").into()),
    }
}

/// The number after `flag` on the command line, otherwise `default`.
///
/// # Errors
/// The argument is not a number.
pub fn option<T: std::str::FromStr>(flag: &str, default: T) -> Result<T, Failure> {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag);
    match (arguments.next(), arguments.next()) {
        (Some(_), Some(value)) => {
            value.parse().map_err(|_| format!("{flag} {value}: not a number").into())
        }
        (Some(_), None) => Err(format!("{flag} needs a number").into()),
        (None, _) => Ok(default),
    }
}

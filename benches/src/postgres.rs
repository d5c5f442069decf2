//! Debian's PostgreSQL with pgbench: the database that a platform of this kind commonly reads.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{Failure, port::free_port, process::Server, site::Folder};

/// The account that Debian's package makes; the server refuses to run as root.
const ACCOUNT: &str = "postgres";
/// Rows of `pgbench_accounts`, in units of 100 000.
const SCALE: &str = "1";

/// A running server with pgbench's tables.
#[derive(Debug)]
pub struct Postgres {
    /// Its process, and those of its connections as children.
    pub server: Server,
    /// Its address.
    address: SocketAddr,
    /// The folder of its programs.
    programs: PathBuf,
    /// Its data, on a disk.
    folder: Folder,
}

/// The result of pgbench.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// Transactions a second.
    pub rate: f64,
    /// The 99th percentile of their times, in milliseconds.
    pub p99_ms: f64,
}

impl Postgres {
    /// Starts it on a core with its defaults and fills it.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(core: usize) -> Result<Self, Failure> {
        let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| "no postgresql here")?;
        let programs = versions.filter_map(Result::ok).map(|entry| entry.path().join("bin")).max();
        let programs = programs.ok_or("no version of postgresql here")?;
        let folder = Folder::new("postgres")?;
        succeeds(Command::new("chown").arg(ACCOUNT).arg(folder.path()))?;
        let data = folder.path().join("data");
        let mut create = as_account(&programs.join("initdb"));
        succeeds(create.args(["--auth=trust", "-D"]).arg(&data))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?.port()));
        let log = File::create(folder.path().join("log"))?;
        let server = Server::start(Path::new("/usr/sbin/runuser"), Some(core), |command| {
            command.args(["-u", ACCOUNT, "--"]).arg(programs.join("postgres")).arg("-D").arg(&data);
            command.args(["-p", &address.port().to_string(), "-h", "127.0.0.1", "-k", ""]);
            command.stdout(Stdio::null()).stderr(log);
        })?;
        let postgres = Self { server, address, programs, folder };
        let ready = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            std::net::TcpStream::connect(address).is_ok()
                && postgres.pgbench(&["-i", "-q", "-s", SCALE]).is_ok()
        });
        match ready {
            true => Ok(postgres),
            false => {
                let log = fs::read_to_string(postgres.folder.path().join("log"));
                Err(format!("postgres does not start: {}", log.unwrap_or_default()).into())
            }
        }
    }

    /// Reads random rows by their key, over `connections` connections, with prepared statements.
    ///
    /// # Errors
    /// pgbench fails.
    pub fn read(&self, connections: usize, seconds: u64) -> Result<Count, Failure> {
        self.run(
            "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = \
                  :aid;\n",
            connections,
            seconds,
        )
    }

    /// Changes random rows, each in a transaction of its own.
    ///
    /// # Errors
    /// pgbench fails.
    pub fn write(&self, connections: usize, seconds: u64) -> Result<Count, Failure> {
        self.run(
            "\\set aid random(1, 100000)\nUPDATE pgbench_accounts SET abalance = abalance + 1 \
                  WHERE aid = :aid;\n",
            connections,
            seconds,
        )
    }

    /// Runs a script on one thread.
    fn run(&self, script: &str, connections: usize, seconds: u64) -> Result<Count, Failure> {
        let file = self.folder.path().join("script.sql");
        fs::write(&file, script)?;
        let prefix = self.folder.path().join("times");
        let output = self.pgbench(&[
            "-n",
            "-M",
            "prepared",
            "-j",
            "1",
            "-c",
            &connections.to_string(),
            "-T",
            &seconds.to_string(),
            "-f",
            &file.display().to_string(),
            "-l",
            "--log-prefix",
            &prefix.display().to_string(),
        ])?;
        // `tps = 12345.678901 (without initial connection time)`
        let rate = output.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        let rate = rate.and_then(|rate| rate.parse().ok());
        let rate = rate.ok_or_else(|| format!("pgbench prints {output}"))?;
        let mut times = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if !path.to_string_lossy().starts_with(&*prefix.to_string_lossy()) {
                continue;
            }
            // `client transaction microseconds file epoch microseconds`
            let text = fs::read_to_string(&path)?;
            times.extend(
                text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()),
            );
            fs::remove_file(path)?;
        }
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).ok_or("pgbench wrote no times")?;
        Ok(Count { rate, p99_ms: *p99 as f64 / 1e3 })
    }

    /// Runs pgbench on the database. Returns what it prints.
    fn pgbench(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-U", ACCOUNT]);
        let output = command.args(arguments).arg(ACCOUNT).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }
}

/// A program as PostgreSQL's account.
fn as_account(program: &Path) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", ACCOUNT, "--"]).arg(program);
    command
}

/// Runs a command, silently.
fn succeeds(command: &mut Command) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

//! Debian's Varnish and nginx as caches in front of a daemon, with the shipped examples.

use super::{Workdir, process::Process, wait_for};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

/// Interval between two checks of a cache that ends.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Varnish,
    Nginx,
}

/// A running cache. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) address: SocketAddr,
    process: Process,
    _workdir: Workdir,
}

impl Cache {
    /// Starts a cache in front of `origin`, and waits until it listens.
    pub(crate) fn start(kind: Kind, origin: SocketAddr) -> Self {
        let workdir = Workdir::new("proxy");
        // Neither reports a port that it selected itself, so a port that was free a moment ago is
        // used.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port");
        let process = match kind {
            Kind::Varnish => varnish(workdir.path(), origin, address),
            Kind::Nginx => nginx(workdir.path(), origin, address),
        };
        wait_for("cache that listens", Duration::from_secs(30), || {
            TcpStream::connect(address).ok()
        });
        Self { address, process, _workdir: workdir }
    }
}

impl Drop for Cache {
    /// Ends the cache gracefully: if it were killed, its workers would stay.
    fn drop(&mut self) {
        let mut waited = Duration::ZERO;
        if self.process.is_running() {
            self.process.terminate();
        }
        while self.process.is_running() && waited < Duration::from_secs(5) {
            thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }
}

/// A shipped example, with some of its text replaced by a test's.
fn example(name: &str, replace: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples").join(name);
    let text = fs::read_to_string(&path).expect("the example");
    replace.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name} has {from:?}");
        text.replace(from, to)
    })
}

fn varnish(workdir: &Path, origin: SocketAddr, proxy: SocketAddr) -> Process {
    let vcl = workdir.join("varnish.vcl");
    let port = format!(".port = \"{}\"", origin.port());
    fs::write(&vcl, example("varnish.vcl", &[(".port = \"8080\"", &port)])).expect("a file");
    let mut command = Command::new("/usr/sbin/varnishd");
    // In the foreground, without privileges to give away.
    command.args(["-F", "-j", "none", "-s", "default,256m", "-T", "none"]);
    command.arg("-a").arg(proxy.to_string()).arg("-f").arg(&vcl).arg("-n").arg(workdir.join("run"));
    Process::run("varnishd", command)
}

fn nginx(workdir: &Path, origin: SocketAddr, proxy: SocketAddr) -> Process {
    let conf = workdir.join("nginx.conf");
    let cache = workdir.join("cache");
    let text = example(
        "nginx.conf",
        &[
            ("listen [::]:80 ipv6only=off", &format!("listen {proxy}")),
            ("server 127.0.0.1:8080", &format!("server {origin}")),
            ("/var/cache/nginx/streamforge", cache.to_str().expect("UTF-8")),
        ],
    );
    fs::write(&conf, text).expect("a file");
    let mut command = Command::new("/usr/sbin/nginx");
    let globals =
        format!("daemon off; pid {}; error_log stderr;", workdir.join("nginx.pid").display());
    command.arg("-p").arg(workdir).arg("-c").arg(&conf).args(["-g", &globals]);
    Process::run("nginx", command)
}

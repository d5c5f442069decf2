//! Limits of the machine: file descriptors, memory, UDP buffers. Raised where possible, logged at
//! the start, and compared with the configuration by `check`. getrlimit(2), proc(5), the kernel's
//! cgroup-v2.

use std::{fmt, fs, path::Path};

use http_server::QuicSocket;
use origin_http::edge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::{config::Config, sockets};

/// Descriptors besides those of connections: listeners, workers' pipes and sockets, files.
const OTHER_DESCRIPTORS: u64 = 512;
/// Memory of a connection over HTTP, and one over RTMP, in bytes: our buffers; the kernel's are
/// additional and accounted by it.
const HTTP_BYTES: u64 = 40 << 10;
/// Memory of a connection over RTMP in bytes; see [`HTTP_BYTES`].
const RTMP_BYTES: u64 = 64 << 10;
/// The bit rate for estimates of memory: a source of 1080p and the shipped ladder.
const EXAMPLE_BPS: u64 = 11_000_000;

/// Raises the limit of descriptors as far as possible, and logs limits below the configuration.
pub(crate) fn raise_and_log(config: &Config) {
    let allowed = raise_descriptors();
    info!(descriptors = allowed, "limit of file descriptors");
    for finding in
        [descriptors(config, allowed), memory(config), datagrams(config)].into_iter().flatten()
    {
        if finding.short {
            warn!(
                limit = finding.what,
                words = finding.words,
                "a limit of the machine is below the configuration"
            );
        }
    }
}

/// The limits of the machine, for `check`.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let allowed = raise_descriptors();
    let all = [descriptors(config, allowed), memory(config), datagrams(config)];
    all.into_iter().flatten().collect()
}

/// The result for one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The name of the limit.
    pub(crate) what: &'static str,
    /// The available and the required amount, and the remedy.
    pub(crate) words: String,
    /// Whether it may not suffice.
    pub(crate) short: bool,
}

/// Raises the soft limit to the hard one. Returns it.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A process may raise its soft limit without a privilege (getrlimit(2)). The soft limit of most
    // systems is 1024, for programs that use select(2).
    if current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(err) = setrlimit(Resource::Nofile, raised) {
            warn!(%err, "the limit of file descriptors cannot be raised");
            return current.unwrap_or(u64::MAX);
        }
    }
    maximum.unwrap_or(u64::MAX)
}

/// Compares the limit of descriptors with the sum of all connections.
fn descriptors(config: &Config, allowed: u64) -> Option<Finding> {
    let (http, rtmp) = (config.http.max_connections as u64, config.rtmp.max_connections as u64);
    let edge = edge_descriptors(&config.edge);
    let needed = [rtmp, edge, OTHER_DESCRIPTORS].into_iter().fold(http, u64::saturating_add);
    let of_edge = match edge {
        0 => String::new(),
        _ => format!(", edge.max_fetches from each origin {edge}"),
    };
    let sum = format!(
        "{needed} for http.max_connections {http}, rtmp.max_connections {rtmp}{of_edge} and other \
         files"
    );
    // The sum is of all limits of connections, because all of them may be reached at once.
    let short = allowed < needed;
    let words = match short {
        true => format!(
            "{allowed} are allowed, but {sum} are needed: raise LimitNOFILE= of the unit (ulimit \
             -Hn), or lower these keys"
        ),
        false => format!("{allowed} are allowed, {sum} are needed at most"),
    };
    Some(Finding { what: "descriptors", words, short })
}

/// Each fetch may have a separate connection. Files of its disk cache are opened one at a time.
fn edge_descriptors(edge: &edge::Config) -> u64 {
    edge.origin.len() as u64 * u64::from(edge.max_fetches)
}

/// Memory of an edge's cache in bytes; 0 without an origin.
fn edge_bytes(edge: &edge::Config) -> u64 {
    match edge.origin.is_empty() {
        true => 0,
        false => u64::from(edge.memory_mb) << 20,
    }
}

/// Compares the memory with the connections, the windows and the cache.
fn memory(config: &Config) -> Option<Finding> {
    memory_within(config, memory_bytes()?)
}

/// As [`memory`], for a machine or service with this memory.
fn memory_within(config: &Config, (allowed, whose): (u64, &str)) -> Option<Finding> {
    let window = config.live.packager().window.as_secs();
    // The listed segments, and as much again.
    let most = (config.live.packager().window_mb as u64) << 20;
    let channel = (EXAMPLE_BPS / 8 * window * 2).min(most);
    let connections = config.http.max_connections as u64 * HTTP_BYTES
        + config.rtmp.max_connections as u64 * RTMP_BYTES;
    let edge = edge_bytes(&config.edge);
    // Connections and the cache have fixed limits, so the rest is for channels.
    let left = allowed.saturating_sub(connections);
    let channels = left.saturating_sub(edge) / channel.max(1);
    // An edge may have no channels of its own.
    let short = if edge > 0 { left < edge } else { channels == 0 };
    let advice = match (short, edge) {
        (true, 0) => ": lower live.window_s or the connections",
        (true, _) => ": lower edge.memory_mb or the connections",
        (false, _) => "",
    };
    let of_edge = match edge {
        0 => String::new(),
        _ => format!(", {} for edge.memory_mb", Bytes(edge)),
    };
    let words = format!(
        "{} {whose}: room for some {channels} channels of 11 Mbit/s in total with live.window_s \
         {window} ({} each), in addition to {} for all connections{of_edge}{advice}",
        Bytes(allowed),
        Bytes(channel),
        Bytes(connections)
    );
    Some(Finding { what: "memory", words, short })
}

/// The smaller of the machine's memory and the service's limit.
fn memory_bytes() -> Option<(u64, &'static str)> {
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let of_service = fs::read_to_string("/proc/self/cgroup").ok();
    let of_service = of_service.and_then(|text| cgroup_limit(Path::new("/sys/fs/cgroup"), &text));
    Some(match of_service {
        Some(limit) if limit < machine => (limit, "for this service (MemoryMax=)"),
        _ => (machine, "in this machine"),
    })
}

/// MemTotal of /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// The smallest `memory.max` of the groups from this process' own, named in /proc/self/cgroup, up
/// to `root`.
fn cgroup_limit(root: &Path, cgroup: &str) -> Option<u64> {
    // The line of cgroup version 2 is `0::/path`; the hierarchies of version 1 have other numbers.
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = root.join(own);
    // Each group is limited by its ancestors too. `max` is not a number and therefore left out.
    let limits = group.ancestors().take_while(|group| group.starts_with(root));
    limits
        .filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok())
        .min()
}

/// Compares the limits of UDP buffers with the size that the QUIC server requests.
fn datagrams(config: &Config) -> Option<Finding> {
    let quic = |wanted: &sockets::Wanted| wanted.purpose == sockets::Purpose::Quic;
    if !config.listeners().iter().any(quic) {
        return None;
    }
    // A unit may hide it from us; then there is no result.
    let allowed = |name| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let (read, write) = (allowed("rmem_max")?, allowed("wmem_max")?);
    let wanted = QuicSocket::BUFFER as u64;
    // The kernel silently reduces a requested buffer to its limit (socket(7), SO_RCVBUF).
    let short = read.min(write) < wanted;
    let there = format!("net.core.rmem_max {}, wmem_max {}", Bytes(read), Bytes(write));
    let words = match short {
        true => format!(
            "{there}: HTTP/3 loses packets under load; put net.core.rmem_max={wanted} and \
             net.core.wmem_max={wanted} into /etc/sysctl.d"
        ),
        false => there,
    };
    Some(Finding { what: "UDP buffers", words, short })
}

/// A size in readable units.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..0x0010_0000 => write!(f, "{} KiB", self.0 >> 10),
            0x0010_0000..0x4000_0000 => write!(f, "{} MiB", self.0 >> 20),
            _ => write!(f, "{}.{} GiB", self.0 >> 30, (self.0 >> 20 & 1023) * 10 / 1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_reported_with_a_remedy() {
        let config = Config::default();
        let enough = descriptors(&config, 12_512).unwrap();
        assert!(!enough.short, "10 000, 2000 and 512: {enough:?}");
        let few = descriptors(&config, 12_511).unwrap();
        assert!(few.short && few.words.contains("LimitNOFILE"), "{few:?}");
    }

    #[test]
    fn the_limits_of_an_edge_include_its_fetches_and_its_memory() {
        let mut config = Config::default();
        let two = ["https://a.example", "https://b.example"];
        config.edge.origin = two.iter().map(|origin| origin.parse().unwrap()).collect();
        let enough = descriptors(&config, 14_512).unwrap();
        assert!(!enough.short, "1000 from each of two, beside 12 512: {enough:?}");
        let few = descriptors(&config, 14_511).unwrap();
        assert!(few.short && few.words.contains("edge.max_fetches"), "{few:?}");

        // 10 000 of 40 KiB, 2000 of 64 KiB and 256 MiB.
        let connections = (10_000 * 40 + 2_000 * 64) << 10;
        let memory = |config: &Config, allowed| memory_within(config, (allowed, "here")).unwrap();
        let enough = memory(&config, connections + (256 << 20));
        assert!(!enough.short && enough.words.contains("edge.memory_mb"), "{enough:?}");
        assert!(memory(&config, connections + (256 << 20) - 1).short);
        config.edge.origin.clear();
        assert!(!memory(&config, 1 << 40).words.contains("edge"));
    }

    #[test]
    fn the_lowest_memory_limit_of_all_cgroups_applies() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        let root = std::env::temp_dir().join(format!("streamforge-cgroup-{}", std::process::id()));
        let own = root.join("system.slice/streamforge.service");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("memory.max"), "max\n").unwrap();
        fs::write(root.join("system.slice/memory.max"), "1048576\n").unwrap();
        let cgroup = "1:name=systemd:/x\n0::/system.slice/streamforge.service\n";
        assert_eq!(cgroup_limit(&root, cgroup), Some(1 << 20));
        fs::write(own.join("memory.max"), "4096\n").unwrap();
        assert_eq!(cgroup_limit(&root, cgroup), Some(4096));
        assert_eq!(cgroup_limit(&root, "1:name=systemd:/x\n"), None);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn sizes_are_printed_in_binary_units() {
        let shown = [512 << 10, 33 << 20, 3 << 29].map(|size| Bytes(size).to_string());
        assert_eq!(shown, ["512 KiB", "33 MiB", "1.5 GiB"]);
    }
}

//! Which files a confined process may open, by Landlock: libraries and what libraries look at, to be read. Nothing is written, created,
//! removed or executed; no TCP port is bound or connected to, no signal leaves, no abstract socket is reached. What the kernel's version of
//! Landlock does not know is left out (landlock(7)); `syscalls` covers most of it a second time.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::{Error, Limits};

/// The newest version that was tried: Linux 6.15.
const TRIED: ABI = ABI::V7;

/// Where plugins and the libraries that they need are, and what those look at when they are loaded or start threads.
const LIBRARIES: [&str; 15] = [
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/lib",
    "/usr/share",
    "/usr/local/share",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
];
const DEVICES: [&str; 5] = [
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
    "/dev/null",
    "/dev/zero",
];
/// How graphics drivers find their devices.
const GPU_FINDS: [&str; 7] = [
    "/dev",
    "/sys/bus/pci",
    "/sys/class/drm",
    "/sys/dev/char",
    "/sys/devices",
    "/proc/driver/nvidia",
    "/etc/OpenCL",
];

/// What Landlock does for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Landlock {
    /// All that is asked of it.
    Enforced {
        /// The version in force.
        abi: i32,
    },
    /// What an older version knows: from 1 files, from 4 TCP ports too, from 6 signals and abstract sockets too.
    Partial {
        /// The version in force.
        abi: i32,
    },
    /// Nothing: the kernel does not have it, or it was not enabled at boot.
    NotSupported,
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { abi } => write!(f, "files, ports and signals limited (Landlock {abi})"),
            Self::Partial { abi } => write!(
                f,
                "files limited (Landlock {abi}; 6 or newer limits ports and signals too)"
            ),
            Self::NotSupported => f.write_str("files not limited: this kernel has no Landlock"),
        }
    }
}

pub(super) fn restrict(limits: &Limits) -> Result<Landlock, Error> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rules(path_beneath_rules(LIBRARIES, read))?
        .add_rules(path_beneath_rules(DEVICES, read))?
        .add_rules(path_beneath_rules(registry(), read))?
        .add_rules(path_beneath_rules(&limits.read, read))?;
    if limits.gpu {
        let drive = read | AccessFs::WriteFile | AccessFs::IoctlDev;
        rules = rules
            .add_rules(path_beneath_rules(GPU_FINDS, AccessFs::ReadDir))?
            .add_rules(path_beneath_rules(&GPU_FINDS[1..], read))?
            .add_rules(path_beneath_rules(gpu_devices(), drive))?;
    }
    let status = rules.restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => kernel_abi.unwrap_or(effective_abi as i32),
        _ => return Ok(Landlock::NotSupported),
    };
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Enforced { abi },
        RulesetStatus::PartiallyEnforced => Landlock::Partial { abi },
        RulesetStatus::NotEnforced => Landlock::NotSupported,
    })
}

/// GStreamer's list of plugins, where it was told to keep it. It is read when GStreamer is initialised, and again by few.
fn registry() -> impl Iterator<Item = std::ffi::OsString> {
    ["GST_REGISTRY", "GST_REGISTRY_1_0"]
        .into_iter()
        .filter_map(std::env::var_os)
}

fn gpu_devices() -> Vec<std::path::PathBuf> {
    let named = |name: &str| name == "dri" || name.starts_with("nvidia");
    std::fs::read_dir("/dev").map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_str().is_some_and(named))
                .map(|entry| entry.path())
                .collect()
        },
    )
}

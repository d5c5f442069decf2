//! Landlock rules for the files that a confined process may open: libraries, and the files that
//! libraries read. Nothing may be written, created, removed or executed; no TCP port may be bound
//! or connected to, no signal sent to another process, no abstract socket connected to. Rules that
//! the kernel's version of Landlock does not support are left out (landlock(7)); `syscalls` covers
//! most of them a second time.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::{error::Error, limits::Limits};

/// The newest tested version: Linux 6.15.
const TRIED: ABI = ABI::V7;

/// Folders of plugins and their libraries, and the files that these read when they are loaded or
/// start threads.
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
/// Files that describe the processors, and devices without state.
const DEVICES: [&str; 5] = [
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
    "/dev/null",
    "/dev/zero",
];
/// Files by which graphics drivers find their devices.
const GPU_FINDS: [&str; 7] = [
    "/dev",
    "/sys/bus/pci",
    "/sys/class/drm",
    "/sys/dev/char",
    "/sys/devices",
    "/proc/driver/nvidia",
    "/etc/OpenCL",
];

/// The effect of Landlock on this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Landlock {
    /// All requested rules.
    Enforced {
        /// The version in force.
        abi: i32,
    },
    /// The rules that an older version supports: from 1 files, from 4 TCP ports too, from 6 signals
    /// and abstract sockets too.
    Partial {
        /// The version in force.
        abi: i32,
    },
    /// None: the kernel does not support it, or it was not enabled at boot.
    NotSupported,
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { abi } => {
                write!(f, "files, ports and signals limited (Landlock {abi})")
            }
            Self::Partial { abi } => {
                write!(f, "files limited (Landlock {abi}; 6 or newer limits ports and signals too)")
            }
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
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.unwrap_or(effective_abi as i32)
        }
        _ => return Ok(Landlock::NotSupported),
    };
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Enforced { abi },
        RulesetStatus::PartiallyEnforced => Landlock::Partial { abi },
        RulesetStatus::NotEnforced => Landlock::NotSupported,
    })
}

/// GStreamer's list of plugins, at its configured path. It is read when GStreamer is initialised,
/// and rarely again.
fn registry() -> impl Iterator<Item = std::ffi::OsString> {
    ["GST_REGISTRY", "GST_REGISTRY_1_0"].into_iter().filter_map(std::env::var_os)
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

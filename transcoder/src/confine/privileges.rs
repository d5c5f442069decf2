//! The privileges of a confined process: no capability, no way to gain one, and, if the daemon runs
//! as root, a separate user. capabilities(7), credentials(7), setrlimit(2).
//!
//! Root without capabilities still owns root's files, may signal root's processes, and is exempt
//! from `RLIMIT_NPROC`. So a process of root changes to a user of a range that no account has, and
//! the limit of threads then applies to this process only. systemd assigns users of the same range
//! to services with `DynamicUser=`, and a container without a user namespace shares users with its
//! host and with other containers, so that two processes may get the same user: both are then
//! without capabilities, and their threads are counted together. The limit of an ordinary user
//! counts all processes of that user.

use std::{
    collections::hash_map::DefaultHasher,
    fmt, fs,
    hash::{Hash, Hasher},
    os::unix::fs::MetadataExt,
    process,
};

use rustix::{
    io::{self, Errno},
    process::{Gid, Resource, Uid, geteuid},
    thread::{
        CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
        remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
        set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{
    error::{Error, kernel},
    limits::{Limits, limit},
};

/// The first user of systemd's `DynamicUser=`, whose users are assigned to no account.
const FIRST_USER: u32 = 61_184;
/// The last user of `DynamicUser=`.
const LAST_USER: u32 = 65_519;
/// Limit of threads of all processes of the daemon's user, if a worker has no separate user. The
/// service allows twice as many (`TasksMax=`), so workers that start threads without end leave some
/// to the daemon. Not configurable: if the user also runs more threads elsewhere, workers fail to
/// start threads (EAGAIN).
const THREADS_OF_USER: u64 = 8_192;

/// The limit of the process' threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// A number for this process.
    Own(u64),
    /// A number for all processes of its user together.
    OfUser(u64),
    /// The kernel exempts root; only a limit of the service or container applies (`TasksMax=`,
    /// `--pids-limit`).
    NotLimited,
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(count) => write!(f, "{count} threads"),
            Self::OfUser(count) => write!(f, "{count} threads of all processes of the user"),
            Self::NotLimited => f.write_str("threads not limited: it stays root"),
        }
    }
}

/// Changes to another user if the process is root and may do so, and gives up root's privileges,
/// except for the capabilities in force.
///
/// Must be the first step: the kernel then resets the signal at the parent's death, and the
/// permission to trace the process.
pub(super) fn leave_root(limits: &Limits) -> Result<Threads, Error> {
    set_no_new_privs(true).map_err(kernel("no new privileges"))?;
    let may = capabilities(None).map_err(kernel("capabilities"))?.effective;
    if may.contains(CapabilitySet::SETPCAP) {
        let no_root = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(no_root).map_err(kernel("capabilities of root"))?;
        for number in 0..u64::BITS {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))
            {
                Ok(()) => {}
                // The first number above the kernel's last capability.
                Err(Errno::INVAL) => break,
                Err(err) => return Err(kernel("bounding set of capabilities")(err)),
            }
        }
    }
    if !geteuid().is_root() {
        limit(Resource::Nproc, THREADS_OF_USER, "limit of threads")?;
        return Ok(Threads::OfUser(THREADS_OF_USER));
    }
    // Devices belong to root, and to groups that a driver may need. And the daemon, which has the
    // same capabilities, must be able to end a process of another user.
    let own_user = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    if limits.gpu || !may.contains(own_user) {
        limit(Resource::Nproc, THREADS_OF_USER, "limit of threads")?;
        return Ok(Threads::NotLimited);
    }
    match drop_to_unprivileged_user() {
        Ok(()) => {
            limit(Resource::Nproc, limits.threads, "limit of threads")?;
            Ok(Threads::Own(limits.threads))
        }
        // A user namespace, for example a container's, may not have this user.
        Err(Errno::INVAL | Errno::PERM) => {
            limit(Resource::Nproc, THREADS_OF_USER, "limit of threads")?;
            Ok(Threads::NotLimited)
        }
        Err(err) => Err(kernel("a user of its own")(err)),
    }
}

/// The user of a process. Two processes of one PID namespace have the same user only if their
/// numbers are 4336 apart. Processes of different namespaces, for example containers, may have the
/// same number, so the namespace selects the start of the range.
fn user_of(pid: u32, namespace: u64) -> u32 {
    let mut hasher = DefaultHasher::new();
    namespace.hash(&mut hasher);
    let (count, [high, low]) = (LAST_USER - FIRST_USER + 1, halves(hasher.finish()));
    FIRST_USER + ((high ^ low) % count + pid % count) % count
}

fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes)
}

/// Changes to the user and group of this process.
fn drop_to_unprivileged_user() -> io::Result<()> {
    // Without /proc all namespaces have the same start.
    let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino());
    let number = user_of(process::id(), namespace);
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    // The process has one thread, so the thread's user is the process' user.
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

/// Gives up all capabilities in force, permanently.
pub(super) fn drop_capabilities() -> Result<(), Error> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // A service without capabilities may not be allowed to make this call.
    if capabilities(None).map_err(kernel("capabilities"))? == none {
        return Ok(());
    }
    // The ambient set is a subset of the inheritable set, and is cleared with it.
    set_capabilities(None, none).map_err(kernel("no capabilities"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn workers_of_a_namespace_have_different_users_and_namespaces_have_different_first_users() {
        let range = FIRST_USER..=LAST_USER;
        let of_one: HashSet<_> = (1_000..1_500).map(|pid| user_of(pid, 4_026_531_836)).collect();
        assert!(of_one.len() == 500 && of_one.iter().all(|user| range.contains(user)));
        // Namespaces have consecutive numbers, and in a container the first worker is often process
        // 7.
        let of_many: HashSet<_> = (0..50).map(|n| user_of(7, 4_026_532_200 + n)).collect();
        assert!(of_many.len() > 45, "{}", of_many.len());
        assert!(range.contains(&user_of(u32::MAX, u64::MAX)));
    }
}

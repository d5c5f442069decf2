//! The system calls of a confined process, limited by seccomp: four filters, of whose results the
//! strictest applies.
//!
//! 1. Calls that a codec never makes, and an intruder makes first, end the process with SIGSYS.
//! 2. Opening a file other than for reading is refused (EACCES), because ORC tries it and continues
//!    without.
//! 3. Setting priorities and processors appears to succeed without effect: GLib copies priorities
//!    from thread to thread, and would undo our niceness; and both could be set for another
//!    process.
//! 4. Of the rest, only the calls that GStreamer, GLib, libav, x264, openh264 and the C library's
//!    allocator and threads were observed to make, and those that Rust's threads, files and sockets
//!    need, are permitted; all others do not exist (ENOSYS). So the C library starts threads with
//!    `clone`, whose arguments a filter can read, instead of `clone3`.

use std::{collections::BTreeMap, fmt, io, path::Path, process};

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::error::Error;

/// The effect of seccomp on this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seccomp {
    /// All filters are in place.
    Enforced,
    /// The kernel was built without it.
    NotSupported,
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "system calls limited (seccomp)",
            Self::NotSupported => "system calls not limited: this kernel has no seccomp",
        })
    }
}

/// Exists on kernels with filters, since Linux 4.14.
const PRESENT: &str = "/proc/sys/kernel/seccomp/actions_avail";

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

pub(super) fn restrict(gpu: bool) -> Result<Seccomp, Error> {
    for filter in filters(gpu).map_err(seccompiler::Error::Backend)? {
        match seccompiler::apply_filter_all_threads(&filter) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(err) | seccompiler::Error::Prctl(err))
                if is_absence(&err) =>
            {
                return Ok(Seccomp::NotSupported);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(Seccomp::Enforced)
}

fn is_absence(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) && !Path::new(PRESENT).exists()
}

/// In the order of installation: the last one forbids further filters.
fn filters(gpu: bool) -> Result<[BpfProgram; 4], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let program = |rules: Rules,
                   otherwise: SeccompAction,
                   matching: SeccompAction|
     -> Result<BpfProgram, BackendError> {
        SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()
    };
    let errno = |errno: c_int| SeccompAction::Errno(errno.cast_unsigned());
    Ok([
        program(never(gpu)?, SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(for_writing(gpu)?, SeccompAction::Allow, errno(libc::EACCES))?,
        program(all(&PRETENDED), SeccompAction::Allow, errno(0))?,
        program(allowed(gpu)?, errno(libc::ENOSYS), SeccompAction::Allow)?,
    ])
}

/// Calls that no confined process makes, whoever wrote it.
const NEVER: &[c_long] = &[
    // Access to other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // Identity.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Kernel interfaces with a history of vulnerabilities.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Calls that no codec makes; a graphics driver may, and continues without.
const NEVER_WITHOUT_GPU: &[c_long] = &[
    // Mesa compares descriptors with it, but they may belong to another process.
    libc::SYS_kcmp,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // These contain an address, which a filter cannot read, of a socket of any process; and
    // descriptors.
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Calls that change nothing and return success.
const PRETENDED: [c_long; 4] = [
    // It applies to any process of the user; drivers use it for their own threads.
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
];

/// Calls that are allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // Files; filter 2 and `files` restrict opening.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Waiting; the socket to the daemon.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Information about the process and the system.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Memory shared with a device, and its placement.
const ALLOWED_WITH_GPU: [c_long; 7] = [
    libc::SYS_mmap,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_sched_setaffinity,
];

/// The flags with which glibc starts a thread, and no others: no other process, no namespace.
const THREAD: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// The part of a socket's type without its flags.
const SOCKET_TYPE: c_int = 0xf;

/// Requests that only query a terminal, or concern the descriptor itself: those that the C library
/// and Rust use.
const IOCTLS: [u64; 5] = [
    0x5401, /* TCGETS */
    0x541b, /* FIONREAD */
    0x5421, /* FIONBIO */
    0x5450, /* FIONCLEX */
    0x5451, /* FIOCLEX */
];
/// Requests that type into the daemon's terminal.
const IOCTLS_NEVER: [u64; 2] = [0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */];
/// Commands of `fcntl` that are allowed.
const FCNTLS: [c_int; 6] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];
/// Names of threads and, if malloc is configured so, of memory.
const PRCTLS: [c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

fn never(gpu: bool) -> Result<Rules, BackendError> {
    let mut rules = all(NEVER);
    if !gpu {
        rules.extend(all(NEVER_WITHOUT_GPU));
        rules.insert(libc::SYS_clone, vec![where_all(&[masked(0, libc::CLONE_THREAD, 0)?])?]);
    }
    Ok(rules)
}

fn for_writing(gpu: bool) -> Result<Rules, BackendError> {
    let rules = |flags: u8| -> Result<Vec<SeccompRule>, BackendError> {
        let mut ways = vec![
            masked(flags, libc::O_CREAT, libc::O_CREAT)?,
            masked(flags, libc::O_TRUNC, libc::O_TRUNC)?,
        ];
        if !gpu {
            ways.push(masked(flags, libc::O_WRONLY, libc::O_WRONLY)?);
            ways.push(masked(flags, libc::O_RDWR, libc::O_RDWR)?);
        }
        ways.into_iter().map(|way| where_all(&[way])).collect()
    };
    Ok([
        (libc::SYS_openat, rules(2)?),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, rules(1)?),
    ]
    .into())
}

fn allowed(gpu: bool) -> Result<Rules, BackendError> {
    let one_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, BackendError> {
        values.iter().map(|&value| where_all(&[equal(argument, value)?])).collect()
    };
    let one_of_ints = |argument: u8, values: &[c_int]| -> Result<Vec<SeccompRule>, BackendError> {
        values.iter().map(|&value| where_all(&[equal(argument, as_u64(value))?])).collect()
    };
    let mut rules = all(ALLOWED);
    rules.extend([
        (
            libc::SYS_clone,
            vec![where_all(&[SeccompCondition::new(0, Qword, SeccompCmpOp::Eq, as_u64(THREAD))?])?],
        ),
        (libc::SYS_fcntl, one_of_ints(1, &FCNTLS)?),
        (libc::SYS_prctl, one_of_ints(0, &PRCTLS)?),
        // GStreamer wakes its own threads with these. Datagrams could be addressed to any socket.
        (
            libc::SYS_socketpair,
            vec![where_all(&[
                equal(0, as_u64(libc::AF_UNIX))?,
                masked(1, SOCKET_TYPE, libc::SOCK_STREAM)?,
            ])?],
        ),
        // Only to the address to which the socket is connected.
        (
            libc::SYS_sendto,
            vec![where_all(&[SeccompCondition::new(4, Qword, SeccompCmpOp::Eq, 0)?])?],
        ),
        // For abort.
        (libc::SYS_tgkill, one_of(0, &[u64::from(process::id())])?),
        // Only to query, not to set.
        (
            libc::SYS_prlimit64,
            vec![where_all(&[
                equal(0, 0)?,
                SeccompCondition::new(2, Qword, SeccompCmpOp::Eq, 0)?,
            ])?],
        ),
    ]);
    if gpu {
        rules.extend(all(&ALLOWED_WITH_GPU));
        let others =
            IOCTLS_NEVER.map(|request| SeccompCondition::new(1, Dword, SeccompCmpOp::Ne, request));
        let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_ioctl, vec![where_all(&others)?]);
    } else {
        rules.insert(libc::SYS_ioctl, one_of(1, &IOCTLS)?);
        // Shared memory, and memory that grows as a stack does, are not counted (`RLIMIT_DATA`), so
        // only files may be shared.
        let kind = libc::MAP_SHARED | libc::MAP_PRIVATE | libc::MAP_GROWSDOWN;
        rules.insert(
            libc::SYS_mmap,
            vec![
                where_all(&[masked(3, kind, libc::MAP_PRIVATE)?])?,
                where_all(&[masked(3, libc::MAP_ANONYMOUS, 0)?])?,
            ],
        );
    }
    Ok(rules)
}

fn all(calls: &[c_long]) -> Rules {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

fn where_all(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

/// For arguments that the kernel interprets as 32 bits.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: c_int, value: c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(as_u64(mask)), as_u64(value))
}

fn as_u64(bits: c_int) -> u64 {
    u64::from(bits.cast_unsigned())
}

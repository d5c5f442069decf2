//! A process confined as a worker is, and its remaining abilities. Each case starts this program
//! again, since confinement cannot be undone, with `child` and the case's name as arguments: so the
//! test has its own `main`, in which no thread runs.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod confined;

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    panic,
    process::{self, Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, getpriority_process, kill_process};

/// Time limit of a case on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Signal numbers, which are the same on all supported systems.
const SIGABRT: i32 = 6;
const SIGSYS: i32 = 31;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    if let [child, case] = args.as_slice()
        && child == "child"
    {
        confined::in_child(case);
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 17] = [
        ("opening_a_socket_ends_a_confined_worker", opening_a_socket_ends_a_confined_worker),
        ("other_sockets_are_not_reachable", other_sockets_are_not_reachable),
        ("a_pidfd_or_privilege_call_ends_a_worker", a_pidfd_or_privilege_call_ends_a_worker),
        ("threads_are_limited", threads_are_limited),
        ("a_confined_worker_has_no_privileges", a_confined_worker_has_no_privileges),
        ("starting_a_process_ends_a_confined_worker", starting_a_process_ends_a_confined_worker),
        ("a_signal_to_another_process_ends_a_worker", a_signal_to_another_process_ends_a_worker),
        ("a_worker_cannot_change_a_priority", a_worker_cannot_change_a_priority),
        ("only_libraries_are_readable", only_libraries_are_readable),
        ("files_are_not_writable", files_are_not_writable),
        ("memory_is_limited", memory_is_limited),
        ("the_system_calls_of_a_worker_are_permitted", the_system_calls_of_a_worker_are_permitted),
        ("codecs_loaded_after_the_confinement_work", codecs_loaded_after_the_confinement_work),
        ("with_a_gpu_forbidden_calls_only_fail", with_a_gpu_forbidden_calls_only_fail),
        ("a_confined_worker_dies_with_its_parent", a_confined_worker_dies_with_its_parent),
        ("orphans_and_threads_are_not_confined", orphans_and_threads_are_not_confined),
        ("a_trial_describes_the_confinement", a_trial_describes_the_confinement),
    ];
    // Arguments as in the usual harness: options are ignored, the rest are parts of names.
    let parts: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in tests {
        if args.iter().any(|arg| arg == "--list") {
            println!("{name}: test");
        } else if parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str())) {
            let ended = panic::catch_unwind(test);
            println!("test {name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
            failed += u32::from(ended.is_err());
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a case ended.
#[derive(Debug)]
struct Ended {
    signal: Option<i32>,
    code: Option<i32>,
    said: String,
    complained: String,
}

fn start(case: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child", case])
        .env("PARENT", process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(case: &str) -> Ended {
    let child = start(case);
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel::<()>();
    let guard = thread::spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    guard.join().unwrap();
    Ended {
        signal: output.status.signal(),
        code: output.status.code(),
        said: String::from_utf8(output.stdout).unwrap(),
        complained: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The child's output, if it ended successfully.
#[track_caller]
fn output_of(case: &str) -> String {
    let ended = run(case);
    assert_eq!(ended.code, Some(0), "{case}: {ended:?}");
    ended.said
}

#[track_caller]
fn dies(case: &str, signal: i32) {
    let ended = run(case);
    assert_eq!(ended.signal, Some(signal), "{case}: {ended:?}");
    assert_eq!(ended.said, "confined\n", "{case} went on: {ended:?}");
}

fn opening_a_socket_ends_a_confined_worker() {
    for case in ["tcp", "udp", "unix", "udp in a thread"] {
        dies(case, SIGSYS);
    }
}

fn other_sockets_are_not_reachable() {
    let path = env::temp_dir().join(format!("streamforge-confined-socket-{}", process::id()));
    let listening = UnixDatagram::bind(&path).unwrap();
    listening.set_nonblocking(true).unwrap();
    let run = |case: &str, addressed: bool| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["child", case]).env("FILE", &path).env("PARENT", process::id().to_string());
        if addressed {
            command.env("ADDRESSED", "");
        }
        let output = command.output().unwrap();
        (output.status.signal(), String::from_utf8(output.stdout).unwrap())
    };
    for (case, addressed) in
        [("path", false), ("abstract", false), ("message", true), ("message", false)]
    {
        assert_eq!(run(case, addressed), (Some(SIGSYS), "confined\n".into()), "{case}");
    }
    let (signal, said) = run("reach", false);
    fs::remove_file(&path).unwrap();
    assert_eq!(
        (signal, &said[..]),
        (
            None,
            "confined\ndatagrams: Unsupported\naddress: Unsupported\ncredentials: \
             Unsupported\nbuffers: Unsupported\nlock: Unsupported\nmemory file: \
             Unsupported\nchildren: Unsupported\nprocessors: Unsupported\n"
        )
    );
    let heard = listening.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::WouldBlock);
}

fn a_pidfd_or_privilege_call_ends_a_worker() {
    for case in ["pidfd", "user", "capabilities", "namespace", "root folder"] {
        dies(case, SIGSYS);
    }
}

fn threads_are_limited() {
    // Root gives its worker a separate user, in a container too.
    let expected = if geteuid().is_root() { "own" } else { "user's" };
    assert_eq!(output_of("bomb"), format!("confined\nWouldBlock {expected} true\n"));
}

fn a_confined_worker_has_no_privileges() {
    let said = output_of("status");
    let has = |line: &str| said.lines().any(|found| found == line);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(has(&format!("{set}:\t0000000000000000")), "{said}");
    }
    assert!(has("NoNewPrivs:\t1"), "{said}");
    // Root has more privileges, and gives them up.
    if geteuid().is_root() {
        assert!(has("CapBnd:\t0000000000000000") && has("own user: true"), "{said}");
        assert!(!said.contains("Uid:\t0\t"), "{said}");
    }
}

fn starting_a_process_ends_a_confined_worker() {
    dies("spawn", SIGSYS);
    dies("exec", SIGSYS);
}

fn a_signal_to_another_process_ends_a_worker() {
    dies("kill", SIGSYS);
}

fn a_worker_cannot_change_a_priority() {
    // The call reports success without effect.
    let before = getpriority_process(None).unwrap();
    assert_eq!(output_of("renice"), "confined\nrenice: done\n");
    assert_eq!(getpriority_process(None).unwrap(), before);
}

fn only_libraries_are_readable() {
    let said = output_of("read");
    if said.contains("without") {
        println!("this kernel has no Landlock: {said}");
        return;
    }
    assert_eq!(
        said,
        "confined\nwith\npassword: PermissionDenied\nprogram: PermissionDenied\nparent: \
         PermissionDenied\nroot: PermissionDenied\nprocessors: done\nlibraries: done\n"
    );
}

fn files_are_not_writable() {
    let file = env::temp_dir().join(format!("streamforge-confined-{}", process::id()));
    fs::write(&file, b"kept").unwrap();
    // No other code reads or changes the environment of this process; the child's is set
    // explicitly.
    let output = Command::new(env::current_exe().unwrap())
        .args(["child", "write"])
        .env("FILE", &file)
        .output()
        .unwrap();
    let kept = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(kept, b"kept");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "confined\ncreate: PermissionDenied\nappend: PermissionDenied\noverwrite: \
         PermissionDenied\nremove: Unsupported\nrename: Unsupported\nfolder: Unsupported\n"
    );
}

fn memory_is_limited() {
    assert_eq!(output_of("reserve"), "confined\nhalf: true\nall: false\n");
    dies("allocate", SIGABRT);
}

fn the_system_calls_of_a_worker_are_permitted() {
    const WORKS: &str = "confined\nping 10 10 true Some(0)\n";
    assert_eq!(output_of("needs"), WORKS);
    // A write to a log file does not end it either.
    let log = env::temp_dir().join(format!("streamforge-confined-log-{}", process::id()));
    let status = Command::new(env::current_exe().unwrap())
        .args(["child", "needs"])
        .stdout(File::create(&log).unwrap())
        .status();
    let said = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    assert!(status.unwrap().success());
    assert_eq!(said, WORKS);
}

fn codecs_loaded_after_the_confinement_work() {
    for case in ["video", "openh264", "audio"] {
        let ended = run(case);
        assert_eq!(ended.said, "confined\nfalse true Some(Eos) 10\n", "{case}: {ended:?}");
        assert_eq!(ended.code, Some(0), "{case}: {ended:?}");
        // openh264enc writes warnings by itself.
        let complains = case != "openh264" && !ended.complained.is_empty();
        assert!(!complains, "{case}: {ended:?}");
    }
}

fn with_a_gpu_forbidden_calls_only_fail() {
    let said = output_of("gpu");
    assert_eq!(
        said,
        "true\nudp: Unsupported\nspawn: Unsupported\ncreate: PermissionDenied\nthread: done\n"
    );
}

fn a_confined_worker_dies_with_its_parent() {
    let mut parent = start("parent");
    // The grandchild holds the pipe too: it closes when both have ended.
    let mut said = BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "confined\n");
    parent.kill().unwrap();
    parent.wait().unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let mut rest = String::new();
        let _ = ended.send(said.read_to_string(&mut rest).map(|_| rest));
    });
    assert_eq!(end.recv_timeout(LIMIT / 4).unwrap().unwrap(), "");
}

fn orphans_and_threads_are_not_confined() {
    assert_eq!(output_of("orphan"), "true\n");
    assert_eq!(output_of("threads"), "true\n");
}

fn a_trial_describes_the_confinement() {
    let said = output_of("trial");
    assert!(said.starts_with("system calls limited (seccomp); files"), "{said}");
    assert!(said.ends_with(", 512 MiB of memory, nice 10\n"), "{said}");
    assert!(said.contains(" threads"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

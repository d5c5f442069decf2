//! The process that is confined: it runs one case, and prints the results.

use std::{
    env,
    fs::{self, File},
    io::{self, IoSlice, Read, Write},
    net::{TcpListener, UdpSocket},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::chroot,
            net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream},
            process::CommandExt,
        },
    },
    panic,
    process::{self, Command},
    sync::mpsc,
    thread,
};

use gstreamer::{self as gst, prelude::*};
use rustix::{
    fs::{FlockOperation, MemfdFlags, fcntl_lock, memfd_create},
    net::{
        SendAncillaryBuffer, SendFlags, SocketAddrUnix, sendmsg, sendmsg_addr, sendto,
        sockopt::{set_socket_passcred, set_socket_send_buffer_size},
    },
    process::{
        Pid, PidfdFlags, Resource, Signal, geteuid, getpriority_process, getrlimit, kill_process,
        pidfd_open, set_child_subreaper, setpriority_process,
    },
    thread::{
        CpuSet, capabilities, move_into_link_name_space, sched_setaffinity, set_capabilities,
        set_thread_uid,
    },
};
use transcoder::confine::{self, Confinement, Error, Landlock, Limits, Threads};

use crate::LIMIT;

/// Memory limit of a worker under test, in bytes.
const MEMORY_BYTES: u64 = 512 << 20;

fn limits() -> Limits {
    Limits {
        memory_bytes: MEMORY_BYTES,
        parent: env::var("PARENT").ok().map(|pid| pid.parse().unwrap()),
        ..Limits::default()
    }
}

fn confined() -> Confinement {
    let confinement = confine::confine(&limits()).unwrap();
    println!("confined");
    confinement
}

fn print_result<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => println!("{what}: done"),
        Err(err) => println!("{what}: {:?}", err.kind()),
    }
}

/// Runs a case; each function below knows those of one subject, and returns whether it is one of
/// them.
pub(crate) fn in_child(case: &str) {
    let subjects = [sockets, identities, processes, files, memory, uses, beginnings];
    assert!(subjects.iter().any(|runs| runs(case)), "no case {case}");
}

/// Opens a socket, or reaches one of another process.
fn sockets(case: &str) -> bool {
    match case {
        "tcp" => {
            confined();
            print_result(case, TcpListener::bind(("127.0.0.1", 0)));
        }
        "udp" => {
            confined();
            print_result(case, UdpSocket::bind(("127.0.0.1", 0)));
        }
        "udp in a thread" => {
            confined();
            thread::spawn(|| print_result("udp", UdpSocket::bind(("127.0.0.1", 0))))
                .join()
                .unwrap();
        }
        "unix" => {
            confined();
            print_result(case, UnixDatagram::unbound());
        }
        "path" => {
            let path = env::var_os("FILE").unwrap();
            confined();
            print_result(case, UnixStream::connect(path));
        }
        "abstract" => {
            let name = UnixAddr::from_abstract_name(b"streamforge-confined").unwrap();
            confined();
            print_result(case, UnixStream::connect_addr(&name));
        }
        "message" => message(),
        "reach" => reach(),
        _ => return false,
    }
    true
}

/// Changes the user, the privileges or the namespace, or prints those that are left.
fn identities(case: &str) -> bool {
    match case {
        "pidfd" => {
            let parent = env::var("PARENT").unwrap().parse().unwrap();
            confined();
            print_result(
                case,
                pidfd_open(Pid::from_raw(parent).unwrap(), PidfdFlags::empty())
                    .map_err(io::Error::from),
            );
        }
        "user" => {
            let user = geteuid();
            confined();
            print_result(case, set_thread_uid(user).map_err(io::Error::from));
        }
        "capabilities" => {
            let had = capabilities(None).unwrap();
            confined();
            print_result(case, set_capabilities(None, had).map_err(io::Error::from));
        }
        "namespace" => {
            let own = File::open("/proc/self/ns/net").unwrap();
            confined();
            print_result(
                case,
                move_into_link_name_space(own.as_fd(), None).map_err(io::Error::from),
            );
        }
        "root folder" => {
            confined();
            print_result(case, chroot("/"));
        }
        "status" => {
            let threads = confined().threads;
            println!("own user: {}", matches!(threads, Threads::Own(_)));
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let shown = |line: &&str| {
                line.starts_with("Cap") || line.starts_with("Uid") || line.starts_with("NoNewPrivs")
            };
            status.lines().filter(shown).for_each(|line| println!("{line}"));
        }
        _ => return false,
    }
    true
}

/// Starts threads or processes, or affects another process.
fn processes(case: &str) -> bool {
    match case {
        "bomb" => bomb(),
        "spawn" => {
            confined();
            print_result(case, Command::new("/bin/true").spawn());
        }
        "exec" => {
            confined();
            print_result::<()>(case, Err(Command::new("/bin/true").exec()));
        }
        "kill" => {
            confined();
            print_result(
                case,
                kill_process(Pid::from_raw(1).unwrap(), Signal::WINCH).map_err(io::Error::from),
            );
        }
        "renice" => {
            let parent = env::var("PARENT").unwrap().parse().unwrap();
            confined();
            print_result(
                case,
                setpriority_process(Pid::from_raw(parent), 19).map_err(io::Error::from),
            );
        }
        _ => return false,
    }
    true
}

/// Reads and changes files.
fn files(case: &str) -> bool {
    match case {
        "read" => {
            let own = env::current_exe().unwrap();
            let landlock = confined().landlock;
            println!("{}", if landlock == Landlock::NotSupported { "without" } else { "with" });
            print_result("password", fs::read("/etc/passwd"));
            print_result("program", File::open(own));
            print_result(
                "parent",
                fs::read(format!("/proc/{}/environ", env::var("PARENT").unwrap())),
            );
            print_result("root", fs::read_dir("/"));
            print_result("processors", fs::read("/sys/devices/system/cpu/online"));
            print_result("libraries", fs::read_dir("/usr/lib"));
        }
        "write" => {
            let file = env::var_os("FILE").unwrap();
            confined();
            print_result("create", File::create(format!("{}.new", file.display())));
            print_result("append", File::options().append(true).open(&file));
            print_result("overwrite", File::options().write(true).open(&file));
            print_result("remove", fs::remove_file(&file));
            print_result("rename", fs::rename(&file, format!("{}.new", file.display())));
            print_result("folder", fs::create_dir(format!("{}.folder", file.display())));
        }
        _ => return false,
    }
    true
}

/// Takes more memory than the limit.
fn memory(case: &str) -> bool {
    match case {
        "reserve" => {
            confined();
            let bytes = usize::try_from(MEMORY_BYTES).unwrap();
            println!("half: {}", Vec::<u8>::new().try_reserve_exact(bytes / 2).is_ok());
            println!("all: {}", Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
        }
        "allocate" => {
            confined();
            let mut kept = Vec::new();
            for _ in 0..MEMORY_BYTES >> 20 {
                kept.push(vec![1_u8; 1 << 20]);
            }
            println!("{} MiB", kept.len());
        }
        _ => return false,
    }
    true
}

/// Does what a worker needs.
fn uses(case: &str) -> bool {
    match case {
        "needs" => needs(),
        "gpu" => {
            let limits = Limits { gpu: true, ..limits() };
            println!("{}", confine::confine(&limits).is_ok());
            print_result("udp", UdpSocket::bind(("127.0.0.1", 0)));
            print_result("spawn", Command::new("/bin/true").spawn());
            print_result("create", File::create("/tmp/streamforge-confined"));
            print_result("thread", thread::Builder::new().spawn(|| {}));
        }
        "video" => pipeline(
            "libgstx264",
            "videotestsrc is-live=true num-buffers=20
             ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 ! queue
             ! x264enc threads=2 key-int-max=10
             ! avdec_h264 max-threads=2 thread-type=frame ! deinterlace mode=interlaced
             ! videoconvert n-threads=2 ! videoscale ! video/x-raw,width=160,height=90 ! queue
             ! jpegenc ! fakesink sync=true",
        ),
        "openh264" => pipeline(
            "libgstopenh264",
            "videotestsrc num-buffers=20
             ! video/x-raw,format=I420,width=320,height=180,framerate=30/1
             ! openh264enc bitrate=200000 multi-thread=2 ! h264parse
             ! avdec_h264 thread-type=slice max-threads=2 ! fakesink",
        ),
        "audio" => pipeline(
            "libgstvoaacenc",
            "audiotestsrc num-buffers=60 ! audioconvert ! audioresample
             ! audio/x-raw,rate=48000,channels=2 ! avenc_aac
             ! avdec_aac ! audioconvert ! queue ! voaacenc ! fakesink",
        ),
        _ => return false,
    }
    true
}

/// Is confined under other circumstances, or outlives its parent.
fn beginnings(case: &str) -> bool {
    match case {
        "parent" => {
            let mut sleeper = Command::new(env::current_exe().unwrap())
                .args(["child", "sleep"])
                .env("PARENT", process::id().to_string())
                .spawn()
                .unwrap();
            sleeper.wait().unwrap();
        }
        "sleep" => {
            confined();
            thread::sleep(2 * LIMIT);
        }
        "orphan" => {
            let limits = Limits { parent: Some(process::id()), ..limits() };
            println!("{}", matches!(confine::confine(&limits), Err(Error::Orphaned(_))));
        }
        "threads" => {
            let (_held, holds) = mpsc::channel::<()>();
            thread::spawn(move || holds.recv());
            println!("{}", matches!(confine::confine(&limits()), Err(Error::Threads(2))));
        }
        "trial" => match confine::trial(&limits()) {
            Ok(confinement) => println!("{confinement}"),
            Err(err) => println!("failed: {err}"),
        },
        _ => return false,
    }
    true
}

/// A datagram to a path, as journald and other daemons receive them.
fn message() {
    let path = SocketAddrUnix::new(env::var_os("FILE").unwrap().as_os_str()).unwrap();
    confined();
    let words = [IoSlice::new(b"hello")];
    // Neither on its own socket pair, nor on the daemon's socket, with or without an address.
    let (one, _other) = UnixStream::pair().unwrap();
    let mut nothing = SendAncillaryBuffer::default();
    if env::var_os("ADDRESSED").is_some() {
        print_result(
            "message",
            sendmsg_addr(&one, &path, &words, &mut nothing, SendFlags::empty())
                .map_err(io::Error::from),
        );
    } else {
        print_result(
            "message",
            sendmsg(&one, &words, &mut nothing, SendFlags::empty()).map_err(io::Error::from),
        );
    }
}

/// Calls that would reach beyond the process, and are refused.
fn reach() {
    let path = SocketAddrUnix::new(env::var_os("FILE").unwrap().as_os_str()).unwrap();
    let parent = Pid::from_raw(env::var("PARENT").unwrap().parse().unwrap());
    confined();
    print_result("datagrams", UnixDatagram::pair());
    let (one, _other) = UnixStream::pair().unwrap();
    print_result(
        "address",
        sendto(&one, b"hello", SendFlags::empty(), &path).map_err(io::Error::from),
    );
    print_result("credentials", set_socket_passcred(&one, true).map_err(io::Error::from));
    print_result("buffers", set_socket_send_buffer_size(&one, 1 << 24).map_err(io::Error::from));
    print_result("lock", fcntl_lock(&one, FlockOperation::LockExclusive).map_err(io::Error::from));
    print_result("memory file", memfd_create("x", MemfdFlags::empty()).map_err(io::Error::from));
    print_result("children", set_child_subreaper(parent).map_err(io::Error::from));
    print_result("processors", sched_setaffinity(parent, &CpuSet::new()).map_err(io::Error::from));
}

/// Starts threads until the limit.
fn bomb() {
    let threads = confined().threads;
    let (held, holds) = mpsc::channel::<()>();
    let holds = std::sync::Arc::new(std::sync::Mutex::new(holds));
    let mut running = Vec::new();
    let refused = loop {
        let holds = std::sync::Arc::clone(&holds);
        let wait = move || {
            let _ = holds.lock().unwrap().recv();
        };
        match thread::Builder::new().stack_size(32 << 10).spawn(wait) {
            Ok(thread) => running.push(thread),
            Err(err) => break err.kind(),
        }
    };
    let count = running.len() as u64 + 1;
    let within = match threads {
        Threads::Own(limit) => format!("own {}", count == limit),
        Threads::OfUser(limit) => format!("user's {}", count <= limit),
        other => format!("{other:?}"),
    };
    drop(held);
    println!("{refused:?} {within}");
}

fn needs() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    let niceness = confined().nice;
    one.set_nonblocking(true).unwrap();
    one.set_nonblocking(false).unwrap();
    let mut answer = [0; 4];
    let echo = thread::spawn(move || {
        let mut heard = [0; 4];
        other.read_exact(&mut heard).unwrap();
        other.write_all(&heard).unwrap();
        getpriority_process(None).unwrap()
    });
    one.try_clone().unwrap().write_all(b"ping").unwrap();
    one.read_exact(&mut answer).unwrap();
    let thread_niceness = echo.join().unwrap();
    let panicked = thread::spawn(|| panic::resume_unwind(Box::new(()))).join().is_err();
    println!(
        "{} {niceness} {thread_niceness} {panicked} {:?}",
        String::from_utf8_lossy(&answer),
        getrlimit(Resource::Core).maximum,
    );
}

/// Runs the pipeline to its end, confined before its `library` is loaded.
fn pipeline(library: &str, description: &str) {
    gst::init().unwrap();
    let loaded = || fs::read_to_string("/proc/self/maps").unwrap().contains(library);
    let before = loaded();
    confined();
    let pipeline = gst::parse::launch(description).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ended = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(LIMIT.as_secs()),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    println!(
        "{before} {} {:?} {}",
        loaded(),
        ended.map(|message| message.type_()),
        getpriority_process(None).unwrap()
    );
}

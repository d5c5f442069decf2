//! Ladders start and end with broadcasts, and leave nothing behind; workers end with the daemon.

use crate::{
    ladder::stage::{RUNGS, Stage},
    support::{
        daemon::Settings,
        media::{PLAIN, Recipe},
        proc,
        push::{self, Push},
        rtmp::{self, Tag},
        wait_for,
    },
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Resources of the daemon.
#[derive(Debug)]
struct Resources {
    children: Vec<u32>,
    /// Number of each kind.
    descriptors: BTreeMap<String, usize>,
    threads: usize,
    resident_kib: u64,
}

impl Resources {
    fn by(stage: &Stage) -> Self {
        let pid = stage.process.id();
        // The numbers of sockets differ; only their kind counts.
        let kind = |descriptor: String| descriptor.split('[').next().unwrap_or_default().to_owned();
        let mut descriptors = BTreeMap::new();
        for descriptor in proc::descriptors(pid) {
            *descriptors.entry(kind(descriptor)).or_default() += 1;
        }
        Self {
            children: proc::children(pid),
            descriptors,
            threads: proc::threads(pid),
            resident_kib: proc::resident_kib(pid),
        }
    }

    /// Waits until nothing is live any more, and lingering resources are released.
    #[track_caller]
    fn at_rest(stage: &Stage, channels: usize) -> Self {
        wait_for("end of all broadcasts", LIMIT, || {
            let gone =
                (0..channels).all(|n| stage.get(&format!("/live/short{n}/v0.m3u8")).status == 404);
            let streams = stage.streams();
            let live = streams.get("streams").and_then(Value::as_array).expect("a list");
            (gone && live.is_empty() && proc::children(stage.process.id()).is_empty()).then_some(())
        });
        // The connection of that response is closing.
        thread::sleep(Duration::from_secs(1));
        Self::by(stage)
    }
}

/// A short broadcast of 1 to 12 pictures on each of `channels` channels, `at_once` at a time. A
/// channel may not begin many in a short time (decision 0019).
fn broadcasts(stage: &Stage, tags: &[Tag], channels: usize, at_once: usize) {
    thread::scope(|scope| {
        for first in 0..at_once {
            scope.spawn(move || {
                for n in (first..channels).step_by(at_once) {
                    let pictures = 1 + n % 12;
                    let mut left = pictures;
                    let sent = tags.iter().filter(|tag| {
                        let fits = !tag.is_picture() || left > 0;
                        left -= usize::from(tag.is_picture() && fits);
                        fits && tag.timestamp < 480
                    });
                    Push::start(stage.rtmp, &format!("short{n}"), sent.cloned().collect()).finish();
                }
            });
        }
    });
}

#[test]
fn two_hundred_broadcasts_leak_no_process_descriptor_thread_or_memory() {
    const CHANNELS: usize = 200;
    let stage = Stage::busy(&Settings {
        segment_ms: 1000,
        window_s: 6,
        reconnect_s: 0,
        ladder: "rungs = [{ height = 64, video_kbps = 50 }]\ncpu_percent = 100\n\
                 shedding = false\naudio_kbps = 32\n"
            .into(),
        // With an arena for each thread, resident memory depends on which threads ran.
        env: vec![("MALLOC_ARENA_MAX".into(), "1".into())],
        ..Settings::default()
    });
    let small = Recipe { seconds: 2, size: (160, 90), ..PLAIN };
    let tags = push::first(&rtmp::tags(&small.flv()), 1);
    // Resources that are allocated once: pools, caches, arenas.
    broadcasts(&stage, &tags, CHANNELS, 8);
    let before = Resources::at_rest(&stage, CHANNELS);
    let units = stage.metric("streamforge_rendition_access_units_total");
    let started = Instant::now();
    broadcasts(&stage, &tags, CHANNELS, 8);
    let took = started.elapsed();
    Resources::at_rest(&stage, CHANNELS);
    eprintln!("200 in {took:?}; before: {before:?}");
    // Idle threads end after a while.
    let after = wait_for("no more than before", LIMIT, || {
        let after = Resources::by(&stage);
        let more = |kind: &String| after.descriptors.get(kind) > before.descriptors.get(kind);
        let rest = after.children.is_empty() && after.threads <= before.threads;
        let rest = rest && !after.descriptors.keys().any(more);
        rest.then_some(after)
    });
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    // 15 KiB for each; a hundred pictures would be more.
    assert!(grown < 3 * 1024, "{grown} KiB more than {} KiB", before.resident_kib);
    let made = stage.metric("streamforge_rendition_access_units_total") - units;
    assert!(
        made >= 200.0,
        "{made} access units of renditions: there was something to leave behind"
    );
    assert_eq!(stage.metric("streamforge_transcoders"), 0.0);
}

#[test]
fn the_workers_of_a_killed_daemon_end_even_if_they_are_stopped() {
    let mut stage = Stage::with(&Settings { ladder: RUNGS.into(), ..Settings::default() });
    let tags = push::first(&rtmp::tags(&PLAIN.flv()), 20);
    let pushes = ["one", "two"].map(|channel| Push::start(stage.rtmp, channel, tags.clone()));
    stage.wait_until_live("one");
    stage.wait_until_live("two");
    let workers = stage.workers();
    assert_eq!(workers.len(), 2);
    proc::signal(workers[0], "STOP");
    stage.process.kill();
    wait_for("end of all workers", Duration::from_secs(10), || {
        workers.iter().all(|worker| proc::command_line(*worker).is_empty()).then_some(())
    });
    drop(pushes);
}

#[test]
fn sigterm_ends_the_workers_of_the_daemon() {
    let mut stage = Stage::with(&Settings { ladder: RUNGS.into(), ..Settings::default() });
    let tags = push::first(&rtmp::tags(&PLAIN.flv()), 20);
    let push = Push::start(stage.rtmp, "one", tags);
    stage.wait_until_live("one");
    let workers = stage.workers();
    assert_eq!(workers.len(), 1);
    assert_eq!(stage.metric("streamforge_transcoders"), 1.0);
    stage.process.terminate();
    assert!(stage.process.wait(Duration::from_secs(20)).success());
    assert_eq!(proc::command_line(workers[0]), Vec::<String>::new());
    drop(push);
}

/// The niceness of a process, the 19th field of its stat. The second is its name in parentheses.
fn niceness(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(16)?.parse().ok()
}

#[test]
fn workers_have_the_configured_niceness() {
    let env = vec![("STREAMFORGE_LADDER_NICE".into(), "15".into())];
    let stage = Stage::with(&Settings { ladder: RUNGS.into(), env, ..Settings::default() });
    let tags = push::first(&rtmp::tags(&PLAIN.flv()), 20);
    let _push = Push::start(stage.rtmp, "one", tags);
    let worker = stage.worker(&[]);
    // It starts with the daemon's, and changes it once its plugins are loaded.
    wait_for("niceness", LIMIT, || (niceness(worker)? == 15).then_some(()));
}

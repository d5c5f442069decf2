//! The life of a worker: its end, its stats and its niceness.

use super::*;

pub(crate) fn a_worker_that_receives_undecodable_units_ends_with_a_warning() {
    let source = PLAIN.source(0);
    let orders = (0..10_000).map(|number: i64| Order::Unit {
        media: Media::Video,
        key: number % 30 == 0,
        dts: MediaTime::from_ticks(number * 3_000),
        pts: MediaTime::from_ticks(number * 3_000),
        mark: None,
        payload: (0..200)
            .map(|byte| ((byte * 31 + number * 17) % 251) as u8)
            .collect::<Vec<_>>()
            .into(),
    });
    let worker = Worker::start();
    worker.send(
        [Order::Job(Box::new(job(&PLAIN, &source, &[rendition(160, 90)])))]
            .into_iter()
            .chain(orders)
            .collect(),
    );
    let said = worker.finish();
    assert!(!said.status.success());
    assert!(said.stderr.contains("the decoder made no picture of"), "{}", said.stderr);
    assert!(
        said.warnings().iter().any(|text| text.contains("the decoder made no picture of")),
        "{:?}",
        said.warnings()
    );
    assert_eq!(said.units(0), []);
}

pub(crate) fn malformed_orders_end_a_worker_with_an_error() {
    use std::io::Write;
    for (bytes, what) in [
        (&[0_u8; 16][..], "a message of 0 bytes"),
        (&[0xff; 16], "a message of 4294967295 bytes"),
        (&[0, 0, 0, 2, 99, 0], "kind 99"),
        (&[0, 0, 0, 3, 3, 0, 1], "the first order, and no other, must be a job"),
    ] {
        let worker = Worker::start();
        worker.socket().write_all(bytes).unwrap();
        let said = worker.finish();
        assert!(!said.status.success(), "{what}");
        assert!(said.stderr.contains(what), "{}", said.stderr);
    }
}

pub(crate) fn a_worker_ends_without_an_error_when_its_socket_closes() {
    let source = PLAIN.source(0);
    let mut worker = Worker::start();
    let job = job(&PLAIN, &source, &[rendition(160, 90)]);
    worker.send([Order::Job(Box::new(job))].into_iter().chain(marked(&source)).collect());
    assert!(worker.next().is_some());
    worker.socket().shutdown(std::net::Shutdown::Both).unwrap();
    let said = worker.finish();
    assert!(said.status.success(), "{}", said.stderr);
    assert!(!said.stderr.contains("socket"), "{}", said.stderr);

    // A worker without any order ends in the same way.
    let worker = Worker::start();
    worker.socket().shutdown(std::net::Shutdown::Both).unwrap();
    assert!(worker.finish().status.success());
}

pub(crate) fn a_worker_reports_its_counts_cpu_time_and_memory() {
    let source = PLAIN.source(0);
    let started = Instant::now();
    let mut worker = Worker::start_without_privileges();
    worker.send(
        [Order::Job(Box::new(job(&PLAIN, &source, &[rendition(160, 90)])))]
            .into_iter()
            .chain(marked(&source))
            .collect(),
    );
    // The worker waits for more units, and its reports continue meanwhile: at least three, and as
    // many as it takes to decode a group.
    let mut taken: Vec<Stats> = Vec::new();
    while taken.len() < 3 || taken.last().is_some_and(|stats| stats.decoded <= 30) {
        match worker.next().expect("a worker that runs") {
            Report::Stats(stats) => taken.push(stats),
            _ => continue,
        }
        // A slow machine makes the reports fewer, but never more than one a second.
        assert!(taken.len() as u64 <= started.elapsed().as_secs(), "{taken:?}");
    }
    for two in taken.windows(2) {
        assert!(two[0].decoded <= two[1].decoded && two[0].cpu_us <= two[1].cpu_us, "{taken:?}");
    }
    for stats in &taken {
        assert_eq!(stats.broken, 0, "{taken:?}");
        assert!(stats.cpu_us > 10_000 && stats.resident_bytes > 10 << 20, "{taken:?}");
    }
}

pub(crate) fn a_worker_has_the_niceness_of_its_job() {
    let source = PLAIN.source(0);
    for nice in [12, 17] {
        let job = Job { nice, ..job(&PLAIN, &source, &[rendition(160, 90)]) };
        let said = made(job, marked(&source));
        let confined = said.reports.iter().find_map(|report| match report {
            Report::Log { text, .. } => Some(text),
            _ => None,
        });
        assert!(confined.is_some_and(|text| text.ends_with(&format!(", nice {nice}"))), "{said:?}");
    }
}

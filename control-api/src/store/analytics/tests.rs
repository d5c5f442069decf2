use std::{fs, path::PathBuf};

use control_domain::id::ChannelId;

use super::*;
use crate::views::counts::Counts;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("streamforge-analytics-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn open(&self) -> Traffic {
        Traffic::open(&self.0).expect("the folder can be written")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn channel(n: u128) -> Subject {
    Subject::Channel(ChannelId::new(uuid::Uuid::from_u128(n)))
}

/// The beginning of a minute of the first day.
fn minute(number: u64) -> Time {
    Step::Minute.begin(number)
}

fn row(views: u64, watched_ms: u64) -> Row {
    let all = Counts { views, watched_ms, peak: views, ..Counts::default() };
    Row { all, renditions: vec![("v0".to_owned(), Counts { watched_ms, ..Counts::default() })] }
}

fn numbers(traffic: &Traffic, subject: Subject, step: Step) -> Vec<(u64, u64)> {
    let rows = traffic.audience(subject, step, 0, u64::MAX, 10_000).expect("a disk");
    rows.into_iter().map(|(number, row)| (number, row.all.views)).collect()
}

#[test]
fn minutes_are_added_to_minutes_and_days_and_are_there_after_a_restart() {
    let folder = Folder::new("added");
    let traffic = folder.open();
    let (one, two) = (channel(1), channel(2));
    let kept = Kept::default();
    for (at, rows) in [
        (0, vec![(one, row(1, 10)), (two, row(5, 0))]),
        (1, vec![(one, row(2, 20))]),
        (1, vec![(one, row(3, 30))]),
        (24 * 60, vec![(one, row(4, 40))]),
    ] {
        traffic.add_minute(minute(at), &rows, kept).expect("a disk");
    }
    drop(traffic);
    let traffic = folder.open();
    assert_eq!(numbers(&traffic, one, Step::Minute), [(0, 1), (1, 5), (24 * 60, 4)]);
    assert_eq!(numbers(&traffic, one, Step::Day), [(0, 6), (1, 4)]);
    assert_eq!(numbers(&traffic, two, Step::Minute), [(0, 5)]);
    let one_minute = traffic.audience(one, Step::Minute, 1, 5, 10).expect("a disk");
    let mut expected = row(2, 20);
    expected.merge(&row(3, 30));
    assert_eq!(one_minute, [(1, expected)]);
    assert_eq!(traffic.audience(one, Step::Minute, 0, 9, 1).expect("a disk").len(), 1);
}

#[test]
fn minutes_and_days_are_kept_for_their_time() {
    let folder = Folder::new("kept");
    let traffic = folder.open();
    let kept = Kept { minutes: 10, days: 2 };
    let day = 24 * 60;
    for at in [0, 5, 10, 11, day, 2 * day, 3 * day] {
        traffic.add_minute(minute(at), &[(channel(1), row(at + 1, 0))], kept).expect("a disk");
        if at == 11 {
            let left = numbers(&traffic, channel(1), Step::Minute);
            assert_eq!(left, [(5, 6), (10, 11), (11, 12)]);
        }
    }
    assert_eq!(numbers(&traffic, channel(1), Step::Minute), [(3 * day, 3 * day + 1)]);
    let days = numbers(&traffic, channel(1), Step::Day);
    assert_eq!(days.iter().map(|(day, _)| *day).collect::<Vec<_>>(), [1, 2, 3]);
    // A minute without an audience removes too.
    traffic.add_minute(minute(9 * day), &[], kept).expect("a disk");
    assert_eq!(numbers(&traffic, channel(1), Step::Day), []);
    let rows = traffic.rows().expect("a disk");
    for step in [Step::Minute, Step::Day] {
        let size = SIZES.get(&rows, &step.table().name().to_owned()).expect("a disk");
        assert_eq!(size, Some(0));
        assert_eq!(step.by_time().page(&rows, &(), None, Order::Up, 1).expect("a disk"), []);
    }
}

#[test]
fn beyond_the_limit_the_oldest_rows_are_removed_whatever_their_age() {
    let folder = Folder::new("limit");
    let traffic = folder.open();
    let name = Step::Minute.table().name().to_owned();
    for at in 0..3 {
        let rows = [(channel(1), row(1, 0))];
        traffic.add_minute(minute(at), &rows, Kept::default()).expect("a disk");
    }
    traffic.write(|rows| SIZES.put(rows, &name, &(MAX_ROWS + 1))).expect("a disk");
    traffic.add_minute(minute(3), &[(channel(1), row(1, 0))], Kept::default()).expect("a disk");
    let left = numbers(&traffic, channel(1), Step::Minute);
    assert_eq!(left, [(2, 1), (3, 1)]);
}

#[test]
fn views_wait_in_numbered_batches_until_they_are_forgotten() {
    let folder = Folder::new("batches");
    let traffic = folder.open();
    let node = traffic.node().expect("a disk");
    let many = (0..MAX_COUNTS as u128 + 1).map(|n| (channel(n), row(1, 7))).collect::<Vec<_>>();
    traffic.add_minute(minute(0), &many, Kept::default()).expect("a disk");
    // Nothing was watched.
    traffic.add_minute(minute(1), &[(channel(1), row(0, 0))], Kept::default()).expect("a disk");
    drop(traffic);
    let traffic = folder.open();
    assert_eq!(traffic.node().expect("a disk"), node);
    let batches = traffic.batches(10).expect("a disk");
    let sizes = batches.iter().map(|(number, counts)| (*number, counts.len())).collect::<Vec<_>>();
    assert_eq!(sizes, [(1, MAX_COUNTS), (2, 1)]);
    let count = Count { subject: channel(0), minute: minute(0), views: 1, watched_ms: 7 };
    assert_eq!(batches[0].1[0], count);
    traffic.forget_batches(1).expect("a disk");
    assert_eq!(traffic.batches(10).expect("a disk").len(), 1);

    // An older copy of the file: its numbers are taken.
    traffic.number_after(9).expect("a disk");
    traffic.number_after(3).expect("a disk");
    traffic.add_minute(minute(2), &[(channel(1), row(1, 0))], Kept::default()).expect("a disk");
    let numbers = traffic.batches(10).expect("a disk");
    assert_eq!(numbers.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 10]);
}

#[test]
fn another_file_is_another_node() {
    let (one, two) = (Folder::new("one"), Folder::new("two"));
    assert_ne!(one.open().node().expect("a disk"), two.open().node().expect("a disk"));
}

use std::{fs, path::PathBuf};

use control_domain::{
    Role, Time,
    features::{accounts, channels::events::Visibility},
    id::ChannelId,
};

use super::*;
use crate::{
    store::Step,
    views::counts::{Counts, Row},
};

struct Site {
    platform: Platform,
    folder: PathBuf,
}

impl Site {
    async fn new(name: &str) -> Self {
        let name = format!("streamforge-views-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let site = Self { platform: Platform::default(), folder };
        site.platform.open(&site.folder).await.expect("the folder can be written");
        site
    }

    /// Closes the database, and opens it again.
    async fn restart(&mut self) {
        self.platform.close().await;
        self.platform = Platform::default();
        self.platform.open(&self.folder).await.expect("nobody has it");
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(self.platform.clone(), Kept::default(), Metrics::default())
    }

    async fn channel(&self, name: &str) -> ChannelId {
        let add = accounts::commands::Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: accounts::commands::PasswordHash("$argon2id$secret".to_owned()),
            role: Role::Creator,
        };
        let owner = self.platform.send(Actor::System, add).await.expect("the name is free").done;
        let create = channels::commands::Create {
            owner,
            name: name.parse().expect("a channel name"),
            title: "A title".parse().expect("a title"),
            visibility: Visibility::Public,
        };
        self.platform.send(Actor::System, create).await.expect("the name is free").done
    }

    async fn views(&self, channel: ChannelId) -> u64 {
        let totals = self.platform.read(|rows| queries::of_channel(rows, channel)).await;
        totals.expect("a disk").views
    }

    fn sequence(&self) -> u64 {
        self.platform.ready().expect("it is open").sequence()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn minute(number: u64, views: &[(&str, u64)]) -> Minute {
    let row = |views| Row {
        all: Counts { views, watched_ms: 10_000 * views, ..Counts::default() },
        renditions: Vec::new(),
    };
    let rows = views
        .iter()
        .map(|(name, views)| (Watched::Channel(name.parse().expect("a name")), row(*views)));
    Minute { begin: Step::Minute.begin(number), rows: rows.collect() }
}

#[tokio::test]
async fn minutes_become_rows_and_facts_of_the_channels_that_the_platform_has() {
    let site = Site::new("facts").await;
    let channel = site.channel("Demo").await;
    let mut recorder = site.recorder();
    assert!(recorder.is_waiting(), "batches of an earlier run may wait");
    recorder.add(minute(0, &[("demo", 2), ("elsewhere", 9)]));
    recorder.add(minute(1, &[("demo", 1)]));
    recorder.record().await.expect("a disk");
    assert!(!recorder.is_waiting());
    assert_eq!(site.views(channel).await, 3);
    let sequence = site.sequence();
    // A minute without an audience is no fact.
    recorder.add(minute(2, &[]));
    recorder.record().await.expect("a disk");
    assert_eq!(site.sequence(), sequence);
    let store = site.platform.ready().expect("it is open");
    let subject = Subject::Channel(channel);
    let rows = store.traffic().audience(subject, Step::Minute, 0, 9, 9).expect("a disk");
    assert_eq!(
        rows.iter().map(|(at, row)| (*at, row.all.views)).collect::<Vec<_>>(),
        [(0, 2), (1, 1)]
    );
}

#[tokio::test]
async fn views_in_the_file_are_recorded_once_wherever_the_process_has_ended() {
    let mut site = Site::new("once").await;
    let channel = site.channel("demo").await;
    // It has ended before the batch was sent.
    {
        let store = site.platform.ready().expect("it is open");
        let rows = resolve(&store, &minute(0, &[("demo", 2)])).expect("a disk");
        store.traffic().add_minute(Time::default(), &rows, Kept::default()).expect("a disk");
    }
    site.restart().await;
    assert_eq!(site.views(channel).await, 0);
    site.recorder().record().await.expect("a disk");
    assert_eq!(site.views(channel).await, 2);

    // It has ended after the batch was sent, and before it was forgotten.
    {
        let store = site.platform.ready().expect("it is open");
        let rows = resolve(&store, &minute(1, &[("demo", 5)])).expect("a disk");
        store.traffic().add_minute(Step::Minute.begin(1), &rows, Kept::default()).expect("a disk");
        let node = store.traffic().node().expect("a disk");
        let (batch, counts) = store.traffic().batches(1).expect("a disk").remove(0);
        store.send(Actor::System, Record { node, batch, counts }).await.expect("a disk");
    }
    site.restart().await;
    let mut recorder = site.recorder();
    recorder.add(minute(2, &[("demo", 1)]));
    recorder.record().await.expect("a disk");
    assert_eq!(site.views(channel).await, 8);
    let store = site.platform.ready().expect("it is open");
    assert_eq!(store.traffic().batches(1).expect("a disk"), []);
}

#[tokio::test]
async fn without_its_file_the_daemon_counts_on_as_another_node() {
    let mut site = Site::new("lost").await;
    let channel = site.channel("demo").await;
    let mut recorder = site.recorder();
    for number in 0..3 {
        recorder.add(minute(number, &[("demo", 1)]));
        recorder.record().await.expect("a disk");
    }
    drop(recorder);
    site.platform.close().await;
    fs::remove_file(site.folder.join("traffic.redb")).expect("it is there");
    site.restart().await;
    let mut recorder = site.recorder();
    recorder.add(minute(3, &[("demo", 1)]));
    recorder.record().await.expect("a disk");
    assert_eq!(site.views(channel).await, 4);
}

#[tokio::test]
async fn minutes_wait_while_the_database_is_not_open_and_are_bounded() {
    let site = Site::new("waiting").await;
    let channel = site.channel("demo").await;
    let mut recorder = Recorder { platform: Platform::default(), ..site.recorder() };
    for number in 0..MAX_WAITING as u64 + 5 {
        recorder.add(minute(number, &[("demo", 1)]));
    }
    assert!(matches!(recorder.record().await, Err(RecordError::NotOpen)));
    assert_eq!(recorder.waiting.len(), MAX_WAITING);
    recorder.platform = site.platform.clone();
    recorder.record().await.expect("a disk");
    assert_eq!(site.views(channel).await, MAX_WAITING as u64);
}

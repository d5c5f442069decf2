use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Instant,
};

use control_domain::{
    Role,
    event::Events as _,
    features::{
        self, accounts,
        channels::events::Visibility as OfChannel,
        videos::{
            commands::{Announce, Publish},
            details::{Chapters, Details, Tags, Visibility},
            events::Event,
            processing::{FinishProcessing, FinishUpload, StartUpload},
            state::{Media, State},
        },
    },
    id::{AccountId, ChannelId, VideoId},
};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::*;
use crate::store::tests::disk::{FULL, open_on};

/// A platform in a folder that is deleted when dropped.
struct Site {
    platform: Platform,
    folder: PathBuf,
}

impl Site {
    async fn new(name: &str) -> Self {
        let folder = folder(name);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        Self { platform, folder }
    }

    fn run(&self, stop: &CancellationToken) -> JoinHandle<()> {
        tokio::spawn(run(self.platform.clone(), stop.clone()))
    }

    async fn send<C>(&self, command: C) -> C::Done
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        self.platform.send(Actor::System, command).await.expect("it is permitted").done
    }

    async fn account(&self, name: &str) -> AccountId {
        self.send(accounts::commands::Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: accounts::commands::PasswordHash("$argon2id$secret".to_owned()),
            role: Role::Creator,
        })
        .await
    }

    async fn channel(&self, owner: AccountId, name: &str) -> ChannelId {
        self.send(channels::commands::Create {
            owner,
            name: name.parse().expect("a name"),
            title: name.parse().expect("a title"),
            visibility: OfChannel::Public,
        })
        .await
    }

    async fn announce(&self, channel: ChannelId) -> VideoId {
        let details = Details {
            title: "A title".parse().expect("a title"),
            description: "".parse().expect("a text"),
            tags: Tags::default(),
            category: None,
            language: None,
            visibility: Visibility::Public,
            chapters: Chapters::default(),
        };
        self.send(Announce { channel, details, password: None }).await
    }

    /// A video that can be published.
    async fn ready(&self, channel: ChannelId) -> VideoId {
        let video = self.announce(channel).await;
        let media = Media { duration_ms: 1_000, width: None, height: None };
        self.send(StartUpload { video }).await;
        self.send(FinishUpload { video, bytes: 1 }).await;
        self.send(FinishProcessing { video, media }).await;
        video
    }

    async fn state(&self, video: VideoId) -> State {
        let found = self.platform.read(|rows| videos::queries::video(rows, video)).await;
        found.expect("it exists").video.state
    }

    async fn categories(&self) -> usize {
        let all = self.platform.read(categories::queries::all).await;
        all.expect("the tables can be read").len()
    }

    /// The number of events of a type.
    async fn events(&self, kind: &str) -> usize {
        let store = self.platform.store().await.expect("it is open");
        let (mut after, mut count) = (0, 0);
        loop {
            let page = store.events(after, 256).expect("the log can be read");
            let Some((last, _)) = page.last() else { return count };
            after = *last;
            count += page.iter().filter(|(_, envelope)| envelope.kind == kind).count();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> PathBuf {
    let name = format!("streamforge-duties-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Waits until a condition holds. The bound is real time, also where the timer's is paused.
async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never happens");
        sleep(Duration::from_millis(10)).await;
    }
}

fn now() -> Time {
    SystemTime::now().into()
}

#[tokio::test]
async fn a_new_platform_gets_its_categories_once() {
    let site = Site::new("categories").await;
    let stop = CancellationToken::new();
    let task = site.run(&stop);
    eventually(async || site.categories().await == 18).await;
    stop.cancel();
    task.await.expect("it ends at stop");

    let all = site.platform.read(categories::queries::all).await.expect("the tables can be read");
    for (category, _) in all {
        site.send(categories::commands::Remove { category }).await;
    }
    let stop = CancellationToken::new();
    let task = site.run(&stop);
    // A later duty shows that the pass is over.
    let owner = site.account("ada").await;
    let channel = site.channel(owner, "ada").await;
    site.announce(channel).await;
    site.send(accounts::commands::Erase { account: owner }).await;
    eventually(async || site.events("streamforge.video.deleted.v1").await == 1).await;
    assert_eq!(site.categories().await, 0, "the administrators have removed them");
    stop.cancel();
    task.await.expect("it ends at stop");
}

#[tokio::test]
async fn a_video_is_published_at_its_time_and_not_before() {
    let site = Site::new("due").await;
    let stop = CancellationToken::new();
    let task = site.run(&stop);
    let owner = site.account("ada").await;
    let channel = site.channel(owner, "ada").await;
    // The second is due first: the task, which waits already, must wait for less.
    let (later, sooner) = (site.ready(channel).await, site.ready(channel).await);
    let at = now().after(Duration::from_secs(3_600));
    site.send(Publish { video: later, at: Some(at) }).await;
    sleep(Duration::from_millis(50)).await;
    let at = now().after(Duration::from_millis(400));
    site.send(Publish { video: sooner, at: Some(at) }).await;
    let published = async || site.state(sooner).await.published();
    eventually(async || published().await.is_some()).await;
    let since = published().await.expect("it is published");
    assert!(since >= at, "{since} is before {at}");
    // The log has no event of the later one.
    assert_eq!(site.events("streamforge.video.published.v1").await, 1);
    assert_eq!(site.state(later).await.name(), "ready");
    stop.cancel();
    task.await.expect("it ends at stop");
}

#[tokio::test]
async fn videos_that_were_due_while_nobody_looked_are_published() {
    let site = Site::new("overdue").await;
    let owner = site.account("ada").await;
    let channel = site.channel(owner, "ada").await;
    let video = site.ready(channel).await;
    let at = now().after(Duration::from_millis(20));
    site.send(Publish { video, at: Some(at) }).await;
    sleep(Duration::from_millis(30)).await;
    assert_eq!(site.state(video).await.name(), "ready");
    let task = site.run(&CancellationToken::new());
    eventually(async || site.state(video).await.name() == "published").await;
    task.abort();
}

#[tokio::test]
async fn channels_of_an_erased_account_and_all_their_videos_are_deleted() {
    let site = Site::new("orphans").await;
    let owner = site.account("ada").await;
    let channels = [site.channel(owner, "one").await, site.channel(owner, "two").await];
    // More than one command deletes.
    let count = videos::commands::DeleteOrphans::MAX + 20;
    join_all((0..count).map(|n| site.announce(channels[n % 2]))).await;
    let other = site.account("eve").await;
    let kept = site.channel(other, "kept").await;
    let video = site.announce(kept).await;
    site.send(accounts::commands::Erase { account: owner }).await;
    let task = site.run(&CancellationToken::new());
    eventually(async || site.events("streamforge.video.deleted.v1").await == count).await;
    assert_eq!(site.events("streamforge.channel.deleted.v1").await, 2);
    assert_eq!(site.state(video).await.name(), "draft");
    let left = site.platform.read(|rows| videos::queries::orphans(rows, 1)).await;
    assert_eq!(left.expect("the tables can be read"), []);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn duties_are_done_when_the_disk_permits_it_again() {
    let folder = folder("disk");
    let errno = Arc::new(AtomicI32::new(0));
    drop(Store::open(&folder, features::ALL).expect("the folder can be written"));
    let platform = Platform::of(open_on(&errno, &folder, features::ALL));
    let site = Site { platform, folder };
    errno.store(FULL, Ordering::Relaxed);
    let stop = CancellationToken::new();
    let begin = tokio::time::Instant::now();
    let task = site.run(&stop);
    // Some attempts later.
    sleep(4 * RETRY).await;
    assert!(!task.is_finished());
    errno.store(0, Ordering::Relaxed);
    eventually(async || site.categories().await == 18).await;
    assert!(begin.elapsed() >= RETRY, "it was tried again without a pause");
    stop.cancel();
    task.await.expect("it ends at stop");
}

#[tokio::test]
async fn the_task_ends_when_the_database_closes_and_does_not_delay_it() {
    let site = Site::new("closes").await;
    let task = site.run(&CancellationToken::new());
    eventually(async || site.categories().await == 18).await;
    let closed = timeout(Duration::from_secs(30), site.platform.close()).await;
    closed.expect("nothing uses the database");
    task.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn the_task_waits_for_a_commit_for_the_next_time_or_not_at_all() {
    let (sender, receiver) = watch::channel(0);
    let waited = async |next: Next| {
        let begin = tokio::time::Instant::now();
        wait(next, receiver.clone()).await;
        begin.elapsed()
    };
    assert_eq!(waited(Next::Now).await, Duration::ZERO);
    assert_eq!(waited(Next::Commit).await, LONGEST);
    // A clock that is set forward is noticed after this time.
    assert_eq!(waited(Next::At(now().after(10 * LONGEST))).await, LONGEST);
    let second = waited(Next::At(now().after(Duration::from_secs(1)))).await;
    assert!((Duration::from_millis(900)..=Duration::from_secs(1)).contains(&second), "{second:?}");
    let (waited, ()) = tokio::join!(waited(Next::Commit), async {
        sleep(Duration::from_secs(2)).await;
        sender.send_replace(1);
    });
    assert_eq!(waited, Duration::from_secs(2));
    let times = [Next::Commit, Next::At(Time::from_millis(2)), Next::At(Time::from_millis(1))];
    assert_eq!(times.into_iter().min(), Some(times[2]), "the soonest counts");
    assert_eq!(Next::Now.min(times[2]), Next::Now);
    assert_eq!(until(Time::from_millis(5), Time::from_millis(9)), Duration::ZERO);
}

#[test]
fn each_kind_of_event_above_exists() {
    let kinds = Event::TYPES.iter().chain(channels::events::Event::TYPES);
    let names: Vec<_> = kinds.map(|kind| kind.name).collect();
    for kind in ["video.deleted", "video.published", "channel.deleted"] {
        assert!(names.contains(&format!("streamforge.{kind}.v1").as_str()), "{kind}");
    }
}

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use control_domain::features::accounts::events::ERASED;
use tokio::time::Instant;

use super::*;

const REGISTERED: &str = "streamforge.account.registered.v1";

/// A follower that records its effects.
struct Recorder {
    name: &'static str,
    begin: Begin,
    kinds: &'static [&'static str],
    /// Effects: the sequence and identifier of the event, and the time.
    effects: Mutex<Vec<(u64, String, Instant)>>,
    /// Attempts that fail before the first that succeeds.
    failing: AtomicU64,
    /// How they fail.
    fail: fn() -> FollowError,
}

impl Recorder {
    fn new(name: &'static str) -> Arc<Self> {
        Self::failing(name, 0, || FollowError::Again("the receiver is down".into()))
    }

    fn failing(name: &'static str, failing: u64, fail: fn() -> FollowError) -> Arc<Self> {
        Arc::new(Self {
            name,
            begin: Begin::First,
            kinds: &[REGISTERED, ERASED],
            effects: Mutex::default(),
            failing: AtomicU64::new(failing),
            fail,
        })
    }

    fn effects(&self) -> Vec<(u64, String, Instant)> {
        self.effects.lock().expect("no panic").clone()
    }

    fn sequences(&self) -> Vec<u64> {
        self.effects().iter().map(|(sequence, ..)| *sequence).collect()
    }
}

impl Follower for Recorder {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self) -> Begin {
        self.begin
    }

    fn follows(&self, kind: &str) -> bool {
        self.kinds.contains(&kind)
    }

    async fn handle(&self, sequence: u64, envelope: &Envelope) -> Result<(), FollowError> {
        let effect = (sequence, envelope.id.to_string(), Instant::now());
        self.effects.lock().expect("no panic").push(effect);
        let fails = |left: u64| left.checked_sub(1);
        match self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails) {
            Ok(_) => Err((self.fail)()),
            Err(_) => Ok(()),
        }
    }
}

/// Runs followers until this is dropped or stopped.
struct Running {
    shutdown: CancellationToken,
    tasks: tokio::task::JoinSet<Result<(), FollowFault>>,
}

impl Running {
    fn new(store: &Store, followers: &[&Arc<Recorder>]) -> Self {
        let (shutdown, mut tasks) = (CancellationToken::new(), tokio::task::JoinSet::new());
        for follower in followers {
            let (store, follower) = (store.clone(), Arc::clone(follower));
            let shutdown = shutdown.clone();
            tasks.spawn(async move { store.follow(&*follower, &shutdown).await });
        }
        Self { shutdown, tasks }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic").expect("the cursor can be written");
        }
    }
}

/// Waits until a condition holds, at most a minute of the test's clock.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not hold after a minute");
}

fn lag(store: &Store, name: &str) -> Option<u64> {
    store.followers().iter().find(|followed| followed.name == name).map(|followed| followed.lag)
}

async fn registers(store: &Store, name: &str) -> AccountId {
    store.send(Actor::Anonymous, register(name)).await.expect("the name is free").done
}

#[tokio::test]
async fn a_follower_sees_the_events_of_its_types_once_and_goes_on_after_a_restart() {
    let folder = Folder::new("follow");
    let store = folder.open();
    let ada = registers(&store, "Ada").await;
    let verify = VerifyEmail { account: ada };
    store.send(Actor::System, verify).await.expect("the daemon");
    let recorder = Recorder::new("mail");
    let running = Running::new(&store, &[&recorder]);
    registers(&store, "Bob").await;
    until(|| lag(&store, "mail") == Some(0)).await;
    assert_eq!(recorder.sequences(), [1, 3]);
    running.stop().await;
    assert_eq!(lag(&store, "mail"), None, "it does not run");
    store.send(Actor::System, Erase { account: ada }).await.expect("the operator");
    drop(store);

    let store = folder.open();
    let running = Running::new(&store, &[&recorder]);
    until(|| lag(&store, "mail") == Some(0)).await;
    assert_eq!(recorder.sequences(), [1, 3, 4]);
    running.stop().await;
}

#[tokio::test]
async fn a_new_follower_may_begin_with_the_next_event() {
    let folder = Folder::new("follow-next");
    let store = folder.open();
    registers(&store, "Ada").await;
    let mut recorder = Recorder::new("mail");
    Arc::get_mut(&mut recorder).expect("nobody shares it").begin = Begin::Next;
    let running = Running::new(&store, &[&recorder]);
    until(|| lag(&store, "mail") == Some(0)).await;
    running.stop().await;
    // It was not running, but it exists: this one is not lost.
    registers(&store, "Bob").await;
    let running = Running::new(&store, &[&recorder]);
    until(|| lag(&store, "mail") == Some(0)).await;
    assert_eq!(recorder.sequences(), [2]);
    running.stop().await;
}

#[tokio::test]
async fn a_failing_follower_stops_no_other() {
    let folder = Folder::new("follow-fails");
    let store = folder.open();
    let again = || FollowError::Again("the receiver is down".into());
    let (failing, sound) = (Recorder::failing("hooks", u64::MAX, again), Recorder::new("mail"));
    let running = Running::new(&store, &[&failing, &sound]);
    registers(&store, "Ada").await;
    registers(&store, "Bob").await;
    until(|| lag(&store, "mail") == Some(0) && !failing.effects().is_empty()).await;
    assert_eq!(sound.sequences(), [1, 2]);
    assert_eq!(lag(&store, "hooks"), Some(2));
    running.stop().await;
    // It has not handled the first.
    let recovered = Recorder::new("hooks");
    let running = Running::new(&store, &[&recovered]);
    until(|| lag(&store, "hooks") == Some(0)).await;
    assert_eq!(recovered.sequences(), [1, 2]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_follower_tries_again_with_growing_delays() {
    let folder = Folder::new("follow-again");
    let store = folder.open();
    registers(&store, "Ada").await;
    registers(&store, "Bob").await;
    let again = || FollowError::Again("the receiver is down".into());
    let failing = Recorder::failing("hooks", 12, again);
    let running = Running::new(&store, &[&failing]);
    while lag(&store, "hooks") != Some(0) {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let effects = failing.effects();
    let expected = [vec![1; 13], vec![2]].concat();
    assert_eq!(failing.sequences(), expected);
    assert!(effects[..13].iter().all(|(_, id, _)| *id == effects[0].1), "the same event");
    let delays = effects[..13].windows(2).map(|pair| (pair[1].2 - pair[0].2).as_secs());
    let delays = delays.collect::<Vec<_>>();
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    let followed =
        Followed { name: "hooks".to_owned(), sequence: 2, lag: 0, failures: 12, failing: 0 };
    assert_eq!(store.followers(), [followed]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_can_never_happen_is_passed_over_and_one_that_panics_is_tried_again() {
    let folder = Folder::new("follow-never");
    let store = folder.open();
    let never = Recorder::failing("never", 1, || FollowError::Never("no such address".into()));
    let panics = Recorder::failing("panics", 1, || panic!("on purpose"));
    let running = Running::new(&store, &[&never, &panics]);
    registers(&store, "Ada").await;
    registers(&store, "Bob").await;
    until(|| lag(&store, "never") == Some(0) && lag(&store, "panics") == Some(0)).await;
    assert_eq!(never.sequences(), [1, 2]);
    assert_eq!(panics.sequences(), [1, 1, 2]);
    running.stop().await;
}

#[tokio::test]
async fn two_followers_of_one_name_are_refused() {
    let folder = Folder::new("follow-twice");
    let store = folder.open();
    let recorder = Recorder::new("mail");
    let running = Running::new(&store, &[&recorder]);
    until(|| lag(&store, "mail") == Some(0)).await;
    let refused = store.follow(&*recorder, &CancellationToken::new()).await;
    assert!(matches!(refused, Err(FollowFault::Running { .. })), "{refused:?}");
    running.stop().await;
}

/// The folder of the process that crashes between an effect and its cursor.
const CRASHER: &str = "STREAMFORGE_STORE_CRASHER";

/// Prints its effects, and ends the process in the middle of the third.
struct Crasher;

impl Follower for Crasher {
    fn name(&self) -> &str {
        "mail"
    }

    fn begin(&self) -> Begin {
        Begin::First
    }

    fn follows(&self, kind: &str) -> bool {
        kind == REGISTERED
    }

    async fn handle(&self, sequence: u64, envelope: &Envelope) -> Result<(), FollowError> {
        println!("effect {sequence} {}", envelope.id);
        if sequence == 3 {
            std::process::abort();
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_effect_before_a_crash_happens_again_with_the_same_event() {
    if let Some(folder) = std::env::var_os(CRASHER) {
        let store = Store::open(Path::new(&folder), features::ALL).expect("it can be written");
        let ended = store.follow(&Crasher, &CancellationToken::new()).await;
        panic!("it goes on without end: {ended:?}");
    }
    let folder = Folder::new("follow-crash");
    let store = folder.open();
    for name in ["Ada", "Bob", "Carol", "Dora"] {
        registers(&store, name).await;
    }
    drop(store);
    let output = std::process::Command::new(std::env::current_exe().expect("the test program"))
        .args([
            "--exact",
            "store::tests::following::an_effect_before_a_crash_happens_again_with_the_same_event",
        ])
        .arg("--nocapture")
        .env(CRASHER, &folder.0)
        .output()
        .expect("the test program");
    let text = String::from_utf8_lossy(&output.stdout);
    let before = text.lines().filter_map(|line| line.split_once("effect ").map(|(_, rest)| rest));
    let before = before.map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(before.len(), 3, "{text}");

    let store = folder.open();
    let recorder = Recorder::new("mail");
    let running = Running::new(&store, &[&recorder]);
    until(|| lag(&store, "mail") == Some(0)).await;
    let after = recorder.effects();
    assert_eq!(recorder.sequences(), [3, 4], "the first two have moved the cursor");
    assert_eq!(before[2], format!("3 {}", after[0].1));
    running.stop().await;
}

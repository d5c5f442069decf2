use std::sync::Mutex;

use control_domain::Time;

use super::*;

/// A source that remembers what was asked of it.
#[derive(Default)]
struct Asked(Mutex<Vec<&'static str>>);

impl Asked {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Source for Asked {
    fn collect(&self, _: &mut dyn FnMut(Delivered<'_>)) {
        self.0.lock().unwrap().push("collect");
    }

    fn change_key(&self) {
        self.0.lock().unwrap().push("change");
    }

    fn forget_key(&self) {
        self.0.lock().unwrap().push("forget");
    }

    fn close(&self) {
        self.0.lock().unwrap().push("close");
    }
}

#[test]
fn the_key_changes_each_day_and_the_one_before_is_forgotten_when_no_session_needs_it() {
    let asked = Asked::default();
    let midnight_ms = 86_400_000;
    let mut key = KeyOfDay { day: 0, forget_ms: None };
    let mut at = |ms| {
        key.keep(&asked, Moment { wall: Time::from_millis(ms), ms });
        asked.take()
    };
    assert_eq!(at(0), [] as [&str; 0]);
    assert_eq!(at(midnight_ms - 1), [] as [&str; 0]);
    assert_eq!(at(midnight_ms), ["change"]);
    assert_eq!(at(midnight_ms + ENDS_AFTER_MS - 1), [] as [&str; 0]);
    assert_eq!(at(midnight_ms + ENDS_AFTER_MS), ["forget"]);
    assert_eq!(at(2 * midnight_ms - 1), [] as [&str; 0]);
    assert_eq!(at(2 * midnight_ms), ["change"]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_collected_until_the_stop_and_once_more() {
    let (source, stop) = (Arc::new(Asked::default()), CancellationToken::new());
    let (metrics, settings) = (Metrics::default(), Settings::default());
    let platform = Platform::default();
    let task = tokio::spawn(run(platform, source.clone(), settings, metrics, stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = source.take();
    assert!(before.len() >= 3 && before.iter().all(|asked| *asked == "collect"), "{before:?}");
    stop.cancel();
    task.await.unwrap();
    let after = source.take();
    assert!(after.ends_with(&["close", "collect"]), "{after:?}");
}

//! When a delivery that has failed is tried again, and when a webhook is given up. The delays are
//! those that Standard Webhooks recommends ("Retry schedule").

use std::time::Duration;

use control_domain::Time;

/// The delay after each failed attempt. After the last one the event is given up.
const DELAYS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];
/// A webhook that fails for so long is disabled.
const PATIENCE: Duration = Duration::from_secs(5 * 24 * 3600);

/// The time of the next attempt after `attempts` failed ones; `None` if there is none.
pub(super) fn next(attempts: u32, now: Time) -> Option<Time> {
    let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
    DELAYS.get(index).map(|&delay| now.after(delay))
}

/// Whether a webhook is to be disabled that has failed since a time.
pub(super) fn is_over(failing_since: Time, now: Time) -> bool {
    now >= failing_since.after(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_tried_eight_times_in_27_hours_and_35_minutes() {
        let begin = Time::from_millis(1_796_000_000_000);
        let (mut now, mut attempts) = (begin, 1);
        while let Some(at) = next(attempts, now) {
            (now, attempts) = (at, attempts + 1);
        }
        assert_eq!(attempts, 8);
        let minutes = (now.as_millis() - begin.as_millis()) / 60_000;
        assert_eq!(minutes, 27 * 60 + 35);
        assert_eq!(next(0, now), None);
    }

    #[test]
    fn a_webhook_is_given_up_after_five_days() {
        let since = Time::from_millis(0);
        assert!(!is_over(since, Time::from_millis(5 * 86_400_000 - 1)));
        assert!(is_over(since, Time::from_millis(5 * 86_400_000)));
    }
}

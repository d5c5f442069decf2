//! The private presentations that this edge has seen: an origin marks its responses for them
//! ([`MARK`]). So a request without a token that opens one is refused here, although no channel is
//! known to this process, and although the response is in memory.
//!
//! [`MARK`]: crate::playback::MARK

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::key::Scope;
use crate::playback::Mark;

/// Maximum number of channels and broadcasts: twice as many as an origin has by default, each under
/// its name and its broadcast.
const MAX_KNOWN: usize = 4_096;
/// Time for which a mark counts after the last response with it: a channel that has become public
/// is public here after this time.
const LIFETIME: Duration = Duration::from_secs(10);
/// A mark is not recorded again before this time, so that a hit only reads.
const RENEWAL: Duration = Duration::from_secs(3);

/// The marks of recent responses, by channel and by broadcast.
pub(super) struct Private {
    /// Whether there has been any, so that an edge of public channels pays one branch.
    any: AtomicBool,
    marks: Cache<Scope, (Mark, Instant)>,
}

impl Default for Private {
    fn default() -> Self {
        Self { any: AtomicBool::new(false), marks: Cache::new(MAX_KNOWN) }
    }
}

impl Private {
    /// The presentation of objects in this scope, if it is known to be private.
    pub(super) fn find(&self, scope: &Scope, now: Instant) -> Option<Mark> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let (mark, seen) = self.marks.get(scope)?;
        (now.saturating_duration_since(seen) < LIFETIME).then_some(mark)
    }

    /// Records the mark of a response.
    pub(super) fn saw(&self, scope: &Scope, mark: &Mark, now: Instant) {
        let recent = |(known, seen): (Mark, Instant)| {
            known == *mark && now.saturating_duration_since(seen) < RENEWAL
        };
        if !self.marks.get(scope).is_some_and(recent) {
            self.marks.insert(scope.clone(), (mark.clone(), now));
            self.any.store(true, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Private").field("known", &self.marks.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(channel: &str) -> Mark {
        Mark { channel: channel.parse().unwrap(), broadcast: None }
    }

    #[test]
    fn a_mark_counts_for_a_time_after_the_last_response_with_it() {
        let private = Private::default();
        let (now, scope) = (Instant::now(), Scope::Channel("demo".parse().unwrap()));
        assert_eq!(private.find(&scope, now), None);
        private.saw(&scope, &mark("demo"), now);
        private.saw(&scope, &mark("demo"), now + RENEWAL);
        assert_eq!(private.find(&scope, now + LIFETIME), Some(mark("demo")));
        assert_eq!(private.find(&scope, now + RENEWAL + LIFETIME), None);
        assert_eq!(private.find(&Scope::Channel("other".parse().unwrap()), now), None);
    }

    #[test]
    fn the_number_of_marks_is_bounded() {
        let (private, now) = (Private::default(), Instant::now());
        for n in 0..3 * MAX_KNOWN {
            let channel = format!("c{n}");
            private.saw(&Scope::Channel(channel.parse().unwrap()), &mark(&channel), now);
        }
        assert!(private.marks.len() <= MAX_KNOWN);
    }
}

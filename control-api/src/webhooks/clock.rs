//! The clock of deliveries, which tests move by hours and days.

use std::{fmt, future::Future, pin::Pin, time::Duration, time::SystemTime};

use control_domain::Time;

/// The longest sleep: a clock that is set is noticed after it.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// A clock.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Time;

    /// Completes at a time, or shortly before.
    fn wait_until(&self, time: Time) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        SystemTime::now().into()
    }

    fn wait_until(&self, time: Time) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let wait = time.as_millis().saturating_sub(self.now().as_millis());
        Box::pin(tokio::time::sleep(Duration::from_millis(wait).min(MAX_SLEEP)))
    }
}

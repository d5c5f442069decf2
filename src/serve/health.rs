//! The checks behind `/readyz`, and their part: it samples the disk, and lets a database that could
//! not be written try again.

mod disk;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use control_api::{
    Platform,
    health::{Check, Finding},
    platform_health::{DatabaseHealth, FollowersHealth},
};
use prometheus_client::registry::Registry;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use transcoder::{
    Ladder,
    ladder::{State, Statuses},
};

use super::bus::BusPart;
use crate::{certificates::Certificates, config::Config, directory::Directory};
use disk::Disk;

/// Interval of samples.
const INTERVAL: Duration = Duration::from_secs(5);
/// Events behind which ingest knows too little of stored keys and private channels.
const LATE: u64 = 1_000;

/// The checks of a daemon, and the state that they share with their part.
pub(super) struct Checks {
    /// All checks.
    pub(super) checks: Vec<Box<dyn Check>>,
    /// The part.
    pub(super) watch: Watch,
}

/// Samples until it is stopped.
pub(super) struct Watch {
    disk: Disk,
    platform: Option<Platform>,
}

/// The parts of the daemon that are checked.
pub(super) struct Checked<'a> {
    pub(super) config: &'a Config,
    /// `None` if it is off, or no encoder works.
    pub(super) ladder: Option<&'a Ladder>,
    pub(super) certificates: Option<&'a Arc<Certificates>>,
    pub(super) platform: Option<(&'a Platform, &'a Directory)>,
    pub(super) bus: Option<&'a BusPart>,
}

impl Checks {
    /// The checks of these parts. Adds the metrics of the disk.
    pub(super) fn new(parts: &Checked<'_>, registry: &mut Registry) -> Self {
        let disk = Disk::new(&parts.config.data_dir);
        disk.register(registry);
        let mut checks: Vec<Box<dyn Check>> = vec![Box::new(disk.clone())];
        if parts.config.ladder.encodes() {
            checks.push(Box::new(LadderHealth(parts.ladder.map(Ladder::statuses))));
        }
        if let Some(certificates) = parts.certificates {
            checks.push(Box::new(CertificateHealth(Arc::clone(certificates))));
        }
        if let Some((platform, directory)) = parts.platform {
            checks.push(Box::new(DatabaseHealth(platform.clone())));
            checks.push(Box::new(FollowersHealth(platform.clone())));
            checks.push(Box::new(DirectoryHealth(directory.clone())));
        }
        if let Some(bus) = parts.bus {
            checks.push(bus.health());
        }
        let platform = parts.platform.map(|(platform, _)| platform.clone());
        Self { checks, watch: Watch { disk, platform } }
    }
}

impl Watch {
    /// Samples until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Some(platform) = &self.platform {
                platform.probe();
            }
            // A stop does not wait for a disk that hangs.
            tokio::select! {
                () = self.disk.sample() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// Whether all renditions are made. Without them the source is served alone.
#[derive(Debug)]
struct LadderHealth(Option<Statuses>);

impl Check for LadderHealth {
    fn name(&self) -> &'static str {
        "ladder"
    }

    fn check(&self) -> Finding {
        let Some(statuses) = &self.0 else {
            return Finding::Degraded("no encoder works: only sources are served".into());
        };
        let states = [
            (State::Failed, "have failed"),
            (State::Shed, "were stopped because encoders fell behind"),
            (State::Refused, "were refused because the machine has no capacity left"),
        ];
        let counts = states.map(|(state, words)| (statuses.count(state), words));
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let words = counts.map(|(count, words)| format!("{count} renditions {words}"));
        let words = words.collect::<Vec<_>>();
        match words.is_empty() {
            true => Finding::Ok,
            false => Finding::Degraded(words.join("; ")),
        }
    }
}

/// Whether the certificate is valid for a while.
#[derive(Debug)]
struct CertificateHealth(Arc<Certificates>);

impl Check for CertificateHealth {
    fn name(&self) -> &'static str {
        "certificate"
    }

    fn check(&self) -> Finding {
        of_certificate(self.0.not_after(), SystemTime::now())
    }
}

/// The finding about a certificate that ends at this time.
fn of_certificate(not_after: SystemTime, now: SystemTime) -> Finding {
    match not_after.duration_since(now) {
        Err(_) => Finding::Degraded("the certificate has expired: renew it".into()),
        Ok(left) if left < crate::certificates::SOON => {
            let days = left.as_secs() / 86_400;
            Finding::Degraded(format!("the certificate expires in {days} days: renew it"))
        }
        Ok(_) => Finding::Ok,
    }
}

/// Whether ingest and playback know the events of the platform.
#[derive(Debug)]
struct DirectoryHealth(Directory);

impl Check for DirectoryHealth {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn check(&self) -> Finding {
        if self.0.is_failing() {
            let words = "stored keys and private channels are not followed: see the log";
            return Finding::Degraded(words.into());
        }
        match self.0.lag() {
            lag if lag > LATE => {
                Finding::Degraded(format!("stored keys and channels are {lag} events behind"))
            }
            _ => Finding::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_or_has_ended_is_degraded() {
        let now = SystemTime::now();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(of_certificate(now + days(30), now), Finding::Ok);
        let soon = of_certificate(now + days(3), now);
        assert_eq!(soon, Finding::Degraded("the certificate expires in 3 days: renew it".into()));
        let over = of_certificate(now - days(1), now);
        assert_eq!(over, Finding::Degraded("the certificate has expired: renew it".into()));
    }

    #[test]
    fn a_ladder_without_an_encoder_is_degraded_and_one_without_broadcasts_is_not() {
        assert!(matches!(LadderHealth(None).check(), Finding::Degraded(_)));
        assert_eq!(LadderHealth(Some(Statuses::default())).check(), Finding::Ok);
    }
}

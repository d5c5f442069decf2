//! Whether the daemon can do its work: the checks behind `/readyz`, and their results as metrics.
//!
//! A fault is a failure only if the daemon cannot do its main work, which is to serve media and to
//! admit publishers: a load balancer then sends requests elsewhere. Any other fault is listed as
//! degraded, and media are served.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use serde::Serialize;

use crate::Readiness;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No fault.
    Ok,
    /// A fault beside which media are served: its cause in a sentence, which holds no secret.
    Degraded(String),
    /// The daemon cannot do its main work, because of this.
    Failed(String),
}

impl Finding {
    fn status(&self) -> Status {
        match self {
            Self::Ok => Status::Ok,
            Self::Degraded(_) => Status::Degraded,
            Self::Failed(_) => Status::Failed,
        }
    }

    fn detail(self) -> Option<String> {
        match self {
            Self::Ok => None,
            Self::Degraded(detail) | Self::Failed(detail) => Some(detail),
        }
    }
}

/// A check of one part of the daemon. It must be quick and must not block: it is asked at each
/// request for `/readyz` and `/metrics`.
pub trait Check: fmt::Debug + Send + Sync + 'static {
    /// The name, in JSON and as a label.
    fn name(&self) -> &'static str;

    /// The state now.
    fn check(&self) -> Finding;
}

/// The state of a check, or of the daemon: the worst of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No fault.
    Ok,
    /// A fault beside which media are served.
    Degraded,
    /// The daemon cannot do its main work.
    Failed,
}

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of all.
    pub status: Status,
    /// Each check, in a fixed order.
    pub checks: Vec<Checked>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The name of the check.
    pub name: &'static str,
    /// Its state.
    pub status: Status,
    /// The cause of a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// All checks. Clones share them.
#[derive(Debug, Clone)]
pub struct Health(Arc<[Box<dyn Check>]>);

impl Health {
    /// The readiness, and other checks.
    pub fn new(readiness: Readiness, checks: Vec<Box<dyn Check>>) -> Self {
        let own: Box<dyn Check> = Box::new(Serving(readiness));
        Self(std::iter::once(own).chain(checks).collect())
    }

    /// Asks all checks.
    pub fn report(&self) -> Report {
        let checks = self.0.iter().map(|check| {
            let found = check.check();
            Checked { name: check.name(), status: found.status(), detail: found.detail() }
        });
        let checks = checks.collect::<Vec<_>>();
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        Report { status, checks }
    }

    /// Adds `health{check}` to a registry: 0 without a fault, 1 degraded, 2 failed.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl From<Readiness> for Health {
    fn from(readiness: Readiness) -> Self {
        Self::new(readiness, Vec::new())
    }
}

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Result of each check of the daemon: 0 ok, 1 degraded, 2 failed";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("health", help, None, kind)?;
        for check in self.report().checks {
            let value = match check.status {
                Status::Ok => 0_i64,
                Status::Degraded => 1,
                Status::Failed => 2,
            };
            ConstGauge::new(value).encode(family.encode_family(&[("check", check.name)])?)?;
        }
        Ok(())
    }
}

impl Report {
    /// The report as lines of text: the state, then the faults.
    pub fn text(&self) -> String {
        let first = match self.status {
            Status::Ok | Status::Degraded => "ready\n",
            Status::Failed => "not ready\n",
        };
        let faults = self.checks.iter().filter_map(|check| {
            let detail = check.detail.as_ref()?;
            let status = if check.status == Status::Failed { "failed" } else { "degraded" };
            Some(format!("{status}: {}: {detail}\n", check.name))
        });
        first.to_owned() + &faults.collect::<String>()
    }
}

/// Whether the daemon accepts work.
#[derive(Debug)]
struct Serving(Readiness);

impl Check for Serving {
    fn name(&self) -> &'static str {
        "serving"
    }

    fn check(&self) -> Finding {
        match self.0.is_ready() {
            true => Finding::Ok,
            false => Finding::Failed("starting or stopping".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[derive(Debug)]
    struct Found(&'static str, Finding);

    impl Check for Found {
        fn name(&self) -> &'static str {
            self.0
        }

        fn check(&self) -> Finding {
            self.1.clone()
        }
    }

    fn health(found: Vec<Found>) -> Health {
        let readiness = Readiness::default();
        readiness.set(true);
        let checks = found.into_iter().map(|found| Box::new(found) as Box<dyn Check>);
        Health::new(readiness, checks.collect())
    }

    #[test]
    fn the_worst_check_decides_and_each_fault_is_listed() {
        let degraded = || Found("disk", Finding::Degraded("4 MiB are free".into()));
        let failed = || Found("database", Finding::Failed("the disk fails".into()));
        let fine = health(vec![Found("disk", Finding::Ok)]).report();
        assert_eq!((fine.status, &*fine.text()), (Status::Ok, "ready\n"));
        let report = health(vec![degraded()]).report();
        assert_eq!(report.status, Status::Degraded);
        assert_eq!(report.text(), "ready\ndegraded: disk: 4 MiB are free\n");
        let report = health(vec![degraded(), failed()]).report();
        assert_eq!(report.status, Status::Failed);
        let lines = "degraded: disk: 4 MiB are free\nfailed: database: the disk fails\n";
        assert_eq!(report.text(), format!("not ready\n{lines}"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][0], serde_json::json!({ "name": "serving", "status": "ok" }));
        assert_eq!(json["checks"][1]["detail"], "4 MiB are free");
    }

    #[test]
    fn each_check_is_a_series() {
        let mut registry = Registry::with_prefix("streamforge");
        health(vec![Found("disk", Finding::Degraded(String::new()))]).register(&mut registry);
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        assert!(written.contains("streamforge_health{check=\"serving\"} 0\n"), "{written}");
        assert!(written.contains("streamforge_health{check=\"disk\"} 1\n"), "{written}");
    }
}

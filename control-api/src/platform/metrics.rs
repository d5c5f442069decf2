//! Metrics of the platform, which are read from the database at each scrape: its commands, commits,
//! files, tables that are built again, and followers.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{InUse, Platform};

impl Platform {
    /// Adds the metrics of the platform to a registry whose prefix is the product's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "platform_event_streams",
            "Open streams of events (/api/v1/events)",
            self.0.event_streams.clone(),
        );
        registry.register_collector(Box::new(Database(self.clone())));
    }
}

/// The database; while it is not open, only that is shown.
#[derive(Debug)]
struct Database(Platform);

/// A number for a gauge.
fn gauge(value: impl TryInto<i64>) -> ConstGauge {
    ConstGauge::new(value.try_into().unwrap_or(i64::MAX))
}

impl Collector for Database {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let store = self.0.ready();
        let encoder = &mut encoder;
        let help = "Whether the database is open in this process (1) or not (0)";
        one(encoder, "platform_database_open", help, None, &gauge(i64::from(store.is_some())))?;
        let Some(store) = store else { return Ok(()) };
        commits(encoder, &store)?;
        let help = "Sequence of the last event of the log";
        one(encoder, "platform_log_sequence", help, None, &gauge(store.sequence()))?;
        let sizes = store.file_sizes();
        let sizes = sizes.iter().map(|(file, bytes)| ([("file", *file)], gauge(*bytes)));
        let help = "Sizes of the database's files";
        many(encoder, "platform_database_file", help, Some(&Unit::Bytes), sizes)?;
        rebuilds(encoder, &store)?;
        followers(encoder, &store)
    }
}

/// Commands, commits and events.
fn commits(encoder: &mut DescriptorEncoder<'_>, store: &InUse) -> fmt::Result {
    let metrics = store.metrics();
    let help = "Commands by result";
    one(encoder, "platform_commands", help, None, &metrics.commands)?;
    let help = "Time until a group of commands was on the disk";
    let unit = Some(&Unit::Seconds);
    one(encoder, "platform_commit_duration", help, unit, &metrics.commit_duration)?;
    let help = "Commands and cursors in one commit";
    one(encoder, "platform_commit_group_size", help, None, &metrics.group)?;
    let help = "Groups of commands that were not committed";
    one(encoder, "platform_commit_failures", help, None, &metrics.commit_failures)?;
    one(encoder, "platform_events", "Events that were committed", None, &metrics.events)
}

/// Features whose tables are built again.
fn rebuilds(encoder: &mut DescriptorEncoder<'_>, store: &InUse) -> fmt::Result {
    let rebuilding = store.rebuilding();
    let features = store.features().iter().map(|feature| {
        let is_rebuilding = rebuilding.contains(&feature.name);
        ([("feature", feature.name)], gauge(i64::from(is_rebuilding)))
    });
    let help = "Whether the tables of a feature are being built again (1) or not (0)";
    many(encoder, "platform_rebuilding", help, None, features)?;
    let help = "Whether tables could not be built again (1): see the log";
    let failed = gauge(i64::from(store.has_failed_to_rebuild()));
    one(encoder, "platform_rebuild_failed", help, None, &failed)
}

/// How far the followers are. Their names are those of the daemon's side effects.
fn followers(encoder: &mut DescriptorEncoder<'_>, store: &InUse) -> fmt::Result {
    let followers = store.followers();
    if followers.is_empty() {
        return Ok(());
    }
    let label = |name| [("follower", name)];
    let lags = followers.iter().map(|follower| (label(&*follower.name), gauge(follower.lag)));
    let help = "Events that a follower has not handled yet";
    many(encoder, "platform_follower_lag_events", help, None, lags)?;
    let failures = followers
        .iter()
        .map(|follower| (label(&*follower.name), ConstCounter::new(follower.failures)));
    let help = "Side effects of a follower that failed";
    many(encoder, "platform_follower_failures", help, None, failures)
}

/// Writes a metric without labels of its own, or a family.
fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// Writes metrics with one label. Without any, nothing is written.
fn many<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metrics: impl IntoIterator<Item = ([(&'a str, &'a str); 1], M)>,
) -> fmt::Result {
    let mut metrics = metrics.into_iter().peekable();
    let Some((_, first)) = metrics.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, unit, first.metric_type())?;
    for (labels, metric) in metrics {
        metric.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use control_domain::{
        Actor,
        features::{accounts::commands as accounts, channels::commands::Delete},
        id::ChannelId,
    };
    use prometheus_client::encoding::text;

    use super::*;

    #[tokio::test]
    async fn the_metrics_show_the_commands_the_log_and_the_files() {
        let folder = std::env::temp_dir().join(format!("sf-metrics-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let platform = Platform::default();
        let mut registry = Registry::with_prefix("streamforge");
        platform.register(&mut registry);
        let scrape = || {
            let mut text = String::new();
            text::encode(&mut text, &registry).unwrap();
            text
        };
        let before = scrape();
        assert!(before.contains("\nstreamforge_platform_database_open 0\n"), "{before}");
        assert!(!before.contains("platform_commands"), "{before}");

        platform.open(&folder).await.unwrap();
        let add = |name: &str| accounts::Register {
            name: name.parse().unwrap(),
            email: format!("{name}@example.org").parse().unwrap(),
            password: accounts::PasswordHash("$argon2id$".to_owned()),
        };
        platform.send(Actor::Anonymous, add("ada")).await.unwrap();
        platform.send(Actor::Anonymous, add("ada")).await.unwrap_err();
        let delete = Delete { channel: ChannelId::new(uuid::Uuid::nil()) };
        platform.send(Actor::System, delete).await.unwrap_err();
        let after = scrape();
        for line in [
            "database_open 1",
            "commands_total{result=\"done\"} 1",
            "commands_total{result=\"conflict\"} 1",
            "commands_total{result=\"not_found\"} 1",
            "commands_total{result=\"not_committed\"} 0",
            "commit_duration_seconds_count 1",
            "commit_group_size_sum 1.0",
            "commit_failures_total 0",
            "events_total 1",
            "log_sequence 1",
            "event_streams 0",
            "rebuilding{feature=\"channels\"} 0",
            "rebuild_failed 0",
            "database_file_bytes{file=\"platform.redb\"} ",
            "database_file_bytes{file=\"keys.redb\"} ",
        ] {
            assert!(after.contains(&format!("\nstreamforge_platform_{line}")), "{line}\n{after}");
        }
        platform.close().await;
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

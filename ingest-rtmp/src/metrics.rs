//! Metrics of the server, for Prometheus. Labels have closed sets of values; drops and refusals are
//! counted by reason.

use std::{fmt, sync::atomic::AtomicU64};

use media_core::{BroadcastId, broadcast::Notice};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{audience::Audience, auth::Reason};

/// Counters of one server. Cheap to clone; all clones share the counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Accepted connections, also those that are closed at once because of a limit.
    pub(crate) accepted: Counter,
    /// Closed connections by cause; their sum is `accepted` minus `connections`.
    pub(crate) closed: Family<CauseLabel, Counter>,
    /// Connections that publish.
    pub(crate) publishers: Gauge,
    /// Connections that play.
    pub(crate) players: Gauge,
    /// Players of each broadcast, for the API; a label for each would be unbounded.
    pub(crate) audience: Audience,
    /// Bytes read from peers, without TLS.
    pub(crate) received: Counter,
    /// Bytes written to peers, without TLS.
    pub(crate) sent: Counter,
    /// Published frames by kind of track.
    frames: Family<KindLabel, Counter>,
    /// The video counter of `frames`, without a look-up for each frame.
    pub(crate) video_frames: Counter,
    /// The audio counter of `frames`.
    pub(crate) audio_frames: Counter,
    /// Frames that were not published, by reason.
    dropped: Family<DropLabel, Counter>,
    /// Refused requests and disconnections, by reason.
    refused: Family<ReasonLabel, Counter>,
    /// Corrections of a track's offset by the hub, by reason.
    corrected: Family<CorrectionLabel, Counter>,
    /// Seconds for which publishers were not read, because they led the wall clock.
    pub(crate) paced: Counter<f64, AtomicU64>,
    /// Frames that players skipped because they were slow.
    pub(crate) lagged: Counter,
    /// TLS handshakes of RTMPS by result.
    handshakes: Family<HandshakeLabel, Counter>,
}

/// Why a frame was not published, or a message contained none that could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Drop {
    /// No sequence header preceded it.
    BeforeConfig,
    /// Decoding has not started, and cannot start at this frame.
    BeforeKey,
    /// It is invalid.
    Malformed,
    /// Too many units without a picture.
    NoPicture,
    /// Its message is empty.
    Empty,
    /// It belongs to a second track of its kind.
    OtherTrack,
    /// Its time was declared a gap.
    InGap,
    /// It would have led the wall clock by more than 5 s.
    TooFarAhead,
    /// It waited behind an outage or belongs to a burst, which would otherwise have remained as
    /// latency.
    AfterOutage,
    /// Its sequence header was replaced before the broadcast began.
    Replaced,
    /// Its publisher left, or was refused, before the broadcast began.
    NeverLive,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The peer closed it.
    Peer,
    /// We refused it, or its broadcast ended.
    Refused,
    /// A time limit passed.
    Timeout,
    /// The peer violated the protocol or a limit.
    Protocol,
    /// The socket failed.
    Socket,
    /// Too many connections, in total or from its address; nothing was read.
    Limit,
    /// It was idle, and was closed for another connection.
    Evicted,
    /// The TLS handshake failed.
    Tls,
}

/// Result of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Handshake {
    Done,
    Failed,
    TimedOut,
}

/// Label of closed connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    cause: Cause,
}

/// Label of frames: `video` or `audio`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabel {
    reason: Drop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CorrectionLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabel {
    result: Handshake,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Reason,
}

impl Default for Metrics {
    fn default() -> Self {
        // Both series of frames exist from the start, because rates and alerts need a series that
        // stays.
        let frames = Family::<KindLabel, Counter>::default();
        let of = |kind| frames.get_or_create(&KindLabel { kind }).clone();
        Self {
            video_frames: of("video"),
            audio_frames: of("audio"),
            frames,
            connections: Gauge::default(),
            accepted: Counter::default(),
            closed: Family::default(),
            publishers: Gauge::default(),
            players: Gauge::default(),
            audience: Audience::default(),
            received: Counter::default(),
            sent: Counter::default(),
            dropped: Family::default(),
            refused: Family::default(),
            corrected: Family::default(),
            paced: Counter::default(),
            lagged: Counter::default(),
            handshakes: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry whose prefix is the product's name, for example
    /// `streamforge`.
    pub fn register(&self, registry: &mut Registry) {
        // The encoder appends the unit and `_total`, so neither is part of a name here.
        let registry = registry.sub_registry_with_prefix("rtmp");
        registry.register("connections", "RTMP connections open", self.connections.clone());
        registry.register(
            "accepted_connections",
            "RTMP connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "closed_connections",
            "RTMP connections closed, by cause",
            self.closed.clone(),
        );
        registry.register("publishers", "RTMP publishers connected", self.publishers.clone());
        registry.register("players", "RTMP players connected", self.players.clone());
        registry.register_with_unit(
            "received",
            "Bytes read from RTMP peers",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes written to RTMP peers",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register("frames", "Frames published, by kind", self.frames.clone());
        registry.register(
            "dropped_frames",
            "Frames not published, by reason",
            self.dropped.clone(),
        );
        registry.register(
            "refusals",
            "Peers refused or disconnected, by reason",
            self.refused.clone(),
        );
        registry.register(
            "clock_corrections",
            "Corrections of a track's timestamps, by reason",
            self.corrected.clone(),
        );
        registry.register_with_unit(
            "paced",
            "Time for which publishers were not read, because their media led the wall clock",
            Unit::Seconds,
            self.paced.clone(),
        );
        registry.register(
            "player_lagged_frames",
            "Frames that slow players skipped",
            self.lagged.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes of RTMPS, by result",
            self.handshakes.clone(),
        );
    }

    /// Number of connected publishers.
    pub fn publishers(&self) -> u64 {
        u64::try_from(self.publishers.get()).unwrap_or(0)
    }

    /// Number of RTMP players of a broadcast.
    pub fn viewers(&self, broadcast: BroadcastId) -> u64 {
        self.audience.viewers(broadcast)
    }

    /// Counts a frame that was not published.
    pub(crate) fn drop_frame(&self, reason: Drop) {
        self.dropped.get_or_create(&DropLabel { reason }).inc();
    }

    /// Counts a correction of a track's offset.
    pub(crate) fn correct_clock(&self, notice: Notice) {
        let reason = match notice {
            Notice::Jumped => "jumped",
            Notice::Late => "late",
            Notice::Retimed => "retimed",
        };
        self.corrected.get_or_create(&CorrectionLabel { reason }).inc();
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a closed connection.
    pub(crate) fn close(&self, cause: Cause) {
        self.closed.get_or_create(&CauseLabel { cause }).inc();
    }

    /// Counts the result of a TLS handshake.
    pub(crate) fn shake_hands(&self, result: Handshake) {
        self.handshakes.get_or_create(&HandshakeLabel { result }).inc();
    }

    #[cfg(test)]
    pub(crate) fn dropped(&self, reason: Drop) -> u64 {
        self.dropped.get_or_create(&DropLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn corrected(&self, reason: &'static str) -> u64 {
        self.corrected.get_or_create(&CorrectionLabel { reason }).get()
    }

    #[cfg(test)]
    pub(crate) fn shaken(&self, result: Handshake) -> u64 {
        self.handshakes.get_or_create(&HandshakeLabel { result }).get()
    }

    #[cfg(test)]
    pub(crate) fn closed(&self, cause: Cause) -> u64 {
        self.closed.get_or_create(&CauseLabel { cause }).get()
    }

    #[cfg(test)]
    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        self.refused.get_or_create(&ReasonLabel { reason }).get()
    }
}

/// Counts the events of the connection limit. An eviction is counted when its connection ends.
impl net_core::Events for Metrics {
    fn refused(&self, _limit: net_core::Limit) {
        // Counted as accepted too, so that accepted connections are the sum of open and closed
        // ones.
        self.accepted.inc();
        self.close(Cause::Limit);
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl EncodeLabelValue for Drop {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        // Labels are part of the interface for dashboards, so they are written out and not derived.
        let label = match self {
            Self::BeforeConfig => "before_config",
            Self::BeforeKey => "before_key",
            Self::Malformed => "malformed",
            Self::NoPicture => "no_picture",
            Self::Empty => "empty",
            Self::OtherTrack => "other_track",
            Self::InGap => "in_gap",
            Self::TooFarAhead => "too_far_ahead",
            Self::AfterOutage => "after_outage",
            Self::Replaced => "replaced",
            Self::NeverLive => "never_live",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl Cause {
    /// The label of metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Socket => "socket",
            Self::Limit => "limit",
            Self::Evicted => "evicted",
            Self::Tls => "tls",
        }
    }
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

impl EncodeLabelValue for Handshake {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_base_units_and_closed_labels() {
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("streamforge");
        metrics.register(&mut registry);
        metrics.received.inc_by(7);
        metrics.drop_frame(Drop::BeforeKey);
        metrics.refuse(Reason::Name);
        metrics.paced.inc_by(0.5);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamforge_rtmp_received_bytes_total 7",
            "streamforge_rtmp_frames_total{kind=\"video\"} 0",
            "streamforge_rtmp_dropped_frames_total{reason=\"before_key\"} 1",
            "streamforge_rtmp_paced_seconds_total 0.5",
            "streamforge_rtmp_refusals_total{reason=\"name\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

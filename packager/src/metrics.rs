//! Metrics of the packager. The hub and the origin have their own.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The packager's metrics; clones count into the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Broadcasts that are being packaged.
    pub(crate) broadcasts: Gauge,
    /// Parts made.
    pub(crate) parts: Counter,
    /// Segments completed.
    pub(crate) segments: Counter,
    /// Bytes of parts, container included.
    pub(crate) bytes: Counter,
    /// Segments without media.
    pub(crate) gaps: Counter,
    /// Segments of the source that show a still picture, because its video was silent while audio
    /// went on.
    pub(crate) stills: Counter,
    /// The time from the arrival of the frame that completes a part until the part is listed.
    pub(crate) part_latency: Histogram,
    /// Times that a rendition was listed as a gap because it was too far behind the source.
    pub(crate) renditions_late: Counter,
    pub(crate) audio: Audio,
    /// Bytes that broadcasts hold, for the source's tracks and for renditions.
    window_bytes: Family<Tracks, Gauge>,
    /// Segments dropped before their time to stay within the memory limit: still listed ones, and
    /// ones held for players that had seen them listed.
    window_dropped: Family<Reason, Counter>,
    /// Tasks of broadcasts that have failed.
    pub(crate) failures: Counter,
    /// Frames that are in no part, by reason.
    pub(crate) dropped: Family<Reason, Counter>,
}

/// Repairs that keep audio in step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audio {
    /// Silent access units filled in.
    pub(crate) silence: Counter,
    /// Holes too large to fill.
    pub(crate) leaps: Counter,
}

/// The kind of tracks: `source` or `rendition`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tracks {
    tracks: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let latency = [
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
            0.25, 1.0,
        ];
        Self {
            broadcasts: Gauge::default(),
            parts: Counter::default(),
            segments: Counter::default(),
            bytes: Counter::default(),
            gaps: Counter::default(),
            stills: Counter::default(),
            part_latency: Histogram::new(latency),
            renditions_late: Counter::default(),
            audio: Audio::default(),
            window_bytes: Family::default(),
            window_dropped: Family::default(),
            failures: Counter::default(),
            dropped: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers all metrics. The prefix `streamforge_` is the registry's.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "packaged_broadcasts",
            "Broadcasts being packaged",
            self.broadcasts.clone(),
        );
        registry.register("parts", "Parts made", self.parts.clone());
        registry.register("segments", "Segments completed", self.segments.clone());
        registry.register("gap_segments", "Segments without media", self.gaps.clone());
        let help =
            "Segments that show the last key frame because video was silent while audio went on";
        registry.register("still_segments", help, self.stills.clone());
        registry.register_with_unit("packaged", "Bytes of parts", Unit::Bytes, self.bytes.clone());
        let help = "From the arrival of the frame that completes a part until the part is listed";
        registry.register_with_unit("part_latency", help, Unit::Seconds, self.part_latency.clone());
        registry.register(
            "renditions_late",
            "Times a rendition was listed as a gap because it was too far behind the source",
            self.renditions_late.clone(),
        );
        let help = "Silent access units filled into audio";
        registry.register("audio_silent_access_units", help, self.audio.silence.clone());
        registry.register(
            "audio_leaps",
            "Holes in audio too large to fill",
            self.audio.leaps.clone(),
        );
        let help = "Memory of segments that are listed or held, of the source or of renditions";
        registry.register_with_unit("window", help, Unit::Bytes, self.window_bytes.clone());
        registry.register(
            "window_dropped_segments",
            "Segments that left before their time to stay within live.window_mb: listed, or held",
            self.window_dropped.clone(),
        );
        registry.register(
            "packager_failures",
            "Broadcasts that ended because of a fault of this program",
            self.failures.clone(),
        );
        registry.register(
            "packager_dropped_frames",
            "Frames in no part, by reason",
            self.dropped.clone(),
        );
    }

    /// The gauge of the bytes that all broadcasts hold for `tracks`: `source` or `rendition`.
    pub(crate) fn window_bytes(&self, tracks: &'static str) -> Gauge {
        self.window_bytes.get_or_create(&Tracks { tracks }).clone()
    }

    pub(crate) fn drop_segment(&self, reason: &'static str) {
        self.window_dropped.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn drop_frame(&self, reason: &'static str) {
        self.drop_frames(reason, 1);
    }

    pub(crate) fn drop_frames(&self, reason: &'static str, count: u64) {
        self.dropped.get_or_create(&Reason { reason }).inc_by(count);
    }
}

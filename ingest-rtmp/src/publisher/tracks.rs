//! The tracks of a publisher: their configurations, and whether decoding has started.

use media_core::{
    TrackName,
    codec::{Config, aac, avc},
};

/// The kind of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Video,
    Audio,
}

/// The tracks that have a configuration.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
}

/// One track as the publisher sends it at present.
#[derive(Debug)]
pub(super) struct Track {
    /// The newest configuration that was received.
    pub(super) config: Config,
    /// Whether a frame at which decoding can start has arrived with this configuration. A live
    /// broadcast then has the track in this form.
    pub(super) shown: bool,
    /// Whether frames are dropped until one at which decoding can start.
    pub(super) waits_for_key: bool,
}

impl Tracks {
    /// The place of a track.
    pub(super) fn of(&mut self, kind: Kind) -> &mut Option<Track> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    /// Tracks with a frame, in the order of the broadcast's list.
    pub(super) fn shown(&self) -> impl Iterator<Item = (Kind, &Track)> {
        let video = self.video.iter().map(|track| (Kind::Video, track));
        let audio = self.audio.iter().map(|track| (Kind::Audio, track));
        video.chain(audio).filter(|(_, track)| track.shown)
    }

    /// The video's configuration.
    pub(super) fn avc(&self) -> Option<&avc::Config> {
        match &self.video.as_ref()?.config {
            Config::Avc(avc) => Some(avc),
            Config::Aac(_) => None,
        }
    }

    /// The audio's configuration.
    pub(super) fn aac(&self) -> Option<&aac::Config> {
        match &self.audio.as_ref()?.config {
            Config::Aac(aac) => Some(aac),
            Config::Avc(_) => None,
        }
    }
}

impl Kind {
    /// Its name in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// Its name in a broadcast.
    pub(super) fn track_name(self) -> TrackName {
        match self {
            Self::Video => TrackName::source_video(),
            Self::Audio => TrackName::source_audio(),
        }
    }
}

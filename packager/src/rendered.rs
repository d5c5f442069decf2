//! Texts of a snapshot, rendered and compressed at most once, by the first request that needs them. What they say is `hls`'s
//! and `dash`'s.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    sync::OnceLock,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::{Presentation, dash, hls};

/// The texts of one [`Presentation`], each made on first demand. Boxed: most snapshots are replaced before anybody asks.
#[derive(Debug)]
pub struct Rendered {
    multivariant: OnceLock<Box<Text>>,
    manifest: OnceLock<Box<Text>>,
    plain_manifest: OnceLock<Box<Text>>,
    /// By track.
    media: Box<[Media]>,
}

/// The playlists of a track. `None`: there is no delta update, the whole playlist is the answer.
#[derive(Debug, Default)]
struct Media {
    whole: OnceLock<Box<Text>>,
    delta: OnceLock<Option<Box<Text>>>,
    delta_v2: OnceLock<Option<Box<Text>>>,
}

impl Rendered {
    /// Nothing rendered yet, for a presentation of `tracks` tracks.
    pub fn new(tracks: usize) -> Self {
        Self {
            multivariant: OnceLock::new(),
            manifest: OnceLock::new(),
            plain_manifest: OnceLock::new(),
            media: (0..tracks).map(|_| Media::default()).collect(),
        }
    }
}

/// A text as it goes to players, UTF-8. Cheap to read again: both forms are kept.
#[derive(Debug, Default)]
pub struct Text {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    digest: OnceLock<u64>,
}

impl Text {
    /// The text as it is.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The text for `Content-Encoding: gzip`, compressed on first demand.
    pub fn gzip(&self) -> &Bytes {
        self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.plain.len() / 4), Compression::fast());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            written.expect("writing to memory does not fail").into()
        })
    }

    /// What tells this text from another, for a validator (RFC 9110 8.8.3); the same for the same text in any process of this build.
    pub fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            self.plain.hash(&mut hasher);
            hasher.finish()
        })
    }
}

impl From<String> for Text {
    fn from(plain: String) -> Self {
        Self {
            plain: plain.into(),
            gzip: OnceLock::new(),
            digest: OnceLock::new(),
        }
    }
}

/// Which media playlist is asked for: `_HLS_skip` (RFC 8216bis 6.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// All of it.
    No,
    /// `YES`: a delta update that leaves out older segments.
    Yes,
    /// `v2`: one that leaves out older date ranges too.
    V2,
}

impl Presentation {
    /// `master.m3u8`.
    pub fn multivariant(&self) -> &Text {
        self.rendered
            .multivariant
            .get_or_init(|| boxed(hls::multivariant::render(self)))
    }

    /// `{track}.m3u8`, of the track with this index in [`Presentation::tracks`]. The full playlist where a delta update is not
    /// offered, would leave nothing out, or the broadcast has ended.
    ///
    /// # Panics
    /// If there is no such track.
    pub fn media_playlist(&self, track: usize, skip: Skip) -> &Text {
        let render = |skip| hls::media::render(self, &self.tracks[track], skip).map(boxed);
        let texts = &self.rendered.media[track];
        let whole = || &**texts.whole.get_or_init(|| render(Skip::No).unwrap_or_default());
        let delta = match skip {
            Skip::No => return whole(),
            Skip::Yes => &texts.delta,
            Skip::V2 => &texts.delta_v2,
        };
        delta.get_or_init(|| render(skip)).as_deref().unwrap_or_else(whole)
    }

    /// `manifest.mpd`: DASH with low latency.
    pub fn manifest(&self) -> &Text {
        self.rendered
            .manifest
            .get_or_init(|| boxed(dash::manifest::render(self)))
    }

    /// `plain.mpd`: DASH of whole segments.
    pub fn plain_manifest(&self) -> &Text {
        self.rendered
            .plain_manifest
            .get_or_init(|| boxed(dash::plain::render(self)))
    }
}

fn boxed(text: String) -> Box<Text> {
    Box::new(text.into())
}

#[cfg(test)]
pub(crate) mod example;

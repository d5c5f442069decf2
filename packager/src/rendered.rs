//! Texts of a snapshot, rendered and compressed at most once, by the first request that needs them. What they say is `hls`'s
//! and `dash`'s.

use std::{io::Write, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::Presentation;

/// The texts of one [`Presentation`], each made on first demand.
#[derive(Debug)]
pub struct Rendered {
    multivariant: OnceLock<Text>,
    manifest: OnceLock<Text>,
    plain_manifest: OnceLock<Text>,
    /// By track, by [`Skip`].
    media: Box<[[OnceLock<Text>; 3]]>,
}

impl Rendered {
    /// Nothing rendered yet, for a presentation of `tracks` tracks.
    pub fn new(tracks: usize) -> Self {
        Self {
            multivariant: OnceLock::new(),
            manifest: OnceLock::new(),
            plain_manifest: OnceLock::new(),
            media: (0..tracks).map(|_| Default::default()).collect(),
        }
    }
}

/// A text as it goes to players, UTF-8. Cheap to read again: both forms are kept.
#[derive(Debug)]
pub struct Text {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
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
}

impl From<String> for Text {
    fn from(plain: String) -> Self {
        Self {
            plain: plain.into(),
            gzip: OnceLock::new(),
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
        self.rendered.multivariant.get_or_init(|| String::new().into())
    }

    /// `{track}.m3u8`, of the track with this index in [`Presentation::tracks`]. The full playlist where a delta update is not
    /// offered, leaves nothing out, or the broadcast has ended.
    ///
    /// # Panics
    /// If there is no such track.
    pub fn media_playlist(&self, track: usize, skip: Skip) -> &Text {
        self.rendered.media[track][skip as usize].get_or_init(|| String::new().into())
    }

    /// `manifest.mpd`: DASH with low latency.
    pub fn manifest(&self) -> &Text {
        self.rendered.manifest.get_or_init(|| String::new().into())
    }

    /// `plain.mpd`: DASH of whole segments.
    pub fn plain_manifest(&self) -> &Text {
        self.rendered.plain_manifest.get_or_init(|| String::new().into())
    }
}

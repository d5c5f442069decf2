//! Renders the texts of a presentation, each by the first request that needs it. `hls` and `dash`
//! write them, `rendered` keeps them.

use std::sync::Arc;

use media_core::{TrackIndex, settings::Latency};

use crate::{Presentation, Skip, Text, TextKey, Track, dash, hls};

/// A text that describes more segments than this takes milliseconds to render and compress.
const LONG: usize = 1_024;

impl Presentation {
    /// The text, which is rendered if no request has needed it before.
    ///
    /// # Panics
    /// If there is no such track.
    pub fn text(&self, key: &TextKey) -> &Text {
        let rendered = &self.rendered;
        match key {
            TextKey::Multivariant => rendered.multivariant(|| hls::multivariant::render(self)),
            TextKey::Manifest(site) => rendered.manifest(site, |site| match self.latency {
                Latency::Low => dash::manifest::render(self, site),
                Latency::Standard => dash::plain::render(self, site),
            }),
            TextKey::PlainManifest(site) => {
                rendered.plain_manifest(site, |site| dash::plain::render(self, site))
            }
            TextKey::Playlist { track, skip } => self.media_playlist(*track, *skip),
        }
    }

    /// Whether [`Presentation::text`] would occupy a thread for milliseconds: the text is long, and
    /// has not been rendered, or not compressed if `gzip`.
    pub fn is_slow(&self, key: &TextKey, gzip: bool) -> bool {
        let listed = |track: &Arc<Track>| track.listed().len();
        let described = match key {
            TextKey::Multivariant => return false,
            TextKey::Manifest(_) => self.periods.len() * self.tracks.len(),
            TextKey::PlainManifest(_) => self.tracks.iter().map(listed).sum(),
            TextKey::Playlist { track, skip } => match self.tracks.get(track.get()) {
                None => return false,
                // A delta update is short.
                Some(track) if *skip != Skip::No && hls::media::skips(self, track) => return false,
                Some(track) => listed(track),
            },
        };
        // A text that exists, with its compressed form if that is requested, costs nothing.
        let existing = self.rendered.existing(key);
        described > LONG && existing.is_none_or(|text| !text.is_ready(gzip))
    }

    /// The text of [`TextKey::Playlist`].
    ///
    /// # Panics
    /// If there is no such track.
    pub fn media_playlist(&self, track: TrackIndex, skip: Skip) -> &Text {
        let render = |skip| hls::media::render(self, &self.tracks[track.get()], skip);
        self.rendered.playlist(track, skip, render)
    }
}

#[cfg(test)]
pub(crate) mod example;

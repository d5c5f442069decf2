//! The store of a snapshot's texts: each is rendered and compressed at most once. `renderer` fills
//! it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use media_core::TrackIndex;

/// The number of sites for which a snapshot keeps manifests. A client can invent names, so requests
/// under further names get manifests with a relative address of the clock.
const SITES: usize = 4;
/// How long a site keeps its place after the last request for it, so that invented names cannot
/// take the place of one that viewers use.
const KEPT: Duration = Duration::from_secs(60);

/// Identifies a text that describes a presentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextKey {
    /// `master.m3u8`.
    Multivariant,
    /// `manifest.mpd`: DASH with low latency.
    Manifest(Site),
    /// `plain.mpd`: DASH of whole segments.
    PlainManifest(Site),
    /// `{track}.m3u8`, of the track with this index in the presentation. It is the full playlist if
    /// a delta update is not offered, would leave nothing out, or the broadcast has ended.
    Playlist {
        /// The track's index.
        track: TrackIndex,
        /// Whether a delta update is requested.
        skip: Skip,
    },
}

/// The address at which players reach the daemon: scheme and authority, and a path prefix if there
/// is one, for example `https://live.example.org`. It has no slash at its end, and no character
/// that XML must escape. `None`: not known.
pub type Site = Option<Arc<str>>;

/// The texts of one presentation, each made on first demand. Boxed, because most snapshots are
/// replaced before any request needs a text.
#[derive(Debug)]
pub struct Rendered {
    multivariant: OnceLock<Box<Text>>,
    manifest: Manifests,
    plain_manifest: Manifests,
    /// By track.
    media: Box<[Media]>,
}

/// The playlists of a track. `None`: there is no delta update, the whole playlist takes its place.
#[derive(Debug, Default)]
struct Media {
    whole: OnceLock<Box<Text>>,
    delta: OnceLock<Option<Box<Text>>>,
    delta_v2: OnceLock<Option<Box<Text>>>,
}

/// The texts of a manifest, one for each site whose clock it names. Places are taken in order, and
/// kept.
#[derive(Debug, Default)]
struct Manifests {
    relative: OnceLock<Box<Text>>,
    by_site: [OnceLock<Box<OfSite>>; SITES],
    /// The full table has been logged; once for each broadcast, because any client can fill it.
    is_logged: OnceLock<()>,
}

#[derive(Debug)]
struct OfSite {
    site: Arc<str>,
    /// When it was last requested before this snapshot; `None`: never.
    asked: Option<Instant>,
    text: OnceLock<Text>,
}

impl Manifests {
    /// The text for `site`; if other sites have all places, the text with the relative address.
    fn of(&self, site: &Site, render: impl Fn(Option<&str>) -> String) -> &Text {
        match self.place(site, true) {
            Some(of_site) => of_site.text.get_or_init(|| render(Some(&of_site.site)).into()),
            None => {
                if site.is_some() && self.is_logged.set(()).is_ok() {
                    tracing::warn!(
                        sites = SITES,
                        "players use more addresses than manifests can name the clock by: \
                         set http.public_url"
                    );
                }
                self.relative.get_or_init(|| boxed(render(None)))
            }
        }
    }

    /// Takes over the places of the snapshot `before` whose sites were requested in it, or less
    /// than [`KEPT`] ago.
    fn keep_sites(&self, before: &Self, now: Instant) {
        // The warning is logged once for the broadcast, not once for each snapshot.
        if before.is_logged.get().is_some() {
            let _ = self.is_logged.set(());
        }
        let kept = before.by_site.iter().filter_map(OnceLock::get).filter_map(|place| {
            // A site that was requested in that snapshot counts as requested now.
            let asked = place.asked.filter(|_| place.text.get().is_none()).unwrap_or(now);
            let is_kept = now.saturating_duration_since(asked) < KEPT;
            is_kept.then(|| OfSite {
                site: Arc::clone(&place.site),
                asked: Some(asked),
                text: OnceLock::new(),
            })
        });
        for (place, kept) in self.by_site.iter().zip(kept) {
            // The place is free, because no request has this snapshot yet.
            let _ = place.set(Box::new(kept));
        }
    }

    /// The text that [`Manifests::of`] returns, if it has been rendered.
    fn existing(&self, site: &Site) -> Option<&Text> {
        match self.place(site, false) {
            Some(of_site) => of_site.text.get(),
            None => self.relative.get().map(|text| &**text),
        }
    }

    /// The site's place; a free one if it has none and may `take` one.
    fn place(&self, site: &Site, take: bool) -> Option<&OfSite> {
        let site = site.as_ref()?;
        // Places are taken in order, so the first free one ends the search.
        let places = self.by_site.iter().map_while(|place| match take {
            true => Some(place.get_or_init(|| {
                Box::new(OfSite { site: Arc::clone(site), asked: None, text: OnceLock::new() })
            })),
            false => place.get(),
        });
        places.into_iter().find(|place| place.site == *site).map(|place| &**place)
    }
}

impl Rendered {
    /// Nothing rendered yet, for a presentation of `tracks` tracks.
    pub fn new(tracks: usize) -> Self {
        Self {
            multivariant: OnceLock::new(),
            manifest: Manifests::default(),
            plain_manifest: Manifests::default(),
            media: (0..tracks).map(|_| Media::default()).collect(),
        }
    }

    /// The multivariant playlist. `render` makes it if it does not exist.
    pub(crate) fn multivariant(&self, render: impl FnOnce() -> String) -> &Text {
        self.multivariant.get_or_init(|| boxed(render()))
    }

    /// The low-latency manifest for `site`. `render` makes it if it does not exist.
    pub(crate) fn manifest(&self, site: &Site, render: impl Fn(Option<&str>) -> String) -> &Text {
        self.manifest.of(site, render)
    }

    /// The manifest of whole segments for `site`. `render` makes it if it does not exist.
    pub(crate) fn plain_manifest(
        &self,
        site: &Site,
        render: impl Fn(Option<&str>) -> String,
    ) -> &Text {
        self.plain_manifest.of(site, render)
    }

    /// The playlist of the track with this index. `render` makes it if it does not exist; it
    /// returns `None` if there is no delta update, and the whole playlist takes its place.
    ///
    /// # Panics
    /// If there is no such track.
    pub(crate) fn playlist(
        &self,
        track: TrackIndex,
        skip: Skip,
        render: impl Fn(Skip) -> Option<String>,
    ) -> &Text {
        let render = |skip| render(skip).map(boxed);
        let texts = &self.media[track.get()];
        // Where there is no delta update, the whole playlist is the response (RFC 8216bis 6.2.5.1).
        let whole = || &**texts.whole.get_or_init(|| render(Skip::No).unwrap_or_default());
        let delta = match skip {
            Skip::No => return whole(),
            Skip::Yes => &texts.delta,
            Skip::V2 => &texts.delta_v2,
        };
        delta.get_or_init(|| render(skip)).as_deref().unwrap_or_else(whole)
    }

    /// The text if it has been rendered; of a track's playlist, the whole one. `None` too if there
    /// is no such track.
    pub(crate) fn existing(&self, key: &TextKey) -> Option<&Text> {
        match key {
            TextKey::Multivariant => self.multivariant.get().map(|text| &**text),
            TextKey::Manifest(site) => self.manifest.existing(site),
            TextKey::PlainManifest(site) => self.plain_manifest.existing(site),
            TextKey::Playlist { track, .. } => {
                self.media.get(track.get())?.whole.get().map(|text| &**text)
            }
        }
    }

    /// Keeps places for the sites whose manifests were requested lately, before this snapshot
    /// replaces `before` at `now`.
    pub(crate) fn keep_sites(&self, before: &Self, now: Instant) {
        self.manifest.keep_sites(&before.manifest, now);
        self.plain_manifest.keep_sites(&before.plain_manifest, now);
    }
}

/// A text as players receive it, in UTF-8. Both forms are kept once they are made.
#[derive(Debug, Default)]
pub struct Text {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    digest: OnceLock<u64>,
}

impl Text {
    /// The text without compression.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The text for `Content-Encoding: gzip`, compressed on first demand.
    pub fn gzip(&self) -> &Bytes {
        self.gzip.get_or_init(|| {
            let mut encoder =
                GzEncoder::new(Vec::with_capacity(self.plain.len() / 4), Compression::fast());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            written.expect("writing to memory does not fail").into()
        })
    }

    /// Makes everything that a response needs: the compressed form if `gzip`, and the digest.
    pub fn prepare(&self, gzip: bool) {
        self.digest();
        if gzip {
            self.gzip();
        }
    }

    /// Whether [`Text::prepare`] has nothing left to do.
    pub(crate) fn is_ready(&self, gzip: bool) -> bool {
        self.digest.get().is_some() && (!gzip || self.gzip.get().is_some())
    }

    /// A hash of the text, for a validator (RFC 9110 8.8.3); the same for the same text in any
    /// process of this build.
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
        Self { plain: plain.into(), gzip: OnceLock::new(), digest: OnceLock::new() }
    }
}

/// The form of a media playlist: `_HLS_skip` (RFC 8216bis 6.2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// All of it.
    No,
    /// `YES`: a delta update that leaves out older segments.
    Yes,
    /// `v2`: one that leaves out older date ranges too.
    V2,
}

fn boxed(text: String) -> Box<Text> {
    Box::new(text.into())
}

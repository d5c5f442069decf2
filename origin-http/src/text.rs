//! Texts of a snapshot as responses. A long one is rendered and compressed on a separate thread, so
//! that connection threads are not blocked; a few at a time, and each once.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use http::{HeaderValue, Response, header::VARY};
use http_server::Body;
use media_core::TrackIndex;
use packager::{Presentation, Skip, TextKey};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    conditions::Conditions,
    lookup,
    response::{self, Lifetime},
    site,
};

/// Permits to render long texts: half of the processors at once.
#[derive(Debug)]
pub(crate) struct Renders(Arc<Semaphore>);

impl Default for Renders {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }
}

/// A requested text, and the data on which its response depends.
pub(crate) struct Text {
    /// The snapshot.
    pub(crate) presentation: Arc<Presentation>,
    /// The text to render.
    pub(crate) listing: TextKey,
    /// The request's conditions.
    pub(crate) conditions: Conditions,
    /// The lifetime of the response in caches.
    pub(crate) lifetime: Lifetime,
    /// Whether it depends on the client's address for us.
    pub(crate) varies: bool,
}

impl Text {
    /// A track's media playlist.
    pub(crate) fn playlist(
        presentation: Arc<Presentation>,
        track: TrackIndex,
        skip: Skip,
        conditions: Conditions,
        lifetime: Lifetime,
    ) -> Self {
        // An ended playlist is sent whole: a client loads it once.
        let skip = if presentation.ended { Skip::No } else { skip };
        let listing = TextKey::Playlist { track, skip };
        Self { presentation, listing, conditions, lifetime, varies: false }
    }

    /// Whether it must be rendered, and that takes long.
    pub(crate) fn is_slow(&self) -> bool {
        self.presentation.is_slow(&self.listing, self.conditions.gzip)
    }

    /// The response, after rendering on another thread.
    pub(crate) async fn render(self, renders: &Renders) -> Response<Body> {
        self.prepare(renders).await;
        self.respond()
    }

    /// Renders it on another thread, unless another request has done so meanwhile.
    async fn prepare(&self, renders: &Renders) {
        let Ok(turn) = Arc::clone(&renders.0).acquire_owned().await else {
            return;
        };
        // Another request has rendered it while this one waited for a permit.
        if !self.is_slow() {
            return;
        }
        let (presentation, listing) = (Arc::clone(&self.presentation), self.listing.clone());
        let gzip = self.conditions.gzip;
        let rendered = spawn_blocking(move || {
            presentation.text(&listing).prepare(gzip);
            // It is finished even if the client has left, so that the next request does not start
            // again beside it.
            drop(turn);
        });
        // A panic there is repeated where the response is made.
        let _ = rendered.await;
    }

    /// The response; it is rendered here, if it is not yet.
    pub(crate) fn respond(&self) -> Response<Body> {
        let content_type = match self.listing {
            TextKey::Multivariant | TextKey::Playlist { .. } => response::HLS,
            TextKey::Manifest(_) | TextKey::PlainManifest(_) => response::DASH,
        };
        // A manifest is updated when its first track is: all tracks of a snapshot are in step.
        let track = match self.listing {
            TextKey::Playlist { track, .. } => self.presentation.tracks.get(track.get()),
            _ => self.presentation.tracks.first(),
        };
        let updated = |track| lookup::updated(&self.presentation, track);
        if track.is_some_and(|track| self.conditions.is_modified(|| updated(track))) {
            return response::precondition_failed();
        }
        let text = self.presentation.text(&self.listing);
        let mut response = response::text(&self.conditions, text, content_type, self.lifetime);
        if self.varies {
            let varies = HeaderValue::from_static(site::VARIES);
            response.headers_mut().insert(VARY, varies);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, Method};
    use http_body_util::BodyExt;
    use media_core::{BroadcastId, MediaTime, settings::Latency};
    use packager::Rendered;

    use super::*;
    use crate::{pending::Step, sample};

    /// A broadcast of one track that lists `segments` segments.
    fn listing(segments: usize) -> Arc<Presentation> {
        let track = sample::track("a0", 100, segments, 1, Some(1));
        let second = Duration::from_secs(1);
        Arc::new(Presentation {
            broadcast: BroadcastId::new(SystemTime::UNIX_EPOCH),
            channel: "demo".parse().unwrap(),
            anchor_utc: SystemTime::UNIX_EPOCH,
            ended: false,
            end: MediaTime::ZERO,
            segment: 2 * second,
            part: second / 5,
            window: 86_400 * second,
            target_duration_s: 4,
            latency: Latency::Low,
            part_hold_back: second,
            tracks: vec![Arc::new(track)],
            periods: Arc::default(),
            rendered: Rendered::new(1),
        })
    }

    fn playlist(presentation: &Arc<Presentation>, gzip: bool) -> Text {
        let mut headers = HeaderMap::new();
        if gzip {
            headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
        }
        let conditions = Conditions::of_text(&Method::GET, &headers);
        Text::playlist(
            Arc::clone(presentation),
            TrackIndex::new(0),
            Skip::No,
            conditions,
            Lifetime::NoStore,
        )
    }

    #[tokio::test]
    async fn a_long_text_is_rendered_once_on_another_thread_and_a_short_one_inline() {
        let renders = Renders::default();
        let short = playlist(&listing(30), true);
        assert!(matches!(Step::text(short, &renders, Duration::ZERO), Step::Ready(..)));
        let long = listing(3_000);
        for gzip in [false, true] {
            let step = Step::text(playlist(&long, gzip), &renders, Duration::from_secs(3));
            assert!(matches!(step, Step::Later(_)), "gzip: {gzip}");
            let (response, held) = step.await;
            assert_eq!(held, Duration::from_secs(3));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = long.text(&TextKey::Playlist { track: TrackIndex::new(0), skip: Skip::No });
            assert_eq!(body, if gzip { text.gzip() } else { text.plain() });
            let again = Step::text(playlist(&long, gzip), &renders, Duration::ZERO);
            assert!(matches!(again, Step::Ready(..)));
        }
    }
}

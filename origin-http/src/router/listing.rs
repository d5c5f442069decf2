//! Texts about a channel: playlists and manifests of its present snapshot, and the waits for the
//! first media of a channel and for the part that a playlist request names.
//!
//! RFC 8216bis 6.2.5 (delivery directives) and its appendix B.1 (lifetimes).

use std::{sync::Arc, time::Duration};

use http::{StatusCode, request::Parts};
use http_server::Client;
use media_core::{ChannelName, TrackName};
use packager::{Live, Presentation, Site};

use super::{Router, index};
use crate::{
    conditions::Conditions,
    directives::{self, Directives, Reload},
    pending::{Hold, Step, Then, blocking, hold},
    resource::Listing,
    response::{Lifetime, SOON, refuse},
    site,
    text::Text,
};

/// Limit of the wait of a request for a channel that has just begun and has no media to list.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(15);

impl Router {
    /// A text about a channel. A channel that has just begun has no media to list, so its first
    /// requests wait for them.
    pub(super) fn listing(
        &self,
        head: Parts,
        channel: &ChannelName,
        listing: Listing,
        client: Client,
    ) -> Step<'_> {
        let Some(live) = self.presentations.channel(channel) else {
            return Step::ready(refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON));
        };
        match live.current() {
            Some(presentation) => self.list(&head, live, presentation, listing, client),
            None => Step::Later(Box::pin(async move {
                // The three cases: media have appeared; the broadcast has ended without any; the
                // time is over.
                let (failed, held) = match self.held(FIRST_WAIT, live.first()).await {
                    (Some(Some(presentation)), held) => {
                        let step = self.list(&head, live, presentation, listing, client);
                        let (response, more) = step.await;
                        return (response, held + more);
                    }
                    (Some(None), held) => {
                        (refuse(StatusCode::NOT_FOUND, "no such channel\n", SOON), held)
                    }
                    (None, held) => {
                        let why = "no media yet: the channel has just begun\n";
                        (refuse(StatusCode::SERVICE_UNAVAILABLE, why, SOON), held)
                    }
                };
                (failed, held)
            })),
        }
    }

    /// A text of a snapshot.
    fn list(
        &self,
        head: &Parts,
        live: Arc<Live>,
        presentation: Arc<Presentation>,
        listing: Listing,
        client: Client,
    ) -> Step<'_> {
        self.saw(live.channel(), presentation.target_duration_s, client, head);
        let conditions = Conditions::of_text(&head.method, &head.headers);
        // Half a target duration, at least a second (appendix B.1). Blocking playlist requests have
        // longer ones.
        let lifetime = Lifetime::Seconds((presentation.target_duration_s / 2).max(1));
        let listing = match listing {
            Listing::Multivariant => packager::TextKey::Multivariant,
            Listing::Manifest => packager::TextKey::Manifest(self.site(head, client)),
            Listing::PlainManifest => packager::TextKey::PlainManifest(self.site(head, client)),
            Listing::Playlist(track) => {
                return playlist(self, head, conditions, live, presentation, &track);
            }
        };
        let is_manifest =
            matches!(listing, packager::TextKey::Manifest(_) | packager::TextKey::PlainManifest(_));
        // Without a configured address a manifest depends on the request's own fields.
        let varies = is_manifest && self.public_site.is_none();
        let text = Text { presentation, listing, conditions, lifetime, varies };
        Step::text(text, &self.shared.renders, Duration::ZERO)
    }

    /// The address of the clock in manifests. `None` for a process of this daemon, whose viewers
    /// use other addresses.
    fn site(&self, head: &Parts, client: Client) -> Site {
        match &self.public_site {
            Some(site) => Some(Arc::clone(site)),
            None if client.ours => None,
            None => site::of(head, client.secure),
        }
    }
}

/// A media playlist, at once or when the requested part has appeared.
fn playlist<'a>(
    router: &'a Router,
    head: &Parts,
    conditions: Conditions,
    live: Arc<Live>,
    presentation: Arc<Presentation>,
    track: &TrackName,
) -> Step<'a> {
    let target = presentation.target_duration_s;
    // Lifetimes of the response after success and after failure (appendix B.1).
    let (done, failed) = match directives::is_blocking(head.uri.query()) {
        true => blocking(target),
        false => (Lifetime::Seconds((target / 2).max(1)), Lifetime::Seconds(target)),
    };
    let Some(track) = index(&presentation, track) else {
        return Step::ready(refuse(StatusCode::NOT_FOUND, "no such track\n", failed));
    };
    let bad = |bad: directives::Bad| {
        Step::ready(refuse(StatusCode::BAD_REQUEST, format!("{bad}\n"), failed))
    };
    let directives = match Directives::parse(head.uri.query()) {
        Ok(directives) => directives,
        Err(reason) => return bad(reason),
    };
    // An ended playlist has no further parts, so a blocking request gets its response at once.
    let reload = match presentation.ended {
        true => Ok(Reload::Now),
        false => directives.reload(&presentation.tracks[track.get()]),
    };
    let skip = directives.skip;
    match reload {
        Ok(Reload::Now) => {
            let text = Text::playlist(presentation, track, skip, conditions, done);
            Step::text(text, &router.shared.renders, Duration::ZERO)
        }
        Ok(Reload::Wait(msn, part)) => {
            let then = Then::Playlist { track, skip, conditions };
            let changed = live.changed(track, msn, part, hold(target));
            Step::Hold(Hold::new(&router.shared, changed, target, then))
        }
        Err(reason) => bad(reason),
    }
}

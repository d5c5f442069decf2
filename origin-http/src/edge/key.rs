//! The request to an origin, and the cache key of its response. Pure. Nothing else of a viewer's
//! request is ever forwarded, except its playback token.
//!
//! RFC 8216bis 6.2.5: delivery directives belong to the key, the rest of a query does not; RFC 9110
//! 12.5.5: the key also includes whether a text is compressed.

use std::sync::Arc;

use http::{HeaderValue, request::Parts};
use media_core::{BroadcastId, ChannelName};
use packager::Skip;

use super::budget::Claim;
use crate::{
    directives::{Bad, Directives},
    encoding::accepts_gzip,
    resource::{Fetch, Resource, Subject},
};

/// An object's name at its origin, and in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Path and normalised query.
    pub(super) target: Arc<str>,
    /// Whether the compressed form is requested.
    pub(super) gzip: bool,
    /// Whether the request has a valid playback token, whichever: requests without one, which an
    /// origin may refuse, share no fetch with those that it permits.
    pub(super) under_token: bool,
}

/// One request to an origin.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) key: Key,
    /// How long the response may take, and how long it lasts.
    pub(super) fetch: Fetch,
    /// The part of the memory that it may use.
    pub(super) claim: Claim,
    /// Selects the origin that gets the request first.
    pub(super) scope: Scope,
    /// The playback token of the viewer whose request begins the fetch, as the value of
    /// Authorization. It is no part of the key: the response is for all viewers with a token.
    pub(super) authorization: Option<HeaderValue>,
}

/// Objects of the same scope are at the same origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// Texts and pictures of a channel.
    Channel(ChannelName),
    /// Media of a broadcast.
    Broadcast(BroadcastId),
}

impl Scope {
    /// The channel, if it is known.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Broadcast(_) => None,
        }
    }
}

impl Wanted {
    /// The object that `head` requests; `None` if it is nothing that origins have.
    ///
    /// # Errors
    /// [`Bad`]: the directives are refused here, as every origin would.
    pub(super) fn new(head: &Parts, resource: &Resource) -> Result<Option<Self>, Bad> {
        let Some(mut fetched) = resource.kind().edge else {
            return Ok(None);
        };
        // A broadcast's media are at the origin that made them; a channel's texts may move to
        // another one.
        let scope = match resource.subject() {
            Subject::Channel(channel) => Scope::Channel(channel.clone()),
            Subject::Broadcast(broadcast) => Scope::Broadcast(broadcast),
            Subject::Daemon => return Ok(None),
        };
        let path = head.uri.path();
        // Only media playlists have directives. Without `_HLS_msn` the origin does not hold the
        // request.
        let target = if fetched.fetch == Fetch::Reload {
            let directives = Directives::parse(head.uri.query())?;
            if directives.msn.is_none() {
                fetched.fetch = Fetch::Now;
            }
            with(path, &directives)
        } else {
            path.into()
        };
        let gzip = fetched.text && accepts_gzip(&head.headers);
        Ok(Some(Self {
            key: Key { target, gzip, under_token: false },
            fetch: fetched.fetch,
            claim: fetched.claim,
            scope,
            authorization: None,
        }))
    }

    /// Adds a valid token, for the origin.
    pub(super) fn authorize(&mut self, token: &str) {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        if let Ok(mut value) = value {
            // Not shown in debug output, and not indexed by HTTP/2 (RFC 7541 7.1.3).
            value.set_sensitive(true);
            self.key.under_token = true;
            self.authorization = Some(value);
        }
    }
}

/// The path with its directives in a fixed order and form, so that equal requests have equal keys.
fn with(path: &str, directives: &Directives) -> Arc<str> {
    let mut query = Vec::new();
    if let Some(msn) = directives.msn {
        query.push(format!("_HLS_msn={msn}"));
    }
    if let Some(part) = directives.part {
        query.push(format!("_HLS_part={part}"));
    }
    match directives.skip {
        Skip::No => {}
        Skip::Yes => query.push("_HLS_skip=YES".into()),
        Skip::V2 => query.push("_HLS_skip=v2".into()),
    }
    match query.is_empty() {
        true => path.into(),
        false => format!("{path}?{}", query.join("&")).into(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn key(target: &str, accept: &str) -> Option<(String, bool, Fetch)> {
        let (head, ()) =
            Request::get(target).header("accept-encoding", accept).body(()).unwrap().into_parts();
        let resource = Resource::parse(head.uri.path())?;
        let wanted = Wanted::new(&head, &resource).unwrap()?;
        Some((wanted.key.target.to_string(), wanted.key.gzip, wanted.fetch))
    }

    #[test]
    fn cache_keys_differ_only_by_normalized_directives_and_gzip() {
        const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
        let reload = "/live/demo/v0.m3u8?_HLS_msn=7&_HLS_part=0&_HLS_skip=YES";
        for (target, same) in [
            ("/live/demo/v0.m3u8?token=x&CMCD=y&_HLS_new=1", "/live/demo/v0.m3u8"),
            ("/live/demo/v0.m3u8?_HLS_skip=YES&a=b&_HLS_part=00&_HLS_msn=007", reload),
            ("/live/demo/v0.m3u8?_HLS_skip=v2", "/live/demo/v0.m3u8?_HLS_skip=v2"),
            ("/live/demo/master.m3u8?_HLS_msn=7", "/live/demo/master.m3u8"),
        ] {
            let fetch = if same == reload { Fetch::Reload } else { Fetch::Now };
            assert_eq!(key(target, "gzip"), Some((same.into(), true, fetch)), "{target}");
            assert_eq!(key(target, "br"), Some((same.into(), false, fetch)), "{target}");
        }
        let segment = format!("/media/{ID}/v0/7.m4s");
        assert_eq!(key(&format!("{segment}?x=y"), "gzip"), Some((segment, false, Fetch::Lasting)));
        let part = format!("/media/{ID}/v0/7.1.m4s");
        assert_eq!(key(&part, "gzip"), Some((part, false, Fetch::Part)));
    }

    #[test]
    fn requests_under_different_tokens_have_the_same_key_and_show_no_token() {
        let wanted = |token: Option<&str>| {
            let (head, ()) = Request::get("/live/demo/v0.m3u8").body(()).unwrap().into_parts();
            let resource = Resource::parse(head.uri.path()).unwrap();
            let mut wanted = Wanted::new(&head, &resource).unwrap().unwrap();
            token.into_iter().for_each(|token| wanted.authorize(token));
            wanted
        };
        let (one, two) = (wanted(Some("a.b.c")), wanted(Some("d.e.f")));
        assert_eq!(one.key, two.key);
        assert_ne!(one.key, wanted(None).key);
        assert_eq!(one.authorization.as_ref().unwrap(), "Bearer a.b.c");
        assert!(!format!("{one:?}").contains("a.b.c"), "{one:?}");
    }

    #[test]
    fn paths_that_are_not_media_are_not_fetched() {
        for target in [
            "/api/v1/streams",
            "/watch/demo",
            "/watch/player.js",
            "/time",
            "/metrics",
            "/live/../x",
        ] {
            assert_eq!(key(target, ""), None, "{target}");
        }
    }

    #[test]
    fn invalid_directives_are_refused_before_a_fetch() {
        let (head, ()) =
            Request::get("/live/demo/v0.m3u8?_HLS_part=1").body(()).unwrap().into_parts();
        let resource = Resource::parse(head.uri.path()).unwrap();
        assert_eq!(Wanted::new(&head, &resource).unwrap_err(), Bad::PartAlone);
    }
}

//! The fields of a response for a private presentation: `Cache-Control: private`, and, for edges,
//! the presentation that it belongs to.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION},
    request::Parts,
};
use http_server::Body;
use media_core::{BroadcastId, ChannelName};

use super::{Refused, carried::first_request, claims::Named};
use crate::{
    response::{Lifetime, refuse, value},
    site,
};

/// Tells an edge of ours that the response is for viewers with a token, and of which presentation:
/// the channel and its broadcast, `demo 01890a5d-ac96-774b-bcce-b302099a8057`.
pub(crate) const MARK: HeaderName = HeaderName::from_static("streamforge-private");

/// The mark of a refusal: no channel's name, so that it reveals none.
pub(crate) const REFUSAL: HeaderValue = HeaderValue::from_static("*");

/// The private presentation of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) channel: ChannelName,
    pub(crate) broadcast: Option<BroadcastId>,
}

impl Mark {
    /// The mark of an origin's response, if it has a valid one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(MARK)?.to_str().ok()?;
        let (channel, broadcast) = match text.split_once(' ') {
            Some((channel, broadcast)) => (channel, Some(broadcast.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { channel: channel.parse().ok()?, broadcast })
    }

    /// The presentation, for a check.
    pub(crate) fn named(&self) -> Named<'_> {
        Named { channel: &self.channel, broadcast: self.broadcast }
    }

    fn value(&self) -> HeaderValue {
        match self.broadcast {
            Some(broadcast) => value(format_args!("{} {broadcast}", self.channel)),
            None => value(format_args!("{}", self.channel)),
        }
    }
}

/// The completion of a response for a private presentation.
#[derive(Debug)]
pub(crate) struct Seal {
    mark: Option<HeaderValue>,
    shareable: bool,
}

impl Seal {
    /// The seal of a response for a presentation with this mark. `shareable`: a shared cache may
    /// store it ([`Playback::is_shareable`](super::Playback::is_shareable)). `edge`: the mark is
    /// sent, because an edge asks.
    pub(crate) fn new(shareable: bool, mark: &Mark, edge: bool) -> Self {
        Self { mark: edge.then(|| mark.value()), shareable }
    }

    /// Completes the response.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match &self.mark {
            Some(mark) => drop(headers.insert(MARK, mark.clone())),
            None => drop(headers.remove(MARK)),
        }
        let Some(control) = headers.get(CACHE_CONTROL) else { return };
        // The directives of this server begin with `public` where a response may be stored.
        let (from, to) = match self.shareable {
            true => ("private", "public"),
            false => ("public", "private"),
        };
        let rest = control.to_str().ok().and_then(|control| control.strip_prefix(from));
        if let Some(control) = rest.map(|rest| value(format_args!("{to}{rest}"))) {
            headers.insert(CACHE_CONTROL, control);
        }
    }
}

/// The response to a request that its token does not permit: a redirection to the prefix, if the
/// token is in the query; otherwise 403. Never stored.
pub(crate) fn refusal(head: &Parts, refused: Refused) -> Response<Body> {
    redirection(head).unwrap_or_else(|| {
        let words = format!("{refused}\n");
        let mut response = refuse(StatusCode::FORBIDDEN, words, Lifetime::NoStore);
        if site::is_of_edge(&head.headers) {
            response.headers_mut().insert(MARK, REFUSAL);
        }
        response
    })
}

/// The redirection of a first request to the prefix of its token.
pub(crate) fn redirection(head: &Parts) -> Option<Response<Body>> {
    let address = HeaderValue::try_from(first_request(head)?).ok()?;
    let words = "the token belongs into the path\n";
    let mut response = refuse(StatusCode::TEMPORARY_REDIRECT, words, Lifetime::NoStore);
    response.headers_mut().insert(LOCATION, address);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn a_mark_is_read_as_it_is_written() {
        let channel = || "demo".parse().unwrap();
        for mark in [
            Mark { channel: channel(), broadcast: Some(ID.parse().unwrap()) },
            Mark { channel: channel(), broadcast: None },
        ] {
            let headers = HeaderMap::from_iter([(MARK, mark.value())]);
            assert_eq!(Mark::of(&headers), Some(mark));
        }
        for text in ["", " ", "*", "demo x", "de/mo", "demo "] {
            let headers = HeaderMap::from_iter([(MARK, HeaderValue::from_str(text).unwrap())]);
            assert_eq!(Mark::of(&headers), None, "{text}");
        }
    }

    #[test]
    fn only_a_shareable_response_stays_public_and_no_store_stays_as_it_is() {
        for (shareable, control, expected) in [
            (false, "public, max-age=3", "private, max-age=3"),
            (false, "private, max-age=3", "private, max-age=3"),
            (true, "public, max-age=3, immutable", "public, max-age=3, immutable"),
            (true, "private, max-age=3", "public, max-age=3"),
            (false, "no-store", "no-store"),
            (true, "no-store", "no-store"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(control));
            Seal { mark: None, shareable }.apply(&mut headers);
            assert_eq!(headers[CACHE_CONTROL], expected);
        }
    }
}

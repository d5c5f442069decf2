//! The streams of another process of ours: the previous one, while it drains. They are listed
//! beside those of this process, and DELETE reaches both. The caller of the API provides the
//! transport.

mod theirs;

use std::{collections::BTreeMap, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use serde::Deserialize;

pub(crate) use self::theirs::Theirs;
use crate::streams::{Listed, Streams};

/// Sends requests to the other process, with a time limit, because the client waits.
pub trait Elsewhere: Send + Sync + 'static {
    /// The response of the other API to this request, which has only a method, a path, a query and
    /// the client's Authorization header. `None` if there is none, also after an error of the
    /// transport: this process serves its own streams without the other.
    fn ask(
        &self,
        request: Request<()>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Bytes>>> + Send + '_>>;
}

/// There is no other process.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Elsewhere for Nowhere {
    fn ask(
        &self,
        _: Request<()>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Bytes>>> + Send + '_>> {
        Box::pin(async { None })
    }
}

/// A page of its list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    /// In the order of the channels' names.
    streams: Vec<Theirs>,
    /// Start of its next page; `None` on the last.
    next: Option<String>,
}

/// Sends the same GET request to the other process and parses a successful response. `None` if
/// there is no other process, or its response is no success or cannot be parsed: the streams of
/// this process are listed all the same.
pub(crate) async fn read<T: for<'a> Deserialize<'a>>(
    elsewhere: &dyn Elsewhere,
    uri: &Uri,
) -> Option<T> {
    let answer = elsewhere.ask(request(Method::GET, uri)?).await?;
    let found = answer.status() == StatusCode::OK;
    found.then(|| serde_json::from_slice(answer.body()).ok()).flatten()
}

/// One stream of it.
pub(crate) async fn stream(elsewhere: &dyn Elsewhere, uri: &Uri) -> Option<Listed> {
    read(elsewhere, uri).await.map(|theirs: Theirs| Listed::There(theirs.mark()))
}

/// Sends the same DELETE request to the other process. Returns the status.
pub(crate) async fn end(
    elsewhere: &dyn Elsewhere,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<StatusCode> {
    let mut request = request(Method::DELETE, uri)?;
    // The other process checks the token against its own configuration. No other header is passed
    // on, because preconditions were evaluated here.
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    elsewhere.ask(request).await.map(|answer| answer.status())
}

/// A request with the path and the query of `uri`, without its authority, because it is sent to
/// another process.
fn request(method: Method, uri: &Uri) -> Option<Request<()>> {
    let target = uri.path_and_query()?.as_str();
    Request::builder().method(method).uri(target).body(()).ok()
}

impl Streams {
    /// Merges the page with the same page of the other process. For a channel that both have, this
    /// process wins, because its broadcast is newer and is the one that viewers get.
    pub(crate) fn beside(self, theirs: Page, limit: usize) -> Self {
        // A page has the streams of its process up to its `next`, and no later ones. It may have
        // less than `limit`: broadcasts end while they are listed, and another version may have
        // another limit. So the merged page ends where the first of the two pages ends.
        let end = [self.next, theirs.next].into_iter().flatten().min();
        // Sorted by channel, as both lists are. Streams of this process are inserted last, and
        // replace those of the other under the same name.
        let mut all = BTreeMap::new();
        for stream in theirs.streams {
            // A stream without a channel cannot be placed in the order, so it is left out.
            if let Some(channel) = stream.channel().map(str::to_owned) {
                all.insert(channel, Listed::There(stream.mark()));
            }
        }
        for stream in self.streams {
            let channel = stream.channel().to_owned();
            all.insert(channel, stream);
        }
        all.retain(|channel, _| end.as_ref().is_none_or(|end| channel <= end));
        // The cursor is the last name that was considered: entries beyond the limit are listed by
        // the next page.
        let next = match all.keys().nth(limit - 1) {
            Some(last) if all.len() > limit => Some(last.clone()),
            _ => end,
        };
        Self { streams: all.into_values().take(limit).collect(), next }
    }
}

impl Listed {
    /// The channel's name, by which the list is ordered. Empty if the other process does not name
    /// it.
    fn channel(&self) -> &str {
        match self {
            Self::Here(stream) => &stream.channel,
            Self::There(theirs) => theirs.channel().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn theirs(channels: &str, next: Option<&str>) -> Page {
        let streams = channels.split_whitespace().map(|channel| json!({ "channel": channel }));
        let streams: Vec<Value> = streams.collect();
        serde_json::from_value(json!({ "streams": streams, "next": next })).unwrap()
    }

    /// The same as a page of this process.
    fn ours(channels: &str, next: Option<&str>) -> Streams {
        let Page { streams, next } = theirs(channels, next);
        Streams { streams: streams.into_iter().map(Listed::There).collect(), next }
    }

    #[test]
    fn a_page_of_two_processes_ends_where_the_first_of_their_pages_ends() {
        // The pages of this and the other process with their cursors, and the merged page. The
        // limit is 3. A page with fewer streams and a cursor had broadcasts that ended meanwhile.
        for (here, there, expected) in [
            (("a c", None), ("b", None), ("a b c", None)),
            (("a c", None), ("b d", None), ("a b c", Some("c"))),
            (("a c e", Some("e")), ("b", None), ("a b c", Some("c"))),
            (("a", Some("c")), ("x y z", None), ("a", Some("c"))),
            (("a", Some("c")), ("b x y", Some("y")), ("a b", Some("c"))),
            (("x y z", None), ("b", Some("d")), ("b", Some("d"))),
            (("", Some("c")), ("", None), ("", Some("c"))),
            (("", Some("c")), ("x", None), ("", Some("c"))),
            (("a b c", Some("c")), ("a b c", None), ("a b c", Some("c"))),
        ] {
            let merged = ours(here.0, here.1).beside(theirs(there.0, there.1), 3);
            let channels: Vec<_> = merged.streams.iter().map(Listed::channel).collect();
            assert_eq!(
                (channels.join(" ").as_str(), merged.next.as_deref()),
                expected,
                "{here:?} {there:?}"
            );
        }
    }
}

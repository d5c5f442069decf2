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
        let more = self.next.is_some() || theirs.next.is_some();
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
        // Each page has the first entries of its list, so that the first entries of both are in
        // them.
        let more = more || all.len() > limit;
        // The cursor of the merged page is the last name that it lists: entries of either page
        // beyond the limit are listed by the next page.
        let mut next = None;
        let streams = all.into_iter().take(limit);
        let streams = streams
            .map(|(channel, stream)| {
                next = Some(channel);
                stream
            })
            .collect();
        Self { streams, next: next.filter(|_| more) }
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

//! What another process of ours has: the one that this one follows, while it drains. Its streams are shown beside those that are here, and an
//! administrator's word reaches both. Who asks it is given by whoever makes the API.

use std::{collections::BTreeMap, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::streams::{Listed, Streams};

/// Asks the other process. Within a time: the client waits.
pub trait Elsewhere: Send + Sync + 'static {
    /// What its API answers to this request, which has a path and a query alone; `None` if it is gone, or does not answer.
    fn ask(&self, request: Request<()>) -> Pin<Box<dyn Future<Output = Option<Response<Bytes>>> + Send + '_>>;
}

/// Nobody else has streams.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Elsewhere for Nowhere {
    fn ask(&self, _: Request<()>) -> Pin<Box<dyn Future<Output = Option<Response<Bytes>>> + Send + '_>> {
        Box::pin(async { None })
    }
}

/// A stream as the other process shows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Theirs(Map<String, Value>);

/// A page of its list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    streams: Vec<Theirs>,
    next: Option<String>,
}

impl Theirs {
    fn channel(&self) -> Option<&str> {
        self.0.get("channel")?.as_str()
    }

    /// It is this process that says so: for the other one its streams are its own.
    fn mark(mut self) -> Self {
        self.0.insert("draining".into(), true.into());
        self
    }
}

/// What it answers to the same GET request, if it is what was asked for.
pub(crate) async fn read<T: for<'a> Deserialize<'a>>(elsewhere: &dyn Elsewhere, uri: &Uri) -> Option<T> {
    let answer = elsewhere.ask(request(Method::GET, uri)?).await?;
    let found = answer.status() == StatusCode::OK;
    found.then(|| serde_json::from_slice(answer.body()).ok()).flatten()
}

/// One stream of it.
pub(crate) async fn stream(elsewhere: &dyn Elsewhere, uri: &Uri) -> Option<Listed> {
    read(elsewhere, uri)
        .await
        .map(|theirs: Theirs| Listed::There(theirs.mark()))
}

/// How it answers the same DELETE request.
pub(crate) async fn end(elsewhere: &dyn Elsewhere, uri: &Uri, headers: &HeaderMap) -> Option<StatusCode> {
    let mut request = request(Method::DELETE, uri)?;
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    elsewhere.ask(request).await.map(|answer| answer.status())
}

fn request(method: Method, uri: &Uri) -> Option<Request<()>> {
    let target = uri.path_and_query()?.as_str();
    Request::builder().method(method).uri(target).body(()).ok()
}

impl Streams {
    /// With the same page of the other's list. Of a channel that both have, the one here: it is the newer, and what viewers get.
    pub(crate) fn beside(self, theirs: Page, limit: usize) -> Self {
        let more = self.next.is_some() || theirs.next.is_some();
        let mut all = BTreeMap::new();
        for stream in theirs.streams {
            if let Some(channel) = stream.channel().map(str::to_owned) {
                all.insert(channel, Listed::There(stream.mark()));
            }
        }
        for stream in self.streams {
            let channel = stream.channel().to_owned();
            all.insert(channel, stream);
        }
        // Each page has the first of its list, so that the first of both are in them.
        let more = more || all.len() > limit;
        let mut next = None;
        let streams = all.into_iter().take(limit);
        let streams = streams
            .map(|(channel, stream)| {
                next = Some(channel);
                stream
            })
            .collect();
        Self {
            streams,
            next: next.filter(|_| more),
        }
    }
}

impl Listed {
    fn channel(&self) -> &str {
        match self {
            Self::Here(stream) => &stream.channel,
            Self::There(theirs) => theirs.channel().unwrap_or_default(),
        }
    }
}

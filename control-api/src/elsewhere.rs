//! The streams of another process of ours: the previous one, while it drains. They are listed
//! beside those of this process, and DELETE reaches both. The caller of the API provides the
//! transport.

mod theirs;

use std::{collections::BTreeMap, pin::Pin};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use media_core::ChannelName;
use serde::Deserialize;

pub(crate) use self::theirs::Theirs;
use crate::{
    authentication::PERMITTED,
    problem::{Kind, Problem},
    request_id::{self, RequestId},
    streams::{Listed, Streams, position},
};

/// Sends requests to the other process, with a time limit, because the client waits.
pub trait Elsewhere: Send + Sync + 'static {
    /// The response of the other API to this request, which has only a method, a path, a query, the
    /// client's Authorization header or the mark of a permitted request, and the request's id.
    ///
    /// # Errors
    /// Why there is no response. Only [`NoResponse::Gone`] means that the other process has no
    /// streams.
    fn ask(&self, request: Request<()>) -> PendingResponse<'_>;
}

/// The response of the other process, once it arrives.
pub type PendingResponse<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, NoResponse>> + Send + 'a>>;

/// Why the other process sends no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoResponse {
    /// There is no other process, or it has ended.
    Gone,
    /// It may still run, but the connection to it or its response is faulty.
    Faulty,
    /// It may still run, but has exceeded the time limit.
    Late,
}

/// There is no other process.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Elsewhere for Nowhere {
    fn ask(&self, _: Request<()>) -> PendingResponse<'_> {
        Box::pin(async { Err(NoResponse::Gone) })
    }
}

/// A page of its list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    /// In the order of the channels' names.
    streams: Vec<Theirs>,
    /// Start of its next page, the name of a channel; `None` on the last.
    next: Option<String>,
}

impl Page {
    /// Keeps the streams of the channels that are shown.
    pub(crate) fn retain(&mut self, is_shown: impl Fn(&ChannelName) -> bool) {
        self.streams.retain(|stream| {
            // A name that no channel can have is not one of a private channel.
            let channel = stream.channel().and_then(|channel| channel.parse().ok());
            channel.is_none_or(|channel| is_shown(&channel))
        });
    }
}

/// Sends the same GET request to the other process and parses a successful response. `None` if
/// there is no other process, or it responds with 404. The administrator's token is passed on, for
/// private channels.
///
/// # Errors
/// 502 or 504: the streams of the other process are not known.
async fn read<T: for<'a> Deserialize<'a>>(
    elsewhere: &dyn Elsewhere,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<T>, Problem> {
    let response = match elsewhere.ask(request(Method::GET, uri, headers)).await {
        Ok(response) => response,
        Err(NoResponse::Gone) => return Ok(None),
        Err(cause) => return Err(unknown(cause)),
    };
    match response.status() {
        StatusCode::OK => match serde_json::from_slice(response.body()) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(unknown(NoResponse::Faulty)),
        },
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(unexpected(status)),
    }
}

/// A page of its list, after a channel's name. `None` if there is no other process.
///
/// # Errors
/// See [`read`].
pub(crate) async fn page(
    elsewhere: &dyn Elsewhere,
    limit: usize,
    after: Option<&str>,
    headers: &HeaderMap,
) -> Result<Option<Page>, Problem> {
    // The plain name is the one form of a cursor that every version understands.
    let cursor = after.map(|name| format!("&cursor={name}")).unwrap_or_default();
    let target = format!("/api/v1/streams?limit={limit}{cursor}");
    let uri = Uri::try_from(target).map_err(|_| unknown(NoResponse::Faulty))?;
    let Some(mut page) = read::<Page>(elsewhere, &uri, headers).await? else {
        return Ok(None);
    };
    page.next = page.next.as_deref().map(position).transpose()?;
    Ok(Some(page))
}

/// One stream of it, if it is live there.
///
/// # Errors
/// See [`read`].
pub(crate) async fn stream(
    elsewhere: &dyn Elsewhere,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Listed>, Problem> {
    let stream = read(elsewhere, uri, headers).await?;
    Ok(stream.map(|theirs: Theirs| Listed::There(theirs.mark())))
}

/// The right to a request that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// The administrator's token, which the other process checks against its own configuration.
    Token,
    /// It was checked here: the other process has handed over the accounts.
    Checked,
}

/// Sends the same DELETE request to the other process. Returns whether a broadcast has ended there;
/// otherwise there was none. `private`: whether the channel is private.
///
/// # Errors
/// The broadcast there may continue: 403, because that process has another administrator's token;
/// 502 or 504, because it does not respond as expected.
pub(crate) async fn end(
    elsewhere: &dyn Elsewhere,
    uri: &Uri,
    headers: &HeaderMap,
    right: Right,
    private: bool,
) -> Result<bool, Problem> {
    let mut request = request(Method::DELETE, uri, headers);
    if right == Right::Checked {
        request.headers_mut().remove(header::AUTHORIZATION);
        request.headers_mut().insert(PERMITTED, HeaderValue::from_static("stream.end"));
    }
    match elsewhere.ask(request).await.map(|response| response.status()) {
        Ok(StatusCode::NO_CONTENT) => Ok(true),
        Ok(StatusCode::NOT_FOUND) | Err(NoResponse::Gone) => Ok(false),
        // The token is refused for every channel, but only a broadcast that is live there is a
        // reason to report it. To read it needs no token, unless the channel is private: then a
        // refused token does not show it, and it may be live.
        Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            match stream(elsewhere, uri, headers).await? {
                None if !private => Ok(false),
                None => Err(Problem::new(
                    Kind::Forbidden,
                    "a broadcast of this private channel may continue in the process that drains \
                     since the last upgrade, which has another administrator's token: send the \
                     daemon SIGHUP so that both read the same one, and see the log",
                )),
                Some(_) => Err(Problem::new(
                    Kind::Forbidden,
                    "the broadcast continues in the process that drains since the last upgrade, \
                     which has another administrator's token: send the daemon SIGHUP so that both \
                     read the same one, and see the log",
                )),
            }
        }
        Ok(status) => Err(unexpected(status)),
        Err(cause) => Err(unknown(cause)),
    }
}

/// The problem of a response with another status than the API's.
fn unexpected(status: StatusCode) -> Problem {
    // An even older process may be behind that one, and late.
    unknown(match status {
        StatusCode::GATEWAY_TIMEOUT => NoResponse::Late,
        _ => NoResponse::Faulty,
    })
}

/// The problem of a response that depends on the other process, which does not respond: 504 if it
/// is late, otherwise 502 (RFC 9110 15.6.3, 15.6.5).
fn unknown(cause: NoResponse) -> Problem {
    match cause {
        NoResponse::Late => Problem::new(
            Kind::DrainingLate,
            "the process that drains since the last upgrade, which may have the broadcast, does \
             not respond in time: repeat the request",
        ),
        NoResponse::Faulty | NoResponse::Gone => Problem::new(
            Kind::DrainingFaulty,
            "the process that drains since the last upgrade, which may have the broadcast, does \
             not respond as expected: repeat the request",
        ),
    }
}

/// A request with the path and the query of `uri` and the id of the present request; without an
/// authority, because it is sent to another process. That checks the token against its own
/// configuration; no other header is passed on, because preconditions are evaluated here.
fn request(method: Method, uri: &Uri, headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    if let Some(target) = uri.path_and_query() {
        *request.uri_mut() = target.clone().into();
    }
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        request.headers_mut().insert(header::AUTHORIZATION, token.clone());
    }
    // The logs of both processes have the same id.
    if let Some(id) = RequestId::current().and_then(|id| id.header()) {
        request.headers_mut().insert(request_id::HEADER, id);
    }
    request
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

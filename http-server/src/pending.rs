//! A response in progress, as every protocol awaits it. It does once what all protocols require:
//! refuses requests (`request`), drops the body of a response to HEAD (RFC 9110 9.3.2), and adds
//! Date (6.6.1) and Alt-Svc (RFC 7838 3).

use std::{
    pin::Pin,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALT_SVC, CONNECTION, CONTENT_LENGTH, DATE},
};

use crate::{
    body::{Body, BoxError},
    context::Context,
    date,
    metrics::Reason,
    request,
    service::{Client, PendingResponse, Refusal, Service},
};

/// A response in progress; dropping it cancels the request. Poll it to the end: the request is
/// served by the task that polls.
#[must_use = "nothing is served before it is awaited"]
pub(crate) struct Pending<'a, S: Service> {
    work: Work<'a, S>,
    /// It responds to HEAD (RFC 9110 9.3.2).
    to_head: bool,
    /// The address of HTTP/3, if the response is to name it.
    alt_svc: Option<&'a HeaderValue>,
}

/// The remaining work.
enum Work<'a, S: Service> {
    /// The service forms the response.
    Service(S::Pending<'a>),
    /// The request was refused with this response; `None` after it was taken. Boxed, because it is
    /// rare and larger than the other variant.
    Refused(Option<Box<Response<Body>>>),
}

/// Begins to serve a request of `client`. A request that `request::refusal` refuses never reaches
/// the service's `call`.
pub(crate) fn begin<S, B>(
    context: &Context<S>,
    request: Request<B>,
    client: Client,
) -> Pending<'_, S>
where
    S: Service,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let to_head = request.method() == Method::HEAD;
    let work = match request::refusal(&request, context.config.headers(), client.early) {
        None => Work::Service(context.service.call(request, client)),
        Some(refusal) => {
            // Too Early is no fault of the client: it repeats the request after the handshake (RFC
            // 8470 5.2).
            if refusal.status != StatusCode::TOO_EARLY {
                context.metrics.refuse(Reason::Malformed);
            }
            let (head, _) = request.into_parts();
            let mut response = context.service.refuse(refusal, client, Some(&head));
            // The bytes after an ambiguous request may be read in two ways, too.
            if refusal.status == StatusCode::BAD_REQUEST && head.version <= Version::HTTP_11 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Work::Refused(Some(Box::new(response)))
        }
    };
    Pending { work, to_head, alt_svc: context.alt_svc(client.secure) }
}

/// The response to a request of `client` that is refused without its head, for example because the
/// connection is ending.
pub(crate) fn refuse<S: Service>(
    context: &Context<S>,
    refusal: Refusal,
    client: Client,
) -> Response<Body> {
    let mut response = context.service.refuse(refusal, client, None);
    add_fields(&mut response, context.alt_svc(client.secure));
    response
}

impl<S: Service> PendingResponse for Pending<'_, S> {
    fn poll_request_end(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match &mut self.work {
            Work::Service(pending) => pending.poll_request_end(cx),
            Work::Refused(_) => Poll::Ready(()),
        }
    }
}

impl<S: Service> Future for Pending<'_, S> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Response<Body>> {
        let this = &mut *self;
        let mut response = match &mut this.work {
            Work::Service(pending) => ready!(Pin::new(pending).poll(cx)),
            Work::Refused(refused) => match refused.take() {
                Some(response) => *response,
                None => return Poll::Pending,
            },
        };
        if this.to_head {
            drop_body(&mut response);
        }
        add_fields(&mut response, this.alt_svc);
        Poll::Ready(response)
    }
}

/// Adds the fields of the connection.
fn add_fields(response: &mut Response<Body>, alt_svc: Option<&HeaderValue>) {
    let headers = response.headers_mut();
    // An edge passes on the origin's Date: the Age of the response counts from it.
    headers.entry(DATE).or_insert_with(date::value);
    if let Some(alt_svc) = alt_svc {
        headers.insert(ALT_SVC, alt_svc.clone());
    }
}

/// Makes a response one to HEAD: its fields, its length, no body. Source: RFC 9110 9.3.2 and 8.6
/// (Content-Length).
fn drop_body(response: &mut Response<Body>) {
    let status = response.status();
    let has_length = !status.is_informational()
        && !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    // A service that has dropped the body itself has stated the length.
    if has_length
        && let Some(len) = response.body().len()
        && (len > 0 || !response.headers().contains_key(CONTENT_LENGTH))
    {
        response.headers_mut().insert(CONTENT_LENGTH, len.into());
    }
    response.body_mut().clear();
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http::request::Parts;
    use http_body_util::Empty;

    use super::*;
    use crate::testing;

    /// Responds with `text`, and with the Date of `x-date`. Counts its calls.
    #[derive(Default)]
    struct Text(AtomicUsize);

    impl PendingResponse for Ready<Response<Body>> {
        fn poll_request_end(&mut self, _: &mut task::Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    impl Service for Text {
        type Pending<'a> = Ready<Response<Body>>;

        fn call<B>(&self, request: Request<B>, _: Client) -> Self::Pending<'_> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let mut response = Response::new(Body::from("text"));
            if let Some(date) = request.headers().get("x-date") {
                response.headers_mut().insert(DATE, date.clone());
            }
            ready(response)
        }

        fn refuse(&self, refusal: Refusal, _: Client, head: Option<&Parts>) -> Response<Body> {
            let mut response = Response::new(Body::from(refusal.reason));
            *response.status_mut() = refusal.status;
            assert!(head.is_some());
            response
        }
    }

    async fn respond(
        method: Method,
        fields: &[(&str, &str)],
        secure: bool,
        early: bool,
    ) -> Response<Body> {
        respond_counted(method, fields, secure, early).await.0
    }

    /// Returns also the number of calls of the service.
    async fn respond_counted(
        method: Method,
        fields: &[(&str, &str)],
        secure: bool,
        early: bool,
    ) -> (Response<Body>, usize) {
        let mut context = testing::context(Text::default());
        context.alt_svc = Some(HeaderValue::from_static("h3"));
        let mut request = Request::builder().method(method).uri("/").header("host", "origin");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let client = context.client(SocketAddr::from(([192, 0, 2, 1], 1)), secure, early);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = begin(&context, request, client).await;
        (response, context.service.0.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn every_response_has_a_date_and_over_tls_an_alt_svc_field() {
        for (method, status) in [(Method::GET, 200), (Method::HEAD, 200), (Method::DELETE, 425)] {
            let response = respond(method, &[], true, true).await;
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[DATE].len(), 29);
            assert_eq!(response.headers()[ALT_SVC], "h3");
        }
        let response = respond(Method::GET, &[("x-date", "before")], false, false).await;
        assert_eq!(response.headers()[DATE], "before");
        assert!(!response.headers().contains_key(ALT_SVC));
    }

    #[tokio::test]
    async fn ambiguous_requests_get_400_and_early_unsafe_requests_425() {
        let ambiguous = [("host", "other")];
        let (ambiguous, calls) = respond_counted(Method::GET, &ambiguous, false, false).await;
        assert_eq!((ambiguous.status(), calls), (StatusCode::BAD_REQUEST, 0));
        assert_eq!(ambiguous.headers()[CONNECTION], "close");
        for (method, expected) in [(Method::GET, (200, 1)), (Method::POST, (425, 0))] {
            let marked = [("early-data", "1")];
            let (response, calls) = respond_counted(method, &marked, false, false).await;
            assert_eq!((response.status().as_u16(), calls), expected);
            assert!(!response.headers().contains_key(CONNECTION));
        }
    }

    fn dropped(mut response: Response<Body>) -> (Option<String>, bool) {
        drop_body(&mut response);
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.map(|length| length.to_str().unwrap().to_owned());
        (length, response.body().is_empty())
    }

    #[test]
    fn a_response_to_head_has_the_content_length_of_the_dropped_body() {
        let response = |status: u16, body: &'static str| {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        assert_eq!(dropped(response(200, "text")), (Some("4".into()), true));
        assert_eq!(dropped(response(200, "")), (Some("0".into()), true));
        assert_eq!(dropped(response(304, "")), (None, true));
        assert_eq!(dropped(response(204, "")), (None, true));
        // Without a body, a stated length is that of the body that was dropped before.
        let mut stated = response(200, "");
        stated.headers_mut().insert(CONTENT_LENGTH, 9.into());
        assert_eq!(dropped(stated), (Some("9".into()), true));
        let mut other = response(206, "text");
        other.headers_mut().insert(CONTENT_LENGTH, 9.into());
        assert_eq!(dropped(other), (Some("4".into()), true));
    }
}

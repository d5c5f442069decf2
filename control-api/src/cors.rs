//! The pages of other origins that may use the API (the Fetch standard's CORS protocol). Unlike
//! media, which every page may read by default, the API is open to listed origins only.

use std::sync::{Arc, PoisonError, RwLock};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use serde::Deserialize;

/// Maximum number of origins: each request is compared with all of them.
const MAX_ORIGINS: usize = 64;
/// Methods of the API.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// Headers that a page may send.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
     sf-sequence, x-csrf-token, x-request-id",
);
/// Headers that a page may read, besides those that it always may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag, location, ratelimit, ratelimit-policy, retry-after, sf-sequence, x-request-id",
);

/// Origins as browsers send them, such as `https://studio.example`; or `*`, which permits all, but
/// without credentials. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Origins {
    any: bool,
    listed: Vec<HeaderValue>,
}

/// The list of origins is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigins {
    /// There are more than 64.
    #[error("{0} origins are listed, 64 are the maximum")]
    TooMany(usize),
    /// This entry is no origin.
    #[error(
        "{0:?} is no origin as browsers send it, such as \"https://studio.example\" or \
         \"http://localhost:3000\": scheme and host in lower case, no default port, no path; \
         \"*\" must be the only entry"
    )]
    NotAnOrigin(String),
}

impl TryFrom<Vec<String>> for Origins {
    type Error = InvalidOrigins;

    fn try_from(origins: Vec<String>) -> Result<Self, InvalidOrigins> {
        if origins == ["*"] {
            return Ok(Self { any: true, listed: Vec::new() });
        }
        if origins.len() > MAX_ORIGINS {
            return Err(InvalidOrigins::TooMany(origins.len()));
        }
        let listed = origins.into_iter().map(|origin| {
            let value = HeaderValue::from_str(&origin).ok().filter(|_| is_origin(&origin));
            value.ok_or(InvalidOrigins::NotAnOrigin(origin))
        });
        Ok(Self { any: false, listed: listed.collect::<Result<_, _>>()? })
    }
}

/// Whether it is an origin as browsers serialise it (RFC 6454 6.2), because any other text would
/// never match.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let parsed = Uri::try_from(text).ok().and_then(|uri| uri.into_parts().authority);
    parsed.is_some_and(|parsed| parsed.as_str() == authority)
        && !authority.bytes().any(|byte| byte.is_ascii_uppercase() || b"*@".contains(&byte))
        && !authority.ends_with(':')
        && !authority.ends_with(default_port)
}

/// The origins in force, which can be replaced. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Cors(Arc<RwLock<Arc<Origins>>>);

impl Cors {
    /// These origins may use the API.
    pub fn new(origins: Origins) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(origins))))
    }

    /// Replaces the origins.
    pub fn set(&self, origins: Origins) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(origins);
    }

    fn origins(&self) -> Arc<Origins> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Middleware: responds to preflights, and permits pages of the origins to read other responses.
///
/// Source: Fetch, "HTTP CORS protocol".
pub async fn share(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origins = cors.origins();
    let granted = granted(&origins, request.headers());
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    // A plain OPTIONS is for the route, whose response has Allow.
    let mut response = match preflight {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    // The response depends on the request's Origin, also if it permits none: a cache must keep the
    // two apart (Fetch, "CORS protocol and HTTP caches").
    if !origins.any && !origins.listed.is_empty() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    let Some(origin) = granted else {
        return response;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if !origins.any {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    } else {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

/// The value of Access-Control-Allow-Origin, if the page of this request is permitted.
fn granted(origins: &Origins, request: &HeaderMap) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    match origins.any {
        true => Some(HeaderValue::from_static("*")),
        false => origins.listed.iter().find(|listed| *listed == origin).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    fn origins(list: &[&str]) -> Result<Origins, InvalidOrigins> {
        list.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>().try_into()
    }

    async fn send(cors: &Cors, method: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = Router::new()
            .route("/", get(|| async { "read" }))
            .layer(from_fn_with_state(cors.clone(), share));
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[test]
    fn only_origins_in_the_form_of_browsers_are_accepted() {
        for good in ["https://a.example", "http://localhost:3000", "https://[2001:db8::1]:8443"] {
            assert!(origins(&[good]).is_ok(), "{good}");
        }
        for bad in [
            "",
            "null",
            "a.example",
            "https://",
            "https://a/",
            "https://a/x",
            "https://A.example",
            "HTTPS://a",
            "https://a:443",
            "http://a:80",
            "https://a:",
            "https://*.a",
            "ftp://a",
            "https://u@a",
            "https://a\n",
            "https://a?x",
        ] {
            assert!(origins(&[bad]).is_err(), "{bad}");
        }
        assert!(origins(&["*", "https://a"]).is_err());
        assert_eq!(origins(&["https://a"; 65]), Err(InvalidOrigins::TooMany(65)));
    }

    #[tokio::test]
    async fn a_preflight_of_a_listed_origin_is_granted_with_the_headers_of_the_api() {
        let cors = Cors::new(origins(&["https://a", "https://b"]).unwrap());
        let preflight = [
            ("origin", "https://b"),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,idempotency-key,if-match"),
        ];
        let response = send(&cors, "OPTIONS", &preflight).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let headers = response.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://b");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let allowed = headers[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        for name in ["authorization", "content-type", "idempotency-key", "if-match"] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "{name}");
        }
        let methods = headers[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap();
        assert!(methods.contains("PATCH") && methods.contains("DELETE"));
        assert_eq!(headers[VARY], "origin");
        let other = [("origin", "https://c"), preflight[1]];
        let response = send(&cors, "OPTIONS", &other).await;
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[tokio::test]
    async fn responses_are_shared_with_listed_origins_only() {
        let cors = Cors::default();
        let read = async |origin: &str| {
            let response = send(&cors, "GET", &[("origin", origin)]).await;
            assert_eq!(response.status(), StatusCode::OK);
            let text = |name| {
                let value: Option<&HeaderValue> = response.headers().get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            };
            let exposed = text(ACCESS_CONTROL_EXPOSE_HEADERS);
            assert_eq!(exposed.is_some(), text(ACCESS_CONTROL_ALLOW_ORIGIN).is_some());
            (text(ACCESS_CONTROL_ALLOW_ORIGIN), text(ACCESS_CONTROL_ALLOW_CREDENTIALS), text(VARY))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("https://a").await, (None, None, None));
        cors.set(origins(&["https://a"]).unwrap());
        assert_eq!(read("https://a").await, (some("https://a"), some("true"), some("origin")));
        assert_eq!(read("https://a.b").await, (None, None, some("origin")));
        assert_eq!(read("null").await, (None, None, some("origin")));
        cors.set(origins(&["*"]).unwrap());
        assert_eq!(read("https://c").await, (some("*"), None, None), "without credentials");
        // A plain OPTIONS is not a preflight.
        assert_eq!(send(&cors, "OPTIONS", &[("origin", "https://a")]).await.status(), 405);
    }
}

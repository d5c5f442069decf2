//! `/api/docs`: a viewer of the API's description, Swagger UI, from this program and no other host.
//! `problems`: the pages of its errors.
//!
//! The program holds the viewer's files compressed (`build.rs`). A client that does not accept gzip
//! gets them decompressed, which is rare and bounded by the rate limit.

mod problems;

use std::io::Read;

use axum::{
    Router,
    body::Bytes,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};

use crate::{
    precondition::ETag,
    problem::{Kind, Problem},
};

/// The policy of the page: scripts, styles and requests of this server only. Swagger UI has its
/// icons as `data:` URLs in its style sheet.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A compressed file of the viewer.
#[derive(Clone, Copy)]
struct File {
    content_type: &'static str,
    gzip: &'static [u8],
}

/// The viewer.
const SCRIPT: File = File {
    content_type: "text/javascript; charset=utf-8",
    gzip: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")),
};
/// Its styles.
const STYLES: File = File {
    content_type: "text/css; charset=utf-8",
    gzip: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")),
};

/// The routes of the viewer, and of the pages of problems.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let text = |content_type, text: &'static str| {
        let fields = [
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        get(move || async move { (fields, text) })
    };
    let file = |file: File| get(move |headers: HeaderMap| async move { file.respond(&headers) });
    problems::routes()
        .route("/api/docs", get(page))
        .route("/api/docs/", get(page))
        .route("/api/docs/swagger-ui-bundle.js", file(SCRIPT))
        .route("/api/docs/swagger-ui.css", file(STYLES))
        .route(
            "/api/docs/start.js",
            text("text/javascript; charset=utf-8", include_str!("documentation/start.js")),
        )
        // The licences must accompany the copy.
        .route(
            "/api/docs/LICENSE.txt",
            text("text/plain; charset=utf-8", include_str!("../../web/swagger-ui/LICENSE")),
        )
        .route(
            "/api/docs/swagger-ui-bundle.js.LICENSE.txt",
            text(
                "text/plain; charset=utf-8",
                include_str!("../../web/swagger-ui/swagger-ui-bundle.js.LICENSE.txt"),
            ),
        )
        .route(
            "/api/docs/NOTICE.txt",
            text("text/plain; charset=utf-8", include_str!("../../web/swagger-ui/NOTICE")),
        )
}

/// The page.
async fn page() -> Response {
    let fields = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (fields, Html(include_str!("documentation/page.html"))).into_response()
}

impl File {
    /// The response with this file, which a cache revalidates each time.
    fn respond(self, request: &HeaderMap) -> Response {
        let encoded = accepts_gzip(request);
        let body = match encoded {
            true => Bytes::from_static(self.gzip),
            false => {
                let mut bytes = Vec::new();
                match GzDecoder::new(self.gzip).read_to_end(&mut bytes) {
                    Ok(_) => bytes.into(),
                    Err(_) => {
                        let words = "the file in this program is damaged";
                        return Problem::new(Kind::Internal, words).into_response();
                    }
                }
            }
        };
        let fields = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        let mut response = (fields, body).into_response();
        // The two forms have tags of their own (RFC 9110 8.8.3). The end of a gzip file is the
        // checksum and the length of its content (RFC 1952 2.3.1).
        let (_, trailer) = self.gzip.split_at(self.gzip.len().saturating_sub(8));
        let tag = ETag::of_bytes(&[trailer, &[u8::from(encoded)]].concat());
        response.headers_mut().extend(tag.header());
        if encoded {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
        }
        response
    }
}

/// Whether a client accepts gzip (RFC 9110 12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    let lines = request.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or(part.strip_prefix("Q="));
            weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
        });
        named && !refused
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn read(path: &str, encoding: Option<&str>) -> (HeaderMap, Bytes) {
        let mut request = Request::get(path);
        if let Some(encoding) = encoding {
            request = request.header(header::ACCEPT_ENCODING, encoding);
        }
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = routes::<()>().oneshot(request).await.unwrap().into_parts();
        assert_eq!(head.status, 200, "{path}");
        (head.headers, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn the_page_and_its_script_name_only_files_that_are_served_here() {
        let (headers, page) = read("/api/docs", None).await;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let (_, start) = read("/api/docs/start.js", None).await;
        let text = String::from_utf8([&page[..], &start[..]].concat()).unwrap();
        assert!(!text.contains("://"), "no foreign host: {text}");
        assert!(!text.contains("<style") && !text.contains(" style="), "{text}");
        let names: Vec<&str> = ["src=\"", "href=\""]
            .into_iter()
            .flat_map(|start| text.split(start).skip(1).filter_map(|rest| rest.split('"').next()))
            // The description itself is served elsewhere.
            .filter(|name| !name.starts_with("data:") && *name != "/api/v1/openapi.json")
            .collect();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            read(name, None).await;
        }
    }

    #[tokio::test]
    async fn a_file_is_the_same_with_and_without_gzip_under_two_tags() {
        for (path, file) in [
            ("/api/docs/swagger-ui-bundle.js", "swagger-ui-bundle.js"),
            ("/api/docs/swagger-ui.css", "swagger-ui.css"),
        ] {
            let vendored = std::fs::read(format!("../web/swagger-ui/{file}")).unwrap();
            let (plain, body) = read(path, None).await;
            assert!(body == vendored && !plain.contains_key(header::CONTENT_ENCODING));
            let (gzip, body) = read(path, Some("br, gzip;q=0.8")).await;
            assert_eq!(gzip[header::CONTENT_ENCODING], "gzip");
            let mut decoded = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut decoded).unwrap();
            assert!(decoded == vendored && body.len() < vendored.len() / 3);
            assert_ne!(plain[header::ETAG], gzip[header::ETAG]);
            assert_eq!(plain[header::CONTENT_TYPE], gzip[header::CONTENT_TYPE]);
        }
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for (given, expected) in [
            ("gzip", true),
            ("br, GZIP", true),
            ("gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, given.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{given}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}

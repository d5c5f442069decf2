//! The pages at the `type` URIs of problems: `/problems/{name}`, and a list of them at
//! `/problems/`.

use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header};

use crate::problem::{Kind, Problem, Row};

/// The routes of the pages.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/problems", get(index))
        .route("/problems/", get(index))
        .route("/problems/{name}", get(page))
}

/// The list of all problems.
async fn index() -> Response {
    let item = |kind: Kind| {
        let Row { name, status, title, .. } = kind.row();
        let status = status.as_u16();
        format!("<li>{status} <a href=\"/problems/{name}\">{name}</a>: {title}</li>\n")
    };
    let items: String = Kind::ALL.into_iter().map(item).collect();
    document("Problems of the API", &format!("<ul>\n{items}</ul>\n"))
}

/// The page of one problem.
async fn page(Path(name): Path<String>) -> Result<Response, Problem> {
    let Some(kind) = Kind::named(&name) else {
        let words = "no problem of the API has this name; /problems/ lists all of them";
        return Err(Problem::new(Kind::NotFound, words));
    };
    let Row { name, status, title, cause, remedy } = kind.row();
    let status = status.as_u16();
    let content = format!(
        "<dl>\n<dt>Type</dt><dd><code>/problems/{name}</code></dd>\n\
         <dt>Status</dt><dd>{status}</dd>\n<dt>Cause</dt><dd>{cause}</dd>\n\
         <dt>Remedy</dt><dd>{remedy}</dd>\n</dl>\n\
         <p><a href=\"/problems/\">All problems</a>, <a href=\"/api/docs\">description of the \
         API</a></p>\n"
    );
    Ok(document(title, &content))
}

/// A page without styles and scripts. The texts are those of the table, which has no character
/// that HTML reserves.
fn document(title: &str, content: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n{content}</html>\n"
    );
    // They change only with the program.
    let cached = [(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"))];
    (cached, Html(page)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = routes::<()>().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_problem_has_a_page_with_its_cause_and_remedy() {
        let (_, index) = get("/problems/").await;
        for kind in Kind::ALL {
            let (status, page) = get(&kind.uri()).await;
            let row = kind.row();
            assert_eq!(status, 200, "{kind:?}");
            for text in [row.title, row.cause, row.remedy, &kind.uri()] {
                assert!(page.contains(text), "{kind:?}: {text}");
                assert!(!text.contains(['<', '>', '&', '"']), "{kind:?}: {text}");
            }
            assert!(index.contains(&format!("href=\"{}\"", kind.uri())), "{kind:?}");
        }
        assert_eq!(get("/problems/none").await.0, 404);
    }
}

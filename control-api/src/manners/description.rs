//! The manners in the OpenAPI document: the headers and the problems of every operation.

use utoipa::openapi::{
    HeaderBuilder, OpenApi, Ref, RefOr,
    path::Operation,
    schema::{ObjectBuilder, Type},
};

use crate::problem;

/// The headers of responses, their schemas' types, and their descriptions. They are declared once,
/// and the responses refer to them.
const HEADERS: [(&str, Type, &str); 4] = [
    ("X-Request-Id", Type::String, "The id of the request, as in the daemon's log."),
    ("RateLimit-Policy", Type::String, "The limits of the rate of requests: name, quota, seconds."),
    ("RateLimit", Type::String, "The rest of each: name, requests, seconds until it is whole."),
    ("Retry-After", Type::Integer, "Seconds after which the request may be repeated."),
];
/// The statuses that have Retry-After.
const RETRY: [&str; 2] = ["429", "503"];

/// Adds the headers and the common problems to all operations.
pub(crate) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, kind, description) in HEADERS {
        let schema = ObjectBuilder::new().schema_type(kind);
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
        components.headers.insert(name.to_owned(), RefOr::T(header.build()));
    }
    for item in document.paths.paths.values_mut() {
        let reads = [&mut item.get, &mut item.head];
        let writes = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in reads.into_iter().chain(writes).flatten() {
            problem::common(operation);
            refer(operation);
        }
    }
}

/// Refers to the headers in the responses of an operation.
fn refer(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        for (name, ..) in HEADERS {
            if name == "Retry-After" && !RETRY.contains(&status.as_str()) {
                continue;
            }
            let reference = Ref::new(format!("#/components/headers/{name}"));
            response.headers.insert(name.to_owned(), RefOr::Ref(reference));
        }
    }
}

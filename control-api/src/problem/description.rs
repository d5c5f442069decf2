//! Problems in the OpenAPI document: the responses of an operation name the types that it may have.

use std::collections::BTreeMap;

use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
    path::Operation,
    schema::{AllOfBuilder, ObjectBuilder, Type},
};

use super::Kind;

/// Declares a type that stands for these problems in the `responses` of an operation.
macro_rules! problems {
    ($(#[$attribute:meta])* $name:ident: $($kind:ident),+ $(,)?) => {
        $(#[$attribute])*
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                crate::problem::responses(&[$(crate::problem::Kind::$kind),+])
            }
        }
    };
}
pub(crate) use problems;

/// The responses with problems of these kinds, one for each status.
pub(crate) fn responses(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.row().status.as_str().to_owned()).or_default().push(*kind);
    }
    let response = |(status, kinds): (String, Vec<Kind>)| (status, response(&kinds).into());
    by_status.into_iter().map(response).collect()
}

/// The response of one status, whose `type` is one of `kinds`.
fn response(kinds: &[Kind]) -> Response {
    let lines = kinds.iter().map(|kind| format!("`{}`: {}", kind.uri(), kind.row().cause));
    let uris: Vec<String> = kinds.iter().map(|kind| kind.uri()).collect();
    let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(uris));
    let named = ObjectBuilder::new().schema_type(Type::Object).property("type", kind);
    let schema = AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(named);
    let content = ContentBuilder::new().schema(Some(Schema::AllOf(schema.build()))).build();
    ResponseBuilder::new()
        .description(lines.collect::<Vec<_>>().join(" "))
        .content("application/problem+json", content)
        .build()
}

/// Adds the problems that this operation may have as every one, or as every one with a body.
pub(crate) fn common(operation: &mut Operation) {
    add(operation, &[Kind::RateLimited, Kind::Unavailable, Kind::TimedOut]);
    if operation.request_body.is_some() {
        add(operation, &[Kind::BodyTooSlow, Kind::BodyTooLarge, Kind::UnsupportedMediaType]);
    }
}

/// Adds the responses that the operation does not declare itself.
fn add(operation: &mut Operation, kinds: &[Kind]) {
    for (status, response) in responses(kinds) {
        operation.responses.responses.entry(status).or_insert(response);
    }
}

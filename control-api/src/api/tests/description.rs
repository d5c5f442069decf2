//! The description in OpenAPI, and the responses that it describes.

use super::*;

/// The members that OpenAPI 3.1.0 requires of the objects in the description.
#[tokio::test]
async fn the_openapi_description_is_valid() {
    assert_valid(&document().await);
    let members = super::members::Members::new("description").await;
    let (_, document) = members.get("", "/api/v1/openapi.json").await;
    assert!(document["paths"].get("/api/v1/sessions").is_some(), "{document}");
    assert_valid(&document);
}

pub(super) fn assert_valid(document: &Value) {
    let text = |value: &Value, at: &str| {
        let text = value.as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{at}: {value}");
    };
    text(&document["openapi"], "openapi");
    text(&document["info"]["title"], "info.title");
    text(&document["info"]["version"], "info.version");
    // A license has a name, and an identifier or a URL but not both (4.8.4).
    if let Some(license) = document["info"].get("license") {
        text(&license["name"], "info.license.name");
        assert!(license.get("identifier").is_none() || license.get("url").is_none());
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/'));
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            text(&operation["operationId"], &at);
            let mut placed = Vec::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                text(&parameter["name"], &at);
                if parameter["in"] == "path" {
                    assert_eq!(parameter["required"], true, "{at}");
                    placed.push(format!("{{{}}}", parameter["name"].as_str().unwrap()));
                }
                assert!(parameter.get("schema").is_some(), "{at}");
            }
            assert_eq!(path.matches('{').count(), placed.len(), "{at}");
            assert!(placed.iter().all(|name| path.contains(name)), "{at}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let at = format!("{at} {status}");
                assert!(
                    status.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)),
                    "{at}"
                );
                text(&response["description"], &at);
                for (kind, media) in response["content"].as_object().into_iter().flatten() {
                    assert!(kind.contains('/') && media.get("schema").is_some(), "{at}");
                }
            }
        }
    }
    assert_refers(document, document);
}

/// Every reference in `value` has a target.
fn assert_refers(document: &Value, value: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            }
            members.values().for_each(|value| assert_refers(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| assert_refers(document, value)),
        _ => {}
    }
}

pub(super) async fn document() -> Value {
    get(&hub(), "/api/v1/openapi.json").await.1
}

#[tokio::test]
async fn the_openapi_description_lists_exactly_the_served_paths_and_methods() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(described, ["/api/v1/streams", "/api/v1/streams/{channel}"]);
    let methods = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];
    for (path, operations) in paths {
        for method in &methods {
            let request = Request::builder().method(method).uri(path.replace("{channel}", "demo"));
            let (status, ..) = ask(router(&hub()), request.body(Body::empty()).unwrap()).await;
            let described = operations.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(
                described,
                status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {status}"
            );
        }
    }
    let delete = &paths["/api/v1/streams/{channel}"]["delete"];
    let statuses: Vec<&str> =
        delete["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(statuses, ["204", "400", "401", "403", "404", "412", "429", "502", "503", "504"]);
    assert!(delete["security"][0].get("administrator").is_some());
    assert_eq!(document["components"]["securitySchemes"]["administrator"]["scheme"], "bearer");
}

#[tokio::test]
async fn every_error_response_names_its_problems_and_each_has_a_page() {
    let document = document().await;
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    let mut seen = 0;
    for (at, operation) in operations {
        let responses = operation["responses"].as_object().unwrap();
        for common in ["429", "503"] {
            assert!(responses.contains_key(common), "{at} {common}");
        }
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let content = &response["content"];
            assert_eq!(content.as_object().unwrap().len(), 1, "{at} {status}");
            let parts = &content["application/problem+json"]["schema"]["allOf"];
            assert_eq!(parts[0]["$ref"], "#/components/schemas/Problem", "{at} {status}");
            let uris = parts[1]["properties"]["type"]["enum"].as_array().unwrap();
            assert!(!uris.is_empty(), "{at} {status}");
            for uri in uris {
                let uri = uri.as_str().unwrap();
                let kind = Kind::named(uri.strip_prefix("/problems/").unwrap()).unwrap();
                assert_eq!(kind.row().status.as_str(), status, "{at} {uri}");
                let request = Request::get(uri).body(Body::empty()).unwrap();
                let (served, headers, page) = ask(router(&hub()), request).await;
                assert_eq!(served, StatusCode::OK, "{uri}");
                assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
                assert!(String::from_utf8_lossy(&page).contains(uri));
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

/// Responses have the members of their schema, and no others.
#[tokio::test]
async fn responses_match_the_schemas_of_the_openapi_description() {
    let (hub, document) = (hub(), document().await);
    let _producer = publish(&hub, "demo");
    let body = |path: &str, status: &str| {
        let response = &document["paths"][path]["get"]["responses"][status]["content"];
        response.as_object().unwrap().values().next().unwrap()["schema"].clone()
    };
    let (_, list) = get(&hub, "/api/v1/streams").await;
    assert_fits(&document, &body("/api/v1/streams", "200"), &list);
    let (_, stream) = get(&hub, "/api/v1/streams/demo").await;
    assert_fits(&document, &body("/api/v1/streams/{channel}", "200"), &stream);
    let (_, problem) = get(&hub, "/api/v1/streams/nobody").await;
    assert_fits(&document, &body("/api/v1/streams/{channel}", "404"), &problem);
}

#[track_caller]
pub(super) fn assert_fits(document: &Value, schema: &Value, value: &Value) {
    if let Err(what) = fits(document, schema, value) {
        panic!("{what}\nvalue: {value:#}\nschema: {schema:#}");
    }
}

/// The subset of JSON Schema that the description uses. Unknown members do not fit.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return fits(
            document,
            &document.pointer(&reference[1..]).ok_or(format!("no {reference}"))?.clone(),
            value,
        );
    }
    if schema.get("allOf").is_some() || schema.get("oneOf").is_some() {
        let merged: Vec<Value> = variants(document, schema);
        let tries: Vec<_> = merged.iter().map(|schema| fits(document, schema, value)).collect();
        let fitting = tries.iter().filter(|outcome| outcome.is_ok()).count();
        return if fitting == 1 {
            Ok(())
        } else {
            Err(format!("{fitting} variants fit {value}: {tries:?}"))
        };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let fitting = kinds.iter().any(|kind| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    });
    if !fitting {
        return Err(format!("{value} is none of {kinds:?}"));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        return Err(format!("{value} is none of {allowed:?}"));
    }
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object().ok_or("no properties")?;
            // All are required but the faults, the rule and the challenge of a problem.
            let optional = ["errors", "rule", "challenge"];
            for name in properties.keys().filter(|name| !optional.contains(&name.as_str())) {
                let required = schema["required"].as_array().ok_or("nothing is required")?;
                if !members.contains_key(name) || !required.contains(&name.as_str().into()) {
                    return Err(format!("{name} is missing or not required: {required:?}"));
                }
            }
            members.iter().try_for_each(|(name, member)| {
                let schema = properties.get(name).ok_or(format!("{name} is not described"))?;
                fits(document, schema, member).map_err(|what| format!("{name}: {what}"))
            })
        }
        Value::Array(items) => {
            items.iter().try_for_each(|item| fits(document, &schema["items"], item))
        }
        _ => Ok(()),
    }
}

/// The plain object schemas that a composition of them includes.
fn variants(document: &Value, schema: &Value) -> Vec<Value> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return variants(document, document.pointer(&reference[1..]).unwrap());
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        return choices.iter().flat_map(|choice| variants(document, choice)).collect();
    }
    let Some(parts) = schema.get("allOf").and_then(Value::as_array) else {
        return vec![schema.clone()];
    };
    parts.iter().fold(
        vec![serde_json::json!({ "type": "object", "properties": {}, "required": [] })],
        |merged, part| {
            let choices = variants(document, part);
            merged.iter().flat_map(|one| choices.iter().map(|choice| join(one, choice))).collect()
        },
    )
}

fn join(one: &Value, other: &Value) -> Value {
    let mut joined = one.clone();
    for (name, schema) in other["properties"].as_object().unwrap() {
        joined["properties"][name] = schema.clone();
    }
    let required = other["required"].as_array().cloned().unwrap_or_default();
    joined["required"].as_array_mut().unwrap().extend(required);
    joined
}

//! MediaMTX's request (its documentation, "External HTTP server"; `internal/auth/manager.go`).

use bytes::Bytes;
use ingest_rtmp::PublishRequest;
use serde::Serialize;
use uuid::Uuid;

use crate::publish::credentials::Credentials;

/// The type of the body.
pub(super) const CONTENT_TYPE: &str = "application/json";

/// The fields in MediaMTX's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    ip: String,
    user: &'a str,
    password: &'a str,
    token: &'a str,
    action: &'static str,
    path: String,
    protocol: &'static str,
    id: Uuid,
    query: &'a str,
    user_agent: &'a str,
}

/// The body for a request to publish.
pub(super) fn body(request: &PublishRequest) -> Bytes {
    let query = request.query.as_ref().map_or("", |query| query.expose());
    let Credentials { user, password, token } = Credentials::parse(query);
    let key = request.key.expose();
    // The path of the encoder's address: with `rtmp://host` as the server it is the key alone.
    let path = match request.client.app.trim_matches('/').is_empty() {
        true => key.to_owned(),
        false => format!("{}/{key}", request.app),
    };
    let body = Body {
        ip: request.peer.ip().to_canonical().to_string(),
        user: &user,
        password: &password,
        token: &token,
        action: "publish",
        path,
        protocol: "rtmp",
        id: Uuid::new_v4(),
        query,
        user_agent: &request.client.flash_ver,
    };
    // Texts and an id have a form in JSON, so this cannot fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use ingest_rtmp::StreamKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::publish::tests::request;

    #[test]
    fn the_body_has_the_fields_of_mediamtx_in_its_order() {
        let mut request = request("demo");
        request.query = Some(StreamKey::new("user=a&pass=b%20c&x=1"));
        request.client.app = "live".into();
        request.client.flash_ver = "FMLE/3.0".into();
        let body = body(&request);
        let text = std::str::from_utf8(&body).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        let id = value["id"].as_str().unwrap();
        assert!(id.parse::<Uuid>().is_ok(), "{id}");
        assert_eq!(
            text,
            format!(
                "{{\"ip\":\"192.0.2.7\",\"user\":\"a\",\"password\":\"b c\",\"token\":\"b c\",\
                 \"action\":\"publish\",\"path\":\"live/demo\",\"protocol\":\"rtmp\",\
                 \"id\":\"{id}\",\"query\":\"user=a&pass=b%20c&x=1\",\"userAgent\":\"FMLE/3.0\"}}"
            )
        );
    }

    #[test]
    fn without_an_application_in_the_address_the_path_is_the_key_alone() {
        let mut request = request("demo");
        request.client.app = "/".into();
        let value: Value = serde_json::from_slice(&body(&request)).unwrap();
        assert_eq!(value["path"], json!("demo"));
        assert_eq!(value["query"], json!(""));
        assert_eq!(value["token"], json!(""));
    }
}

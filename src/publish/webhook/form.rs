//! nginx-rtmp's requests (`ngx_rtmp_notify_module.c`, `ngx_rtmp_netcall_module.c`): forms with the
//! session's fields, those of the call, and the pairs of the stream's query.

use bytes::Bytes;
use form_urlencoded::{Serializer, parse};
use ingest_rtmp::PublishRequest;

/// The type of the body.
pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// Our own fields. The query of a publisher must not repeat one: many back ends read the last of
/// two, and would then decide about another name than the one that is published. nginx-rtmp passes
/// them on.
const RESERVED: [&str; 10] =
    ["app", "flashver", "swfurl", "tcurl", "pageurl", "addr", "clientid", "call", "name", "type"];

/// The body of `on_publish`.
pub(super) fn publish(request: &PublishRequest, client_id: u64) -> Bytes {
    let mut form = session(request, client_id);
    form.append_pair("call", "publish");
    form.append_pair("name", request.key.expose());
    form.append_pair("type", &request.client.publishing_type);
    with_query(form, request)
}

/// The body of `on_publish_done`, with the name before a redirect.
pub(super) fn publish_done(request: &PublishRequest, client_id: u64) -> Bytes {
    let mut form = session(request, client_id);
    form.append_pair("call", "publish_done");
    form.append_pair("name", request.key.expose());
    with_query(form, request)
}

/// The fields of a session, in nginx-rtmp's order.
fn session(request: &PublishRequest, client_id: u64) -> Serializer<'static, String> {
    let client = &request.client;
    let mut form = Serializer::new(String::new());
    form.append_pair("app", &request.app);
    form.append_pair("flashver", &client.flash_ver);
    form.append_pair("swfurl", &client.swf_url);
    form.append_pair("tcurl", &client.tc_url);
    form.append_pair("pageurl", &client.page_url);
    form.append_pair("addr", &request.peer.ip().to_canonical().to_string());
    form.append_pair("clientid", &client_id.to_string());
    form
}

/// Appends the pairs of the stream's query.
fn with_query(mut form: Serializer<'static, String>, request: &PublishRequest) -> Bytes {
    let query = request.query.as_ref().map_or("", |query| query.expose());
    let free = |name: &str| !RESERVED.contains(&name.to_ascii_lowercase().as_str());
    form.extend_pairs(parse(query.as_bytes()).filter(|(name, _)| free(name)));
    form.finish().into()
}

#[cfg(test)]
mod tests {
    use ingest_rtmp::{ClientInfo, StreamKey};

    use super::*;
    use crate::publish::tests::request;

    fn asked(query: &str) -> PublishRequest {
        let mut request = request("demo");
        request.query = Some(StreamKey::new(query));
        request.client = ClientInfo {
            app: "live".into(),
            flash_ver: "FMLE/3.0 (compatible; FMSc/1.0)".into(),
            tc_url: "rtmp://localhost:1935/live".into(),
            publishing_type: "live".into(),
            ..ClientInfo::default()
        };
        request
    }

    #[test]
    fn the_forms_have_the_fields_of_nginx_rtmp_in_its_order() {
        const SESSION: &str = "app=live&flashver=FMLE%2F3.0+%28compatible%3B+FMSc%2F1.0%29&swfurl=\
                               &tcurl=rtmp%3A%2F%2Flocalhost%3A1935%2Flive&pageurl=\
                               &addr=192.0.2.7&clientid=7";
        let request = asked("key=a%26b&flag");
        assert_eq!(
            publish(&request, 7),
            format!("{SESSION}&call=publish&name=demo&type=live&key=a%26b&flag=")
        );
        assert_eq!(
            publish_done(&request, 7),
            format!("{SESSION}&call=publish_done&name=demo&key=a%26b&flag=")
        );
    }

    #[test]
    fn the_query_of_a_publisher_cannot_repeat_a_field_of_ours() {
        let body = publish(&asked("name=other&key=1&ADDR=::1&%6eame=x&call=y"), 7);
        let names: Vec<_> = parse(&body).map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names[7..], ["call", "name", "type", "key"]);
    }
}

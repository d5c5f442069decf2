//! Avatars and banners, with a maker that passes the bytes on.

use control_domain::Role;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::{members::Members, *};
use crate::pictures::{FOLDER, MakeError, Making, PictureMaker, Size};

/// Makes a picture of any bytes: the width, and the bytes. `"bad"` is none.
pub(super) struct Echo;

impl PictureMaker for Echo {
    fn make<'a>(&'a self, picture: Bytes, sizes: &'static [Size]) -> Making<'a> {
        Box::pin(async move {
            match &*picture {
                b"bad" => return Err(MakeError::Refused("this is no picture".to_owned())),
                b"busy" => return Err(MakeError::Busy),
                b"broken" => return Err(MakeError::Unavailable("no decoder".to_owned())),
                _ => {}
            }
            let made = sizes.iter().map(|(width, _)| {
                Bytes::from([width.to_string().as_bytes(), b" ", &picture].concat())
            });
            Ok(made.collect())
        })
    }
}

impl Members {
    /// Sends bytes. Returns the status, the headers, and the body.
    async fn put(&self, token: &str, path: &str, bytes: Vec<u8>) -> (u16, HeaderMap, Bytes) {
        let request = Request::put(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "image/png")
            .body(Body::from(bytes))
            .expect("a request");
        let (status, headers, body) = ask(self.router.clone(), request).await;
        (status.as_u16(), headers, body)
    }

    async fn file(&self, picture: &str, size: &str) -> (u16, HeaderMap, Bytes) {
        let path = format!("/api/v1/avatars/{picture}/{size}");
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let (status, headers, body) = ask(self.router.clone(), request).await;
        (status.as_u16(), headers, body)
    }

    /// The number of files of pictures.
    fn files(&self) -> usize {
        let folders = std::fs::read_dir(self.folder.join(FOLDER)).into_iter().flatten();
        let files = folders.filter_map(|folder| std::fs::read_dir(folder.ok()?.path()).ok());
        files.map(Iterator::count).sum()
    }

    /// Waits until there are so many files.
    async fn wait_for_files(&self, count: usize) {
        for _ in 0..1_000 {
            if self.files() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.files(), count);
    }
}

fn picture(body: &[u8]) -> String {
    let shown: Value = serde_json::from_slice(body).expect("JSON");
    shown["picture"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
}

#[tokio::test]
async fn an_avatar_is_served_under_a_name_that_never_changes_its_content() {
    let members = Members::new("avatar").await;
    let ada = members.account("ada", Role::Viewer).await;
    let session = members.session(ada, Role::Viewer).await.access.0;
    let (_, before) = members.get(&session, "/api/v1/accounts/me").await;
    assert_eq!(before["avatar"], Value::Null);
    let path = "/api/v1/accounts/me/avatar";
    let (status, headers, body) = members.put(&session, path, b"first".to_vec()).await;
    assert_eq!(status, 200, "{body:?}");
    assert!(headers.contains_key("sf-sequence"));
    let shown: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(shown["sizes"], serde_json::json!([512, 128, 48]));
    let first = picture(&body);
    let (_, account) = members.get("", &format!("/api/v1/accounts/{ada}")).await;
    assert_eq!(account["avatar"], first.as_str(), "everybody sees it");

    let (status, headers, file) = members.file(&first, "128").await;
    assert_eq!((status, &file[..]), (200, &b"128 first"[..]));
    assert_eq!(headers[header::CONTENT_TYPE], "image/jpeg");
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    let request = Request::get(format!("/api/v1/avatars/{first}/128"));
    let request = request.header(header::IF_NONE_MATCH, tag).body(Body::empty());
    let (status, _, body) = ask(members.router.clone(), request.expect("a request")).await;
    assert_eq!((status.as_u16(), body.len()), (304, 0));

    for size in ["64", "0128", "+48", "1920", "x", "65536"] {
        assert_eq!(members.file(&first, size).await.0, 404, "{size}");
    }
    for name in ["", "..", &"0".repeat(64), &first.to_uppercase(), &first[1..]] {
        assert_eq!(members.file(name, "48").await.0, 404, "{name}");
    }
    // The same picture of somebody else has another name, so that each can be removed.
    let eve = members.account("eve", Role::Viewer).await;
    let other = members.session(eve, Role::Viewer).await.access.0;
    let (_, _, body) = members.put(&other, path, b"first".to_vec()).await;
    assert_ne!(picture(&body), first);
}

#[tokio::test]
async fn files_go_with_the_last_use_of_a_picture_and_with_the_person() {
    let members = Members::new("avatar-files").await;
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(members.pictures.clone().serve(stop.clone()));
    let ada = members.account("ada", Role::Creator).await;
    let session = members.session(ada, Role::Creator).await.access.0;
    let show = serde_json::json!({ "name": "show" });
    assert_eq!(members.post(&session, "/api/v1/channels", show).await.0, 201);
    let path = "/api/v1/accounts/me/avatar";
    let (_, _, body) = members.put(&session, path, b"first".to_vec()).await;
    let first = picture(&body);
    members.wait_for_files(3).await;
    let (_, _, body) = members.put(&session, path, b"second".to_vec()).await;
    let second = picture(&body);
    members.wait_for_files(3).await;
    assert_eq!(members.file(&first, "48").await.0, 404);
    assert_eq!(members.file(&second, "48").await.0, 200);

    let (status, _, _) =
        members.put(&session, "/api/v1/channels/show/avatar", b"channel".to_vec()).await;
    assert_eq!(status, 200);
    let (_, _, body) =
        members.put(&session, "/api/v1/channels/show/banner", b"banner".to_vec()).await;
    let banner = picture(&body);
    members.wait_for_files(8).await;
    assert_eq!(members.file(&banner, "1920").await.2, &b"1920 banner"[..]);
    let (_, channel) = members.get("", "/api/v1/channels/show").await;
    assert_eq!(channel["banner"], banner.as_str());
    assert_eq!(members.delete(&session, "/api/v1/channels/show/banner").await, 204);
    members.wait_for_files(6).await;
    assert_eq!(members.delete(&session, "/api/v1/channels/show").await, 204);
    members.wait_for_files(3).await;
    assert_eq!(members.delete(&session, path).await, 204);
    assert_eq!(members.delete(&session, path).await, 204, "again");
    members.wait_for_files(0).await;

    let (_, _, body) = members.put(&session, path, b"third".to_vec()).await;
    assert_eq!(members.delete(&session, "/api/v1/accounts/me").await, 204);
    members.wait_for_files(0).await;
    assert_eq!(members.file(&picture(&body), "48").await.0, 404);
    stop.cancel();
    sweeping.await.expect("it ends");
}

#[tokio::test]
async fn a_bad_picture_a_large_one_and_one_of_a_stranger_change_nothing() {
    let members = Members::new("avatar-bad").await;
    let ada = members.account("ada", Role::Viewer).await;
    let session = members.session(ada, Role::Viewer).await.access.0;
    let path = "/api/v1/accounts/me/avatar";
    for (bytes, expected) in [
        (b"bad".to_vec(), 422),
        (b"busy".to_vec(), 503),
        (b"broken".to_vec(), 503),
        (vec![0; crate::pictures::MAX_BYTES + 1], 413),
    ] {
        let (status, _, body) = members.put(&session, path, bytes).await;
        assert_eq!(status, expected, "{body:?}");
        assert_problem(
            StatusCode::from_u16(status).expect("a status"),
            &serde_json::from_slice(&body).expect("JSON"),
        );
        assert!(!String::from_utf8_lossy(&body).contains("no decoder"), "for the operator alone");
    }
    // The largest is a picture like any other, and others do not wait for it.
    let large = vec![1; crate::pictures::MAX_BYTES];
    assert_eq!(members.put(&session, path, large).await.0, 200);
    let eve = members.account("eve", Role::Viewer).await;
    let other = members.session(eve, Role::Viewer).await.access.0;
    let foreign = format!("/api/v1/accounts/{ada}/avatar");
    assert_eq!(members.put(&other, &foreign, b"x".to_vec()).await.0, 403);
    assert_eq!(members.delete(&other, &foreign).await, 403);
    assert_eq!(members.put("", path, b"x".to_vec()).await.0, 401);
    let (_, account) = members.get(&session, "/api/v1/accounts/me").await;
    assert!(account["avatar"].is_string());
}

#[tokio::test]
async fn an_edit_that_depends_on_what_was_read_fails_after_another_avatar() {
    let members = Members::new("avatar-tag").await;
    let ada = members.account("ada", Role::Viewer).await;
    let session = members.session(ada, Role::Viewer).await.access.0;
    let me = "/api/v1/accounts/me";
    let (_, headers, _) = members.send(&session, "GET", me, Value::Null, &[]).await;
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    let path = "/api/v1/accounts/me/avatar";
    assert_eq!(members.put(&session, path, b"x".to_vec()).await.0, 200);
    let about = serde_json::json!({ "about": "new" });
    let fields = [("if-match", tag.as_str())];
    assert_eq!(members.send(&session, "PATCH", me, about, &fields).await.0, 412);
}

//! Categories through the routes.

use control_domain::{Actor, Role};
use serde_json::json;

use super::{site::Site, *};

const LIST: &str = "/api/v1/categories";

#[tokio::test]
async fn an_administrator_makes_renames_moves_and_removes_categories() {
    let site = Site::new("categories").await;
    let admin = site.account("adm", Role::Administrator).await;
    let mut paths = Vec::new();
    for (name, translations) in [
        ("Music", json!({ "de": "Musik", "pt": "Música" })),
        ("Films", json!({})),
        ("Art", json!({})),
    ] {
        let new = json!({ "name": name, "translations": translations });
        let (status, headers, made) = site.send(admin, Method::POST, LIST, new, &[]).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        assert_eq!(made["translations"], translations);
        paths.push(headers[header::LOCATION].to_str().expect("text").to_owned());
    }
    let names = async |query: &str| {
        site.list(Actor::Anonymous, &format!("{LIST}{query}"), "categories", "name").await
    };
    assert_eq!(names("").await, ["Music", "Films", "Art"]);
    assert_eq!(names("?lang=de-AT").await, ["Musik", "Films", "Art"]);
    assert_eq!(names("?lang=pt-BR").await, ["Música", "Films", "Art"]);
    assert_eq!(names("?lang=fr").await, ["Music", "Films", "Art"]);

    let (_, headers, _) = site.send(admin, Method::GET, &paths[0], Value::Null, &[]).await;
    let tag = headers[header::ETAG].to_str().expect("text").to_owned();
    let fields = [("if-match", tag.as_str())];
    let patch = json!({ "name": "Songs" });
    let (status, _, renamed) =
        site.send(admin, Method::PATCH, &paths[0], patch.clone(), &fields).await;
    assert_eq!((status, &renamed["name"]), (StatusCode::OK, &json!("Songs")), "{renamed}");
    assert_eq!(renamed["translations"]["de"], "Musik");
    let (status, ..) = site.send(admin, Method::PATCH, &paths[0], patch, &fields).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    let taken = json!({ "name": "FILMS" });
    let (status, _, problem) = site.send(admin, Method::PATCH, &paths[0], taken, &[]).await;
    assert_eq!((status, &problem["rule"]), (StatusCode::CONFLICT, &json!("name_taken")));

    let position = format!("{}/position", paths[2]);
    let (status, ..) =
        site.send(admin, Method::PUT, &position, json!({ "position": 0 }), &[]).await;
    assert_eq!(
        (status, names("").await),
        (StatusCode::NO_CONTENT, vec![json!("Art"), json!("Songs"), json!("Films")])
    );
    let delete = async |path: &str| {
        site.send(admin, Method::DELETE, path, Value::Null, &[]).await.0.as_u16()
    };
    assert_eq!((delete(&paths[1]).await, delete(&paths[1]).await), (204, 404));
    assert_eq!(names("").await, ["Art", "Songs"]);
}

#[tokio::test]
async fn only_administrators_change_categories() {
    let site = Site::new("categories-roles").await;
    let new = json!({ "name": "Music" });
    let (_, made) = site.post(Actor::System, LIST, new).await;
    let path = format!("{LIST}/{}", made["id"].as_str().expect("an id"));
    let position = format!("{path}/position");
    let moderator = site.account("mod", Role::Moderator).await;
    for (actor, expected) in [(moderator, 403), (Actor::Anonymous, 401)] {
        for (method, path, body) in [
            (Method::POST, LIST, json!({ "name": "Art" })),
            (Method::PATCH, &path, json!({ "name": "Art" })),
            (Method::PUT, &position, json!({ "position": 0 })),
            (Method::DELETE, &path, json!(null)),
        ] {
            let (status, ..) = site.send(actor, method.clone(), path, body, &[]).await;
            assert_eq!(status.as_u16(), expected, "{method} {path}");
        }
        assert_eq!(site.get(actor, &path).await.0, StatusCode::OK);
    }
    let invalid = format!("{LIST}?lang=no+language");
    for (path, expected) in
        [(invalid.as_str(), 400), ("/api/v1/categories?page=1", 400), ("/api/v1/categories/1", 404)]
    {
        assert_eq!(site.get(Actor::Anonymous, path).await.0.as_u16(), expected, "{path}");
    }
}

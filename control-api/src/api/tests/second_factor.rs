//! The second factor of an account: enabling it, signing in with it, and disabling it.

use std::time::SystemTime;

use control_domain::Role;
use serde_json::json;
use totp_rs::{Builder, Secret, Totp};

use super::{
    members::{Members, PASSWORD, UNLIMITED, kind, text},
    *,
};
use crate::{
    identity::SecondStep,
    problem::Kind,
    rate::{Limit, Limits},
};

/// An authenticator app.
struct App(Totp);

impl App {
    fn new(secret: &str) -> Self {
        let secret = Secret::try_from_base32(secret).expect("base 32");
        Self(Builder::new().with_secret(secret).build().expect("160 bits"))
    }

    /// The code of a time step: 0 is the present one, -1 the one before.
    fn code(&self, step: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let time = now.as_secs().checked_add_signed(step * 30).expect("after 1970");
        self.0.generate(time).to_string()
    }
}

struct Enrolled {
    app: App,
    recovery: Vec<String>,
    access: String,
}

async fn first_step(members: &Members) -> (u16, Value) {
    let body = json!({ "login": "ada", "password": PASSWORD });
    members.post("", "/api/v1/sessions", body).await
}

async fn second_step(members: &Members, challenge: &str, code: &str) -> (u16, Value) {
    let body = json!({ "challenge": challenge, "code": code, "device": "a telescope" });
    members.post("", "/api/v1/sessions/second-factor", body).await
}

async fn challenge(members: &Members) -> String {
    let (status, problem) = first_step(members).await;
    assert_eq!((status, kind(&problem)), (403, "second-factor-required"), "{problem}");
    text(&problem, "challenge").to_owned()
}

/// Enables the second factor of ada with the code of the step before.
async fn enrol(members: &Members) -> Enrolled {
    members.account("ada", Role::Viewer).await;
    let (_, session) = first_step(members).await;
    let access = text(&session, "access_token").to_owned();
    let path = "/api/v1/accounts/me/second-factor";
    let (status, problem) = members.post(&access, path, json!({ "password": "wrong" })).await;
    assert_eq!((status, text(&problem["errors"][0], "pointer")), (422, "/password"));
    let (status, enrolment) = members.post(&access, path, json!({ "password": PASSWORD })).await;
    assert_eq!(status, 200, "{enrolment}");
    let secret = text(&enrolment, "secret");
    let uri = text(&enrolment, "uri");
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(secret), "{uri}");
    let app = App::new(secret);
    // Nothing has changed yet.
    assert_eq!(first_step(members).await.0, 201);
    let confirm = format!("{path}/confirm");
    let (status, problem) = members.post(&access, &confirm, json!({ "code": "000000x" })).await;
    assert_eq!((status, text(&problem["errors"][0], "pointer")), (422, "/code"));
    let code = app.code(-1);
    let (status, codes) = members.post(&access, &confirm, json!({ "code": code })).await;
    assert_eq!(status, 200, "{codes}");
    let codes = codes["recovery_codes"].as_array().expect("a list");
    let recovery = codes.iter().map(|code| code.as_str().expect("text").to_owned()).collect();
    let (_, shown) = members.get(&access, path).await;
    assert_eq!((&shown["enabled"], &shown["recovery_codes_left"]), (&json!(true), &json!(10)));
    Enrolled { app, recovery, access }
}

#[tokio::test]
async fn a_sign_in_needs_a_code_which_is_accepted_once() {
    let members = Members::new("second-factor").await;
    let Enrolled { app, access, .. } = enrol(&members).await;
    // The session that enabled it goes on.
    assert_eq!(members.get(&access, "/api/v1/accounts/me").await.0, 200);
    let first = challenge(&members).await;
    let (status, problem) = second_step(&members, &first, &app.code(-1)).await;
    assert_eq!((status, kind(&problem)), (401, "wrong-code"), "it has confirmed the factor");
    for wrong in ["", "12345", "ABCD-EFGH-IJKL-MNOP", &app.code(-5), &app.code(5)] {
        assert_eq!(second_step(&members, &first, wrong).await.0, 401, "{wrong}");
    }
    let code = app.code(0);
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let (status, session) = second_step(&members, &first, &spaced).await;
    assert_eq!(status, 201, "{session}");
    let access = text(&session, "access_token");
    assert_eq!(members.get(access, "/api/v1/accounts/me").await.0, 200);
    // Also not with another challenge.
    let second = challenge(&members).await;
    assert_eq!(second_step(&members, &second, &code).await.0, 401, "replayed");
    assert_eq!(second_step(&members, &second, &app.code(1)).await.0, 201);
    for forged in ["", "x", &second[1..]] {
        assert_eq!(second_step(&members, forged, &app.code(2)).await.0, 401);
    }
}

#[tokio::test]
async fn each_recovery_code_signs_in_once() {
    let members = Members::new("recovery-codes").await;
    let Enrolled { recovery, access, .. } = enrol(&members).await;
    assert_eq!(recovery.len(), 10);
    let ticket = challenge(&members).await;
    assert_eq!(second_step(&members, &ticket, &recovery[3].to_lowercase()).await.0, 201);
    assert_eq!(second_step(&members, &ticket, &recovery[3]).await.0, 401);
    assert_eq!(second_step(&members, &ticket, &recovery[4]).await.0, 201);
    let (_, shown) = members.get(&access, "/api/v1/accounts/me/second-factor").await;
    assert_eq!(shown["recovery_codes_left"], 8);
}

#[tokio::test]
async fn nothing_follows_from_the_password_alone() {
    let members = Members::new("password-alone").await;
    let Enrolled { app, .. } = enrol(&members).await;
    let body = json!({ "login": "ada", "password": PASSWORD, "new_password": "lilies at nine" });
    let (status, problem) = members.post("", "/api/v1/sessions", body).await;
    assert_eq!((status, kind(&problem)), (403, "second-factor-required"));
    let ticket = challenge(&members).await;
    let body = json!({
        "challenge": ticket, "code": app.code(0), "new_password": "lilies at nine",
    });
    let (status, session) = members.post("", "/api/v1/sessions/second-factor", body).await;
    assert_eq!(status, 201, "{session}");
    assert_eq!(first_step(&members).await.0, 401, "the password is another one");
    // Its ticket went with the password.
    assert_eq!(second_step(&members, &ticket, &app.code(1)).await.0, 401);
}

#[tokio::test]
async fn a_second_factor_is_disabled_with_the_password_and_a_code() {
    let members = Members::new("disable").await;
    let Enrolled { app, access, recovery } = enrol(&members).await;
    let disable = async |password: &str, code: &str| {
        let body = json!({ "password": password, "code": code });
        members.post(&access, "/api/v1/accounts/me/second-factor/disable", body).await.0
    };
    assert_eq!(disable("wrong", &app.code(0)).await, 422);
    assert_eq!(disable(PASSWORD, "000000x").await, 422);
    assert_eq!(disable(PASSWORD, &recovery[0]).await, 204);
    assert_eq!(first_step(&members).await.0, 201);
    assert_eq!(disable(PASSWORD, &app.code(1)).await, 404);
}

#[tokio::test]
async fn codes_cannot_be_tried_without_end() {
    let members = Members::new("tries").await;
    let Enrolled { app, .. } = enrol(&members).await;
    let ticket = challenge(&members).await;
    members.limiter.set(Limits { login: "3/5m".parse::<Limit>().ok(), ..UNLIMITED });
    let attempt = async |code: &str| {
        // Whoever tries: no address is counted here.
        let step = SecondStep {
            challenge: ticket.clone(),
            code: code.to_owned(),
            new_password: None,
            device: "a telescope".parse().expect("a name"),
        };
        members.identity.second_step(step).await.map_err(|problem| problem.kind())
    };
    for expected in [Kind::WrongCode, Kind::WrongCode, Kind::WrongCode, Kind::RateLimited] {
        assert_eq!(attempt("ABCDEFGHIJKLMNOP").await.expect_err("wrong"), expected);
    }
    let refused = attempt(&app.code(0)).await.expect_err("too many");
    assert_eq!(refused, Kind::RateLimited, "also the right one");
}

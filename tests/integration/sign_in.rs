//! Signing in, with a real mail server and a real provider of identities: addresses are verified
//! and passwords reset by the links in mails, an authenticator app is the second factor, and people
//! sign in at a provider, whose responses are also bent.

use crate::support::{
    Workdir,
    daemon::{Daemon, Settings},
    process::Process,
    tls::Certificate,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
const SITE: &str = "https://live.example";
const PASSWORD: &str = "tulips at eight";
const OTHER: &str = "lilies at nine";
/// Secrets of the configuration, which must not be in the log.
const SECRETS: [&str; 3] = ["s3cret", PASSWORD, OTHER];

/// A program of `tests/players`, which announces itself by a first line of JSON on stderr.
fn node(script: &str, arguments: &[&str]) -> (Process, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
    let mut command = Command::new("node");
    command.current_dir(folder).arg(script).args(arguments);
    let mut process = Process::run(script, command);
    let first = process.wait_for_lines("its first line", LIMIT, |lines| json_lines(lines).next());
    (process, first)
}

fn json_lines(lines: &[String]) -> impl Iterator<Item = Value> {
    lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok())
}

/// A mail server.
struct Mails {
    process: Process,
    port: u64,
    /// The lines that were read.
    seen: usize,
}

impl Mails {
    fn start(arguments: &[&str]) -> Self {
        let (process, first) = node("smtp.mjs", arguments);
        Self { process, port: first["port"].as_u64().expect("a port"), seen: 1 }
    }

    /// The next line.
    #[track_caller]
    fn next(&mut self) -> Value {
        let seen = self.seen;
        self.seen += 1;
        self.process.wait_for_lines("a mail", LIMIT, |lines| json_lines(lines).nth(seen))
    }

    /// The token in the next mail, which must be to this address and lead to this page.
    #[track_caller]
    fn token(&mut self, to: &str, page: &str) -> String {
        let mail = self.next();
        assert_eq!(mail["to"], json!([to]), "{mail}");
        assert_eq!(mail["from"], "noreply@live.example");
        // Quoted-printable (RFC 2045 6.7), if the line was too long.
        let text = mail["text"].as_str().expect("text").replace("=\r\n", "").replace("=3D", "=");
        let link = format!("{SITE}/{page}#token=");
        let (_, rest) = text.split_once(&link).unwrap_or_else(|| panic!("no {link} in {text}"));
        rest.split(['\r', '\n']).next().expect("a token").to_owned()
    }
}

/// A response.
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.body))
    }

    /// The kind of a problem.
    #[track_caller]
    fn problem(&self) -> String {
        self.json()["type"].as_str().expect("a problem").replace("/problems/", "")
    }
}

/// Sends a request on a connection of its own.
fn send(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut socket = TcpStream::connect(to).expect("the listener accepts");
    socket.set_read_timeout(Some(LIMIT)).expect("a socket takes a limit");
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = body.len();
    write!(socket, "{head}content-length: {length}\r\n\r\n{body}").expect("the request is read");
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response).into_owned();
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Response {
        status: status.parse().expect("a number"),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// Sends JSON to the daemon; `token`: a bearer token, or none if it is empty.
fn call(daemon: &Daemon, method: &str, path: &str, token: &str, body: &Value) -> Response {
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/json")];
    if !token.is_empty() {
        headers.push(("authorization", &authorization));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(daemon.http, method, path, &headers, &body)
}

fn post(daemon: &Daemon, path: &str, body: Value) -> Response {
    call(daemon, "POST", path, "", &body)
}

fn start(extra: &str) -> Daemon {
    Daemon::start(&Settings {
        env: vec![("STREAMFORGE_HTTP_PUBLIC_URL".to_owned(), SITE.to_owned())],
        extra: format!(
            "[platform]\nenabled = true\n[api]\nlogin_limit = \"off\"\nsign_up_limit = \"off\"\n\
             mail_limit = \"off\"\nmailed_token_limit = \"off\"\n{extra}"
        ),
        ..Settings::default()
    })
}

fn smtp(port: u64, more: &str) -> String {
    format!("[smtp]\nfrom = \"streamforge <noreply@live.example>\"\nurl = \"smtp://{more}\"\n")
        .replace("PORT", &port.to_string())
}

fn register(daemon: &Daemon, name: &str) {
    let body =
        json!({ "name": name, "email": format!("{name}@example.org"), "password": PASSWORD });
    let response = post(daemon, "/api/v1/accounts", body);
    assert_eq!(response.status, 201, "{}", response.body);
}

fn sign_in(daemon: &Daemon, name: &str, password: &str) -> Response {
    post(daemon, "/api/v1/sessions", json!({ "login": name, "password": password }))
}

#[track_caller]
fn access(response: &Response) -> String {
    response.json()["access_token"].as_str().expect("a token").to_owned()
}

/// No secret and no token that was mailed is in the log.
#[track_caller]
fn assert_discreet(daemon: &Daemon, tokens: &[&str]) {
    let log = daemon.process.stderr();
    for secret in SECRETS.iter().chain(tokens).chain(&["@example.org"]) {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

#[test]
fn mails_verify_addresses_and_reset_passwords_over_starttls_also_after_refusals() {
    let folder = Workdir::new("smtp");
    let certificate = Certificate::make(folder.path(), "mail");
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let (key, cert) = (text(&certificate.key), text(&certificate.cert));
    let mut mails = Mails::start(&["--busy", "1", "--tls", &key, &cert]);
    let url = "ada:s3cret%25@127.0.0.1:PORT?tls=required";
    let daemon = start(&format!("{}ca = {cert:?}\n", smtp(mails.port, url)));

    register(&daemon, "ada");
    let mut first = mails.next();
    assert_eq!(first, json!({ "refused": true }));
    // The second attempt is 15 s later.
    first = mails.next();
    assert_eq!((&first["secure"], &first["user"]), (&json!(true), &json!("ada")), "{first}");
    mails.seen -= 1;
    let verify = mails.token("ada@example.org", "verify-email");
    let body = json!({ "token": verify });
    assert_eq!(post(&daemon, "/api/v1/accounts/verify-email", body.clone()).status, 204);
    let again = post(&daemon, "/api/v1/accounts/verify-email", body);
    assert_eq!((again.status, again.problem().as_str()), (403, "invalid-mailed-token"));
    let session = access(&sign_in(&daemon, "ada", PASSWORD));
    let account = call(&daemon, "GET", "/api/v1/accounts/me", &session, &Value::Null).json();
    assert_eq!(account["email_verified"], true);

    for email in ["nobody@example.org", "ADA@example.org"] {
        let response = post(&daemon, "/api/v1/password-resets", json!({ "email": email }));
        assert_eq!((response.status, response.body.as_str()), (202, ""));
    }
    let reset = mails.token("ada@example.org", "reset-password");
    let body = json!({ "token": reset, "password": OTHER });
    let complete = "/api/v1/password-resets/complete";
    assert_eq!(post(&daemon, complete, body.clone()).status, 204);
    assert_eq!(post(&daemon, complete, body).status, 403, "once");
    let ended = call(&daemon, "GET", "/api/v1/accounts/me", &session, &Value::Null);
    assert_eq!(ended.status, 401);
    assert_eq!(sign_in(&daemon, "ada", PASSWORD).status, 401);
    let session = access(&sign_in(&daemon, "ada", OTHER));

    let change = json!({ "email": "countess@example.org", "password": OTHER });
    let changed = call(&daemon, "POST", "/api/v1/accounts/me/email", &session, &change);
    assert_eq!(changed.status, 204, "{}", changed.body);
    assert_eq!(mails.next()["to"], json!(["ada@example.org"]));
    let verify_other = mails.token("countess@example.org", "verify-email");
    assert_discreet(&daemon, &[&verify, &reset, &verify_other]);
}

/// The time step in which a test may still use its code.
fn unhurried() {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let rest = 30 - time.expect("after 1970").as_secs() % 30;
    if rest < 8 {
        thread::sleep(Duration::from_secs(rest));
    }
}

/// The code of an authenticator app: `oathtool`'s rule in Node (RFC 6238), not the daemon's code.
fn code(secret: &str, step: i32) -> String {
    const SCRIPT: &str = "\
        const [secret, step] = process.argv.slice(1);\
        let bits = '';\
        for (const letter of secret) {\
          bits += 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0');\
        }\
        const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));\
        const time = Buffer.alloc(8);\
        time.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000) + Number(step)));\
        const mac = require('node:crypto').createHmac('sha1', key).update(time).digest();\
        const number = mac.readUInt32BE(mac[19] & 15) & 0x7fffffff;\
        console.log(String(number % 1000000).padStart(6, '0'));";
    let output =
        Command::new("node").args(["-e", SCRIPT, "--", secret, &step.to_string()]).output();
    String::from_utf8(output.expect("node").stdout).expect("digits").trim().to_owned()
}

#[test]
fn an_authenticator_app_is_the_second_step_of_a_sign_in() {
    let daemon = start("");
    register(&daemon, "ada");
    let session = access(&sign_in(&daemon, "ada", PASSWORD));
    let path = "/api/v1/accounts/me/second-factor";
    let begun = call(&daemon, "POST", path, &session, &json!({ "password": PASSWORD }));
    let secret = begun.json()["secret"].as_str().expect("a secret").to_owned();
    unhurried();
    let body = json!({ "code": code(&secret, -1) });
    let confirmed = call(&daemon, "POST", &format!("{path}/confirm"), &session, &body);
    assert_eq!(confirmed.status, 200, "{}", confirmed.body);
    let recovery = confirmed.json()["recovery_codes"][0].as_str().expect("a code").to_owned();
    let first = sign_in(&daemon, "ada", PASSWORD);
    assert_eq!((first.status, first.problem().as_str()), (403, "second-factor-required"));
    let challenge = first.json()["challenge"].as_str().expect("a challenge").to_owned();
    let second = |code: &str| {
        let body = json!({ "challenge": challenge, "code": code });
        post(&daemon, "/api/v1/sessions/second-factor", body)
    };
    let now = code(&secret, 0);
    assert_eq!(second("000000").problem(), "wrong-code");
    let signed_in = access(&second(&now));
    let own = call(&daemon, "GET", "/api/v1/accounts/me", &signed_in, &Value::Null);
    assert_eq!(own.status, 200);
    assert_eq!(second(&now).problem(), "wrong-code", "a code is accepted once");
    assert_eq!((second(&recovery).status, second(&recovery).status), (201, 401));
    assert_discreet(&daemon, &[&secret, &challenge, &recovery]);
}

/// A browser: it keeps cookies by server and path, and follows redirects. The site's address leads
/// to the daemon.
struct Browser {
    site: SocketAddr,
    cookies: BTreeMap<(SocketAddr, String, String), String>,
}

impl Browser {
    fn new(daemon: &Daemon) -> Self {
        Self { site: daemon.http, cookies: BTreeMap::new() }
    }

    /// The server and the target of an address.
    fn server(&self, url: &str, from: SocketAddr) -> (SocketAddr, String) {
        if let Some(path) = url.strip_prefix(SITE) {
            return (self.site, path.to_owned());
        }
        match url.strip_prefix("http://") {
            Some(rest) => {
                let (server, path) = rest.split_once('/').expect("a path");
                (server.parse().expect("an address"), format!("/{path}"))
            }
            None => (from, url.to_owned()),
        }
    }

    fn send(&mut self, to: SocketAddr, method: &str, target: &str, form: &str) -> Response {
        let own = self.cookies.iter().filter(|((server, path, _), value)| {
            *server == to && target.starts_with(path.as_str()) && !value.is_empty()
        });
        let cookies = own.map(|((_, _, name), value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let headers = [
            ("cookie", cookies.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "none"),
        ];
        let response = send(to, method, target, &headers, form);
        for (_, cookie) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let mut fields = cookie.split(';').map(str::trim);
            let (name, value) = fields.next().and_then(|pair| pair.split_once('=')).expect("one");
            let path = fields.find_map(|field| {
                field.strip_prefix("path=").or_else(|| field.strip_prefix("Path="))
            });
            let path = path.unwrap_or("/").to_owned();
            self.cookies.insert((to, path, name.to_owned()), value.to_owned());
        }
        response
    }

    /// Begins a sign-in. The provider's page.
    #[track_caller]
    fn begin(&mut self) -> String {
        let start = "/api/v1/oidc/test/start?return_to=/watch/demo";
        let response = self.send(self.site, "GET", start, "");
        assert_eq!(response.status, 303, "{}", response.body);
        response.header("location").expect("an address").to_owned()
    }

    /// Signs in at the provider. The target at the daemon to which it redirects.
    #[track_caller]
    fn at_provider(&mut self, page: &str, login: &str) -> String {
        let (mut server, mut target) = self.server(page, self.site);
        for _ in 0..12 {
            if server == self.site {
                return target;
            }
            let mut response = self.send(server, "GET", &target, "");
            if response.status == 200 {
                let (_, form) = response.body.split_once("action=\"").expect("a form");
                let action = form.split('"').next().expect("an address").to_owned();
                let (to, action) = self.server(&action, server);
                let prompt = match response.body.contains("value=\"consent\"") {
                    true => "prompt=consent".to_owned(),
                    false => format!("prompt=login&login={login}&password=x"),
                };
                response = self.send(to, "POST", &action, &prompt);
            }
            let location = response.header("location");
            let location =
                location.unwrap_or_else(|| panic!("{} {}", response.status, response.body));
            (server, target) = self.server(location, server);
        }
        panic!("the provider redirects without end");
    }

    /// Comes back to the daemon.
    fn back(&mut self, target: &str) -> Response {
        self.send(self.site, "GET", target, "")
    }

    /// The account that is signed in.
    fn me(&mut self) -> Response {
        self.send(self.site, "GET", "/api/v1/accounts/me", "")
    }

    fn post(&mut self, target: &str, body: &Value) -> Response {
        let cookies = self.cookies.iter().filter(|((server, ..), _)| *server == self.site);
        let cookies = cookies.map(|((_, _, name), value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let headers = [
            ("cookie", cookies.as_str()),
            ("content-type", "application/json"),
            ("sec-fetch-site", "same-origin"),
        ];
        let response = send(self.site, "POST", target, &headers, &body.to_string());
        for (_, cookie) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("one");
            self.cookies.insert((self.site, "/".to_owned(), pair.0.to_owned()), pair.1.to_owned());
        }
        response
    }
}

/// A provider, and the daemon that lets people sign in there.
fn with_provider() -> (Process, String, Daemon) {
    let redirect = format!("{SITE}/api/v1/oidc/test/callback");
    let (provider, first) = node("oidc.mjs", &[&redirect, "0", "one"]);
    let issuer = first["issuer"].as_str().expect("an issuer").to_owned();
    let daemon = start(&format!(
        "[[oidc]]\nid = \"test\"\nname = \"The test\"\nissuer = {issuer:?}\n\
         client_id = \"streamforge\"\nclient_secret = \"s3cret-of-the-client\"\n"
    ));
    (provider, issuer, daemon)
}

/// The parameter of an address, and the address without it.
fn parameter(target: &str, name: &str) -> (String, String) {
    let (path, query) = target.split_once('?').expect("a query");
    let wanted = format!("{name}=");
    let mut value = String::new();
    let others = query.split('&').filter(|pair| match pair.strip_prefix(&wanted) {
        Some(found) => {
            value = found.to_owned();
            false
        }
        None => true,
    });
    let others = others.collect::<Vec<_>>().join("&");
    (value, format!("{path}?{others}"))
}

#[test]
fn people_sign_in_at_a_provider_and_link_their_accounts_to_it() {
    let (_provider, _, daemon) = with_provider();
    let providers = call(&daemon, "GET", "/api/v1/oidc", "", &Value::Null).json();
    assert_eq!(providers, json!({ "providers": [{ "id": "test", "name": "The test" }] }));

    // The first time makes an account, with the provider's word on the address.
    let mut ada = Browser::new(&daemon);
    let page = ada.begin();
    for field in ["code_challenge_method=S256", "code_challenge=", "state=", "nonce="] {
        assert!(page.contains(field), "{field} in {page}");
    }
    let target = ada.at_provider(&page, "ada");
    let back = ada.back(&target);
    assert_eq!((back.status, back.header("location")), (303, Some("/watch/demo")), "{}", back.body);
    let account = ada.me().json();
    assert_eq!((&account["name"], &account["email_verified"]), (&json!("ada"), &json!(true)));
    // The second time it is the same one.
    let mut elsewhere = Browser::new(&daemon);
    let page = elsewhere.begin();
    let target = elsewhere.at_provider(&page, "ada");
    elsewhere.back(&target);
    assert_eq!(elsewhere.me().json()["id"], account["id"]);
    // Nobody signs in to it with a password.
    assert_eq!(sign_in(&daemon, "ada", "").status, 401);

    // An account that has the address is not opened by it.
    register(&daemon, "bob");
    let mut bob = Browser::new(&daemon);
    let page = bob.begin();
    let target = bob.at_provider(&page, "bob");
    let refused = bob.back(&target);
    assert_eq!((refused.status, &refused.json()["rule"]), (409, &json!("email_taken")));
    assert_eq!(bob.me().status, 401);
    // Its owner links it.
    let body = json!({ "login": "bob", "password": PASSWORD, "mode": "cookie" });
    assert_eq!(bob.post("/api/v1/sessions", &body).status, 201);
    let link = json!({ "provider": "test", "return_to": "/account" });
    let onward = bob.post("/api/v1/accounts/me/identities", &link);
    let page = onward.json()["location"].as_str().expect("an address").to_owned();
    let target = bob.at_provider(&page, "bob");
    let back = bob.back(&target);
    assert_eq!((back.status, back.header("location")), (303, Some("/account")), "{}", back.body);
    let mut fresh = Browser::new(&daemon);
    let page = fresh.begin();
    let target = fresh.at_provider(&page, "bob");
    fresh.back(&target);
    assert_eq!(fresh.me().json()["name"], "bob");
    assert_discreet(&daemon, &[]);
}

#[test]
fn a_response_of_a_provider_that_is_not_the_one_to_this_sign_in_is_refused() {
    let (provider, issuer, daemon) = with_provider();
    let refused = |response: Response| {
        assert_eq!((response.status, response.problem().as_str()), (403, "provider-refused"));
    };
    let mut ada = Browser::new(&daemon);
    let page = ada.begin();
    let target = ada.at_provider(&page, "ada");
    // Another state, none, another browser, and another issuer.
    let (state, without) = parameter(&target, "state");
    refused(ada.back(&format!("{without}&state=x{state}")));
    refused(ada.back(&without));
    refused(Browser::new(&daemon).back(&target));
    let (_, without) = parameter(&target, "iss");
    refused(ada.back(&format!("{without}&iss=https://evil.example")));
    // A code of another sign-in: its PKCE challenge is another one.
    let mut eve = Browser::new(&daemon);
    let page = eve.begin();
    let foreign = eve.at_provider(&page, "eve");
    let (code, _) = parameter(&foreign, "code");
    let (_, without) = parameter(&target, "code");
    refused(ada.back(&format!("{without}&code={code}")));
    assert_eq!(ada.me().status, 401);
    // The right one, and again.
    let page = ada.begin();
    let target = ada.at_provider(&page, "ada");
    let cookies = ada.cookies.clone();
    assert_eq!(ada.back(&target).status, 303);
    refused(ada.back(&target));
    ada.cookies = cookies;
    refused(ada.back(&target));
    // Another nonce: the provider puts the one of the request into the token.
    let mut bent = Browser::new(&daemon);
    let page = bent.begin();
    let (nonce, without) = parameter(&page, "nonce");
    let target = bent.at_provider(&format!("{without}&nonce=x{nonce}"), "ada");
    refused(bent.back(&target));
    assert_eq!(bent.me().status, 401);

    // The provider rotates its key: the document is fetched again.
    drop(provider);
    let port = issuer.rsplit(':').next().expect("a port").to_owned();
    let redirect = format!("{SITE}/api/v1/oidc/test/callback");
    thread::sleep(Duration::from_secs(6));
    let (_provider, _) = node("oidc.mjs", &[&redirect, &port, "two"]);
    let mut late = Browser::new(&daemon);
    let page = late.begin();
    let target = late.at_provider(&page, "ada");
    let back = late.back(&target);
    assert_eq!(back.status, 303, "{}", back.body);
    assert_eq!(late.me().json()["name"], "ada");
    // And it is gone.
    drop(_provider);
    let page = late.begin();
    let (state, _) = parameter(&page, "state");
    let gone = late.back(&format!("/api/v1/oidc/test/callback?code=x&state={state}"));
    assert_eq!((gone.status, gone.problem().as_str()), (502, "provider-faulty"));
}

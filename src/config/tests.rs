use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config, Error, Policy,
    source::{Loaded, load, parse, settings},
};

fn read(text: &str) -> Result<Config, Error> {
    with_env(text, &[])
}

fn with_env(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let variables =
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = parse(Path::new("test.toml"), text, &settings(variables)?)?.config;
    config.check()?;
    Ok(config)
}

fn refusal(text: &str) -> String {
    let refusal = read(text).unwrap_err().to_string();
    assert!(!refusal.contains('\n'), "{refusal}");
    refusal
}

fn refused_variable(name: &str, value: &str) -> String {
    with_env("", &[(name, value)]).unwrap_err().to_string()
}

fn shipped(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)).unwrap()
}

#[test]
fn every_shipped_configuration_file_is_valid() {
    let files = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap();
    let mut count = 0;
    for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        load(Some(&file), []).unwrap_or_else(|err| panic!("{err}"));
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn the_defaults_equal_the_shipped_configuration_file() {
    assert_eq!(read(&shipped("streamforge.toml")).unwrap(), Config::default());
    assert_eq!(read("").unwrap(), Config::default());
    assert_eq!(Config::default().publish.policy, Policy::Keys);
}

/// The file is also valid with its commented keys.
#[test]
fn the_commented_keys_of_the_shipped_file_are_valid() {
    let text: String = shipped("streamforge.toml")
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(shown) if !shown.starts_with(' ') => format!("{shown}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = read(&text).unwrap_or_else(|err| panic!("{err}\n{text}"));
    assert_eq!((config.publish.keys.len(), config.playback.keys.len()), (2, 2));
    assert!(config.publish.jwt.secret.is_some() && config.publish.webhook.done_url.is_some());
    assert!(config.api.administrator().is_some());
}

#[test]
fn an_unknown_key_or_section_is_refused_by_name_and_line() {
    let refusal = refusal("data_dir = \"data\"\n\n[live]\npart_ms = 200\npart_secs = 1\n");
    assert!(refusal.starts_with("test.toml:5: part_secs: unknown field `part_secs`"), "{refusal}");
    let refusal = self::refusal("[liev]\npart_ms = 200\n");
    assert!(refusal.starts_with("test.toml:1: unknown field `liev`"), "{refusal}");
    let refusal = self::refusal("[rtmp]\nlistem = \"\"\n");
    assert!(refusal.starts_with("test.toml:2: listem: unknown field"), "{refusal}");
}

#[test]
fn invalid_toml_is_refused_with_its_line() {
    assert!(refusal("[live]\npart_ms = = 1\n").starts_with("test.toml:2: "));
}

#[test]
fn a_value_out_of_range_is_refused_by_line_with_its_range() {
    assert_eq!(
        refusal("[live]\nsegment_ms = 999\n"),
        "test.toml:2: segment_ms: 999, it must be 1000 to 10000"
    );
    assert!(refusal("[live]\nwindow_s = -1\n").contains("window_s: -1, it must be 6 to 86400"));
    assert!(refusal("[live]\npart_ms = \"200\"\n").contains("a whole number from 50 to 2000"));
    assert!(refusal("[admin]\nlisten = \"9090\"\n").contains("not an address and port"));
}

#[test]
fn text_of_several_bytes_before_an_error_does_not_move_its_line() {
    // Characters of two, three and four bytes, before the error and at its position.
    let before = "# Größe, 長さ, 🎥\ndata_dir = \"/srv/Größe/長さ/🎥\"\n";
    assert!(refusal(&format!("{before}[live]\npart_secs = 1\n")).starts_with("test.toml:4: "));
    assert!(refusal(&format!("{before}[live]\npart_ms = 🎥\n")).starts_with("test.toml:4: "));
    assert!(refusal(&format!("{before}長さ")).starts_with("test.toml:3: "));
}

#[test]
fn inconsistent_values_are_refused() {
    assert!(
        refusal("[live]\npart_ms = 600\nsegment_ms = 1000\n")
            .contains("at most half of live.segment_ms, 500")
    );
    assert!(refusal("[live]\nsegment_ms = 6000\nwindow_s = 30\n").contains("at least 36"));
    assert!(refusal("[demo]\nenabled = true\n[rtmp]\nlisten = \"\"\n").contains("rtmp.listen"));
    assert!(refusal("[rtmp]\nidle_ms = 1\n").contains("rtmp.idle_ms is 1"));
}

fn loaded(text: &str) -> Loaded {
    parse(Path::new("test.toml"), text, &Vec::new()).unwrap()
}

#[test]
fn an_edge_is_not_its_own_origin() {
    let edge = |origin: &str, more: &str| {
        format!("{more}\n[edge]\norigin = [\"http://origin.example\", \"{origin}\"]\n")
    };
    let http = "[http]\nlisten = [\"127.0.0.1:8090\"]";
    assert!(
        refusal(&edge("http://localhost:8090", http)).contains("itself listens on 127.0.0.1:8090")
    );
    assert!(refusal(&edge("http://[::1]:8080", "")).contains("itself listens on [::]:8080"));
    let tls = "[tls]\nself_signed = true";
    assert!(refusal(&edge("https://127.0.0.1:8443", tls)).contains("itself listens on [::]:8443"));
    // Nothing of this process listens there.
    for text in [edge("http://127.0.0.1:8091", http), edge("https://127.0.0.1:8443", "")] {
        assert!(read(&text).is_ok(), "{text}");
    }
    for origin in ["http://127.0.0.1:99999", "http://:15501", "http://[fe80::1%25lo]:80"] {
        assert!(refusal(&edge(origin, "")).contains("has no valid host and port"), "{origin}");
    }
}

#[test]
fn without_a_certificate_no_tls_listener_is_opened() {
    let purposes = |text: &str| {
        let wanted = read(text).unwrap().listeners();
        wanted.iter().map(|wanted| wanted.purpose.name()).collect::<Vec<_>>()
    };
    assert_eq!(purposes(""), ["rtmp", "http", "admin"]);
    let all = ["rtmp", "rtmps", "http", "https", "quic", "admin"];
    assert_eq!(purposes("[tls]\nself_signed = true\n"), all);
    assert_eq!(purposes("[tls]\ncert = \"a\"\nkey = \"b\"\n"), all);
    assert_eq!(
        purposes(
            "[tls]\nself_signed = true\n[https]\nhttp3 = false\nlisten = [\"127.0.0.1:1\", \
             \"[::1]:1\"]\n"
        ),
        ["rtmp", "rtmps", "http", "https", "https", "admin"]
    );
    assert!(refusal("[tls]\ncert = \"a\"\n").contains("tls.cert and tls.key belong together"));
    assert!(refusal("[admin]\nlisten = [\"127.0.0.1\"]\n").contains("not an address and port"));
}

#[test]
fn two_configurations_are_compared_by_value_key_by_key() {
    let old = loaded("data_dir = \"a\"\n[live]\npart_ms = 100\n[rtmp]\napp = \"live\"\n");
    let new = loaded(
        "data_dir = \"b\"\n[live]\nsegment_ms = 2000\n[http]\nmax_streams = 7\n\
         [[publish.keys]]\nchannel = \"a\"\nkey = \"12345678\"\n",
    );
    // An explicit setting in place of an equal built-in value, or vice versa, is no change.
    assert_eq!(old.changes(&new), ["data_dir", "http.max_streams", "live.part_ms", "publish.keys"]);
    assert_eq!(new.changes(&new.clone()), Vec::<String>::new());
    let between = old.adopt(&new, |key| key == "publish.keys").unwrap();
    assert_eq!(old.changes(&between), ["publish.keys"]);
    assert_eq!(between.config.publish.keys.len(), 1);
    assert_eq!(between.changes(&new), ["data_dir", "http.max_streams", "live.part_ms"]);
}

#[test]
fn an_invalid_ladder_is_refused() {
    let rungs = |rungs: &str| refusal(&format!("[ladder]\nrungs = [{rungs}]\n"));
    let rung = |height| format!("{{ height = {height}, video_kbps = 500 }}, ");
    assert!(rungs(&rung(720).repeat(2)).contains("two entries with a height of 720"));
    assert!(rungs(&rung(361)).contains("a height of 361, which must be even"));
    assert!(rungs(&rung(32)).contains("32, it must be 64 to 4320"));
    let many: String = (50..61).map(|n| rung(n * 2)).collect();
    assert!(rungs(&many).contains("11 entries"));
    assert!(refusal("[ladder]\npreset = \"quick\"\n").contains("veryfast"));
    assert!(refusal("[ladder]\naudio_kbps = 8\n").contains("16 to 512"));
    assert!(refusal("[ladder]\ntuning = \"film\"\n").contains("film"));
    assert!(refusal("[ladder]\nnice = 20\n").contains("0 to 19"));
    assert_eq!(read("[ladder]\nnice = 0\n").unwrap().ladder.transcoder().nice, 0);
    let stands_in = read("[ladder]\nenabled = false\nstand_in = true\n").unwrap().ladder;
    assert!(stands_in.encodes() && stands_in.transcoder().rungs.is_empty());
    assert!(!read("[ladder]\nenabled = false\n").unwrap().ladder.encodes());
    assert!(
        read("[ladder]\nencoder = \"openh264\"\ntuning = \"quality\"\naudio_kbps = 64\n").is_ok()
    );
    let rungs = "STREAMFORGE_LADDER_RUNGS";
    assert!(with_env("", &[(rungs, "[{ height = 240, video_kbps = 300 }]")]).is_ok());
}

#[test]
fn environment_variables_override_the_file() {
    let text = "[live]\npart_ms = 100\nsegment_ms = 3000\n[publish]\npolicy = \"keys\"\n";
    let variables = [
        ("STREAMFORGE_LIVE_PART_MS", "300"),
        ("STREAMFORGE_PUBLISH_POLICY", "open"),
        ("STREAMFORGE_DATA_DIR", "/somewhere"),
        ("STREAMFORGE_HTTP_LISTEN", ""),
        ("STREAMFORGE_DEMO_ENABLED", "true"),
        ("STREAMFORGE_PUBLISH_KEYS", "[{ channel = \"a\", key = \"12345678\" }]"),
        ("SOMETHING_ELSE", "1"),
    ];
    let config = with_env(text, &variables).unwrap();
    assert_eq!(config.live.part_ms.get(), 300);
    assert_eq!(config.live.segment_ms.get(), 3_000);
    assert_eq!(config.publish.policy, Policy::Open);
    assert_eq!(config.data_dir, Path::new("/somewhere"));
    assert_eq!(config.http.listen, []);
    assert!(config.demo.enabled);
    assert!(config.publish.keys[0].digest.matches("12345678"));
}

#[test]
fn a_numeric_environment_value_is_a_string_for_a_string_key() {
    let config = with_env("", &[("STREAMFORGE_API_ADMIN_TOKEN", "1234567890")]).unwrap();
    assert!(config.api.administrator().unwrap().matches("1234567890"));
}

#[test]
fn an_unknown_or_invalid_environment_variable_is_refused_by_name() {
    let refusal = refused_variable("STREAMFORGE_LIVE_PARTS", "1");
    assert!(
        refusal.starts_with("environment variable STREAMFORGE_LIVE_PARTS: unknown field `parts`"),
        "{refusal}"
    );
    assert!(refused_variable("STREAMFORGE_HOME", "/").contains("unknown field `home`"));
    assert!(refused_variable("STREAMFORGE_LIVE_PART_MS", "1").contains("PART_MS: 1, it must be"));
    assert!(refused_variable("STREAMFORGE_LIVE_PART_MS", "fast").contains("whole number"));
}

#[test]
fn playback_keys_are_validated_and_never_shown() {
    let secret = "0123456789abcdef-s3cret-0123456789abcdef";
    let key = format!("[[playback.keys]]\nid = \"a\"\nsecret = \"{secret}\"\n");
    let config = read(&key).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    for (text, words) in [
        (key.replace("0123456789abcdef", ""), "8 bytes, HS256 needs 32 to 1024"),
        (key.replace("secret =", "secrets ="), "unknown field"),
        (key.repeat(2), "one key only"),
        ("[playback]\nprivate = [\"a/b\"]\n".into(), "channel name"),
        ("[playback]\nleeway_s = 1000\n".into(), "0 to 300"),
    ] {
        let said = refusal(&text);
        assert!(said.contains(words) && !said.contains("s3cret-"), "{text}: {said}");
    }
    let from_environment = [("STREAMFORGE_PLAYBACK_PRIVATE", "[\"a\", \"b\"]")];
    assert_eq!(with_env(&key, &from_environment).unwrap().playback.private.len(), 2);
}

#[test]
fn publish_keys_are_validated_and_never_shown() {
    let text = "[[publish.keys]]\nchannel = \"a\"\nkey = \"s3cret-s3cret\"\n";
    let config = read(text).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(refusal("[[publish.keys]]\nchannel = \"a\"\n").contains("either key or key_sha256"));
    assert!(
        refusal("[[publish.keys]]\nchannel = \"a/b\"\nkey = \"12345678\"\n")
            .contains("channel name")
    );
    let short = refusal("[[publish.keys]]\nchannel = \"a\"\nkey = \"s3cret\"\n");
    assert!(short.contains("8 to 256 bytes") && !short.contains("s3cret"), "{short}");
    let typed = refusal("[[publish.keys]]\nchannel = \"a\"\nkey = 73577357\n");
    assert_eq!(typed, "test.toml:3: key: invalid type: integer, expected a string");
    let listed = refusal("[publish]\nkeys = [\"s3cret, expected\"]\n");
    assert!(
        listed.contains("invalid type: string, expected") && !listed.contains("s3cret"),
        "{listed}"
    );
}

#[test]
fn the_limits_and_origins_of_the_api_are_checked() {
    let limits = |text: &str| read(&format!("[api]\n{text}")).unwrap().api.limits();
    assert_eq!(limits(""), control_api::rate::Limits::default());
    let changed = limits("limit = \"off\"\nlogin_limit = \"7/1h\"");
    assert_eq!((changed.api, changed.login), (None, "7/1h".parse().ok()));
    assert_eq!(changed.mail, control_api::rate::Limits::default().mail);
    let named = with_env("", &[("STREAMFORGE_API_SIGN_UP_LIMIT", "1/1m")]).unwrap();
    assert_eq!(named.api.limits().sign_up, "1/1m".parse().ok());
    for (line, expected) in [
        ("limit = \"50\"", "is no rate"),
        ("mail_limit = \"0/1s\"", "is no rate"),
        ("cors_origins = [\"https://a/\"]", "is no origin"),
        ("cors_origins = [\"*\", \"https://a\"]", "is no origin"),
    ] {
        let refusal = refusal(&format!("[api]\n{line}\n"));
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_policy_needs_its_settings() {
    let publish = |text: &str| format!("[publish]\npolicy = {text}\n");
    assert!(refusal(&publish("\"jwt\"")).contains("needs publish.jwt.secret"));
    assert!(refusal(&publish("\"webhook\"")).contains("needs publish.webhook.url"));
    let policy = refusal(&publish("\"tokens\""));
    assert!(policy.starts_with("test.toml:2: policy: unknown variant"), "{policy}");
    let webhook = publish("\"webhook\"\n[publish.webhook]\nurl = \"http://127.0.0.1:8000\"");
    let config = read(&webhook).unwrap();
    assert_eq!(config.publish.webhook.timeout().as_millis(), 2_000);
    let done = "done_url = \"https://id.example/done\"\n";
    assert!(refusal(&format!("{webhook}{done}")).contains("format = \"nginx-rtmp\""));
    assert!(read(&format!("{webhook}{done}format = \"nginx-rtmp\"\n")).is_ok());
    let jwt = publish("\"jwt\"\n[publish.jwt]\njwks = \"jwks.json\"");
    assert_eq!(read(&jwt).unwrap().publish.policy, Policy::Jwt);
    let variable = ("STREAMFORGE_PUBLISH_JWT", "{ jwks = \"jwks.json\" }");
    assert!(with_env("[publish]\npolicy = \"jwt\"\n", &[variable]).is_ok());
}

#[test]
fn settings_of_tokens_and_back_ends_are_checked_by_line_and_their_secrets_never_shown() {
    let webhook = |line: &str| refusal(&format!("[publish.webhook]\n{line}\n"));
    for url in [
        "s3cret",
        "ftp://s3cret.example/",
        "/s3cret",
        "http:///s3cret",
        "http://s3cret.example:99999/",
        "http://a b/s3cret",
    ] {
        let refusal = webhook(&format!("url = \"{url}\""));
        assert!(refusal.starts_with("test.toml:2: url: not an address"), "{refusal}");
        assert!(!refusal.contains("s3cret"), "{refusal}");
    }
    let user = webhook("url = \"http://me:s3cret@id.example/\"");
    assert!(user.contains("user and password") && !user.contains("s3cret"), "{user}");
    assert!(webhook("timeout_ms = 50").contains("timeout_ms: 50, it must be 100 to 10000"));
    assert!(webhook("max_requests = 0").contains("max_requests: 0, it must be 1 to 1024"));
    assert!(webhook("format = \"nginx\"").contains("unknown variant"));
    assert!(webhook("uri = \"\"").contains("test.toml:2: uri: unknown field"));
    let short = refusal("[publish.jwt]\nsecret = \"s3cret\"\n");
    assert!(short.contains("32 to 1024 bytes") && !short.contains("s3cret"), "{short}");
    let config = read(
        "[publish.jwt]\nsecret = \"s3cret-s3cret-s3cret-s3cret-s3cret\"\n[publish.webhook]\n\
         url = \"https://id.example:8443/s3cret?key=s3cret\"\n",
    );
    let shown = format!("{:?}", config.unwrap());
    assert!(shown.contains("https://id.example:8443/***") && !shown.contains("s3cret"), "{shown}");
}

//! The certificate in use: replaced under load, and self-signed.

use super::*;

#[test]
fn a_certificate_change_under_load_fails_no_request() {
    let secure = ended();
    let next = Certificate::make(secure.workdir.path(), "next");
    let before = Certificate {
        cert: secure.workdir.path().join("before.pem"),
        ..secure.certificate.clone()
    };
    fs::copy(&secure.certificate.cert, &before.cert).expect("a copy");
    let media = follow::read(secure.daemon.http, VIDEO);
    let part = secure.url(&resolve(VIDEO, &part_of(&media.segments[1], 0)));
    // One loader keeps its connections, another opens a new one for every few requests, a third
    // pauses between its requests.
    let mut kept = before.connect(secure.https[0], &["http/1.1"]).expect("a connection");
    let steady = h2load(&["-D", "8", "-c", "10", "-m", "4"], std::slice::from_ref(&part));
    let also = h2load(&["--h1", "-D", "8", "-c", "10"], std::slice::from_ref(&part));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(one_request(&mut kept), 200);
    next.replace(&secure.certificate);
    proc::signal(secure.daemon.process.id(), "HUP");
    wait_for("new certificate", Duration::from_secs(5), || {
        next.connect(secure.https[0], &["h2"]).ok().map(drop)
    });
    let old = before.connect(secure.https[0], &["h2"]);
    assert!(old.is_err(), "the old one is shown no more");
    assert_eq!(one_request(&mut kept), 200, "who was connected stays so");
    for said in [steady.wait(), also.wait()] {
        assert!(said.contains(" 0 failed, 0 errored, 0 timeout"), "{said}");
        assert!(said.contains(" 0 3xx, 0 4xx, 0 5xx"), "{said}");
    }
    assert_eq!(one_request(&mut kept), 200, "who was connected stays so");
    let said = tls::h3("get", &next, &secure.url(""), &["/time"]);
    assert_eq!(said["answers"][0]["status"], 200, "QUIC shows the new one as well");
}

/// Requests the time on a connection that stays open.
fn one_request(stream: &mut tls::Stream) -> u16 {
    stream.write_all(b"GET /time HTTP/1.1\r\nHost: x\r\n\r\n").expect("the request is taken");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || !answer.ends_with(b"Z") {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer)[9..12].parse().expect("a status")
}

#[test]
fn a_self_signed_certificate_is_created_once_and_reused() {
    let workdir = Workdir::new("self-signed");
    let settings = Settings {
        env: [
            ("STREAMFORGE_HTTPS_LISTEN", "127.0.0.1:0"),
            ("STREAMFORGE_RTMPS_LISTEN", "127.0.0.1:0"),
            ("STREAMFORGE_TLS_SELF_SIGNED", "true"),
            ("STREAMFORGE_DATA_DIR", workdir.path().to_str().expect("a UTF-8 path")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..Settings::default()
    };
    let shown = || {
        let mut daemon = Daemon::start(&settings);
        let https = listeners(&mut daemon, "https", 1)[0];
        let directory = workdir.path().join("tls");
        let certificate = Certificate {
            cert: directory.join("self-signed.pem"),
            key: directory.join("self-signed.key"),
        };
        // It is valid for this machine's names, and equals the certificate in the file.
        for alpn in [&["h2"][..], &["http/1.1"], &[]] {
            certificate.connect(https, alpn).expect("a connection");
        }
        certificate.der()
    };
    assert_eq!(shown(), shown());
}

//! TLS from the clients' side: certificates for a test, a client that trusts only one of them, and
//! programs that use HTTP over it.

use super::Workdir;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

/// A certificate for this machine's names, and its key, as PEM files.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A TLS client's stream.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Certificate {
    /// Creates a new one as `NAME.pem` and `NAME.key`.
    pub(crate) fn make(directory: &Path, name: &str) -> Self {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(names).expect("names");
        let made = Self {
            cert: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(&made.cert, certificate.pem()).expect("a file");
        fs::write(&made.key, key.serialize_pem()).expect("a file");
        made
    }

    /// Replaces `other`, each file atomically, as certbot's hooks do.
    pub(crate) fn replace(&self, other: &Self) {
        for (from, to) in [(&self.key, &other.key), (&self.cert, &other.cert)] {
            let beside = to.with_extension("new");
            fs::copy(from, &beside).expect("a copy");
            fs::rename(&beside, to).expect("a file that is moved");
        }
    }

    /// The first certificate of the file, in DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_file(&self.cert).expect("a certificate").as_ref().to_owned()
    }

    /// The daemon's settings for it, with a listener at each of `addresses`.
    pub(crate) fn settings(&self, addresses: &[&str]) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        [
            ("STREAMFORGE_HTTPS_LISTEN", format!("{addresses:?}")),
            ("STREAMFORGE_RTMPS_LISTEN", "127.0.0.1:0".into()),
            ("STREAMFORGE_TLS_CERT", path(&self.cert)),
            ("STREAMFORGE_TLS_KEY", path(&self.key)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Performs a handshake with `addr`, trusting only this certificate. Returns the error text if
    /// it fails.
    pub(crate) fn connect(&self, addr: SocketAddr, alpn: &[&str]) -> Result<Stream, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der().into()).map_err(|err| err.to_string())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::from(addr.ip());
        let connection =
            ClientConnection::new(Arc::new(config), name).map_err(|err| err.to_string())?;
        let socket = TcpStream::connect(addr).map_err(|err| err.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a limit");
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|err| err.to_string())?;
        }
        Ok(stream)
    }
}

/// A response as a client received it, without the fields of a connection, a moment or a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In the order of their names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(
        status: u16,
        headers: impl IntoIterator<Item = (String, String)>,
        body: Vec<u8>,
    ) -> Self {
        const PASSING: [&str; 5] =
            ["date", "connection", "alt-svc", "transfer-encoding", "keep-alive"];
        let mut headers: Vec<_> =
            headers.into_iter().filter(|(name, _)| !PASSING.contains(&name.as_str())).collect();
        headers.sort();
        Self { status, headers, body }
    }
}

/// curl's output with these options; it trusts only `certificate`.
#[track_caller]
pub(crate) fn curl(certificate: &Certificate, url: &str, options: &[&str]) -> Answer {
    let workdir = Workdir::new("curl");
    let [head, body] = ["head", "body"].map(|name| workdir.path().join(name));
    fs::write(&body, "").expect("a file");
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--path-as-is", "--cacert"])
        .arg(&certificate.cert)
        .arg("-D")
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(options)
        .arg(url)
        .output()
        .expect("curl; `make test` installs what is needed");
    assert!(
        output.status.success(),
        "curl {options:?} {url}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let head = fs::read_to_string(&head).expect("text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Answer::new(status.parse().expect("a status"), headers, fs::read(&body).expect("a file"))
}

/// The value of curl's `--write-out` variable.
#[track_caller]
pub(crate) fn curl_variable(
    certificate: &Certificate,
    url: &str,
    options: &[&str],
    variable: &str,
) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-o", "/dev/null", "--cacert"])
        .arg(&certificate.cert)
        .args(["-w", &format!("%{{{variable}}}")])
        .args(options)
        .arg(url)
        .output()
        .expect("curl; `make test` installs what is needed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The output of tests/players/h3.py in `mode`, with these options.
#[track_caller]
pub(crate) fn h3(mode: &str, certificate: &Certificate, url: &str, options: &[&str]) -> Value {
    let players = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/players");
    let python = players.join(".venv/bin/python");
    assert!(python.exists(), "run `make test`, which installs aioquic");
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120"])
        .arg(python)
        .arg(players.join("h3.py"))
        .args([mode, "--url", url, "--certificate"])
        .arg(&certificate.cert)
        .args(options)
        .output()
        .expect("python");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|err| panic!("h3.py: {err}: {}", String::from_utf8_lossy(&output.stderr)))
}

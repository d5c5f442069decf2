//! Other servers of Debian, configured to serve the files of a directory as fast as they can, for
//! comparison with the daemon. Their own files are in that directory too.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use crate::{Failure, certificate::Certificate, port::free_port, process::Server};

/// A server and its addresses.
#[derive(Debug)]
pub struct Rival {
    /// Its process.
    pub server: Server,
    /// HTTP/1.1 without TLS.
    pub plain: Option<SocketAddr>,
    /// TLS: HTTP/1.1 and HTTP/2, and HTTP/3 on the same port if supported.
    pub tls: Option<SocketAddr>,
}

/// nginx with one worker. `sendfile` is off, since it costs more than copies on loopback, and one
/// buffer holds a whole segment; open files are cached, as an operator with many requests would
/// configure.
///
/// # Errors
/// It is not installed, or does not listen.
pub fn nginx(directory: &Path, certificate: &Certificate, core: usize) -> Result<Rival, Failure> {
    let (plain, tls) = (free_port()?, free_port()?);
    let here = directory.display();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {here}/nginx.pid;\nerror_log \
         {here}/nginx.log warn;\nevents {{ worker_connections 1024; }}\nhttp {{\n  access_log \
         off;\n  sendfile off;\n  output_buffers 1 2m;\n  tcp_nodelay on;\n  keepalive_requests \
         1000000000;\n  keepalive_timeout 1h;\n  open_file_cache max=100 inactive=1h;\n  \
         client_body_temp_path {here}/t1;\n  proxy_temp_path {here}/t2;\n  fastcgi_temp_path \
         {here}/t3;\n  uwsgi_temp_path {here}/t4;\n  scgi_temp_path {here}/t5;\n  server {{\n    \
         listen {plain};\n    listen {tls} ssl http2;\n    ssl_certificate {cert};\n    \
         ssl_certificate_key {key};\n    ssl_protocols TLSv1.2 TLSv1.3;\n    root {here};\n  \
         }}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text)?;
    let server = Server::start(Path::new("/usr/sbin/nginx"), Some(core), |command| {
        command.arg("-c").arg(&file).arg("-e").arg(directory.join("nginx.log"));
    })?;
    // Both listeners are opened before the first accept, so one is enough to check.
    listens(tls, "nginx", &directory.join("nginx.log"))?;
    Ok(Rival { server, plain: Some(plain), tls: Some(tls) })
}

/// Varnish with storage in memory, in front of `origin`.
///
/// # Errors
/// It is not installed, or does not listen.
pub fn varnish(directory: &Path, origin: SocketAddr, core: usize) -> Result<Rival, Failure> {
    let plain = free_port()?;
    let file = directory.join("default.vcl");
    let text = format!(
        "vcl 4.1;\nbackend default {{ .host = \"{}\"; .port = \"{}\"; }}\nsub vcl_backend_response \
         {{ set beresp.ttl = 1h; }}\n",
        origin.ip(),
        origin.port()
    );
    fs::write(&file, text)?;
    let log = directory.join("varnish.log");
    let server = Server::start(Path::new("/usr/sbin/varnishd"), Some(core), |command| {
        command
            .args(["-F", "-j", "none", "-s", "malloc,256m", "-n"])
            .arg(directory.join("varnish"));
        command.arg("-a").arg(plain.to_string()).arg("-f").arg(&file);
        // Its standard output does not belong in the results.
        command.stdout(Stdio::null());
        if let Ok(log) = fs::File::create(&log) {
            command.stderr(log);
        }
    })?;
    listens(plain, "varnish", &log)?;
    Ok(Rival { server, plain: Some(plain), tls: None })
}

/// Caddy's file server with HTTP/1.1, HTTP/2 and HTTP/3.
///
/// # Errors
/// It is not installed, or does not listen.
pub fn caddy(directory: &Path, certificate: &Certificate, core: usize) -> Result<Rival, Failure> {
    let tls = free_port()?;
    let port = tls.port();
    let text = format!(
        "{{\n  admin off\n  auto_https off\n  default_bind 127.0.0.1\n  log {{\n    level ERROR\n  \
         }}\n  servers {{\n    protocols h1 h2 h3\n  }}\n}}\nhttps://localhost:{port}, \
         https://127.0.0.1:{port} {{\n  tls {} {}\n  root * {}\n  file_server\n}}\n",
        certificate.cert.display(),
        certificate.key.display(),
        directory.display()
    );
    let file = directory.join("Caddyfile");
    fs::write(&file, text)?;
    let log = directory.join("caddy.log");
    let server = Server::start(Path::new("/usr/bin/caddy"), Some(core), |command| {
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        command
            .env("HOME", directory)
            .env("XDG_DATA_HOME", directory)
            .env("XDG_CONFIG_HOME", directory);
        if let Ok(log) = fs::File::create(&log) {
            command.stderr(log);
        }
    })?;
    listens(tls, "caddy", &log)?;
    Ok(Rival { server, plain: None, tls: Some(tls) })
}

/// Waits until a server accepts connections, at most 10 s.
///
/// # Errors
/// It does not; the error contains its log.
fn listens(address: SocketAddr, name: &str, log: &Path) -> Result<(), Failure> {
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    Err(format!("{name} does not listen: {log}").into())
}

//! wrk and h2load as child processes of a run: one thread each, on the parent's core. Parses their
//! counts and errors.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::Failure;

/// The counts of a loader.
#[derive(Debug, Clone)]
pub struct Count {
    /// Whole responses.
    pub requests: u64,
    /// Bytes of these and of incomplete responses, as the loader counts: wrk with an error of a
    /// hundredth.
    pub bytes: u64,
}

/// wrk: HTTP/1.1 over `connections` connections, plain or TLS. OpenSSL's clients offer AES-256
/// first; a file in `directory` makes wrk offer the ciphers of browsers.
///
/// # Errors
/// It is not installed, or a response was not whole and 200.
pub fn wrk(
    url: &str,
    connections: usize,
    seconds: u64,
    directory: &Path,
) -> Result<Count, Failure> {
    // wrk has no option for ciphers, but its OpenSSL reads this file.
    let openssl = directory.join("openssl.cnf");
    fs::write(
        &openssl,
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = \
         tls\n[tls]\nCiphersuites = \
         TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256\n",
    )?;
    let output = run(Command::new("wrk").env("OPENSSL_CONF", openssl).args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "--timeout",
        "10s",
        url,
    ]))?;
    faultless(&output).map_err(|fault| format!("{url}: {fault}"))?;
    // `  22381 requests in 3.00s, 26.01GB read`
    let line = output.lines().find(|line| line.contains(" requests in "));
    let mut words = line.ok_or_else(|| format!("wrk prints {output}"))?.split_whitespace();
    let requests = words.next().and_then(|word| word.parse().ok());
    let bytes = words.nth(3).and_then(size);
    let count = requests.zip(bytes).map(|(requests, bytes)| Count { requests, bytes });
    count.ok_or_else(|| format!("wrk prints {output}").into())
}

/// The result of [`latency`].
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Responses a second.
    pub rate: f64,
    /// The 99th percentile of their times, in milliseconds.
    pub p99_ms: f64,
}

/// wrk with a script that makes its requests: HTTP/1.1 without TLS, with the times of responses.
///
/// # Errors
/// See [`wrk`].
pub fn latency(
    server: SocketAddr,
    script: &Path,
    connections: usize,
    seconds: u64,
) -> Result<Latency, Failure> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", "--timeout", "10s"]);
    command.arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).arg("-s").arg(script);
    let output = run(command.arg(format!("http://{server}/")))?;
    faultless(&output)?;
    let word = |line: &str| {
        let line = output.lines().find_map(|text| text.trim_start().strip_prefix(line))?;
        line.split_whitespace().next()
    };
    let rate = word("Requests/sec:").and_then(|word| word.parse().ok());
    let p99_ms = word("99%").and_then(milliseconds);
    let both = rate.zip(p99_ms).map(|(rate, p99_ms)| Latency { rate, p99_ms });
    both.ok_or_else(|| format!("wrk prints {output}").into())
}

/// wrk prints these lines only if there were such errors.
fn faultless(output: &str) -> Result<(), Failure> {
    for fault in ["Socket errors", "Non-2xx"] {
        if let Some(line) = output.lines().find(|line| line.trim_start().starts_with(fault)) {
            return Err(line.trim().into());
        }
    }
    Ok(())
}

/// wrk's times: `830.00us`, `1.25ms`, `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    [("us", 1e-3), ("ms", 1.0), ("s", 1e3)]
        .into_iter()
        .find_map(|(unit, scale)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * scale))
}

/// h2load: HTTP/2 over TLS.
///
/// # Errors
/// It is not installed, it did not negotiate HTTP/2, or a response was not whole and 200.
pub fn h2load(
    url: &str,
    connections: usize,
    streams: usize,
    seconds: u64,
) -> Result<Count, Failure> {
    let output = run(Command::new("h2load").args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-m{streams}"),
        &format!("-D{seconds}"),
        url,
    ]))?;
    if !output.contains("Application protocol: h2") {
        return Err(format!("{url}: not HTTP/2: {output}").into());
    }
    // `requests: 5421 total, 5453 started, 5421 done, 5421 succeeded, 0 failed, 0 errored, 0
    // timeout`
    let of = |line: &str, name: &str| {
        let line = output.lines().find(|text| text.starts_with(line))?;
        let (before, _) = line.split_once(name)?;
        before.split_whitespace().next_back()?.parse::<u64>().ok()
    };
    let requests = of("requests: ", " succeeded");
    // A line that is missing counts as a failure.
    let bad = of("requests: ", " failed").unwrap_or(1)
        + of("status codes: ", " 4xx").unwrap_or(1)
        + of("status codes: ", " 5xx").unwrap_or(1);
    // `traffic: 6.05GB (6500129821) total, 59.43KB (60859) headers (space savings 90.51%), 6.05GB
    // (6495034368) data`
    let bytes = output.lines().find(|line| line.starts_with("traffic: "));
    let bytes = bytes.and_then(|line| line.rsplit_once('(')?.1.split_once(')')?.0.parse().ok());
    match requests.zip(bytes) {
        Some((requests, bytes)) if bad == 0 => Ok(Count { requests, bytes }),
        _ => Err(format!("{url}: {output}").into()),
    }
}

/// The protocol and cipher that a client that offers AES-128-GCM first negotiates with this
/// address, according to openssl's client.
///
/// # Errors
/// It is not installed, or does not connect.
pub fn cipher(address: std::net::SocketAddr) -> Result<String, Failure> {
    let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
    let address = address.to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-ciphersuites", suites, "-alpn", "h2"]);
    let text = run(&mut command)?;
    // `New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256`; `ALPN protocol: h2`; `Peer signature type:
    // ECDSA`
    let cipher = text.lines().find_map(|line| line.strip_prefix("New, "));
    let key = text.lines().find_map(|line| line.strip_prefix("Peer signature type: "));
    match cipher.zip(key) {
        Some((cipher, key)) => Ok(format!("{}, {key}", cipher.replace(", Cipher is ", " "))),
        None => Err(format!("{address}: {text}").into()),
    }
}

/// Runs a program to its end. Returns its standard output.
///
/// # Errors
/// It cannot be started, or its exit status is not 0; the error contains its output.
fn run(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output: Output =
        command.stdin(Stdio::null()).output().map_err(|err| format!("{name}: {err}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{name}: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// `26.01GB`, in units of 1024.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "wrk has four digits")]
fn size(text: &str) -> Option<u64> {
    let text = text.strip_suffix('B')?;
    // wrk's units are powers of 1024.
    let (number, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1),
        b'M' => (&text[..text.len() - 1], 2),
        b'G' => (&text[..text.len() - 1], 3),
        b'T' => (&text[..text.len() - 1], 4),
        _ => (text, 0),
    };
    Some((number.parse::<f64>().ok()? * 1024_f64.powi(unit)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_the_format_of_wrk_are_parsed() {
        assert_eq!(size("26.50GB"), Some(53 << 29));
        assert_eq!(size("2.25TB"), Some(9 << 38));
        assert_eq!(size("512B"), Some(512));
        assert_eq!(size("1.50MB"), Some(1_572_864));
        assert_eq!(size("many"), None);
    }
}

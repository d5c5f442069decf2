//! Formats a line of the access log. Pure.

use std::{
    fmt::{self, Display, Write as _},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::Version;
use media_core::ChannelName;
use serde::Deserialize;

use crate::clock;

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `%h - - [%t] "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`, times in UTC, which every tool
    /// supports.
    #[default]
    Combined,
    /// One JSON object, with the duration of the response, the time for which it waited for media,
    /// and the kind of resource.
    Json,
}

/// The data of a line. Times are those of the request's arrival.
#[derive(Debug)]
pub(super) struct Record {
    /// The arrival of the request.
    pub(super) at: SystemTime,
    /// The address of the connection. Behind a proxy this is the proxy's.
    pub(super) peer: SocketAddr,
    pub(super) method: Box<[u8]>,
    /// Path and query, masked and cut.
    pub(super) target: Box<[u8]>,
    pub(super) version: Version,
    /// The status code; 499 if the client has left before the response.
    pub(super) status: u16,
    /// Bytes of the body that were sent.
    pub(super) sent: u64,
    /// From the arrival to the last byte.
    pub(super) duration: Duration,
    pub(super) referer: Option<Box<[u8]>>,
    pub(super) user_agent: Option<Box<[u8]>>,
    pub(super) kind: &'static str,
    /// The channel of the request, if it concerns one and has a response.
    pub(super) channel: Option<ChannelName>,
    /// The time for which it waited for media.
    pub(super) held: Duration,
}

/// An address without its secrets: the token of `/t/{token}/...`, the values of query parameters
/// whose names indicate a key, a token, a signature or a password, and the user information of an
/// authority. Each is replaced with `***`.
pub(crate) struct Masked<'a>(pub(crate) &'a str);

/// Parts of such a name, in lower case.
const SECRET: [&str; 6] = ["key", "token", "secret", "signature", "password", "auth"];

impl Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, query) = match self.0.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (self.0, None),
        };
        // A Referer is an absolute address, the target of a request usually a path.
        let path = match address.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                // User information may hold a password.
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                write!(f, "{scheme}://{host}")?;
                path
            }
            None => address,
        };
        // The token is the second segment of the path; the rest names the resource and is logged.
        match path.strip_prefix("/t/") {
            Some(rest) => write!(f, "/t/***{}", &rest[rest.find('/').unwrap_or(rest.len())..])?,
            None => f.write_str(path)?,
        }
        let Some(query) = query else { return Ok(()) };
        for (index, pair) in query.split('&').enumerate() {
            f.write_char(if index == 0 { '?' } else { '&' })?;
            match pair.split_once('=') {
                Some((name, _)) if is_secret(name) => write!(f, "{name}=***")?,
                _ => f.write_str(pair)?,
            }
        }
        Ok(())
    }
}

/// Whether the name of a query parameter indicates a secret.
fn is_secret(name: &str) -> bool {
    let name = decoded(name).to_ascii_lowercase();
    SECRET.iter().any(|secret| name.contains(secret))
}

/// Decodes percent-encoded ASCII, so that no encoding of a name hides it.
fn decoded(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    // A percent sign without two hexadecimal digits is left out: it must not split a secret's name.
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                &after[2..]
            }
            _ => after,
        };
    }
    plain.push_str(rest);
    plain
}

impl Record {
    /// Appends its line, with a line end.
    pub(super) fn write(&self, format: Format, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match format {
            Format::Combined => self.combined(out),
            Format::Json => self.json(out),
        };
    }

    /// See [`Format::Combined`].
    fn combined(&self, out: &mut String) -> fmt::Result {
        write!(out, "{} - - [{}] \"", self.peer.ip(), clock::common(self.at))?;
        quote(out, &self.method)?;
        out.push(' ');
        quote(out, &self.target)?;
        write!(out, " {}\" {} ", protocol(self.version), self.status)?;
        // `%b` is a hyphen if no bytes were sent.
        match self.sent {
            0 => out.push('-'),
            sent => write!(out, "{sent}")?,
        }
        for field in [&self.referer, &self.user_agent] {
            out.push_str(" \"");
            quote(out, field.as_deref().unwrap_or(b"-"))?;
            out.push('"');
        }
        out.push('\n');
        Ok(())
    }

    /// See [`Format::Json`]. Durations are milliseconds.
    fn json(&self, out: &mut String) -> fmt::Result {
        let (time, peer, protocol) = (clock::iso(self.at), self.peer, protocol(self.version));
        write!(out, "{{\"time\":\"{time}\",\"peer\":\"{peer}\",\"method\":")?;
        json_string(out, Some(&self.method))?;
        out.push_str(",\"path\":");
        json_string(out, Some(&self.target))?;
        let (status, sent) = (self.status, self.sent);
        write!(out, ",\"protocol\":\"{protocol}\",\"status\":{status},\"bytes\":{sent}")?;
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let (duration, held) = (ms(self.duration), ms(self.held));
        write!(out, ",\"duration_ms\":{duration:.3},\"held_ms\":{held:.3},\"referer\":")?;
        json_string(out, self.referer.as_deref())?;
        out.push_str(",\"user_agent\":");
        json_string(out, self.user_agent.as_deref())?;
        write!(out, ",\"kind\":\"{}\",\"channel\":", self.kind)?;
        json_string(out, self.channel.as_ref().map(|channel| channel.as_str().as_bytes()))?;
        out.push_str("}\n");
        Ok(())
    }
}

/// Escapes text between quotes like Apache: printable ASCII stays, `"` and `\` get a backslash,
/// other bytes are `\xhh`.
fn quote(out: &mut String, text: &[u8]) -> fmt::Result {
    for &byte in text {
        match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(byte))?,
            b' '..=b'~' => out.push(char::from(byte)),
            byte => write!(out, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

/// A JSON string, or `null`. Source: RFC 8259 7, with additional escapes: characters that end a
/// line or control a terminal. Bytes that are not UTF-8 become U+FFFD.
fn json_string(out: &mut String, text: Option<&[u8]>) -> fmt::Result {
    let Some(text) = text else {
        out.push_str("null");
        return Ok(());
    };
    out.push('"');
    for char in String::from_utf8_lossy(text).chars() {
        // Control characters and those that reorder text would let a client's text hide or imitate
        // other fields in a terminal.
        match char {
            '"' | '\\' => write!(out, "\\{char}")?,
            // Line and paragraph separators; and characters that change the direction of text.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(out, "\\u{:04x}", u32::from(char))?
            }
            char if char.is_control() => write!(out, "\\u{:04x}", u32::from(char))?,
            char => out.push(char),
        }
    }
    out.push('"');
    Ok(())
}

/// The protocol as nginx and Apache write it in a request line.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "HTTP/3.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}

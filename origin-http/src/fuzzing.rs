//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use std::{str::FromStr, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{AGE, CACHE_CONTROL, COOKIE, ETAG, VARY},
};
use tokio::time::Instant;

use crate::{
    cmcd::{Cmcd, Format, MAX_BYTES, Object, Raw, Stream},
    directives::{self, Directives},
    edge::freshness::Freshness,
    playback::{self, Carried, Playback},
};

/// The maximum number of fields of a head.
const HEAD_LINES: usize = 64;

/// Headers that determine a response's lifetime in the edge; the first byte of a line selects the
/// field. No value overflows, and an error is used only briefly.
pub fn freshness(bytes: &[u8]) {
    let headers = fields(bytes, |first| match first % 4 {
        0 => AGE,
        1 => ETAG,
        2 => VARY,
        _ => CACHE_CONTROL,
    });
    let now = Instant::now();
    for status in [
        StatusCode::OK,
        StatusCode::PARTIAL_CONTENT,
        StatusCode::NOT_FOUND,
        StatusCode::BAD_GATEWAY,
    ] {
        let fresh = Freshness::new(status, &headers, now);
        let error = Freshness::of_error(status, &headers, now, true);
        assert!(error.lifetime() <= Duration::from_secs(16) && !error.immutable);
        // The last one is beyond the largest lifetime, 2^31 seconds.
        for later in [0, 1, 1 << 33].map(Duration::from_secs) {
            let at = now + later;
            assert!(
                fresh.age(at) >= later && (!fresh.is_fresh(at) || fresh.left(at) > Duration::ZERO)
            );
            assert!(!error.may_be_stale(at));
        }
        let _ = error.error_control();
    }
}

/// Delivery directives: valid directives, serialised again, parse to the same values.
pub fn directives(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let Ok(parsed) = Directives::parse(Some(query)) else {
        return;
    };
    let mut pairs = Vec::new();
    pairs.extend(parsed.msn.map(|msn| format!("_HLS_msn={msn}")));
    pairs.extend(parsed.part.map(|part| format!("_HLS_part={part}")));
    pairs.extend(match parsed.skip {
        packager::Skip::No => None,
        packager::Skip::Yes => Some("_HLS_skip=YES".into()),
        packager::Skip::V2 => Some("_HLS_skip=v2".into()),
    });
    assert_eq!(Directives::parse(Some(&pairs.join("&"))), Ok(parsed));
    assert_eq!(directives::is_blocking(Some(query)), parsed.msn.is_some());
}

/// The target of a request and, after a line end, a cookie: a token is found in it, and removed
/// from it, without loss; no text is a valid token.
pub fn playback_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (target, cookie) = text.split_once('\n').unwrap_or((text, ""));
    if let Some((token, rest)) = playback::strip(target) {
        assert_eq!(format!("/t/{token}{rest}"), target);
        assert!(!token.is_empty() && !token.contains('/') && rest.starts_with('/'));
    }
    let mut request = Request::get(target);
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        request = request.header(COOKIE, cookie);
    }
    let Ok(request) = request.body(()) else { return };
    let (mut head, ()) = request.into_parts();
    let before = head.uri.clone();
    let query = playback::first_request(&head);
    if playback::take_from_path(&mut head) {
        let token = Carried::of(&head).expect("it was in the path");
        assert!(token.in_path && before.path() == format!("/t/{}{}", token.token, head.uri.path()));
        assert_eq!(before.query(), head.uri.query());
    }
    if let Some(carried) = Carried::of(&head) {
        let channel = media_core::ChannelName::from_str("demo").expect("a name");
        let rules = Playback::new(&playback::Config::default());
        let opened = rules.check_token(Some(carried.token), [192, 0, 2, 1].into(), &channel, None);
        assert!(opened.is_err());
    }
    // The redirection leads to the same resource, under the prefix.
    if let Some(address) = query {
        let address = format!("/{}", address.trim_start_matches("../"));
        let (token, rest) = playback::strip(&address).expect("the prefix");
        assert_eq!(playback::check_form(token), Ok(()));
        assert_eq!(rest.split('?').next(), Some(before.path()));
        assert!(HeaderValue::try_from(&*address).is_ok());
    }
}

/// A player's report, as the query of a request and as its header fields, the first byte of a line
/// selecting the field: values are in their bounds, and values that are written are read again.
pub fn cmcd(bytes: &[u8]) {
    let names = ["cmcd-request", "cmcd-object", "cmcd-status", "cmcd-session"];
    let headers =
        fields(bytes, |first| HeaderName::from_static(names[usize::from(first) % names.len()]));
    let mut raw = Raw::default();
    raw.copy(None, &headers);
    let _ = raw.parse();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    raw.copy(Some(text), &headers);
    if let Some(Ok(report)) = raw.parse() {
        check(&report);
    }
    if let Ok(report) = Cmcd::parse(text) {
        assert!(text.len() <= MAX_BYTES);
        check(&report);
    }
}

/// Writes a report and reads it again.
fn check(report: &Cmcd<'_>) {
    let numbers = [
        ("br", report.bitrate_kbps),
        ("bl", report.buffer_ms),
        ("d", report.duration_ms),
        ("dl", report.deadline_ms),
        ("ltc", report.latency_ms),
        ("msd", report.start_delay_ms),
        ("mtp", report.throughput_kbps),
        ("v", report.version),
    ];
    let texts = [("cid", report.content), ("nor", report.next), ("sid", report.session)];
    assert!([report.content, report.session].iter().flatten().all(|id| id.len() <= 64));
    let mut pairs = Vec::new();
    let number = |(key, value): (&str, Option<u32>)| value.map(|value| format!("{key}={value}"));
    pairs.extend(numbers.into_iter().filter_map(number));
    let text = |(key, value): (&str, Option<&str>)| value.map(|value| format!("{key}=\"{value}\""));
    pairs.extend(texts.into_iter().filter_map(text));
    pairs.extend(
        [("bs", report.starved), ("su", report.startup)]
            .map(|(key, value)| if value { key.to_owned() } else { format!("{key}=false") }),
    );
    pairs.extend(report.rate_percent.map(|rate| format!("pr={}.{:02}", rate / 100, rate % 100)));
    pairs.extend(report.object.map(|object| {
        let token = match object {
            Object::Manifest => "m",
            Object::Audio => "a",
            Object::Video => "v",
            Object::Muxed => "av",
            Object::Init => "i",
            Object::Caption => "c",
            Object::TimedText => "tt",
            Object::Key => "k",
            Object::Other => "o",
        };
        format!("ot={token}")
    }));
    pairs.extend(report.format.map(|format| {
        let token = match format {
            Format::Dash => "d",
            Format::Hls => "h",
            Format::Smooth => "s",
            Format::Other => "o",
        };
        format!("sf={token}")
    }));
    pairs.extend(report.stream.map(|stream| match stream {
        Stream::OnDemand => "st=v".to_owned(),
        Stream::Live => "st=l".to_owned(),
    }));
    let written = pairs.join(",");
    // Leading zeros may be shorter than explicit values.
    if written.len() <= MAX_BYTES {
        assert_eq!(Cmcd::parse(&written).as_ref(), Ok(report));
    }
}

/// A header map with a field of each line that is a valid value; `name` gets a line's first byte.
fn fields(bytes: &[u8], name: impl Fn(u8) -> HeaderName) -> HeaderMap {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let fields =
        lines.filter_map(|line| Some((name(line[0]), HeaderValue::from_bytes(line).ok()?)));
    // Heads have limits of their own.
    fields.take(HEAD_LINES).fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpora_pass() {
        corpus::run("edge_freshness", super::freshness);
        corpus::run("hls_directives", super::directives);
        corpus::run("playback_token", super::playback_token);
        corpus::run("cmcd", super::cmcd);
    }
}

//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, CACHE_CONTROL, ETAG, VARY},
};
use tokio::time::Instant;

use crate::{
    directives::{self, Directives},
    edge::freshness::Freshness,
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
    }
}

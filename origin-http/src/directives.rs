//! Delivery directives in the query of a media playlist request (RFC 8216bis 6.2.5). Pure.
//!
//! Names that start with `_HLS_` are reserved: unknown ones are ignored, as is the rest of the
//! query; neither changes the response.

use packager::{LiveEdge, Skip, Track};

/// The directives of a media playlist request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: hold the response until this segment is complete, or until `part` of it exists.
    pub msn: Option<u64>,
    /// `_HLS_part`: counted from 0; only with `msn`.
    pub part: Option<usize>,
    /// `_HLS_skip`: a delta update is accepted.
    pub skip: Skip,
}

/// Why the response to a query is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// `_HLS_msn` or `_HLS_part` is not a decimal integer.
    #[error("_HLS_msn and _HLS_part are decimal integers")]
    Number,
    /// `_HLS_skip` is neither `YES` nor `v2`.
    #[error("_HLS_skip is YES or v2")]
    Skip,
    /// A directive is repeated.
    #[error("a delivery directive is repeated")]
    Twice,
    /// `_HLS_part` without `_HLS_msn` (6.2.5.2).
    #[error("_HLS_part requires _HLS_msn")]
    PartAlone,
    /// The requested segment or part is too far ahead (6.2.5.2).
    #[error("the requested segment or part is too far ahead")]
    TooFar,
}

/// The time of the response to a media playlist request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At once.
    Now,
    /// When `Track::has` these.
    Wait(u64, Option<usize>),
}

impl Directives {
    /// Parses a query without its `?`.
    ///
    /// # Errors
    /// [`Bad`], each of them a 400.
    pub fn parse(query: Option<&str>) -> Result<Self, Bad> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Values are not percent-decoded: RFC 8216bis defines them as digits and tokens, and a
            // second form of one address would be a second entry in caches.
            let twice = match name {
                "_HLS_msn" => msn.replace(parse_integer(value)?).is_some(),
                "_HLS_part" => {
                    let value = usize::try_from(parse_integer(value)?).map_err(|_| Bad::Number)?;
                    part.replace(value).is_some()
                }
                "_HLS_skip" => skip.replace(parse_skip(value)?).is_some(),
                _ => false,
            };
            if twice {
                return Err(Bad::Twice);
            }
        }
        // A part belongs to a segment, so that its number alone has no meaning.
        if part.is_some() && msn.is_none() {
            return Err(Bad::PartAlone);
        }
        Ok(Self { msn, part, skip: skip.unwrap_or(Skip::No) })
    }

    /// Whether the response has to wait for `track`, which has not ended.
    ///
    /// # Errors
    /// [`Bad::TooFar`]: more than two segments after the last complete one, or a part beyond the
    /// advance limit: three parts, or as many as fill three seconds.
    pub fn reload(&self, track: &Track) -> Result<Reload, Bad> {
        // `edge` is the open segment with its parts, or the last complete one. Without media there
        // is nothing to compare with, and the response is formed at once.
        let (Some(msn), Some(LiveEdge { msn: newest, .. })) = (self.msn, track.edge()) else {
            return Ok(Reload::Now);
        };
        if track.has(msn, self.part) {
            return Ok(Reload::Now);
        }
        // For a complete segment that was not listed as complete, players request a part after its
        // last one.
        let there = track.segment(msn).map_or(0, |segment| segment.parts.len());
        let complete = newest - u64::from(track.open.is_some() && newest > 0);
        if msn > complete.saturating_add(2) {
            return Err(Bad::TooFar);
        }
        match self.part {
            Some(part) if part >= there.saturating_add(advance_limit(track)) => Err(Bad::TooFar),
            part => Ok(Reload::Wait(msn, part)),
        }
    }
}

/// Whether a query requests a blocking response, validly or not: its response has a longer lifetime
/// (appendix B.1).
pub fn is_blocking(query: Option<&str>) -> bool {
    let mut names = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    names.any(|name| matches!(name, "_HLS_msn" | "_HLS_part"))
}

/// The number of parts ahead that may be requested: three, or as many as fill three seconds if a
/// part is shorter than a second (RFC 8216bis 6.2.5.2).
fn advance_limit(track: &Track) -> usize {
    match track.part_target.as_millis() {
        target @ 1..1000 => usize::try_from(3000 / target).unwrap_or(usize::MAX),
        _ => 3,
    }
}

/// A decimal-integer (RFC 8216bis 4.2): 1 to 20 digits.
fn parse_integer(value: &str) -> Result<u64, Bad> {
    let digits = value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or(Bad::Number)
}

/// The value of `_HLS_skip` (RFC 8216bis 6.2.5.1).
fn parse_skip(value: &str) -> Result<Skip, Bad> {
    match value {
        "YES" => Ok(Skip::Yes),
        "v2" => Ok(Skip::V2),
        _ => Err(Bad::Skip),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    const NONE: Directives = Directives { msn: None, part: None, skip: Skip::No };

    fn parse(query: &str) -> Result<Directives, Bad> {
        Directives::parse(Some(query))
    }

    #[test]
    fn directives_are_parsed_and_other_query_parameters_are_ignored() {
        let all = Directives { msn: Some(7), part: Some(3), skip: Skip::Yes };
        assert_eq!(parse("_HLS_msn=7&_HLS_part=3&_HLS_skip=YES"), Ok(all));
        assert_eq!(
            parse("a=b&_HLS_part=3&_HLS_new=x&&_HLS_skip=YES&_hls_msn=9&_HLS_msn=007&%5FHLS_msn=1"),
            Ok(all)
        );
        assert_eq!(parse("_HLS_skip=v2"), Ok(Directives { skip: Skip::V2, ..NONE }));
        assert_eq!(parse("CMCD=bl%3D1"), Ok(NONE));
        assert_eq!(Directives::parse(None), Ok(NONE));
    }

    #[test]
    fn a_request_with_an_msn_or_part_directive_is_blocking() {
        for (query, blocking) in [
            ("_HLS_msn=7", true),
            ("a=b&_HLS_part=x", true),
            ("_HLS_msn", true),
            ("_HLS_skip=YES", false),
            ("x_HLS_msn=7", false),
            ("CMCD=_HLS_msn", false),
        ] {
            assert_eq!(is_blocking(Some(query)), blocking, "{query}");
        }
        assert!(!is_blocking(None));
    }

    #[test]
    fn invalid_directives_are_refused() {
        for (query, bad) in [
            ("_HLS_part=1", Bad::PartAlone),
            ("_HLS_msn=", Bad::Number),
            ("_HLS_msn", Bad::Number),
            ("_HLS_msn=-1", Bad::Number),
            ("_HLS_msn=+1", Bad::Number),
            ("_HLS_msn=1.5", Bad::Number),
            ("_HLS_msn=%31", Bad::Number),
            ("_HLS_msn=18446744073709551616", Bad::Number),
            ("_HLS_msn=1&_HLS_part=x", Bad::Number),
            ("_HLS_msn=1&_HLS_msn=1", Bad::Twice),
            ("_HLS_skip=yes", Bad::Skip),
            ("_HLS_skip=", Bad::Skip),
        ] {
            assert_eq!(parse(query), Err(bad), "{query}");
        }
    }

    #[test]
    fn a_reload_waits_for_upcoming_media_and_is_refused_when_too_far_ahead() {
        // Given segments 100 to 102 of 5 parts each and segment 103 with 2 parts, of 234 ms: twelve
        // parts fill three seconds.
        let track = sample::track("v0", 100, 3, 5, Some(2));
        let reload = |msn, part| Directives { msn: Some(msn), part, skip: Skip::No }.reload(&track);
        for (msn, part) in [
            (5, None),
            (102, None),
            (102, Some(4)),
            (102, Some(5)),
            (102, Some(99)),
            (103, Some(1)),
        ] {
            assert_eq!(reload(msn, part), Ok(Reload::Now), "{msn} {part:?}");
        }
        for (msn, part) in [
            (103, None),
            (103, Some(2)),
            (103, Some(13)),
            (104, None),
            (104, Some(0)),
            (104, Some(11)),
        ] {
            assert_eq!(reload(msn, part), Ok(Reload::Wait(msn, part)), "{msn} {part:?}");
        }
        for (msn, part) in [
            (103, Some(14)),
            (104, Some(12)),
            (105, None),
            (105, Some(0)),
            (u64::MAX, Some(usize::MAX)),
        ] {
            assert_eq!(reload(msn, part), Err(Bad::TooFar), "{msn} {part:?}");
        }
    }

    #[test]
    fn a_part_past_the_end_of_a_segment_waits_for_the_first_part_of_the_next() {
        let track = sample::track("v0", 100, 3, 20, Some(0));
        let reload = |part| {
            let msn = Some(102);
            Directives { msn, part, ..NONE }.reload(&track)
        };
        assert_eq!(reload(Some(19)), Ok(Reload::Now));
        assert_eq!(reload(Some(20)), Ok(Reload::Wait(102, Some(20))));
        assert_eq!(reload(None), Ok(Reload::Wait(102, None)), "it is not listed yet");
        assert_eq!(reload(Some(32)), Err(Bad::TooFar));
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(
            query in "\\PC*", tail in "[_HLSmsnpartki=&0-9]{0,40}", msn: u64, part: usize,
        ) {
            let _ = parse(&query);
            let _ = parse(&format!("_HLS_{tail}"));
            for open in [None, Some(0), Some(2)] {
                let track = sample::track("v0", 100, 3, 5, open);
                let (msn, part) = (Some(msn), Some(part));
                let _ = Directives { msn, part, skip: Skip::No }.reload(&track);
            }
        }
    }
}

//! Which answers go first where several share a connection. Pure.
//!
//! RFC 9218 (the Priority field: 4 its members, 5 as a header, 10 what a server does with it), RFC 8941 4.2.2 (how it is parsed). What of
//! ours is more urgent is the low-latency profile's (RFC 8216bis, appendix B.1): playlists, then media, a lower bit rate before a higher.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use packager::Track;

use crate::{body::Body, metrics::Kind, path::Object};

/// `Priority` (RFC 9218 5).
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static("priority");
/// What is as urgent as anything that says nothing (4.1).
const DEFAULT: u8 = 3;
/// The most urgent that video is, and how many levels there are of it.
const VIDEO: (u8, usize) = (3, 4);

const VALUES: [HeaderValue; 8] = [
    HeaderValue::from_static("u=0"),
    HeaderValue::from_static("u=1"),
    HeaderValue::from_static("u=2"),
    HeaderValue::from_static("u=3"),
    HeaderValue::from_static("u=4"),
    HeaderValue::from_static("u=5"),
    HeaderValue::from_static("u=6"),
    HeaderValue::from_static("u=7"),
];

/// What a Priority field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Priority {
    /// 0, the most urgent, to 7; `None` if it names none.
    pub(crate) urgency: Option<u8>,
    /// Its parts are of use as they come, so it may share with others (4.2).
    pub(crate) incremental: bool,
}

/// A body's place among those of its connection: sooner is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rank {
    /// 0 to 63: by the client's urgency, then by ours.
    pub(crate) level: u8,
    /// Whether it shares with others of its level; else they are sent one after the other, in the order of their requests.
    pub(crate) incremental: bool,
}

impl Default for Rank {
    fn default() -> Self {
        Priority::default().rank(DEFAULT)
    }
}

impl Priority {
    /// What a message's header says; what is no such field says nothing, as the RFC wants it.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut priority = Self::default();
        for value in headers.get_all(PRIORITY) {
            match parse(value.as_bytes(), priority) {
                Some(read) => priority = read,
                None => return Self::default(),
            }
        }
        priority
    }

    /// With our own urgency for the answer: the client's decides, where it has one, and ours among equals.
    pub(crate) fn rank(self, ours: u8) -> Rank {
        Rank {
            level: 8 * self.urgency.unwrap_or(ours).min(7) + ours.min(7),
            incremental: self.incremental,
        }
    }
}

/// Completes an answer: says how urgent it is, unless that is said already, and puts its body in its place.
pub(crate) fn settle(asked: Priority, kind: Kind, response: &mut Response<Body>) {
    let ours = match Priority::of(response.headers()).urgency {
        Some(ours) => ours,
        None => {
            let ours = of_kind(kind);
            response.headers_mut().insert(PRIORITY, value(ours));
            ours
        }
    };
    response.body_mut().set_rank(asked.rank(ours));
}

/// How urgent media of the track are: init segments and audio, then video by its bit rate.
pub(crate) fn of_media<'a>(tracks: impl IntoIterator<Item = &'a Track>, track: &Track, object: Object) -> u8 {
    if !track.config.is_video() || matches!(object, Object::Init(_)) {
        return 2;
    }
    // The source is the highest until bit rates are known.
    let cost = |track: &Track| (track.peak_bps, !track.rendition);
    let (mut all, mut lower) = (0, 0);
    for other in tracks.into_iter().filter(|other| other.config.is_video()) {
        all += 1;
        lower += usize::from(cost(other) < cost(track));
    }
    let (first, levels) = VIDEO;
    let level = if all <= levels { lower } else { lower * levels / all };
    first + u8::try_from(level).unwrap_or(u8::MAX).min(3)
}

/// As a header's value.
pub(crate) fn value(urgency: u8) -> HeaderValue {
    VALUES[usize::from(urgency.min(7))].clone()
}

fn of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Playlist | Kind::Manifest | Kind::Time => 1,
        Kind::Init => 2,
        Kind::Poster => 5,
        Kind::Segment | Kind::Part | Kind::Page | Kind::Api | Kind::Unknown => DEFAULT,
    }
}

/// Reads one field line as a dictionary (RFC 8941 4.2.2) on top of what lines before it have said; a later member replaces an earlier one.
fn parse(line: &[u8], mut priority: Priority) -> Option<Priority> {
    let mut input = Input(line.trim_ascii());
    while !input.0.is_empty() {
        let key = input.key()?;
        let item = if input.take(b'=') {
            input.member()?
        } else {
            Item::Bool(true)
        };
        input.parameters()?;
        match (key, item) {
            // Out of range or of another type: as if it were not there (RFC 9218 4).
            (b"u", Item::Integer(urgency)) => priority.urgency = u8::try_from(urgency).ok().filter(|&u| u <= 7),
            (b"u", _) => priority.urgency = None,
            (b"i", Item::Bool(incremental)) => priority.incremental = incremental,
            (b"i", _) => priority.incremental = false,
            _ => {}
        }
        input.space(b" \t");
        if input.0.is_empty() {
            break;
        }
        if !input.take(b',') {
            return None;
        }
        input.space(b" \t");
        if input.0.is_empty() {
            return None; // a trailing comma
        }
    }
    Some(priority)
}

/// As much of a bare item as we look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Integer(i64),
    Bool(bool),
    Other,
}

/// What is left to parse.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((&first, rest)) if first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn space(&mut self, of: &[u8]) {
        self.span(|byte| of.contains(&byte));
    }

    /// Takes bytes for as long as they are like that.
    fn span(&mut self, like: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| !like(byte)).unwrap_or(self.0.len());
        let (span, rest) = self.0.split_at(len);
        self.0 = rest;
        span
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        if !(first.is_ascii_lowercase() || first == b'*') {
            return None;
        }
        Some(self.span(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)))
    }

    /// An item, or an inner list (4.2.1.1).
    fn member(&mut self) -> Option<Item> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.space(b" ");
            if self.take(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    /// `;key=item`, any number of them; none means anything here.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.space(b" ");
            self.key()?;
            if self.take(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item(&mut self) -> Option<Item> {
        let (&first, rest) = self.0.split_first()?;
        match first {
            b'?' => {
                self.0 = rest;
                let value = self.take(b'1');
                (value || self.take(b'0')).then_some(Item::Bool(value))
            }
            b'"' => {
                self.0 = rest;
                loop {
                    let (&byte, rest) = self.0.split_first()?;
                    self.0 = rest;
                    match byte {
                        b'"' => return Some(Item::Other),
                        b'\\' if self.take(b'"') || self.take(b'\\') => {}
                        b'\\' => return None,
                        0x20..=0x7e => {}
                        _ => return None,
                    }
                }
            }
            b':' => {
                self.0 = rest;
                self.span(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.take(b':').then_some(Item::Other)
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ if first.is_ascii_alphabetic() || first == b'*' => {
                self.span(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Item::Other)
            }
            _ => None,
        }
    }

    /// An integer of 15 digits at most, or a decimal of 12 and 3 (4.2.4).
    fn number(&mut self) -> Option<Item> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let digits = self.span(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.take(b'.') {
            let fraction = self.span(|byte| byte.is_ascii_digit());
            let fits = digits.len() <= 12 && (1..=3).contains(&fraction.len());
            return fits.then_some(Item::Other);
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Some(Item::Integer(sign * number))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use media_core::codec::{Config, avc};
    use proptest::prelude::*;

    use super::*;
    use crate::{sample, stage};

    fn read(lines: &[&str]) -> (Option<u8>, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PRIORITY, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let Priority { urgency, incremental } = Priority::of(&headers);
        (urgency, incremental)
    }

    #[test]
    fn a_priority_field_is_read_as_the_rfcs_say() {
        for (lines, expected) in [
            (&["u=0"][..], (Some(0), false)),
            (&["u=7, i"], (Some(7), true)),
            (&["i,u=2"], (Some(2), true)),
            (&["i=?0, u=5"], (Some(5), false)),
            (&["u=1;x=\"a, b\";y, i=?1;z=3"], (Some(1), true)),
            (&["u=3, u=4"], (Some(4), false)),
            (&["u=3", "i", "u=1"], (Some(1), true)),
            (&[" u=2 ,\ti "], (Some(2), true)),
            (
                &["x=(a \"b\" 1.5;p);q, u=2, blob=:aGk=:, n=-5, t=*a/b"],
                (Some(2), false),
            ),
            (&[""], (None, false)),
            (&[], (None, false)),
            // Of another type or out of range:
            (&["u=8, i"], (None, true)),
            (&["u=-1"], (None, false)),
            (&["u=1.5, i"], (None, true)),
            (&["u, i=1"], (None, false)),
            (&["u=(1)"], (None, false)),
            // Not a dictionary at all:
            (&["u=1,"], (None, false)),
            (&["u=1 i"], (None, false)),
            (&["U=1"], (None, false)),
            (&["u=1, x=\"a"], (None, false)),
            (&["u=1", "=;"], (None, false)),
            (&["u=1234567890123456"], (None, false)),
            (&["u=1, \u{e9}"], (None, false)),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_clients_urgency_decides_first_and_ours_among_equals() {
        let asked = |urgency| Priority {
            urgency,
            incremental: false,
        };
        let order = [
            asked(Some(0)).rank(6),
            asked(None).rank(1),
            asked(Some(1)).rank(2),
            asked(None).rank(2),
            asked(Some(3)).rank(1),
            asked(None).rank(3),
            asked(None).rank(6),
            asked(Some(7)).rank(1),
        ];
        assert!(order.is_sorted_by_key(|rank| rank.level), "{order:?}");
        assert_eq!(Rank::default(), asked(Some(3)).rank(3));
    }

    #[test]
    fn a_higher_bit_rate_is_never_more_urgent_than_a_lower_one() {
        let video = Arc::new(Config::Avc(avc::Config::parse(stage::AVC).unwrap()));
        let track = |name, rendition, peak_bps| Track {
            rendition,
            peak_bps,
            config: Arc::clone(&video),
            ..sample::track(name, 0, 0, 0, None)
        };
        let urgencies = |tracks: &[Track]| -> Vec<u8> {
            let of = |track| of_media(tracks, track, Object::Segment(0));
            tracks.iter().map(of).collect()
        };
        let source = track("v0", false, 6_000_000);
        assert_eq!(urgencies(std::slice::from_ref(&source)), [3]);
        let ladder = [
            source,
            track("v720", true, 3_000_000),
            track("v480", true, 1_500_000),
            track("v240", true, 400_000),
        ];
        assert_eq!(urgencies(&ladder), [6, 5, 4, 3]);
        assert_eq!(of_media(&ladder, &ladder[0], Object::Init(0)), 2);
        let audio = sample::track("a0", 0, 0, 0, None);
        assert_eq!(of_media(&ladder, &audio, Object::Segment(0)), 2);
        let unknown = [track("v0", false, 0), track("v720", true, 0), track("v480", true, 0)];
        assert_eq!(urgencies(&unknown), [5, 3, 3]);
        let many: Vec<_> = (0..7).map(|n| track("v0", true, 1_000 * (n + 1))).collect();
        assert_eq!(urgencies(&many), [3, 3, 4, 4, 5, 5, 6]);
    }

    #[test]
    fn an_answer_says_its_urgency_and_keeps_what_an_origin_has_said() {
        let mut response = Response::new(Body::from("text"));
        settle(Priority::default(), Kind::Playlist, &mut response);
        assert_eq!(response.headers()["priority"], "u=1");
        assert_eq!(response.body().rank(), Priority::default().rank(1));
        let mut response = Response::new(Body::from("media"));
        response.headers_mut().insert(PRIORITY, value(6));
        settle(Priority::default(), Kind::Part, &mut response);
        assert_eq!(response.headers()["priority"], "u=6");
        assert_eq!(response.body().rank(), Priority::default().rank(6));
    }

    proptest! {
        #[test]
        fn no_field_makes_the_parser_panic_or_names_an_urgency_that_is_none(line in "[ui=?01,;() \t\"\\\\:*a.9-]{0,24}") {
            let read = parse(line.as_bytes(), Priority::default()).unwrap_or_default();
            prop_assert!(read.urgency.is_none_or(|urgency| urgency <= 7));
        }
    }
}

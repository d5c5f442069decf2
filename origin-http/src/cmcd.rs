//! Common Media Client Data: a player's report in a request for media. Pure and bounded: bytes of a
//! query or of header fields in, values out, without an allocation.
//!
//! CTA-5004 (version 1): a list of `key=value` pairs in the query argument `CMCD`, or divided among
//! four header fields. Of version 2 (CTA-5004-B), the keys `ltc` and `msd` are read, and the first
//! number of a list. The JSON form of the standard is a report without a request for media; nothing
//! here accepts it.
//!
//! Values are claims of the client. Known keys with values outside their range make the whole
//! report malformed; unknown keys are skipped.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// Longest report in bytes, as it was sent.
pub const MAX_BYTES: usize = 768;
/// Greatest number of pairs in a report.
const MAX_PAIRS: usize = 64;
/// Longest identifier of a session or of content (CTA-5004, table 1).
const MAX_ID: usize = 64;
/// The name of the query argument, with the sign that follows.
const ARGUMENT: &str = "CMCD=";
/// The header fields (CTA-5004 3.1), in the order in which they are joined.
static FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("cmcd-request"),
    HeaderName::from_static("cmcd-object"),
    HeaderName::from_static("cmcd-status"),
    HeaderName::from_static("cmcd-session"),
];

/// Why a report has no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is longer than [`MAX_BYTES`].
    #[error("the report is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It has too many pairs.
    #[error("the report has more than {MAX_PAIRS} pairs")]
    TooManyPairs,
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("the percent-encoding is broken")]
    Encoding,
    /// It is no list of pairs.
    #[error("the report is no list of key=value pairs")]
    Syntax,
    /// A known key has a value of another type, or outside its range.
    #[error("the value of a known key is not of its type, or not in its range")]
    Value,
}

/// A report. Absent keys are `None` or false.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cmcd<'a> {
    /// `br`: the encoded bit rate of the requested object.
    pub bitrate_kbps: Option<u32>,
    /// `bl`: media in the player's buffer.
    pub buffer_ms: Option<u32>,
    /// `bs`: the player has rebuffered since its last request.
    pub starved: bool,
    /// `cid`: the content, as the player names it.
    pub content: Option<&'a str>,
    /// `d`: the duration of the requested object.
    pub duration_ms: Option<u32>,
    /// `dl`: the time until the buffer runs dry.
    pub deadline_ms: Option<u32>,
    /// `ltc`: how far the player is behind the live edge.
    pub latency_ms: Option<u32>,
    /// `msd`: the time from the start of the session to its first picture.
    pub start_delay_ms: Option<u32>,
    /// `mtp`: the throughput that the player has measured.
    pub throughput_kbps: Option<u32>,
    /// `nor`: the object that will be requested next, still percent-encoded.
    pub next: Option<&'a str>,
    /// `ot`: the type of the requested object.
    pub object: Option<Object>,
    /// `pr`: the rate of playback, in hundredths.
    pub rate_percent: Option<u32>,
    /// `sf`: the format of the presentation.
    pub format: Option<Format>,
    /// `sid`: the session, as the player names it.
    pub session: Option<&'a str>,
    /// `st`: whether the presentation is live.
    pub stream: Option<Stream>,
    /// `su`: the object is needed at once, because playback has not started, or was interrupted.
    pub startup: bool,
    /// `v`: the version of the report; absent for 1.
    pub version: Option<u32>,
}

/// The type of a requested object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `m`: a manifest or playlist.
    Manifest,
    /// `a`: audio.
    Audio,
    /// `v`: video.
    Video,
    /// `av`: audio and video.
    Muxed,
    /// `i`: an init segment.
    Init,
    /// `c`: captions.
    Caption,
    /// `tt`: timed text in MP4.
    TimedText,
    /// `k`: a cryptographic key.
    Key,
    /// `o`: anything else.
    Other,
}

/// The format of a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `d`: MPEG DASH.
    Dash,
    /// `h`: HLS.
    Hls,
    /// `s`: Smooth Streaming.
    Smooth,
    /// `o`: anything else.
    Other,
}

/// Whether a presentation is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `v`: all of it exists.
    OnDemand,
    /// `l`: it grows.
    Live,
}

/// A report as it was sent, copied so that it outlives the request's head. The memory of a copy is
/// used for the next one.
#[derive(Default)]
pub struct Raw {
    /// At most [`MAX_BYTES`].
    bytes: Vec<u8>,
    state: State,
}

/// The presence and the form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// The request has none.
    #[default]
    Absent,
    /// The value of a query argument, percent-encoded.
    Encoded,
    /// Header fields, joined.
    Plain,
    /// It was not copied.
    TooLong,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Raw {
    /// Copies the report of a request, if it has one. The query takes precedence.
    pub fn copy(&mut self, query: Option<&str>, headers: &HeaderMap) {
        self.bytes.clear();
        self.state = State::Absent;
        let argument = query.and_then(|query| {
            query.split('&').find_map(|argument| argument.strip_prefix(ARGUMENT))
        });
        if let Some(value) = argument {
            self.append(value.as_bytes(), State::Encoded);
            return;
        }
        for value in FIELDS.iter().filter_map(|name| headers.get(name)) {
            if !self.bytes.is_empty() {
                self.append(b",", State::Plain);
            }
            self.append(value.as_bytes(), State::Plain);
        }
    }

    fn append(&mut self, more: &[u8], state: State) {
        if self.state == State::TooLong || self.bytes.len() + more.len() > MAX_BYTES {
            self.state = State::TooLong;
            return;
        }
        self.bytes.extend_from_slice(more);
        self.state = state;
    }

    /// The values of the report; `None` if the request had none. The copy is decoded in place, so
    /// that this is called once.
    pub fn parse(&mut self) -> Option<Result<Cmcd<'_>, Malformed>> {
        match self.state {
            State::Absent => return None,
            State::TooLong => return Some(Err(Malformed::TooLong)),
            State::Plain => {}
            State::Encoded => match decode(&mut self.bytes) {
                Ok(len) => {
                    self.bytes.truncate(len);
                    self.state = State::Plain;
                }
                Err(malformed) => return Some(Err(malformed)),
            },
        }
        let text = std::str::from_utf8(&self.bytes);
        Some(text.map_err(|_| Malformed::Encoding).and_then(Cmcd::parse))
    }
}

/// Decodes percent-encoding in place (RFC 3986 2.1). Returns the new length.
fn decode(bytes: &mut [u8]) -> Result<usize, Malformed> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let mut byte = bytes[from];
        if byte == b'%' {
            let (high, low) = (digit(bytes.get(from + 1)), digit(bytes.get(from + 2)));
            let (Some(high), Some(low)) = (high, low) else { return Err(Malformed::Encoding) };
            byte = u8::try_from(high << 4 | low).map_err(|_| Malformed::Encoding)?;
            from += 2;
        }
        bytes[to] = byte;
        (from, to) = (from + 1, to + 1);
    }
    Ok(to)
}

/// The value of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    /// A key without a value.
    True,
    /// In quotation marks, which are removed; escapes are not.
    Text(&'a str),
    /// Anything else: a number or a token.
    Bare(&'a str),
}

impl<'a> Cmcd<'a> {
    /// Parses a list of pairs, which is not percent-encoded. Of a repeated key the last value
    /// counts.
    ///
    /// # Errors
    /// [`Malformed`]: then no value of the report counts.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        let mut report = Self::default();
        let mut rest = text.trim_matches(' ');
        for _ in 0..MAX_PAIRS {
            if rest.is_empty() {
                return Ok(report);
            }
            let (key, value, after) = pair(rest)?;
            report.set(key, value)?;
            rest = after;
        }
        if rest.is_empty() { Ok(report) } else { Err(Malformed::TooManyPairs) }
    }

    fn set(&mut self, key: &str, value: Value<'a>) -> Result<(), Malformed> {
        match key {
            "br" => self.bitrate_kbps = Some(value.integer()?),
            "bl" => self.buffer_ms = Some(value.integer()?),
            "bs" => self.starved = value.boolean()?,
            "cid" => self.content = Some(value.identifier()?),
            "d" => self.duration_ms = Some(value.integer()?),
            "dl" => self.deadline_ms = Some(value.integer()?),
            "ltc" => self.latency_ms = Some(value.integer()?),
            "msd" => self.start_delay_ms = Some(value.integer()?),
            "mtp" => self.throughput_kbps = Some(value.integer()?),
            "nor" => self.next = value.text(),
            "ot" => self.object = Some(Object::parse(value)?),
            "pr" => self.rate_percent = Some(value.hundredths()?),
            "sf" => self.format = Some(Format::parse(value)?),
            "sid" => self.session = Some(value.identifier()?),
            "st" => self.stream = Some(Stream::parse(value)?),
            "su" => self.startup = value.boolean()?,
            "v" => self.version = Some(value.integer()?),
            _ => {}
        }
        Ok(())
    }
}

/// The first pair of a list, and the list after it.
fn pair(list: &str) -> Result<(&str, Value<'_>, &str), Malformed> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
    let end = list.find(|c| !is_key(c)).unwrap_or(list.len());
    let (key, rest) = list.split_at(end);
    if key.is_empty() {
        return Err(Malformed::Syntax);
    }
    let (value, rest) = match rest.strip_prefix('=') {
        None => (Value::True, rest),
        Some(rest) if rest.starts_with('"') => {
            let end = quoted(rest)?;
            (Value::Text(&rest[1..end]), &rest[end + 1..])
        }
        // A list of version 2, whose members have parameters.
        Some(rest) if rest.starts_with('(') => {
            let end = list_end(rest)?;
            (Value::first(&rest[1..end])?, &rest[end + 1..])
        }
        Some(rest) => {
            let end = rest.find(',').unwrap_or(rest.len());
            let (bare, rest) = rest.split_at(end);
            let bare = bare.trim_end_matches(' ');
            if bare.is_empty() || bare.contains(['"', '(', ')', ' ']) {
                return Err(Malformed::Syntax);
            }
            (Value::Bare(bare), rest)
        }
    };
    let rest = rest.trim_start_matches(' ');
    match rest.strip_prefix(',') {
        // A list does not end with a comma.
        Some(rest) if rest.trim_start_matches(' ').is_empty() => Err(Malformed::Syntax),
        Some(rest) => Ok((key, value, rest.trim_start_matches(' '))),
        None if rest.is_empty() => Ok((key, value, rest)),
        None => Err(Malformed::Syntax),
    }
}

/// The position of the quotation mark that ends the string with which a text begins.
fn quoted(text: &str) -> Result<usize, Malformed> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped && !matches!(byte, b'"' | b'\\') => return Err(Malformed::Syntax),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(at),
            0..0x20 | 0x7F.. => return Err(Malformed::Syntax),
            _ => {}
        }
    }
    Err(Malformed::Syntax)
}

/// The position of the bracket that ends the list with which a text begins.
fn list_end(text: &str) -> Result<usize, Malformed> {
    let mut at = 1;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b')' => return Ok(at),
            b'(' => return Err(Malformed::Syntax),
            // It begins at a character, because the byte before it is one.
            b'"' => at += quoted(&text[at..])? + 1,
            _ => at += 1,
        }
    }
    Err(Malformed::Syntax)
}

impl<'a> Value<'a> {
    /// The first member of a list, without its parameters.
    fn first(list: &'a str) -> Result<Self, Malformed> {
        let list = list.trim_start_matches(' ');
        if list.starts_with('"') {
            return Ok(Self::Text(&list[1..quoted(list)?]));
        }
        match list.split([' ', ';']).next().filter(|first| !first.is_empty()) {
            Some(first) => Ok(Self::Bare(first)),
            None => Err(Malformed::Value),
        }
    }

    /// A number of units that is not negative. Fractions are cut, as version 2 permits them.
    fn integer(self) -> Result<u32, Malformed> {
        let Self::Bare(text) = self else { return Err(Malformed::Value) };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| {
            (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole) || !is_number(fraction) {
            return Err(Malformed::Value);
        }
        whole.parse().map_err(|_| Malformed::Value)
    }

    /// A number of hundredths.
    fn hundredths(self) -> Result<u32, Malformed> {
        let Self::Bare(text) = self else { return Err(Malformed::Value) };
        let (_, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let whole = self.integer()?;
        let mut digits = fraction.bytes().map(|digit| u32::from(digit - b'0'));
        let (tenths, hundredths) = (digits.next().unwrap_or(0), digits.next().unwrap_or(0));
        let whole = whole.checked_mul(100).ok_or(Malformed::Value)?;
        whole.checked_add(10 * tenths + hundredths).ok_or(Malformed::Value)
    }

    fn boolean(self) -> Result<bool, Malformed> {
        match self {
            Self::True | Self::Bare("true" | "?1" | "1") => Ok(true),
            Self::Bare("false" | "?0" | "0") => Ok(false),
            Self::Bare(_) | Self::Text(_) => Err(Malformed::Value),
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::True | Self::Bare(_) => None,
        }
    }

    fn identifier(self) -> Result<&'a str, Malformed> {
        let id = self.text().filter(|id| (1..=MAX_ID).contains(&id.len()));
        id.ok_or(Malformed::Value)
    }

    fn token(self) -> Result<&'a str, Malformed> {
        match self {
            Self::Bare(token) => Ok(token),
            Self::True | Self::Text(_) => Err(Malformed::Value),
        }
    }
}

impl Object {
    fn parse(value: Value<'_>) -> Result<Self, Malformed> {
        Ok(match value.token()? {
            "m" => Self::Manifest,
            "a" => Self::Audio,
            "v" => Self::Video,
            "av" => Self::Muxed,
            "i" => Self::Init,
            "c" => Self::Caption,
            "tt" => Self::TimedText,
            "k" => Self::Key,
            "o" => Self::Other,
            _ => return Err(Malformed::Value),
        })
    }
}

impl Format {
    fn parse(value: Value<'_>) -> Result<Self, Malformed> {
        Ok(match value.token()? {
            "d" => Self::Dash,
            "h" => Self::Hls,
            "s" => Self::Smooth,
            "o" => Self::Other,
            _ => return Err(Malformed::Value),
        })
    }
}

impl Stream {
    fn parse(value: Value<'_>) -> Result<Self, Malformed> {
        // Version 2 names low latency apart.
        Ok(match value.token()? {
            "v" => Self::OnDemand,
            "l" | "ll" => Self::Live,
            _ => return Err(Malformed::Value),
        })
    }
}

#[cfg(test)]
mod tests;

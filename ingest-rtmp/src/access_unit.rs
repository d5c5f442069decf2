//! Access units from a publisher's video messages: assembled if an encoder sends a message for each
//! NAL unit, repaired if their format differs from the configuration. Pure: messages and `now` in,
//! pictures out. `media_core::codec::nal` parses NAL units; `publisher` decides when a picture may
//! be published.
//!
//! A message that holds a whole picture is passed on at once, and shares the message's memory. Only
//! the first picture waits for the next message. Once slices have arrived in separate messages,
//! every picture waits for the next message, and is copied once, until 250 in a row were whole
//! (docs/decisions/0025). The timestamps of a picture's slices may differ by a few milliseconds.
//! Separate delimiters, SEI and parameter sets are placed in front of the next picture.
//!
//! ITU-T H.264 7.4.1.2.3 and 7.4.1.2.4 (order of NAL units, first unit of a picture), Annex B;
//! ISO/IEC 14496-15 5.3.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::codec::{
    avc,
    nal::{self, Access, Contents},
};

use crate::{metrics::Drop, payload};

/// Maximum time for which a picture waits for more slices.
const WAIT: Duration = Duration::from_millis(200);
/// Maximum size of the separate units in front of a picture, in bytes.
const MAX_PREFIX_BYTES: usize = 64 << 10;
/// Maximum size of an assembled picture, in bytes: with the five bytes of its video tag it fits
/// into one message, whose length has 24 bits (RTMP 5.3.1.2.1).
const MAX_PICTURE_BYTES: usize = 0x00ff_ffff - 5;
/// Number of pictures whose units are searched for start codes. If one has them, all later ones are
/// searched.
const SEARCHED: u8 = 64;
/// Maximum difference between the timestamps of two successive messages of a picture, in
/// milliseconds: less than half the distance of pictures at 120 a second.
const SPREAD_MS: u64 = 4;
/// Number of successive pictures of one message each after which pictures no longer wait.
const WHOLE: u16 = 250;
/// Size of length prefixes before there is a configuration.
const USUAL_LENGTH_SIZE: u8 = 4;

/// A video message that holds a frame.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Its timestamp without wrap, in milliseconds.
    pub(crate) ms: i64,
    /// Presentation minus decode time in milliseconds.
    pub(crate) composition_ms: i32,
    /// NAL units in any format.
    pub(crate) payload: Bytes,
    /// Length of the RTMP message that the payload is a slice of.
    pub(crate) message_bytes: usize,
}

/// A whole picture, in the format of its configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    /// Timestamp of its first message without wrap, in milliseconds.
    pub(crate) ms: i64,
    /// Presentation minus decode time in milliseconds.
    pub(crate) composition_ms: i32,
    pub(crate) access: Access,
    /// Arrival of its last byte.
    pub(crate) arrived: Instant,
    /// NAL units with length prefixes of the configuration's size.
    pub(crate) payload: Bytes,
    /// The configuration that it contains, if it differs from the one in force.
    pub(crate) config: Option<avc::Config>,
}

/// The result of one message that is not dropped itself.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    /// The pictures that it completes: the previous one, its own, both or none.
    pub(crate) pictures: [Option<Picture>; 2],
    /// Why units in front of a picture were dropped, if they were.
    pub(crate) dropped: Option<Drop>,
}

/// Assembles pictures; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Units of messages without a slice, for the next picture.
    prefix: Vec<u8>,
    /// Whether they include parameter sets.
    prefix_has_sets: bool,
    open: Option<Open>,
    /// The timestamp of the last message of the newest complete picture.
    newest_ms: Option<i64>,
    /// Whether slices arrive in separate messages. Pictures then wait for the next message.
    joins: bool,
    /// Number of pictures since the last one of several messages.
    whole: u16,
    /// Number of messages that were searched for start codes, up to [`SEARCHED`].
    searched: u8,
    /// Whether units contain start codes.
    has_codes: bool,
}

/// A picture that may be incomplete.
#[derive(Debug)]
struct Open {
    ms: i64,
    composition_ms: i32,
    access: Access,
    /// Whether it contains parameter sets.
    has_sets: bool,
    payload: Payload,
    /// The timestamp of its last message.
    last_ms: i64,
    /// Arrival of its first message, from which [`WAIT`] counts.
    since: Instant,
    /// Arrival of its last message.
    arrived: Instant,
}

/// The bytes of a picture, copied only if that is necessary.
#[derive(Debug)]
enum Payload {
    /// From one message.
    Whole(Bytes),
    /// From several messages.
    Joined(Vec<u8>),
}

impl Payload {
    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }

    /// Appends another message's units. The first call copies, because the message's memory is
    /// shared.
    fn append(&mut self, more: &[u8]) {
        match self {
            Self::Joined(bytes) => bytes.extend_from_slice(more),
            Self::Whole(bytes) => *self = Self::Joined([bytes, more].concat()),
        }
    }
}

impl Assembler {
    /// Handles a message. `config` is the configuration in force, if any.
    ///
    /// # Errors
    /// Why the message is dropped; only its own picture is lost.
    pub(crate) fn push(
        &mut self,
        message: Message,
        config: Option<&avc::Config>,
        now: Instant,
    ) -> Result<Completed, Drop> {
        let length_size = config.map_or(USUAL_LENGTH_SIZE, |config| config.length_size);
        let Message { ms, composition_ms, payload, message_bytes } = message;
        let (payload, contents) = self.read(payload, length_size)?;
        let payload = payload::held(payload, message_bytes);
        let has_sets = contents.parameter_sets;
        // Only the first slice of a picture shows where it starts (`first_mb_in_slice` 0), and
        // nothing shows where it ends: the next picture, or units that precede one, end it (H.264
        // 7.4.1.2.3).
        let access = match contents.picture {
            nal::Picture::None => {
                // These units precede a picture, so the previous one is complete.
                let before = self.finish(config);
                let dropped = self.keep_prefix(&payload, has_sets).err();
                return Ok(Completed { pictures: [before, None], dropped });
            }
            nal::Picture::Continues => {
                if self.continue_picture(ms, &payload, has_sets, now)? {
                    return Ok(Completed::default());
                }
                // Its first slice is lost: this is the only part of the picture.
                Access::Dependent
            }
            nal::Picture::Begins(access) => access,
        };
        // From here on the message starts a picture, which ends the one before it.
        let before = self.finish(config);
        let prefix_has_sets = std::mem::take(&mut self.prefix_has_sets);
        let (payload, dropped) = self.join_prefix(payload);
        self.open = Some(Open {
            ms,
            composition_ms,
            access,
            has_sets: has_sets || prefix_has_sets && matches!(payload, Payload::Joined(_)),
            payload,
            last_ms: ms,
            since: now,
            arrived: now,
        });
        self.whole = self.whole.saturating_add(1);
        // An encoder that has split pictures is likely to do so again. Waiting delays each
        // picture by one, so it ends after a long run of whole pictures.
        self.joins &= self.whole <= WHOLE;
        let waits = self.joins || self.newest_ms.is_none();
        let own = if waits { None } else { self.finish(config) };
        Ok(Completed { pictures: [before, own], dropped })
    }

    /// Appends slices of the open picture to it. Returns false if there is none to which they can
    /// belong.
    ///
    /// # Errors
    /// [`Drop::Malformed`]: the picture becomes too large, or was passed on already.
    fn continue_picture(
        &mut self,
        ms: i64,
        slices: &[u8],
        has_sets: bool,
        now: Instant,
    ) -> Result<bool, Drop> {
        if let Some(open) = self.open.as_mut().filter(|open| is_close(open.last_ms, ms)) {
            (self.joins, self.whole) = (true, 0);
            if open.payload.len() + slices.len() > MAX_PICTURE_BYTES {
                return Err(Drop::Malformed);
            }
            open.payload.append(slices);
            open.has_sets |= has_sets;
            (open.arrived, open.last_ms) = (now, ms);
            return Ok(true);
        }
        let follows = self.newest_ms.is_some_and(|newest| is_close(newest, ms));
        if follows && self.open.is_none() {
            // Its picture was passed on before the separate slices were detected. Later pictures
            // wait.
            (self.joins, self.whole, self.newest_ms) = (true, 0, Some(ms));
            return Err(Drop::Malformed);
        }
        Ok(false)
    }

    /// Puts the kept units in front of a picture. Returns why they are dropped, if they are.
    fn join_prefix(&mut self, picture: Bytes) -> (Payload, Option<Drop>) {
        match &mut self.prefix {
            prefix if prefix.is_empty() => (Payload::Whole(picture), None),
            // A picture without its prefix is better than none.
            prefix if prefix.len() + picture.len() > MAX_PICTURE_BYTES => {
                prefix.clear();
                (Payload::Whole(picture), Some(Drop::Malformed))
            }
            prefix => {
                let mut joined = std::mem::take(prefix);
                joined.extend_from_slice(&picture);
                (Payload::Joined(joined), None)
            }
        }
    }

    /// The time of the next [`Assembler::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since + WAIT)
    }

    /// Returns the open picture if it has waited long enough.
    pub(crate) fn handle_timeout(
        &mut self,
        config: Option<&avc::Config>,
        now: Instant,
    ) -> Option<Picture> {
        let due = self.poll_timeout().is_some_and(|due| now >= due);
        if due { self.finish(config) } else { None }
    }

    /// Returns the open picture, because no more slices will follow.
    pub(crate) fn finish(&mut self, config: Option<&avc::Config>) -> Option<Picture> {
        let Open { ms, composition_ms, access, has_sets, payload, last_ms, arrived, .. } =
            self.open.take()?;
        self.newest_ms = Some(last_ms);
        let length_size = config.map_or(USUAL_LENGTH_SIZE, |config| config.length_size);
        let (payload, access) = match payload {
            Payload::Whole(bytes) => (bytes, access),
            Payload::Joined(bytes) => {
                // The first message alone does not show the access type of the whole picture.
                let access = match nal::contents(nal::units(&bytes, length_size)).picture {
                    nal::Picture::Begins(access) => access,
                    _ => access,
                };
                // Its capacity grew by doubling, and would be held with it.
                (bytes.into_boxed_slice().into(), access)
            }
        };
        let updated = || avc::Config::updated(config, nal::units(&payload, length_size));
        let config = if has_sets { updated() } else { None };
        Some(Picture { ms, composition_ms, access, arrived, payload, config })
    }

    /// Converts a message to the format of the configuration, and summarises it. It is copied only
    /// if its format differs.
    ///
    /// # Errors
    /// [`Drop::Malformed`]: the units have no known format, or do not fit their length prefixes.
    fn read(&mut self, mut payload: Bytes, length_size: u8) -> Result<(Bytes, Contents), Drop> {
        let rewrite = |units: Vec<&[u8]>| {
            let bytes = join(&units, length_size).ok_or(Drop::Malformed)?;
            Ok((bytes, nal::contents(units)))
        };
        // The declared format is tried first, because nearly all messages have it. Some encoders
        // send start codes, or length prefixes of another size than they declare.
        let Some(survey) = nal::survey(&payload, length_size) else {
            if nal::is_byte_stream(&payload) {
                return rewrite(nal::byte_stream(&payload).collect());
            }
            let other = nal::other_length_size(&payload, length_size).ok_or(Drop::Malformed)?;
            return rewrite(nal::units(&payload, other).collect());
        };
        payload.truncate(survey.used);
        if self.holds_start_codes(&payload, length_size) {
            return rewrite(nal::units(&payload, length_size).flat_map(nal::byte_stream).collect());
        }
        if survey.empty_units {
            return rewrite(nal::units(&payload, length_size).collect());
        }
        Ok((payload, survey.contents))
    }

    /// Whether units contain start codes: then a whole byte stream, or several units, have one
    /// length prefix. A search of every picture would cost more than all other work on it, so only
    /// the first ones are searched.
    fn holds_start_codes(&mut self, payload: &[u8], length_size: u8) -> bool {
        if !self.has_codes && self.searched == SEARCHED {
            return false;
        }
        self.searched = self.searched.saturating_add(1).min(SEARCHED);
        let found = nal::units(payload, length_size).any(|unit| nal::start_code(unit, 0).is_some());
        self.has_codes |= found;
        found
    }

    /// Keeps units for the next picture.
    ///
    /// # Errors
    /// [`Drop::NoPicture`]: there are too many of them; all are dropped.
    fn keep_prefix(&mut self, units: &[u8], has_sets: bool) -> Result<(), Drop> {
        if self.prefix.len() + units.len() > MAX_PREFIX_BYTES {
            self.prefix.clear();
            self.prefix_has_sets = false;
            return Err(Drop::NoPicture);
        }
        self.prefix.extend_from_slice(units);
        self.prefix_has_sets |= has_sets;
        Ok(())
    }
}

/// Units with length prefixes. `None` if one is too long for them.
fn join(units: &[&[u8]], length_size: u8) -> Option<Bytes> {
    let size = usize::from(length_size);
    let mut out = Vec::with_capacity(units.iter().map(|unit| size + unit.len()).sum());
    for unit in units {
        let len = u32::try_from(unit.len()).ok()?.to_be_bytes();
        let (above, prefix) = len.split_at(len.len().checked_sub(size)?);
        if above.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(prefix);
        out.extend_from_slice(unit);
    }
    Some(out.into())
}

/// Whether a slice with timestamp `ms` can belong to the picture whose last message has `last`.
fn is_close(last: i64, ms: i64) -> bool {
    last.abs_diff(ms) <= SPREAD_MS
}

#[cfg(test)]
mod tests;

//! H.264 NAL units of one message, found by length prefixes or start codes, and the fields of their
//! headers that show whether a picture begins here and whether decoding can start. Pure. The ingest
//! repairs messages that are malformed.
//!
//! ITU-T H.264 7.3.1 (NAL unit), 7.3.3 (slice header), 7.4.1.2.4 (first unit of a picture), D.1.8
//! (recovery point), Annex B (byte stream); ISO/IEC 14496-15 5.3.3 (length prefixes). Slice data
//! are not read: a well-formed message costs a few reads for each NAL unit. Tolerated: zero bytes
//! and empty units after the last unit (reported, so that they can be cut).

/// nal_unit_type, ITU-T H.264 table 7-1.
mod kind {
    pub(super) const SLICE: u8 = 1;
    pub(super) const PARTITION_A: u8 = 2;
    pub(super) const PARTITION_C: u8 = 4;
    pub(super) const IDR_SLICE: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const DELIMITER: u8 = 9;
    /// Coded slice extensions of SVC and MVC end here; higher types are reserved or of other layers
    /// (RTP's, for example).
    pub(super) const MOST: u8 = 21;
}

/// How decoding can start at a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// IDR: nothing after it refers to anything before it. Audio is always so.
    Idr,
    /// A recovery point (ITU-T H.264 D.2.8): pictures are correct from `frames` frames after it. 0
    /// means the I picture of an open group; more means periodic intra refresh.
    Recovery {
        /// recovery_frame_cnt.
        frames: u32,
    },
    /// All slices are intra and there is no other information: often the start of an open group.
    Intra,
    /// It refers to pictures before it.
    Dependent,
}

/// Summary of the NAL units of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Slices: of a picture that begins here, or continues.
    pub picture: Picture,
    /// A sequence or picture parameter set.
    pub parameter_sets: bool,
    /// A unit with an invalid header: a forbidden bit, or a type that H.264 does not have.
    pub implausible: bool,
}

/// The slices of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// None: only delimiters, SEI or parameter sets.
    None,
    /// Slices of the previous picture: none has first_mb_in_slice 0.
    Continues,
    /// A picture begins.
    Begins(Access),
}

/// A message whose length prefixes add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Summary of its units.
    pub contents: Contents,
    /// Bytes up to the end of the last unit that is not empty. Zero bytes or empty units follow.
    pub used: usize,
    /// Whether there are empty units before others.
    pub empty_units: bool,
}

/// Builds the summary of units.
#[derive(Debug, Clone, Copy)]
struct Reading {
    slices: bool,
    begins: bool,
    idr: bool,
    intra: bool,
    recovery: Option<u32>,
    parameter_sets: bool,
    implausible: bool,
}

impl Reading {
    const NOTHING: Self = Self {
        slices: false,
        begins: false,
        idr: false,
        intra: true,
        recovery: None,
        parameter_sets: false,
        implausible: false,
    };

    /// Reads the header of a unit that is not empty.
    fn add(&mut self, unit: &[u8]) {
        let header = unit[0];
        let unit_type = header & 0x1f;
        // The forbidden bit, type 0 and types that are not assigned show bytes that are no NAL
        // unit: most likely the length prefixes have another size.
        self.implausible |= header & 0x80 != 0 || unit_type == 0 || unit_type > kind::MOST;
        match unit_type {
            kind::IDR_SLICE => {
                (self.slices, self.idr) = (true, true);
                self.begins |= first_macroblock_is_0(unit);
            }
            kind::SLICE | kind::PARTITION_A => {
                self.slices = true;
                self.begins |= first_macroblock_is_0(unit);
                self.intra = self.intra && is_intra_slice(unit);
            }
            // Partitions B and C of a slice whose A was earlier.
            kind::PARTITION_A..=kind::PARTITION_C => self.slices = true,
            kind::SEI => self.recovery = self.recovery.or_else(|| recovery_point(unit)),
            kind::SPS | kind::PPS => self.parameter_sets = true,
            _ => {}
        }
    }

    fn contents(self) -> Contents {
        // A recovery point states how decoding can start, so it comes before the guess from the
        // types of slices.
        let access = match self.recovery {
            _ if self.idr => Access::Idr,
            Some(frames) => Access::Recovery { frames },
            None if self.intra => Access::Intra,
            None => Access::Dependent,
        };
        // A message may hold only the later slices of a picture: one without the first macroblock
        // continues the picture of the message before.
        let picture = match (self.slices, self.begins) {
            (false, _) => Picture::None,
            (true, false) => Picture::Continues,
            (true, true) => Picture::Begins(access),
        };
        Contents { picture, parameter_sets: self.parameter_sets, implausible: self.implausible }
    }
}

/// Reads the headers of the units behind length prefixes of `length_size` bytes. `None`: the
/// prefixes do not add up.
pub fn survey(payload: &[u8], length_size: u8) -> Option<Survey> {
    let mut reading = Reading::NOTHING;
    let (mut at, mut used) = (0, 0);
    let (mut empty, mut empty_units) = (false, false);
    while at < payload.len() {
        let rest = &payload[at..];
        let Some((prefix, after)) = rest.split_at_checked(usize::from(length_size)) else {
            // Too short for a prefix: trailing zero bytes, or a malformed message.
            return rest.iter().all(|byte| *byte == 0).then_some(Survey {
                contents: reading.contents(),
                used,
                empty_units,
            });
        };
        // A prefix of up to 4 bytes cannot overflow a usize. A length beyond the message ends the
        // reading with `None`.
        let len = prefix.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        at += prefix.len();
        if len == 0 {
            empty = true;
            continue;
        }
        reading.add(after.get(..len)?);
        at += len;
        used = at;
        // Empty units at the end are padding; before others they show that the prefixes have
        // another size.
        empty_units |= empty;
    }
    Some(Survey { contents: reading.contents(), used, empty_units })
}

/// Summary of units that were found in another way; empty ones are ignored.
pub fn contents<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Contents {
    let mut reading = Reading::NOTHING;
    for unit in units.into_iter().filter(|unit| !unit.is_empty()) {
        reading.add(unit);
    }
    reading.contents()
}

/// The length of prefixes, 1, 2, 3 or 4 bytes, with which a message can be read that cannot be read
/// with `length_size`. `None` if there is none, or more than one. Empty units count against a
/// length, because a shorter length finds them in a longer prefix.
pub fn other_length_size(payload: &[u8], length_size: u8) -> Option<u8> {
    let reads = |size: &u8| {
        survey(payload, *size).is_some_and(|survey| {
            let Contents { picture, parameter_sets, implausible } = survey.contents;
            !implausible && !survey.empty_units && (picture != Picture::None || parameter_sets)
        })
    };
    // Two sizes that both fit leave open which of them is meant.
    let mut sizes = (1..=4).filter(|size| *size != length_size).filter(reads);
    let size = sizes.next();
    size.filter(|_| sizes.next().is_none())
}

/// The units behind length prefixes, without the empty ones, of a message that [`survey`] could
/// read.
pub fn units(payload: &[u8], length_size: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    let next = move || {
        let (unit, after) = first_unit(rest, length_size)?;
        rest = after;
        Some(unit)
    };
    std::iter::from_fn(next).filter(|unit| !unit.is_empty())
}

/// The first unit without its length prefix, and the rest.
fn first_unit(payload: &[u8], length_size: u8) -> Option<(&[u8], &[u8])> {
    let (prefix, after) = payload.split_at_checked(usize::from(length_size))?;
    let len = prefix.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
    after.split_at_checked(len)
}

/// Maximum size of an access unit delimiter that is kept in front of parameter sets: its header and
/// its one byte (ITU-T H.264 7.3.2.4), and some zero bytes.
const MAX_DELIMITER: usize = 8;

/// Bytes of the access unit delimiter at the start, including its length prefix; 0 without one, and
/// for a unit that is too long to be one.
pub fn delimiter_len(payload: &[u8], length_size: u8) -> usize {
    first_unit(payload, length_size)
        .filter(|(unit, _)| unit.first().is_some_and(|byte| byte & 0x1f == kind::DELIMITER))
        .filter(|(unit, _)| unit.len() <= MAX_DELIMITER)
        .map_or(0, |(_, after)| payload.len() - after.len())
}

/// Whether a message is in byte stream form (Annex B): zero bytes and a start code.
pub fn is_byte_stream(payload: &[u8]) -> bool {
    let zeros = payload.iter().take_while(|byte| **byte == 0).count();
    zeros >= 2 && payload.get(zeros) == Some(&1)
}

/// The position of the first start code 00 00 01 at or after `from`.
pub fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    // A byte above 1 is in no start code, so the next one can end three bytes later at the
    // earliest.
    let mut at = from + 2;
    while let Some(byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 2..at] == [0, 0] => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

/// The units between start codes, without the zero bytes that may follow each (B.1.1:
/// trailing_zero_8bits) and without empty ones. Bytes before the first start code are a unit, too.
pub fn byte_stream(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    let next = move || {
        let bytes = rest?;
        let unit = match start_code(bytes, 0) {
            Some(at) => {
                rest = Some(&bytes[at + 3..]);
                &bytes[..at]
            }
            None => {
                rest = None;
                bytes
            }
        };
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        Some(&unit[..unit.len() - zeros])
    };
    std::iter::from_fn(next).filter(|unit| !unit.is_empty())
}

/// The kind of a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterSet {
    /// A sequence parameter set.
    Sequence,
    /// A picture parameter set.
    Picture,
}

/// Whether a unit is a parameter set.
pub fn parameter_set(unit: &[u8]) -> Option<ParameterSet> {
    match unit.first()? & 0x1f {
        kind::SPS => Some(ParameterSet::Sequence),
        kind::PPS => Some(ParameterSet::Picture),
        _ => None,
    }
}

/// pic_parameter_set_id of a picture parameter set.
pub(super) fn picture_parameter_set_id(unit: &[u8]) -> Option<u32> {
    Bits::of(unit.get(1..)?).exp_golomb()
}

/// Whether first_mb_in_slice is 0. It is ue(v): a first bit of 1 is 0.
fn first_macroblock_is_0(unit: &[u8]) -> bool {
    unit.get(1).is_some_and(|byte| byte & 0x80 != 0)
}

/// slice_type 2 or 7 (I), 4 or 9 (SI): ITU-T H.264 table 7-6.
fn is_intra_slice(unit: &[u8]) -> bool {
    let slice_type = || {
        let mut bits = Bits::of(unit.get(1..)?);
        bits.exp_golomb()?;
        bits.exp_golomb()
    };
    matches!(slice_type(), Some(2 | 4 | 7 | 9))
}

/// recovery_frame_cnt of an SEI unit that holds a recovery point (payloadType 6, 7.3.2.3.1).
fn recovery_point(unit: &[u8]) -> Option<u32> {
    const RECOVERY_POINT: usize = 6;
    let mut rbsp = Rbsp::of(unit.get(1..)?);
    loop {
        let payload_type = rbsp.sei_number()?;
        let size = rbsp.sei_number()?;
        // Other payloads are skipped by their size; their content is not read.
        if payload_type == RECOVERY_POINT {
            return Bits { rbsp, left: 0, byte: 0 }.exp_golomb();
        }
        // The rest is too short for another payload if this returns `None`.
        for _ in 0..size {
            rbsp.next()?;
        }
    }
}

/// A unit's bytes without its emulation prevention bytes (7.4.1).
struct Rbsp<'a> {
    bytes: std::slice::Iter<'a, u8>,
    zeros: u8,
}

impl<'a> Rbsp<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let bytes = bytes.iter();
        Self { bytes, zeros: 0 }
    }

    /// payloadType or payloadSize: a number of 255 bytes, and the byte after them.
    fn sei_number(&mut self) -> Option<usize> {
        let mut sum = 0;
        loop {
            let byte = self.next()?;
            sum += usize::from(byte);
            if byte != u8::MAX {
                return Some(sum);
            }
        }
    }
}

impl Iterator for Rbsp<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.next()?;
        // A byte 3 after two zero bytes is not part of the content: it keeps start codes out of it.
        if self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            byte = *self.bytes.next()?;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }
}

/// Bits of a unit, most significant first.
struct Bits<'a> {
    rbsp: Rbsp<'a>,
    byte: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let rbsp = Rbsp::of(bytes);
        Self { rbsp, byte: 0, left: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            (self.byte, self.left) = (self.rbsp.next()?, 8);
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left & 1))
    }

    /// ue(v), 9.1.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            // Longer codes do not fit 32 bits, and no field has them.
            if zeros > 31 {
                return None;
            }
        }
        let mut rest = 0;
        for _ in 0..zeros {
            rest = rest << 1 | self.bit()?;
        }
        Some((1_u32 << zeros) - 1 + rest)
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    /// The slices of a message with prefixes of 4 bytes.
    fn picture(payload: &[u8]) -> Picture {
        survey(payload, 4).unwrap().contents.picture
    }

    #[test]
    fn a_picture_begins_at_a_slice_with_first_mb_zero() {
        let idr = Picture::Begins(Access::Idr);
        assert_eq!(picture(&hex!("00000002 0910 00000003 658880")), idr);
        assert_eq!(picture(&hex!("00000003 658880 00000003 651280")), idr);
        // first_mb_in_slice 3: 00100.
        assert_eq!(picture(&hex!("00000003 652280")), Picture::Continues);
        assert_eq!(picture(&hex!("00000003 419a20")), Picture::Begins(Access::Dependent));
        assert_eq!(picture(&hex!("00000003 412280 00000003 030180")), Picture::Continues);
        assert_eq!(picture(&hex!("00000002 09f0 00000003 060180")), Picture::None);
        assert_eq!(picture(&[]), Picture::None);
    }

    #[test]
    fn a_picture_is_intra_if_all_its_slices_are_intra() {
        // slice_type 7: 1 0001000; 2: 1 011; 5 (P): 1 00110.
        assert_eq!(picture(&hex!("00000003 418880")), Picture::Begins(Access::Intra));
        assert_eq!(picture(&hex!("00000003 41b080")), Picture::Begins(Access::Intra));
        // The second slice begins at macroblock 3: 00100, and is of type 7, or of type 5.
        assert_eq!(
            picture(&hex!("00000003 418880 00000004 41208080")),
            Picture::Begins(Access::Intra)
        );
        assert_eq!(
            picture(&hex!("00000003 418880 00000004 41218080")),
            Picture::Begins(Access::Dependent)
        );
    }

    #[test]
    fn a_recovery_point_is_found_after_other_sei_messages_and_emulation_prevention_bytes() {
        let with = |sei: &[u8]| {
            let len = u8::try_from(sei.len()).unwrap();
            picture(&[&[0, 0, 0, len][..], sei, &hex!("00000003 419a20")].concat())
        };
        let recovery = |frames| Picture::Begins(Access::Recovery { frames });
        // recovery_frame_cnt 0: 1; 3: 00100.
        assert_eq!(with(&hex!("06 06 01 c4 80")), recovery(0));
        assert_eq!(with(&hex!("06 06 02 2620 80")), recovery(3));
        // Five bytes of user data, in which an emulation prevention byte follows 00 00.
        assert_eq!(with(&hex!("06 04 05 0000 03 010203 06 01 c4 80")), recovery(0));
        assert_eq!(with(&hex!("06 04 03 010203 80")), Picture::Begins(Access::Dependent));
        assert_eq!(with(&hex!("06 06")), Picture::Begins(Access::Dependent));
        assert_eq!(with(&hex!("06 05 ff")), Picture::Begins(Access::Dependent));
    }

    #[test]
    fn trailing_zero_bytes_and_empty_units_are_not_counted() {
        let unit = hex!("00000003 658880");
        for (behind, empty_units) in [
            (&hex!("")[..], false),
            (&hex!("00"), false),
            (&hex!("000000"), false),
            (&hex!("00000000"), false),
            (&hex!("00000000 0000"), false),
            (&hex!("00000000 00000002 09f0"), true),
        ] {
            let payload = [&unit, behind].concat();
            let survey = survey(&payload, 4).unwrap();
            let used = if empty_units { payload.len() } else { unit.len() };
            assert_eq!((survey.used, survey.empty_units), (used, empty_units), "{behind:02x?}");
        }
        let empty = survey(&hex!("00000000 000000"), 4).unwrap();
        assert_eq!((empty.used, empty.contents.picture), (0, Picture::None));
    }

    #[test]
    fn inconsistent_unit_lengths_are_detected() {
        for bad in
            [&hex!("00000003 6588")[..], &hex!("ffffffff 65"), &hex!("00000001 65 01"), &hex!("01")]
        {
            assert_eq!(survey(bad, 4), None, "{bad:02x?}");
        }
    }

    #[test]
    fn a_different_length_size_is_found_if_it_is_unambiguous() {
        assert_eq!(other_length_size(&hex!("0003 658880 0002 419a"), 4), Some(2));
        assert_eq!(other_length_size(&hex!("03 658880"), 4), Some(1));
        assert_eq!(other_length_size(&hex!("000003 658880"), 4), Some(3));
        assert_eq!(other_length_size(&hex!("00000003 658880"), 1), Some(4));
        assert_eq!(other_length_size(&hex!("0102030405"), 4), None);
        // No slice, and no parameter set.
        assert_eq!(other_length_size(&hex!("0002 09f0"), 4), None);
    }

    #[test]
    fn byte_streams_are_distinguished_from_length_prefixes_and_trailing_zeros_are_removed() {
        let stream = hex!("00000001 6742 00 000001 68ce 000000 000001 658880 0000");
        assert!(is_byte_stream(&stream) && is_byte_stream(&hex!("000001 09")));
        assert!(
            !is_byte_stream(&hex!("0001 65"))
                && !is_byte_stream(&hex!("00000002 09f0"))
                && !is_byte_stream(&[0; 9])
        );
        let units: Vec<_> = byte_stream(&stream).collect();
        assert_eq!(units, [&hex!("6742")[..], &hex!("68ce"), &hex!("658880")]);
        // A unit that contains start codes.
        let joined: Vec<_> = byte_stream(&hex!("658880 00000001 652280")).collect();
        assert_eq!(joined, [hex!("658880"), hex!("652280")]);
        assert_eq!(start_code(&hex!("00 0000 01"), 0), Some(1));
        assert_eq!(start_code(&hex!("000002 000003 01"), 0), None);
    }

    proptest::proptest! {
        #[test]
        fn units_joined_with_start_codes_survive_a_round_trip(
            units in proptest::collection::vec(proptest::collection::vec(1u8..=255, 1..20), 1..6),
            long in proptest::bool::ANY,
        ) {
            let code: &[u8] = if long { &[0, 0, 0, 1] } else { &[0, 0, 1] };
            let stream: Vec<u8> = units.iter().flat_map(|unit| [code, unit].concat()).collect();
            proptest::prop_assert!(byte_stream(&stream).eq(units.iter().map(|unit| &unit[..])));
        }

        #[test]
        fn the_parsers_never_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
            size in 1u8..=4,
        ) {
            if let Some(survey) = survey(&bytes, size) {
                proptest::prop_assert!(survey.used <= bytes.len());
                proptest::prop_assert_eq!(contents(units(&bytes, size)), survey.contents);
            }
            let _ = other_length_size(&bytes, size);
            let _ = byte_stream(&bytes).filter_map(recovery_point).count();
        }
    }
}

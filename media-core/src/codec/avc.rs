//! H.264: `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1) and the values of its sequence
//! parameter set.
//!
//! h264-reader parses the bit syntax; limits and plausibility checks are ours, because the record
//! comes from the network.

use std::cmp::Ordering;

use bytes::Bytes;
use h264_reader::{
    avcc::AvcDecoderConfigurationRecord,
    nal::{
        Nal, RefNal,
        sps::{ChromaFormat, SeqParameterSet},
    },
};

use super::nal::{self, ParameterSet};
use crate::{Error, RecordFault};

/// The largest accepted record: 31 parameter sets of usual sizes fit many times over.
const MAX_RECORD_BYTES: usize = 4096;
/// The largest accepted picture side, in luma samples. Level 6.2 ends at 16 864.
const MAX_SIDE: u32 = 16_384;

/// The shape of one sample of a picture: width to height (ITU-T H.264 E.2.1, `sar_width` and
/// `sar_height`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleAspect {
    /// The horizontal size, in any unit; above 0 if the stream states it.
    pub width: u16,
    /// The vertical size, in the same unit.
    pub height: u16,
}

impl SampleAspect {
    /// Samples as wide as high.
    pub const SQUARE: Self = Self { width: 1, height: 1 };
}

/// The values of an `avcC` record.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The record, byte for byte as received, copied out of its message.
    pub record: Bytes,
    /// `avc1.PPCCLL` (RFC 6381 3.3).
    pub codec_string: String,
    /// Width of the cropped picture in luma samples.
    pub width: u32,
    /// Height of the cropped picture in luma samples.
    pub height: u32,
    /// The shape of one sample; [`SampleAspect::SQUARE`] if the stream does not state it.
    pub sample_aspect: SampleAspect,
    /// Frames a second according to the VUI's timing, if present and plausible. Variable-rate
    /// sources may differ from it.
    pub frame_rate: Option<f64>,
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub length_size: u8,
}

impl Config {
    /// Reads a configuration record; the bytes are copied, so that a 64 KiB message does not
    /// outlive its 40 bytes.
    ///
    /// # Errors
    /// [`Error::BadConfig`]: too long, truncated, no sequence parameter set, or an invalid picture
    /// size.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let bad = |fault| Error::BadConfig { record: "avcC", len: record.len(), fault };
        let avc = |part, reason| bad(RecordFault::Avc { part, reason });
        if record.len() > MAX_RECORD_BYTES {
            return Err(bad(RecordFault::TooLong { max: MAX_RECORD_BYTES }));
        }
        if parameter_sets(record).is_none() {
            return Err(bad(RecordFault::EmptySet));
        }
        let avcc = AvcDecoderConfigurationRecord::try_from(record)
            .map_err(|err| avc("record", format!("{err:?}")))?;
        let length_size = avcc.length_size_minus_one() + 1;
        // ISO/IEC 14496-15 5.3.3.1.2 allows prefixes of 1, 2 and 4 bytes only.
        if length_size == 3 {
            return Err(bad(RecordFault::LengthSize { bytes: length_size }));
        }
        let sps = avcc
            .sequence_parameter_sets()
            .next()
            .ok_or_else(|| bad(RecordFault::NoSet { kind: "sequence" }))?;
        let sps = sps.map_err(|err| avc("sequence parameter set", format!("{err:?}")))?;
        if avcc.picture_parameter_sets().next().is_none_or(|pps| pps.is_err()) {
            return Err(bad(RecordFault::NoSet { kind: "picture" }));
        }
        let sps = SeqParameterSet::from_bits(RefNal::new(sps, &[], true).rbsp_bits())
            .map_err(|err| avc("sequence parameter set", format!("{err:?}")))?;
        // Checked before the crate's own arithmetic on them, which may overflow.
        if sps.pic_width_in_mbs_minus1 >= MAX_SIDE / 16
            || sps.pic_height_in_map_units_minus1 >= MAX_SIDE / 16
        {
            return Err(bad(RecordFault::TooLarge { max: MAX_SIDE }));
        }
        let (width, height) =
            sps.pixel_dimensions().map_err(|err| avc("picture size", format!("{err:?}")))?;
        if width == 0 || height == 0 {
            return Err(bad(RecordFault::EmptyPicture));
        }
        Ok(Self {
            record: Bytes::copy_from_slice(record),
            // The record's bytes 1 to 3 are the SPS's profile_idc, constraint flags and level_idc.
            codec_string: format!("avc1.{:02x}{:02x}{:02x}", record[1], record[2], record[3]),
            width,
            height,
            sample_aspect: sample_aspect(&sps),
            frame_rate: frame_rate(&sps),
            length_size,
        })
    }

    /// The configuration after these parameter sets in the stream: `before` is the one in force, if
    /// any. `None` if they are known already, do not make a configuration, or one of the two kinds
    /// is still missing.
    ///
    /// A new sequence parameter set replaces all; a picture parameter set replaces the one with its
    /// id. Without a configuration before, `length_size` is 4.
    pub fn updated<'a>(
        before: Option<&'a Self>,
        sets: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let [mut sequence, mut picture] =
            before.and_then(|before| parameter_sets(&before.record)).unwrap_or_default();
        // The sets that a stream repeats with each key frame are known, and make no new
        // configuration.
        let mut renewed = false;
        let (mut new_sequence, mut new_picture) = (Vec::new(), Vec::new());
        for set in sets {
            let (known, new) = match nal::parameter_set(set) {
                Some(ParameterSet::Sequence) => (&sequence, &mut new_sequence),
                Some(ParameterSet::Picture) => (&picture, &mut new_picture),
                None => continue,
            };
            renewed |= !known.contains(&set);
            if !new.contains(&set) {
                new.push(set);
            }
        }
        if !renewed {
            return None;
        }
        // A sequence parameter set that was not known before describes other pictures, so it
        // replaces all.
        if new_sequence.iter().any(|set| !sequence.contains(set)) {
            sequence = new_sequence;
            // Picture parameter sets of another sequence are obsolete, if there are new ones.
            if !new_picture.is_empty() {
                picture.clear();
            }
        }
        let id = |set: &[u8]| nal::picture_parameter_set_id(set);
        // Sets with an identifier of their own are added to those of the configuration.
        picture.retain(|set| new_picture.iter().all(|new| id(new) != id(set)));
        picture.append(&mut new_picture);
        let length_size = before.map_or(4, |before| before.length_size);
        Self::parse(&record(&sequence, &picture, length_size)?).ok()
    }

    /// Whether both have the same sequence parameter sets, and differ at most in picture parameter
    /// sets.
    pub fn is_same_sequence(&self, other: &Self) -> bool {
        let sequence =
            |config: &Self| parameter_sets(&config.record).map(|[sequence, _]| sequence.concat());
        sequence(self) == sequence(other)
    }

    /// Whether a record has only the size of lengths, because parameter sets are in the stream.
    pub fn is_without_sets(record: &[u8]) -> bool {
        record.first() == Some(&1)
            && parameter_sets(record).is_some_and(|sets| sets.iter().all(Vec::is_empty))
    }

    /// The parameter sets as NAL units of a sample, with length prefixes; empty if the length
    /// prefixes are too short for one.
    pub fn sets_in_band(&self) -> Vec<u8> {
        let sets = parameter_sets(&self.record).unwrap_or_default();
        let size = usize::from(self.length_size.min(4));
        let mut units = Vec::new();
        for set in sets.iter().flatten() {
            let len = u32::try_from(set.len()).unwrap_or(u32::MAX).to_be_bytes();
            let (beyond, len) = len.split_at(4 - size);
            // Sets that are cut short would be worse than none: the init segment has them, too.
            if beyond.iter().any(|byte| *byte != 0) {
                return Vec::new();
            }
            units.extend_from_slice(len);
            units.extend_from_slice(set);
        }
        units
    }

    /// Returns a key frame that holds all picture parameter sets: `key_frame` itself if it does,
    /// otherwise a copy with the parameter sets after its access unit delimiter, if it has one.
    pub fn with_sets(&self, key_frame: Bytes) -> Bytes {
        let [_, picture] = parameter_sets(&self.record).unwrap_or_default();
        let has = |set: &&[u8]| nal::units(&key_frame, self.length_size).any(|unit| unit == *set);
        // A key frame that has them already is passed on without a copy.
        if picture.iter().all(has) {
            return key_frame;
        }
        let (delimiter, rest) =
            key_frame.split_at(nal::delimiter_len(&key_frame, self.length_size));
        [delimiter, &self.sets_in_band(), rest].concat().into()
    }

    /// Reads a sequence header in byte stream form instead of a record: parameter sets between
    /// start codes.
    pub fn parse_byte_stream(header: &[u8]) -> Option<Self> {
        let header = Some(header)
            .filter(|header| header.len() <= MAX_RECORD_BYTES && nal::is_byte_stream(header))?;
        Self::updated(None, nal::byte_stream(header))
    }
}

/// The codec string that covers both: the profile that contains the other, with its constraints,
/// and the higher level.
pub(super) fn covering(a: &str, b: &str) -> String {
    /// Each contains those before it, in the way encoders use them (ITU-T H.264 A.2).
    const PROFILES: [u8; 7] = [66, 77, 88, 100, 110, 122, 244];
    let parse = |string: &str| {
        u32::from_str_radix(string.trim_start_matches("avc1."), 16).unwrap_or(0).to_be_bytes()
    };
    let ([_, profile_a, flags_a, level_a], [_, profile_b, flags_b, level_b]) = (parse(a), parse(b));
    let rank =
        |profile| PROFILES.iter().position(|known| *known == profile).unwrap_or(PROFILES.len());
    // A constraint holds for both only if both state it.
    let (profile, flags) = match rank(profile_a).cmp(&rank(profile_b)) {
        Ordering::Less => (profile_b, flags_b),
        Ordering::Equal => (profile_a, flags_a & flags_b),
        Ordering::Greater => (profile_a, flags_a),
    };
    format!("avc1.{profile:02x}{flags:02x}{:02x}", level_a.max(level_b))
}

/// The sequence and the picture parameter sets of a record. `None` unless each set is present and
/// not empty, because h264-reader panics on empty ones.
fn parameter_sets(record: &[u8]) -> Option<[Vec<&[u8]>; 2]> {
    let mut rest = record.get(5..)?;
    // Each list is a count, below reserved bits, and sets behind lengths of 16 bits.
    let mut take = |mask: u8| {
        let (count, after) = rest.split_first()?;
        rest = after;
        let mut sets = Vec::new();
        for _ in 0..count & mask {
            let (len, after) = rest.split_first_chunk::<2>()?;
            let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = after;
            sets.push(Some(set).filter(|set| !set.is_empty())?);
        }
        Some(sets)
    };
    Some([take(0x1f)?, take(0xff)?])
}

/// An `AVCDecoderConfigurationRecord` with these parameter sets, all of them of at least four
/// bytes.
fn record(sequence: &[&[u8]], picture: &[&[u8]], length_size: u8) -> Option<Vec<u8>> {
    let first = sequence.first().filter(|set| set.len() > 3)?;
    let mut record = vec![1, first[1], first[2], first[3], 0xfc | (length_size - 1)];
    for (sets, reserved, most) in [(sequence, 0xe0, 31), (picture, 0, 255)] {
        let count = u8::try_from(sets.len()).ok().filter(|count| *count <= most)?;
        record.push(reserved | count);
        for set in sets {
            record.extend(u16::try_from(set.len()).ok()?.to_be_bytes());
            record.extend_from_slice(set);
        }
    }
    // High profiles have more fields (5.3.3.1.2).
    if matches!(first[1], 100 | 110 | 122 | 144) {
        let sps = SeqParameterSet::from_bits(RefNal::new(first, &[], true).rbsp_bits()).ok()?;
        let chroma = &sps.chroma_info;
        let format = match chroma.chroma_format {
            ChromaFormat::Monochrome => 0,
            ChromaFormat::YUV420 => 1,
            ChromaFormat::YUV422 => 2,
            ChromaFormat::YUV444 => 3,
            ChromaFormat::Invalid(_) => return None,
        };
        let depths = [chroma.bit_depth_luma_minus8, chroma.bit_depth_chroma_minus8];
        record.extend([0xfc | format, 0xf8 | depths[0] & 7, 0xf8 | depths[1] & 7, 0]);
    }
    Some(record)
}

/// Maximum number of frames in a group, from x264's settings in the user data before its first
/// picture (ITU-T H.264 D.1.6). `None` for other encoders, and for endless groups.
pub fn stated_group(access_unit: &[u8]) -> Option<u32> {
    const SETTING: &[u8] = b" keyint=";
    const DIGITS: usize = 6;
    // x264 writes its settings before the first slice; the rest of a large picture is not searched.
    let head = &access_unit[..access_unit.len().min(2048)];
    let at = head.windows(SETTING.len()).position(|window| window == SETTING)? + SETTING.len();
    let digits = head[at..].iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit());
    let frames = digits.fold(0, |frames, digit| frames * 10 + u32::from(digit - b'0'));
    (frames > 0).then_some(frames)
}

fn sample_aspect(sps: &SeqParameterSet) -> SampleAspect {
    let info = sps.vui_parameters.as_ref().and_then(|vui| vui.aspect_ratio_info.as_ref());
    match info.and_then(|info| info.get()) {
        Some((width, height)) if width > 0 && height > 0 => SampleAspect { width, height },
        _ => SampleAspect::SQUARE,
    }
}

/// ITU-T H.264 E.2.1: two ticks a frame, whether it is coded as a frame or as fields.
fn frame_rate(sps: &SeqParameterSet) -> Option<f64> {
    let timing = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    let fps = f64::from(timing.time_scale) / (2.0 * f64::from(timing.num_units_in_tick));
    (1.0..=300.0).contains(&fps).then_some(fps)
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    /// x264, high profile, level 3.0, 640x360 at 30 frames a second.
    const HIGH_360P: &[u8] = &hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );

    #[test]
    fn a_record_gives_the_codec_string_size_and_frame_rate() {
        let config = Config::parse(HIGH_360P).unwrap();
        assert_eq!(config.codec_string, "avc1.64001e");
        assert_eq!((config.width, config.height), (640, 360));
        assert_eq!(config.sample_aspect, SampleAspect::SQUARE);
        assert_eq!(config.length_size, 4);
        let fps = config.frame_rate.unwrap();
        assert!((fps - 29.97).abs() < 0.01, "{fps}");
    }

    #[test]
    fn an_empty_parameter_set_is_refused() {
        let no_pps =
            hex!("0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0000");
        let no_sps = hex!("0164001e ffe1 0000 01 0006 68ebe3cb22c0 fdf8f800");
        for record in [&no_pps[..], &no_sps] {
            assert!(Config::parse(record).unwrap_err().to_string().contains("truncated or empty"));
        }
    }

    const SPS: &[u8] = &hex!("6764001eacd940a02ff9701100000303e90000ea600f162d96");
    const PPS: &[u8] = &hex!("68ebe3cb22c0");

    #[test]
    fn in_band_parameter_sets_make_the_same_record_as_the_encoder() {
        let config = Config::updated(None, [SPS, PPS]).unwrap();
        assert_eq!(config, Config::parse(HIGH_360P).unwrap());
        let stream = [&[0, 0, 0, 1], SPS, &[0, 0, 1], PPS].concat();
        assert_eq!(Config::parse_byte_stream(&stream).unwrap(), config);
        assert_eq!(Config::updated(None, [SPS]), None);
        assert_eq!(Config::updated(None, [PPS]), None);
        assert_eq!(Config::parse_byte_stream(HIGH_360P), None);
        assert!(Config::is_without_sets(&hex!("0164001e ff e0 00")));
        assert!(
            !Config::is_without_sets(HIGH_360P) && !Config::is_without_sets(&hex!("0164001e ff"))
        );
    }

    #[test]
    fn only_new_in_band_parameter_sets_change_the_configuration() {
        let before = Config::parse(HIGH_360P).unwrap();
        for known in [&[SPS, PPS][..], &[SPS], &[PPS], &[]] {
            assert_eq!(Config::updated(Some(&before), known.iter().copied()), None);
        }
        // Of the same id (0): replaced. Of id 1, 010: added.
        let (same, other) = (hex!("68ebe3cb22d0"), hex!("685be3cb22c0"));
        let sets =
            |config: &Config| parameter_sets(&config.record).unwrap().map(|sets| sets.concat());
        let replaced = Config::updated(Some(&before), [&same[..]]).unwrap();
        assert_eq!(sets(&replaced), [SPS.to_vec(), same.to_vec()]);
        let added = Config::updated(Some(&before), [SPS, &other]).unwrap();
        assert_eq!(sets(&added), [SPS.to_vec(), [PPS, &other].concat()]);
        // Level 3.1: another sequence, with new or unchanged picture parameter sets.
        let mut larger = SPS.to_vec();
        larger[3] = 0x1f;
        let alone = Config::updated(Some(&before), [&larger[..]]).unwrap();
        assert_eq!(
            (&alone.codec_string[..], sets(&alone)),
            ("avc1.64001f", [larger.clone(), PPS.to_vec()])
        );
        let both = Config::updated(Some(&before), [&larger[..], &other]).unwrap();
        assert_eq!(sets(&both), [larger, other.to_vec()]);
        assert!(before.is_same_sequence(&replaced) && before.is_same_sequence(&added));
        assert!(!before.is_same_sequence(&alone));
        // Sets that make no configuration change nothing.
        assert_eq!(Config::updated(Some(&before), [&hex!("6764")[..]]), None);
    }

    #[test]
    fn every_truncation_is_refused_without_a_panic() {
        for len in 0..HIGH_360P.len() - 13 {
            assert!(Config::parse(&HIGH_360P[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn the_keyint_of_x264_is_parsed_from_its_sei_text() {
        let stated = |text: &str| {
            stated_group(format!("\x06\x05 x264 - core 164 - options: cabac=1 {text}").as_bytes())
        };
        assert_eq!(stated("ref=3 keyint=250 keyint_min=25 scenecut=40"), Some(250));
        assert_eq!(stated("keyint=infinite keyint_min=25"), None);
        assert_eq!(stated("keyint_min=25"), None);
        assert_eq!(stated("keyint=99999999"), Some(999_999));
        assert_eq!(stated("keyint="), None);
        assert_eq!(stated_group(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn the_avc_record_parser_never_panics(
            mut record in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
            keep in 0usize..40,
        ) {
            let n = keep.min(record.len()).min(HIGH_360P.len());
            record[..n].copy_from_slice(&HIGH_360P[..n]);
            let _ = Config::parse(&record);
            let _ = Config::parse_byte_stream(&record);
            let _ = Config::updated(Config::parse(HIGH_360P).ok().as_ref(), record.chunks(7));
        }
    }
}

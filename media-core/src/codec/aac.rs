//! AAC: the values of an `AudioSpecificConfig` (ISO/IEC 14496-3 1.6.2.1) that a server needs:
//! rates, channels, frame length.

use bytes::Bytes;

use crate::{Error, MediaSpan, RecordFault, Ticks, Timescale};

/// The largest accepted record; a program_config_element fits.
const MAX_RECORD_BYTES: usize = 512;

/// ISO/IEC 14496-3 table 1.18.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// The values of an `AudioSpecificConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The record, byte for byte as received.
    pub record: Bytes,
    /// `mp4a.40.N`, with N the audio object type that a decoder must support (RFC 6381 3.3).
    pub codec_string: String,
    /// The core coder's sampling rate, in which frames are counted. With SBR a decoder outputs
    /// twice as much.
    pub timescale: Timescale,
    /// Channels of the core coder; 0 if only an in-band program_config_element has the number.
    pub channels: u8,
    /// Samples of the core coder in one access unit: 1024 or 960.
    pub frame_samples: u32,
}

impl Config {
    /// Reads an `AudioSpecificConfig`; the bytes are copied.
    ///
    /// # Errors
    /// [`Error::BadConfig`]: truncated, too long, an object type that is not AAC-LC (alone, or
    /// under SBR or PS), or a reserved sampling rate.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let bad =
            |fault| Error::BadConfig { record: "AudioSpecificConfig", len: record.len(), fault };
        if record.len() > MAX_RECORD_BYTES {
            return Err(bad(RecordFault::TooLong { max: MAX_RECORD_BYTES }));
        }
        let truncated = || bad(RecordFault::Truncated);
        let mut bits = Bits { bytes: record, at: 0 };
        let signalled = object_type(&mut bits).ok_or_else(truncated)?;
        let rate = sampling_rate(&mut bits)
            .ok_or_else(truncated)?
            .map_err(|index| bad(RecordFault::SamplingRate { index }))?;
        let channel_configuration = bits.take(4).ok_or_else(truncated)?;
        let core = match signalled {
            // Explicit hierarchical signalling: 1.6.5.2.
            SBR | PS => {
                let _extension_rate = sampling_rate(&mut bits).ok_or_else(truncated)?;
                object_type(&mut bits).ok_or_else(truncated)?
            }
            core => core,
        };
        if core != LC {
            return Err(bad(RecordFault::ObjectType { object_type: core }));
        }
        let short = bits.take(1).ok_or_else(truncated)? == 1; // GASpecificConfig: frameLengthFlag
        // Table 1.19: configuration 7 has eight channels, and higher ones are reserved or not
        // carried.
        let channels = match channel_configuration {
            0..=6 => channel_configuration,
            7 => 8,
            index => return Err(bad(RecordFault::Channels { index })),
        };
        Ok(Self {
            record: Bytes::copy_from_slice(record),
            codec_string: format!("mp4a.40.{signalled}"),
            timescale: Timescale::new(rate)
                .ok_or_else(|| bad(RecordFault::SamplingRate { index: 15 }))?,
            channels: u8::try_from(channels).unwrap_or(0),
            frame_samples: if short { 960 } else { 1024 },
        })
    }

    /// Duration of `units` access units, rounded to the nearest tick of 90 kHz.
    pub fn span_of(&self, units: u32) -> MediaSpan {
        // Multiplied first, so that the rounding of one unit does not add up.
        let samples = i64::from(units) * i64::from(self.frame_samples);
        Ticks::new(samples).span(self.timescale)
    }
}

/// The codec string that covers both: a decoder of SBR decodes LC, one of PS decodes SBR.
pub(super) fn covering(a: &str, b: &str) -> String {
    let rank =
        |string: &str| [LC, SBR, PS].iter().position(|kind| string == format!("mp4a.40.{kind}"));
    if rank(a) >= rank(b) { a } else { b }.to_owned()
}

const LC: u32 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(5)? {
        31 => Some(32 + bits.take(6)?),
        other => Some(other),
    }
}

/// Reads a sampling rate. `None`: truncated. `Some(Err(index))`: a reserved index or an implausible
/// explicit rate.
fn sampling_rate(bits: &mut Bits<'_>) -> Option<Result<u32, u32>> {
    let index = bits.take(4)?;
    if index == 15 {
        let hz = bits.take(24)?;
        return Some(if (1_000..=192_000).contains(&hz) { Ok(hz) } else { Err(index) });
    }
    Some(RATES.get(index as usize).copied().ok_or(index))
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let end = self.at + count;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let value = (self.at..end)
            .fold(0, |value, at| value << 1 | u32::from(self.bytes[at / 8] >> (7 - at % 8) & 1));
        self.at = end;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn low_complexity_at_48_and_44_1_khz() {
        let config = Config::parse(&hex!("1190")).unwrap();
        assert_eq!(
            (config.timescale.hz(), config.channels, config.frame_samples),
            (48_000, 2, 1024)
        );
        assert_eq!(config.codec_string, "mp4a.40.2");
        // ffmpeg's, with a backward-compatible SBR trailer.
        let config = Config::parse(&hex!("1208 56e500")).unwrap();
        assert_eq!((config.timescale.hz(), config.channels), (44_100, 1));
        assert_eq!(config.codec_string, "mp4a.40.2");
    }

    #[test]
    fn explicit_sbr_counts_the_core_rate() {
        // object type 5, core 24 kHz (index 6), stereo, extension 48 kHz (index 3), core type 2
        let config = Config::parse(&hex!("2b11 8800")).unwrap();
        assert_eq!(config.codec_string, "mp4a.40.5");
        assert_eq!((config.timescale.hz(), config.channels), (24_000, 2));
    }

    #[test]
    fn truncated_reserved_and_unsupported_records_are_refused() {
        for bad in
            [&hex!("")[..], &hex!("11"), &hex!("1690"), &hex!("0990"), &hex!("f8e0"), &[0x11; 513]]
        {
            assert!(Config::parse(bad).is_err(), "{bad:02x?}");
        }
    }
}

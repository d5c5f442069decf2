//! AAC in ADTS frames (ISO/IEC 14496-3 1.A.3.2): raw access units with a header in front of each,
//! as in MPEG-2 transport streams and from some encoders. Pure: finds the access units in a
//! message, and the configuration in their headers.

/// A message in ADTS form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// The range of each raw access unit in the message; at least one.
    pub units: Vec<std::ops::Range<usize>>,
    /// The `AudioSpecificConfig` made from the first header.
    pub config: [u8; 2],
}

/// Maximum number of frames in one message: a second and a half of the usual 48 kHz.
const MOST_FRAMES: usize = 64;
/// Length of the header without its CRC, in bytes.
const HEADER: usize = 7;
/// Length of the header with its CRC, in bytes.
const HEADER_WITH_CRC: usize = 9;

/// Whether a message begins with a syncword of layer 0. No raw access unit does: it would be an
/// `ID_END` element followed by invalid bits.
pub fn is_adts(payload: &[u8]) -> bool {
    matches!(payload, [0xff, flags, ..] if flags & 0xf6 == 0xf0)
}

/// Whether the configuration of ADTS headers states another sampling rate or number of channels
/// than `record`, an `AudioSpecificConfig`. Values that one of them leaves open, an explicit rate
/// or a program_config_element, contradict nothing. With SBR, both state the core coder's rate.
pub fn contradicts(config: [u8; 2], record: &[u8]) -> bool {
    /// The samplingFrequencyIndex that is followed by the rate itself.
    const EXPLICIT: u8 = 15;
    let Some(record) = record.first_chunk::<2>() else {
        return false;
    };
    let read = |[high, low]: [u8; 2]| ((high & 7) << 1 | low >> 7, low >> 3 & 15);
    let ((rate, channels), (in_force, channels_in_force)) = (read(config), read(*record));
    if in_force == EXPLICIT {
        return false;
    }
    rate != in_force || (channels != channels_in_force && channels != 0 && channels_in_force != 0)
}

/// Reads a message that consists of ADTS frames, with possible zero bytes after the last. `None`:
/// it does not.
///
/// A message of more than 64 frames is refused. Frames with several raw data blocks are refused
/// too, since blocks without a CRC have no boundaries.
pub fn parse(payload: &[u8]) -> Option<Frames> {
    let mut config = None;
    let mut units = Vec::new();
    let mut at = 0;
    while payload[at..].iter().any(|byte| *byte != 0) {
        let frame = &payload[at..];
        let [_, flags, rates, b3, b4, b5, b6] = *frame.first_chunk::<HEADER>()?;
        if !is_adts(frame) {
            return None;
        }
        let header = if flags & 1 == 1 { HEADER } else { HEADER_WITH_CRC };
        let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5) >> 5;
        let blocks = b6 & 3;
        if blocks != 0 || len <= header || len > frame.len() || units.len() == MOST_FRAMES {
            return None;
        }
        // profile is the object type minus one.
        let (object, rate) = ((rates >> 6) + 1, rates >> 2 & 15);
        let channels = (rates & 1) << 2 | b3 >> 6;
        config.get_or_insert([object << 3 | rate >> 1, (rate & 1) << 7 | channels << 3]);
        units.push(at + header..at + len);
        at += len;
    }
    Some(Frames { units, config: config? })
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::codec::aac;

    /// AAC-LC, 44.1 kHz, stereo, no CRC, 10 bytes with the header.
    const FRAME: [u8; 10] = hex!("fff1 50 80 01 5f fc 210049");

    fn payloads(message: &[u8]) -> Vec<&[u8]> {
        let frames = parse(message).unwrap();
        frames.units.into_iter().map(|unit| &message[unit]).collect()
    }

    #[test]
    fn adts_headers_are_removed_and_give_the_configuration() {
        let frames = parse(&FRAME).unwrap();
        assert_eq!(&payloads(&FRAME), &[&FRAME[7..]]);
        assert_eq!(frames.config, hex!("1210"));
        let config = aac::Config::parse(&frames.config).unwrap();
        assert_eq!((config.timescale.hz(), config.channels), (44_100, 2));
        let two = parse(&[&FRAME[..], &FRAME, &[0, 0]].concat()).unwrap();
        assert_eq!(two.units, [7..10, 17..20]);
        let many = FRAME.repeat(MOST_FRAMES + 1);
        assert_eq!(parse(&many[10..]).map(|frames| frames.units.len()), Some(MOST_FRAMES));
        assert_eq!(parse(&many), None);
        // With a CRC the header has two bytes more.
        assert_eq!(payloads(&hex!("fff0 50 80 01 5f fc aabb 21")), [[0x21]]);
    }

    #[test]
    fn adts_headers_contradict_a_record_with_a_different_rate_or_channel_count() {
        let config = parse(&FRAME).unwrap().config;
        for (record, contradicted) in [
            (&hex!("1210")[..], false),
            (&hex!("1190"), true),            // 48 kHz
            (&hex!("1208"), true),            // mono
            (&hex!("1200"), false),           // the channels stand in a program_config_element
            (&hex!("2a108800"), false),       // SBR over a core coder of 44.1 kHz
            (&hex!("17 80 56 22 10"), false), // an explicit rate
            (&hex!("12"), false),
        ] {
            assert_eq!(contradicts(config, record), contradicted, "{record:02x?}");
        }
    }

    #[test]
    fn a_payload_that_is_not_adts_to_its_end_is_not_parsed() {
        let raw = hex!("21004990021900238080");
        let [truncated, more] = [FRAME[..9].to_vec(), [&FRAME[..], &[1]].concat()];
        let no_payload = hex!("fff1 50 80 00 ff fc");
        let several_blocks = hex!("fff1 50 80 01 5f fd 210049");
        for payload in [&raw[..], &[], &[0; 8], &truncated, &more, &no_payload, &several_blocks] {
            assert_eq!(parse(payload), None, "{payload:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_adts_parser_never_panics(
            mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
            keep in 0usize..10,
        ) {
            let n = keep.min(bytes.len());
            bytes[..n].copy_from_slice(&FRAME[..n]);
            if let Some(frames) = parse(&bytes) {
                let lies_inside = |unit: &std::ops::Range<usize>| {
                    !unit.is_empty() && unit.end <= bytes.len()
                };
                proptest::prop_assert!(frames.units.iter().all(lies_inside));
            }
        }
    }
}

//! Parameter sets in front of key frames, once a track has had another configuration.
//!
//! The init segment holds them as well, and a player that appends it needs no others. But
//! low-latency players ask for a segment before they can know that it needs another init segment:
//! DASH players by the number that follows, HLS players by the hint. They append it to the init
//! segment that they have, and decoders then need the sets with the frames.

use bytes::{Bytes, BytesMut};
use media_core::codec::{Config, nal};

use crate::sample::Sample;

/// The parameter sets in front of key frames of a segment; none by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    /// The sets as NAL units behind lengths of `length_size` bytes.
    units: Bytes,
    length_size: u8,
}

impl Sets {
    pub(crate) fn of(config: &Config) -> Self {
        match config {
            Config::Avc(avc) => {
                Self { units: avc.sets_in_band().into(), length_size: avc.length_size }
            }
            Config::Aac(_) => Self::default(),
        }
    }

    /// Puts them in front of a key frame, behind its access unit delimiter, because nothing may
    /// precede that (ITU-T H.264 7.4.1.2.3).
    pub(crate) fn lead(&self, sample: &mut Sample) {
        if self.units.is_empty() || !sample.key {
            return;
        }
        // Without a delimiter the head is shared by all samples; otherwise it is a small copy.
        let delimiter = nal::delimiter_len(&sample.payload, self.length_size);
        sample.head = match delimiter {
            0 => self.units.clone(),
            _ => {
                let mut head = BytesMut::with_capacity(delimiter + self.units.len());
                head.extend_from_slice(&sample.payload[..delimiter]);
                head.extend_from_slice(&self.units);
                head.freeze()
            }
        };
        sample.payload = sample.payload.slice(delimiter..);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use media_core::codec::{aac, avc};

    use super::*;

    const RECORD: [u8; 46] = hex!(
        "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 68ebe3cb22c0"
        "fdf8f800"
    );

    fn led(config: &Config, key: bool, payload: &'static [u8]) -> (Bytes, Bytes) {
        let mut sample = Sample {
            duration: 3_000,
            composition: 0,
            key,
            head: Bytes::new(),
            payload: Bytes::from_static(payload),
        };
        Sets::of(config).lead(&mut sample);
        (sample.head, sample.payload)
    }

    #[test]
    fn parameter_sets_are_inserted_before_a_key_frame_and_after_its_delimiter() {
        let avc = Config::Avc(avc::Config::parse(&RECORD).unwrap());
        let sets = hex!(
            "00000019 6764001eacd940a02ff9701100000303e90000ea600f162d96 00000006 68ebe3cb22c0"
        );
        let picture = &hex!("00000003 658884");
        let (head, payload) = led(&avc, true, picture);
        assert_eq!((&head[..], &payload[..]), (&sets[..], &picture[..]));
        assert_eq!(payload.as_ptr(), picture.as_ptr(), "nothing of the frame is copied");

        let delimited = &hex!("00000002 09f0 00000003 658884");
        let (head, payload) = led(&avc, true, delimited);
        assert_eq!(head[..], [&delimited[..6], &sets].concat());
        assert_eq!(payload[..], picture[..]);

        assert_eq!(led(&avc, false, picture), (Bytes::new(), Bytes::from_static(picture)));

        // The head is copied for each part of a still, so a unit of any length is not part of it.
        let mut long = hex!("00000400 09f0").to_vec();
        long.resize(4 + 0x400, 0);
        long.extend_from_slice(picture);
        let long: &[u8] = long.leak();
        let (head, payload) = led(&avc, true, long);
        assert_eq!((&head[..], &payload[..]), (&sets[..], long));
    }

    #[test]
    fn no_sets_are_inserted_into_audio_or_when_their_length_overflows_the_length_field() {
        let untouched = (Bytes::new(), Bytes::from_static(&[0, 2, 9, 0xf0]));
        let aac = Config::Aac(aac::Config::parse(&hex!("1190")).unwrap());
        assert_eq!(led(&aac, true, &[0, 2, 9, 0xf0]), untouched);
        let mut long = avc::Config::parse(&RECORD).unwrap();
        let mut record = RECORD[..8].to_vec();
        record[6..8].copy_from_slice(&256u16.to_be_bytes());
        record.extend(&RECORD[8..33]);
        record.resize(8 + 256, 0);
        record.extend(&RECORD[33..]);
        (long.record, long.length_size) = (record.into(), 1);
        assert_eq!(led(&Config::Avc(long), true, &[0, 2, 9, 0xf0]), untouched);
    }

    #[test]
    fn a_truncated_frame_has_no_delimiter() {
        for payload in [&[][..], &[0, 0, 0], &[0, 0, 0, 2, 9], &[0, 0, 0, 0], &[0xff; 5]] {
            assert_eq!(nal::delimiter_len(payload, 4), 0, "{payload:?}");
        }
        assert_eq!(nal::delimiter_len(&[2, 9, 0xf0], 1), 3);
    }
}

//! AAC access units that decode to silence, to fill holes with. ISO/IEC 14496-3 4.4.2.1
//! (raw_data_block): every channel has a window but no scale factor band, so no spectrum. The unit
//! is therefore the same for all sampling rates and frame lengths.
//!
//! Without SBR data a decoder of HE-AAC outputs the silent core at twice the rate.

use bytes::Bytes;
use media_core::codec::aac;

/// A silent access unit for a track with this configuration. Static: it is not allocated.
///
/// `None` if a program_config_element lists the channels, because the elements of the unit would
/// have to match that list.
pub fn silent_frame(config: &aac::Config) -> Option<Bytes> {
    use Element::{Lfe, Pair, Single};
    // ISO/IEC 14496-3 table 1.19: the elements of each channel configuration, in order.
    static CHANNELS_1: [u8; 4] = raw_data_block(&[Single(0)]);
    static CHANNELS_2: [u8; 6] = raw_data_block(&[Pair(0)]);
    static CHANNELS_3: [u8; 10] = raw_data_block(&[Single(0), Pair(0)]);
    static CHANNELS_4: [u8; 13] = raw_data_block(&[Single(0), Pair(0), Single(1)]);
    static CHANNELS_5: [u8; 15] = raw_data_block(&[Single(0), Pair(0), Pair(1)]);
    static CHANNELS_6: [u8; 19] = raw_data_block(&[Single(0), Pair(0), Pair(1), Lfe(0)]);
    static CHANNELS_8: [u8; 24] = raw_data_block(&[Single(0), Pair(0), Pair(1), Pair(2), Lfe(0)]);
    let frame: &'static [u8] = match config.channels {
        1 => &CHANNELS_1,
        2 => &CHANNELS_2,
        3 => &CHANNELS_3,
        4 => &CHANNELS_4,
        5 => &CHANNELS_5,
        6 => &CHANNELS_6,
        8 => &CHANNELS_8,
        _ => return None,
    };
    Some(Bytes::from_static(frame))
}

/// A syntactic element with its element_instance_tag.
#[derive(Clone, Copy)]
enum Element {
    /// single_channel_element
    Single(u32),
    /// channel_pair_element
    Pair(u32),
    /// lfe_channel_element
    Lfe(u32),
}

/// A silent raw_data_block. `N` is its length, checked when it is compiled.
const fn raw_data_block<const N: usize>(elements: &[Element]) -> [u8; N] {
    let mut bits = Bits { bytes: [0; N], at: 0 };
    // A `const fn` cannot use a `for` loop.
    let mut at = 0;
    while at < elements.len() {
        bits = match elements[at] {
            Element::Single(tag) => bits.put(0, 3).put(tag, 4).channel(true),
            // common_window 1, ics_info, ms_mask_present 0
            Element::Pair(tag) => bits
                .put(1, 3)
                .put(tag, 4)
                .put(1, 1)
                .ics_info()
                .put(0, 2)
                .channel(false)
                .channel(false),
            Element::Lfe(tag) => bits.put(3, 3).put(tag, 4).channel(true),
        };
        at += 1;
    }
    bits = bits.put(7, 3); // ID_END
    assert!(bits.at.div_ceil(8) == N, "the length of the elements");
    bits.bytes
}

/// Writes bits into bytes, the most significant first.
struct Bits<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Bits<N> {
    /// Appends the lower `count` bits of `value`.
    const fn put(mut self, value: u32, count: usize) -> Self {
        let mut left = count;
        while left > 0 {
            left -= 1;
            if value >> left & 1 == 1 {
                self.bytes[self.at / 8] |= 0x80 >> (self.at % 8);
            }
            self.at += 1;
        }
        self
    }

    /// individual_channel_stream (4.4.2.7).
    const fn channel(self, own_window: bool) -> Self {
        let gain = self.put(0, 8); // global_gain
        let window = if own_window { gain.ics_info() } else { gain };
        window.put(0, 3) // pulse_data_present, tns_data_present, gain_control_data_present
    }

    /// ics_info (4.4.2.6): one long sine window, of no scale factor bands.
    const fn ics_info(self) -> Self {
        self.put(0, 1) // ics_reserved_bit
            .put(0, 2) // window_sequence: ONLY_LONG_SEQUENCE
            .put(0, 1) // window_shape: sine
            .put(0, 6) // max_sfb
            .put(0, 1) // predictor_data_present
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn silence_in_stereo_and_mono_bit_for_bit() {
        let frame = |record: &[u8]| silent_frame(&aac::Config::parse(record).unwrap()).unwrap();
        // 000 0000 gain 00000000, window 0 00 0 000000 0, flags 000; 111
        assert_eq!(frame(&hex!("1188"))[..], hex!("00000007"));
        // 001 0000 1, window 0 00 0 000000 0, mask 00; twice: gain 00000000, flags 000; 111
        assert_eq!(frame(&hex!("1190"))[..], hex!("21000000001c"));
    }

    #[test]
    fn silent_frames_are_shared_and_need_a_known_channel_layout() {
        let config = aac::Config::parse(&hex!("1190")).unwrap();
        assert_eq!(
            silent_frame(&config).unwrap().as_ptr(),
            silent_frame(&config).unwrap().as_ptr()
        );
        assert_eq!(silent_frame(&aac::Config { channels: 0, ..config }), None);
    }
}

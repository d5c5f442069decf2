//! The bodies of audio and video messages: FLV tag bodies, classic and enhanced. Pure: a message's
//! bytes in, a slice of them out. `publisher` decides when a frame may be published.
//!
//! Adobe FLV 10.1 E.4.2.1 (AUDIODATA), E.4.3.1 (VIDEODATA); Enhanced RTMP v2, "Enhanced Video" and
//! "Enhanced Audio".
//!
//! H.264 and AAC are accepted, classic or as FourCC `avc1` and `mp4a`. Every other codec is named
//! in the refusal. Empty bodies, command frames, metadata packets and tracks beyond the first
//! (multitrack) are not frames, and are no error.

use std::fmt;

use bytes::{Buf, Bytes};

/// The content of an audio or video message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// A configuration record: `AVCDecoderConfigurationRecord` or `AudioSpecificConfig`.
    Config(Bytes),
    /// A frame, usually one access unit.
    Frame {
        /// Presentation minus decode time in milliseconds; 0 for audio.
        composition_ms: i32,
        /// Usually length-prefixed NAL units, or one raw AAC frame.
        payload: Bytes,
    },
    /// The track ends.
    End,
    /// A frame of a second track, which is not supported.
    OtherTrack,
    /// A message for a frame, without one.
    Empty,
    /// Nothing to publish.
    Nothing,
}

/// Why a tag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body ends inside its header.
    #[error("tag of {len} bytes is truncated")]
    Truncated {
        /// Length of the body in bytes.
        len: usize,
    },
    /// An unsupported codec.
    #[error("{0} is not supported, send H.264 video and AAC audio")]
    UnsupportedCodec(Codec),
}

/// An unsupported codec, as named in the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// A CodecID of E.4.3.1.
    Video(u8),
    /// A SoundFormat of E.4.2.1.
    Audio(u8),
    /// A FourCC of Enhanced RTMP.
    FourCc([u8; 4]),
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The identifiers 12 and 13 are not in the specification: some encoders used them for HEVC,
        // AV1 and Opus before Enhanced RTMP.
        let name = match self {
            Self::Video(2) => "Sorenson H.263 video",
            Self::Video(3 | 6) => "screen video",
            Self::Video(4 | 5) => "VP6 video",
            Self::Video(12) => "HEVC video",
            Self::Video(13) => "AV1 video",
            Self::Audio(0 | 3) => "PCM audio",
            Self::Audio(1) => "ADPCM audio",
            Self::Audio(2 | 14) => "MP3 audio",
            Self::Audio(4..=6) => "Nellymoser audio",
            Self::Audio(7 | 8) => "G.711 audio",
            Self::Audio(11) => "Speex audio",
            Self::Audio(13) => "Opus audio",
            Self::FourCc([b'h', b'v', b'c', b'1'] | [b'h', b'e', b'v', b'1']) => "HEVC video",
            Self::FourCc([b'a', b'v', b'0', b'1']) => "AV1 video",
            Self::FourCc([b'v', b'p', b'0', b'8']) => "VP8 video",
            Self::FourCc([b'v', b'p', b'0', b'9']) => "VP9 video",
            Self::FourCc([b'v', b'v', b'c', b'1']) => "VVC video",
            Self::FourCc([b'O', b'p', b'u', b's']) => "Opus audio",
            Self::FourCc([b'f', b'L', b'a', b'C']) => "FLAC audio",
            Self::FourCc([b'a', b'c', b'-', b'3']) => "AC-3 audio",
            Self::FourCc([b'e', b'c', b'-', b'3']) => "E-AC-3 audio",
            Self::FourCc([b'.', b'm', b'p', b'3']) => "MP3 audio",
            Self::Video(id) => return write!(f, "video codec {id}"),
            Self::Audio(id) => return write!(f, "audio codec {id}"),
            Self::FourCc(code) => return write!(f, "codec {}", code.escape_ascii()),
        };
        f.write_str(name)
    }
}

/// CodecID of H.264 (E.4.3.1).
const AVC: u8 = 7;
/// SoundFormat of AAC (E.4.2.1).
const AAC: u8 = 10;
/// SoundFormat of enhanced audio.
const ENHANCED_AUDIO: u8 = 9;
/// Top bit of the first byte of enhanced video.
const ENHANCED_VIDEO: u8 = 0x80;
/// FrameType of a command to the player, for example a seek; it has no picture.
const COMMAND_FRAME: u8 = 5;

/// PacketType of enhanced tags, equal for audio and video unless noted. 0 to 2 are AVCPacketType in
/// classic video, 0 and 1 AACPacketType in classic audio.
mod packet {
    /// A configuration record.
    pub(super) const SEQUENCE_START: u8 = 0;
    /// A frame; in video after its composition time.
    pub(super) const CODED_FRAMES: u8 = 1;
    /// The sequence ends.
    pub(super) const SEQUENCE_END: u8 = 2;
    /// Video: coded frames without composition time.
    pub(super) const CODED_FRAMES_X: u8 = 3;
    /// Several video tracks in one message.
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    /// Several audio tracks in one message.
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    /// Extensions in front of the packet, for example a timestamp in nanoseconds.
    pub(super) const MOD_EX: u8 = 7;
}

/// Reads the body of a video message; frames share its memory.
///
/// # Errors
/// See [`Error`].
pub fn parse_video(mut body: Bytes) -> Result<Tag, Error> {
    let Some(&first) = body.first() else {
        return Ok(Tag::Empty);
    };
    if first & ENHANCED_VIDEO != 0 {
        body.advance(1);
        // The FrameType has 3 bits here, and the packet type has the CodecID's place.
        let command = (first >> 4) & 7 == COMMAND_FRAME;
        return enhanced(body, first & 15, *b"avc1", packet::VIDEO_MULTITRACK, command);
    }
    let (frame_type, codec) = (first >> 4, first & 15);
    if frame_type == COMMAND_FRAME {
        return Ok(Tag::Nothing);
    }
    if codec != AVC {
        return Err(Error::UnsupportedCodec(Codec::Video(codec)));
    }
    let [_, packet_type, ..] = take::<2>(&mut body)?;
    let composition_ms = composition(take(&mut body)?);
    // A frame without bytes is `Empty` and not `Nothing`, because a publisher that sends only such
    // frames gets advice.
    Ok(match packet_type {
        packet::SEQUENCE_START => Tag::Config(body),
        packet::CODED_FRAMES if !body.is_empty() => Tag::Frame { composition_ms, payload: body },
        packet::CODED_FRAMES => Tag::Empty,
        packet::SEQUENCE_END => Tag::End,
        _ => Tag::Nothing,
    })
}

/// Reads the body of an audio message; frames share its memory.
///
/// # Errors
/// See [`Error`].
pub fn parse_audio(mut body: Bytes) -> Result<Tag, Error> {
    let Some(&first) = body.first() else {
        return Ok(Tag::Empty);
    };
    match first >> 4 {
        ENHANCED_AUDIO => {
            body.advance(1);
            return enhanced(body, first & 15, *b"mp4a", packet::AUDIO_MULTITRACK, false);
        }
        AAC => {}
        codec => return Err(Error::UnsupportedCodec(Codec::Audio(codec))),
    }
    // Some encoders send a single header byte for silence at the start.
    if body.len() < 2 {
        return Ok(Tag::Empty);
    }
    let [_, packet_type] = take(&mut body)?;
    // Classic audio has no end of sequence.
    Ok(match packet_type {
        packet::SEQUENCE_START => Tag::Config(body),
        packet::CODED_FRAMES if !body.is_empty() => Tag::Frame { composition_ms: 0, payload: body },
        packet::CODED_FRAMES => Tag::Empty,
        _ => Tag::Nothing,
    })
}

/// Reads an enhanced tag after its first byte: extensions, the track, the FourCC, the packet.
/// `packet_type` is the one in the first byte, `codec` the supported FourCC, `multitrack` the
/// packet type of several tracks, which differs between audio and video; `command`: the FrameType
/// is a command.
///
/// # Errors
/// See [`Error`].
fn enhanced(
    mut body: Bytes,
    mut packet_type: u8,
    codec: [u8; 4],
    multitrack: u8,
    command: bool,
) -> Result<Tag, Error> {
    while packet_type == packet::MOD_EX {
        let [size] = take(&mut body)?;
        // Extensions carry nothing that is used here. Each has its size in front of it, and the
        // next packet type behind it.
        let size = match size {
            u8::MAX => usize::from(u16::from_be_bytes(take(&mut body)?)) + 1,
            size => usize::from(size) + 1,
        };
        if body.len() < size {
            return Err(Error::Truncated { len: body.len() });
        }
        body.advance(size);
        let [next] = take(&mut body)?;
        packet_type = next & 15;
    }
    // A command has one byte instead of a FourCC and a packet.
    if command && packet_type != packet::SEQUENCE_START {
        return Ok(Tag::Nothing);
    }
    let many = packet_type == multitrack;
    if many {
        let [next] = take(&mut body)?;
        packet_type = next & 15;
        // Only one track is supported: of several in one message, none is the classic first one.
        if next >> 4 != 0 {
            return Ok(Tag::OtherTrack);
        }
    }
    let four_cc: [u8; 4] = take(&mut body)?;
    // Track 0 is the track of messages without track ids.
    if many && take(&mut body)? != [0] {
        return Ok(Tag::OtherTrack);
    }
    if four_cc != codec {
        return Err(Error::UnsupportedCodec(Codec::FourCc(four_cc)));
    }
    // Only coded H.264 frames have a composition time: audio has none, and it is 0 for
    // `CODED_FRAMES_X`.
    let video = multitrack == packet::VIDEO_MULTITRACK;
    let composition_ms = match packet_type {
        packet::CODED_FRAMES if video => composition(take(&mut body)?),
        _ => 0,
    };
    Ok(match packet_type {
        packet::SEQUENCE_START => Tag::Config(body),
        packet::CODED_FRAMES if !body.is_empty() => Tag::Frame { composition_ms, payload: body },
        packet::CODED_FRAMES_X if video && !body.is_empty() => {
            Tag::Frame { composition_ms, payload: body }
        }
        packet::CODED_FRAMES => Tag::Empty,
        packet::CODED_FRAMES_X if video => Tag::Empty,
        packet::SEQUENCE_END => Tag::End,
        _ => Tag::Nothing,
    })
}

/// A composition time of 24 bits with a sign, in milliseconds (E.4.3.1).
fn composition([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

/// Takes `N` bytes from the front.
///
/// # Errors
/// [`Error::Truncated`]; nothing is taken.
fn take<const N: usize>(body: &mut Bytes) -> Result<[u8; N], Error> {
    let taken = *body.first_chunk().ok_or(Error::Truncated { len: body.len() })?;
    body.advance(N);
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn video(body: &'static [u8]) -> Result<Tag, Error> {
        parse_video(Bytes::from_static(body))
    }

    fn audio(body: &'static [u8]) -> Result<Tag, Error> {
        parse_audio(Bytes::from_static(body))
    }

    fn frame(composition_ms: i32, payload: &'static [u8]) -> Result<Tag, Error> {
        Ok(Tag::Frame { composition_ms, payload: Bytes::from_static(payload) })
    }

    #[test]
    fn the_classic_tag_types_are_distinguished() {
        assert_eq!(
            video(&hex!("17 00 000000 0164")),
            Ok(Tag::Config(Bytes::from_static(&[1, 0x64])))
        );
        assert_eq!(video(&hex!("17 01 000043 00000001 65")), frame(67, &[0, 0, 0, 1, 0x65]));
        assert_eq!(video(&hex!("27 01 ffffd8 00000001 41")), frame(-40, &[0, 0, 0, 1, 0x41]));
        assert_eq!(video(&hex!("17 02 000000")), Ok(Tag::End));
        assert_eq!(video(&hex!("52 00")), Ok(Tag::Nothing)); // a seek command
        assert_eq!(video(&[]), Ok(Tag::Empty));
        assert_eq!(video(&hex!("17 01 000000")), Ok(Tag::Empty));
        assert_eq!(video(&hex!("17 05 000000")), Ok(Tag::Nothing));
        assert_eq!(audio(&hex!("af 00 1190")), Ok(Tag::Config(Bytes::from_static(&[0x11, 0x90]))));
        assert_eq!(audio(&hex!("af 01 21")), frame(0, &[0x21]));
        assert_eq!(audio(&hex!("af 01")), Ok(Tag::Empty));
        assert_eq!(audio(&hex!("af")), Ok(Tag::Empty));
        assert_eq!(audio(&[]), Ok(Tag::Empty));
    }

    #[test]
    fn enhanced_tags_of_avc_and_aac_are_parsed() {
        assert_eq!(
            video(&hex!("90 61766331 0164")),
            Ok(Tag::Config(Bytes::from_static(&[1, 0x64])))
        );
        assert_eq!(video(&hex!("91 61766331 ffffd8 01")), frame(-40, &[1]));
        assert_eq!(video(&hex!("a3 61766331 01")), frame(0, &[1]));
        assert_eq!(video(&hex!("92 61766331")), Ok(Tag::End));
        assert_eq!(video(&hex!("91 61766331 000000")), Ok(Tag::Empty));
        assert_eq!(video(&hex!("93 61766331")), Ok(Tag::Empty));
        assert_eq!(audio(&hex!("91 6d703461")), Ok(Tag::Empty));
        assert_eq!(video(&hex!("94 61766331 02")), Ok(Tag::Nothing)); // HDR metadata
        // A nanosecond offset before it.
        assert_eq!(video(&hex!("97 02 000001 01 61766331 000000 01")), frame(0, &[1]));
        assert_eq!(
            audio(&hex!("90 6d703461 1190")),
            Ok(Tag::Config(Bytes::from_static(&[0x11, 0x90])))
        );
        assert_eq!(audio(&hex!("91 6d703461 21")), frame(0, &[0x21]));
    }

    #[test]
    fn only_the_first_track_of_a_multitrack_tag_is_used() {
        assert_eq!(video(&hex!("96 01 61766331 00 000000 01")), frame(0, &[1]));
        assert_eq!(video(&hex!("96 01 61766331 01 000000 01")), Ok(Tag::OtherTrack));
        assert_eq!(video(&hex!("96 11 61766331 00 000001 01")), Ok(Tag::OtherTrack));
        assert_eq!(audio(&hex!("95 01 4f707573 01 00")), Ok(Tag::OtherTrack));
    }

    #[test]
    fn the_error_names_the_unsupported_codec() {
        let name = |tag: Result<Tag, Error>| tag.unwrap_err().to_string();
        assert!(name(video(&hex!("90 68766331 01"))).starts_with("HEVC video is not supported"));
        assert!(name(video(&hex!("1c 00 000000"))).starts_with("HEVC video"));
        assert!(name(video(&hex!("90 61763031 01"))).starts_with("AV1 video"));
        assert!(name(video(&hex!("90 00ff2761 01"))).starts_with(r"codec \x00\xff\'a"));
        assert!(name(video(&hex!("12 00"))).starts_with("Sorenson"));
        assert!(name(audio(&hex!("2f ff"))).starts_with("MP3 audio"));
        assert!(name(audio(&hex!("90 4f707573 00"))).starts_with("Opus audio"));
    }

    #[test]
    fn truncated_headers_are_refused() {
        for body in [
            &hex!("17")[..],
            &hex!("17 01 0000"),
            &hex!("90 6176"),
            &hex!("91 61766331 00"),
            &hex!("97 ff 00"),
        ] {
            assert!(
                matches!(parse_video(Bytes::copy_from_slice(body)), Err(Error::Truncated { .. })),
                "{body:02x?}"
            );
        }
    }

    #[test]
    fn the_payload_is_a_slice_of_the_message() {
        let body = Bytes::from(hex!("17 01 000000 00000001 65").to_vec());
        let at = body[5..].as_ptr();
        let Ok(Tag::Frame { payload, .. }) = parse_video(body) else { panic!("no frame") };
        assert_eq!(payload.as_ptr(), at);
    }

    proptest! {
        #[test]
        fn the_tag_parsers_never_panic(
            first in any::<u8>(),
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let body = Bytes::from([&[first][..], &rest].concat());
            let _ = parse_video(body.clone());
            let _ = parse_audio(body);
        }
    }
}

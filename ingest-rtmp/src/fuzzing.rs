//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use media_core::codec::{aac, adts, avc, nal};

use crate::{
    Error,
    access_unit::{self, Assembler},
    amf0,
    chunk::{Limits, Message, Reader},
    flv,
    session::{Event, Session, Settings},
};

/// Chunks: the messages and the error are independent of the pieces in which the bytes arrive.
pub fn chunk(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = read(bytes, bytes.len());
    let pieces = read(bytes, usize::from(first) + 1);
    assert_eq!(whole, pieces);
}

/// Reads `bytes` in pieces of `piece` bytes. Returns the messages, and the error that ended them.
fn read(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<String>) {
    let mut reader = Reader::new(Limits { message_bytes: 1 << 20, ..Limits::SETUP });
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        // A connection does the same: the unread rest of a piece precedes the next one.
        let mut rest = &buffer[..];
        loop {
            match reader.read(&mut rest) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(err) => return (messages, Some(shown(&err))),
            }
        }
        assert!(rest.len() <= 18, "{} bytes of a header left", rest.len());
        buffer = rest.to_vec();
    }
    (messages, None)
}

/// An error without the values that depend on the pieces.
fn shown(err: &Error) -> String {
    match err {
        Error::TooMuchUnfinished { .. } => "too much unfinished".into(),
        err => err.to_string(),
    }
}

/// AMF0: parsed values can be written, and parse to the same values.
pub fn amf0(bytes: &[u8]) {
    let Ok(values) = amf0::parse(bytes) else { return };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    amf0::write(&values, &mut once);
    // A name of more than 21 845 bytes that are not UTF-8 can become longer than the writer
    // supports.
    if bytes.len() <= 21_845 {
        let again = amf0::parse(&once).expect("what we write can be read");
        amf0::write(&again, &mut twice);
        assert_eq!(once, twice);
    }
}

/// Tags: a frame is never larger than its message, and never empty. Its pictures, with and without
/// a configuration, have consistent lengths.
pub fn flv(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    for tag in [flv::parse_video(body.clone()), flv::parse_audio(body)] {
        if let Ok(flv::Tag::Frame { payload, .. }) = tag {
            assert!(!payload.is_empty() && payload.len() < bytes.len());
            pictures(&payload, None);
            pictures(&payload, avc::Config::parse(AVC).ok());
            if let Some(frames) = adts::parse(&payload) {
                assert!(
                    frames.units.iter().all(|unit| !unit.is_empty() && unit.end <= payload.len())
                );
            }
        }
    }
}

/// Configurations: records, and sequence headers in byte stream form. A record made of parameter
/// sets can be parsed.
pub fn codec(bytes: &[u8]) {
    let _ = aac::Config::parse(bytes);
    for config in [avc::Config::parse(bytes).ok(), avc::Config::parse_byte_stream(bytes)] {
        let updated = avc::Config::updated(config.as_ref(), nal::byte_stream(bytes));
        for made in config.into_iter().chain(updated) {
            assert_eq!(avc::Config::parse(&made.record).as_ref(), Ok(&made));
        }
    }
}

/// `AVCDecoderConfigurationRecord`: 640x360, high profile, lengths of 4 bytes.
const AVC: &[u8] =
    b"\x01\x64\0\x1e\xff\xe1\0\x19\x67\x64\0\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\0\0\x03\
\x03\xe9\0\0\xea\x60\x0f\x16\x2d\x96\x01\0\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\0";

/// The pictures of a message, of another and of its first half: each has the format of its
/// configuration.
fn pictures(payload: &Bytes, mut config: Option<avc::Config>) {
    let now = Instant::now();
    let mut assembler = Assembler::default();
    let half = payload.slice(..payload.len() / 2);
    let mut seen = Vec::new();
    // The second message has the timestamp of the first, so that it may continue its picture.
    for (ms, payload) in [(0, payload), (0, &half), (40, payload)] {
        let message = access_unit::Message {
            ms,
            composition_ms: 0,
            payload: payload.clone(),
            message_bytes: payload.len(),
        };
        let completed = assembler.push(message, config.as_ref(), now);
        seen.extend(completed.into_iter().flat_map(|completed| completed.pictures).flatten());
        seen.extend(assembler.finish(config.as_ref()));
        for picture in seen.drain(..) {
            config = picture.config.or(config);
            let length_size = config.as_ref().map_or(4, |config| config.length_size);
            let survey = nal::survey(&picture.payload, length_size).expect("lengths add up");
            assert_eq!(survey.used, picture.payload.len());
            assert!(!survey.empty_units && picture.payload.len() <= 5 * payload.len() + 4);
        }
    }
}

/// A session after the handshake that grants every request: its output is a bounded multiple of its
/// input.
pub fn session(bytes: &[u8]) {
    let limit = Duration::from_secs(10);
    let settings = Settings {
        app: Arc::from("live"),
        message_bytes: 1 << 20,
        handshake: limit,
        setup: limit,
        idle: limit,
    };
    let now = Instant::now();
    let mut session = Session::new(settings, now);
    // A valid handshake: version 3, then C1 and C2 of zero bytes (RTMP 5.2).
    let mut input = BytesMut::from(&[3][..]);
    input.resize(1 + 2 * 1536, 0);
    input.extend_from_slice(bytes);
    loop {
        match session.poll_event(&mut input, now) {
            Ok(Some(Event::Publish { .. } | Event::Play { .. })) => {
                session.accept().expect("a response can be framed")
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    // The handshake and the responses to `connect` are the constant part.
    let written = session.transmit().len();
    assert!(written <= 8_192 + 64 * bytes.len(), "{written} bytes for {}", bytes.len());
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpus_passes_the_chunk_reader() {
        corpus::run("rtmp_chunk", super::chunk);
    }

    #[test]
    fn the_corpus_passes_the_amf0_decoder() {
        corpus::run("rtmp_amf0", super::amf0);
    }

    #[test]
    fn the_corpus_passes_the_tag_parsers() {
        corpus::run("rtmp_flv", super::flv);
    }

    #[test]
    fn the_corpus_passes_the_configurations() {
        corpus::run("codec_config", super::codec);
    }

    #[test]
    fn the_corpus_passes_the_session() {
        corpus::run("rtmp_session", super::session);
    }
}

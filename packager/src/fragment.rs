//! CMAF headers and chunks (ISO/IEC 23000-19 7.3): which boxes they have. `boxes` has the syntax of
//! the boxes, and `segmenter` decides where a chunk starts and ends. One track a file, track_ID 1;
//! no edit list; composition offsets may be negative (`cmf2`).

use bytes::{Bytes, BytesMut};
use media_core::{Timescale, codec::Config};
use net_core::Rope;

use crate::{
    boxes,
    sample::{Reference, Sample},
};

/// The CMAF header of a track with this configuration, whose times are ticks of `timescale`:
/// `ftyp`, and a `moov` without samples.
pub fn header(config: &Config, timescale: Timescale) -> Bytes {
    let mut out = BytesMut::with_capacity(1024);
    boxes::ftyp(&mut out);
    boxes::moov(&mut out, config, timescale);
    Bytes::copy_from_slice(&out)
}

/// A CMAF chunk: `styp` if it starts a segment, `prft` if there is a reference, `moof`, and an
/// `mdat` of the samples' own payloads.
///
/// `sequence` is the `mfhd` sequence number; `decode_time`, of the first sample, is in ticks of the
/// track's timescale. The boxes are one piece of the rope, each payload is another, and so is a
/// head.
pub fn chunk(
    sequence: u32,
    decode_time: u64,
    samples: &[Sample],
    starts_segment: bool,
    reference: Option<Reference>,
) -> Rope {
    let boxes = chunk_boxes(sequence, decode_time, samples, starts_segment, reference);
    let media = samples.iter().flat_map(|sample| [&sample.head, &sample.payload]);
    let media = media.filter(|piece| !piece.is_empty()).cloned();
    Rope::new(std::iter::once(boxes.freeze()).chain(media))
}

/// All of a chunk but the payloads, in a buffer of its exact size.
fn chunk_boxes(
    sequence: u32,
    decode_time: u64,
    samples: &[Sample],
    starts_segment: bool,
    reference: Option<Reference>,
) -> BytesMut {
    // The size is known before the first byte is written, so the buffer never grows.
    let run = boxes::Run::new(samples);
    let media_len = samples.iter().map(Sample::len).sum();
    let mdat_header_len = boxes::mdat_header_len(media_len);
    let styp_len = if starts_segment { boxes::STYP_LEN } else { 0 };
    let prft_len = if reference.is_some() { boxes::PRFT_LEN } else { 0 };

    let mut out = BytesMut::with_capacity(styp_len + prft_len + run.moof_len() + mdat_header_len);
    if starts_segment {
        boxes::styp(&mut out);
    }
    if let Some(reference) = reference {
        boxes::prft(&mut out, reference);
    }
    boxes::moof(&mut out, sequence, decode_time, run, mdat_header_len);
    boxes::mdat_header(&mut out, media_len);
    out
}

#[cfg(test)]
mod tests;

//! ISO base media file format boxes: one function a box, appended to a buffer, its size written
//! after its content. Only syntax is here; `fragment` decides which boxes make a header or a chunk.
//! Clauses are of ISO/IEC 14496-12 unless another document is named.

use bytes::{BufMut, BytesMut};
use media_core::{
    Timescale,
    codec::{Config, aac, avc},
};

use crate::sample::{Reference, Sample};

/// The only track of a CMAF file.
const TRACK_ID: u32 = 1;
/// The unity matrix of `mvhd` and `tkhd`: 16.16 fixed point, but 2.30 in the third column.
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_UNIX: u64 = 2_208_988_800;

/// Bytes of [`styp`].
pub(crate) const STYP_LEN: usize = 24;
/// Bytes of [`prft`].
pub(crate) const PRFT_LEN: usize = 32;

/// Appends a box of type `kind` around what `content` appends (4.2).
fn write_box(out: &mut BytesMut, kind: &[u8; 4], content: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0); // size, below
    out.put_slice(kind);
    content(out);
    let size = len_u32(out.len() - start);
    out[start..][..4].copy_from_slice(&size.to_be_bytes());
}

/// The same with `version` and 24 bits of `flags` (4.2.2, FullBox).
fn write_full_box(
    out: &mut BytesMut,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    content: impl FnOnce(&mut BytesMut),
) {
    write_box(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        content(out);
    });
}

/// A length as MP4 stores it. Headers and access units (16 MiB at most) are far below the limit.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// File type (4.3). `iso6` has `tfdt` and default-base-is-moof; `cmfc` and `cmf2` are CMAF's
/// (ISO/IEC 23000-19 7.2): `cmf2` allows negative composition offsets, and no edit list.
pub(crate) fn ftyp(out: &mut BytesMut) {
    write_box(out, b"ftyp", |out| {
        out.put_slice(b"iso6"); // major_brand
        out.put_u32(0); // minor_version
        out.put_slice(b"iso6cmfccmf2"); // compatible_brands
    });
}

/// Segment type (8.16.2): a media segment of DASH (ISO/IEC 23009-1 6.3.4.2).
pub(crate) fn styp(out: &mut BytesMut) {
    write_box(out, b"styp", |out| {
        out.put_slice(b"msdh"); // major_brand
        out.put_u32(0); // minor_version
        out.put_slice(b"msdhiso6"); // compatible_brands
    });
}

/// Movie (8.2.1): one track, no samples.
pub(crate) fn moov(out: &mut BytesMut, config: &Config, timescale: Timescale) {
    write_box(out, b"moov", |out| {
        mvhd(out, timescale);
        trak(out, config, timescale);
        mvex(out);
    });
}

/// Movie header (8.2.2).
fn mvhd(out: &mut BytesMut, timescale: Timescale) {
    write_full_box(out, b"mvhd", 0, 0, |out| {
        out.put_u32(0); // creation_time
        out.put_u32(0); // modification_time
        out.put_u32(timescale.hz()); // timescale
        out.put_u32(0); // duration: the samples are in the fragments
        out.put_u32(0x1_0000); // rate 1.0
        out.put_u16(0x100); // volume 1.0
        out.put_bytes(0, 10); // reserved
        UNITY.iter().for_each(|&value| out.put_u32(value)); // matrix
        out.put_bytes(0, 24); // pre_defined
        out.put_u32(TRACK_ID + 1); // next_track_ID
    });
}

/// Track (8.3.1).
fn trak(out: &mut BytesMut, config: &Config, timescale: Timescale) {
    write_box(out, b"trak", |out| {
        tkhd(out, config);
        mdia(out, config, timescale);
    });
}

/// Track header (8.3.2).
fn tkhd(out: &mut BytesMut, config: &Config) {
    let (volume, size) = match config {
        Config::Avc(avc) => (0, Size::of(avc)),
        Config::Aac(_) => (0x100, Size::default()),
    };
    // flags: enabled, in movie, in preview
    write_full_box(out, b"tkhd", 0, 7, |out| {
        out.put_u32(0); // creation_time
        out.put_u32(0); // modification_time
        out.put_u32(TRACK_ID); // track_ID
        out.put_u32(0); // reserved
        out.put_u32(0); // duration
        out.put_u64(0); // reserved
        out.put_u16(0); // layer
        out.put_u16(0); // alternate_group
        out.put_u16(volume); // volume
        out.put_u16(0); // reserved
        UNITY.iter().for_each(|&value| out.put_u32(value)); // matrix
        out.put_u32(size.width); // width
        out.put_u32(size.height); // height
    });
}

/// The size at which a track is shown, in square pixels, 16.16 fixed point; 0 for audio.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    width: u32,
    height: u32,
}

impl Size {
    fn of(avc: &avc::Config) -> Self {
        let avc::SampleAspect { width: h, height: v } = avc.sample_aspect;
        // Lines stay as coded; the shape of a sample changes the width alone.
        let width = (u64::from(avc.width) << 16) * u64::from(h) / u64::from(v.max(1));
        Self { width: u32::try_from(width).unwrap_or(u32::MAX), height: avc.height << 16 }
    }
}

/// Media (8.4.1).
fn mdia(out: &mut BytesMut, config: &Config, timescale: Timescale) {
    write_box(out, b"mdia", |out| {
        mdhd(out, timescale);
        hdlr(out, config);
        minf(out, config);
    });
}

/// Media header (8.4.2).
fn mdhd(out: &mut BytesMut, timescale: Timescale) {
    write_full_box(out, b"mdhd", 0, 0, |out| {
        out.put_u32(0); // creation_time
        out.put_u32(0); // modification_time
        out.put_u32(timescale.hz()); // timescale
        out.put_u32(0); // duration
        out.put_u16(0x55c4); // language: und
        out.put_u16(0); // pre_defined
    });
}

/// Handler (8.4.3).
fn hdlr(out: &mut BytesMut, config: &Config) {
    let (kind, name) = match config {
        Config::Avc(_) => (b"vide", b"video\0"),
        Config::Aac(_) => (b"soun", b"audio\0"),
    };
    write_full_box(out, b"hdlr", 0, 0, |out| {
        out.put_u32(0); // pre_defined
        out.put_slice(kind); // handler_type
        out.put_bytes(0, 12); // reserved
        out.put_slice(name); // name
    });
}

/// Media information (8.4.4).
fn minf(out: &mut BytesMut, config: &Config) {
    write_box(out, b"minf", |out| {
        match config {
            Config::Avc(_) => vmhd(out),
            Config::Aac(_) => smhd(out),
        }
        dinf(out);
        stbl(out, config);
    });
}

/// Video media header (12.1.2). Its flags are 1.
fn vmhd(out: &mut BytesMut) {
    write_full_box(out, b"vmhd", 0, 1, |out| {
        out.put_u16(0); // graphicsmode: copy
        out.put_bytes(0, 6); // opcolor
    });
}

/// Sound media header (12.2.2).
fn smhd(out: &mut BytesMut) {
    write_full_box(out, b"smhd", 0, 0, |out| {
        out.put_u16(0); // balance: centre
        out.put_u16(0); // reserved
    });
}

/// Data information (8.7.1, 8.7.2): the media are in this file.
fn dinf(out: &mut BytesMut) {
    write_box(out, b"dinf", |out| {
        write_full_box(out, b"dref", 0, 0, |out| {
            out.put_u32(1); // entry_count
            write_full_box(out, b"url ", 0, 1, |_| ()); // flags: self-contained
        });
    });
}

/// Sample table (8.5.1): the sample entry, and the mandatory tables, empty.
fn stbl(out: &mut BytesMut, config: &Config) {
    write_box(out, b"stbl", |out| {
        stsd(out, config);
        write_full_box(out, b"stts", 0, 0, |out| out.put_u32(0)); // entry_count
        write_full_box(out, b"stsc", 0, 0, |out| out.put_u32(0)); // entry_count
        write_full_box(out, b"stsz", 0, 0, |out| out.put_u64(0)); // sample_size, sample_count
        write_full_box(out, b"stco", 0, 0, |out| out.put_u32(0)); // entry_count
    });
}

/// Sample descriptions (8.5.2).
fn stsd(out: &mut BytesMut, config: &Config) {
    write_full_box(out, b"stsd", 0, 0, |out| {
        out.put_u32(1); // entry_count
        match config {
            Config::Avc(avc) => avc1(out, avc),
            Config::Aac(aac) => mp4a(out, aac),
        }
    });
}

/// AVC sample entry (12.1.3; ISO/IEC 14496-15 5.4.2.1): parameter sets are in the record.
fn avc1(out: &mut BytesMut, avc: &avc::Config) {
    let side = |samples: u32| u16::try_from(samples).unwrap_or(u16::MAX);
    write_box(out, b"avc1", |out| {
        out.put_bytes(0, 6); // reserved
        out.put_u16(1); // data_reference_index
        out.put_bytes(0, 16); // pre_defined, reserved
        out.put_u16(side(avc.width)); // width
        out.put_u16(side(avc.height)); // height
        out.put_u32(0x48_0000); // horizresolution: 72 dpi
        out.put_u32(0x48_0000); // vertresolution
        out.put_u32(0); // reserved
        out.put_u16(1); // frame_count
        out.put_bytes(0, 32); // compressorname
        out.put_u16(0x18); // depth: colour, no alpha
        out.put_u16(0xffff); // pre_defined: -1
        write_box(out, b"avcC", |out| out.put_slice(&avc.record));
        if avc.sample_aspect != avc::SampleAspect::SQUARE {
            pasp(out, avc.sample_aspect);
        }
    });
}

/// Pixel aspect ratio (12.1.4).
fn pasp(out: &mut BytesMut, aspect: avc::SampleAspect) {
    write_box(out, b"pasp", |out| {
        out.put_u32(u32::from(aspect.width)); // hSpacing
        out.put_u32(u32::from(aspect.height)); // vSpacing
    });
}

/// AAC sample entry (12.2.3; ISO/IEC 14496-14 6.7). The rate is that of the timescale: with SBR the
/// core coder's, half of the output rate, as in the AudioSpecificConfig.
fn mp4a(out: &mut BytesMut, aac: &aac::Config) {
    write_box(out, b"mp4a", |out| {
        out.put_bytes(0, 6); // reserved
        out.put_u16(1); // data_reference_index
        out.put_u64(0); // reserved
        // channelcount: 2 is the template's value, where the record has a program_config_element
        out.put_u16(if aac.channels == 0 { 2 } else { u16::from(aac.channels) });
        out.put_u16(16); // samplesize
        out.put_u32(0); // pre_defined, reserved
        // samplerate, 16.16 fixed point: 0 for the rates that it cannot hold
        out.put_u16(u16::try_from(aac.timescale.hz()).unwrap_or(0));
        out.put_u16(0);
        esds(out, aac);
    });
}

/// Elementary stream descriptor (ISO/IEC 14496-14 6.7.2; ISO/IEC 14496-1 7.2.6).
fn esds(out: &mut BytesMut, aac: &aac::Config) {
    write_full_box(out, b"esds", 0, 0, |out| {
        // ES_Descriptor
        descriptor(out, 3, |out| {
            out.put_u16(0); // ES_ID: 0 in a file
            out.put_u8(0); // no dependency, URL or OCR stream; streamPriority 0
            // DecoderConfigDescriptor
            descriptor(out, 4, |out| {
                out.put_u8(0x40); // objectTypeIndication: MPEG-4 audio
                out.put_u8(0x15); // streamType 5, audio; upStream 0; reserved 1
                out.put_bytes(0, 3); // bufferSizeDB
                out.put_u32(0); // maxBitrate
                out.put_u32(0); // avgBitrate: not known
                descriptor(out, 5, |out| out.put_slice(&aac.record)); // DecoderSpecificInfo
            });
            descriptor(out, 6, |out| out.put_u8(2)); // SLConfigDescriptor, predefined: MP4
        });
    });
}

/// Appends a descriptor around what `content` appends; its length in four groups of seven bits
/// (ISO/IEC 14496-1 8.3.3).
fn descriptor(out: &mut BytesMut, tag: u8, content: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    content(out);
    let len = len_u32(out.len() - start - 4);
    // All groups but the last have the bit that announces another one.
    let groups =
        (len & 0x0fe0_0000) << 3 | (len & 0x1f_c000) << 2 | (len & 0x3f80) << 1 | len & 0x7f;
    out[start..][..4].copy_from_slice(&(groups | 0x8080_8000).to_be_bytes());
}

/// Movie extends (8.8.1, 8.8.3): fragments follow. They carry their own defaults.
fn mvex(out: &mut BytesMut) {
    write_box(out, b"mvex", |out| {
        write_full_box(out, b"trex", 0, 0, |out| {
            out.put_u32(TRACK_ID); // track_ID
            out.put_u32(1); // default_sample_description_index
            out.put_u32(0); // default_sample_duration
            out.put_u32(0); // default_sample_size
            out.put_u32(0); // default_sample_flags
        });
    });
}

/// Producer reference time (8.16.5): one mapping for the broadcast's life, at a constant offset
/// after the capture; in DASH `captured`.
pub(crate) fn prft(out: &mut BytesMut, reference: Reference) {
    // flags: consistent, and small, offset from real time
    write_full_box(out, b"prft", 1, 24, |out| {
        out.put_u32(TRACK_ID); // reference_track_ID
        out.put_u64(ntp(reference.utc)); // ntp_timestamp
        out.put_u64(reference.media_time); // media_time
    });
}

/// Seconds since 1900 in 32.32 fixed point (RFC 5905 6); era 1 begins in 2036.
fn ntp(utc: std::time::SystemTime) -> u64 {
    // 32 bits of seconds are those of the era; the addition wraps into the next one.
    let since = utc.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    since.as_secs().wrapping_add(NTP_UNIX) << 32 | fraction
}

/// A run of samples as `moof` describes it. Values that all share are in `tfhd` once, the others in
/// each row of `trun`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    samples: &'a [Sample],
    duration: Option<u32>,
    flags: Option<u32>,
    composed: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(samples: &'a [Sample]) -> Self {
        let composed = samples.iter().any(|sample| sample.composition != 0);
        Self {
            samples,
            duration: shared(samples, |sample| sample.duration),
            flags: shared(samples, flags),
            composed,
        }
    }

    /// Bytes of [`moof`].
    pub(crate) fn moof_len(&self) -> usize {
        // A value that all samples share is a field of `tfhd`; otherwise it is one of each row of
        // `trun`.
        let defaults = usize::from(self.duration.is_some()) + usize::from(self.flags.is_some());
        let fields = 3 - defaults + usize::from(self.composed);
        // moof, mfhd, traf, tfhd, tfdt, trun
        8 + 16 + 8 + (16 + 4 * defaults) + 20 + (20 + 4 * fields * self.samples.len())
    }
}

/// The value of `field` if it is the same in all samples.
fn shared(samples: &[Sample], field: impl Fn(&Sample) -> u32) -> Option<u32> {
    let value = field(samples.first()?);
    samples.iter().all(|sample| field(sample) == value).then_some(value)
}

/// Sample flags (8.8.3.1): a key frame depends on no other; any other does, and is no sync sample.
fn flags(sample: &Sample) -> u32 {
    if sample.key { 0x0200_0000 } else { 0x0101_0000 }
}

/// Movie fragment (8.8.4) of one track; its samples start `mdat_header_len` after it.
pub(crate) fn moof(
    out: &mut BytesMut,
    sequence: u32,
    decode_time: u64,
    run: Run<'_>,
    mdat_header_len: usize,
) {
    write_box(out, b"moof", |out| {
        mfhd(out, sequence);
        write_box(out, b"traf", |out| {
            tfhd(out, run);
            tfdt(out, decode_time);
            trun(out, run, run.moof_len() + mdat_header_len);
        });
    });
}

/// Movie fragment header (8.8.5).
fn mfhd(out: &mut BytesMut, sequence: u32) {
    write_full_box(out, b"mfhd", 0, 0, |out| out.put_u32(sequence)); // sequence_number
}

/// Track fragment header (8.8.7).
fn tfhd(out: &mut BytesMut, run: Run<'_>) {
    // The flags state which defaults follow: 0x8 is the duration, 0x20 are the sample flags.
    let duration = if run.duration.is_some() { 0x8 } else { 0 };
    let flags = if run.flags.is_some() { 0x20 } else { 0 };
    // 0x020000: default-base-is-moof
    write_full_box(out, b"tfhd", 0, 0x2_0000 | duration | flags, |out| {
        out.put_u32(TRACK_ID); // track_ID
        // default_sample_duration
        run.duration.into_iter().for_each(|duration| out.put_u32(duration));
        run.flags.into_iter().for_each(|flags| out.put_u32(flags)); // default_sample_flags
    });
}

/// Track fragment decode time (8.8.12).
fn tfdt(out: &mut BytesMut, decode_time: u64) {
    write_full_box(out, b"tfdt", 1, 0, |out| out.put_u64(decode_time)); // baseMediaDecodeTime
}

/// Track run (8.8.8); version 1: composition offsets are signed.
fn trun(out: &mut BytesMut, run: Run<'_>, data_offset: usize) {
    // The flags state which fields each row has: 0x100 the duration, 0x400 the sample flags, 0x800
    // the composition offset.
    let duration = if run.duration.is_none() { 0x100 } else { 0 };
    let sample_flags = if run.flags.is_none() { 0x400 } else { 0 };
    let composition = if run.composed { 0x800 } else { 0 };
    // 0x1: data-offset; 0x200: sample-size
    write_full_box(out, b"trun", 1, 0x201 | duration | sample_flags | composition, |out| {
        out.put_u32(len_u32(run.samples.len())); // sample_count
        out.put_u32(len_u32(data_offset)); // data_offset, from the start of moof
        // Each row has the fields that the samples do not share, in the order of the standard.
        for sample in run.samples {
            if run.duration.is_none() {
                out.put_u32(sample.duration); // sample_duration
            }
            out.put_u32(len_u32(sample.len())); // sample_size
            if run.flags.is_none() {
                out.put_u32(flags(sample)); // sample_flags
            }
            if run.composed {
                out.put_i32(sample.composition); // sample_composition_time_offset
            }
        }
    });
}

/// The start of media data (8.1.1) that are `len` bytes long.
pub(crate) fn mdat_header(out: &mut BytesMut, len: usize) {
    match u32::try_from(len as u64 + 8) {
        Ok(size) => {
            out.put_u32(size); // size
            out.put_slice(b"mdat");
        }
        Err(_) => {
            out.put_u32(1); // size: see largesize
            out.put_slice(b"mdat");
            out.put_u64(len as u64 + 16); // largesize
        }
    }
}

/// Bytes of [`mdat_header`].
pub(crate) fn mdat_header_len(len: usize) -> usize {
    if u32::try_from(len as u64 + 8).is_ok() { 8 } else { 16 }
}

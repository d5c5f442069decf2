//! A strict parser of CMAF (ISO/IEC 23000-19): anything except a header or a sequence of chunks as
//! in the standard panics.

/// One chunk: `[styp] [prft] moof mdat` with one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) sequence: u32,
    pub(crate) track: u32,
    /// `tfdt`: decode time of the first sample, in ticks.
    pub(crate) decode_time: u64,
    pub(crate) samples: Vec<Sample>,
    /// `prft`, if the chunk has one: NTP time and media time.
    pub(crate) reference: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) duration: u32,
    pub(crate) composition_offset: i32,
    /// Decodable without another sample.
    pub(crate) sync: bool,
    pub(crate) payload: Vec<u8>,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.decode_time + self.samples.iter().map(|sample| u64::from(sample.duration)).sum::<u64>()
    }

    /// The earliest presentation time, in ticks.
    pub(crate) fn earliest(&self) -> i64 {
        let mut dts = i64::try_from(self.decode_time).expect("less than 2^63 ticks");
        let mut earliest = i64::MAX;
        for sample in &self.samples {
            earliest = earliest.min(dts + i64::from(sample.composition_offset));
            dts += i64::from(sample.duration);
        }
        earliest
    }
}

/// The content of a header (`ftyp` and `moov`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) timescale: u32,
    pub(crate) track: u32,
    /// `vide`, `soun`.
    pub(crate) handler: [u8; 4],
    /// Whether there is an edit list, which would shift the presentation relative to `tfdt`.
    pub(crate) has_edit_list: bool,
}

/// Reads a header.
#[track_caller]
pub(crate) fn header(bytes: &[u8]) -> Header {
    let top = boxes(bytes);
    let names: Vec<&[u8; 4]> = top.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"ftyp", b"moov"], "a CMAF header is ftyp and moov (7.3.1)");
    let moov = boxes(top[1].1);
    let traks: Vec<_> = moov.iter().filter(|(name, _)| name == b"trak").collect();
    assert_eq!(traks.len(), 1, "one track a file");
    find(&boxes(find(&moov, b"mvex")), b"trex");
    let trak = boxes(traks[0].1);
    let tkhd = find(&trak, b"tkhd");
    let mdia = boxes(find(&trak, b"mdia"));
    let mdhd = find(&mdia, b"mdhd");
    let wide = |full_box: &[u8]| full_box[0] == 1;
    Header {
        timescale: u32_at(mdhd, if wide(mdhd) { 20 } else { 12 }),
        track: u32_at(tkhd, if wide(tkhd) { 20 } else { 12 }),
        handler: find(&mdia, b"hdlr")[8..12].try_into().expect("four bytes"),
        has_edit_list: trak.iter().any(|(name, _)| name == b"edts"),
    }
}

/// Reads the chunks of a part or a segment.
#[track_caller]
pub(crate) fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut reference = None;
    let mut moof: Option<(&[u8], usize)> = None;
    let mut offset = 0;
    for (name, body) in boxes(bytes) {
        match (&name, moof) {
            (b"styp" | b"emsg", None) => {}
            (b"prft", None) => {
                assert_eq!(body[0], 1, "prft version 1");
                reference = Some((u64_at(body, 8), u64_at(body, 16)));
            }
            (b"moof", None) => moof = Some((body, body.len() + 8)),
            (b"mdat", Some((fragment, moof_size))) => {
                chunks.push(chunk(fragment, moof_size, body, reference.take()));
                moof = None;
            }
            _ => panic!(
                "{} at byte {offset}: a chunk is [styp][prft][emsg] moof mdat (7.3.2.3)",
                name.escape_ascii()
            ),
        }
        offset += body.len() + 8;
    }
    assert!(moof.is_none(), "a moof without its mdat");
    assert!(!chunks.is_empty(), "no chunk");
    chunks
}

fn chunk(moof: &[u8], moof_size: usize, mdat: &[u8], reference: Option<(u64, u64)>) -> Chunk {
    let moof = boxes(moof);
    let names: Vec<&[u8; 4]> = moof.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"mfhd", b"traf"], "one track fragment");
    let traf = boxes(moof[1].1);
    let names: Vec<&[u8; 4]> = traf.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b"tfhd", b"tfdt", b"trun"]);
    let (tfhd, tfdt, trun) = (traf[0].1, traf[1].1, traf[2].1);

    let tfhd_flags = u32_at(tfhd, 0) & 0xff_ffff;
    assert_eq!(tfhd_flags & 0x02_0001, 0x02_0000, "default-base-is-moof and no base-data-offset");
    let mut at = 8;
    let mut optional = |flag: u32| {
        (tfhd_flags & flag != 0).then(|| {
            at += 4;
            u32_at(tfhd, at - 4)
        })
    };
    optional(0x02);
    let default_duration = optional(0x08);
    let default_size = optional(0x10);
    let default_flags = optional(0x20);

    let decode_time = if tfdt[0] == 1 { u64_at(tfdt, 4) } else { u64::from(u32_at(tfdt, 4)) };

    let (version, flags) = (trun[0], u32_at(trun, 0) & 0xff_ffff);
    let count = u32_at(trun, 4);
    let mut at = 8;
    let mut next = || {
        at += 4;
        u32_at(trun, at - 4)
    };
    if flags & 0x001 != 0 {
        assert_eq!(next() as usize, moof_size + 8, "data starts at the mdat's first byte");
    }
    let first_flags = (flags & 0x004 != 0).then(&mut next);
    let mut left = mdat;
    let mut samples = Vec::new();
    for index in 0..count {
        let duration = if flags & 0x100 != 0 { Some(next()) } else { default_duration };
        let size = if flags & 0x200 != 0 { Some(next()) } else { default_size };
        let own_flags = (flags & 0x400 != 0).then(&mut next);
        let offset = if flags & 0x800 != 0 { next() } else { 0 };
        let flags = own_flags.or(first_flags.filter(|_| index == 0)).or(default_flags).unwrap_or(0);
        let (payload, rest) = left.split_at(size.expect("a sample has a size") as usize);
        left = rest;
        assert!(
            version == 1 || offset < 1 << 31,
            "composition offsets are signed in version 1 alone"
        );
        samples.push(Sample {
            duration: duration.expect("a sample has a duration"),
            composition_offset: offset.cast_signed(),
            sync: flags & 0x1_0000 == 0,
            payload: payload.to_vec(),
        });
    }
    assert!(left.is_empty(), "{} bytes of the mdat belong to no sample", left.len());
    Chunk {
        sequence: u32_at(moof[0].1, 4),
        track: u32_at(tfhd, 4),
        decode_time,
        samples,
        reference,
    }
}

type Boxes<'a> = Vec<([u8; 4], &'a [u8])>;

/// The boxes that fill `bytes`: type and body.
#[track_caller]
fn boxes(mut bytes: &[u8]) -> Boxes<'_> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 8, "{} bytes are no box", bytes.len());
        let size = u32_at(bytes, 0) as usize;
        assert!((8..=bytes.len()).contains(&size), "a box of {size} bytes in {}", bytes.len());
        found.push((bytes[4..8].try_into().expect("four bytes"), &bytes[8..size]));
        bytes = &bytes[size..];
    }
    found
}

#[track_caller]
fn find<'a>(boxes: &Boxes<'a>, wanted: &[u8; 4]) -> &'a [u8] {
    let mut matching = boxes.iter().filter(|(name, _)| name == wanted);
    let (_, body) = matching.next().unwrap_or_else(|| panic!("no {}", wanted.escape_ascii()));
    assert!(matching.next().is_none(), "more than one {}", wanted.escape_ascii());
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

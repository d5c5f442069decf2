use std::time::{Duration, SystemTime};

use hex_literal::hex;
use media_core::{
    Timescale,
    codec::{aac, avc},
};
use mp4_atom::{Decode, Mdat, Moof, Moov, Prft, Styp};
use proptest::prelude::*;

use super::*;

/// Half a second after 1970 began.
fn utc() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(500)
}

fn sample(duration: u32, composition: i32, key: bool, payload: &'static [u8]) -> Sample {
    Sample { duration, composition, key, head: Bytes::new(), payload: Bytes::from_static(payload) }
}

fn anamorphic() -> Config {
    Config::Avc(avc::Config {
        record: Bytes::from_static(&hex!("0164001e")),
        codec_string: "avc1.64001e".into(),
        width: 640,
        height: 360,
        sample_aspect: avc::SampleAspect { width: 4, height: 3 },
        frame_rate: None,
        length_size: 4,
    })
}

/// The sample entry in a header, from its size field on.
fn entry<'a>(header: &'a [u8], kind: &[u8; 4]) -> &'a [u8] {
    let at = header.windows(4).position(|bytes| bytes == kind).unwrap() - 4;
    let size = u32::from_be_bytes(header[at..][..4].try_into().unwrap());
    &header[at..][..size as usize]
}

#[test]
fn chunk_of_one_key_frame_byte_for_byte() {
    // 93 000 ticks into a 90 kHz track, shown when it is decoded, as part 7:
    let rope = chunk(7, 93_000, &[sample(3_000, 0, true, b"media")], false, None);
    assert_eq!(
        rope.to_bytes()[..],
        hex!(
            // moof, mfhd: sequence_number
            "00000064 6d6f6f66 00000010 6d666864 00000000 00000007"
            // traf, tfhd: default-base-is-moof, track_ID
            "0000004c 74726166 00000018 74666864 00020028 00000001"
            // default duration and flags
            "00000bb8 02000000"
            // tfdt, version 1: 93 000
            "00000014 74666474 01000000 0000000000016b48"
            // trun, version 1: one sample, offset, its size
            "00000018 7472756e 01000201 00000001 0000006c 00000005"
            "0000000d 6d646174 6d65646961"                                  // mdat
        )
    );
}

#[test]
fn chunk_that_starts_a_segment_byte_for_byte() {
    // Two samples that differ in all; the second is shown before it is decoded.
    let samples = [sample(3_000, 0, true, b"media"), sample(3_003, -3_000, false, b"on")];
    let reference = Reference { utc: utc(), media_time: 93_000 };
    let rope = chunk(8, 93_000, &samples, true, Some(reference));
    assert_eq!(
        rope.to_bytes()[..],
        hex!(
            // styp: msdh, compatible with msdh and iso6
            "00000018 73747970 6d736468 00000000 6d736468 69736f36"
            // prft, version 1, flags 24: track_ID
            "00000020 70726674 01000018 00000001"
            // ntp_timestamp, media_time
            "83aa7e80 80000000 0000000000016b48"
            // moof, mfhd: sequence_number
            "00000078 6d6f6f66 00000010 6d666864 00000000 00000008"
            // traf, tfhd: default-base-is-moof, track_ID
            "00000060 74726166 00000010 74666864 00020000 00000001"
            "00000014 74666474 01000000 0000000000016b48"                   // tfdt
            // trun: two samples, offset
            "00000034 7472756e 01000f01 00000002 00000080"
            // duration, size, flags, composition offset
            "00000bb8 00000005 02000000 00000000"
            "00000bbb 00000002 01010000 fffff448"
            "0000000f 6d646174 6d65646961 6f6e"                             // mdat
        )
    );
}

#[test]
fn header_of_a_video_track_byte_for_byte() {
    assert_eq!(
        header(&anamorphic(), Timescale::VIDEO)[..],
        hex!(
            // ftyp: iso6, compatible with iso6, cmfc, cmf2
            "0000001c 66747970 69736f36 00000000 69736f36 636d6663 636d6632"
            "0000025c 6d6f6f76"                                             // moov
            // mvhd: created, modified
            "0000006c 6d766864 00000000 00000000 00000000"
            // 90 000, duration, rate, volume, reserved
            "00015f90 00000000 00010000 0100 0000 0000000000000000"
            "00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000"
            "00000000 00000000 00000000 00000000 00000000 00000000"         // pre_defined
            "00000002"                                                      // next_track_ID
            "000001c0 7472616b"                                             // trak
            // tkhd: created, modified, track_ID
            "0000005c 746b6864 00000007 00000000 00000000 00000001"
            // duration; layer, group, volume
            "00000000 00000000 0000000000000000 0000 0000 0000 0000"
            "00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000"
            "03555555 01680000"                                             // 853 1/3 x 360
            "0000015c 6d646961"                                             // mdia
            // mdhd: created, modified
            "00000020 6d646864 00000000 00000000 00000000"
            "00015f90 00000000 55c4 0000"                                   // 90 000, duration, und
            "00000026 68646c72 00000000 00000000 76696465"                  // hdlr: vide
            "00000000 00000000 00000000 766964656f00"                       // reserved, name
            "0000010e 6d696e66"                                             // minf
            "00000014 766d6864 00000001 0000 0000 0000 0000"                // vmhd
            "00000024 64696e66 0000001c 64726566 00000000 00000001"         // dinf, dref
            "0000000c 75726c20 00000001"                                    // url: self-contained
            "000000ce 7374626c"                                             // stbl
            "00000082 73747364 00000000 00000001"                           // stsd
            // avc1: data_reference_index
            "00000072 61766331 000000000000 0001"
            "00000000 00000000 00000000 00000000"                           // pre_defined, reserved
            // 640 x 360, 72 dpi, frame_count
            "0280 0168 00480000 00480000 00000000 0001"
            "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
            "0018 ffff"                                                     // depth, pre_defined
            "0000000c 61766343 0164001e"                                    // avcC
            "00000010 70617370 00000004 00000003"                           // pasp: 4:3
            "00000010 73747473 00000000 00000000"                           // stts
            "00000010 73747363 00000000 00000000"                           // stsc
            "00000014 7374737a 00000000 00000000 00000000"                  // stsz
            "00000010 7374636f 00000000 00000000"                           // stco
            "00000028 6d766578 00000020 74726578 00000000 00000001"         // mvex, trex: track_ID
            // sample description 1, no defaults
            "00000001 00000000 00000000 00000000"
        )
    );
}

#[test]
fn sample_entry_of_high_efficiency_audio_byte_for_byte() {
    // Object type 5, core coder 24 kHz, stereo, output 48 kHz.
    let config = Config::Aac(aac::Config::parse(&hex!("2b118800")).unwrap());
    assert_eq!(
        entry(&header(&config, config.timescale()), b"mp4a"),
        hex!(
            // mp4a: data_reference_index
            "00000059 6d703461 000000000000 0001 00000000 00000000"
            // 2 channels of 16 bits, 24 kHz
            "0002 0010 00000000 5dc00000"
            "00000035 65736473 00000000"                                    // esds
            "03 80808024 0000 00"                                           // ES_Descriptor: ES_ID
            // DecoderConfigDescriptor: MPEG-4 audio
            "04 80808016 40 15 000000 00000000 00000000"
            "05 80808004 2b118800"                                          // DecoderSpecificInfo
            "06 80808001 02"                                                // SLConfigDescriptor
        )
    );
}

#[test]
fn the_header_of_an_audio_track_is_parsed_by_mp4_atom() {
    let record = hex!("1208 56e500");
    let config = Config::Aac(aac::Config::parse(&record).unwrap());
    let bytes = header(&config, config.timescale());
    let mut rest = &bytes[..];
    mp4_atom::Ftyp::decode(&mut rest).unwrap();
    let moov = Moov::decode(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(moov.mvhd.timescale, 44_100);
    assert_eq!(moov.mvex.unwrap().trex[0].default_sample_description_index, 1);
    let [track] = &moov.trak[..] else { panic!("one track") };
    assert_eq!((track.tkhd.track_id, &track.edts), (1, &None));
    assert_eq!((track.mdia.mdhd.timescale, track.mdia.hdlr.handler), (44_100, (*b"soun").into()));
    let [mp4_atom::Codec::Mp4a(mp4a)] = &track.mdia.minf.stbl.stsd.codecs[..] else {
        panic!("mp4a")
    };
    assert_eq!((mp4a.audio.channel_count, mp4a.audio.sample_rate.integer()), (1, 44_100));
    assert_eq!(mp4a.esds.es_desc.dec_config.dec_specific.as_ref().unwrap().raw, record);
}

#[test]
fn a_96_khz_sample_entry_has_rate_zero_and_a_300_byte_record() {
    // A program_config_element with a comment may be this long: the length needs two groups of
    // seven bits.
    let config = Config::Aac(aac::Config {
        record: Bytes::from_static(&[0x11; 300]),
        codec_string: "mp4a.40.2".into(),
        timescale: Timescale::new(96_000).unwrap(),
        channels: 0,
        frame_samples: 1024,
    });
    let header = header(&config, config.timescale());
    let mp4a = entry(&header, b"mp4a");
    // The template's channels, and no rate.
    assert_eq!(mp4a[24..36], hex!("0002 0010 00000000 00000000"));
    let info = mp4a.windows(5).position(|bytes| bytes == hex!("05 8080822c")).unwrap();
    assert_eq!(mp4a[info + 5..][..300], [0x11; 300]);
}

#[test]
fn payloads_are_not_copied_into_the_rope() {
    let samples: Vec<_> = (0..3)
        .map(|n| Sample { payload: Bytes::from(vec![n; 9]), ..sample(1_024, 0, true, b"") })
        .collect();
    let rope = chunk(1, 0, &samples, true, None);
    let pieces: Vec<_> = rope.pieces().collect();
    assert_eq!(pieces.len(), 4);
    for (sample, piece) in samples.iter().zip(&pieces[1..]) {
        assert_eq!((sample.payload.as_ptr(), sample.payload.len()), (piece.as_ptr(), piece.len()));
    }
}

#[test]
fn an_mdat_over_4_gib_has_a_64_bit_size() {
    let payload = Bytes::from(vec![0; 1 << 20]);
    let samples = vec![Sample { payload, ..sample(1, 0, true, b"") }; 4096];
    let boxes = chunk_boxes(1, 0, &samples, false, None);
    assert_eq!(boxes[boxes.len() - 16..], hex!("00000001 6d646174 0000000100000010"));
    let moof = Moof::decode(&mut &boxes[..]).unwrap();
    assert_eq!(moof.traf[0].trun[0].data_offset, i32::try_from(boxes.len()).ok());
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    // Few values, so that columns are sometimes equal.
    let sample = (1_023u32..1_026, -1i32..2, any::<bool>(), bytes(3), bytes(40));
    let sample = sample.prop_map(|(duration, composition, key, head, payload)| {
        let composition = composition * 3_000;
        Sample { duration, composition, key, head: head.into(), payload: payload.into() }
    });
    let alike = (sample.clone(), 1usize..5).prop_map(|(sample, count)| vec![sample; count]);
    prop_oneof![proptest::collection::vec(sample, 0..12), alike]
}

/// Reads a chunk by the standard, with another crate's parser.
fn parse(
    bytes: &[u8],
    starts_segment: bool,
    reference: Option<Reference>,
) -> (u32, u64, Vec<Sample>) {
    let mut rest = bytes;
    if starts_segment {
        assert_eq!(Styp::decode(&mut rest).unwrap().major_brand, (*b"msdh").into());
    }
    if let Some(reference) = reference {
        let prft = Prft::decode(&mut rest).unwrap();
        assert_eq!((prft.reference_track_id, prft.media_time), (1, reference.media_time));
        assert_eq!(prft.utc_time_semantics, mp4_atom::ReferenceTime::RealTime);
    }
    let moof_at = bytes.len() - rest.len();
    let moof = Moof::decode(&mut rest).unwrap();
    let mdat = Mdat::decode(&mut rest).unwrap();
    assert!(rest.is_empty(), "sizes sum");

    let [traf] = &moof.traf[..] else { panic!("one track") };
    let [trun] = &traf.trun[..] else { panic!("one run") };
    assert!(traf.tfhd.default_base_is_moof && traf.tfhd.track_id == 1);
    let mut at = moof_at + usize::try_from(trun.data_offset.unwrap()).unwrap();
    assert_eq!(at, bytes.len() - mdat.data.len());
    let samples = trun.samples.iter().map(|entry| {
        let size = entry.size.unwrap() as usize;
        at += size;
        Sample {
            duration: entry.duration.or(traf.tfhd.default_sample_duration).unwrap(),
            composition: i32::try_from(entry.cts.unwrap_or(0)).unwrap(),
            key: entry.flags.or(traf.tfhd.default_sample_flags).unwrap() == 0x0200_0000,
            head: Bytes::new(),
            payload: Bytes::copy_from_slice(&bytes[at - size..at]),
        }
    });
    let samples = samples.collect();
    assert_eq!(at, bytes.len(), "samples fill the media data");
    (moof.mfhd.sequence_number, traf.tfdt.as_ref().unwrap().base_media_decode_time, samples)
}

proptest! {
    #[test]
    fn fragments_survive_a_round_trip_through_mp4_atom(
        sequence: u32,
        decode_time: u64,
        samples in samples(),
        starts_segment: bool,
        media_time in proptest::option::of(any::<u64>()),
    ) {
        let reference = media_time.map(|media_time| Reference { utc: utc(), media_time });
        let bytes = chunk(sequence, decode_time, &samples, starts_segment, reference).to_bytes();
        // A reader does not see where a head ends.
        let samples = samples.into_iter().map(|sample| Sample {
            payload: [sample.head, sample.payload].concat().into(),
            head: Bytes::new(),
            ..sample
        });
        prop_assert_eq!(
            parse(&bytes, starts_segment, reference),
            (sequence, decode_time, samples.collect())
        );
    }

    #[test]
    fn the_boxes_of_a_chunk_fill_a_buffer_of_exact_capacity(
        samples in samples(),
        starts_segment: bool,
        timed: bool,
    ) {
        let reference = timed.then_some(Reference { utc: utc(), media_time: 0 });
        let boxes = chunk_boxes(1, 0, &samples, starts_segment, reference);
        prop_assert_eq!(boxes.len(), boxes.capacity());
    }
}

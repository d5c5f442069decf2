use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::testing::AVC;

/// NAL units: a delimiter, a message without a recovery point, parameter sets as in `AVC`, slices
/// of IDR and other pictures that begin a picture or continue at macroblock 3.
const AUD: &[u8] = &hex!("09f0");
const SEI: &[u8] = &hex!("0604 03 010203 80");
const RECOVERY: &[u8] = &hex!("0606 01 c4 80");
const SPS: &[u8] = &hex!("6764001eacd940a02ff9701100000303e90000ea600f162d96");
const PPS: &[u8] = &hex!("68ebe3cb22c0");
const IDR: &[u8] = &hex!("65888480");
const IDR_MORE: &[u8] = &hex!("65248480");
const SLICE: &[u8] = &hex!("419a2080");
const SLICE_MORE: &[u8] = &hex!("41212080");

struct Feed {
    assembler: Assembler,
    config: Option<avc::Config>,
    start: Instant,
}

impl Feed {
    fn new() -> Self {
        Self {
            assembler: Assembler::default(),
            config: avc::Config::parse(AVC).ok(),
            start: Instant::now(),
        }
    }

    /// An assembler after its first picture, so that whole pictures are passed on at once.
    fn begun() -> Self {
        let mut feed = Self::new();
        feed.push(-40, lengths(&[IDR]));
        feed.finish();
        feed
    }

    fn at(&self, ms: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(ms + 1_000).unwrap())
    }

    fn message(&mut self, ms: i64, payload: impl Into<Bytes>) -> Result<Completed, Drop> {
        let payload = payload.into();
        let message = Message { ms, composition_ms: 67, message_bytes: payload.len(), payload };
        let now = self.at(ms);
        self.assembler.push(message, self.config.as_ref(), now)
    }

    /// The pictures that a message completes, if nothing is dropped.
    fn try_push(&mut self, ms: i64, payload: impl Into<Bytes>) -> Result<Vec<Picture>, Drop> {
        let Completed { pictures, dropped } = self.message(ms, payload)?;
        dropped.map_or_else(|| Ok(pictures.into_iter().flatten().collect()), Err)
    }

    /// Timestamp and payload of the pictures that a message completes.
    fn push(&mut self, ms: i64, payload: impl Into<Bytes>) -> Vec<(i64, Bytes)> {
        let pictures = self.try_push(ms, payload).unwrap();
        pictures.into_iter().map(|picture| (picture.ms, picture.payload)).collect()
    }

    fn finish(&mut self) -> Option<Picture> {
        self.assembler.finish(self.config.as_ref())
    }
}

fn lengths(units: &[&[u8]]) -> Vec<u8> {
    join(units, 4).unwrap().to_vec()
}

fn start_codes(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
}

#[test]
fn a_message_with_a_whole_picture_passes_at_once_in_its_own_memory() {
    let mut feed = Feed::begun();
    for (ms, units) in
        [(0, &[SLICE][..]), (40, &[AUD, SEI, SLICE, SLICE_MORE]), (80, &[SPS, PPS, IDR])]
    {
        let payload = Bytes::from(lengths(units));
        let at = payload.as_ptr();
        let picture = feed.try_push(ms, payload).unwrap().pop().unwrap();
        assert_eq!((picture.ms, picture.composition_ms, picture.arrived), (ms, 67, feed.at(ms)));
        assert_eq!((&picture.payload[..], picture.payload.as_ptr()), (&lengths(units)[..], at));
        assert_eq!(picture.config, None);
        assert_eq!(feed.assembler.poll_timeout(), None);
    }
}

#[test]
fn the_first_picture_waits_for_the_next_message_but_at_most_200_ms() {
    let mut feed = Feed::new();
    assert_eq!(feed.push(0, lengths(&[IDR])), []);
    assert_eq!(feed.assembler.poll_timeout(), Some(feed.at(0) + WAIT));
    let config = feed.config.clone();
    assert_eq!(feed.assembler.handle_timeout(config.as_ref(), feed.at(199)), None);
    let picture = feed.assembler.handle_timeout(config.as_ref(), feed.at(200)).unwrap();
    assert_eq!((picture.ms, picture.access), (0, Access::Idr));

    let mut feed = Feed::new();
    assert_eq!(feed.push(0, lengths(&[IDR])), []);
    let both = [(0, lengths(&[IDR]).into()), (40, lengths(&[SLICE]).into())];
    assert_eq!(feed.push(40, lengths(&[SLICE])), both);
}

#[test]
fn slices_in_separate_messages_are_joined_to_one_picture() {
    let mut feed = Feed::new();
    let mut pictures = Vec::new();
    for n in 0..5 {
        let (first, more) = if n == 0 { (IDR, IDR_MORE) } else { (SLICE, SLICE_MORE) };
        for unit in [first, more, more] {
            pictures.extend(feed.push(n * 40, lengths(&[unit])));
        }
    }
    pictures.extend(feed.finish().map(|picture| (picture.ms, picture.payload)));
    let whole = |n| match n {
        0 => (0, lengths(&[IDR, IDR_MORE, IDR_MORE]).into()),
        n => (n * 40, lengths(&[SLICE, SLICE_MORE, SLICE_MORE]).into()),
    };
    assert_eq!(pictures, (0..5).map(whole).collect::<Vec<_>>());
}

#[test]
fn slices_that_are_split_later_damage_one_picture_only() {
    let mut feed = Feed::begun();
    assert_eq!(feed.push(0, lengths(&[SLICE])).len(), 1);
    assert_eq!(feed.try_push(0, lengths(&[SLICE_MORE])), Err(Drop::Malformed));
    assert_eq!(feed.push(40, lengths(&[SLICE])), []);
    assert_eq!(feed.push(40, lengths(&[SLICE_MORE])), []);
    assert_eq!(feed.push(80, lengths(&[SLICE])), [(40, lengths(&[SLICE, SLICE_MORE]).into())]);
    // A picture without its first slice is still a picture.
    assert_eq!(feed.push(120, lengths(&[SLICE_MORE])), [(80, lengths(&[SLICE]).into())]);
    assert_eq!(feed.finish().map(|picture| picture.access), Some(Access::Dependent));
}

#[test]
fn units_before_a_picture_are_prepended_to_it_without_a_wait() {
    let mut feed = Feed::begun();
    assert_eq!(feed.push(0, lengths(&[AUD])), []);
    assert_eq!(feed.push(0, lengths(&[SEI])), []);
    assert_eq!(feed.push(0, lengths(&[IDR])), [(0, lengths(&[AUD, SEI, IDR]).into())]);
    assert_eq!(feed.push(40, lengths(&[SLICE])), [(40, lengths(&[SLICE]).into())]);
    // A recovery point in a separate message determines the kind of the picture.
    assert_eq!(feed.push(80, lengths(&[RECOVERY])), []);
    let picture = feed.try_push(80, lengths(&[SLICE])).unwrap().pop().unwrap();
    assert_eq!(picture.access, Access::Recovery { frames: 0 });
    // They end a picture of several messages.
    feed.assembler.joins = true;
    assert_eq!(feed.push(120, lengths(&[SLICE])), []);
    assert_eq!(feed.push(160, lengths(&[AUD])), [(120, lengths(&[SLICE]).into())]);
}

#[test]
fn in_band_parameter_sets_make_a_configuration_if_there_is_none_or_if_they_differ() {
    let mut feed = Feed::begun();
    feed.config = None;
    for (ms, unit) in [(0, SPS), (0, PPS)] {
        assert_eq!(feed.push(ms, lengths(&[unit])), []);
    }
    let picture = feed.try_push(0, lengths(&[IDR])).unwrap().pop().unwrap();
    assert_eq!(picture.config, avc::Config::parse(AVC).ok());
    let picture = feed.try_push(40, start_codes(&[SPS, PPS, IDR])).unwrap().pop().unwrap();
    assert_eq!(picture.config, avc::Config::parse(AVC).ok());
    assert_eq!(picture.payload, lengths(&[SPS, PPS, IDR]));

    feed.config = picture.config;
    let known = feed.try_push(80, lengths(&[SPS, PPS, IDR])).unwrap().pop().unwrap();
    assert_eq!(known.config, None);
    let mut larger = SPS.to_vec();
    larger[3] = 0x1f;
    let picture = feed.try_push(120, lengths(&[&larger, PPS, IDR])).unwrap().pop().unwrap();
    assert_eq!(picture.config.unwrap().codec_string, "avc1.64001f");
}

#[test]
fn slices_whose_timestamps_differ_by_a_few_milliseconds_are_joined() {
    let whole = |ms, first: &[u8], more: &[u8]| (ms, Bytes::from(lengths(&[first, more, more])));
    let mut feed = Feed::new();
    for (ms, unit) in [(0, IDR), (1, IDR_MORE), (2, IDR_MORE)] {
        assert_eq!(feed.push(ms, lengths(&[unit])), []);
    }
    assert_eq!(feed.push(40, lengths(&[SLICE])), [whole(0, IDR, IDR_MORE)]);
    // Stamps may go back as well, and the delimiter has a stamp of its own.
    assert_eq!(feed.push(39, lengths(&[SLICE_MORE])), []);
    assert_eq!(feed.push(43, lengths(&[SLICE_MORE])), []);
    assert_eq!(feed.push(79, lengths(&[AUD])), [whole(40, SLICE, SLICE_MORE)]);
    // A slice with another picture's stamp has lost the first one.
    assert_eq!(feed.push(80, lengths(&[SLICE])), []);
    let alone = |ms, units: &[&[u8]]| (ms, Bytes::from(lengths(units)));
    assert_eq!(feed.push(120, lengths(&[SLICE_MORE])), [alone(80, &[AUD, SLICE])]);

    // The remaining slices of a picture that was passed on already are not a picture of their own.
    let mut feed = Feed::begun();
    assert_eq!(feed.push(0, lengths(&[SLICE])), [alone(0, &[SLICE])]);
    for ms in [3, 6, 9] {
        assert_eq!(feed.try_push(ms, lengths(&[SLICE_MORE])), Err(Drop::Malformed));
    }
    assert!(feed.assembler.joins);
}

#[test]
fn pictures_stop_waiting_after_many_pictures_of_one_message() {
    let mut feed = Feed::begun();
    feed.push(0, lengths(&[SLICE]));
    assert_eq!(feed.try_push(0, lengths(&[SLICE_MORE])), Err(Drop::Malformed));
    let waiting = (1..1_000).find(|n| {
        feed.push(n * 40, lengths(&[SLICE]));
        feed.assembler.poll_timeout().is_none()
    });
    assert_eq!(waiting, Some(i64::from(WHOLE) + 1));
    // Another slice in a message of its own, and they wait again.
    assert_eq!(feed.push(50_000, lengths(&[SLICE])).len(), 1);
    assert_eq!(feed.try_push(50_000, lengths(&[SLICE_MORE])), Err(Drop::Malformed));
    for ms in (50_040..80_000).step_by(40) {
        feed.push(ms, lengths(&[SLICE]));
        assert_eq!(feed.push(ms, lengths(&[SLICE_MORE])), []);
        assert!(feed.assembler.poll_timeout().is_some());
    }
}

#[test]
fn byte_streams_and_other_length_sizes_are_rewritten_to_the_declared_length_size() {
    let mut feed = Feed::begun();
    let right = [(0, Bytes::from(lengths(&[AUD, IDR])))];
    let size = |size| join(&[AUD, IDR], size).unwrap();
    assert_eq!(feed.push(0, start_codes(&[AUD, IDR])), right);
    assert_eq!(feed.push(0, [&[0, 0, 1], AUD, &[0, 0, 1], IDR, &[0, 0]].concat()), right);
    assert_eq!(feed.push(0, size(2)), right);
    assert_eq!(feed.push(0, size(1)), right);
    // A byte stream, or several units, behind one length.
    assert_eq!(feed.push(0, lengths(&[&start_codes(&[AUD, IDR])])), right);
    assert_eq!(feed.push(0, lengths(&[&start_codes(&[AUD, IDR])[4..]])), right);
    // Empty units between others.
    assert_eq!(feed.push(0, lengths(&[AUD, &[], &[], IDR])), right);
    assert_eq!(feed.try_push(0, hex!("00000009 65888480").to_vec()), Err(Drop::Malformed));
}

#[test]
fn trailing_zero_bytes_are_removed_without_a_copy() {
    for zeros in 1..9 {
        let mut feed = Feed::begun();
        let payload = Bytes::from([lengths(&[SLICE]), vec![0; zeros]].concat());
        let at = payload.as_ptr();
        let pictures = feed.push(0, payload);
        assert_eq!(pictures, [(0, lengths(&[SLICE]).into())]);
        assert_eq!(pictures[0].1.as_ptr(), at);
    }
}

#[test]
fn a_picture_keeps_no_more_memory_than_twice_its_length() {
    let mut feed = Feed::begun();
    let payload = Bytes::from([lengths(&[SLICE]), vec![0; 1 << 20]].concat());
    let pictures = feed.push(0, payload.clone());
    assert_eq!(pictures, [(0, lengths(&[SLICE]).into())]);
    assert!(payload.is_unique(), "nothing refers to the message any more");

    // Units in separate messages: the capacity reserved for more of them is released.
    let mut feed = Feed::begun();
    let sei = [&[6, 4][..], &[1; 60_000]].concat();
    feed.push(40, lengths(&[&sei]));
    assert_eq!(feed.try_push(40, lengths(&[&sei])), Err(Drop::NoPicture));
    feed.push(40, lengths(&[&[9, 0xf0]]));
    let (_, picture) = feed.push(40, lengths(&[SLICE])).remove(0);
    assert_eq!(picture, lengths(&[&[9, 0xf0], SLICE]));
    let picture = picture.try_into_mut().expect("it is alone in its allocation");
    assert_eq!(picture.capacity(), picture.len());
}

#[test]
fn units_are_searched_for_start_codes_only_in_the_first_pictures_or_if_any_was_found() {
    let mut feed = Feed::begun();
    let joined = |units: &[&[u8]]| lengths(&[&start_codes(units)[4..]]);
    for n in 0..i64::from(SEARCHED) {
        feed.push(n * 40, lengths(&[SLICE]));
    }
    assert!(!feed.assembler.has_codes);
    let late = joined(&[SLICE, SLICE_MORE]);
    assert_eq!(feed.push(9_000, late.clone()), [(9_000, late.into())]);

    let mut feed = Feed::begun();
    for n in 0..200 {
        let whole = (n * 40, Bytes::from(lengths(&[SLICE, SLICE_MORE])));
        assert_eq!(feed.push(n * 40, joined(&[SLICE, SLICE_MORE])), [whole]);
    }
}

#[test]
fn the_prefix_of_a_picture_and_the_picture_are_bounded() {
    let mut feed = Feed::begun();
    let sei = [&[6, 4][..], &[1; 4_000]].concat();
    let results: Vec<_> = (0..40).map(|_| feed.try_push(0, lengths(&[&sei]))).collect();
    assert_eq!(results.iter().position(|result| *result == Err(Drop::NoPicture)), Some(16));
    assert!(feed.assembler.prefix.len() <= MAX_PREFIX_BYTES);

    let mut feed = Feed::new();
    feed.push(0, lengths(&[IDR]));
    let large = [IDR_MORE, &[0x80; 5 << 20]].concat();
    let results: Vec<_> = (0..5).map(|_| feed.try_push(0, lengths(&[&large])).is_ok()).collect();
    assert_eq!(results, [true, true, true, false, false]);
    assert!(feed.finish().unwrap().payload.len() <= MAX_PICTURE_BYTES);
}

#[test]
fn units_that_are_dropped_in_front_of_a_picture_are_named_beside_the_pictures() {
    let sei = |bytes: usize| [&[6, 4][..], &vec![1; bytes]].concat();
    // Too many of them, after a picture that has waited for them.
    let mut feed = Feed::new();
    feed.push(0, lengths(&[IDR]));
    let Completed { pictures: [before, own], dropped } =
        feed.message(40, lengths(&[&sei(MAX_PREFIX_BYTES)])).unwrap();
    assert_eq!(before.map(|picture| picture.ms), Some(0));
    assert_eq!((own, dropped), (None, Some(Drop::NoPicture)));

    // A picture that leaves no room for them.
    let mut feed = Feed::begun();
    feed.push(0, lengths(&[&sei(60_000)]));
    let large = [SLICE, &vec![0x80; MAX_PICTURE_BYTES - 50_000]].concat();
    let Completed { pictures: [before, own], dropped } =
        feed.message(0, lengths(&[&large])).unwrap();
    assert_eq!(before, None);
    assert_eq!(own.map(|picture| picture.payload.len()), Some(4 + large.len()));
    assert_eq!(dropped, Some(Drop::Malformed));
}

proptest! {
    #[test]
    fn every_slice_is_in_one_picture_for_any_split_of_units_into_messages(
        slices in prop::collection::vec(1usize..5, 1..8),
        cuts in prop::collection::vec(any::<bool>(), 60),
        codes in any::<bool>(),
    ) {
        let mut feed = Feed::new();
        let mut cuts = cuts.into_iter().cycle();
        let (mut seen, mut sent) = (Vec::new(), Vec::new());
        for (n, slices) in slices.into_iter().enumerate() {
            let ms = i64::try_from(n).unwrap() * 40;
            let mut units = vec![AUD, SEI];
            units.push(if n == 0 { IDR } else { SLICE });
            units.extend(vec![if n == 0 { IDR_MORE } else { SLICE_MORE }; slices - 1]);
            sent.push((ms, Bytes::from(lengths(&units))));
            // A cut after a slice; the first picture shows whether there are separate slices.
            let mut message = Vec::new();
            for (index, unit) in units.iter().enumerate() {
                message.push(*unit);
                let last = index + 1 == units.len();
                if last || index < 2 && cuts.next() == Some(true) || index >= 2 && slices > 1 {
                    let payload = if codes { start_codes(&message) } else { lengths(&message) };
                    seen.extend(feed.push(ms, payload));
                    message.clear();
                }
            }
            // If the first picture is one message, later ones must be too.
            prop_assume!(n > 0 || slices > 1);
        }
        seen.extend(feed.finish().map(|picture| (picture.ms, picture.payload)));
        prop_assert_eq!(seen, sent);
    }

    #[test]
    fn the_picture_assembler_never_panics(
        messages in prop::collection::vec(
            (0i64..4, prop::collection::vec(any::<u8>(), 0..40)),
            0..30,
        ),
        configured in any::<bool>(),
    ) {
        let mut feed = Feed::new();
        if !configured {
            feed.config = None;
        }
        for (ms, payload) in messages {
            let _ = feed.try_push(ms, payload);
        }
    }
}

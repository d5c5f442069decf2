//! The audio rendition.

use super::*;

/// Two seconds of video and audio, interleaved in the order of sending.
fn with_sound(source: &Source, sound: &sound::Sound, first: i64, hz: u32) -> Vec<Order> {
    let audio = sound.units.iter().enumerate().map(|(number, payload)| {
        // Milliseconds, as in RTMP.
        let ms = (number * sound::UNIT * 1_000) as i64 / i64::from(hz);
        (MediaTime::from_ticks(first + ms * 90), payload)
    });
    let audio = audio.map(|(pts, payload)| Order::Unit {
        media: Media::Audio,
        key: true,
        dts: pts,
        pts,
        mark: None,
        payload: payload.clone(),
    });
    let mut orders: Vec<_> = marked(source).into_iter().take(60).chain(audio).collect();
    orders.sort_by_key(|order| match order {
        Order::Unit { dts, .. } => *dts,
        _ => MediaTime::ZERO,
    });
    orders
}

fn is_audio(order: &Order) -> bool {
    matches!(order, Order::Unit { media: Media::Audio, .. })
}

pub(crate) fn audio_is_reencoded_unit_for_unit_and_in_step() {
    for hz in [44_100, 48_000] {
        let (source, sound) = (PLAIN.source(90_000), sound::rising_tone(hz));
        let orders = with_sound(&source, &sound, 90_000, hz);
        let job = Job {
            audio: Some(sound.record.clone()),
            audio_rendition: Some(AudioRendition { bitrate_bps: 64_000 }),
            ..job(&PLAIN, &source, &[rendition(160, 90)])
        };
        let times = orders.iter().filter(|order| is_audio(order)).map(|order| match order {
            Order::Unit { pts, .. } => pts.ticks(),
            _ => 0,
        });
        let times: Vec<_> = times.collect();
        let said = made(job, orders);
        let units = said.units(1);
        assert_eq!(units.iter().map(|unit| unit.pts).collect::<Vec<_>>(), times);
        let config = media_core::codec::aac::Config::parse(&said.records(1)[0]).unwrap();
        assert_eq!((config.timescale.hz(), config.channels, config.frame_samples), (hz, 2, 1_024));
        let payloads: Vec<_> = units.into_iter().map(|unit| unit.payload).collect();
        let bits = payloads.iter().map(|payload| payload.len() * 8).sum::<usize>() / 2;
        assert!((40_000..80_000).contains(&bits), "{bits} bits a second");
        let before = sound::decoded(&sound.record, &sound.units, &format!("before-{hz}"));
        let after = sound::decoded(&said.records(1)[0], &payloads, &format!("after-{hz}"));
        let (shift, like) = sound::shift(&before, &after);
        assert!(shift.abs() <= 1 && like > 0.98, "moved by {shift} samples, like {like}");
    }
}

pub(crate) fn audio_that_cannot_be_decoded_is_silence_and_stays_in_step() {
    let (source, sound) = (PLAIN.source(0), sound::rising_tone(48_000));
    let mut orders = with_sound(&source, &sound, 0, 48_000);
    let broken = orders.iter_mut().filter(|order| is_audio(order)).skip(20).take(10);
    for order in broken {
        let Order::Unit { payload, .. } = order else { continue };
        *payload = vec![0xff; 40].into();
    }
    let job = Job {
        audio: Some(sound.record.clone()),
        audio_rendition: Some(AudioRendition { bitrate_bps: 64_000 }),
        ..job(&PLAIN, &source, &[rendition(160, 90)])
    };
    let worker = Worker::start();
    worker
        .send([Order::Job(Box::new(job))].into_iter().chain(orders).chain([Order::End]).collect());
    let said = worker.finish();
    assert!(said.status.success(), "{}", said.stderr);
    let payloads: Vec<_> = said.units(1).into_iter().map(|unit| unit.payload).collect();
    assert_eq!(payloads.len(), sound.units.len());
    let before = sound::decoded(&sound.record, &sound.units[32..], "before-broken");
    let after = sound::decoded(&said.records(1)[0], &payloads[32..], "after-broken");
    let (shift, like) = sound::shift(&before, &after);
    assert!(shift.abs() <= 1 && like > 0.98, "moved by {shift} samples, like {like}");
}

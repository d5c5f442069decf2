use std::time::{Duration, SystemTime};

use media_core::BroadcastId;

use super::*;
use crate::views::session::ENDS_AFTER_MS;

/// The beginning of a minute, on both clocks.
const START: Time = Time::from_millis(1_796_000_040_000);

fn at(ms: u64) -> Moment {
    Moment { wall: START.after(Duration::from_millis(ms)), ms }
}

fn counter() -> Counter {
    Counter::new(100, Metrics::default(), at(0))
}

fn name(text: &str) -> ChannelName {
    text.parse().unwrap()
}

/// A broadcast, and the number of its channel.
fn broadcast() -> BroadcastId {
    BroadcastId::new(SystemTime::UNIX_EPOCH)
}

fn segment<'a>(
    viewer: u64,
    (id, channel): (BroadcastId, &'a ChannelName),
    track: &'a str,
    n: u64,
) -> Delivered<'a> {
    Delivered {
        viewer,
        viewer_before: None,
        host: viewer,
        presentation: Presentation::Broadcast { id, channel },
        track,
        is_video: track.starts_with('v'),
        start_ms: 2_000 * n,
        duration_ms: 2_000,
        bytes: 1_000,
        report: Report::None,
    }
}

/// The row of a channel in a minute.
fn row<'a>(minute: &'a Minute, channel: &ChannelName) -> Option<&'a Row> {
    let watched = Watched::Channel(channel.clone());
    minute.rows.iter().find(|(other, _)| *other == watched).map(|(_, row)| row)
}

#[test]
fn a_viewer_of_video_and_audio_is_one_view_and_its_time_counts_once() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for n in 0..10 {
        counter.deliver(&segment(1, (id, &channel), "v0", n), at(2_000 * n));
        counter.deliver(&segment(1, (id, &channel), "a0", n), at(2_000 * n));
    }
    assert!(!counter.is_over(at(59_999)) && counter.is_over(at(60_000)));
    let minute = counter.close(at(60_000));
    assert_eq!(minute.begin, START);
    let row = row(&minute, &channel).unwrap();
    let all = Counts {
        views: 1,
        watched_ms: 18_000,
        peak: 1,
        objects: 20,
        bytes: 20_000,
        ..Counts::default()
    };
    assert_eq!(row.all, all);
    let of_track = |views| Counts {
        views,
        watched_ms: 18_000,
        objects: 10,
        bytes: 10_000,
        ..Counts::default()
    };
    let expected = [("v0".to_owned(), of_track(1)), ("a0".to_owned(), of_track(0))];
    assert_eq!(row.renditions, expected);
}

#[test]
fn watch_time_is_that_of_the_rendition_in_which_it_was_sent() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for n in 0..10 {
        let track = if n < 4 { "v0" } else { "v480" };
        counter.deliver(&segment(1, (id, &channel), track, n), at(2_000 * n));
    }
    let minute = counter.close(at(60_000));
    let renditions = &row(&minute, &channel).unwrap().renditions;
    let times = renditions.iter().map(|(name, counts)| (name.as_str(), counts.watched_ms));
    assert_eq!(times.collect::<Vec<_>>(), [("v0", 6_000), ("v480", 12_000)]);
}

#[test]
fn minutes_add_up_and_a_session_is_one_view_over_all_of_them() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    let mut minutes = Vec::new();
    for n in 0..100 {
        let now = at(2_000 * n);
        if counter.is_over(now) {
            minutes.push(counter.close(now));
        }
        counter.deliver(&segment(1, (id, &channel), "v0", n), now);
        counter.sweep(now);
    }
    minutes.push(counter.close(at(200_000)));
    let rows = minutes.iter().map(|minute| row(minute, &channel).unwrap().all);
    let rows = rows.collect::<Vec<_>>();
    assert_eq!(rows.iter().map(|row| row.views).collect::<Vec<_>>(), [1, 0, 0, 0]);
    let watched = rows.iter().map(|row| row.watched_ms).collect::<Vec<_>>();
    assert_eq!(watched, [58_000, 60_000, 60_000, 20_000]);
    assert!(rows.iter().all(|row| row.peak == 1));
    let begins = minutes.iter().map(|minute| minute.begin.as_millis() - START.as_millis());
    assert_eq!(begins.collect::<Vec<_>>(), [0, 60_000, 120_000, 180_000]);
}

#[test]
fn the_peak_is_the_greatest_number_of_sessions_and_they_leave_after_two_minutes() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for viewer in 0..5 {
        counter.deliver(&segment(viewer, (id, &channel), "v0", 0), at(0));
    }
    counter.deliver(&segment(0, (id, &channel), "v0", 30), at(59_000));
    let peak = |minute: &Minute| row(minute, &channel).map(|row| row.all.peak);
    assert_eq!(peak(&counter.close(at(60_000))), Some(5));
    counter.sweep(at(ENDS_AFTER_MS));
    // Four have left in this minute, which began with all of them.
    assert_eq!(peak(&counter.close(at(120_000))), Some(5));
    assert_eq!(peak(&counter.close(at(180_000))), Some(1));
    counter.sweep(at(59_000 + ENDS_AFTER_MS));
    assert_eq!(peak(&counter.close(at(240_000))), Some(1));
    assert_eq!(peak(&counter.close(at(300_000))), None);
    assert!(counter.sessions.is_empty() && counter.presentations.is_empty());
}

#[test]
fn a_viewer_that_returns_after_two_minutes_is_another_view() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for begin in [0, 10_000 + ENDS_AFTER_MS] {
        for n in 0..6 {
            let number = begin / 2_000 + n;
            let now = at(begin + 2_000 * n);
            counter.deliver(&segment(1, (id, &channel), "v0", number), now);
        }
    }
    let minute = counter.close(at(200_000));
    let all = row(&minute, &channel).unwrap().all;
    assert_eq!((all.views, all.watched_ms, all.peak), (2, 20_000, 1));
}

#[test]
fn another_broadcast_of_the_channel_is_another_view_in_the_same_row() {
    let (mut counter, channel) = (counter(), name("demo"));
    for id in [broadcast(), broadcast()] {
        for n in 0..6 {
            counter.deliver(&segment(1, (id, &channel), "v0", n), at(2_000 * n));
        }
    }
    let minute = counter.close(at(60_000));
    assert_eq!(minute.rows.len(), 1);
    assert_eq!(row(&minute, &channel).unwrap().all.views, 2);
}

#[test]
fn sessions_are_bounded_and_known_viewers_stay() {
    let (channel, id) = (name("demo"), broadcast());
    let mut counter = Counter::new(3, Metrics::default(), at(0));
    for n in 0..6 {
        for viewer in 0..10 {
            counter.deliver(&segment(viewer, (id, &channel), "v0", n), at(2_000 * n));
        }
    }
    assert_eq!(counter.sessions.len(), 3);
    let minute = counter.close(at(60_000));
    let all = row(&minute, &channel).unwrap().all;
    assert_eq!((all.views, all.peak, all.objects), (3, 3, 60));
}

#[test]
fn a_session_continues_when_the_key_of_viewers_changes() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for n in 0..6 {
        let viewer_before = (n >= 3).then_some(1);
        let viewer = if n < 3 { 1 } else { 2 };
        let delivered = Delivered { viewer_before, ..segment(viewer, (id, &channel), "v0", n) };
        counter.deliver(&delivered, at(2_000 * n));
    }
    assert_eq!(counter.sessions.len(), 1);
    let minute = counter.close(at(60_000));
    assert_eq!(row(&minute, &channel).unwrap().all.views, 1);
}

#[test]
fn one_host_that_invents_viewers_is_few_and_takes_no_room_from_others() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for n in 0..6 {
        for viewer in 0..1_000 {
            let delivered = Delivered { host: 7, ..segment(viewer, (id, &channel), "v0", n) };
            counter.deliver(&delivered, at(2_000 * n));
        }
        counter.deliver(&segment(5_000, (id, &channel), "v0", n), at(2_000 * n));
    }
    let most = usize::try_from(MAX_OF_A_HOST).unwrap() + 1;
    assert_eq!(counter.sessions.len(), most + 1);
    let minute = counter.close(at(60_000));
    assert_eq!(row(&minute, &channel).unwrap().all.views, most as u64 + 1);
    // When they have left, the host may have others.
    counter.sweep(at(60_000 + ENDS_AFTER_MS));
    assert!(counter.sessions.is_empty() && counter.hosts.is_empty());
}

#[test]
fn reports_tell_viewers_behind_one_address_apart_and_count_beside_the_media() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    for n in 0..6 {
        for session in ["one", "two"] {
            let values = Values {
                session: Some(session),
                has_rebuffered: n == 3 && session == "one",
                is_starting: n == 0,
                bitrate_kbps: Some(1_000),
                throughput_kbps: Some(u32::MAX),
                buffer_ms: Some(4_000),
                latency_ms: Some(1_500),
                ..Values::default()
            };
            let report = Report::Valid(values);
            let delivered = Delivered { report, ..segment(1, (id, &channel), "v0", n) };
            counter.deliver(&delivered, at(2_000 * n));
        }
    }
    let malformed = Delivered { report: Report::Malformed, ..segment(9, (id, &channel), "a0", 0) };
    counter.deliver(&malformed, at(10_000));
    let minute = counter.close(at(60_000));
    let all = row(&minute, &channel).unwrap().all;
    assert_eq!((all.views, all.watched_ms, all.peak), (2, 20_000, 3));
    let quality = all.quality;
    assert_eq!((quality.reports, quality.rebuffers), (12, 1));
    assert_eq!((quality.startup.count(), quality.startup.get()), (2, Some(2_000)));
    assert_eq!(quality.bitrate.get(), Some(1_000));
    assert_eq!(quality.throughput.get(), Some(MAX_KBPS), "it is bounded");
    assert_eq!((quality.buffer.get(), quality.latency.get()), (Some(4_000), Some(1_500)));
}

#[test]
fn a_video_has_a_row_of_its_own() {
    let id = VideoId::new(uuid::Uuid::from_u128(5));
    let (mut counter, channel) = (counter(), name("demo"));
    let presentation = Presentation::Video { id, duration_ms: 8_000 };
    let delivered = Delivered { presentation, ..segment(1, (broadcast(), &channel), "v0", 0) };
    counter.deliver(&delivered, at(0));
    let next = Delivered { start_ms: 2_000, ..delivered };
    counter.deliver(&next, at(1));
    let minute = counter.close(at(60_000));
    let [(watched, row)] = &minute.rows[..] else { panic!("{minute:?}") };
    assert_eq!(*watched, Watched::Video(id));
    assert_eq!((row.all.views, row.all.watched_ms), (1, 4_000));
}

#[test]
fn a_clock_that_is_set_back_begins_another_minute() {
    let (mut counter, channel, id) = (counter(), name("demo"), broadcast());
    counter.deliver(&segment(1, (id, &channel), "v0", 0), at(0));
    let back = Moment { wall: Time::from_millis(60_000), ms: 5_000 };
    assert!(counter.is_over(back));
    assert_eq!(counter.close(back).begin, START);
    counter.deliver(&segment(1, (id, &channel), "v0", 1), back);
    assert_eq!(counter.close(at(60_000)).begin, Time::from_millis(60_000));
}

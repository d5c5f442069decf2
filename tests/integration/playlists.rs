//! Properties of the playlists, read from a running daemon (draft-pantos-hls-rfc8216bis).

use crate::support::{
    follow, fragment,
    live::{AUDIO, Live, MASTER, Shared, VIDEO},
    playlist::{Media, Multivariant, resolve},
    unix_ms, wait_for,
};
use std::{
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};

fn live() -> Arc<Live> {
    static SHARED: Shared = Mutex::new(Weak::new());
    Live::with_short_segments(&SHARED)
}

// The multivariant playlist.

#[test]
fn the_multivariant_playlist_has_the_attributes_of_each_rendition() {
    let live = live();
    let master = Multivariant::parse(&live.get(MASTER).text());
    let [(variant, uri)] = &master.variants[..] else { panic!("one variant: {master:?}") };
    assert_eq!(resolve(MASTER, uri), VIDEO);
    let codecs = variant.quoted("CODECS").expect("CODECS");
    assert!(codecs.contains("avc1.") && codecs.contains("mp4a.40.2"), "{codecs}");
    assert_eq!(variant.raw("RESOLUTION"), Some("640x360"));
    assert_eq!(variant.number::<f64>("FRAME-RATE"), Some(25.0));
    let (peak, average) =
        (variant.number::<u64>("BANDWIDTH"), variant.number::<u64>("AVERAGE-BANDWIDTH"));
    assert!(peak >= average && average > Some(100_000), "peak {peak:?}, average {average:?}");

    let group = variant.quoted("AUDIO").expect("an audio group");
    let [rendition] = &master.renditions[..] else { panic!("one rendition: {master:?}") };
    assert_eq!(rendition.raw("TYPE"), Some("AUDIO"));
    assert_eq!(rendition.quoted("GROUP-ID"), Some(group));
    assert!(rendition.quoted("NAME").is_some_and(|name| !name.is_empty()));
    assert_eq!(resolve(MASTER, &rendition.quoted("URI").expect("URI")), AUDIO);
}

// Media playlists.

#[test]
fn playlists_obey_rfc_8216bis_over_many_blocking_reloads() {
    let live = live();
    thread::scope(|scope| {
        for path in [VIDEO, AUDIO] {
            let live = &live;
            scope.spawn(move || {
                let mut reloads = 0;
                follow::follow(live.http, path, Duration::from_secs(60), |media| {
                    assert!(
                        media.hinted_part.is_some(),
                        "the next part is hinted while media come"
                    );
                    reloads += 1;
                    reloads > 20
                });
            });
        }
    });
}

#[test]
fn every_playlist_has_the_same_target_duration_and_server_control() {
    let live = live();
    let (video, audio) = (live.media(VIDEO), live.media(AUDIO));
    assert_eq!(video.target_duration, 2);
    assert_eq!((video.target_duration, &video.control), (audio.target_duration, &audio.control));
}

#[test]
fn segments_of_the_same_number_start_within_a_part_target_of_wall_clock_time() {
    let live = live();
    let (video, audio) = (live.media(VIDEO), live.media(AUDIO));
    let mut compared = 0;
    for video in &video.segments {
        let Some(audio) = audio.segments.iter().find(|audio| audio.msn == video.msn) else {
            continue;
        };
        if let (Some(video), Some(audio)) = (&video.date_time, &audio.date_time) {
            let apart = (unix_ms(video) - unix_ms(audio)).abs();
            assert!(apart <= 234, "{video} and {audio}: within one part target");
            compared += 1;
        }
    }
    assert!(compared > 0, "both playlists date their segments");
}

#[test]
fn a_part_is_independent_exactly_if_it_holds_a_key_frame() {
    let live = live();
    let video = live.media(VIDEO);
    for part in video.segments.iter().flat_map(|segment| &segment.parts) {
        let bytes = live.get(&resolve(VIDEO, &part.uri)).body;
        let keyed = fragment::chunks(&bytes)
            .iter()
            .flat_map(|chunk| &chunk.samples)
            .any(|sample| sample.sync);
        assert_eq!(part.independent, keyed, "{part:?}");
    }
}

#[test]
fn the_duration_of_a_part_is_that_of_its_samples() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let playlist = live.media(path);
        let map = resolve(path, playlist.segments[0].map.as_ref().expect("a map"));
        let timescale = f64::from(fragment::header(&live.get(&map).body).timescale);
        for part in playlist.segments.iter().flat_map(|segment| &segment.parts) {
            let chunks = fragment::chunks(&live.get(&resolve(path, &part.uri)).body);
            let ticks: u32 =
                chunks.iter().flat_map(|chunk| &chunk.samples).map(|sample| sample.duration).sum();
            assert!(
                (f64::from(ticks) / timescale - part.duration).abs() < 0.001,
                "{part:?}: {ticks} ticks"
            );
        }
    }
}

#[test]
fn the_parts_of_a_segment_are_its_bytes() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        for segment in live.media(path).segments.iter().filter(|segment| !segment.parts.is_empty())
        {
            let parts: Vec<u8> = segment
                .parts
                .iter()
                .flat_map(|part| live.get(&resolve(path, &part.uri)).body)
                .collect();
            assert!(
                live.get(&resolve(path, &segment.uri)).body == parts,
                "{path}, segment {}",
                segment.msn
            );
        }
    }
}

#[test]
fn each_playlist_has_a_rendition_report_of_the_other_one() {
    let live = live();
    for (path, other) in [(VIDEO, AUDIO), (AUDIO, VIDEO)] {
        let playlist = live.media(path);
        let [report] = &playlist.reports[..] else { panic!("one report: {playlist:?}") };
        assert_eq!(resolve(path, &report.uri), other);
        // Both close their parts in step, within the quarter of a second after which audio
        // continues alone.
        let apart = report.last_msn.abs_diff(playlist.open.msn);
        assert!(
            apart <= 1 && report.last_part.is_some(),
            "{report:?} beside {:?}",
            playlist.last_part()
        );
    }
}

// Directives of delivery (6.2.5).

#[test]
fn a_request_for_a_future_part_is_held_until_it_exists() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let before = live.media(path);
        let wanted = (before.open.msn, before.open.parts.len() as u64);
        let after = live.media(&format!("{path}?{}", follow::next_of(&before)));
        assert!(
            after.last_part() >= Some(wanted),
            "asked for {wanted:?}, got {:?}",
            after.last_part()
        );
    }
}

#[test]
fn a_request_for_a_future_segment_is_held_until_it_is_complete() {
    let live = live();
    let wanted = live.media(VIDEO).open.msn;
    let after = live.media(&format!("{VIDEO}?_HLS_msn={wanted}"));
    assert!(after.next_msn() > wanted, "asked for {wanted}, complete before {}", after.next_msn());
}

#[test]
fn a_part_number_past_the_end_of_its_segment_means_the_first_part_of_the_next() {
    let live = live();
    let before = live.media(VIDEO);
    let open = before.open.msn;
    // A segment of one second has at most six parts.
    let after = live.media(&format!("{VIDEO}?_HLS_msn={open}&_HLS_part=7"));
    assert!(after.last_part() >= Some((open + 1, 0)), "{:?}", after.last_part());
}

#[test]
fn a_request_for_an_existing_segment_or_part_returns_the_current_playlist() {
    let live = live();
    let before = live.media(VIDEO);
    let old = live.media(&format!("{VIDEO}?_HLS_msn={}", before.media_sequence));
    old.assert_follows(&before);
    let old = live.media(&format!("{VIDEO}?_HLS_msn={}&_HLS_part=0", before.media_sequence));
    old.assert_follows(&before);
}

#[test]
fn invalid_or_unsatisfiable_delivery_directives_return_400() {
    let live = live();
    let far = live.media(VIDEO).open.msn + 3;
    for query in [
        "_HLS_part=0".to_owned(),
        "_HLS_msn=x".to_owned(),
        "_HLS_msn=-1".to_owned(),
        "_HLS_msn=".to_owned(),
        "_HLS_msn=99999999999999999999999".to_owned(),
        format!("_HLS_msn={far}"),
        format!("_HLS_msn={far}&_HLS_part=0"),
        format!("_HLS_msn={far}&_HLS_part=x"),
    ] {
        let response = live.get(&format!("{VIDEO}?{query}"));
        assert_eq!(response.status, 400, "{query}: {}", response.text());
    }
}

#[test]
fn unknown_query_parameters_are_ignored() {
    let live = live();
    let plain = || live.get(VIDEO).text();
    let with = || live.get(&format!("{VIDEO}?session=7&_HLS_unknown=1")).text();
    wait_for("pair of answers to one state", Duration::from_secs(10), || {
        (plain() == with()).then_some(())
    });
}

#[test]
fn a_delta_update_completes_an_older_playlist() {
    let live = live();
    let older = wait_for("playlist long enough for a delta", Duration::from_secs(60), || {
        let media = live.media(VIDEO);
        let length: f64 = media.segments.iter().map(|segment| segment.duration).sum();
        (Some(length - 4.0) > media.control.can_skip_until).then_some(media)
    });
    for version in ["YES", "v2"] {
        wait_for("delta between two equal playlists", Duration::from_secs(10), || {
            let whole = live.get(VIDEO).text();
            let delta = live.get(&format!("{VIDEO}?_HLS_skip={version}")).text();
            if whole != live.get(VIDEO).text() {
                return None;
            }
            let (whole, delta) = (Media::parse(&whole), Media::parse(&delta));
            assert!(delta.skipped > 0 && delta.version >= 9, "{delta:?}");
            let kept: f64 = delta.segments.iter().map(|segment| segment.duration).sum();
            let boundary = delta.control.can_skip_until.expect("CAN-SKIP-UNTIL");
            assert!(
                kept >= boundary,
                "{kept} s kept, nothing within {boundary} s of the end is skipped"
            );
            let filled = delta.filled_from(&older);
            let uris = |media: &Media| {
                media.segments.iter().map(|s| (s.msn, s.uri.clone())).collect::<Vec<_>>()
            };
            // Segments that have left the window since the older playlist was read are not
            // compared.
            assert_eq!(uris(&filled), uris(&whole));
            assert_eq!((filled.open, filled.hinted_part), (whole.open, whole.hinted_part));
            Some(())
        });
    }
}

#[test]
fn a_hinted_part_is_held_until_it_is_complete_and_then_listed() {
    let live = live();
    for path in [VIDEO, AUDIO] {
        let before = live.media(path);
        let hinted = before.hinted_part.clone().expect("a hint");
        let early = live.get(&resolve(path, &hinted));
        assert_eq!(early.status, 200, "{hinted}: {}", early.text());
        let after = live.media(path);
        let listed: Vec<&String> =
            after.with_open().flat_map(|segment| &segment.parts).map(|part| &part.uri).collect();
        assert!(listed.contains(&&hinted), "{hinted} appears: {listed:?}");
        assert!(live.get(&resolve(path, &hinted)).body == early.body, "{hinted} stays what it was");
        fragment::chunks(&early.body);
    }
}

#[test]
fn a_part_or_segment_without_a_hint_is_not_found() {
    let live = live();
    let playlist = live.media(VIDEO);
    let (directory, _) = playlist.segments[0].uri.rsplit_once('/').expect("a directory");
    let msn = playlist.open.msn + 9;
    for name in
        [format!("{msn}.0.m4s"), format!("{msn}.m4s"), "0.m4s".to_owned(), "init.99.mp4".to_owned()]
    {
        let path = resolve(VIDEO, &format!("{directory}/{name}"));
        let response = live.get(&path);
        assert_eq!(response.status, 404, "{path}");
        assert!(response.header("access-control-allow-origin").is_some(), "errors have CORS too");
        assert!(
            response.max_age() <= 2,
            "at most a target duration: {:?}",
            response.header("cache-control")
        );
    }
}

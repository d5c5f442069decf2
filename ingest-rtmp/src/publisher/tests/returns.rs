//! Publishers that return, and those whose broadcast was ended or refused.

use super::*;

#[test]
fn a_publisher_refused_for_too_many_broadcasts_releases_the_name() {
    let mut feed = Feed::of_video();
    let begin = |feed: &mut Feed| feed.video(0, video_frame(IDR));
    let mut begun = 0;
    let refusal = loop {
        match begin(&mut feed) {
            Ok(()) => begun += 1,
            Err(refusal) => break refusal,
        }
        assert!(begun < 100);
        feed.hub.kick(&name());
        let next = Feed::of_video_on(feed.hub.clone());
        feed = next;
    };
    assert_eq!(refusal.reason, Reason::Busy);
    assert!(refusal.description.contains("connect again in"), "{refusal:?}");
    assert!(feed.hub.claim(name()).is_ok(), "{begun} began");
}

#[test]
fn a_publisher_that_returns_with_different_tracks_continues_its_broadcast() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let first = feed.live().unwrap();
    let Feed { hub, publisher, metrics, start } = feed;
    publisher.leave(start);
    let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
    let mut feed = Feed { hub, publisher, metrics, start };
    let metadata = object([("audiocodecid", 10.0.into())]);
    feed.publisher.metadata(&metadata, feed.start).unwrap();
    feed.audio(0, audio_config()).unwrap();
    feed.audio(0, audio_frame()).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001e", "a0 mp4a.40.2"]);
    feed.video(20, video_config(AVC_OTHER_STRING)).unwrap();
    feed.video(20, video_frame(IDR)).unwrap();
    assert_eq!(feed.codecs(), ["v0 avc1.64001f", "a0 mp4a.40.2"]);
    assert_eq!(feed.live().unwrap().id(), first.id());
}

#[test]
fn a_publisher_that_returns_continues_its_broadcast() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let broadcast = feed.live().unwrap();
    let Feed { hub, publisher, metrics, start } = feed;
    publisher.leave(start + Duration::from_secs(1));
    assert!(matches!(broadcast.presence(), Presence::Away(Some(_))));
    assert_eq!(metrics.publishers.get(), 0);

    let publisher = Publisher::new(hub.claim(name()).unwrap(), metrics.clone(), IDLE, start);
    let mut feed = Feed { hub, publisher, metrics, start };
    let metadata = object([("videocodecid", 7.0.into())]);
    feed.publisher.metadata(&metadata, feed.start).unwrap();
    feed.video(3_000, video_config(AVC)).unwrap();
    feed.video(3_000, video_frame(IDR)).unwrap();
    assert_eq!(feed.live().unwrap().id(), broadcast.id());
    assert_eq!(broadcast.presence(), Presence::Live);
}

#[test]
fn a_kicked_publisher_is_refused_and_starts_no_broadcast() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    feed.hub.kick(&name());
    assert_eq!(feed.video(0, video_frame(IDR)).unwrap_err(), ended(None));
    let mut feed = Feed::of_video();
    feed.hub.kick(&name());
    assert_eq!(feed.video(0, video_frame(IDR)).unwrap_err(), ended(None));
    assert!(feed.live().is_none());
}

#[test]
fn a_publisher_whose_broadcast_failed_is_refused_with_the_reason() {
    let mut feed = Feed::of_video();
    feed.video(0, video_frame(IDR)).unwrap();
    let broadcast = feed.live().unwrap();
    feed.hub.fail(&broadcast, "too much at once".into());
    let refusal = feed.video(0, video_frame(IDR)).unwrap_err();
    assert_eq!(refusal, Refusal::new(Reason::Failed, "too much at once"));
}

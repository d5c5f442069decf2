//! Beginnings and ends of broadcasts, as subscribers of the hub and waiting tasks learn of them.

use super::*;

#[tokio::test]
async fn a_failed_broadcast_ends_and_revokes_the_claim_with_the_reason() {
    let hub = hub();
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    let failed = Arc::clone(producer.broadcast());
    hub.fail(&failed, "too much at once".into());
    hub.kick(&name());
    assert_eq!(revoked.revoked().await, Cause::Failed("too much at once".into()));
    assert_eq!(failed.presence(), Presence::Ended);
    // The name has another broadcast meanwhile, which is not touched.
    drop(producer);
    let claim = hub.claim(name()).unwrap();
    let revoked = claim.revoked();
    let _producer = claim.start(vec![video()], start(), SystemTime::UNIX_EPOCH).unwrap();
    hub.fail(&failed, "too much at once".into());
    assert!(!revoked.is_revoked());
    assert_eq!(hub.broadcasts().len(), 1);
}

#[tokio::test]
async fn a_task_waits_for_the_end_of_a_broadcast() {
    let hub = hub();
    let source = Source::new(&hub, start());
    let broadcast = Arc::clone(source.producer.broadcast());
    let waiter = tokio::spawn({
        let broadcast = Arc::clone(&broadcast);
        async move { broadcast.ended().await }
    });
    source.run(0..400);
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    hub.kick(&name());
    waiter.await.unwrap();
    broadcast.ended().await;
}

#[tokio::test]
async fn subscribers_receive_new_broadcasts_and_wait_for_frames() {
    let hub = hub();
    let mut events = hub.events();
    let reader = tokio::spawn(async move {
        let broadcast = events.began().await;
        let mut consumer = broadcast.subscribe_from_oldest();
        let mut frames = 0;
        while let Some(event) = consumer.next().await {
            frames += u32::from(matches!(event, Event::Frame { .. }));
        }
        frames
    });
    tokio::task::yield_now().await;
    let source = Source::new(&hub, start());
    source.run(0..400);
    tokio::task::yield_now().await;
    source.run(400..1_000);
    hub.close();
    assert_eq!(reader.await.unwrap(), 25 + 50);
}

#[tokio::test]
async fn hub_events_report_each_start_and_end_once_and_omit_broadcasts_that_were_missed() {
    let hub = hub();
    let mut events = hub.events();
    let first = Source::new(&hub, start());
    let begun = events.next().await;
    assert!(matches!(&begun, crate::hub::Event::Began(begun)
            if Arc::ptr_eq(begun, first.producer.broadcast())));
    let reader = tokio::spawn(async move {
        let ended = events.next().await;
        (ended, events)
    });
    tokio::task::yield_now().await;
    hub.kick(&name());
    let (ended, mut events) = reader.await.unwrap();
    assert!(matches!(&ended, crate::hub::Event::Ended(ended)
            if Arc::ptr_eq(ended, first.producer.broadcast())));
    // While nobody looks, one begins and ends, and another begins.
    drop(first);
    drop(Source::new(&hub, start()));
    hub.kick(&name());
    let last = Source::new(&hub, start());
    let begun = events.next().await;
    assert!(matches!(&begun, crate::hub::Event::Began(begun)
            if Arc::ptr_eq(begun, last.producer.broadcast())));
}

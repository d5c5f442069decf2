//! One socket with two owners, one after the other.

use super::*;

#[tokio::test]
async fn after_a_handover_old_connections_continue_and_new_ones_reach_the_new_process() {
    let mut old = Running::live().await;
    let mut early = old.client().await;
    assert_eq!(early.get("/time").await.status, StatusCode::OK);
    // A segment that grows; half of it has arrived when the socket is handed over.
    let path = old.stage.media(&format!("{}.m4s", old.stage.first + 3));
    let mut growing = early.send(Method::GET, &path, &[]).await;
    growing.finish().await.unwrap();
    growing.recv_response().await.unwrap();

    let legacy = old.handover.prepare().unwrap();
    let socket = QuicSocket::inherit(legacy.socket, &legacy.note, legacy.inboxes).unwrap();
    let new = Running::over(Stage::live().await, socket, old.certificate.clone(), config(), |_| ());
    old.handover.complete();
    new.handover.begin();
    old.shared.retire().trigger();
    assert_eq!(new.address, old.address);

    let mut late = new.client().await;
    let theirs = new.stage.media(&format!("{}.m4s", new.stage.first));
    assert_eq!(late.get(&theirs).await.status, StatusCode::OK);
    let (old_metrics, new_metrics) = (old.stage.metrics.clone(), new.stage.metrics.clone());
    assert_eq!(
        (old_metrics.server.connections.get(), new_metrics.server.connections.get()),
        (1, 1)
    );

    // The old process continues with its connections, though it does not read the socket any more.
    old.stage.push(3 * PART).await;
    let mut come = 0;
    while let Some(data) = timeout(LONG, growing.recv_data()).await.unwrap().unwrap() {
        come += data.remaining();
    }
    assert_eq!(come, old.stage.get(&path).await.body.len());
    drop(growing);
    let end = timeout(LONG, early.driver).await.unwrap().unwrap();
    assert!(end.is_h3_no_error(), "{end}");
    until(|| old_metrics.server.connections.get() == 0).await;
    assert_eq!(late.get(&theirs).await.status, StatusCode::OK);

    // The socket passes to a third process, and the first is gone.
    drop(old);
    let legacy = new.handover.prepare().unwrap();
    let socket = QuicSocket::inherit(legacy.socket, &legacy.note, legacy.inboxes).unwrap();
    let third =
        Running::over(Stage::live().await, socket, new.certificate.clone(), config(), |_| ());
    new.handover.complete();
    third.handover.begin();
    assert_eq!(late.get(&theirs).await.status, StatusCode::OK);
    assert_eq!(third.client().await.get("/time").await.status, StatusCode::OK);
    assert_eq!(third.stage.metrics.server.connections.get(), 1);
}

#[tokio::test]
async fn a_failed_handover_leaves_the_old_process_serving() {
    let old = Running::live().await;
    let mut client = old.client().await;
    drop(old.handover.prepare().unwrap());
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    old.handover.abandon();
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    assert_eq!(old.client().await.get("/time").await.status, StatusCode::OK);
}

#[tokio::test]
async fn connections_of_a_process_that_is_gone_are_reset() {
    let old = Running::live().await;
    let mut client = old.client().await;
    assert_eq!(client.get("/time").await.status, StatusCode::OK);
    let legacy = old.handover.prepare().unwrap();
    let socket = QuicSocket::inherit(legacy.socket, &legacy.note, legacy.inboxes).unwrap();
    // Its process ends without closing its connections.
    old.handover.complete();
    let Running { endpoint, handover, certificate, serving, .. } = old;
    handover.abandon();
    serving.abort();
    drop((endpoint, handover));
    let new = Running::over(Stage::live().await, socket, certificate, config(), |_| ());
    new.handover.begin();
    let request = Request::get(format!("https://{NAME}/time")).body(()).unwrap();
    let _ = client.requests.send_request(request).await;
    let closed = timeout(LONG, client.quic.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::Reset), "{closed}");
}

#[tokio::test]
async fn the_new_process_reads_after_the_old_has_stopped_and_no_datagram_is_lost() {
    let old = Running::live().await;
    let legacy = old.handover.prepare().unwrap();
    let socket = QuicSocket::inherit(legacy.socket, &legacy.note, legacy.inboxes).unwrap();
    let new = Running::over(Stage::live().await, socket, old.certificate.clone(), config(), |_| ());
    // Both processes run, and all connections belong to the old one.
    for _ in 0..16 {
        assert_eq!(old.client().await.get("/time").await.status, StatusCode::OK);
    }
    assert_eq!((old.served(), new.served()), (16, 0));
    // Neither of them reads.
    old.handover.complete();
    let mut late = tokio::spawn({
        let (endpoint, address) = (old.certificate.client(|_| ()), old.address);
        async move { (endpoint.connect(address, NAME).unwrap().await.unwrap(), endpoint) }
    });
    assert!(timeout(Duration::from_millis(100), &mut late).await.is_err());
    new.handover.begin();
    let (quic, endpoint) = timeout(LONG, late).await.unwrap().unwrap();
    // The datagrams that had arrived suffice: no client needs to repeat one.
    let mut late = Client::over(endpoint, quic).await;
    assert_eq!(late.get("/time").await.status, StatusCode::OK);
    assert_eq!((old.served(), new.served()), (16, 1));
}

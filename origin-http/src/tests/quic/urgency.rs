//! The order of responses on a path that cannot take all at once (RFC 9218).

use super::path::{Rate, Relay};
use super::*;

/// A server with segments of about 900 KB, and a client behind a path of 2 MB a second.
async fn slow() -> (Running, Client, Relay) {
    let mut stage = Stage::new().await;
    stage.frame_bytes = 36_000;
    stage.push(4 * SEGMENT + 1).await;
    let socket = QuicSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let running = Running::over(stage, socket, Certificate::new(), config(), |_| ());
    let relay = Relay::start(running.address, Rate::Bytes(2_000_000)).await;
    let client = running.client_with(relay.address, |_| ()).await;
    (running, client, relay)
}

/// Sends a request, and records when its response is complete.
async fn race(
    running: &Running,
    client: &mut Client,
    path: &str,
    priority: &str,
    name: &'static str,
    order: &Order,
) -> JoinHandle<()> {
    let before = running.served();
    let mut stream = client.send(Method::GET, path, &[("priority", priority)]).await;
    stream.finish().await.unwrap();
    until(|| running.served() > before).await;
    let order = Arc::clone(order);
    tokio::spawn(async move {
        whole(stream).await;
        order.lock().unwrap().push(name);
    })
}

type Order = Arc<std::sync::Mutex<Vec<&'static str>>>;

#[tokio::test]
async fn responses_arrive_in_order_of_urgency_not_of_request() {
    let (running, mut client, _relay) = slow().await;
    let segment = |index: u64| running.stage.media(&format!("{}.m4s", running.stage.first + index));
    let order = Order::default();
    // All together more than quinn takes at once, so that turns decide too.
    let high = race(&running, &mut client, &segment(0), "u=6", "high", &order).await;
    let higher = race(&running, &mut client, &segment(1), "u=6", "next of it", &order).await;
    let low = race(&running, &mut client, &segment(2), "u=4", "low", &order).await;
    let playlist =
        race(&running, &mut client, "/live/demo/v0.m3u8", "u=1", "playlist", &order).await;
    for done in [high, higher, low, playlist] {
        done.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["playlist", "low", "high", "next of it"]);
}

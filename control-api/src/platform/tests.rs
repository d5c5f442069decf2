use std::{fs, path::PathBuf};

use control_domain::{
    features::accounts::{self, commands::*},
    id::AccountId,
};

use super::*;

/// A folder that is deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("streamforge-platform-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn register(name: &str) -> Register {
    Register {
        name: name.parse().expect("a name"),
        email: format!("{name}@example.org").parse().expect("an address"),
        password: PasswordHash("$argon2id$secret".to_owned()),
    }
}

async fn exists(platform: &Platform, account: AccountId) -> bool {
    let found = platform.read(|rows| accounts::queries::account(rows, account)).await;
    found.expect("the tables can be read").is_some()
}

#[tokio::test]
async fn a_request_waits_until_the_database_is_open() {
    let folder = Folder::new("waits");
    let platform = Platform::default();
    let sent = platform.send(Actor::Anonymous, register("ada"));
    let (receipt, opened) = tokio::join!(sent, platform.open(&folder.0));
    opened.expect("the folder can be written");
    assert!(exists(&platform, receipt.expect("the name is free").done).await);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_refused_if_the_database_does_not_open() {
    let platform = Platform::default();
    let refused = platform.send(Actor::Anonymous, register("ada")).await;
    assert_eq!(refused.expect_err("it is not open").kind(), Kind::Unavailable);
}

#[tokio::test]
async fn another_process_can_open_the_database_after_it_was_closed_here() {
    let folder = Folder::new("closes");
    let (older, newer) = (Platform::default(), Platform::default());
    older.open(&folder.0).await.expect("the folder can be written");
    let used = older.store().await.expect("it is open");
    let refused = newer.open(&folder.0).await.expect_err("it is in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let ada = older.send(Actor::Anonymous, register("ada")).await.expect("the name is free");

    // A request that uses it delays the close.
    let mut closing = std::pin::pin!(older.close());
    assert!(futures_pending(closing.as_mut()).await);
    drop(used);
    closing.await;
    older.closed().await;
    newer.open(&folder.0).await.expect("it is closed");
    assert!(exists(&newer, ada.done).await);
    let refused = older.store().await.err().expect("it is closed");
    assert_eq!(refused.kind(), Kind::Unavailable);
}

/// Polls a future once.
async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
    })
    .await
}

//! The thread that writes the file of keys anew, some seconds after keys were erased, because
//! several erasures often follow each other, and each renewal copies all keys.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracing::error;

use super::vault::KeyVault;

/// Time from the first erasure of a batch to the renewal.
const BATCH: Duration = Duration::from_secs(5);
/// Time to the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// The thread. It ends when the last [`Waker`] is dropped.
pub(super) struct Renewal(Option<JoinHandle<()>>);

/// Wakes the thread.
#[derive(Clone)]
pub(super) struct Waker(SyncSender<()>);

impl Waker {
    /// Keys were erased.
    pub(super) fn wake(&self) {
        // If it is full, the thread is awake.
        let _ = self.0.try_send(());
    }
}

impl Renewal {
    /// Starts the thread, which looks first whether a renewal is left from the last time.
    pub(super) fn start(vault: Arc<KeyVault>) -> io::Result<(Self, Waker)> {
        let (sender, receiver) = sync_channel(1);
        let thread = std::thread::Builder::new().name("platform-keys".to_owned());
        let thread = thread.spawn(move || run(&vault, &receiver))?;
        let waker = Waker(sender);
        waker.wake();
        Ok((Self(Some(thread)), waker))
    }

    /// Waits for the end of the thread.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic has been logged by the thread.
            let _ = thread.join();
        }
    }
}

fn run(vault: &KeyVault, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        let mut wait = BATCH;
        loop {
            if !sleeps(woken, wait) {
                return;
            }
            match vault.renew() {
                Ok(()) => break,
                Err(fault) => error!(%fault, "the file of keys cannot be written anew yet"),
            }
            wait = RETRY;
        }
    }
}

/// Waits, however often it is woken. Returns whether the thread goes on.
fn sleeps(woken: &Receiver<()>, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    loop {
        match woken.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

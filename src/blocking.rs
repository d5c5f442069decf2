//! Work that may block, for example because a file is on a disk that hangs, beside the tasks of the
//! runtime.

use std::panic;

use tokio::task::spawn_blocking;

/// Runs `work` on a thread where it may block, and returns its result; a panic of `work` continues
/// in the caller. If the future is dropped, `work` is not interrupted.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(result) => result,
        // Nobody cancels `work`, so it has panicked.
        Err(err) => panic::resume_unwind(err.into_panic()),
    }
}

//! Request bodies, with a limit of the time between two pieces.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::body::BoxError;

/// A body that fails when no frame arrives for a given time after the last one.
pub(crate) struct Timed<B> {
    body: Pin<Box<B>>,
    /// Longest wait for a frame.
    pause: Duration,
    /// Created at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> Timed<B> {
    /// Wraps `body`; it may pause for `pause` at most.
    pub(crate) fn new(body: B, pause: Duration) -> Self {
        Self { body: Box::pin(body), pause, sleep: None }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) {
            if let Some(sleep) = &mut this.sleep {
                sleep.as_mut().reset(Instant::now() + this.pause);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(this.pause)));
        sleep.as_mut().poll(cx).map(|()| {
            let err = io::Error::new(
                io::ErrorKind::TimedOut,
                "no byte of the request's body arrived in time",
            );
            Some(Err(err.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Channel};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_body_that_pauses_too_long_is_an_error() {
        let (mut sender, body) = Channel::<Bytes>::new(4);
        let mut body = Timed::new(body, Duration::from_secs(5));
        for _ in 0..3 {
            sender.send_data(Bytes::from_static(b"more")).await.unwrap();
            tokio::time::advance(Duration::from_secs(4)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert!(body.frame().await.unwrap().unwrap_err().to_string().contains("no byte"));
    }
}

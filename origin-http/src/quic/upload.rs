//! A request's body as the router takes it: bytes as h3 has them, and held to the length that the head said (RFC 9114 4.1.2).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use crate::body::BoxError;

use super::transport;

/// One request's body.
pub(super) struct Upload {
    stream: RequestStream<transport::RequestStream, Bytes>,
    /// What has come before anybody asked for it.
    first: Option<Bytes>,
    ended: bool,
    /// Bytes to come, if the head said how many.
    left: Option<u64>,
}

impl Upload {
    pub(super) fn new(stream: RequestStream<transport::RequestStream, Bytes>, length: Option<u64>) -> Self {
        Self {
            stream,
            first: None,
            ended: false,
            left: length,
        }
    }

    /// Waits until it is known whether there is a body.
    ///
    /// # Errors
    /// It is not known in time, or never will be.
    pub(super) async fn begin(&mut self, limit: Duration) -> Result<(), BoxError> {
        let first = timeout(limit, poll_fn(|cx| self.poll_next(cx))).await?;
        self.first = first.transpose()?;
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let data = match ready!(self.stream.poll_recv_data(cx)) {
            Ok(data) => data.map(|mut data| data.copy_to_bytes(data.remaining())),
            Err(err) => {
                self.ended = true;
                return Poll::Ready(Some(Err(err.into())));
            }
        };
        self.ended = data.is_none();
        let fits = match (&mut self.left, &data) {
            (Some(left), Some(data)) => left.checked_sub(data.len() as u64).map(|rest| *left = rest).is_some(),
            (Some(left), None) => *left == 0,
            (None, _) => true,
        };
        if !fits {
            self.ended = true;
            let err = io::Error::new(
                io::ErrorKind::InvalidData,
                "the body has not the length that its head says",
            );
            return Poll::Ready(Some(Err(err.into())));
        }
        Poll::Ready(data.map(Ok))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.poll_next(cx)),
        };
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left + self.first.as_ref().map_or(0, Bytes::len) as u64),
            None => SizeHint::default(),
        }
    }
}

//! A request's body for the service, checked against the Content-Length of the head (RFC 9114
//! 4.1.2).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::server::RequestStream;
use http_body::{Body, Frame, SizeHint};

use crate::body::BoxError;

use super::transport;

/// The body of one request. It fails if its length is not that of the head, so that a service never
/// takes a truncated upload for complete.
pub(super) struct RequestBody {
    /// h3's side that receives.
    stream: RequestStream<transport::RequestStream, Bytes>,
    /// The bytes, or the error, read ahead by [`Self::begin`].
    first: Option<Result<Bytes, BoxError>>,
    /// No further byte is read: the end, or an error.
    ended: bool,
    /// Bytes left, if the head has a Content-Length.
    left: Option<u64>,
}

impl RequestBody {
    /// `length`: the Content-Length of the head, if it has one.
    pub(super) fn new(
        stream: RequestStream<transport::RequestStream, Bytes>,
        length: Option<u64>,
    ) -> Self {
        Self { stream, first: None, ended: false, left: length }
    }

    /// Reads ahead to find whether the request ended with its head, as nearly all requests without
    /// a body do; the end is then known without waiting.
    pub(super) async fn begin(&mut self) {
        if let Poll::Ready(first) = poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await {
            self.first = first;
        }
    }

    /// The next bytes, checked against the length; `None` at the end. After an error the body has
    /// ended.
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
        // More bytes than stated, or fewer at the end, make the request malformed.
        let fits = match (&mut self.left, &data) {
            (Some(left), Some(data)) => {
                left.checked_sub(data.len() as u64).map(|rest| *left = rest).is_some()
            }
            (Some(left), None) => *left == 0,
            (None, _) => true,
        };
        if !fits {
            self.ended = true;
            let err = io::Error::new(
                io::ErrorKind::InvalidData,
                "the length of the body differs from Content-Length",
            );
            return Poll::Ready(Some(Err(err.into())));
        }
        Poll::Ready(data.map(Ok))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // The bytes that were read ahead are first.
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(self.poll_next(cx)),
        };
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => {
                let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
                SizeHint::with_exact(left + first.map_or(0, Bytes::len) as u64)
            }
            None => SizeHint::default(),
        }
    }
}

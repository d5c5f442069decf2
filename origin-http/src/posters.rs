//! What the origin must know of pictures; whoever makes them answers.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use media_core::ChannelName;

/// A picture of a channel.
#[derive(Debug, Clone)]
pub struct Poster {
    /// JPEG.
    pub jpeg: Bytes,
    /// How long it is as good as any.
    pub fresh: Duration,
}

/// Says what channels look like.
pub trait Posters: Send + Sync {
    /// The newest picture of a channel that is live, which may have to be made first; `None` if there is none. Bounded in time.
    fn poster(&self, channel: &ChannelName) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>>;
}

/// There are no pictures.
#[derive(Debug, Clone, Copy)]
pub struct NoPosters;

impl Posters for NoPosters {
    fn poster(&self, _: &ChannelName) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>> {
        Box::pin(async { None })
    }
}

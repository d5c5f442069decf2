//! Pictures of channels, which the transcoder provides.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use media_core::ChannelName;

/// A picture of a channel.
#[derive(Debug, Clone)]
pub struct Poster {
    /// JPEG.
    pub jpeg: Bytes,
    /// Time for which it is fresh.
    pub fresh: Duration,
}

/// Provides the pictures.
pub trait Posters: Send + Sync {
    /// The newest picture of a live channel, which may have to be made first; `None` if there is
    /// none. Bounded in time.
    fn poster(
        &self,
        channel: &ChannelName,
    ) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>>;
}

/// There are no pictures.
#[derive(Debug, Clone, Copy)]
pub struct NoPosters;

impl Posters for NoPosters {
    fn poster(&self, _: &ChannelName) -> Pin<Box<dyn Future<Output = Option<Poster>> + Send + '_>> {
        Box::pin(async { None })
    }
}

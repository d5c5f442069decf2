//! The newest picture of each live broadcast, as JPEG.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use dashmap::DashMap;
use media_core::BroadcastId;

/// The largest picture kept, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A picture of a broadcast.
#[derive(Debug, Clone)]
pub struct Picture {
    /// JPEG.
    pub jpeg: Bytes,
    /// When it was made.
    pub made: Instant,
}

/// The newest picture of each broadcast. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pictures(Arc<DashMap<BroadcastId, Picture>>);

impl Pictures {
    /// The newest of a broadcast, if there is one.
    pub fn newest(&self, broadcast: BroadcastId) -> Option<Picture> {
        self.0.get(&broadcast).map(|picture| picture.clone())
    }

    /// Keeps a picture, if it looks like one.
    pub(crate) fn keep(&self, broadcast: BroadcastId, jpeg: Bytes, made: Instant) {
        let is_jpeg = jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]);
        if is_jpeg && jpeg.len() <= MAX_BYTES {
            self.0.insert(broadcast, Picture { jpeg, made });
        }
    }

    /// The broadcast is over.
    pub(crate) fn forget(&self, broadcast: BroadcastId) {
        self.0.remove(&broadcast);
    }
}

//! Private channels, whose streams only the administrator sees.

use media_core::ChannelName;

/// Knows which channels are private. Called for each stream of a listing: it must be quick and must
/// not block.
pub trait Privacy: Send + Sync + 'static {
    /// Whether the channel is private.
    fn is_private(&self, channel: &ChannelName) -> bool;
}

/// All channels are public.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Public;

impl Privacy for Public {
    fn is_private(&self, _: &ChannelName) -> bool {
        false
    }
}

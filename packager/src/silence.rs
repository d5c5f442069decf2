//! Silent access units, to fill holes in audio with.

use bytes::Bytes;
use media_core::codec::aac;

/// An access unit that decodes to silence under `config`; none is known.
pub fn silent_frame(_config: &aac::Config) -> Option<Bytes> {
    None
}

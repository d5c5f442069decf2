//! HLS (RFC 8216bis): the playlists that describe a [`crate::Presentation`], each a pure function
//! of it.
//!
//! Playlists are at `/live/{channel}/`, media at `/media/{broadcast}/{track}/`. All addresses are
//! relative, so that a prefix before either (a token, a CDN's) is kept.

pub(crate) mod media;
pub(crate) mod multivariant;

#[cfg(test)]
mod tests;

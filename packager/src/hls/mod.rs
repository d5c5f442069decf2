//! HLS (RFC 8216bis): the playlists that describe a [`crate::Presentation`], each a pure function of it.
//!
//! Playlists lie side by side at `/live/{channel}/`; media at `/media/{broadcast}/{track}/`. All addresses are relative, so that a
//! prefix before either (a token, a CDN's) is kept.

pub(crate) mod media;
pub(crate) mod multivariant;

/// EXT-X-VERSION of every playlist: EXT-X-SKIP asks for 9 (RFC 8216bis 8).
const VERSION: u8 = 9;
/// EXT-X-VERSION of a delta update that may leave out date ranges.
const VERSION_V2: u8 = 10;

#[cfg(test)]
mod tests;

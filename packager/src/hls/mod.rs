//! HLS (RFC 8216bis): the playlists that describe a [`crate::Presentation`].

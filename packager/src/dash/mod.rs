//! DASH (ISO/IEC 23009-1, DASH-IF IOP): the manifests that describe a [`crate::Presentation`], each
//! a pure function of it.
//!
//! - `mpd`: the parts common to both manifests; `manifest`: low latency; `plain`: whole segments.
//!
//! Manifests are at `/live/{channel}/`, media at `/media/{broadcast}/{track}/`, the clock at
//! `/time`. All addresses are relative, so that a prefix before them (a token, a CDN's) is kept.
//! Nothing is escaped, because names, identities and codec strings have no character that XML must
//! escape.

pub(crate) mod manifest;
mod mpd;
pub(crate) mod plain;

#[cfg(test)]
mod tests;

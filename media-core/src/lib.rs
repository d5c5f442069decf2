//! media-core

//! ingest-rtmp

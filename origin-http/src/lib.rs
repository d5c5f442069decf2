//! origin-http

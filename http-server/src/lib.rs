//! HTTP/1.1, HTTP/2 and HTTP/3: the protocols, without knowledge of the served content.

#![forbid(unsafe_code)]

pub mod authority;
pub mod cork;
pub mod date;
pub mod priority;
pub mod yield_once;

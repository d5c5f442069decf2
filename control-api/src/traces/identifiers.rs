//! The identifiers of a span, and the header that carries them.

/// The header that names the caller's span (W3C Trace Context, 3.2).
pub const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// The identifiers of the active span, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// 32 digits.
    pub trace: String,
    /// 16 digits.
    pub span: String,
}

//! Hints for publishers whose stream key is not accepted.

/// A hint for a key with characters that keys rarely contain; it shows none of them.
pub(super) fn hint(key: &str) -> &'static str {
    match key.contains(|c: char| c.is_whitespace() || c.is_control()) || key.contains("//") {
        true => {
            "; it contains a space, a line end or an address: enter only the stream key in its \
             field"
        }
        false => "",
    }
}

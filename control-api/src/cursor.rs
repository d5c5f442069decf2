//! Cursors of lists: opaque to clients, bound to one list, and checked.
//!
//! The text is base64url (RFC 4648 5) without padding of: one byte of version, four bytes of check,
//! and the key of the last entry of the page. The check is the start of SHA-256 over the version,
//! the name of the list and the key: it finds cursors that were cut, changed or taken from another
//! list. It is no secret, so a cursor may only hold what its reader may know, and permissions are
//! checked for each page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::problem::{Kind, Problem};

/// Maximum length of a cursor's text in bytes.
pub const MAX_BYTES: usize = 256;
/// Maximum length of a key: the text of it and its head has [`MAX_BYTES`].
pub const MAX_KEY_BYTES: usize = MAX_BYTES / 4 * 3 - HEAD;
/// The version of the format.
const VERSION: u8 = 1;
/// Bytes of the check.
const CHECK: usize = 4;
/// Bytes before the key.
const HEAD: usize = 1 + CHECK;

/// The text of the cursor after the entry with this key, in the list of this name.
///
/// # Errors
/// 500 if the key is longer than [`MAX_KEY_BYTES`], which is a fault of the route.
pub fn write(list: &'static str, key: &[u8]) -> Result<String, Problem> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Problem::new(Kind::Internal, "the key of this list is too long for a cursor"));
    }
    let mut bytes = Vec::with_capacity(HEAD + key.len());
    bytes.push(VERSION);
    bytes.extend(check(list, key));
    bytes.extend(key);
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The key of a cursor of this list.
///
/// # Errors
/// 400 if the text is no cursor of this list.
pub fn parse(list: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    let key = || {
        // Before it is decoded, so that the allocation is bounded.
        let bytes = (text.len() <= MAX_BYTES).then(|| URL_SAFE_NO_PAD.decode(text).ok())??;
        let (&version, rest) = bytes.split_first()?;
        let (found, key) = rest.split_at_checked(CHECK)?;
        (version == VERSION && found == check(list, key)).then(|| key.to_vec())
    };
    key().ok_or_else(|| {
        let words = "this is no cursor of this list: send `next` of the previous page unchanged";
        Problem::new(Kind::InvalidCursor, words)
    })
}

/// The check of a key in a list.
fn check(list: &'static str, key: &[u8]) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(list);
    // No name of a list has this byte, so that name and key cannot be shifted.
    hash.update([0]);
    hash.update(key);
    let digest: [u8; 32] = hash.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_returns_its_key_to_its_own_list_only() {
        for key in [&b""[..], b"demo", &[0xff; MAX_KEY_BYTES]] {
            let text = write("streams", key).unwrap();
            assert!(text.len() <= MAX_BYTES, "{}", text.len());
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            assert_eq!(parse("streams", &text).unwrap(), key);
            assert!(parse("channels", &text).is_err());
        }
        assert!(write("streams", &[0; MAX_KEY_BYTES + 1]).is_err());
    }

    #[test]
    fn a_cursor_that_was_cut_or_changed_is_refused() {
        let text = write("streams", b"demo").unwrap();
        for end in 0..text.len() {
            assert!(parse("streams", &text[..end]).is_err(), "{}", &text[..end]);
        }
        for at in 0..text.len() {
            for replacement in ["A", "x", "_"] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, replacement);
                assert!(changed == text || parse("streams", &changed).is_err(), "{changed}");
            }
        }
        for text in ["", "demo", "=", "é", "AQ==", &"A".repeat(MAX_BYTES + 1)] {
            assert_eq!(parse("streams", text).unwrap_err().kind(), Kind::InvalidCursor, "{text}");
        }
    }
}

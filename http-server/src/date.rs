//! The Date field of responses (RFC 9110 6.6.1), formatted once a second in each thread, for
//! protocols whose implementation does not add one.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

/// Every Date has this length.
const EPOCH: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

thread_local! {
    /// The last second, as a Unix time, and its Date.
    static LAST: RefCell<(u64, [u8; EPOCH.len()])> = const { RefCell::new((0, *EPOCH)) };
}

/// The current Date as a header value.
pub(crate) fn value() -> HeaderValue {
    with(HeaderValue::from_bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Calls `borrow` with the current Date.
pub(crate) fn with<T>(borrow: impl FnOnce(&[u8]) -> T) -> T {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let second = since_epoch.unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, date)| {
        if *last != second {
            (*last, *date) = (second, text(second));
        }
        borrow(date)
    })
}

fn text(second: u64) -> [u8; EPOCH.len()] {
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    date.as_bytes().try_into().unwrap_or(*EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_the_standard_has_it_and_is_this_second_s() {
        assert_eq!(&text(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let before = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let first = value();
        assert!((before..before + 5).any(|second| first.as_bytes() == text(second)));
        assert!(with(|date| (before..before + 5).any(|second| date == text(second))));
    }
}

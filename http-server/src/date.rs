//! The Date field of responses (RFC 9110 6.6.1), formatted once a second in each thread.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

thread_local! {
    /// The last second, as a Unix time, and its Date.
    static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// The current Date as a header value. All of a second share their bytes.
pub(crate) fn value() -> HeaderValue {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let second = since_epoch.unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|last| match last {
        Some((known, date)) if *known == second => date.clone(),
        _ => last.insert((second, text(second))).1.clone(),
    })
}

fn text(second: u64) -> HeaderValue {
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    HeaderValue::try_from(date)
        .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_field_is_an_imf_fixdate_of_the_current_second() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for date in [value(), value()] {
            assert!((before..before + 5).any(|second| date == text(second)));
        }
    }
}

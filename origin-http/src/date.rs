//! The Date of answers (RFC 9110 6.6.1), written once a second, where no machine of others has its own.

use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;

/// The Date of the last answer.
#[derive(Debug)]
pub(crate) struct Date(ArcSwap<(u64, HeaderValue)>);

impl Default for Date {
    fn default() -> Self {
        Self(ArcSwap::from_pointee((0, text(0))))
    }
}

impl Date {
    pub(crate) fn now(&self) -> HeaderValue {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let second = since_epoch.unwrap_or_default().as_secs();
        let known = self.0.load();
        if known.0 == second {
            return known.1.clone();
        }
        let value = text(second);
        self.0.store((second, value.clone()).into());
        value
    }
}

fn text(second: u64) -> HeaderValue {
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_the_standard_has_it_and_only_once() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        let date = Date::default();
        let before = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let first = date.now();
        assert!((before..before + 5).any(|second| first == text(second)));
    }
}

//! The wall clock as text: for players that set their clock with it (ISO/IEC 23009-1 5.8.4.11,
//! `urn:mpeg:dash:utc:http-iso:2014`), and for the access log.

use std::time::SystemTime;

/// `utc` as an xs:dateTime with milliseconds, for example `2026-05-01T12:00:00.250Z`.
pub(crate) fn iso(utc: SystemTime) -> String {
    humantime::format_rfc3339_millis(utc.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// `utc` in the Common Log Format, for example `01/May/2026:12:00:00 +0000`.
pub(crate) fn common(utc: SystemTime) -> String {
    // IMF-fixdate (RFC 9110 5.6.7) has the same fields: `Fri, 01 May 2026 12:00:00 GMT`.
    let date = httpdate::fmt_http_date(utc.max(SystemTime::UNIX_EPOCH));
    let mut fields = date.split_ascii_whitespace().skip(1);
    let mut next = || fields.next().unwrap_or_default();
    format!("{}/{}/{}:{} +0000", next(), next(), next(), next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timestamps_are_written_as_utc_calendar_dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_164_800_250, "2024-02-29T00:00:00.250Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)), text);
        }
        let at = |ms| common(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(at(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(at(1_709_164_800_250), "29/Feb/2024:00:00:00 +0000");
        assert_eq!(at(1_735_689_599_001), "31/Dec/2024:23:59:59 +0000");
    }
}

//! Whether a client accepts gzip (RFC 9110 12.5.3). Pure.

use http::{HeaderMap, header::ACCEPT_ENCODING};

/// Whether the request's Accept-Encoding accepts gzip: by its name, or by `*` if it is not listed.
/// Without the header the text is not compressed, because not every player decompresses.
///
/// Source: RFC 9110 12.5.3.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for coding in value.as_bytes().split(|&byte| byte == b',') {
            let mut parameters = coding.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parameters.next().unwrap_or_default();
            let wanted = !parameters.any(is_zero_weight);
            // The name is more specific than `*`, wherever it stands in the list.
            if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
                return wanted;
            }
            any |= name == b"*" && wanted;
        }
    }
    any
}

/// `q=0`, `q=0.`, `q=0.000`: not acceptable (12.4.2).
fn is_zero_weight(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', rest @ ..] => rest.iter().all(|&digit| digit == b'0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn accepts(values: &[&[u8]]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_bytes(value).unwrap());
        }
        accepts_gzip(&headers)
    }

    #[test]
    fn gzip_is_accepted_if_it_or_the_wildcard_has_a_nonzero_weight() {
        for value in [
            "gzip",
            "GZIP",
            "deflate, gzip;q=0.5, br",
            "x-gzip",
            "br;q=1, *",
            "gzip ; q=0.001",
            "*;q=0, gzip",
            "gzip;q=1.0",
        ] {
            assert!(accepts(&[value.as_bytes()]), "{value}");
        }
        for value in [
            "",
            "identity",
            "gzip;q=0",
            "gzip;q=0.0",
            "gzip; Q=0.000",
            "*;q=0",
            "gzip;q=0, *",
            "gzippy",
            "br",
        ] {
            assert!(!accepts(&[value.as_bytes()]), "{value}");
        }
        assert!(!accepts(&[]));
        assert!(accepts(&[b"br", b"gzip"]));
    }

    proptest! {
        #[test]
        fn arbitrary_field_values_never_panic(value in "[ -~]*") {
            let _ = accepts(&[value.as_bytes()]);
        }
    }
}

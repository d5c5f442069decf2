//! The host and port of a request: validates a Host field or `:authority`. Pure.
//!
//! RFC 3986 3.2.2 and 3.2.3 (host, port), RFC 9110 4.2.1 (an empty host is invalid) and 4.2.4 (user
//! information is refused), 7.2 (Host).

use std::net::Ipv6Addr;

/// Whether `text` is `uri-host [ ":" port ]` with a host that is not empty. A port is at most 65
/// 535; user information (`user@`) is invalid.
///
/// Source: RFC 9110 7.2 (Host), 4.2.1 (empty host) and 4.2.4 (user information); RFC 9113 8.3.1 and
/// RFC 9114 4.3.1 (`:authority`).
pub fn is_valid(text: &[u8]) -> bool {
    // Only an address in brackets may contain colons, so in all other hosts the first colon begins
    // the port.
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let (literal, port) = (&rest[..end], &rest[end + 1..]);
            return is_ip_literal(literal) && is_port(port);
        }
        _ => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            text.split_at(end)
        }
    };
    is_reg_name(host) && is_port(port)
}

/// Removes the port if it is the default one of `scheme` (443 for `https`, 80 for `http`), so that
/// equal origins have equal bytes. Other texts are returned unchanged.
///
/// Source: RFC 9110 4.2.3.
pub fn without_default_port<'a>(text: &'a [u8], scheme: &str) -> &'a [u8] {
    let port: &[u8] = match scheme {
        "https" => b":443",
        "http" => b":80",
        _ => return text,
    };
    text.strip_suffix(port).unwrap_or(text)
}

/// `*( unreserved / pct-encoded / sub-delims )`, not empty. Includes IPv4 addresses. Source: RFC
/// 3986 3.2.2.
fn is_reg_name(mut host: &[u8]) -> bool {
    if host.is_empty() {
        return false;
    }
    while let [first, rest @ ..] = host {
        host = match (first, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            (&byte, rest) if is_plain(byte) => rest,
            _ => return false,
        };
    }
    true
}

/// Whether the byte is `unreserved` or one of the `sub-delims`. Source: RFC 3986 2.2 and 2.3.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// An IPv6 address, or `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`, without the
/// brackets. Source: RFC 3986 3.2.2.
fn is_ip_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = text {
        let Some(dot) = rest.iter().position(|&byte| byte == b'.') else {
            return false;
        };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        let plain = |&byte: &u8| is_plain(byte) || byte == b':';
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(plain);
    }
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Empty, or `":" *DIGIT`. A port may be empty (RFC 3986 3.2.3), but a number above 65 535 is none.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            let number = digits.iter().try_fold(0_u32, |number, digit| {
                let digit = char::from(*digit).to_digit(10)?;
                Some(number * 10 + digit).filter(|&number| number <= 65_535)
            });
            number.is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_authorities_are_accepted() {
        for text in [
            "origin",
            "live.example.com",
            "live.example.com.:443",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:8443",
            "[::ffff:192.0.2.1]:80",
            "[v1.fe80::a+en1]",
            "a_b-c~d",
            "a:",
            "a:0",
            "a:0065535",
            "xn--bcher-kva.example",
            "a%2Fb",
        ] {
            assert!(is_valid(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn invalid_authorities_are_refused() {
        for text in [
            "",
            ":80",
            "###",
            "a b",
            "a/b",
            "u@a",
            "u:p@a",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:65536",
            "a:99999999999999999999",
            "[::1",
            "::1",
            "[]",
            "[::1]80",
            "[::1]]",
            "[::g]",
            "[fe80::1%25en0]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "a?b",
            "a#b",
            "a%zz",
            "a%2",
            "a%",
            "a\\b",
            "a\"b",
            "<a>",
            "http://a",
            "b\u{fc}cher",
            "a\u{7f}",
        ] {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn authorities_that_the_http_crate_refuses_are_refused(text in "[ -~]{0,24}") {
            // The library supports neither IPvFuture nor, in a host, percent-encoding.
            let beyond_it = text.starts_with("[v") || text.starts_with("[V") || text.contains('%');
            if is_valid(text.as_bytes()) && !beyond_it {
                prop_assert!(text.parse::<http::uri::Authority>().is_ok());
            }
        }
    }
}

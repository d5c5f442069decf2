//! The application and the stream that a peer addresses. Pure. People write addresses in many ways,
//! and one daemon serves one application, so these are understood too: `live/KEY` with an empty
//! key, `live/instance`, `live/_definst_`, `LIVE`, a whole URL as the key, and spaces, line ends or
//! slashes around a name.
//!
//! RTMP 1.0 section 7.2.1.1 (`app`), 7.2.2.6 (`publish`).

/// The default instance of Adobe's server.
const DEFAULT_INSTANCE: &str = "_definst_";

/// The rest of `asked`, the `app` of `connect`, after the application, without its query; `None` if
/// it names another application. An empty `app` means the served application.
pub(crate) fn after_app<'a>(served: &str, asked: &'a str) -> Option<&'a str> {
    let asked = trim(asked);
    if asked.is_empty() {
        return Some("");
    }
    let (first, rest) = asked.split_once('/').unwrap_or((asked, ""));
    trim(first).eq_ignore_ascii_case(served).then(|| trim(rest))
}

/// The stream that `name`, the argument of `publish` or `play`, and `after_app`, the text after the
/// application, name together. Empty if they name none.
pub(crate) fn stream<'a>(served: &str, after_app: &'a str, name: &'a str) -> &'a str {
    let mut name = trim(without_authority(trim(name)));
    while let Some((first, rest)) = name.split_once('/')
        && (first.eq_ignore_ascii_case(served) || first == DEFAULT_INSTANCE)
    {
        name = trim(rest);
    }
    // Without a name the stream key may be in the application: it is there if it was entered as a
    // part of the server's URL.
    match name {
        "" | DEFAULT_INSTANCE => trim(after_app)
            .rsplit('/')
            .map(trim)
            .find(|segment| !matches!(*segment, "" | DEFAULT_INSTANCE))
            .unwrap_or_default(),
        name => name,
    }
}

/// The path of an RTMP URL; any other text unchanged.
fn without_authority(text: &str) -> &str {
    match text.split_once("://") {
        Some((scheme, rest))
            if ["rtmp", "rtmps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) =>
        {
            rest.split_once('/').map_or("", |(_, path)| path)
        }
        _ => text,
    }
}

/// Without surrounding white space, control characters and slashes, which are copied along with an
/// address.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_matches_in_any_case_and_the_rest_of_its_path_is_returned() {
        for (asked, rest) in [
            ("live", Some("")),
            ("LIVE", Some("")),
            ("/live/", Some("")),
            (" live\n", Some("")),
            ("live/instance", Some("instance")),
            ("live/_definst_", Some("_definst_")),
            ("Live//KEY/", Some("KEY")),
            ("", Some("")),
            ("/", Some("")),
            ("other", None),
            ("lively", None),
            ("other/live", None),
        ] {
            assert_eq!(after_app("live", asked), rest, "{asked:?}");
        }
    }

    #[test]
    fn the_stream_name_is_found_behind_instances_addresses_and_whitespace() {
        for (after, name, stream_name) in [
            ("", "KEY", "KEY"),
            ("", "/KEY/", "KEY"),
            ("", " KEY\r\n", "KEY"),
            ("", "\u{feff}KEY\u{a0}", "\u{feff}KEY"),
            ("KEY", "", "KEY"),
            ("instance", "KEY", "KEY"),
            ("_definst_", "KEY", "KEY"),
            ("_definst_/KEY", "", "KEY"),
            ("KEY/_definst_", "", "KEY"),
            ("", "_definst_/KEY", "KEY"),
            ("", "live/KEY", "KEY"),
            ("", "LIVE/_definst_/KEY", "KEY"),
            ("", "rtmp://example.com/live/KEY", "KEY"),
            ("", "RTMPS://example.com:1936/live/KEY", "KEY"),
            ("", "a/b", "a/b"),
            ("", "live", "live"),
            ("", "", ""),
            ("_definst_", "", ""),
            ("", "_definst_", ""),
            ("", "rtmp://example.com", ""),
            ("", " / ", ""),
        ] {
            assert_eq!(stream("live", after, name), stream_name, "{after:?} {name:?}");
        }
    }
}

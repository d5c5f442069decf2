//! The watch page and its files, from `web/`, embedded in the binary.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use origin_http::{StaticFile, StaticFiles};

/// All files, compressed once.
pub(crate) fn watch() -> StaticFiles {
    let script = |text: &'static str| page("text/javascript; charset=utf-8", text);
    // The license must accompany the copy of hls.js, so it is served too.
    StaticFiles {
        watch: page("text/html; charset=utf-8", include_str!("../web/watch.html")),
        assets: vec![
            ("watch.css", page("text/css; charset=utf-8", include_str!("../web/watch.css"))),
            ("watch.js", script(include_str!("../web/watch.js"))),
            ("channel.js", script(include_str!("../web/channel.js"))),
            ("hls.min.js", script(include_str!("../web/hls.js/hls.min.js"))),
            (
                "hls.js.LICENSE.txt",
                page("text/plain; charset=utf-8", include_str!("../web/hls.js/LICENSE")),
            ),
        ],
    }
}

/// A file with its compressed form, which most clients accept.
fn page(content_type: &'static str, text: &'static str) -> StaticFile {
    StaticFile::new(content_type, Bytes::from_static(text.as_bytes()), gzip(text.as_bytes()))
}

/// The compressed bytes, unless they are not smaller.
fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < bytes.len()).then(|| compressed.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_loads_only_served_assets() {
        let served: Vec<&str> = super::watch().assets.iter().map(|(name, _)| *name).collect();
        let html = include_str!("../web/watch.html");
        let script = include_str!("../web/watch.js");
        let loaded: Vec<&str> =
            [(html, "src=\"", '"'), (html, "href=\"", '"'), (script, " from './", '\'')]
                .into_iter()
                .flat_map(|(text, start, end)| {
                    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
                })
                .collect();
        assert!(loaded.len() >= 5);
        for name in loaded.into_iter().filter(|name| !name.starts_with("data:")) {
            assert!(served.contains(&name), "{name}");
        }
        assert!(
            !html.contains("<style") && !html.contains(" style="),
            "the page's policy forbids inline styles"
        );
    }
}

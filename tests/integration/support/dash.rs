//! A reader of our DASH manifests (ISO/IEC 23009-1), for the parts that the tests check.

use super::playlist::resolve;
use roxmltree::{Document, Node};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The namespace of every element of a manifest.
pub(crate) const NAMESPACE: &str = "urn:mpeg:dash:schema:mpd:2011";

/// A segment in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Presentation time in ticks of the set's timescale, and duration.
    pub(crate) start: u64,
    pub(crate) duration: u64,
    pub(crate) path: String,
}

/// The segments of one representation in one period.
#[derive(Debug, Clone)]
pub(crate) struct Representation {
    pub(crate) id: String,
    pub(crate) content_type: String,
    pub(crate) timescale: u64,
    pub(crate) init: String,
    pub(crate) segments: Vec<Segment>,
}

/// The representations of a manifest at `base` with a SegmentTimeline, in document order.
#[track_caller]
pub(crate) fn timeline(base: &str, text: &str) -> Vec<Representation> {
    let document = parse(text);
    let mut found = Vec::new();
    for (set, representation, template) in templates(&document) {
        let timescale = number(template, "timescale").unwrap_or(1);
        let media = template.attribute("media").expect("@media");
        let id = representation.attribute("id").expect("@id");
        let timeline = child(template, "SegmentTimeline").expect("a SegmentTimeline");
        let mut number = number(template, "startNumber").unwrap_or(1);
        let (mut time, mut segments) = (None, Vec::new());
        for s in timeline.children().filter(Node::is_element) {
            assert_eq!(s.tag_name().name(), "S");
            if let Some(start) = self::number(s, "t") {
                assert!(time.is_none_or(|time| time <= start), "5.3.9.6: the timeline goes back");
                time = Some(start);
            }
            let duration = self::number(s, "d").expect("S@d");
            for _ in 0..=self::number(s, "r").unwrap_or(0) {
                let start = time.unwrap_or(0);
                let path = resolve(base, &expand(media, id, number, start));
                segments.push(Segment { number, start, duration, path });
                time = Some(start + duration);
                number += 1;
            }
        }
        let init = resolve(
            base,
            &expand(template.attribute("initialization").expect("@initialization"), id, 0, 0),
        );
        let content_type = set.attribute("contentType").expect("@contentType").to_owned();
        found.push(Representation { id: id.to_owned(), content_type, timescale, init, segments });
    }
    found
}

/// The representations of a manifest at `base` whose segments are counted by `@duration`:
/// `$Number$` = `startNumber` + n. The segments are those from `startNumber` on for which `exists`
/// is true, at most `most`.
#[track_caller]
pub(crate) fn numbered(
    base: &str,
    text: &str,
    most: u64,
    mut exists: impl FnMut(&str) -> bool,
) -> Vec<Representation> {
    let document = parse(text);
    let mut found = Vec::new();
    for (set, representation, template) in templates(&document) {
        let timescale = number(template, "timescale").unwrap_or(1);
        let duration = number(template, "duration").expect("@duration");
        let first = number(template, "startNumber").unwrap_or(1);
        let offset = number(template, "presentationTimeOffset").unwrap_or(0);
        let id = representation.attribute("id").expect("@id");
        let media = template.attribute("media").expect("@media");
        let mut segments = Vec::new();
        for n in 0..most {
            let path = resolve(base, &expand(media, id, first + n, 0));
            if !exists(&path) {
                break;
            }
            segments.push(Segment {
                number: first + n,
                start: offset + n * duration,
                duration,
                path,
            });
        }
        let init = resolve(
            base,
            &expand(template.attribute("initialization").expect("@initialization"), id, 0, 0),
        );
        let content_type = set.attribute("contentType").expect("@contentType").to_owned();
        found.push(Representation { id: id.to_owned(), content_type, timescale, init, segments });
    }
    found
}

/// Asserts that a manifest is valid: against mpd.xsd, which permits only elements of the standard's
/// schema; and against that schema itself if DASH_MPD_XSD names a copy of it, which we may not
/// distribute.
#[track_caller]
pub(crate) fn assert_valid(text: &str) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/mpd.xsd");
    let theirs = std::env::var_os("DASH_MPD_XSD").map(PathBuf::from);
    for schema in [Some(ours), theirs].into_iter().flatten() {
        let mut command = Command::new("xmllint");
        command.args(["--nonet", "--noout", "--schema"]).arg(&schema).arg("-");
        let mut xmllint =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("xmllint");
        let mut stdin = xmllint.stdin.take().expect("stdin is piped");
        stdin.write_all(text.as_bytes()).expect("xmllint reads its input");
        drop(stdin);
        let output = xmllint.wait_with_output().expect("xmllint");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}\n{text}", schema.display());
    }
}

#[track_caller]
pub(crate) fn parse(text: &str) -> Document<'_> {
    let document = Document::parse(text).unwrap_or_else(|err| panic!("{err} in {text}"));
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "MPD");
    assert_eq!(root.tag_name().namespace(), Some(NAMESPACE));
    document
}

/// Every representation with its set and its SegmentTemplate, period by period.
fn templates<'a, 'd>(
    document: &'a Document<'d>,
) -> Vec<(Node<'a, 'd>, Node<'a, 'd>, Node<'a, 'd>)> {
    let named = |node: Node<'a, 'd>, name: &'static str| {
        node.children().filter(move |child| child.has_tag_name((NAMESPACE, name)))
    };
    let mut found = Vec::new();
    for period in named(document.root_element(), "Period") {
        for set in named(period, "AdaptationSet") {
            for representation in named(set, "Representation") {
                let template = child(representation, "SegmentTemplate")
                    .or_else(|| child(set, "SegmentTemplate"))
                    .expect("a SegmentTemplate");
                found.push((set, representation, template));
            }
        }
    }
    found
}

pub(crate) fn child<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|child| child.tag_name().name() == name)
}

#[track_caller]
fn number(node: Node<'_, '_>, attribute: &str) -> Option<u64> {
    node.attribute(attribute)
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{attribute}={value:?}")))
}

/// A template with its identifiers filled in (5.3.9.4.4); we use no formats with a width.
fn expand(template: &str, id: &str, number: u64, time: u64) -> String {
    template
        .replace("$RepresentationID$", id)
        .replace("$Number$", &number.to_string())
        .replace("$Time$", &time.to_string())
}

//! A strict parser of HLS playlists (draft-pantos-hls-rfc8216bis): a tag, an attribute or an order
//! that the draft does not define panics with the line.

use std::collections::BTreeMap;

/// The attributes of one tag (4.2): values with their quotes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attributes(BTreeMap<String, String>);

impl Attributes {
    #[track_caller]
    fn parse(text: &str, known: &[&str]) -> Self {
        let mut attributes = BTreeMap::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (name, after) =
                rest.split_once('=').unwrap_or_else(|| panic!("no attribute: {rest:?}"));
            assert!(known.contains(&name), "unknown attribute {name} in {text}");
            let end = match after.strip_prefix('"') {
                Some(quoted) => {
                    quoted.find('"').unwrap_or_else(|| panic!("no closing quote: {text}")) + 2
                }
                None => after.find(',').unwrap_or(after.len()),
            };
            let (value, after) = after.split_at(end);
            assert!(
                !value.is_empty() && !value.contains(' ') || value.starts_with('"'),
                "{name}={value:?} in {text}"
            );
            assert_eq!(
                attributes.insert(name.to_owned(), value.to_owned()),
                None,
                "{name} twice in {text}"
            );
            rest = match after.strip_prefix(',') {
                Some(rest) => rest,
                None => {
                    assert_eq!(after, "", "in {text}");
                    after
                }
            };
        }
        Self(attributes)
    }

    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    #[track_caller]
    pub(crate) fn quoted(&self, name: &str) -> Option<String> {
        let unquote = |value: &str| {
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).map(str::to_owned)
        };
        self.raw(name)
            .map(|value| unquote(value).unwrap_or_else(|| panic!("{name}={value} wants quotes")))
    }

    #[track_caller]
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.raw(name)
            .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
    }

    #[track_caller]
    fn is_yes(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| {
            assert!(value == "YES" || value == "NO", "{name}={value}");
            value == "YES"
        })
    }
}

/// A media playlist.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Media {
    pub(crate) version: u32,
    pub(crate) target_duration: u32,
    pub(crate) part_target: Option<f64>,
    pub(crate) control: Control,
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) independent_segments: bool,
    /// Number of segments that a delta update leaves out.
    pub(crate) skipped: u64,
    pub(crate) segments: Vec<Segment>,
    /// The parts of the segment that is not complete.
    pub(crate) open: Segment,
    pub(crate) hinted_part: Option<String>,
    pub(crate) hinted_map: Option<String>,
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: bool,
}

/// EXT-X-SERVER-CONTROL (4.4.3.8); seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Control {
    pub(crate) can_block_reload: bool,
    pub(crate) hold_back: Option<f64>,
    pub(crate) part_hold_back: Option<f64>,
    pub(crate) can_skip_until: Option<f64>,
}

/// One media segment; `uri` and `duration` are empty while it is open.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) msn: u64,
    pub(crate) duration: f64,
    pub(crate) uri: String,
    pub(crate) gap: bool,
    pub(crate) discontinuity: bool,
    pub(crate) date_time: Option<String>,
    /// The header in effect; `None` if a delta update has left out its tag.
    pub(crate) map: Option<String>,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
}

/// EXT-X-RENDITION-REPORT (4.4.5.4).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) uri: String,
    pub(crate) last_msn: u64,
    pub(crate) last_part: Option<u64>,
}

impl Media {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut once = BTreeMap::new();
        let mut media = Self {
            version: 1,
            target_duration: 0,
            part_target: None,
            control: Control::default(),
            media_sequence: 0,
            discontinuity_sequence: 0,
            independent_segments: false,
            skipped: 0,
            segments: Vec::new(),
            open: Segment::default(),
            hinted_part: None,
            hinted_map: None,
            reports: Vec::new(),
            ended: false,
        };
        let mut segment = Segment::default();
        let mut has_duration = false;
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"), "4.4.1.1: the first line");
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let attributes = |known: &[&str]| Attributes::parse(value, known);
            if !tag.starts_with('#') {
                assert!(!line.is_empty(), "an empty line");
                assert!(has_duration, "no EXTINF before {line}");
                segment.uri = line.to_owned();
                segment.msn = media.media_sequence + media.skipped + media.segments.len() as u64;
                let map = segment.map.clone();
                media.segments.push(std::mem::take(&mut segment));
                segment.map = map;
                has_duration = false;
                continue;
            }
            let header = matches!(
                tag,
                "#EXT-X-VERSION"
                    | "#EXT-X-TARGETDURATION"
                    | "#EXT-X-PART-INF"
                    | "#EXT-X-SERVER-CONTROL"
                    | "#EXT-X-MEDIA-SEQUENCE"
                    | "#EXT-X-DISCONTINUITY-SEQUENCE"
                    | "#EXT-X-INDEPENDENT-SEGMENTS"
                    | "#EXT-X-SKIP"
                    | "#EXT-X-ENDLIST"
            );
            if header {
                assert_eq!(once.insert(tag, line), None, "{tag} twice");
                let early = media.segments.is_empty() && segment.parts.is_empty();
                assert!(early || tag == "#EXT-X-ENDLIST", "{tag} stands before the segments");
            }
            let integer = || value.parse::<u64>().unwrap_or_else(|_| panic!("{line}: no integer"));
            match tag {
                "#EXT-X-VERSION" => media.version = value.parse().expect("a version"),
                "#EXT-X-TARGETDURATION" => {
                    media.target_duration = value.parse().expect("whole seconds")
                }
                "#EXT-X-MEDIA-SEQUENCE" => media.media_sequence = integer(),
                "#EXT-X-DISCONTINUITY-SEQUENCE" => media.discontinuity_sequence = integer(),
                "#EXT-X-INDEPENDENT-SEGMENTS" => media.independent_segments = true,
                "#EXT-X-ENDLIST" => media.ended = true,
                "#EXT-X-PART-INF" => {
                    media.part_target = attributes(&["PART-TARGET"]).number("PART-TARGET")
                }
                "#EXT-X-SERVER-CONTROL" => media.control = Control::of(&attributes(Control::KNOWN)),
                "#EXT-X-SKIP" => {
                    let attributes =
                        attributes(&["SKIPPED-SEGMENTS", "RECENTLY-REMOVED-DATERANGES"]);
                    media.skipped = attributes
                        .number("SKIPPED-SEGMENTS")
                        .expect("SKIPPED-SEGMENTS is required");
                }
                "#EXT-X-DISCONTINUITY" => {
                    assert!(
                        segment.parts.is_empty(),
                        "{tag} stands before the segment's first part"
                    );
                    segment.discontinuity = true;
                }
                "#EXT-X-MAP" => {
                    assert!(
                        segment.parts.is_empty(),
                        "{tag} stands before the segment's first part"
                    );
                    segment.map = attributes(&["URI", "BYTERANGE"]).quoted("URI");
                    assert!(segment.map.is_some(), "{line}: URI is required");
                }
                "#EXT-X-PROGRAM-DATE-TIME" => {
                    assert!(
                        segment.parts.is_empty(),
                        "{tag} stands before the segment's first part"
                    );
                    segment.date_time = Some(value.to_owned());
                }
                "#EXT-X-GAP" => segment.gap = true,
                "#EXT-X-PART" => {
                    assert!(media.hinted_part.is_none(), "a part after the preload hint");
                    segment.parts.push(Part::of(&attributes(Part::KNOWN)));
                }
                "#EXTINF" => {
                    let duration = value
                        .strip_suffix(',')
                        .unwrap_or_else(|| panic!("{line}: a comma after the duration"));
                    segment.duration = duration.parse().expect("seconds");
                    has_duration = true;
                }
                "#EXT-X-PRELOAD-HINT" => {
                    let attributes =
                        attributes(&["TYPE", "URI", "BYTERANGE-START", "BYTERANGE-LENGTH"]);
                    let uri = attributes.quoted("URI").expect("URI is required");
                    let slot = match attributes.raw("TYPE") {
                        Some("PART") => &mut media.hinted_part,
                        Some("MAP") => &mut media.hinted_map,
                        other => panic!("{line}: TYPE {other:?}"),
                    };
                    assert_eq!(slot.replace(uri), None, "{line}: one hint of a type");
                }
                "#EXT-X-RENDITION-REPORT" => {
                    let attributes = attributes(&["URI", "LAST-MSN", "LAST-PART"]);
                    media.reports.push(Report {
                        uri: attributes.quoted("URI").expect("URI is required"),
                        last_msn: attributes.number("LAST-MSN").expect("LAST-MSN is required"),
                        last_part: attributes.number("LAST-PART"),
                    });
                }
                _ => panic!("unknown tag: {line}"),
            }
        }
        assert!(
            once.contains_key("#EXT-X-TARGETDURATION"),
            "4.4.3.1: a target duration is required"
        );
        assert!(!has_duration, "an EXTINF without its segment");
        segment.msn = media.next_msn();
        media.open = segment;
        media
    }

    /// The number of the segment that follows the last complete one.
    pub(crate) fn next_msn(&self) -> u64 {
        self.media_sequence + self.skipped + self.segments.len() as u64
    }

    /// The last listed part: its segment's number and its index there; `None` if the newest segment
    /// has no listed parts.
    pub(crate) fn last_part(&self) -> Option<(u64, u64)> {
        let segment = if self.open.parts.is_empty() { self.segments.last()? } else { &self.open };
        Some((segment.msn, (segment.parts.len() as u64).checked_sub(1)?))
    }

    /// All segments, the open one too.
    pub(crate) fn with_open(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().chain([&self.open])
    }

    /// A delta update completed from an older playlist (6.3.7).
    #[track_caller]
    pub(crate) fn filled_from(&self, older: &Self) -> Self {
        let skipped = self.media_sequence..self.media_sequence + self.skipped;
        let mut segments: Vec<Segment> = older
            .segments
            .iter()
            .filter(|segment| skipped.contains(&segment.msn))
            .cloned()
            .collect();
        assert_eq!(
            segments.len() as u64,
            self.skipped,
            "the older playlist has the skipped segments"
        );
        for segment in &mut segments {
            // A full playlist would no longer list it.
            if !self.lists_parts_of(segment.msn) {
                segment.parts.clear();
            }
        }
        let mut map = segments.last().and_then(|segment| segment.map.clone());
        let mut filled = self.clone();
        for segment in filled.segments.iter_mut().chain([&mut filled.open]) {
            segment.map = segment.map.take().or_else(|| map.clone());
            map.clone_from(&segment.map);
        }
        segments.append(&mut filled.segments);
        Self { segments, skipped: 0, ..filled }
    }

    fn lists_parts_of(&self, msn: u64) -> bool {
        self.with_open().any(|segment| segment.msn == msn && !segment.parts.is_empty())
    }

    /// The rules for every single playlist of a live low-latency stream (rfc8216bis 4.4 and
    /// Appendix B).
    #[track_caller]
    pub(crate) fn assert_rules(&self) {
        let target = f64::from(self.target_duration);
        assert!(self.version >= if self.skipped > 0 { 9 } else { 6 }, "version {}", self.version);
        for segment in &self.segments {
            assert!(
                segment.duration.round() <= target,
                "4.4.3.1: {segment:?} in TARGETDURATION {target}"
            );
            assert!(segment.duration > 0.0, "{segment:?}");
            assert!(self.skipped > 0 || segment.map.is_some(), "fMP4 needs EXT-X-MAP: {segment:?}");
            assert!(
                !segment.uri.contains("//") && !segment.uri.starts_with('/'),
                "relative addresses only: {segment:?}"
            );
        }
        if self.skipped == 0 {
            let dated = self.segments.iter().filter(|segment| segment.date_time.is_some()).count();
            assert!(dated > 0, "6.2.1: EXT-X-PROGRAM-DATE-TIME");
        }
        if self.ended {
            assert_eq!(
                (&self.hinted_part, &self.hinted_map),
                (&None, &None),
                "nothing is hinted after the end"
            );
            return;
        }
        // 6.2.2: a live playlist is never shorter than three target durations, once it has been
        // that long.
        let part_target = self.part_target.expect("4.4.3.7: EXT-X-PART-INF where parts are");
        assert!(self.control.can_block_reload, "CAN-BLOCK-RELOAD");
        let hold_back = self.control.part_hold_back.expect("PART-HOLD-BACK is required");
        assert!(
            hold_back >= 3.0 * part_target - 1e-9,
            "PART-HOLD-BACK {hold_back} of PART-TARGET {part_target}"
        );
        assert!(
            self.control.hold_back.is_none_or(|hold_back| hold_back >= 3.0 * target),
            "HOLD-BACK"
        );
        assert!(
            self.control.can_skip_until.is_none_or(|until| until >= 6.0 * target),
            "CAN-SKIP-UNTIL"
        );
        let gaps = |part: Option<&Part>| part.is_some_and(|part| part.gap);
        for segment in self.with_open() {
            let complete = !segment.uri.is_empty();
            for (index, part) in segment.parts.iter().enumerate() {
                let last = complete && index + 1 == segment.parts.len();
                assert!(
                    part.duration <= part_target + 1e-9,
                    "{part:?} in PART-TARGET {part_target}"
                );
                let excused =
                    last || part.independent || part.gap || gaps(segment.parts.get(index + 1));
                // The newest part of the open segment may turn out to be its last one.
                let newest = !complete && index + 1 == segment.parts.len();
                assert!(
                    excused || newest || part.duration >= 0.85 * part_target - 1e-9,
                    "4.4.4.9: {part:?} of segment {} is below 85 % of PART-TARGET {part_target}",
                    segment.msn
                );
            }
            if complete && !segment.parts.is_empty() {
                let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
                let rounding = 0.001 * segment.parts.len() as f64;
                assert!(
                    (sum - segment.duration).abs() <= rounding,
                    "parts of {} s make up {segment:?}",
                    sum
                );
            }
        }
        let after: f64 = self.open.parts.iter().map(|part| part.duration).sum();
        let mut from_end = after;
        for segment in self.segments.iter().rev() {
            // Appendix B.1: parts are removed once they are more than three target durations from
            // the end; one segment of leeway.
            assert!(
                segment.parts.is_empty() || from_end <= 4.0 * target,
                "parts of segment {} linger",
                segment.msn
            );
            from_end += segment.duration;
        }
    }

    /// The rules between this playlist and an earlier one (6.2.1, 6.2.2).
    #[track_caller]
    pub(crate) fn assert_follows(&self, older: &Self) {
        assert!(self.media_sequence >= older.media_sequence, "EXT-X-MEDIA-SEQUENCE went back");
        assert!(
            self.discontinuity_sequence >= older.discontinuity_sequence,
            "EXT-X-DISCONTINUITY-SEQUENCE went back"
        );
        assert_eq!(
            self.target_duration, older.target_duration,
            "EXT-X-TARGETDURATION never changes"
        );
        assert_eq!(self.part_target, older.part_target, "PART-TARGET is fixed at the start");
        if !self.ended {
            assert_eq!(self.control, older.control, "EXT-X-SERVER-CONTROL never changes");
        }
        assert!(self.last_part() >= older.last_part() || self.ended, "the edge went back");
        for old in &older.segments {
            if let Some(new) = self.segments.iter().find(|segment| segment.msn == old.msn) {
                assert_eq!(
                    (&new.uri, new.duration, new.gap, new.discontinuity),
                    (&old.uri, old.duration, old.gap, old.discontinuity),
                    "a listed segment never changes"
                );
            }
        }
    }
}

impl Control {
    const KNOWN: &[&str] = &[
        "CAN-BLOCK-RELOAD",
        "HOLD-BACK",
        "PART-HOLD-BACK",
        "CAN-SKIP-UNTIL",
        "CAN-SKIP-DATERANGES",
    ];

    fn of(attributes: &Attributes) -> Self {
        Self {
            can_block_reload: attributes.is_yes("CAN-BLOCK-RELOAD"),
            hold_back: attributes.number("HOLD-BACK"),
            part_hold_back: attributes.number("PART-HOLD-BACK"),
            can_skip_until: attributes.number("CAN-SKIP-UNTIL"),
        }
    }
}

impl Part {
    const KNOWN: &[&str] = &["URI", "DURATION", "INDEPENDENT", "BYTERANGE", "GAP"];

    #[track_caller]
    fn of(attributes: &Attributes) -> Self {
        Self {
            uri: attributes.quoted("URI").expect("URI is required"),
            duration: attributes.number("DURATION").expect("DURATION is required"),
            independent: attributes.is_yes("INDEPENDENT"),
            gap: attributes.is_yes("GAP"),
        }
    }
}

/// A multivariant playlist.
#[derive(Debug, Clone)]
pub(crate) struct Multivariant {
    pub(crate) independent_segments: bool,
    /// EXT-X-STREAM-INF with the address after it.
    pub(crate) variants: Vec<(Attributes, String)>,
    /// EXT-X-MEDIA.
    pub(crate) renditions: Vec<Attributes>,
}

impl Multivariant {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut playlist =
            Self { independent_segments: false, variants: Vec::new(), renditions: Vec::new() };
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"), "4.4.1.1: the first line");
        while let Some(line) = lines.next() {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" => assert!(value.parse::<u32>().is_ok(), "{line}"),
                "#EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent_segments = true,
                "#EXT-X-MEDIA" => {
                    playlist.renditions.push(Attributes::parse(value, Self::RENDITION))
                }
                "#EXT-X-STREAM-INF" => {
                    let uri = lines
                        .next()
                        .filter(|line| !line.starts_with('#'))
                        .expect("an address after STREAM-INF");
                    playlist
                        .variants
                        .push((Attributes::parse(value, Self::VARIANT), uri.to_owned()));
                }
                _ => panic!("unknown tag: {line}"),
            }
        }
        assert!(!playlist.variants.is_empty(), "no variant in {text}");
        playlist
    }

    const RENDITION: &[&str] = &[
        "TYPE",
        "URI",
        "GROUP-ID",
        "LANGUAGE",
        "NAME",
        "DEFAULT",
        "AUTOSELECT",
        "FORCED",
        "CHANNELS",
        "BIT-DEPTH",
        "SAMPLE-RATE",
        "CHARACTERISTICS",
    ];
    const VARIANT: &[&str] = &[
        "BANDWIDTH",
        "AVERAGE-BANDWIDTH",
        "CODECS",
        "SUPPLEMENTAL-CODECS",
        "RESOLUTION",
        "FRAME-RATE",
        "VIDEO-RANGE",
        "AUDIO",
        "SUBTITLES",
        "CLOSED-CAPTIONS",
        "SCORE",
    ];

    /// The addresses of all media playlists.
    pub(crate) fn media(&self) -> Vec<String> {
        let variants = self.variants.iter().map(|(_, uri)| uri.clone());
        let mut all: Vec<String> = variants
            .chain(self.renditions.iter().filter_map(|media| media.quoted("URI")))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The path that a relative `reference` in the document at `base` names (RFC 3986 5.2).
#[track_caller]
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    assert!(
        !reference.starts_with('/') && !reference.contains("://"),
        "relative addresses only: {reference}"
    );
    let (directory, _) = base.rsplit_once('/').expect("a path has a slash");
    let mut steps: Vec<&str> = directory.split('/').collect();
    for step in reference.split('/') {
        match step {
            "." => {}
            ".." => {
                assert!(steps.pop().is_some() && !steps.is_empty(), "{reference} leaves the root")
            }
            step => steps.push(step),
        }
    }
    steps.join("/")
}

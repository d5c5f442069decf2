//! The subset of a media playlist that a measurement needs: its parts and the preload hint. RFC
//! 8216bis 4.4.4.9, 4.4.5.3.

/// A part, by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId {
    /// Media sequence number.
    pub msn: u64,
    /// Number of the part in its segment, from 0.
    pub part: u64,
}

impl PartId {
    /// From an address that ends in `{msn}.{part}.m4s`.
    pub fn parse(uri: &str) -> Option<Self> {
        let file = uri.rsplit('/').next()?.strip_suffix(".m4s")?;
        let (msn, part) = file.split_once('.')?;
        Some(Self { msn: msn.parse().ok()?, part: part.parse().ok()? })
    }
}

/// A media playlist.
#[derive(Debug, Default)]
pub struct Media {
    /// EXT-X-MEDIA-SEQUENCE.
    pub first_msn: u64,
    /// Its parts and their durations in seconds, oldest first.
    pub parts: Vec<(PartId, f64)>,
    /// The part that EXT-X-PRELOAD-HINT names.
    pub hint: Option<PartId>,
}

impl Media {
    /// Parses `text`; unknown tags are ignored.
    pub fn parse(text: &str) -> Self {
        let mut media = Self::default();
        for line in text.lines() {
            if let Some(msn) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                media.first_msn = msn.parse().unwrap_or(0);
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-PART:") {
                let id = attribute(attributes, "URI").and_then(PartId::parse);
                let duration =
                    attribute(attributes, "DURATION").and_then(|seconds| seconds.parse().ok());
                media.parts.extend(id.zip(duration));
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-PRELOAD-HINT:") {
                // The hint of a map is not a part, so it does not replace an earlier one.
                media.hint = attribute(attributes, "URI").and_then(PartId::parse).or(media.hint);
            }
        }
        media
    }
}

/// The value of an attribute without its quotation marks. Values with commas are not supported;
/// ours have none.
fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let found = attributes
        .split(',')
        .find_map(|attribute| attribute.strip_prefix(name)?.strip_prefix('='))?;
    Some(found.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_the_preload_hint_are_parsed_from_their_addresses() {
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n\
            #EXT-X-PART:DURATION=0.2,URI=\"../../media/x/v0/8.0.m4s\",INDEPENDENT=YES\n\
            #EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"../../media/x/v0/init.1.mp4\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../../media/x/v0/8.1.m4s\"\n";
        let media = Media::parse(text);
        assert_eq!(media.first_msn, 7);
        assert_eq!(media.parts, [(PartId { msn: 8, part: 0 }, 0.2)]);
        assert_eq!(media.hint, Some(PartId { msn: 8, part: 1 }));
    }
}

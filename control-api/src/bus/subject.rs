//! The subject of an event: the prefix, the thing, and the verb.

use super::SubjectPrefix;

/// The beginning of the types of all events.
const PRODUCT: &str = "streamforge.";

/// The subject of events of a type, for example `sf.main.channel.created` for
/// `streamforge.channel.created.v1`. The version is in the type alone, so that a consumer of a
/// subject sees all versions. Characters with a meaning in NATS become `_`.
pub(super) fn of(prefix: &SubjectPrefix, kind: &str) -> String {
    let words = kind.strip_prefix(PRODUCT).unwrap_or(kind);
    let words = match words.rsplit_once(".v") {
        Some((words, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => words,
        _ => words,
    };
    let mut subject = prefix.as_str().to_owned();
    for word in words.split('.').filter(|word| !word.is_empty()) {
        subject.push('.');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        subject.extend(word.chars().map(|c| if is_plain(c) { c } else { '_' }));
    }
    subject
}

/// The subjects of all events.
pub(super) fn all(prefix: &SubjectPrefix) -> String {
    format!("{}.>", prefix.as_str())
}

#[cfg(test)]
mod tests {
    use control_domain::features;

    use super::*;

    #[test]
    fn a_subject_has_the_thing_and_the_verb_without_the_version() {
        let prefix = SubjectPrefix::default();
        assert_eq!(of(&prefix, "streamforge.channel.created.v1"), "sf.main.channel.created");
        assert_eq!(of(&prefix, "streamforge.channel.created.v12"), "sf.main.channel.created");
        assert_eq!(of(&prefix, "streamforge.thing.moved.vast"), "sf.main.thing.moved.vast");
        assert_eq!(of(&prefix, "other.a b.>.*"), "sf.main.other.a_b._._");
    }

    #[test]
    fn each_event_type_has_a_subject_of_two_more_words() {
        let prefix = SubjectPrefix::default();
        for event in features::ALL.iter().flat_map(|feature| feature.events) {
            let subject = of(&prefix, event.name);
            assert_eq!(subject.split('.').count(), 4, "{subject}");
            assert!(!subject.ends_with(".v1"), "{subject}");
        }
    }
}

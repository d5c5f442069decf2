//! The channels that the claims of a verified token permit: `channel`, a name, or a list of
//! MediaMTX's permissions.

use media_core::ChannelName;
use regex::RegexBuilder;
use serde_json::{Map, Value};

/// Largest compiled pattern in bytes.
const MAX_PATTERN_BYTES: usize = 64 << 10;
/// Deepest nesting of a pattern.
const MAX_NESTING: u32 = 32;

/// The channels of a token.
#[derive(Debug, PartialEq)]
pub(super) enum Permitted {
    /// The channel of this name.
    Channel(String),
    /// The channels whose path matches one of the permissions to publish.
    Paths(Vec<Path>),
}

/// The path of one permission (MediaMTX's documentation, "Authentication").
#[derive(Debug, PartialEq)]
pub(super) enum Path {
    /// Any channel: the path is empty.
    Any,
    /// The path is the channel's name, or the application and the name.
    Exact(String),
    /// A regular expression, after `~` in the claim; it matches any part of a path.
    Pattern(String),
}

impl Permitted {
    /// Reads the claims. A claim of another type permits nothing.
    pub(super) fn parse(claims: &Map<String, Value>, permissions_claim: &str) -> Self {
        // The narrower claim counts if a token has both.
        if let Some(channel) = claims.get("channel") {
            return match channel.as_str() {
                Some(channel) => Self::Channel(channel.to_owned()),
                None => Self::Paths(Vec::new()),
            };
        }
        let listed = match claims.get(permissions_claim) {
            // Some issuers can only make a text of it; MediaMTX reads that too.
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
            Some(listed) => listed.clone(),
            None => Value::Null,
        };
        let permissions = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        Self::Paths(permissions.iter().filter_map(Path::parse).collect())
    }

    /// Whether `channel` of `app` is permitted.
    pub(super) fn includes(&self, channel: &ChannelName, app: &str) -> bool {
        match self {
            Self::Channel(name) => name == channel.as_str(),
            Self::Paths(paths) => {
                let path = format!("{app}/{channel}");
                paths.iter().any(|permitted| permitted.matches([channel.as_str(), &path]))
            }
        }
    }

    /// The channel, if exactly one is permitted.
    pub(super) fn only(&self, app: &str) -> Option<ChannelName> {
        let name = match self {
            Self::Channel(name) => name,
            Self::Paths(paths) => match paths.as_slice() {
                [Path::Exact(path)] => {
                    let name = path.strip_prefix(app).and_then(|rest| rest.strip_prefix('/'));
                    name.unwrap_or(path)
                }
                _ => return None,
            },
        };
        name.parse().ok()
    }
}

impl Path {
    /// The path of a permission to publish; `None` for a permission of another kind.
    fn parse(permission: &Value) -> Option<Self> {
        if permission.get("action")?.as_str()? != "publish" {
            return None;
        }
        let path = match permission.get("path") {
            None | Some(Value::Null) => "",
            Some(path) => path.as_str()?,
        };
        Some(match path.strip_prefix('~') {
            Some(pattern) => Self::Pattern(pattern.to_owned()),
            None if path.is_empty() => Self::Any,
            None => Self::Exact(path.to_owned()),
        })
    }

    /// Whether one of the forms of a channel's path matches.
    fn matches(&self, forms: [&str; 2]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(path) => forms.contains(&path.as_str()),
            Self::Pattern(pattern) => {
                // An invalid pattern permits nothing. Matching takes linear time.
                let pattern = RegexBuilder::new(pattern)
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES)
                    .nest_limit(MAX_NESTING)
                    .build();
                pattern.is_ok_and(|pattern| forms.iter().any(|form| pattern.is_match(form)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permitted(claims: Value) -> Permitted {
        let Value::Object(claims) = claims else { panic!("no object") };
        Permitted::parse(&claims, "mediamtx_permissions")
    }

    fn includes(claims: &Value, channel: &str) -> bool {
        permitted(claims.clone()).includes(&channel.parse().unwrap(), "live")
    }

    fn path(path: &str) -> Value {
        json!({"mediamtx_permissions": [{"action": "publish", "path": path}]})
    }

    #[test]
    fn the_claim_channel_permits_one_channel_whatever_else_is_claimed() {
        let both = json!({"channel": "a", "mediamtx_permissions": [{"action": "publish"}]});
        assert!(includes(&both, "a") && !includes(&both, "b"));
        assert_eq!(permitted(both).only("live").unwrap().as_str(), "a");
        let number = json!({"channel": 7, "mediamtx_permissions": [{"action": "publish"}]});
        assert!(!includes(&number, "7"));
        assert_eq!(permitted(json!({"channel": "../a"})).only("live"), None);
    }

    #[test]
    fn permissions_of_mediamtx_permit_their_paths() {
        for (claims, channel, expected) in [
            (path(""), "any", true),
            (path("a"), "a", true),
            (path("a"), "ab", false),
            (path("live/a"), "a", true),
            (path("other/a"), "a", false),
            (path("~^live/team-[0-9]+$"), "team-7", true),
            (path("~^team"), "team-7", true),
            (path("~^team-[0-9]+$"), "team-x", false),
            (path("~(("), "a", false),
            (path(&format!("~{}", "(a{50}){50}".repeat(50))), "a", false),
            (json!({"mediamtx_permissions": [{"action": "publish"}]}), "a", true),
            (json!({"mediamtx_permissions": [{"action": "read", "path": ""}]}), "a", false),
            (json!({"mediamtx_permissions": [{"path": ""}]}), "a", false),
            (json!({"mediamtx_permissions": [{"action": "publish", "path": 7}]}), "7", false),
            (
                json!({"mediamtx_permissions": "[{\"action\":\"publish\",\"path\":\"a\"}]"}),
                "a",
                true,
            ),
            (json!({"mediamtx_permissions": "a"}), "a", false),
            (json!({}), "a", false),
        ] {
            assert_eq!(includes(&claims, channel), expected, "{claims} {channel}");
        }
    }

    #[test]
    fn a_token_alone_names_a_channel_only_if_it_permits_exactly_one() {
        let only = |claims| permitted(claims).only("live").map(|name| name.to_string());
        assert_eq!(only(path("a")).as_deref(), Some("a"));
        assert_eq!(only(path("live/a")).as_deref(), Some("a"));
        for several in [path(""), path("~^a$"), path("other/a"), json!({})] {
            assert_eq!(only(several), None);
        }
        let two = json!({"mediamtx_permissions": [
            {"action": "publish", "path": "a"}, {"action": "publish", "path": "b"}]});
        assert_eq!(only(two), None);
    }
}

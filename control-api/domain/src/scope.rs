//! The scopes of an API key: the part of its account's rights that it has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of an account's rights. The set is closed: a command belongs to one of them, or no key
/// may send it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Reads all that the account may read.
    Read,
    /// Makes and changes the account's channels.
    Channels,
    /// Adds and revokes stream keys of the account's channels.
    StreamKeys,
    /// Makes and changes the account's videos.
    Videos,
    /// Follows channels for the account.
    Follows,
    /// Reacts to videos for the account.
    Reactions,
    /// Makes and changes the account's webhooks. They receive what the account may see, also after
    /// the key is revoked.
    Webhooks,
    /// Uses the rights of a moderator or administrator, if the account has them, and changes the
    /// account's own profile. Without this scope a key acts on its account's own things only.
    Admin,
}

impl Scope {
    /// All scopes, in order.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Channels,
        Self::StreamKeys,
        Self::Videos,
        Self::Follows,
        Self::Reactions,
        Self::Webhooks,
        Self::Admin,
    ];

    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Channels => "channels",
            Self::StreamKeys => "stream_keys",
            Self::Videos => "videos",
            Self::Follows => "follows",
            Self::Reactions => "reactions",
            Self::Webhooks => "webhooks",
            Self::Admin => "admin",
        }
    }

    /// The scope that a command needs, by its name `thing.verb`. `None`: no key may send it.
    ///
    /// A key never changes credentials, otherwise a stolen one could outlive its revocation; nor does
    /// it export all that the account has.
    pub fn of(command: &str) -> Option<Self> {
        let thing = command.split('.').next().unwrap_or(command);
        match (thing, command) {
            ("session" | "api_key" | "second_factor" | "identity", _) => None,
            (
                _,
                "account.set_password"
                | "account.change_password"
                | "account.change_email"
                | "account.export",
            ) => None,
            (_, read) if [".list", ".show"].iter().any(|verb| read.contains(verb)) => {
                Some(Self::Read)
            }
            ("channel" | "stream", _) => Some(Self::Channels),
            ("stream_key", _) => Some(Self::StreamKeys),
            ("video", _) => Some(Self::Videos),
            ("follow", _) => Some(Self::Follows),
            ("reaction", _) => Some(Self::Reactions),
            ("webhook", _) => Some(Self::Webhooks),
            // Commands that are new here need the greatest scope until somebody decides otherwise.
            _ => Some(Self::Admin),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes. In JSON and in tables a list in the order of [`Scope::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u16);

impl Scopes {
    /// Whether a scope is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Whether no scope is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

fn bit(scope: Scope) -> u16 {
    1 << scope as u8
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().collect()
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let scope = generator.subschema_for::<Scope>();
        schemars::json_schema!({ "type": "array", "items": scope, "uniqueItems": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_scopes_is_a_list_in_order_and_is_read_back() {
        let set = Scopes::from(vec![Scope::Videos, Scope::Read, Scope::Videos]);
        let text = serde_json::to_string(&set).expect("a list");
        assert_eq!(text, r#"["read","videos"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&text).expect("the same list"), set);
        assert!(serde_json::from_str::<Scopes>(r#"["everything"]"#).is_err());
        assert!(!set.contains(Scope::Admin) && !set.is_empty() && Scopes::default().is_empty());
        for scope in Scope::ALL {
            let name = serde_json::to_value(scope).expect("a name");
            assert_eq!(name, scope.name());
        }
    }

    #[test]
    fn no_key_changes_credentials_and_a_command_that_is_not_listed_needs_the_greatest_scope() {
        for command in [
            "session.end",
            "api_key.add",
            "account.set_password",
            "account.change_password",
            "account.change_email",
            "account.export",
        ] {
            assert_eq!(Scope::of(command), None, "{command}");
        }
        assert_eq!(Scope::of("channel.create"), Some(Scope::Channels));
        assert_eq!(Scope::of("stream_key.list"), Some(Scope::Read));
        assert_eq!(Scope::of("follow.set"), Some(Scope::Follows));
        assert_eq!(Scope::of("reaction.remove"), Some(Scope::Reactions));
        assert_eq!(Scope::of("webhook.create"), Some(Scope::Webhooks));
        assert_eq!(Scope::of("webhook.list"), Some(Scope::Read));
        assert_eq!(Scope::of("session.list"), None);
        assert_eq!(Scope::of("account.erase"), Some(Scope::Admin));
        assert_eq!(Scope::of("rocket.launch"), Some(Scope::Admin));
    }
}

//! Credentials in the query of a stream name, as MediaMTX reads them: `user`, `pass`, and a token
//! in `pass`, `token` or `jwt`, in this order.

use std::borrow::Cow;

/// The values of a query, decoded. They are secrets.
#[derive(Default)]
pub(super) struct Credentials<'a> {
    /// `user`, or empty.
    pub(super) user: Cow<'a, str>,
    /// `pass`, or empty.
    pub(super) password: Cow<'a, str>,
    /// The token, or empty.
    pub(super) token: Cow<'a, str>,
}

impl<'a> Credentials<'a> {
    /// The credentials in the text after `?`.
    pub(super) fn parse(query: &'a str) -> Self {
        let pairs = || form_urlencoded::parse(query.as_bytes());
        let values = |name: &'static str| {
            pairs().filter(move |(key, _)| key == name).map(|(_, value)| value)
        };
        let first = |name| values(name).next().unwrap_or_default();
        // A token that is given twice is ambiguous, and counts as none.
        let only = |name| Some(values(name)).filter(|_| values(name).count() == 1)?.next();
        let (user, password) = (first("user"), first("pass"));
        let token = match password.is_empty() {
            false => password.clone(),
            true => only("token").or_else(|| only("jwt")).unwrap_or_default(),
        };
        Self { user, password, token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> [String; 3] {
        let Credentials { user, password, token } = Credentials::parse(query);
        [user, password, token].map(Cow::into_owned)
    }

    #[test]
    fn the_token_is_the_password_or_the_only_token_or_the_only_jwt() {
        for (query, expected) in [
            ("", ["", "", ""]),
            ("user=a&pass=b", ["a", "b", "b"]),
            ("token=t", ["", "", "t"]),
            ("jwt=j&x=1", ["", "", "j"]),
            ("jwt=j&token=t", ["", "", "t"]),
            ("token=t&pass=p", ["", "p", "p"]),
            ("token=t&token=u", ["", "", ""]),
            ("token=t&token=u&jwt=j", ["", "", "j"]),
            ("user=a%20b+c&pass=%C3%BC", ["a b c", "ü", "ü"]),
            ("%%%&=&&token", ["", "", ""]),
        ] {
            assert_eq!(parsed(query), expected, "{query}");
        }
    }
}

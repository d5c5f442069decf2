//! Look-ups of things by their names, and lists of them.

use http::Method;
use serde_json::Value;

use super::error::Error;
use crate::control_socket::{Client, ClientError};

/// The accounts.
pub(super) const ACCOUNTS: &str = "/api/v1/accounts";
/// Entries of one page.
const PAGE: usize = 100;

/// All entries of a list, page by page. The path may have a query.
///
/// # Errors
/// [`ClientError`].
pub(super) async fn all(client: &Client, path: &str, member: &str) -> Result<Value, ClientError> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    let joint = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = format!("{path}{joint}limit={PAGE}{cursor}");
        let mut page = client.send(Method::GET, &page, None).await?;
        if let Value::Array(found) = page[member].take() {
            entries.extend(found);
        }
        let Some(next) = page["next"].as_str() else { return Ok(Value::Array(entries)) };
        cursor = format!("&cursor={}", encoded(next));
    }
}

/// The account with an id, a name or an e-mail address.
///
/// # Errors
/// [`Error`].
pub(super) async fn find(client: &Client, account: &str) -> Result<Value, Error> {
    let listed = all(client, ACCOUNTS, "accounts").await?;
    let is_it = |entry: &&Value| {
        let is = |member: &str| {
            let value = entry[member].as_str();
            value.is_some_and(|value| value.to_lowercase() == account.to_lowercase())
        };
        is("id") || is("name") || is("email")
    };
    let found = listed.as_array().into_iter().flatten().find(is_it);
    found.cloned().ok_or_else(|| Error::Unknown {
        thing: "account",
        name: account.to_owned(),
        place: "the platform".to_owned(),
    })
}

/// A text as one segment of a path (RFC 3986 3.3).
pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path_whatever_it_contains() {
        assert_eq!(encoded("a/../b c?d"), "a%2F..%2Fb%20c%3Fd");
        assert_eq!(encoded("Ada_live-1"), "Ada_live-1");
    }
}

//! The requests of each command.

use http::Method;
use serde_json::{Map, Value, json};

use control_api::secret::Secret;

use super::{
    commands::{Channel, Key, Stream, User},
    error::Error,
    lookups::{ACCOUNTS, all, encoded, find},
};
use crate::control_socket::Client;

/// Carries out a command about accounts. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn user(client: &Client, command: User) -> Result<Value, Error> {
    match command {
        User::Add { name, email, role } => {
            let password = random()?;
            let body = json!({
                "name": name, "email": email, "role": role, "password": password.expose(),
            });
            let mut made = client.send(Method::POST, ACCOUNTS, Some(&body)).await?;
            made["password"] = password.expose().into();
            Ok(made)
        }
        User::List => Ok(all(client, ACCOUNTS, "accounts").await?),
        User::Show { account } => find(client, &account).await,
        User::Role { account, role } => {
            let path = format!("{}/role", path_of(client, &account).await?);
            Ok(client.send(Method::PUT, &path, Some(&json!({ "role": role }))).await?)
        }
        User::Password { account } => {
            let path = format!("{}/password", path_of(client, &account).await?);
            let password = random()?;
            let body = json!({ "password": password.expose() });
            client.send(Method::PUT, &path, Some(&body)).await?;
            Ok(body)
        }
        User::Delete { account } => {
            let path = path_of(client, &account).await?;
            Ok(client.send(Method::DELETE, &path, None).await?)
        }
    }
}

/// The path of the account with an id, a name or an e-mail address.
async fn path_of(client: &Client, account: &str) -> Result<String, Error> {
    let found = find(client, account).await?;
    Ok(format!("{ACCOUNTS}/{}", encoded(found["id"].as_str().unwrap_or_default())))
}

/// A password that nobody can guess.
fn random() -> Result<Secret, Error> {
    Secret::random("").map_err(|_| Error::Random)
}

/// Carries out a command about channels. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn channel(client: &Client, command: Channel) -> Result<Value, Error> {
    let at = |channel: &str| format!("/api/v1/channels/{}", encoded(channel));
    Ok(match command {
        Channel::Add { name, owner, title, visibility } => {
            let owner = find(client, &owner).await?;
            let owner = owner["id"].as_str().unwrap_or_default().to_owned();
            let members = [
                ("name", Some(name)),
                ("owner", Some(owner)),
                ("title", title),
                ("visibility", visibility),
            ];
            client.send(Method::POST, "/api/v1/channels", Some(&object(members))).await?
        }
        Channel::List => all(client, "/api/v1/channels", "channels").await?,
        Channel::Show { channel } => client.send(Method::GET, &at(&channel), None).await?,
        Channel::Edit { channel, title, description, visibility } => {
            let members =
                [("title", title), ("description", description), ("visibility", visibility)];
            client.send(Method::PATCH, &at(&channel), Some(&object(members))).await?
        }
        Channel::Delete { channel } => client.send(Method::DELETE, &at(&channel), None).await?,
    })
}

/// Carries out a command about stream keys. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn key(client: &Client, command: Key) -> Result<Value, Error> {
    let at = |channel: &str| format!("/api/v1/channels/{}/stream-keys", encoded(channel));
    match command {
        Key::Add { channel, name } => {
            Ok(client.send(Method::POST, &at(&channel), Some(&json!({ "name": name }))).await?)
        }
        Key::List { channel } => {
            let mut listed = client.send(Method::GET, &at(&channel), None).await?;
            Ok(listed["stream_keys"].take())
        }
        Key::Revoke { channel, key } => {
            let listed = client.send(Method::GET, &at(&channel), None).await?;
            let keys = listed["stream_keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_it = |entry: &&Value| entry["id"] == *key || entry["name"] == *key;
            let Some(id) = keys.iter().find(is_it).and_then(|entry| entry["id"].as_str()) else {
                let place = format!("channel {channel}");
                return Err(Error::Unknown { thing: "stream key", name: key, place });
            };
            Ok(client.send(Method::DELETE, &format!("{}/{id}", at(&channel)), None).await?)
        }
    }
}

/// Carries out a command about live broadcasts. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn stream(client: &Client, command: Stream) -> Result<Value, Error> {
    let at = |channel: &str| format!("/api/v1/streams/{}", encoded(channel));
    match command {
        Stream::List => Ok(all(client, "/api/v1/streams", "streams").await?),
        Stream::Show { channel } => Ok(client.send(Method::GET, &at(&channel), None).await?),
        Stream::End { channel, reason } => {
            let reason = reason.map(|reason| format!("?reason={}", encoded(&reason)));
            let path = at(&channel) + &reason.unwrap_or_default();
            Ok(client.send(Method::DELETE, &path, None).await?)
        }
    }
}

/// An object of the members that have a value.
fn object<const N: usize>(members: [(&str, Option<String>); N]) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_without_a_value_are_not_sent() {
        let sent = object([("title", Some("One".to_owned())), ("visibility", None)]);
        assert_eq!(sent, json!({ "title": "One" }));
    }
}

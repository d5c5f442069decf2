//! The requests of each command.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Channel, Error, Key, Stream, Task};
use crate::control_socket::{Client, ClientError};

/// Entries of one page.
const PAGE: usize = 100;

/// Carries out a command. Returns the JSON to print; null if there is nothing to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn carry_out(client: &Client, task: Task) -> Result<Value, Error> {
    match task {
        Task::Channel(command) => channel(client, command).await,
        Task::Key(command) => key(client, command).await,
        Task::Stream(command) => Ok(stream(client, command).await?),
    }
}

async fn channel(client: &Client, command: Channel) -> Result<Value, Error> {
    let at = |channel: &str| format!("/api/v1/channels/{}", encoded(channel));
    Ok(match command {
        Channel::Add { name, owner, title, visibility } => {
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

async fn key(client: &Client, command: Key) -> Result<Value, Error> {
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

async fn stream(client: &Client, command: Stream) -> Result<Value, ClientError> {
    let at = |channel: &str| format!("/api/v1/streams/{}", encoded(channel));
    match command {
        Stream::List => all(client, "/api/v1/streams", "streams").await,
        Stream::Show { channel } => client.send(Method::GET, &at(&channel), None).await,
        Stream::End { channel } => client.send(Method::DELETE, &at(&channel), None).await,
    }
}

/// All entries of a list, page by page.
async fn all(client: &Client, path: &str, member: &str) -> Result<Value, ClientError> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("{path}?limit={PAGE}{cursor}");
        let mut page = client.send(Method::GET, &page, None).await?;
        if let Value::Array(found) = page[member].take() {
            entries.extend(found);
        }
        let Some(next) = page["next"].as_str() else { return Ok(Value::Array(entries)) };
        cursor = format!("&cursor={}", encoded(next));
    }
}

/// An object of the members that have a value.
fn object<const N: usize>(members: [(&str, Option<String>); N]) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
}

/// A text as one segment of a path (RFC 3986 3.3).
fn encoded(text: &str) -> String {
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

    #[test]
    fn members_without_a_value_are_not_sent() {
        let sent = object([("title", Some("One".to_owned())), ("visibility", None)]);
        assert_eq!(sent, json!({ "title": "One" }));
    }
}

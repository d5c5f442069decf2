//! The commands about the audit log.

use http::Method;
use serde_json::{Value, json};

use super::{commands::Audit, error::Error, lookups};
use crate::control_socket::Client;

/// Greatest number of entries of a page.
const PAGE: usize = 100;

/// Carries out a command. Returns the JSON to print: for programs as the API has it, for people one
/// line an entry.
///
/// # Errors
/// [`Error`].
pub(super) async fn carry_out(
    client: &Client,
    command: Audit,
    is_for_programs: bool,
) -> Result<Value, Error> {
    let Audit::List { actor, kind, subject, from, to, limit } = command;
    let actor = match actor {
        Some(actor) => Some(id(client, actor).await?),
        None => None,
    };
    let filter =
        [("actor", actor), ("type", kind), ("subject", subject), ("from", from), ("to", to)];
    let given = filter.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let filter = given.map(|(name, value)| format!("&{name}={}", lookups::encoded(&value)));
    let filter = filter.collect::<String>();
    let (mut acts, mut cursor) = (Vec::new(), String::new());
    while acts.len() < limit {
        let count = PAGE.min(limit - acts.len());
        let path = format!("/api/v1/audit?limit={count}{filter}{cursor}");
        let mut page = client.send(Method::GET, &path, None).await?;
        if let Value::Array(found) = page["acts"].take() {
            acts.extend(found);
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={}", lookups::encoded(next));
    }
    if !is_for_programs {
        acts.iter_mut().for_each(|act| *act = line(act));
    }
    Ok(Value::Array(acts))
}

/// The actor's name in the log: an account may be given by its name or address.
async fn id(client: &Client, actor: String) -> Result<String, Error> {
    if actor.starts_with("operator:") || actor == "system" || actor == "anonymous" {
        return Ok(actor);
    }
    // Also an account that is gone.
    let is_id = actor.len() == 36 && actor.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match is_id {
        true => Ok(actor),
        false => Ok(text(&lookups::find(client, &actor).await?, "id").to_owned()),
    }
}

/// An entry with members that fit into a table.
fn line(act: &Value) -> Value {
    let (actor, operation) = (&act["actor"], &act["operation"]);
    let who = actor["name"].as_str().unwrap_or(text(actor, "id"));
    let kind = text(act, "type").trim_start_matches("streamforge.").trim_end_matches(".v1");
    let what = operation["name"].as_str().unwrap_or(kind);
    let details = act["details"].as_object().into_iter().flatten();
    let mut words = details
        .map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>();
    for member in ["outcome", "value", "reason"] {
        words.extend(operation[member].as_str().map(str::to_owned));
    }
    json!({
        "time": text(act, "time"),
        "who": who,
        "as": text(act, "authority"),
        "what": what,
        "on": text(act, "subject"),
        "details": words.join(", "),
    })
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_names_in_place_of_identifiers() {
        let act = json!({
            "time": "2026-12-01T00:00:00.000Z",
            "actor": { "id": "0192", "kind": "account", "name": "root" },
            "authority": "administrator",
            "type": "streamforge.account.role_changed.v1",
            "subject": "0193",
            "details": { "role": "creator" },
        });
        let shown = line(&act);
        assert_eq!(
            (&shown["who"], &shown["what"]),
            (&json!("root"), &json!("account.role_changed"))
        );
        assert_eq!(shown["details"], "role creator");
        let act = json!({
            "time": "2026-12-01T00:00:00.000Z",
            "actor": { "id": "operator:socket", "kind": "control_socket" },
            "type": "streamforge.operation.performed.v1",
            "subject": "stage",
            "details": {},
            "operation": { "name": "stream.end", "outcome": "done", "reason": "loud" },
        });
        let shown = line(&act);
        let (who, what) = (&shown["who"], &shown["what"]);
        assert_eq!((who, what), (&json!("operator:socket"), &json!("stream.end")));
        assert_eq!((&shown["as"], &shown["details"]), (&json!(""), &json!("done, loud")));
    }
}

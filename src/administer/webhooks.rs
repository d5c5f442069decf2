//! The commands about webhooks.

use clap::Subcommand;
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    error::Error,
    lookups::{encoded, find},
};
use crate::control_socket::Client;

/// The webhooks.
const WEBHOOKS: &str = "/api/v1/webhooks";

/// Commands about webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Lists the operator's webhooks, or those of an account.
    List {
        /// The account: its id, name or e-mail address.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Shows a webhook, without its secret.
    Show {
        /// Its id.
        webhook: String,
    },
    /// Makes a webhook, and prints its secret this once.
    Create {
        /// The address to which events are posted.
        url: String,
        /// A type of events, or its beginning with `*` at the end. May be repeated. Default: all.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// The account that owns it, and whose events it receives: its id, name or e-mail address.
        /// Default: the operator, who receives all events.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Changes a webhook. Properties that are not given stay as they are.
    Edit {
        /// Its id.
        webhook: String,
        /// The address to which events are posted.
        #[arg(long)]
        url: Option<String>,
        /// A type of events. May be repeated; the types replace those that it has.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
    },
    /// Gives a webhook another secret, and prints it this once. The old one is valid for a day.
    RotateSecret {
        /// Its id.
        webhook: String,
    },
    /// Takes a webhook into use again.
    Enable {
        /// Its id.
        webhook: String,
    },
    /// Takes a webhook out of use.
    Disable {
        /// Its id.
        webhook: String,
    },
    /// Delivers a test event now.
    Test {
        /// Its id.
        webhook: String,
    },
    /// Lists the last deliveries of a webhook.
    Deliveries {
        /// Its id.
        webhook: String,
    },
    /// Delivers an event again, now.
    Replay {
        /// The webhook's id.
        webhook: String,
        /// The delivery's id.
        delivery: String,
    },
    /// Deletes a webhook.
    Delete {
        /// Its id.
        webhook: String,
    },
}

/// Carries out a command. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn webhook(client: &Client, command: Webhook) -> Result<Value, Error> {
    let at = |webhook: &str| format!("{WEBHOOKS}/{}", encoded(webhook));
    let act = |webhook: &str, act: &str| format!("{}/{act}", at(webhook));
    let (post, nothing) = (Method::POST, json!({}));
    Ok(match command {
        Webhook::List { owner } => {
            let filter = match owner {
                Some(owner) => format!("?owner={}", encoded(&account(client, &owner).await?)),
                None => String::new(),
            };
            let path = format!("{WEBHOOKS}{filter}");
            client.send(Method::GET, &path, None).await?["webhooks"].take()
        }
        Webhook::Show { webhook } => client.send(Method::GET, &at(&webhook), None).await?,
        Webhook::Create { url, types, owner } => {
            let mut body = changes(Some(url), types);
            if let Some(owner) = owner {
                body["owner"] = account(client, &owner).await?.into();
            }
            client.send(post, WEBHOOKS, Some(&body)).await?
        }
        Webhook::Edit { webhook, url, types } => {
            client.send(Method::PATCH, &at(&webhook), Some(&changes(url, types))).await?
        }
        Webhook::RotateSecret { webhook } => {
            client.send(post, &act(&webhook, "rotate-secret"), Some(&nothing)).await?
        }
        Webhook::Enable { webhook } => client.send(post, &act(&webhook, "enable"), None).await?,
        Webhook::Disable { webhook } => client.send(post, &act(&webhook, "disable"), None).await?,
        Webhook::Test { webhook } => client.send(post, &act(&webhook, "test"), None).await?,
        Webhook::Deliveries { webhook } => {
            let path = act(&webhook, "deliveries");
            client.send(Method::GET, &path, None).await?["deliveries"].take()
        }
        Webhook::Replay { webhook, delivery } => {
            let path = act(&webhook, &format!("deliveries/{}/replay", encoded(&delivery)));
            client.send(post, &path, None).await?
        }
        Webhook::Delete { webhook } => client.send(Method::DELETE, &at(&webhook), None).await?,
    })
}

/// The properties that are given.
fn changes(url: Option<String>, types: Vec<String>) -> Value {
    let mut members = Map::new();
    members.extend(url.map(|url| ("url".to_owned(), url.into())));
    if !types.is_empty() {
        members.insert("types".to_owned(), types.into());
    }
    Value::Object(members)
}

/// The id of an account.
async fn account(client: &Client, name: &str) -> Result<String, Error> {
    let found = find(client, name).await?;
    Ok(found["id"].as_str().unwrap_or_default().to_owned())
}

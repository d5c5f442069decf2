//! The commands about videos.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    error::Error,
    lookups::{all, encoded},
};
use crate::control_socket::{Client, ClientError};

/// The list of all videos.
const VIDEOS: &str = "/api/v1/videos";
/// The greatest size of a file with a password, in bytes.
const MAX_PASSWORD: u64 = 4_096;

/// Commands about videos.
#[derive(Debug, Subcommand)]
pub(crate) enum Video {
    /// Lists the videos of a channel in all states, or the published videos of the platform.
    List {
        /// The channel's name or id.
        #[arg(long)]
        channel: Option<String>,
        /// Only published videos of this category: its name or id.
        #[arg(long, conflicts_with = "channel")]
        category: Option<String>,
        /// Only published videos with this tag.
        #[arg(long, conflicts_with_all = ["channel", "category"])]
        tag: Option<String>,
    },
    /// Shows a video.
    Show {
        /// Its id.
        video: String,
    },
    /// Makes a draft of a video.
    Announce {
        /// The channel's name or id.
        channel: String,
        /// Its title.
        title: String,
        #[command(flatten)]
        details: Details,
    },
    /// Changes a video. Properties that are not given stay as they are.
    Edit {
        /// Its id.
        video: String,
        /// Its title.
        #[arg(long)]
        title: Option<String>,
        #[command(flatten)]
        details: Details,
    },
    /// Publishes a video, now or as soon as it is processed.
    Publish {
        /// Its id.
        video: String,
        /// Not before this time, for example 2027-01-31T18:00:00Z.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Withdraws the publication of a video.
    Unpublish {
        /// Its id.
        video: String,
    },
    /// Deletes a video.
    Delete {
        /// Its id.
        video: String,
    },
}

/// Properties of a video.
#[derive(Debug, Default, Args)]
pub(crate) struct Details {
    /// Its description.
    #[arg(long)]
    description: Option<String>,
    /// A tag. May be given five times; the tags replace those that it has. An empty one removes
    /// all.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Its category: the name or id. An empty one removes it.
    #[arg(long)]
    category: Option<String>,
    /// The language that is spoken, for example pt-BR. An empty one removes it.
    #[arg(long)]
    language: Option<String>,
    /// public, unlisted, private, members, internal or password.
    #[arg(long)]
    visibility: Option<String>,
    /// A file whose first line is the password, for the visibility password; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Carries out a command. Returns the JSON to print.
///
/// # Errors
/// [`Error`].
pub(super) async fn video(client: &Client, command: Video) -> Result<Value, Error> {
    let at = |video: &str| format!("{VIDEOS}/{}", encoded(video));
    Ok(match command {
        Video::List { channel: Some(channel), .. } => {
            let path = format!("/api/v1/channels/{}/videos?all=true", encoded(&channel));
            all(client, &path, "videos").await?
        }
        Video::List { category: Some(category), .. } => {
            let category = category_id(client, &category).await?;
            all(client, &format!("{VIDEOS}?category={}", encoded(&category)), "videos").await?
        }
        Video::List { tag: Some(tag), .. } => {
            all(client, &format!("{VIDEOS}?tag={}", encoded(&tag)), "videos").await?
        }
        Video::List { .. } => all(client, VIDEOS, "videos").await?,
        Video::Show { video } => client.send(Method::GET, &at(&video), None).await?,
        Video::Announce { channel, title, details } => {
            let path = format!("/api/v1/channels/{}/videos", encoded(&channel));
            let body = body(client, Some(title), details).await?;
            client.send(Method::POST, &path, Some(&body)).await?
        }
        Video::Edit { video, title, details } => {
            let body = body(client, title, details).await?;
            client.send(Method::PATCH, &at(&video), Some(&body)).await?
        }
        Video::Publish { video, at: time } => {
            let path = format!("{}/publication", at(&video));
            client.send(Method::PUT, &path, Some(&json!({ "at": time }))).await?
        }
        Video::Unpublish { video } => {
            let path = format!("{}/publication", at(&video));
            client.send(Method::DELETE, &path, None).await?
        }
        Video::Delete { video } => client.send(Method::DELETE, &at(&video), None).await?,
    })
}

/// The body of a request with the properties that are given.
async fn body(client: &Client, title: Option<String>, details: Details) -> Result<Value, Error> {
    let mut members = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        members.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("title", title.map(Value::String));
    add("description", details.description.map(Value::String));
    let is_set = !details.tags.is_empty();
    let tags = details.tags.into_iter().filter(|tag| !tag.is_empty()).map(Value::String);
    add("tags", is_set.then(|| tags.collect()));
    let category = match details.category {
        Some(category) if !category.is_empty() => {
            Some(Value::String(category_id(client, &category).await?))
        }
        category => category.map(|_| Value::Null),
    };
    add("category", category);
    let language = details.language;
    add("language", language.map(|tag| if tag.is_empty() { Value::Null } else { tag.into() }));
    add("visibility", details.visibility.map(Value::String));
    add("password", details.password_file.map(|file| password(&file)).transpose()?.map(Into::into));
    Ok(Value::Object(members))
}

/// The first line of a file. A password in an argument would be in the list of processes.
fn password(file: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().take(MAX_PASSWORD).read_to_string(&mut text),
        false => std::fs::File::open(file)
            .and_then(|opened| opened.take(MAX_PASSWORD).read_to_string(&mut text)),
    };
    read.map_err(|source| Error::Path { path: file.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The id of the category with a name or an id.
async fn category_id(client: &Client, category: &str) -> Result<String, Error> {
    let listed: Result<Value, ClientError> =
        client.send(Method::GET, "/api/v1/categories", None).await;
    let mut listed = listed?;
    let listed = listed["categories"].take();
    let is_it = |entry: &&Value| {
        let is = |text: &str| text.to_lowercase() == category.to_lowercase();
        entry["id"] == category || entry["name"].as_str().is_some_and(is)
    };
    let found = listed.as_array().into_iter().flatten().find(is_it);
    found.and_then(|entry| entry["id"].as_str()).map(str::to_owned).ok_or_else(|| Error::Unknown {
        thing: "category",
        name: category.to_owned(),
        place: "the platform".to_owned(),
    })
}

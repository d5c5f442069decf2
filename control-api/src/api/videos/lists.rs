//! The lists of videos.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use control_domain::{
    Actor, Fault, Refusal, Rows,
    features::videos::queries::{self, Entry, Place},
    id::{CategoryId, ChannelId, VideoId},
    page::Page as Found,
    table::Key,
    text::Tag,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{super::channels, Shown};
use crate::{
    Platform,
    authentication::Sender,
    described::described,
    page::{Page, Paging},
    problem::{Kind, Problem, problems},
};

/// The name of the lists of published videos in their cursors.
const PUBLISHED: &str = "videos";
/// The name of the list of all videos of a channel in its cursors.
const ALL: &str = "videos-all";

/// A page of videos.
pub(super) type Videos = Page<Shown>;

/// The videos of the platform that are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only those of this category.
    #[serde(default)]
    #[param(schema_with = described::<CategoryId>, required = false)]
    category: Option<CategoryId>,
    /// Only those with this tag, or with one that means the same.
    #[serde(default)]
    #[param(schema_with = described::<Tag>, required = false)]
    tag: Option<Tag>,
}

/// The videos of a channel that are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfChannel {
    /// Whether the owner and moderators get the videos in all states, the newest announcement
    /// first. Default: published ones, the newest publication first.
    #[serde(default)]
    all: bool,
}

problems!(
    /// Problems of [`list_videos`] and [`list_channel_videos`].
    ListProblems: InvalidRequest, InvalidCursor, InvalidToken, NotFound, PreconditionFailed
);

/// List videos
///
/// Published videos that the sender may find, the newest first: those of one category, those with
/// one tag, or all. A page may have fewer entries than requested although others follow.
#[utoipa::path(
    get,
    path = "/api/v1/videos",
    params(Paging<Filter>),
    responses(
        (status = OK, description = "A page of the list", body = Videos,
            content_type = "application/json"),
        ListProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
pub(super) async fn list_videos(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    page: Paging<Filter>,
) -> Result<Json<Videos>, Problem> {
    let after = page.after(PUBLISHED)?.map(|key| parsed::<Place>(&key)).transpose()?;
    let limit = page.limit;
    let found = |rows: &dyn Rows| -> Result<Found<Entry, Place>, Problem> {
        Ok(match (&page.filter.category, &page.filter.tag) {
            (None, None) => queries::newest(rows, &actor, after, limit)?,
            (Some(category), None) => queries::by_category(rows, &actor, *category, after, limit)?,
            (None, Some(tag)) => queries::by_tag(rows, &actor, tag, after, limit)?,
            (Some(_), Some(_)) => {
                let words = "give a category or a tag, not both";
                return Err(Problem::new(Kind::InvalidRequest, words));
            }
        })
    };
    let query = |rows: &dyn Rows| -> Result<_, Problem> { shown(rows, PUBLISHED, found(rows)?) };
    platform.read(query).await.map(Json)
}

/// List the videos of a channel
///
/// A page may have fewer entries than requested although others follow.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/videos",
    params(
        ("channel" = String, Path, description = "The channel's id or name"),
        Paging<OfChannel>
    ),
    responses(
        (status = OK, description = "A page of the list", body = Videos,
            content_type = "application/json"),
        ListProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
pub(super) async fn list_channel_videos(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    page: Paging<OfChannel>,
) -> Result<Json<Videos>, Problem> {
    let (channel, _) = channels::found(&platform, actor, channel).await?;
    let query = of_channel(actor, channel, &page)?;
    platform.read(query).await.map(Json)
}

/// The query for a page of a channel's videos.
fn of_channel(
    actor: Actor,
    channel: ChannelId,
    page: &Paging<OfChannel>,
) -> Result<impl FnOnce(&dyn Rows) -> Result<Videos, Problem>, Problem> {
    let (all, limit) = (page.filter.all, page.limit);
    let key = page.after(if all { ALL } else { PUBLISHED })?;
    let (announced, place) = match (key, all) {
        (None, _) => (None, None),
        (Some(key), true) => (Some(parsed::<VideoId>(&key)?), None),
        (Some(key), false) => (None, Some(parsed::<Place>(&key)?)),
    };
    Ok(move |rows: &dyn Rows| match all {
        true => {
            let found = queries::all_of_channel(rows, &actor, channel, announced, limit)?;
            shown(rows, ALL, found)
        }
        false => {
            let found = queries::of_channel(rows, &actor, channel, place, limit)?;
            shown(rows, PUBLISHED, found)
        }
    })
}

/// A page as it is sent.
fn shown<K: Key>(
    rows: &dyn Rows,
    list: &'static str,
    found: Found<Entry, K>,
) -> Result<Videos, Problem> {
    let entries = found.items.into_iter().map(|entry| Shown::of(rows, entry));
    let entries = entries.collect::<Result<Vec<_>, Fault>>().map_err(Refusal::from)?;
    let next = found.next.map(|key| {
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        bytes
    });
    Page::new(list, entries, next.as_deref())
}

/// The key after which a page begins.
fn parsed<K: Key>(key: &[u8]) -> Result<K, Problem> {
    let mut rest = key;
    K::parse(&mut rest)
        .filter(|_| rest.is_empty())
        .ok_or_else(|| Problem::new(Kind::InvalidCursor, "this cursor names no video of this list"))
}

//! Completes a search that is being typed.

use std::collections::HashSet;

use axum::{
    Extension, Json,
    extract::{Query, rejection::QueryRejection},
};
use control_domain::{
    Actor, Fault, Rows,
    features::videos as video_domain,
    id::VideoId,
    text::{ChannelTitle, folded},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    hits::{listed_channel, listed_video},
    request::{RESERVE, asked, wait},
};
use crate::{
    Search,
    authentication::Sender,
    described::described,
    problem::{Kind, Problem, problems},
    search::{Filters, Position, Reading, Sort, Thing, Wanted},
};

/// Number of suggestions: least and greatest.
const SUGGESTIONS: std::ops::RangeInclusive<usize> = 1..=20;
/// Number of suggestions without a limit of the sender.
const DEFAULT_SUGGESTIONS: usize = 8;
/// Tags among the suggestions.
const SUGGESTED_TAGS: usize = 3;

/// What is being typed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Typed {
    /// The beginning of a search.
    #[param(min_length = 1, max_length = 200)]
    q: String,
    /// Maximum number of suggestions. Default 8.
    #[param(minimum = 1, maximum = 20, default = 8)]
    limit: Option<usize>,
}

/// A suggestion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchSuggestion)]
struct Suggestion {
    /// What it is.
    kind: SuggestionKind,
    /// The title or the tag.
    #[schema(schema_with = described::<ChannelTitle>)]
    text: String,
    /// The video or channel; null for a tag.
    #[schema(schema_with = described::<Option<VideoId>>, required)]
    id: Option<Uuid>,
}

/// The kinds of suggestions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SearchSuggestionKind)]
enum SuggestionKind {
    /// The title of a video.
    Video,
    /// The title of a channel.
    Channel,
    /// A tag.
    Tag,
}

/// Suggestions, the best first, then tags.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchSuggestions)]
pub(super) struct Suggestions {
    /// The suggestions.
    #[schema(max_items = 20)]
    suggestions: Vec<Suggestion>,
}

problems!(
    /// Problems of [`complete_search`].
    CompleteProblems: InvalidRequest, InvalidToken, PreconditionFailed
);

/// Complete a search
///
/// Titles of videos and channels that the sender may find and that have all words, and tags that
/// begin with the text.
#[utoipa::path(
    get,
    path = "/api/v1/search/completion",
    params(Typed),
    responses(
        (status = OK, description = "The suggestions", body = Suggestions,
            content_type = "application/json"),
        CompleteProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
pub(super) async fn complete_search(
    Extension(search): Extension<Search>,
    Sender(actor): Sender,
    headers: HeaderMap,
    typed: Result<Query<Typed>, QueryRejection>,
) -> Result<Json<Suggestions>, Problem> {
    let invalid = |words: String| Problem::new(Kind::InvalidRequest, words);
    let Query(Typed { q, limit }) = typed.map_err(|err| invalid(err.body_text()))?;
    let limit = limit.unwrap_or(DEFAULT_SUGGESTIONS);
    if !SUGGESTIONS.contains(&limit) {
        let (least, greatest) = (SUGGESTIONS.start(), SUGGESTIONS.end());
        return Err(invalid(format!("limit is {limit}, it must be {least} to {greatest}")));
    }
    let asked = asked(&q)?;
    wait(&search, &headers).await?;
    let answer = move |reading: &Reading<'_>| {
        let (filters, after) = (Filters::of(&actor, false), None);
        let sort = Sort::Relevance;
        let wanted =
            Wanted { asked, filters, sort, after, limit: limit + RESERVE, needs_all: true };
        let found = reading.find(&wanted)?;
        let suggest = |rows: &dyn Rows| suggestions(rows, &actor, &q, &found.places, limit);
        Ok(Suggestions { suggestions: reading.store.read(suggest)?? })
    };
    search.ask(answer).await.map(Json)
}

/// The suggestions for a text: the best hits, of which each title is named once, then tags.
fn suggestions(
    rows: &dyn Rows,
    actor: &Actor,
    text: &str,
    places: &[Position],
    limit: usize,
) -> Result<Vec<Suggestion>, Fault> {
    let beginning = text.trim();
    // The longest tag has 30 characters.
    let tags = match beginning.chars().count() {
        1..=30 => video_domain::queries::complete_tag(rows, beginning, SUGGESTED_TAGS.min(limit))?,
        _ => Vec::new(),
    };
    let mut suggestions = Vec::<Suggestion>::new();
    let mut seen = HashSet::new();
    for place in places {
        if suggestions.len() + tags.len() >= limit {
            break;
        }
        let thing = place.rank.thing();
        let (kind, id, title) = match thing {
            Thing::Video(id) => {
                let entry = listed_video(rows, actor, id, false)?;
                let title = entry.map(|entry| String::from(entry.video.details.title));
                (SuggestionKind::Video, id.uuid(), title)
            }
            Thing::Channel(id) => {
                let title = listed_channel(rows, actor, id)?.map(|channel| channel.title);
                (SuggestionKind::Channel, id.uuid(), title)
            }
        };
        let title = title.filter(|title| seen.insert((thing.is_channel(), folded(title))));
        suggestions.extend(title.map(|text| Suggestion { kind, text, id: Some(id) }));
    }
    let tags = tags.into_iter().map(|found| Suggestion {
        kind: SuggestionKind::Tag,
        text: found.tag.into(),
        id: None,
    });
    suggestions.extend(tags);
    Ok(suggestions)
}

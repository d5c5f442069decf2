//! `/api/v1/search`: finds videos and channels by words, and completes what is being typed.

use std::collections::HashSet;

use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use control_domain::{
    Actor, Fault, Refusal, Rows,
    features::{categories, channels as channel_domain, tags, videos as video_domain},
    id::{CategoryId, ChannelId, VideoId},
    language::Language,
    text::{ChannelTitle, Tag, folded},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{channels, videos};
use crate::{
    Platform, Search,
    authentication::Sender,
    described::described,
    page::{Entry, Page, Paging},
    problem::{Kind, Problem, problems},
    search::{
        Asked, Filters, MAX_CHARS, Piece, Position, Reading, Sort, Thing, Wanted, excerpt, pieces,
    },
    sequence,
};

/// The name of the list in its cursors.
const BEST: &str = "search";
/// The name of the list by time in its cursors.
const NEWEST: &str = "search-new";
/// Hits that are looked at beyond those of the page, in case that some are not shown.
const RESERVE: usize = 50;
/// Number of suggestions: least and greatest.
const SUGGESTIONS: std::ops::RangeInclusive<usize> = 1..=20;
/// Number of suggestions without a limit of the sender.
const DEFAULT_SUGGESTIONS: usize = 8;
/// Tags among the suggestions.
const SUGGESTED_TAGS: usize = 3;

/// The routes.
pub(super) fn routes(search: Search) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(search_things))
        .routes(routes!(complete_search))
        .layer(Extension(search))
}

/// What is searched.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Words, as a person types them; there are no operators. Signs, case and accents make no
    /// difference, longer words may have a wrong letter or two, and the last word may be the
    /// beginning of one. At most 16 words are searched.
    #[param(min_length = 1, max_length = 200)]
    q: String,
    /// Only videos, or only channels.
    #[serde(default)]
    #[param(required = false)]
    kind: Option<HitKind>,
    /// Only videos of this category.
    #[serde(default)]
    #[param(schema_with = described::<CategoryId>, required = false)]
    category: Option<CategoryId>,
    /// Only videos with this tag, or with one that means the same.
    #[serde(default)]
    #[param(schema_with = described::<Tag>, required = false)]
    tag: Option<Tag>,
    /// Only videos in this language: `pt` includes `pt-BR`.
    #[serde(default)]
    #[param(schema_with = described::<Language>, required = false)]
    language: Option<Language>,
    /// Only this channel and its videos: its id or name.
    #[serde(default)]
    #[param(required = false)]
    channel: Option<String>,
    /// The order. Default: the best hits first.
    #[serde(default)]
    #[param(required = false, inline)]
    sort: Order,
    /// Whether the words that were found are shown.
    #[serde(default)]
    highlight: bool,
}

/// The kinds of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HitKind {
    /// A video.
    Video,
    /// A channel.
    Channel,
}

/// The orders of hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// The best first.
    #[default]
    Relevance,
    /// The newest first.
    New,
}

/// A video or a channel that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHit)]
struct Hit {
    /// What it is.
    kind: HitKind,
    /// The video; null for a channel.
    video: Option<videos::Shown>,
    /// The channel; null for a video.
    channel: Option<channels::Shown>,
    /// The words that were found; null if they were not requested.
    highlights: Option<Highlights>,
}

/// The texts of a hit with the words that were found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHighlights)]
struct Highlights {
    /// The title, in pieces.
    title: Vec<TextPiece>,
    /// The part of the description around the first of the words, in pieces; empty if it has none.
    description: Vec<TextPiece>,
}

/// A piece of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchPiece)]
struct TextPiece {
    /// The piece.
    text: String,
    /// Whether it is a word that was found.
    is_match: bool,
}

impl From<Piece> for TextPiece {
    fn from(Piece { text, is_match }: Piece) -> Self {
        Self { text, is_match }
    }
}

impl Highlights {
    fn new(title: &str, description: &str, spellings: &HashSet<String>) -> Self {
        let sent = |pieces: Vec<Piece>| pieces.into_iter().map(TextPiece::from).collect();
        let title = sent(pieces(title, spellings));
        Self { title, description: sent(excerpt(description, spellings)) }
    }
}

impl Entry for Hit {
    const MEMBER: &'static str = "hits";
    const PAGE: &'static str = "SearchHits";
    const DESCRIPTION: &'static str = "Videos and channels that were found.";
    type Schema = Self;
}

/// A page of hits.
type Hits = Page<Hit>;

/// What is being typed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Typed {
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
    #[schema(schema_with = described::<Option<VideoId>>)]
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
struct Suggestions {
    /// The suggestions.
    #[schema(max_items = 20)]
    suggestions: Vec<Suggestion>,
}

problems!(
    /// Problems of [`search_things`].
    SearchProblems: InvalidRequest, InvalidCursor, InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`complete_search`].
    CompleteProblems: InvalidRequest, InvalidToken, PreconditionFailed
);

/// Search
///
/// Videos and channels that the sender may find, and that have all words, or else at least half of
/// them, in their title, tags, description or channel. A page may have fewer entries than requested
/// although others follow. The index follows changes within about a second; a request with
/// Sf-Sequence waits for it. While the index is built again, the response is 503.
#[utoipa::path(
    get,
    path = "/api/v1/search",
    params(Paging<Filter, 20>),
    responses(
        (status = OK, description = "A page of hits", body = Hits,
            content_type = "application/json"),
        SearchProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn search_things(
    State(platform): State<Platform>,
    Extension(search): Extension<Search>,
    Sender(actor): Sender,
    headers: HeaderMap,
    page: Paging<Filter, 20>,
) -> Result<Json<Hits>, Problem> {
    let asked = asked(&page.filter.q)?;
    let (list, sort) = match page.filter.sort {
        Order::Relevance => (BEST, Sort::Relevance),
        Order::New => (NEWEST, Sort::New),
    };
    let after = page.after(list)?.map(|key| position(&key, &asked)).transpose()?;
    let channel = match page.filter.channel.clone() {
        Some(channel) => Some(channels::found(&platform, actor, Ok(Path(channel))).await?.0),
        None => None,
    };
    wait(&search, &headers).await?;
    let answer = move |reading: &Reading<'_>| {
        let filter = &page.filter;
        let filters = |rows: &dyn Rows| filters(rows, &actor, filter, channel);
        let filters = reading.store.read(filters)??;
        let limit = page.limit + 1 + RESERVE;
        let found =
            reading.find(&Wanted { asked, filters, sort, after, limit, needs_all: false })?;
        let spellings = filter.highlight.then_some(&found.spellings);
        let read = |rows: &dyn Rows| {
            let show = |thing| hit(rows, &actor, thing, channel.is_some(), spellings);
            shown(&found.places, page.limit, limit, show)
        };
        let (hits, next) = reading.store.read(read)??;
        Ok(Page::new(list, hits, next.as_deref())?)
    };
    search.ask(answer).await.map(Json)
}

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
async fn complete_search(
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

/// The words of a query.
///
/// # Errors
/// 400 if it is empty or too long.
fn asked(q: &str) -> Result<Asked, Problem> {
    let length = q.chars().take(MAX_CHARS + 1).count();
    if !(1..=MAX_CHARS).contains(&length) {
        let words = format!("q must have 1 to {MAX_CHARS} characters");
        return Err(Problem::new(Kind::InvalidRequest, words));
    }
    Ok(Asked::parse(q))
}

/// The place behind which a page begins.
fn position(key: &[u8], asked: &Asked) -> Result<Position, Problem> {
    Position::parse(key, asked).ok_or_else(|| {
        let words = "this cursor is of another query: send it with the same q";
        Problem::new(Kind::InvalidCursor, words)
    })
}

/// Waits until the index knows of the event that the sender names. The tables have it already.
async fn wait(search: &Search, headers: &HeaderMap) -> Result<(), Problem> {
    let wanted =
        headers.get(sequence::SEQUENCE).and_then(|value| value.to_str().ok()?.parse().ok());
    match wanted {
        Some(wanted) => search.reached(wanted).await,
        None => Ok(()),
    }
}

/// The filters of a search.
///
/// # Errors
/// [`Refusal::NotFound`] if there is no such category.
fn filters(
    rows: &dyn Rows,
    actor: &Actor,
    filter: &Filter,
    channel: Option<ChannelId>,
) -> Result<Filters, Refusal> {
    let mut filters = Filters::of(actor, channel.is_some());
    if let Some(kind) = filter.kind {
        filters.kind(kind == HitKind::Channel);
    }
    if let Some(category) = filter.category {
        categories::queries::category(rows, category)?;
        filters.category(category);
    }
    if let Some(tag) = &filter.tag {
        filters.tags(&tags::queries::spellings(rows, tag)?);
    }
    if let Some(language) = &filter.language {
        filters.language(language);
    }
    if let Some(channel) = channel {
        filters.channel(channel);
    }
    Ok(filters)
}

/// The hits of a page, and the key behind which the next one begins. Of the places, `looked_at` at
/// most were looked for.
fn shown<T>(
    places: &[Position],
    limit: usize,
    looked_at: usize,
    mut show: impl FnMut(Thing) -> Result<Option<T>, Fault>,
) -> Result<(Vec<T>, Option<Vec<u8>>), Fault> {
    let mut hits = Vec::with_capacity(limit);
    for (index, place) in places.iter().enumerate() {
        hits.extend(show(place.rank.thing())?);
        let is_full = hits.len() == limit;
        let is_last = index + 1 == places.len();
        // There may be more than were looked for.
        if (is_full && !is_last) || (is_last && places.len() == looked_at) {
            return Ok((hits, Some(place.bytes())));
        }
    }
    Ok((hits, None))
}

/// A hit as it is sent, if the sender may find it.
fn hit(
    rows: &dyn Rows,
    actor: &Actor,
    thing: Thing,
    in_channel: bool,
    spellings: Option<&HashSet<String>>,
) -> Result<Option<Hit>, Fault> {
    let highlights = |title: &str, description: &str| {
        spellings.map(|spellings| Highlights::new(title, description, spellings))
    };
    Ok(match thing {
        Thing::Video(id) => {
            let Some(entry) = listed_video(rows, actor, id, in_channel)? else { return Ok(None) };
            let details = &entry.video.details;
            let highlights = highlights(details.title.as_str(), details.description.as_str());
            let video = Some(videos::Shown::of(rows, entry)?);
            Some(Hit { kind: HitKind::Video, video, channel: None, highlights })
        }
        Thing::Channel(id) => {
            let Some(channel) = listed_channel(rows, actor, id)? else { return Ok(None) };
            let highlights = highlights(&channel.title, &channel.description);
            let channel = Some(channels::Shown::of(rows, id, channel)?);
            Some(Hit { kind: HitKind::Channel, video: None, channel, highlights })
        }
    })
}

/// A video, if the actor may find it.
fn listed_video(
    rows: &dyn Rows,
    actor: &Actor,
    id: VideoId,
    in_channel: bool,
) -> Result<Option<video_domain::queries::Entry>, Fault> {
    match video_domain::queries::video(rows, id) {
        Ok(entry) => {
            let is_listed = match in_channel {
                true => entry.is_listed_in_channel(actor),
                false => entry.is_listed(actor),
            };
            Ok(Some(entry).filter(|_| is_listed))
        }
        Err(Refusal::Fault(fault)) => Err(fault),
        Err(_) => Ok(None),
    }
}

/// A channel, if the actor may find it.
fn listed_channel(
    rows: &dyn Rows,
    actor: &Actor,
    id: ChannelId,
) -> Result<Option<channel_domain::queries::Channel>, Fault> {
    let channel = channel_domain::queries::find(rows, id)?;
    Ok(channel.filter(|channel| channel_domain::queries::is_listed(channel, actor)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_limit_and_says_whether_others_may_follow() {
        let asked = Asked::parse("a");
        let place = |n: u64| {
            let mut bytes = [0; 30];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Position::parse(&bytes, &asked).expect("a position")
        };
        let places = |count: u64| (0..count).map(place).collect::<Vec<_>>();
        let page = |count, limit, looked_at, is_shown: fn(usize) -> bool| {
            let mut asked = 0;
            let show = |_| {
                asked += 1;
                Ok(is_shown(asked).then_some(asked))
            };
            let (hits, next) = shown(&places(count), limit, looked_at, show).expect("no fault");
            (hits.len(), next.map(|next| next[7]))
        };
        assert_eq!(page(5, 3, 10, |_| true), (3, Some(2)));
        assert_eq!(page(3, 3, 10, |_| true), (3, None));
        assert_eq!(page(2, 3, 10, |_| true), (2, None));
        assert_eq!(page(10, 3, 10, |n| n > 8), (2, Some(9)), "others may follow");
        assert_eq!(page(0, 3, 10, |_| true), (0, None));
    }
}

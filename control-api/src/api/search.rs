//! `/api/v1/search`: finds videos and channels by words, and completes what is being typed.

mod completion;
mod hits;
mod request;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use control_domain::{
    Actor, Fault, Refusal, Rows,
    features::{categories, tags},
    id::{CategoryId, ChannelId},
    language::Language,
    text::Tag,
};
use http::HeaderMap;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    hits::{Hit, HitKind, hit},
    request::{RESERVE, asked, wait},
};
use super::channels;
use crate::{
    Platform, Search,
    authentication::Sender,
    described::described,
    page::{Page, Paging},
    problem::{Kind, Problem, problems},
    search::{Asked, Filters, Position, Reading, Sort, Thing, Wanted},
};

/// The name of the list in its cursors.
const BEST: &str = "search";
/// The name of the list by time in its cursors.
const NEWEST: &str = "search-new";
/// The routes.
pub(super) fn routes(search: Search) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(search_things))
        .routes(routes!(completion::complete_search))
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
    #[param(value_type = HitKind, required = false, inline)]
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
    #[param(value_type = String, required = false)]
    channel: Option<String>,
    /// The order. Default: the best hits first.
    #[serde(default)]
    #[param(required = false, inline)]
    sort: Order,
    /// Whether the words that were found are shown.
    #[serde(default)]
    highlight: bool,
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

/// A page of hits.
type Hits = Page<Hit>;

problems!(
    /// Problems of [`search_things`].
    SearchProblems: InvalidRequest, InvalidCursor, InvalidToken, NotFound, PreconditionFailed
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

/// The place behind which a page begins.
fn position(key: &[u8], asked: &Asked) -> Result<Position, Problem> {
    Position::parse(key, asked).ok_or_else(|| {
        let words = "this cursor is of another query: send it with the same q";
        Problem::new(Kind::InvalidCursor, words)
    })
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

//! `/api/v1/categories`: the categories of videos and live broadcasts. Administrators change them.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use control_domain::{
    Refusal, Rows,
    features::categories::{
        commands::{Make, Move, Remove, Rename},
        events::Translations,
        queries,
        tables::Category,
    },
    id::CategoryId,
    language::Language,
    patch,
    text::CategoryName,
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Platform,
    authentication::Sender,
    content::{Content, created},
    described::described,
    platform::Matching,
    precondition::{ETag, IfMatch, tagged_state},
    problem::{Kind, Problem, problems},
    sequence::SEQUENCE,
};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(list_categories, make_category))
        .routes(routes!(show_category, rename_category, remove_category))
        .routes(routes!(move_category))
}

/// A category in the list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedCategory)]
struct Listed {
    /// The category.
    #[schema(schema_with = described::<CategoryId>)]
    id: CategoryId,
    /// Its name in the requested language, if it has one, otherwise its name.
    #[schema(schema_with = described::<CategoryName>)]
    name: String,
}

/// All categories in their order.
#[derive(Debug, Serialize, ToSchema)]
struct Categories {
    /// The categories.
    #[schema(max_items = 100)]
    categories: Vec<Listed>,
}

/// A category.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Category)]
struct Shown {
    /// The category.
    #[schema(schema_with = described::<CategoryId>)]
    id: CategoryId,
    /// Its name where there is no translation.
    #[schema(schema_with = described::<CategoryName>)]
    name: CategoryName,
    /// Its names in other languages.
    #[schema(schema_with = described::<Translations>)]
    translations: Translations,
}

impl Shown {
    /// A category with its state.
    fn of(id: CategoryId, category: Category) -> (Self, ETag) {
        let Category { name, translations, version } = category;
        (Self { id, name, translations }, ETag::of_version(version))
    }
}

/// The language of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Reader {
    /// The language of the names, a tag of BCP 47; `pt-BR` finds names in `pt`, too.
    #[serde(default)]
    #[param(schema_with = described::<Language>, required = false)]
    lang: Option<Language>,
}

/// A category to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCategory {
    /// Its name where there is no translation. Names that differ only in case are the same.
    #[schema(schema_with = described::<CategoryName>)]
    name: CategoryName,
    /// Its names in other languages. Default: none.
    #[serde(default)]
    #[schema(schema_with = described::<Translations>, required = false)]
    translations: Translations,
}

/// Other names of a category. Members that are absent keep their value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CategoryPatch {
    /// Its name where there is no translation.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<CategoryName>, required = false)]
    name: Option<CategoryName>,
    /// Its names in other languages, all of them.
    #[serde(default, deserialize_with = "patch::present")]
    #[schema(schema_with = described::<Translations>, required = false)]
    translations: Option<Translations>,
}

/// A place in the list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CategoryPosition {
    /// The number of categories before it. A greater number than there are is the end.
    position: u32,
}

problems!(
    /// Problems of [`list_categories`].
    ListProblems: InvalidRequest, InvalidToken, PreconditionFailed
);
problems!(
    /// Problems of [`make_category`].
    MakeProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    Conflict, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`show_category`].
    ShowProblems: InvalidToken, NotFound, PreconditionFailed
);
problems!(
    /// Problems of [`rename_category`] and [`move_category`].
    ChangeProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound, Conflict,
    PreconditionFailed, InvalidContent
);
problems!(
    /// Problems of [`remove_category`].
    RemoveProblems: Unauthenticated, InvalidToken, Forbidden, NotFound, PreconditionFailed
);

/// List the categories
#[utoipa::path(
    get,
    path = "/api/v1/categories",
    params(Reader),
    responses(
        (status = OK, description = "All categories", body = Categories,
            content_type = "application/json"),
        ListProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn list_categories(
    State(platform): State<Platform>,
    reader: Result<Query<Reader>, QueryRejection>,
) -> Result<Json<Categories>, Problem> {
    let Query(Reader { lang }) =
        reader.map_err(|err| Problem::new(Kind::InvalidRequest, err.body_text()))?;
    let all = platform.read(queries::all).await?;
    let name = |category: &Category| match &lang {
        Some(lang) => queries::name(category, lang).to_owned(),
        None => category.name.as_str().to_owned(),
    };
    let listed = |(id, category): (CategoryId, Category)| Listed { id, name: name(&category) };
    Ok(Json(Categories { categories: all.into_iter().map(listed).collect() }))
}

/// Make a category
///
/// At the end of the list. Administrators may do it.
#[utoipa::path(
    post,
    path = "/api/v1/categories",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = NewCategory,
    responses(
        (status = CREATED, description = "The category", body = Shown,
            content_type = "application/json"),
        MakeProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn make_category(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    Content(NewCategory { name, translations }): Content<NewCategory>,
) -> Result<Response, Problem> {
    let receipt = platform.send(actor, Make { name, translations }).await?;
    let id = receipt.done;
    let category = platform.read(|rows| queries::category(rows, id)).await?;
    let (shown, _) = Shown::of(id, category);
    let response = created(&format!("/api/v1/categories/{id}"), shown)?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Show a category with its names in all languages
#[utoipa::path(
    get,
    path = "/api/v1/categories/{category}",
    params(("category" = String, Path, description = "The category's id")),
    responses(
        (status = OK, description = "The category", body = Shown,
            content_type = "application/json"),
        ShowProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_category(
    State(platform): State<Platform>,
    category: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    respond(&platform, id(category)?).await
}

/// Give a category other names
///
/// Administrators may do it. With If-Match the change is made only if the category is as the sender
/// has read it.
#[utoipa::path(
    patch,
    path = "/api/v1/categories/{category}",
    params(
        ("category" = String, Path, description = "The category's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    request_body(content = CategoryPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = OK, description = "The category as it is now", body = Shown,
            content_type = "application/json"),
        ChangeProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn rename_category(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    category: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(CategoryPatch { name, translations }): Content<CategoryPatch>,
) -> Result<Response, Problem> {
    let id = id(category)?;
    let rename = Rename { category: id, name, translations, expected: None };
    let receipt = platform.send(actor, matching(rename, if_match, id)).await?;
    let response = respond(&platform, id).await?;
    Ok(([(SEQUENCE, receipt.sequence.to_string())], response).into_response())
}

/// Move a category within the list
///
/// Administrators may do it.
#[utoipa::path(
    put,
    path = "/api/v1/categories/{category}/position",
    params(
        ("category" = String, Path, description = "The category's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the category")
    ),
    request_body = CategoryPosition,
    responses((status = NO_CONTENT, description = "The category is there"), ChangeProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn move_category(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    category: Result<Path<String>, PathRejection>,
    if_match: IfMatch,
    Content(CategoryPosition { position }): Content<CategoryPosition>,
) -> Result<Response, Problem> {
    let id = id(category)?;
    let command = matching(Move { category: id, position }, if_match, id);
    let receipt = platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

/// Remove a category
///
/// Its videos keep its id, and no list has them by it any more. Administrators may do it.
#[utoipa::path(
    delete,
    path = "/api/v1/categories/{category}",
    params(
        ("category" = String, Path, description = "The category's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read")
    ),
    responses((status = NO_CONTENT, description = "The category is gone"), RemoveProblems),
    security(("account" = []), ("administrator" = []))
)]
async fn remove_category(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    category: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id(category)?;
    let command = matching(Remove { category: id }, IfMatch::of(&headers), id);
    let receipt = platform.send(actor, command).await?;
    let sequence = [(SEQUENCE, receipt.sequence.to_string())];
    Ok((StatusCode::NO_CONTENT, sequence).into_response())
}

async fn respond(platform: &Platform, id: CategoryId) -> Result<Response, Problem> {
    let category = platform.read(|rows| queries::category(rows, id)).await?;
    let (shown, tag) = Shown::of(id, category);
    tagged_state(&shown, &tag)
}

fn matching<C>(command: C, if_match: IfMatch, id: CategoryId) -> Matching<C> {
    let tag = move |rows: &dyn Rows| -> Result<ETag, Refusal> {
        Ok(ETag::of_version(queries::category(rows, id)?.version))
    };
    Matching::new(command, if_match, tag)
}

/// The category that a path names.
fn id(path: Result<Path<String>, PathRejection>) -> Result<CategoryId, Problem> {
    let Path(text) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    text.parse().map_err(|_| Refusal::NotFound { thing: "category" }.into())
}

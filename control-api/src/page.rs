//! Pages of lists: the parameters `limit` and `cursor`, and the object that holds a page.
//!
//! Every page has the member `next`, and its entries under the name of their resource, such as
//! `streams`.

use std::borrow::Cow;

use axum::extract::{FromRequestParts, Query};
use http::{Uri, request::Parts};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, Ref, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{SchemaType, Type},
    },
};

use crate::{
    cursor,
    problem::{Kind, Problem},
};

/// The requested page of a list: 1 to `MAX` entries, `DEFAULT` if the client sends no `limit`.
/// Other parameters of the query are `F`.
///
/// As an extractor it fails with 400 for an invalid or unknown parameter.
#[derive(Debug, Clone)]
pub struct Paging<F = NoFilter, const DEFAULT: usize = 50, const MAX: usize = 100> {
    /// Maximum number of entries.
    pub limit: usize,
    /// The other parameters.
    pub filter: F,
    /// The cursor as sent.
    cursor: Option<String>,
}

/// A list without other parameters.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFilter {}

impl IntoParams for NoFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        Vec::new()
    }
}

/// The parameters of every list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl<F, const DEFAULT: usize, const MAX: usize> Paging<F, DEFAULT, MAX> {
    /// The key after which the page begins; `None` for the first page.
    ///
    /// # Errors
    /// 400 if the cursor is not one of this list.
    pub fn after(&self, list: &'static str) -> Result<Option<Vec<u8>>, Problem> {
        self.cursor.as_deref().map(|text| cursor::parse(list, text)).transpose()
    }

    /// The cursor as sent.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }
}

impl<F: DeserializeOwned, const DEFAULT: usize, const MAX: usize> Paging<F, DEFAULT, MAX> {
    /// Parses a query.
    fn of(query: &str) -> Result<Self, Problem> {
        // Both parts are strict about unknown parameters, so each gets its own ones only.
        let (own, other): (Vec<&str>, Vec<&str>) = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .partition(|pair| matches!(pair.split('=').next(), Some("limit" | "cursor")));
        let Own { limit, cursor } = parsed(&own.join("&"))?;
        let filter = parsed(&other.join("&"))?;
        let limit = limit.unwrap_or(DEFAULT);
        if !(1..=MAX).contains(&limit) {
            let words = format!("limit is {limit}, it must be 1 to {MAX}");
            return Err(Problem::new(Kind::InvalidRequest, words));
        }
        Ok(Self { limit, filter, cursor })
    }
}

/// Parses a part of a query.
fn parsed<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let invalid = |words: String| Problem::new(Kind::InvalidRequest, words);
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|err| invalid(err.to_string()))?;
    let Query(parsed) = Query::try_from_uri(&uri).map_err(|err| invalid(err.body_text()))?;
    Ok(parsed)
}

impl<S, F, const DEFAULT: usize, const MAX: usize> FromRequestParts<S> for Paging<F, DEFAULT, MAX>
where
    S: Send + Sync,
    F: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts.uri.query().unwrap_or_default())
    }
}

impl<F: IntoParams, const DEFAULT: usize, const MAX: usize> IntoParams for Paging<F, DEFAULT, MAX> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = |name: &str, description: String, schema: ObjectBuilder| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(schema))
                .build()
        };
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(MAX))
            .default(Some(DEFAULT.into()));
        let cursor = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[A-Za-z0-9_-]+$"))
            .max_length(Some(cursor::MAX_BYTES));
        let mut parameters = vec![
            parameter("limit", format!("Maximum number of entries. Default {DEFAULT}."), limit),
            parameter("cursor", "`next` of the previous page, unchanged.".to_owned(), cursor),
        ];
        parameters.extend(F::into_params(place));
        parameters
    }
}

/// An entry of a list.
pub trait Entry: Serialize {
    /// The name of the member that has the entries.
    const MEMBER: &'static str;
    /// The name of the page's schema.
    const PAGE: &'static str;
    /// The description of the page.
    const DESCRIPTION: &'static str;
    /// The schema of an entry.
    type Schema: ToSchema;
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    entries: Vec<T>,
    next: Option<String>,
}

impl<T: Entry> Page<T> {
    /// A page of the list of this name. `last` is the key after which the next page begins; `None`
    /// on the last page.
    ///
    /// # Errors
    /// 500 if the key is too long, which is a fault of the route.
    pub fn new(list: &'static str, entries: Vec<T>, last: Option<&[u8]>) -> Result<Self, Problem> {
        let next = last.map(|key| cursor::write(list, key)).transpose()?;
        Ok(Self { entries, next })
    }
}

impl<T: Entry> Serialize for Page<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(2))?;
        members.serialize_entry(T::MEMBER, &self.entries)?;
        members.serialize_entry("next", &self.next)?;
        members.end()
    }
}

impl<T: Entry> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let entries = ArrayBuilder::new().items(Ref::from_schema_name(T::Schema::name()));
        let next = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some(
                "Start of the next page, to be passed as `cursor`; null on the last.",
            ))
            .max_length(Some(cursor::MAX_BYTES));
        ObjectBuilder::new()
            .description(Some(T::DESCRIPTION))
            .property(T::MEMBER, entries)
            .required(T::MEMBER)
            .property("next", next)
            .required("next")
            .into()
    }
}

impl<T: Entry> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        T::PAGE.into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::Schema::name().into_owned(), T::Schema::schema()));
        T::Schema::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Serialize, ToSchema)]
    struct Channel {
        name: String,
    }

    impl Entry for Channel {
        const MEMBER: &'static str = "channels";
        const PAGE: &'static str = "Channels";
        const DESCRIPTION: &'static str = "Channels, by name.";
        type Schema = Self;
    }

    #[derive(Debug, Deserialize, PartialEq, IntoParams)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        category: Option<String>,
    }

    #[test]
    fn limit_and_cursor_have_ranges_and_defaults_and_unknown_parameters_are_refused() {
        let limit = |query: &str| <Paging>::of(query).map(|paging| paging.limit).ok();
        assert_eq!(
            (limit(""), limit("limit=1"), limit("limit=100")),
            (Some(50), Some(1), Some(100))
        );
        for query in
            ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "page=2", "limit=1&limit=2"]
        {
            assert_eq!(limit(query), None, "{query}");
        }
        let wide = Paging::<NoFilter, 100, 500>::of("limit=500&").unwrap();
        assert_eq!((wide.limit, wide.after("channels").unwrap()), (500, None));
        let cursor = cursor::write("channels", b"a").unwrap();
        let paging = <Paging>::of(&format!("cursor={cursor}&limit=2")).unwrap();
        assert_eq!(paging.after("channels").unwrap(), Some(b"a".to_vec()));
        assert!(paging.after("streams").is_err());
    }

    #[test]
    fn other_parameters_are_the_filter_of_the_list() {
        let paging = Paging::<Filter>::of("limit=3&category=a%26b").unwrap();
        assert_eq!((paging.limit, paging.filter.category.as_deref()), (3, Some("a&b")));
        assert!(Paging::<Filter>::of("limit=3&colour=red").is_err());
        let names: Vec<_> = <Paging<Filter>>::into_params(|| Some(ParameterIn::Query))
            .into_iter()
            .map(|parameter| parameter.name)
            .collect();
        assert_eq!(names, ["limit", "cursor", "category"]);
    }

    #[test]
    fn a_page_has_its_entries_under_the_name_of_their_resource_and_the_next_cursor() {
        let entries = || vec![Channel { name: "a".into() }];
        let page = Page::new("channels", entries(), Some(b"a")).unwrap();
        let cursor = cursor::write("channels", b"a").unwrap();
        let expected = json!({ "channels": [{ "name": "a" }], "next": cursor });
        assert_eq!(serde_json::to_value(&page).unwrap(), expected);
        let last = Page::new("channels", entries(), None).unwrap();
        assert_eq!(serde_json::to_value(&last).unwrap()["next"], json!(null));
        let schema = serde_json::to_value(Page::<Channel>::schema()).unwrap();
        assert_eq!(schema["required"], json!(["channels", "next"]));
        assert_eq!(
            schema["properties"]["channels"]["items"]["$ref"],
            "#/components/schemas/Channel"
        );
    }
}

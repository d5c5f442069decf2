//! Schemas of the domain's types in the API's description, so that a limit is stated once.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;
use utoipa::openapi::{RefOr, Schema, schema::ObjectBuilder};

/// The schema of a type of the domain, for `#[schema(schema_with = described::<T>)]`.
pub(crate) fn described<T: JsonSchema>() -> RefOr<Schema> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    let mut schema = schema.into();
    constants_as_enums(&mut schema);
    // Both are JSON Schema; a test holds that the limits arrive.
    serde_json::from_value(schema).unwrap_or_else(|_| ObjectBuilder::new().into())
}

/// Replaces `const`, which the description's type does not have, by an `enum` of one value.
fn constants_as_enums(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(constant) = members.remove("const") {
                members.insert("enum".to_owned(), Value::Array(vec![constant]));
            }
            members.values_mut().for_each(constants_as_enums);
        }
        Value::Array(items) => items.iter_mut().for_each(constants_as_enums),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use control_domain::{Time, features::channels::events::Visibility, id::ChannelId, text::*};
    use serde_json::{json, to_value};

    use super::*;

    fn schema<T: JsonSchema>() -> Value {
        to_value(described::<T>()).expect("a schema is JSON")
    }

    #[test]
    fn a_schema_has_the_limits_of_the_domain() {
        let title = json!({ "type": "string", "minLength": 1, "maxLength": 120 });
        assert_eq!(schema::<ChannelTitle>(), title);
        assert_eq!(schema::<ChannelName>()["pattern"], "^[A-Za-z0-9_-]{1,64}$");
        assert_eq!(schema::<ChannelId>()["format"], "uuid");
        assert_eq!(schema::<Time>()["format"], "date-time");
        let values = schema::<Visibility>().to_string();
        for value in ["public", "unlisted", "private", "members"] {
            assert!(values.contains(value), "{values}");
        }
    }
}

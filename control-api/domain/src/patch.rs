//! Fields of a partial change, as in a JSON Merge Patch (RFC 7396): an absent field keeps its
//! value, `null` removes it.

use serde::{Deserialize, Deserializer};

/// Reads a field that may be `null`, for `#[serde(default, deserialize_with = "patch::nullable")]`:
/// `None` if it is absent, `Some(None)` if it is `null`.
///
/// # Errors
/// The field's value is not of its type.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Reads a field that has always a value, for
/// `#[serde(default, deserialize_with = "patch::present")]`: `None` if it is absent. `null`, which
/// would remove the value, is refused.
///
/// # Errors
/// The field's value is not of its type.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    #[derive(Debug, PartialEq, super::Deserialize)]
    struct Rename {
        #[serde(default, deserialize_with = "super::present")]
        name: Option<String>,
    }

    #[test]
    fn a_field_that_has_always_a_value_is_absent_or_not_null() {
        let read = |json: &str| serde_json::from_str::<Rename>(json).map(|rename| rename.name);
        assert_eq!(read("{}").expect("nothing"), None);
        assert_eq!(read(r#"{"name":"a"}"#).expect("a name").as_deref(), Some("a"));
        assert!(read(r#"{"name":null}"#).is_err());
    }

    #[derive(Debug, PartialEq, Default, Serialize, super::Deserialize)]
    struct Change {
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "super::nullable"
        )]
        limit: Option<Option<u8>>,
    }

    #[test]
    fn an_absent_field_differs_from_null() {
        for (json, limit) in
            [("{}", None), (r#"{"limit":null}"#, Some(None)), (r#"{"limit":3}"#, Some(Some(3)))]
        {
            let change: Change = serde_json::from_str(json).expect("a change");
            assert_eq!(change, Change { limit });
            assert_eq!(serde_json::to_string(&change).expect("JSON"), json);
        }
    }
}

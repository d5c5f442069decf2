//! The persons whose sealed data an event carries. Their keys must be in the bucket before the
//! event is in the stream, because a replica that folds it without the key would take them for
//! erased.

use std::collections::BTreeSet;

use control_domain::{Envelope, id::AccountId};
use serde_json::Value;

/// Adds the persons of an event.
pub(super) fn add(envelope: &Envelope, persons: &mut BTreeSet<AccountId>) {
    // Most events have none, which a search finds faster than a parser.
    let data = envelope.data.get();
    if !data.contains("\"sealed\"") {
        return;
    }
    // It was parsed as raw JSON before.
    if let Ok(value) = serde_json::from_str(data) {
        walk(&value, persons);
    }
}

/// The depth is bounded by the parser's.
fn walk(value: &Value, persons: &mut BTreeSet<AccountId>) {
    match value {
        Value::Object(members) => {
            if let (Some(Value::String(person)), Some(Value::String(_))) =
                (members.get("person"), members.get("sealed"))
            {
                persons.extend(person.parse::<AccountId>());
            }
            members.values().for_each(|value| walk(value, persons));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, persons)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use control_domain::Sealed;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn persons(data: &Value) -> BTreeSet<AccountId> {
        let envelope = serde_json::from_value(json!({
            "specversion": "1.0",
            "id": Uuid::nil(),
            "source": "/streamforge",
            "type": "streamforge.test.v1",
            "subject": "a",
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "actor": "system",
            "data": null,
        }));
        let mut envelope: Envelope = envelope.expect("an envelope");
        envelope.data = serde_json::value::to_raw_value(data).expect("JSON");
        let mut persons = BTreeSet::new();
        add(&envelope, &mut persons);
        persons
    }

    #[test]
    fn sealed_values_are_found_at_any_depth() {
        let [a, b] = [1, 2].map(|n| AccountId::new(Uuid::from_u128(n)));
        let sealed = |person| {
            let sealed = Sealed { person, sealed: "AAAA".into() };
            serde_json::to_value(sealed).expect("JSON")
        };
        let data = json!({ "name": sealed(a), "list": [{ "mail": [sealed(b)] }, sealed(a)] });
        assert_eq!(persons(&data), BTreeSet::from([a, b]));
    }

    #[test]
    fn other_values_are_no_sealed_ones() {
        let person = Uuid::from_u128(1).to_string();
        for data in [
            json!(null),
            json!({ "person": person }),
            json!({ "person": person, "sealed": 1 }),
            json!({ "person": "nobody", "sealed": "AAAA" }),
            json!({ "text": "\"sealed\"" }),
        ] {
            assert_eq!(persons(&data), BTreeSet::new(), "{data}");
        }
    }
}

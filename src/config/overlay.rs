//! Values that replace others: the file those built in, the environment those of the file.

use toml::{Table, Value};

/// Merges tables: a value of `over` replaces the one below it, but sections keep their other keys.
pub(super) fn lay_over(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

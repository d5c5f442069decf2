//! Rows that change often while many events are folded: they stay in memory until they are written
//! in the order of their keys. A row that ten events change is read and written once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use control_domain::{
    Fault, Rows, RowsMut,
    rows::{Order, Row},
};

use super::rows::WriteRows;

/// Bytes of keys and values that wait at most.
const MAX_BYTES: usize = 16 << 20;

/// Rows that wait: `None` is one to remove.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The tables of a write transaction, and changes that are not in it yet.
pub(super) struct BufferedRows<'a> {
    rows: WriteRows<'a>,
    changes: RefCell<HashMap<&'static str, Changes>>,
    bytes: usize,
}

impl<'a> BufferedRows<'a> {
    pub(super) fn new(rows: WriteRows<'a>) -> Self {
        Self { rows, changes: RefCell::default(), bytes: 0 }
    }

    /// Writes all changes. Without it they are lost.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        self.write_all()
    }

    fn write_all(&mut self) -> Result<(), Fault> {
        self.bytes = 0;
        for (table, changes) in self.changes.get_mut().drain() {
            self.rows.change_all(table, changes)?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        table: &'static str,
        key: &[u8],
        value: Option<Vec<u8>>,
    ) -> Result<(), Fault> {
        // A row that is changed again counts again, so that this is an upper bound.
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.get_mut().entry(table).or_default().insert(key.to_vec(), value);
        match self.bytes > MAX_BYTES {
            true => self.write_all(),
            false => Ok(()),
        }
    }
}

impl Rows for BufferedRows<'_> {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(value) = self.changes.borrow().get(table).and_then(|rows| rows.get(key)) {
            return Ok(value.clone());
        }
        self.rows.get(table, key)
    }

    /// Ranges are rare in folds: the changes of the table are written first.
    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        let changes = self.changes.borrow_mut().remove(table);
        self.rows.change_all(table, changes.unwrap_or_default())?;
        self.rows.range(table, keys, order, limit)
    }
}

impl RowsMut for BufferedRows<'_> {
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.change(table, key, Some(value.to_vec()))
    }

    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault> {
        self.change(table, key, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use control_domain::rows::MemoryRows;
    use redb::{Database, backends::InMemoryBackend};

    use super::*;

    #[test]
    fn buffered_rows_are_read_and_written_as_unbuffered_ones() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.expect("memory");
        let transaction = database.begin_write().expect("nobody writes");
        let rows = || WriteRows::new(&transaction, Arc::default());
        let (mut buffered, mut expected) = (BufferedRows::new(rows()), MemoryRows::default());
        let all = (Bound::Unbounded, Bound::Unbounded);
        // Numbers of a simple generator: the same each time.
        let mut state = 1_u32;
        let mut next = |below: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] % below
        };
        for _ in 0..20_000 {
            let (table, key) = (["a", "b"][usize::from(next(2))], [next(50)]);
            match next(20) {
                0..8 => {
                    let value = [next(200), next(200)];
                    buffered.put(table, &key, &value).expect("memory");
                    expected.put(table, &key, &value).expect("memory");
                }
                8..12 => {
                    buffered.remove(table, &key).expect("memory");
                    expected.remove(table, &key).expect("memory");
                }
                12 => {
                    let from = (Bound::Included(&key[..]), Bound::Unbounded);
                    for order in [Order::Up, Order::Down] {
                        let page = |rows: &dyn Rows| rows.range(table, from, order, 7);
                        assert_eq!(
                            page(&buffered).expect("memory"),
                            page(&expected).expect("memory")
                        );
                    }
                }
                13 if next(10) == 0 => {
                    buffered.finish().expect("memory");
                    buffered = BufferedRows::new(rows());
                }
                _ => {
                    let (found, expected) = (buffered.get(table, &key), expected.get(table, &key));
                    assert_eq!(found.expect("memory"), expected.expect("memory"));
                }
            }
        }
        buffered.finish().expect("memory");
        for table in ["a", "b"] {
            let page = |rows: &dyn Rows| rows.range(table, all, Order::Up, 1000).expect("memory");
            assert!(!page(&expected).is_empty(), "otherwise this tests nothing");
            assert_eq!(page(&rows()), page(&expected));
        }
    }
}

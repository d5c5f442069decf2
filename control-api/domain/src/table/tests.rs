use proptest::prelude::*;

use super::*;
use crate::rows::MemoryRows;

const PAIRS: Table<(String, u64), String> = Table::new("test.pairs");

fn all(rows: &MemoryRows, order: Order) -> Vec<(String, u64)> {
    let page = PAIRS.page(rows, &(), None, order, 100).expect("memory does not fail");
    page.into_iter().map(|(key, _)| key).collect()
}

fn table(keys: &[(&str, u64)]) -> MemoryRows {
    let mut rows = MemoryRows::default();
    for (text, number) in keys {
        let value = format!("{text}{number}");
        PAIRS.put(&mut rows, &((*text).to_owned(), *number), &value).expect("memory");
    }
    rows
}

#[test]
fn the_beginning_of_a_text_is_a_prefix_of_all_texts_that_begin_so() {
    let rows = table(&[("", 1), ("mu", 1), ("mus", 2), ("music", 1), ("mut", 1), ("m\0", 1)]);
    let found = |beginning| {
        let page = PAIRS.page(&rows, &Beginning(beginning), None, Order::Up, 100).expect("memory");
        page.into_iter().map(|((text, _), _)| text).collect::<Vec<_>>()
    };
    assert_eq!(found("mus"), ["mus", "music"]);
    assert_eq!(found("m"), ["m\0", "mu", "mus", "music", "mut"]);
    assert_eq!(found("m\0"), ["m\0"]);
    assert_eq!(found("").len(), 6);
    assert_eq!(found("x"), [] as [&str; 0]);
}

#[test]
fn a_page_holds_the_rows_of_its_prefix_alone() {
    let rows = table(&[("a", 1), ("a", 2), ("a", u64::MAX), ("ab", 1), ("b", 1)]);
    let prefix = "a".to_owned();
    let page = |after: Option<&(String, u64)>, order| {
        let page = PAIRS.page(&rows, &prefix, after, order, 100).expect("memory");
        page.into_iter().map(|((_, number), _)| number).collect::<Vec<_>>()
    };
    assert_eq!(page(None, Order::Up), [1, 2, u64::MAX]);
    assert_eq!(page(Some(&(prefix.clone(), 1)), Order::Up), [2, u64::MAX]);
    assert_eq!(page(Some(&(prefix.clone(), 2)), Order::Down), [1]);
    // Cursors of other prefixes, as a stranger may send them.
    assert_eq!(page(Some(&("b".to_owned(), 1)), Order::Up), [] as [u64; 0]);
    assert_eq!(page(Some(&("b".to_owned(), 1)), Order::Down), [u64::MAX, 2, 1]);
    assert_eq!(page(Some(&("".to_owned(), 1)), Order::Up), [1, 2, u64::MAX]);
    assert_eq!(page(Some(&("".to_owned(), 1)), Order::Down), [] as [u64; 0]);
}

#[test]
fn a_row_of_another_format_is_a_fault_with_its_table() {
    let mut rows = MemoryRows::default();
    rows.put("test.pairs", b"no key", b"\x01x").expect("memory");
    let fault = PAIRS.page(&rows, &(), None, Order::Up, 1).expect_err("no such key");
    assert!(matches!(fault, Fault::Row { table: "test.pairs" }), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_sort_as_their_values_and_are_read_back(
        mut keys in proptest::collection::vec(("[\0a-c\u{ff}]{0,3}", any::<u64>()), 0..20),
    ) {
        let mut rows = MemoryRows::default();
        for key in &keys {
            PAIRS.put(&mut rows, key, &String::new()).expect("memory");
        }
        keys.sort();
        keys.dedup();
        prop_assert_eq!(all(&rows, Order::Up), keys.clone());
        keys.reverse();
        prop_assert_eq!(all(&rows, Order::Down), keys);
    }
}

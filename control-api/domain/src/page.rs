//! Pages of lists from which entries are left out, such as videos that the actor may not know.

use crate::rows::{Fault, PAGE};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The entries. There may be fewer than requested, even none, although others follow.
    pub items: Vec<T>,
    /// The key after which the next page begins; `None` at the end of the list.
    pub next: Option<K>,
}

/// Keys that one query examines. With this bound a list of entries that are left out does not
/// occupy a reader.
pub const EXAMINED: usize = 500;

/// Reads a page of at most `limit` entries behind the key `after`.
///
/// `read` returns at most so many keys behind a key, in the order of the list. `show` returns the
/// entry of a key, or `None` if it is left out.
///
/// # Errors
/// A [`Fault`] of `read` or `show`.
pub fn filtered<T, K: Clone>(
    after: Option<K>,
    limit: usize,
    mut read: impl FnMut(Option<&K>, usize) -> Result<Vec<K>, Fault>,
    mut show: impl FnMut(&K) -> Result<Option<T>, Fault>,
) -> Result<Page<T, K>, Fault> {
    let limit = limit.clamp(*PAGE.start(), *PAGE.end());
    let mut page = Page { items: Vec::new(), next: after };
    let mut examined = 0;
    while examined < EXAMINED {
        // One key more than needed shows whether another page follows.
        let keys = read(page.next.as_ref(), limit + 1)?;
        for (index, key) in keys.iter().enumerate() {
            page.next = Some(key.clone());
            page.items.extend(show(key)?);
            if page.items.len() == limit {
                let is_end = keys.len() <= limit && index + 1 == keys.len();
                page.next = page.next.filter(|_| !is_end);
                return Ok(page);
            }
        }
        if keys.len() <= limit {
            page.next = None;
            break;
        }
        examined += keys.len();
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages over the numbers 1 to `last`, of which those that `is_shown` are listed.
    fn page(
        last: u64,
        after: Option<u64>,
        limit: usize,
        is_shown: impl Fn(u64) -> bool,
    ) -> Page<u64, u64> {
        let read = |after: Option<&u64>, count: usize| {
            let begin = after.map_or(1, |after| after + 1);
            Ok((begin..=last).take(count).collect())
        };
        let show = |key: &u64| Ok(is_shown(*key).then_some(*key));
        filtered(after, limit, read, show).expect("numbers do not fail")
    }

    #[test]
    fn pages_that_are_read_one_after_the_other_have_each_listed_entry_once() {
        for last in 0..30 {
            for limit in 1..12 {
                for divisor in 1..6 {
                    let is_shown = |n: u64| n.is_multiple_of(divisor);
                    let (mut seen, mut after) = (Vec::new(), None);
                    loop {
                        let page = page(last, after, limit, is_shown);
                        assert!(page.items.len() <= limit);
                        seen.extend(page.items);
                        after = page.next;
                        if after.is_none() {
                            break;
                        }
                    }
                    let expected = (1..=last).filter(|n| is_shown(*n)).collect::<Vec<_>>();
                    assert_eq!(seen, expected, "{last} {limit} {divisor}");
                }
            }
        }
    }

    #[test]
    fn the_last_page_has_no_next_and_a_long_list_without_entries_is_left_in_between() {
        assert_eq!(page(4, Some(2), 2, |_| true), Page { items: vec![3, 4], next: None });
        assert_eq!(page(5, None, 2, |_| true), Page { items: vec![1, 2], next: Some(2) });
        let page = page(1_000_000, None, 10, |_| false);
        assert_eq!(page.items, [] as [u64; 0]);
        let examined = page.next.expect("more follow");
        assert!((500..600).contains(&examined), "{examined}");
    }
}

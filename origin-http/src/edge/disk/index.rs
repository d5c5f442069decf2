//! The files, their sizes, and the order of their last use. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Maximum number of files; beyond it, the least recently used are removed.
const MAX_FILES: usize = 1 << 20;
/// Disk space of a file besides its bytes.
const OVERHEAD: u64 = 4 << 10;

/// Files by address and by use.
#[derive(Debug)]
pub(super) struct Index {
    /// Maximum of `bytes`.
    limit: u64,
    /// Disk space of all files, including [`OVERHEAD`] for each.
    bytes: u64,
    files: HashMap<Arc<str>, Slot>,
    /// The addresses by last use; the least recent first.
    by_use: BTreeMap<u64, Arc<str>>,
    /// Number of uses so far.
    uses: u64,
}

/// The size of a file, and its last use.
#[derive(Debug)]
struct Slot {
    bytes: u64,
    used: u64,
}

impl Index {
    /// No files, and room for `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, bytes: 0, files: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Disk space in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The size of a file, if it exists; it becomes the most recently used.
    pub(super) fn touch(&mut self, target: &Arc<str>) -> Option<u64> {
        let slot = self.files.get_mut(target)?;
        self.uses += 1;
        self.by_use.remove(&slot.used);
        slot.used = self.uses;
        self.by_use.insert(self.uses, Arc::clone(target));
        Some(slot.bytes)
    }

    /// Adds or replaces a file of `bytes` bytes, as the most recently used.
    pub(super) fn insert(&mut self, target: Arc<str>, bytes: u64) {
        self.remove(&target);
        self.uses += 1;
        // A replaced file must not count twice, so it was removed first.
        let bytes = bytes.saturating_add(OVERHEAD);
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_use.insert(self.uses, Arc::clone(&target));
        self.files.insert(target, Slot { bytes, used: self.uses });
    }

    /// Removes a file, if it is listed.
    pub(super) fn remove(&mut self, target: &str) {
        if let Some(slot) = self.files.remove(target) {
            self.bytes = self.bytes.saturating_sub(slot.bytes);
            self.by_use.remove(&slot.used);
        }
    }

    /// Removes the least recently used files beyond the limit and returns their addresses. The
    /// caller deletes them.
    pub(super) fn evict(&mut self) -> Vec<Arc<str>> {
        // The number of files is limited too, because small files cost the index memory, and the
        // disk an inode each.
        let mut evicted = Vec::new();
        while (self.bytes > self.limit || self.files.len() > MAX_FILES)
            && let Some((_, target)) = self.by_use.pop_first()
        {
            self.remove(&target);
            evicted.push(target);
        }
        evicted
    }

    /// Forgets all files.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_file_is_evicted_and_a_rewritten_one_counts_once() {
        let name = |n: u64| Arc::<str>::from(format!("{n}"));
        let mut index = Index::new(3 * (OVERHEAD + 1_000));
        for n in 0..3 {
            index.insert(name(n), 1_000);
        }
        index.insert(name(1), 1_000);
        assert_eq!(index.evict(), []);
        assert_eq!((index.touch(&name(0)), index.touch(&name(9))), (Some(OVERHEAD + 1_000), None));
        index.insert(name(3), 1_000);
        assert_eq!(index.evict(), [name(2)]);
        index.insert(name(4), 2 * OVERHEAD + 3_000);
        assert_eq!(index.evict(), [name(1), name(0), name(3)]);
        index.remove("4");
        assert_eq!((index.bytes(), index.by_use.len()), (0, 0));
    }
}

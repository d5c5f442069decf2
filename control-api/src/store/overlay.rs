//! A file that is read, and whose changes stay in memory. With it redb opens a database on a disk
//! that cannot be written: it repairs in memory what an aborted transaction has left.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes of a page that is kept when it was changed.
const PAGE: usize = 4096;
/// Pages that are kept at most: 64 MiB. A repair writes far fewer.
const MAX_PAGES: usize = 16_384;

/// The file, and its changes.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    len: u64,
    /// Bytes of the file that count. Those behind them read as zeros.
    file_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    /// Opens a file, which is not written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_len = file.metadata()?.len();
        let changes = Changes { len: file_len, file_len, pages: BTreeMap::new() };
        Ok(Self { file, changes: Mutex::new(changes) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file, and zeros behind its end.
    fn read_file(&self, file_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(file_len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (from_file, behind) = out.split_at_mut(there.min(out.len()));
        behind.fill(0);
        self.file.read_exact_at(from_file, offset)
    }
}

/// The pages of a range of bytes: the number of each, and the ranges within the page and within the
/// bytes.
fn pages(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset + done as u64;
        // The remainder is less than a page.
        let within = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let count = (PAGE - within).min(length - done);
        let bytes = done..done + count;
        done += count;
        Some((at / PAGE as u64, within..within + count, bytes))
    })
}

impl redb::StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset.saturating_add(out.len() as u64) > changes.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(changes.file_len, offset, out)?;
        for (number, within, bytes) in pages(offset, out.len()) {
            if let Some(page) = changes.pages.get(&number) {
                out[bytes].copy_from_slice(&page[within]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.changes();
        changes.len = len;
        // Bytes that are cut off read as zeros if the file grows again.
        changes.file_len = changes.file_len.min(len);
        let last = changes.pages.split_off(&(len / PAGE as u64)).into_iter().next();
        if let Some((number, mut page)) = last.filter(|(number, _)| *number == len / PAGE as u64) {
            // The remainder is less than a page.
            page[usize::try_from(len % PAGE as u64).unwrap_or(0)..].fill(0);
            changes.pages.insert(number, page);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        for (number, within, bytes) in pages(offset, data.len()) {
            if !changes.pages.contains_key(&number) {
                if changes.pages.len() >= MAX_PAGES {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                let mut page = Box::new([0; PAGE]);
                self.read_file(changes.file_len, number * PAGE as u64, &mut *page)?;
                changes.pages.insert(number, page);
            }
            if let Some(page) = changes.pages.get_mut(&number) {
                page[within].copy_from_slice(&data[bytes]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::StorageBackend as _;

    use super::*;

    #[test]
    fn changes_are_read_back_and_the_file_stays_as_it_is() {
        let name = format!("streamforge-overlay-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let before = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>();
        std::fs::write(&path, &before).expect("a file");
        let overlay = Overlay::open(&path).expect("a file");
        let mut expected = before.clone();
        // Within a page, over the border of two pages, and behind the end of the file.
        for (offset, length) in [(10, 20), (4090, 12), (9_990, 30)] {
            overlay.set_len(20_000).expect("memory");
            expected.resize(20_000, 0);
            let data = vec![0xEE; length];
            overlay.write(offset as u64, &data).expect("memory");
            expected[offset..offset + length].copy_from_slice(&data);
        }
        overlay.set_len(4_092).expect("memory");
        overlay.set_len(20_000).expect("memory");
        expected[4_092..].fill(0);
        for (offset, length) in [(0, 20_000), (5, 10), (4000, 200), (9_995, 40), (19_999, 1)] {
            let mut out = vec![1; length];
            overlay.read(offset as u64, &mut out).expect("within its length");
            assert_eq!(out, expected[offset..offset + length], "{length} bytes at {offset}");
        }
        assert!(overlay.read(19_999, &mut [0; 2]).is_err(), "behind its length");
        assert_eq!(std::fs::read(&path).expect("a file"), before);
        std::fs::remove_file(&path).expect("it is ours");
    }
}

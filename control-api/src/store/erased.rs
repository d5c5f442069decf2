//! The list of erased persons: a text file, one identifier a line, beside the database. It is
//! small, so that it can be copied elsewhere often: with it a restored backup, which may be older
//! than an erasure, keeps these persons erased.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use control_domain::id::AccountId;

/// The list, in the platform's folder and in backups.
pub(super) const ERASED_LIST: &str = "erased.txt";

/// The file to which persons are added.
#[derive(Debug)]
pub(super) struct ErasedList(PathBuf);

impl ErasedList {
    /// The list in a folder. It need not exist.
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join(ERASED_LIST))
    }

    /// Adds persons, durable.
    pub(super) fn add(&self, persons: &[AccountId]) -> io::Result<()> {
        // A line of its own, because a crash may have cut off the line before.
        let lines = persons.iter().map(|person| format!("\n{person}")).collect::<String>();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.0)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    }
}

/// The persons in a list. A line that was cut off is none; none if there is no file.
pub(super) fn read(path: &Path) -> io::Result<BTreeSet<AccountId>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_line_that_a_crash_has_cut_off_costs_no_other_line() {
        let folder = std::env::temp_dir();
        let folder = folder.join(format!("streamforge-erased-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let list = ErasedList::new(&folder);
        let path = folder.join(ERASED_LIST);
        assert_eq!(read(&path).expect("no file"), BTreeSet::new());
        let [a, b] = [1, 2].map(|n| AccountId::new(Uuid::from_u128(n)));
        list.add(&[a]).expect("it can be written");
        let mut text = fs::read_to_string(&path).expect("a file");
        text.push_str("\n0000-cut");
        fs::write(&path, text).expect("a file");
        list.add(&[b, a]).expect("it can be written");
        assert_eq!(read(&path).expect("a file"), BTreeSet::from([a, b]));
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}

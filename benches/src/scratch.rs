//! A directory in memory for a run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Failure;

/// The directory. Dropping it removes it with its content.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// `/dev/shm` cannot be written.
    pub fn new(name: &str) -> Result<Self, Failure> {
        let path = Path::new("/dev/shm").join(format!("streamforge-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

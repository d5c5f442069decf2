//! The master key: 32 random bytes in a file that only its owner can read.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::secret::KEY_LEN;
use crate::store::open_error::OpenError;

/// Reads the master key, or makes it.
pub(super) fn read_or_make(path: &Path, random: &SystemRandom) -> Result<Vec<u8>, OpenError> {
    let file = |error| OpenError::of_file(path, error);
    match fs::read(path) {
        Ok(secret) if secret.len() == KEY_LEN => return Ok(secret),
        Ok(_) => return Err(OpenError::MasterKey { path: path.to_owned(), expected: KEY_LEN }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        Err(_) => {}
    }
    let mut secret = vec![0; KEY_LEN];
    random.fill(&mut secret).map_err(|_| file(io::Error::other("no random numbers")))?;
    // Complete or not there: a key that is cut off would lock out all that it protects.
    let temporary = path.with_extension("new");
    let write = || {
        let _ = fs::remove_file(&temporary);
        let mut options = fs::OpenOptions::new();
        let mut new = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(&secret)?;
        new.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(file)?;
    Ok(secret)
}

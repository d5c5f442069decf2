//! A self-signed certificate for development: created once and kept, so that a browser must accept
//! it only once.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tracing::info;

use super::{
    error::{Error, NotMade},
    files::Files,
};

/// Its validity.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Start of the validity before the creation, because clocks differ.
const BEFORE: Duration = Duration::from_secs(86_400);

/// The files under `data_dir`. A new pair is created if a file is missing, the two do not match, or
/// the certificate has expired. A file that cannot be read or parsed is not replaced, so that the
/// operator can examine it.
pub(crate) fn keep(data_dir: &Path) -> Result<Files, Error> {
    let folder = data_dir.join("tls");
    let files = Files { cert: folder.join("self-signed.pem"), key: folder.join("self-signed.key") };
    if !is_usable(&files)? {
        make(&folder, &files)
            .map_err(|source| Error::NotMade { folder: folder.clone(), source })?;
        info!(cert = %files.cert.display(), "self-signed certificate created, which browsers do \
                                             not trust");
    }
    Ok(files)
}

/// Whether the pair exists, matches, and has not expired.
fn is_usable(files: &Files) -> Result<bool, Error> {
    if !(files.cert.exists() && files.key.exists()) {
        return Ok(false);
    }
    match files.load() {
        Ok(loaded) => Ok(loaded.facts.left(SystemTime::now()).is_some()),
        // The files are replaced one after the other. A process or a machine that ends in between
        // leaves one of each pair.
        Err(Error::Mismatch { source: rustls::Error::InconsistentKeys(_), .. }) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Creates a pair for `localhost`, its addresses and the host's name.
fn make(folder: &Path, files: &Files) -> Result<(), NotMade> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !host.is_empty() && host != "localhost" {
        names.push(host);
    }
    let mut params = CertificateParams::new(names)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) =
        (epoch + now.saturating_sub(BEFORE), epoch + now + LIFE);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "streamforge, self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // ECDSA on P-256, which every client supports.
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;

    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A pair of which only one file is written is created again, see `is_usable`.
    write(&files.key, 0o600, key.serialize_pem().as_bytes())?;
    write(&files.cert, 0o644, certificate.pem().as_bytes())?;
    Ok(())
}

/// Writes the whole file, or nothing.
fn write(file: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    // An earlier attempt may have left it. `create_new` follows no link that another user could
    // have placed.
    let _ = fs::remove_file(&new);
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    written.write_all(content)?;
    // On disk before the rename: otherwise a crash of the machine could leave an empty file.
    written.sync_all()?;
    fs::rename(&new, file)
}

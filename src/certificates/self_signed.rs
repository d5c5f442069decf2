//! A certificate of our own, for development: made once and kept, so that a browser need be told only once to accept it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tracing::info;

use super::{Error, Files};

/// How long it is good.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For clocks that differ.
const BEFORE: Duration = Duration::from_secs(86_400);

/// The files under `data_dir`, made if they are not there or the certificate has run out. A pair that is broken is left for people to look at.
pub(super) fn keep(data_dir: &Path) -> Result<Files, Error> {
    let folder = data_dir.join("tls");
    let files = Files {
        cert: folder.join("self-signed.pem"),
        key: folder.join("self-signed.key"),
    };
    let there = files.cert.exists() && files.key.exists();
    let over = there && files.load()?.facts.left(SystemTime::now()).is_none();
    if !there || over {
        make(&folder, &files).map_err(|why| Error::NotMade {
            folder: folder.clone(),
            why,
        })?;
        info!(cert = %files.cert.display(), "a self-signed certificate was made, which browsers will not trust by themselves");
    }
    Ok(files)
}

fn make(folder: &Path, files: &Files) -> Result<(), String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !host.is_empty() && host != "localhost" {
        names.push(host);
    }
    let mut params = CertificateParams::new(names).map_err(|err| err.to_string())?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + now.saturating_sub(BEFORE), epoch + now + LIFE);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "streamforge, self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // ECDSA on P-256: what every client can.
    let key = KeyPair::generate().map_err(|err| err.to_string())?;
    let certificate = params.self_signed(&key).map_err(|err| err.to_string())?;

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|err| err.to_string())?;
    write(&files.key, 0o600, key.serialize_pem().as_bytes()).map_err(|err| err.to_string())?;
    write(&files.cert, 0o644, certificate.pem().as_bytes()).map_err(|err| err.to_string())
}

/// Whole or not at all.
fn write(file: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&new, file)
}

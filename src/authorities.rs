//! Certificate authorities of servers to which the daemon sends requests.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    /// It is no PEM.
    #[error("{}: {source}", file.display())]
    Pem { file: PathBuf, source: pem::Error },
    /// It has an invalid certificate.
    #[error("{}: {source}", file.display())]
    Certificate { file: PathBuf, source: rustls::Error },
    /// It has none.
    #[error("{}: no certificate in it", file.display())]
    NoCertificate { file: PathBuf },
    /// The system has none.
    #[error("the system has no certificate authorities: install ca-certificates, or name a file")]
    NoAuthority,
}

/// The authorities in a PEM file, or the system's if the path is empty. Blocks for the files.
///
/// # Errors
/// [`Error`].
pub(crate) fn load(ca: &Path) -> Result<RootCertStore, Error> {
    let file = || ca.to_owned();
    let mut roots = RootCertStore::empty();
    if ca.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(Error::NoAuthority) } else { Ok(roots) };
    }
    let text = fs::read(ca).map_err(|source| Error::Read { file: file(), source })?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|source| Error::Pem { file: file(), source })?;
        let added = roots.add(certificate);
        added.map_err(|source| Error::Certificate { file: file(), source })?;
    }
    if roots.is_empty() { Err(Error::NoCertificate { file: file() }) } else { Ok(roots) }
}

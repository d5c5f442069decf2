//! Errors of certificates, with the file at fault.

use std::{io, path::PathBuf};

use rustls::pki_types::pem;

use super::facts;

/// Why there is no certificate, with the file at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// The file contains no certificate in PEM.
    #[error(
        "{}: no certificate in PEM (-----BEGIN CERTIFICATE-----) in the file: {source}",
        file.display()
    )]
    NoCertificate { file: PathBuf, source: NoCertificate },
    /// The file contains no private key in PEM.
    #[error(
        "{}: no private key in PEM (-----BEGIN PRIVATE KEY-----) in the file: {source}",
        file.display()
    )]
    NoKey { file: PathBuf, source: pem::Error },
    /// The certificate and the key do not match.
    #[error("{} and {} do not match: {source}", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf, source: rustls::Error },
    /// A self-signed certificate could not be created.
    #[error("a self-signed certificate cannot be created in {}: {source}", folder.display())]
    NotMade { folder: PathBuf, source: NotMade },
}

/// Why a file has no usable certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCertificate {
    /// Its PEM cannot be read.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// It is empty, or has only other objects.
    #[error("it has none")]
    None,
    /// The server's own certificate, which is the first, cannot be read.
    #[error(transparent)]
    Facts(#[from] facts::Error),
}

/// Why a self-signed certificate could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotMade {
    /// Its names, key or signature.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// Its files.
    #[error(transparent)]
    File(#[from] io::Error),
}

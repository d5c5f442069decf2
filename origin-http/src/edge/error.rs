//! Why an edge cannot be created, in one line for the operator.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A fault of the section `edge` of the configuration, or of the system.
#[derive(Debug, Error)]
pub enum Error {
    /// A value is refused.
    #[error(transparent)]
    Config(#[from] net_core::config::Error),
    /// No origin is listed.
    #[error("edge.origin is empty")]
    NoOrigin,
    /// The file of certificate authorities cannot be read.
    #[error("edge.ca: {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The file of certificate authorities is not PEM.
    #[error("edge.ca: {}: {source}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// Its fault.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate of the file cannot be an authority.
    #[error("edge.ca: {}: {source}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// The fault of the certificate.
        source: rustls::Error,
    },
    /// The file of certificate authorities has none, although an origin needs one.
    #[error("edge.ca: {} holds no certificate", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// An origin needs a certificate authority, and the system has none.
    #[error(
        "edge.origin is https, but this system trusts no authority: install ca-certificates, or \
         set edge.ca"
    )]
    NoAuthority,
    /// rustls has no usable cipher suite.
    #[error("edge: TLS: {0}")]
    Tls(rustls::Error),
}

impl From<Error> for io::Error {
    fn from(err: Error) -> Self {
        Self::new(io::ErrorKind::InvalidInput, err)
    }
}

//! The files of a certificate and its key, read and checked.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{
    error::{Error, NoCertificate},
    facts::Facts,
};

/// Maximum size of a file; a chain or a key is some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Paths of a certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The chain, the server's own certificate first.
    pub(crate) cert: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub(crate) key: PathBuf,
}

impl Files {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// The fault, and its file.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        parse(self, &read(&self.cert)?, &read(&self.key)?)
    }
}

/// A valid pair.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The chain and its key, as rustls uses them.
    pub(super) key: Arc<CertifiedKey>,
    /// Names and validity, for logs and metrics.
    pub(crate) facts: Facts,
}

/// Reads a file of limited size.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { file: file.into(), source };
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    let length = opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    // A path may name a device or a large file by mistake.
    if length as u64 > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("more than 1 MiB")));
    }
    Ok(bytes)
}

/// Parses the content of both files, and checks that they match.
pub(super) fn parse(files: &Files, cert: &[u8], key: &[u8]) -> Result<Loaded, Error> {
    let no_certificate =
        |source: NoCertificate| Error::NoCertificate { file: files.cert.clone(), source };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|err| no_certificate(err.into()))?;
    let first = chain.first().ok_or_else(|| no_certificate(NoCertificate::None))?;
    let facts = Facts::read(first).map_err(|err| no_certificate(err.into()))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|source| Error::NoKey { file: files.key.clone(), source })?;
    let mismatch =
        |source| Error::Mismatch { cert: files.cert.clone(), key: files.key.clone(), source };
    // This also checks that the key belongs to the certificate.
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(mismatch)?;
    Ok(Loaded { key: Arc::new(key), facts })
}

//! A certificate for a run: ECDSA P-256, self-signed, for loopback; and clients that trust it.
//! Every server of a run gets the same pair. The loaders offer ciphers in the order of browsers,
//! AES-128-GCM first, so that servers that follow the client's order do not use a more expensive
//! one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::Failure;

/// The name in it, in addition to the address 127.0.0.1.
pub const NAME: &str = "localhost";

/// The pair as PEM files.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
    /// The certificate, for the root store of clients.
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Creates a pair in `directory`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn make(directory: &Path) -> Result<Self, Failure> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let made = CertificateParams::new(vec![NAME.to_owned(), "127.0.0.1".to_owned()])?
            .self_signed(&key)?;
        let certificate = Self {
            cert: directory.join("cert.pem"),
            key: directory.join("key.pem"),
            der: made.der().clone(),
        };
        fs::write(&certificate.cert, made.pem())?;
        fs::write(&certificate.key, key.serialize_pem())?;
        Ok(certificate)
    }

    /// A client that trusts only this certificate.
    ///
    /// # Errors
    /// Those of rustls, which no certificate of ours causes.
    pub fn client(&self, alpn: &[u8]) -> Result<ClientConfig, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// A server with the pair in these files, TLS 1.3.
///
/// # Errors
/// The files cannot be read.
pub fn server(cert: &Path, key: &Path, alpn: &[u8]) -> Result<ServerConfig, Failure> {
    use rustls::pki_types::pem::PemObject;
    let cert =
        CertificateDer::from_pem_file(cert).map_err(|err| format!("{}: {err}", cert.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|err| format!("{}: {err}", key.display()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = config.with_no_client_auth().with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// ring, AES-128-GCM first.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let first = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    // The sort is stable: the other suites keep their order.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    Arc::new(provider)
}

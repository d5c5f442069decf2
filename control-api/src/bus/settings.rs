//! The settings of the connection, the stream and its subjects.

use std::path::PathBuf;

use rustls::RootCertStore;

use super::{
    address::{Address, Token},
    names::{StreamName, SubjectPrefix},
};

/// The settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub address: Address,
    /// A file with credentials (a JSON Web Token and its key); empty for none.
    pub credentials: PathBuf,
    /// A token; it is used in place of the credentials in the address.
    pub token: Option<Token>,
    /// The certificate authorities that are trusted.
    pub roots: RootCertStore,
    /// The stream.
    pub stream: StreamName,
    /// The first words of all subjects.
    pub prefix: SubjectPrefix,
    /// Servers that hold the stream, of those that the writer makes: 1, 3 or 5.
    pub copies: usize,
}

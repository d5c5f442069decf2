//! The port to a mail server, and what passes it.

use std::{fmt, future::Future, pin::Pin};

use control_domain::text::Email;

/// A message, ready to be sent. `Debug` prints neither the address nor the text, which has a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// The recipient.
    pub to: Email,
    /// The subject.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML.
    pub html: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Why a mail was not accepted. The texts hold no address and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server refuses this mail for good (RFC 5321 4.2.1, 5yz), or it cannot be written.
    #[error("refused: {0}")]
    Refused(String),
    /// The server cannot be reached, or refuses for now (4yz).
    #[error("not sent: {0}")]
    NotSent(String),
}

/// The result of [`Mailer::send`] that is to come.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

/// The port to a mail server.
pub trait Mailer: Send + Sync + 'static {
    /// Hands a mail to the server. Takes a minute at most.
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a>;
}

//! The adapter to a mail server: SMTP (RFC 5321) with STARTTLS (RFC 3207) or TLS from the start
//! (RFC 8314 3.3). A connection is made for each mail.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::client::{Certificate, Tls, TlsParameters},
};
use uuid::Uuid;

use super::{Mail, Mailer, SendError, Sending};

/// Time for a command of the protocol.
const TIME: Duration = Duration::from_secs(20);
/// Longest text of a server that is logged, in characters.
const MAX_REASON: usize = 200;

/// Why no mail can be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the server is none.
    #[error(
        "smtp.url is no address of a mail server: it is smtp://HOST:PORT?tls=required for \
         STARTTLS, or smtps://HOST:PORT; a name and a password are before the host, as in \
         smtps://NAME:PASSWORD@HOST, with %XX for other characters than letters and digits"
    )]
    Url,
    /// The connection would not be encrypted.
    #[error("smtp.url: without tls=required everybody on the way to {host} could read the mails")]
    Plain {
        /// The server.
        host: String,
    },
    /// The sender is no address.
    #[error("smtp.from is no address: it is name@example.org, or NAME <name@example.org>")]
    From,
    /// The certificate authority cannot be read.
    #[error("smtp.ca: {}: {reason}", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// The cause.
        reason: String,
    },
}

/// The address of a mail server, with its credentials. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// The address in a configuration.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Sends mails by SMTP.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Smtp")
    }
}

impl Smtp {
    /// A sender through a server. `ca`: a file of certificates in PEM that are trusted beside those
    /// of the system; empty for none. Blocks for the files.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(url: &Url, from: &str, ca: &Path) -> Result<Self, Error> {
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(&url.0).map_err(|_| Error::Url)?;
        let (before, query) = url.0.split_once('?').unwrap_or((&url.0, ""));
        let uri = before.parse::<Uri>().map_err(|_| Error::Url)?;
        let host = uri.host().ok_or(Error::Url)?;
        let is_wrapped = uri.scheme_str() == Some("smtps");
        let is_required = query.split('&').any(|field| field == "tls=required");
        if !is_wrapped && !is_required && !is_loopback(host) {
            return Err(Error::Plain { host: host.to_owned() });
        }
        if !ca.as_os_str().is_empty() {
            let parameters = authority(host, ca)?;
            match (is_wrapped, is_required) {
                (true, _) => builder = builder.tls(Tls::Wrapper(parameters)),
                (false, true) => builder = builder.tls(Tls::Required(parameters)),
                (false, false) => {}
            }
        }
        let from = from.parse().map_err(|_| Error::From)?;
        Ok(Self { transport: builder.timeout(Some(TIME)).build(), from })
    }

    fn message(&self, mail: &Mail) -> Result<Message, SendError> {
        let refused = |words: &str| SendError::Refused(words.to_owned());
        let to = mail.to.as_str().parse::<Address>();
        let to = to.map_err(|_| refused("no server takes mail for such an address"))?;
        // So that no automatic reply comes (RFC 3834 5).
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        let id = format!("<{}@{}>", Uuid::new_v4(), self.from.email.domain());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(Some(id))
            .raw_header(automatic)
            .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
            .map_err(|_| refused("it cannot be written"))
    }
}

impl Mailer for Smtp {
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a> {
        Box::pin(async move {
            let message = self.message(mail)?;
            match self.transport.send(message).await {
                Ok(_) => Ok(()),
                Err(err) => {
                    let reason = reason(&err, mail);
                    Err(match err.is_permanent() && !is_credentials(&err) {
                        true => SendError::Refused(reason),
                        false => SendError::NotSent(reason),
                    })
                }
            }
        })
    }
}

/// Whether the server refuses the sender, which is a fault of the configuration and not of the mail
/// (RFC 4954 6, RFC 4954 4).
fn is_credentials(err: &lettre::transport::smtp::Error) -> bool {
    err.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

/// The cause of an error, without the recipient, which servers like to repeat.
fn reason(err: &lettre::transport::smtp::Error, mail: &Mail) -> String {
    let mut words = err.to_string();
    let mut cause = std::error::Error::source(err);
    while let Some(err) = cause {
        let more = err.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = err.source();
    }
    let words = words.replace(mail.to.as_str(), "***").replace(&mail.to.folded(), "***");
    let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_REASON).collect()
}

fn authority(host: &str, file: &Path) -> Result<TlsParameters, Error> {
    let wrong = |reason: String| Error::Authority { file: file.to_owned(), reason };
    let pem = fs::read(file).map_err(|err| wrong(err.to_string()))?;
    let certificate = Certificate::from_pem(&pem).map_err(|err| wrong(err.to_string()))?;
    let parameters = TlsParameters::builder(host.to_owned()).add_root_certificate(certificate);
    parameters.build_rustls().map_err(|err| wrong(err.to_string()))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(url: &str, from: &str) -> Result<Smtp, Error> {
        Smtp::new(&Url::new(url.to_owned()), from, Path::new(""))
    }

    #[test]
    fn a_remote_server_needs_tls_and_the_password_is_never_printed() {
        let from = "streamforge <noreply@example.org>";
        for url in [
            "smtps://ada:s3cret%21@mail.example.org",
            "smtp://ada:s3cret@mail.example.org:587?tls=required",
            "smtp://127.0.0.1:2525",
            "smtp://[::1]:2525",
            "smtp://localhost",
        ] {
            assert!(smtp(url, from).is_ok(), "{url}");
            assert_eq!(format!("{:?} {:?}", Url::new(url.into()), smtp(url, from)), "*** Ok(Smtp)");
        }
        for url in
            ["smtp://ada:s3cret@mail.example.org", "smtp://mail.example.org?tls=opportunistic"]
        {
            let refused = smtp(url, from);
            assert!(matches!(refused, Err(Error::Plain { .. })), "{refused:?}");
            assert!(!refused.expect_err("refused").to_string().contains("s3cret"));
        }
        for url in ["", "http://mail.example.org", "smtps://", "mail.example.org"] {
            assert!(matches!(smtp(url, from), Err(Error::Url)), "{url}");
        }
        for from in ["", "nobody", "a@b@c"] {
            assert!(matches!(smtp("smtp://127.0.0.1", from), Err(Error::From)), "{from}");
        }
    }

    #[test]
    fn a_message_has_both_bodies_and_says_that_no_person_sent_it() {
        let smtp = smtp("smtp://127.0.0.1", "streamforge <noreply@example.org>").expect("valid");
        let mail = Mail {
            to: "ada@example.net".parse().expect("an address"),
            subject: "Grüße".to_owned(),
            text: "plain words".to_owned(),
            html: "<p>marked words</p>".to_owned(),
        };
        let message = smtp.message(&mail).expect("a message").formatted();
        let text = String::from_utf8(message).expect("ASCII");
        for line in [
            "To: ada@example.net\r\n",
            "From: streamforge <noreply@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n",
            "plain words",
            "<p>marked words</p>",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let odd = Mail { to: "a\"b@example.net".parse().expect("our rule permits it"), ..mail };
        assert!(matches!(smtp.message(&odd), Err(SendError::Refused(_))));
    }
}

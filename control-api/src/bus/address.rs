//! The addresses and credentials of NATS servers. `Debug` of both prints `***`.

use std::{fmt, str::FromStr};

/// The port of NATS.
const PORT: u16 = 4222;
/// Servers in one setting.
const MAX_SERVERS: usize = 16;

/// Why a text is no address of servers. The text is not a part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not of the form.
    #[error(
        "it is nats://HOST:PORT, or tls://HOST:PORT, several separated by commas; a name and a \
         password are before the first host, as in nats://NAME:PASSWORD@HOST, with %XX for other \
         characters than letters and digits"
    )]
    Form,
    /// Some servers have TLS, and others do not.
    #[error("either all servers have tls:// or none, because credentials go to each")]
    Mixed,
    /// There are too many.
    #[error("it names more than {MAX_SERVERS} servers")]
    Many,
}

/// A secret text that a server asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// The token with this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The credentials in an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// None.
    Nobody,
    /// A name and a password.
    Password(String, Token),
    /// A token.
    Token(Token),
}

/// The servers of one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Each as `HOST:PORT`.
    hosts: Vec<String>,
    tls: bool,
    login: Login,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Address {
    /// The servers without credentials, each as `HOST:PORT`.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls
    }

    /// Whether a name, password or token is in it.
    pub fn has_login(&self) -> bool {
        self.login != Login::Nobody
    }

    /// The credentials in it.
    #[cfg(feature = "nats")]
    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// Whether all servers are on this machine.
    pub fn is_local(&self) -> bool {
        let is_local = |host: &String| {
            let name = host.rsplit_once(':').map_or(&**host, |(name, _)| name);
            let name = name.trim_matches(['[', ']']);
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        self.hosts.iter().all(is_local)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut all: Option<Self> = None;
        for server in text.split(',') {
            let (host, tls, login) = parse(server.trim())?;
            match &mut all {
                None => all = Some(Self { hosts: vec![host], tls, login }),
                Some(all) if all.tls != tls => return Err(AddressError::Mixed),
                // One login is for all, because they are one cluster.
                Some(_) if login != Login::Nobody => return Err(AddressError::Form),
                Some(all) if all.hosts.len() == MAX_SERVERS => return Err(AddressError::Many),
                Some(all) => all.hosts.push(host),
            }
        }
        all.ok_or(AddressError::Form)
    }
}

/// One server: its host and port, whether it has TLS, and the credentials.
fn parse(server: &str) -> Result<(String, bool, Login), AddressError> {
    let (scheme, rest) = server.split_once("://").ok_or(AddressError::Form)?;
    let tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return Err(AddressError::Form),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    let authority = host.parse::<http::uri::Authority>().map_err(|_| AddressError::Form)?;
    // The parser takes an address without a host, or with a port that is no number.
    let port = match host.strip_prefix(authority.host()) {
        Some("") => Some(PORT),
        Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()),
        None => None,
    };
    let port = port.filter(|port| *port != 0).ok_or(AddressError::Form)?;
    if authority.host().is_empty() || host.contains('@') {
        return Err(AddressError::Form);
    }
    let login = match login.map(|login| login.split_once(':')) {
        None => Login::Nobody,
        Some(Some((name, password))) => {
            Login::Password(decoded(name)?, Token::new(&decoded(password)?))
        }
        Some(None) => Login::Token(Token::new(&decoded(login.unwrap_or_default())?)),
    };
    Ok((format!("{}:{port}", authority.host()), tls, login))
}

/// Decodes %XX (RFC 3986 2.1).
fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = digit().zip(digit()).ok_or(AddressError::Form)?;
                high << 4 | low
            }
            byte => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err(AddressError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_servers_a_port_and_credentials() {
        let plain = address("nats://bus.example");
        assert_eq!(
            (plain.hosts(), plain.is_encrypted()),
            (&["bus.example:4222".into()][..], false)
        );
        assert!(!plain.has_login() && !plain.is_local());
        let several = address("tls://me:p%40ss@a.example:4300, tls://b.example/,tls://[::1]:1");
        assert_eq!(several.hosts(), ["a.example:4300", "b.example:4222", "[::1]:1"]);
        assert!(several.is_encrypted() && !several.is_local());
        assert_eq!(several.login, Login::Password("me".into(), Token::new("p@ss")));
        let token = address("nats://s3cret@127.0.0.1:4222");
        assert_eq!(token.login, Login::Token(Token::new("s3cret")));
        assert!(token.is_local());
        for shown in [format!("{several:?}"), format!("{token:?}"), format!("{:?}", token.login)] {
            assert!(!shown.contains("p@ss") && !shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused() {
        for text in [
            "",
            "bus.example",
            "http://bus.example",
            "nats://",
            "nats://:4222",
            "nats://bus.example:",
            "nats://bus.example:0",
            "nats://bus.example:99999",
            "nats://bus.example/path",
            "nats://a,",
            "nats://:@bus.example",
            "nats://me:%4@bus.example",
            "nats://a,nats://me:pass@b",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Form), "{text}");
        }
        assert_eq!("nats://a,tls://b".parse::<Address>(), Err(AddressError::Mixed));
        let many = vec!["nats://a"; MAX_SERVERS + 1].join(",");
        assert_eq!(many.parse::<Address>(), Err(AddressError::Many));
    }
}

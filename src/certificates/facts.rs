//! The names and the validity of a certificate, as text. RFC 5280 4.1.2.5, 4.2.1.6.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use tracing::warn;
use x509_parser::{
    error::X509Error, extensions::GeneralName, parse_x509_certificate, time::ASN1Time,
};

/// Remaining validity below which an operator is warned: automatic renewal happens at 30 days.
pub(crate) const SOON: Duration = Duration::from_secs(14 * 86_400);
/// Maximum number of names in the text.
const MAX_NAMES: usize = 8;

/// The facts about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its host names and addresses, otherwise its subject.
    pub(crate) names: Vec<String>,
    /// The end of its validity.
    pub(crate) not_after: SystemTime,
}

/// Why the facts about a certificate cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is not a certificate in DER.
    #[error(transparent)]
    Malformed(#[from] x509_parser::nom::Err<X509Error>),
    /// The end of its validity is before 1970.
    #[error("its dates cannot be read")]
    Dates,
}

impl Facts {
    /// Reads the facts about a certificate in DER.
    ///
    /// # Errors
    /// It is not a certificate, or its dates are before 1970.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let (_, parsed) = parse_x509_certificate(certificate)?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|extension| &extension.value.general_names);
        let mut names: Vec<String> = alternatives.into_iter().flatten().filter_map(name).collect();
        // Old certificates have their name only in the subject. TLS clients ignore it (RFC 9525 2),
        // but an operator recognises the certificate by it.
        if names.is_empty() {
            names.push(parsed.subject().to_string());
        }
        let not_after = time(parsed.validity().not_after).ok_or(Error::Dates)?;
        Ok(Self { names, not_after })
    }

    /// Its remaining validity; `None` if it has expired or is not valid yet.
    pub(crate) fn left(&self, now: SystemTime) -> Option<Duration> {
        self.not_after.duration_since(now).ok()
    }

    /// Whether it needs to be renewed.
    pub(crate) fn is_soon_over(&self, now: SystemTime) -> bool {
        self.left(now).is_none_or(|left| left < SOON)
    }

    /// Logs a warning if it needs to be renewed.
    pub(super) fn warn_if_soon_over(&self) {
        if self.is_soon_over(SystemTime::now()) {
            warn!(facts = %self, "certificate expires soon: renew it");
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.names.len().min(MAX_NAMES);
        write!(f, "{}", self.names[..shown].join(", "))?;
        if shown < self.names.len() {
            write!(f, " and {} more", self.names.len() - shown)?;
        }
        let until = humantime::format_rfc3339_seconds(self.not_after);
        match self.left(SystemTime::now()) {
            Some(left) => write!(f, "; good until {until}, {} days", left.as_secs() / 86_400),
            None => write!(f, "; ran out {until}"),
        }
    }
}

/// A host name or an address as text; other kinds of names are left out.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok();
            v4.or(v6).map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// A time before 1970 is `None`; a time after the year 9999 is that year.
fn time(time: ASN1Time) -> Option<SystemTime> {
    /// 9999-12-31T23:59:59Z, the last time that RFC 3339 can represent.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(time.timestamp()).ok()?.min(LAST);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

//! The texts of mails, from the templates in the folder `templates`: plain text, whose first line
//! is the subject, and simple HTML.

use std::time::Duration;

use control_domain::text::Email;

use super::mailer::Mail;

/// The line between the subject and the text.
const RULE: &str = "\n---\n";

/// The address that a mail leads to, with its token. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(pub String);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A kind of mail, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// Asks the owner of an address to confirm it.
    VerifyAddress {
        /// The page that confirms it.
        link: Link,
        /// The time for which the link is valid.
        life: Duration,
    },
    /// Lets the owner of an account choose another password.
    ResetPassword {
        /// The page on which it is chosen.
        link: Link,
        /// The time for which the link is valid.
        life: Duration,
    },
    /// Tells the owner of an account's former address that there is another one.
    AddressChanged,
    /// Tells the owner of an account that somebody has tried to register with the address.
    AddressTaken,
}

impl Letter {
    /// The mail to an address. `site` is the name of the installation.
    pub fn to(&self, to: Email, site: &str) -> Mail {
        let (plain, html) = self.templates();
        let (subject, text) = plain.split_once(RULE).unwrap_or(("", plain));
        let (link, life) = match self {
            Self::VerifyAddress { link, life } | Self::ResetPassword { link, life } => {
                (link.0.as_str(), *life)
            }
            Self::AddressChanged | Self::AddressTaken => ("", Duration::ZERO),
        };
        let minutes = (life.as_secs() / 60).to_string();
        let values = [("site", site), ("link", link), ("minutes", minutes.as_str())];
        let escaped = values.map(|(name, value)| (name, escaped(value)));
        let escaped = escaped.each_ref().map(|(name, value)| (*name, value.as_str()));
        Mail {
            to,
            subject: fill(subject, &values),
            text: fill(text, &values),
            html: fill(html, &escaped),
        }
    }

    /// The name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::VerifyAddress { .. } => "verify_address",
            Self::ResetPassword { .. } => "reset_password",
            Self::AddressChanged => "address_changed",
            Self::AddressTaken => "address_taken",
        }
    }

    /// The plain text and the HTML.
    fn templates(&self) -> (&'static str, &'static str) {
        macro_rules! templates {
            ($name:literal) => {
                (
                    include_str!(concat!("templates/", $name, ".txt")),
                    include_str!(concat!("templates/", $name, ".html")),
                )
            };
        }
        match self {
            Self::VerifyAddress { .. } => templates!("verify_address"),
            Self::ResetPassword { .. } => templates!("reset_password"),
            Self::AddressChanged => templates!("address_changed"),
            Self::AddressTaken => templates!("address_taken"),
        }
    }
}

/// Replaces each `{name}` of a template by its value, in one pass: braces in a value stay.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let found = behind.split_once('}').and_then(|(name, behind)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, behind))
        });
        match found {
            Some((value, behind)) => {
                filled.push_str(value);
                rest = behind;
            }
            None => {
                filled.push('{');
                rest = behind;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// Text as HTML, also within the quotes of an attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> [Letter; 4] {
        let link = Link("https://example.org/verify-email#token=a&b".to_owned());
        let life = Duration::from_secs(3_600);
        [
            Letter::VerifyAddress { link: link.clone(), life },
            Letter::ResetPassword { link, life },
            Letter::AddressChanged,
            Letter::AddressTaken,
        ]
    }

    #[test]
    fn each_mail_has_a_subject_and_the_same_content_as_text_and_as_html() {
        for letter in letters() {
            let mail = letter.to("ada@example.org".parse().expect("an address"), "a <site>");
            assert!((10..60).contains(&mail.subject.len()), "{}", mail.subject);
            assert!(!mail.subject.contains('\n') && mail.text.contains("a <site>"));
            assert!(mail.html.contains("a &lt;site&gt;") && mail.html.starts_with("<p>"));
            for body in [&mail.text, &mail.html] {
                assert!(!body.contains('{') && !body.contains("---"), "{body}");
            }
            let has_link =
                matches!(letter, Letter::VerifyAddress { .. } | Letter::ResetPassword { .. });
            assert_eq!(
                mail.text.contains("\nhttps://example.org/verify-email#token=a&b\n"),
                has_link
            );
            assert_eq!(
                mail.html.contains("\"https://example.org/verify-email#token=a&amp;b\""),
                has_link
            );
            assert_eq!(mail.text.contains("60 minutes"), has_link);
            assert!(mail.text.lines().all(|line| line.len() <= 100), "{}", mail.text);
        }
    }

    #[test]
    fn nothing_prints_a_link_or_an_address() {
        for letter in letters() {
            let mail = letter.to("ada@example.org".parse().expect("an address"), "site");
            let printed = format!("{letter:?} {mail:?}");
            assert!(!printed.contains("token") && !printed.contains("ada@"), "{printed}");
        }
    }

    #[test]
    fn a_value_is_never_read_as_a_template() {
        let values = [("a", "{b}"), ("b", "1")];
        assert_eq!(fill("{a} {b} {c} {", &values), "{b} 1 {c} {");
    }
}

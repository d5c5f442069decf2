//! Tickets: what somebody gets for one further step, by mail or as the answer to a right password.
//!
//! A ticket is signed (HMAC-SHA-256) over its purpose, the account, its end, and the state that its
//! use changes. Nothing is stored, and nevertheless a ticket from a mail works once: after its use
//! the state is another, and the signature no longer fits. The same holds for a ticket to an
//! address that the account has no more, and for one that a change of the password has overtaken.
//! The ticket for the second step of a sign-in is good for nothing without a code, which is used
//! once.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{
    Fault, Refusal, Rows, Time, Vault,
    command::Context,
    features::accounts::{
        self,
        tables::{Account, Person},
    },
    id::AccountId,
    text::folded,
};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// Bytes of a ticket: a purpose, an account, its end, a signature.
const BYTES: usize = 1 + 16 + 8 + 32;
/// The rule of the refusal of a ticket that is not valid any more.
pub(crate) const RULE: &str = "ticket";

/// The use of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shows that mail to the account's address arrives.
    VerifyEmail,
    /// Sets another password.
    ResetPassword,
    /// Continues a sign-in whose password was right with a code of the second factor.
    SecondStep,
}

impl Purpose {
    /// The life of a ticket.
    pub const fn life(self) -> Duration {
        match self {
            Self::VerifyEmail | Self::ResetPassword => Duration::from_secs(3_600),
            Self::SecondStep => Duration::from_secs(300),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::VerifyEmail => 1,
            Self::ResetPassword => 2,
            Self::SecondStep => 3,
        }
    }

    /// The part of the account that a use of the ticket changes, or that makes it invalid.
    fn state(self, holder: Holder<'_>) -> String {
        let Holder { is_verified, person } = holder;
        let email = folded(&person.email);
        match self {
            Self::VerifyEmail => format!("{email} {is_verified}"),
            // Neither an address nor a hash has a space.
            Self::ResetPassword | Self::SecondStep => format!("{email} {}", person.password),
        }
    }
}

/// The account that a ticket is for, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    is_verified: bool,
    person: &'a Person,
}

impl<'a> Holder<'a> {
    /// The holder with this account and its personal data.
    pub fn of(account: &Account, person: &'a Person) -> Self {
        Self { is_verified: account.is_verified, person }
    }
}

/// A ticket to hand out. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Ticket {
    /// A ticket for an account as it is now.
    pub fn issue(
        purpose: Purpose,
        id: AccountId,
        holder: Holder<'_>,
        vault: &dyn Vault,
        now: Time,
    ) -> Self {
        let presented = Presented {
            purpose,
            account: id,
            expires: now.after(purpose.life()),
            signature: [0; 32],
        };
        let signature = presented.signature(holder, vault);
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(purpose.number());
        bytes.extend_from_slice(id.uuid().as_bytes());
        bytes.extend_from_slice(&presented.expires.as_millis().to_be_bytes());
        bytes.extend_from_slice(&signature);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The text, to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A ticket that somebody has presented, which must be checked.
#[derive(Clone, Copy)]
pub struct Presented {
    purpose: Purpose,
    /// The account that it names.
    pub account: AccountId,
    expires: Time,
    signature: [u8; 32],
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("purpose", &self.purpose)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl Presented {
    /// Reads a ticket of this purpose. `None` if the text is none.
    pub fn parse(text: &str, purpose: Purpose) -> Option<Self> {
        // Bounded before it is decoded.
        if text.len() > BYTES * 2 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&number, rest) = bytes.split_first()?;
        let (account, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let signature = rest.try_into().ok()?;
        (number == purpose.number()).then_some(Self {
            purpose,
            account: AccountId::new(Uuid::from_bytes(*account)),
            expires: Time::from_millis(u64::from_be_bytes(*expires)),
            signature,
        })
    }

    /// Whether it is valid now, for the account as it is now.
    pub fn is_valid(&self, holder: Holder<'_>, vault: &dyn Vault, now: Time) -> bool {
        let is_signed: bool = self.signature(holder, vault).ct_eq(&self.signature).into();
        now < self.expires && is_signed
    }

    /// The account and its personal data, if the ticket is valid now.
    ///
    /// # Errors
    /// A [`Fault`] of the tables or the vault.
    pub(crate) fn holder(
        &self,
        rows: &dyn Rows,
        vault: &dyn Vault,
        now: Time,
    ) -> Result<Option<(Account, Person)>, Fault> {
        let Some(account) = accounts::queries::account(rows, self.account)? else {
            return Ok(None);
        };
        let person = account.open(vault)?;
        let valid = person.filter(|person| self.is_valid(Holder::of(&account, person), vault, now));
        Ok(valid.map(|person| (account, person)))
    }

    /// Checks it within the decision of the command that it permits, so that of two requests with
    /// the same ticket one is refused.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] of [`RULE`] if it is not valid any more.
    pub(crate) fn check(&self, context: &Context<'_>) -> Result<(), Refusal> {
        match self.holder(context.rows, context.vault, context.now)? {
            Some(_) => Ok(()),
            None => Err(Refusal::Conflict { rule: RULE, reason: "the token was used meanwhile" }),
        }
    }

    fn signature(&self, holder: Holder<'_>, vault: &dyn Vault) -> [u8; 32] {
        let state = self.purpose.state(holder);
        let (purpose, expires) = (self.purpose.number(), self.expires.as_millis());
        vault.digest(&format!("ticket {purpose} {} {expires} {state}", self.account))
    }
}

#[cfg(test)]
mod tests {
    use control_domain::vault::MemoryVault;

    use super::*;

    const ADA: AccountId = AccountId::new(Uuid::from_u128(1));
    const NOW: Time = Time::from_millis(1_796_000_000_000);

    fn person() -> Person {
        Person {
            name: "Ada".to_owned(),
            about: String::new(),
            email: "Ada@example.org".to_owned(),
            password: "$argon2id$1".to_owned(),
        }
    }

    fn holder(person: &Person) -> Holder<'_> {
        Holder { is_verified: false, person }
    }

    fn issue(purpose: Purpose) -> String {
        let token = Ticket::issue(purpose, ADA, holder(&person()), &MemoryVault::default(), NOW);
        assert_eq!(format!("{token:?}"), "***");
        token.expose().to_owned()
    }

    fn is_valid(text: &str, purpose: Purpose, holder: Holder<'_>, now: Time) -> bool {
        let presented = Presented::parse(text, purpose);
        presented.is_some_and(|token| {
            token.account == ADA && token.is_valid(holder, &MemoryVault::default(), now)
        })
    }

    #[test]
    fn a_ticket_is_valid_for_its_time_and_for_its_purpose() {
        for (purpose, other, minutes) in [
            (Purpose::VerifyEmail, Purpose::ResetPassword, 60),
            (Purpose::ResetPassword, Purpose::SecondStep, 60),
            (Purpose::SecondStep, Purpose::VerifyEmail, 5),
        ] {
            let life = Duration::from_secs(minutes * 60);
            let token = issue(purpose);
            assert!(is_valid(&token, purpose, holder(&person()), NOW));
            let last = NOW.after(life - Duration::from_millis(1));
            assert!(is_valid(&token, purpose, holder(&person()), last));
            assert!(!is_valid(&token, purpose, holder(&person()), NOW.after(life)));
            assert!(!is_valid(&token, other, holder(&person()), NOW));
        }
    }

    #[test]
    fn a_use_or_another_address_makes_a_ticket_invalid() {
        let with = |change: fn(&mut Person)| {
            let mut changed = person();
            change(&mut changed);
            changed
        };
        let moved = with(|person| person.email = "ada@example.net".to_owned());
        let reset = with(|person| person.password = "$argon2id$2".to_owned());
        let renamed = with(|person| person.name = "Countess".to_owned());
        let present = person();
        let verified = Holder { is_verified: true, person: &present };
        let ticket = issue(Purpose::VerifyEmail);
        for changed in [holder(&moved), verified] {
            assert!(!is_valid(&ticket, Purpose::VerifyEmail, changed, NOW));
        }
        for purpose in [Purpose::ResetPassword, Purpose::SecondStep] {
            let ticket = issue(purpose);
            for changed in [&moved, &reset] {
                assert!(!is_valid(&ticket, purpose, holder(changed), NOW));
            }
            // A name is no credential, and neither is a verified address.
            assert!(is_valid(&ticket, purpose, holder(&renamed), NOW));
            assert!(is_valid(&ticket, purpose, verified, NOW));
        }
    }

    #[test]
    fn no_changed_byte_and_no_other_text_is_a_ticket() {
        let token = issue(Purpose::ResetPassword);
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64url");
        assert_eq!(bytes.len(), BYTES);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert!(!is_valid(&changed, Purpose::ResetPassword, holder(&person()), NOW), "{index}");
        }
        for text in ["", "x", &token[1..], &format!("{token}AAAA"), &"A".repeat(10_000)] {
            assert!(!is_valid(text, Purpose::ResetPassword, holder(&person()), NOW), "{text}");
        }
    }
}

//! The second step of a sign-in: codes of an authenticator app (TOTP, RFC 6238: SHA-1, six digits,
//! 30 s, one step of tolerance), and recovery codes of 80 random bits.

use std::{fmt, time::SystemTime};

use control_domain::{
    Actor, Vault as _,
    features::{
        accounts::commands::PasswordHash,
        second_factors::{
            self,
            commands::{Begin, Confirm, FactorSecret, Remove, UseCode, UseRecoveryCode},
        },
        sessions::commands::{ChangePassword, Start},
        stream_keys,
    },
    id::AccountId,
    text::DeviceName,
    vault::Sealed,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use totp_rs::{Builder, Secret, Totp};

use super::{
    Identity,
    authority::now,
    password::Password,
    sign_in::SignedIn,
    ticket::{Holder, Presented, Purpose, Ticket},
};
use crate::{
    KeyDigest,
    problem::{Kind, Problem},
    rate::Class,
};

/// Bytes of a secret (RFC 4226 4, R6).
const SECRET_BYTES: usize = 20;
/// Recovery codes of an account.
const RECOVERY_CODES: usize = 10;
/// Bytes of a recovery code, which cannot be guessed from its digest.
const RECOVERY_BYTES: usize = 10;
/// Digits of a code.
const DIGITS: usize = 6;
/// Longest code that is looked at, with its spaces.
const MAX_CODE_BYTES: usize = 64;

/// The second step of a sign-in.
pub struct SecondStep {
    /// The ticket of the first step.
    pub challenge: String,
    /// A code of the app, or a recovery code.
    pub code: String,
    /// The password that replaces the present one.
    pub new_password: Option<Password>,
    /// The name of the device.
    pub device: DeviceName,
}

impl fmt::Debug for SecondStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondStep").field("device", &self.device).finish_non_exhaustive()
    }
}

/// A secret for an app, to show it once. `Debug` prints `***`.
pub struct Enrolment {
    /// The secret in base 32.
    pub secret: String,
    /// The secret as an address that an app reads from a picture.
    pub uri: String,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Identity {
    /// Ends the first step of a sign-in if the account has a second factor. Called when the first
    /// credentials were right, before anything follows from them.
    ///
    /// # Errors
    /// 403 with the ticket for the second step.
    pub(super) async fn require_second_step(
        &self,
        id: AccountId,
        holder: Holder<'_>,
    ) -> Result<(), Problem> {
        match self.challenge(id, holder).await? {
            None => Ok(()),
            Some(ticket) => {
                let words = "the account has a second factor: send the challenge and a code to \
                             /api/v1/sessions/second-factor";
                Err(Problem::new(Kind::SecondFactorRequired, words).with_ticket(ticket))
            }
        }
    }

    /// The ticket for the second step; `None` if the account has no second factor.
    pub(crate) async fn challenge(
        &self,
        id: AccountId,
        holder: Holder<'_>,
    ) -> Result<Option<Ticket>, Problem> {
        let store = self.platform().store().await?;
        let factor = store.read(|rows| second_factors::queries::in_force(rows, id))??;
        Ok(factor.map(|_| Ticket::issue(Purpose::SecondStep, id, holder, store.vault(), now())))
    }

    /// Signs somebody in whose first credentials were right.
    ///
    /// # Errors
    /// 401 if the ticket or the code is not valid, 403 if the password must be replaced, 429 after
    /// too many attempts.
    pub async fn second_step(&self, step: SecondStep) -> Result<SignedIn, Problem> {
        let SecondStep { challenge, code, new_password, device } = step;
        let ticket = Presented::parse(&challenge, Purpose::SecondStep).ok_or_else(wrong)?;
        let id = ticket.account;
        let store = self.platform().store().await?;
        let holder = store.read(|rows| ticket.holder(rows, store.vault(), now()))??;
        drop(store);
        let (account, person) = holder.ok_or_else(wrong)?;
        if account.must_change_password && new_password.is_none() {
            let words = "this password must be replaced: send new_password, too";
            return Err(Problem::new(Kind::PasswordChangeRequired, words));
        }
        if !self.accept_code(id, &code).await? {
            return Err(wrong());
        }
        let mut password = Some(PasswordHash(person.password));
        if let Some(new) = new_password {
            let hash = self.hasher().hash(new).await?;
            let command = ChangePassword { account: id, password: hash.clone(), except: None };
            let command =
                crate::platform::Provided::new(command, move |context| ticket.check(context));
            let ended = self.platform().send(Actor::System, command).await?.done;
            self.forget(ended).await?;
            password = Some(hash);
        }
        self.begin(Start { account: id, device, password }, account.role).await
    }

    /// Begins the enrolment of a second factor.
    ///
    /// # Errors
    /// 409 if there is one.
    pub(crate) async fn enrol(
        &self,
        actor: Actor,
        account: AccountId,
    ) -> Result<Enrolment, Problem> {
        let secret = Secret::new(Box::new(random::<SECRET_BYTES>()?)).to_base32();
        let command = Begin { account, secret: FactorSecret(secret.clone()) };
        self.platform().send(actor, command).await?;
        let email = self.person(account).await?.email;
        Ok(Enrolment { uri: uri(self.site(), &email, &secret), secret })
    }

    /// Puts the second factor in force. The recovery codes, to show them once, and the sequence;
    /// `None` if the code is another one.
    ///
    /// # Errors
    /// 404 if no enrolment has begun, 429 after too many attempts.
    pub(crate) async fn confirm(
        &self,
        actor: Actor,
        account: AccountId,
        code: &str,
    ) -> Result<Option<(Vec<String>, u64)>, Problem> {
        self.take_share(Class::Login, &format!("second factor {account}")).await?;
        let read =
            |rows: &dyn control_domain::Rows| second_factors::queries::pending(rows, account);
        let pending = self.platform().read(read).await?;
        let pending = pending.ok_or_else(|| {
            Problem::new(Kind::NotFound, "begin first: no second factor waits for a code")
        })?;
        let Some(step) = self.step_of(&pending.secret, &plain(code)).await? else {
            return Ok(None);
        };
        let mut codes = Vec::with_capacity(RECOVERY_CODES);
        for _ in 0..RECOVERY_CODES {
            codes.push(Secret::new(Box::new(random::<RECOVERY_BYTES>()?)).to_base32());
        }
        let recovery = codes.iter().map(|code| digest(code)).collect();
        let command = Confirm { account, factor: pending.factor, step, recovery };
        let receipt = self.platform().send(actor, command).await?;
        let shown = codes.iter().map(|code| grouped(code)).collect();
        Ok(Some((shown, receipt.sequence)))
    }

    /// Removes the second factor of an account. Returns the sequence; `None` if the code is not
    /// valid. The password was compared before.
    ///
    /// # Errors
    /// 404 if there is none, 429 after too many attempts.
    pub(crate) async fn disable(
        &self,
        actor: Actor,
        account: AccountId,
        code: &str,
    ) -> Result<Option<u64>, Problem> {
        let read =
            |rows: &dyn control_domain::Rows| second_factors::queries::in_force(rows, account);
        if self.platform().read(read).await?.is_none() {
            return Err(Problem::new(Kind::NotFound, "the account has no second factor"));
        }
        if !self.accept_code(account, code).await? {
            return Ok(None);
        }
        Ok(Some(self.platform().send(actor, Remove { account }).await?.sequence))
    }

    /// Accepts a code of the app or a recovery code, once. Attempts are counted.
    async fn accept_code(&self, account: AccountId, code: &str) -> Result<bool, Problem> {
        self.take_share(Class::Login, &format!("second factor {account}")).await?;
        let read =
            |rows: &dyn control_domain::Rows| second_factors::queries::in_force(rows, account);
        let Some(factor) = self.platform().read(read).await? else { return Ok(false) };
        let code = plain(code);
        let is_recovery = code.len() != DIGITS;
        let sent = match is_recovery {
            true => {
                let command = UseRecoveryCode { account, code: digest(&code) };
                self.platform().send(Actor::System, command).await
            }
            false => {
                let Some(step) = self.step_of(&factor.secret, &code).await? else {
                    return Ok(false);
                };
                let command = UseCode { account, factor: factor.factor, step };
                self.platform().send(Actor::System, command).await
            }
        };
        match sent {
            Ok(_) => Ok(true),
            Err(problem) if matches!(problem.kind(), Kind::NotFound | Kind::Conflict) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// The time step of a code; `None` if it is not one of the secret now.
    async fn step_of(&self, secret: &Sealed, code: &str) -> Result<Option<u64>, Problem> {
        let store = self.platform().store().await?;
        let Some(secret) = store.vault().open(secret)? else { return Ok(None) };
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(totp(&secret).and_then(|totp| totp.check(code, time.as_secs())))
    }
}

fn totp(secret: &str) -> Option<Totp> {
    let secret = Secret::try_from_base32(secret).ok()?;
    Builder::new().with_secret(secret).build().ok()
}

/// A code as it is compared: without the spaces and lines that people write, in upper case.
fn plain(code: &str) -> String {
    let code = code.get(..MAX_CODE_BYTES.min(code.len())).unwrap_or_default();
    let kept = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    kept.map(|c| c.to_ascii_uppercase()).collect()
}

/// A recovery code as it is shown, in groups of four.
fn grouped(code: &str) -> String {
    let characters = code.chars().collect::<Vec<_>>();
    let groups = characters.chunks(4).map(|group| group.iter().collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

fn digest(code: &str) -> stream_keys::events::KeyDigest {
    stream_keys::events::KeyDigest(KeyDigest::of(code).bytes())
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], Problem> {
    let mut bytes = [0; BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Problem::new(Kind::Internal, "the system returned no random numbers"))?;
    Ok(bytes)
}

/// The address by which apps exchange secrets (the Key URI format of Google Authenticator).
fn uri(site: &str, account: &str, secret: &str) -> String {
    let (site, account) = (encoded(site), encoded(account));
    format!(
        "otpauth://totp/{site}:{account}?secret={secret}&issuer={site}&algorithm=SHA1\
         &digits={DIGITS}&period=30"
    )
}

/// Percent-encoded text (RFC 3986 2.1): all but unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn wrong() -> Problem {
    let words = "the code is not valid now, or the sign-in has taken too long";
    Problem::new(Kind::WrongCode, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // RFC 6238 appendix B: the secret 12345678901234567890, SHA-1, here with six digits.
        let totp = totp("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").expect("160 bits");
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")]
        {
            assert_eq!(totp.check(code, time), Some(time / 30), "{code}");
            // One step of tolerance on both sides.
            assert_eq!(totp.check(code, time + 30), Some(time / 30));
            assert_eq!(totp.check(code, time + 90), None);
        }
    }

    #[test]
    fn people_may_write_a_code_with_spaces_and_in_small_letters() {
        assert_eq!(plain(" 123 456\n"), "123456");
        assert_eq!(plain("abcd-efgh-ijkl-mnop"), "ABCDEFGHIJKLMNOP");
        assert_eq!(grouped("ABCDEFGHIJKLMNOP"), "ABCD-EFGH-IJKL-MNOP");
        assert_eq!(plain(&"1".repeat(100)).len(), MAX_CODE_BYTES);
        assert_eq!(plain(&"ä".repeat(100)).chars().count(), MAX_CODE_BYTES / 2);
    }

    #[test]
    fn the_address_for_an_app_has_no_character_of_another_part() {
        assert_eq!(
            uri("live example", "a/b?@example.org", "JBSWY3DP"),
            "otpauth://totp/live%20example:a%2Fb%3F%40example.org?secret=JBSWY3DP\
             &issuer=live%20example&algorithm=SHA1&digits=6&period=30"
        );
    }
}

//! Refresh tokens: a session goes on with each, and each is used once (RFC 9700 4.14.2).
//!
//! A token is `sfr_` and base64url of: the session, the number of tokens before it, 256 random
//! bits, and a keyed checksum of these. The checksum tells tokens of this daemon from others before
//! the disk is asked, so that somebody who knows a session's identifier cannot end it with an
//! invented token. Only the SHA-256 of the present token is kept.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{Vault, id::SessionId};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::{
    problem::{Kind, Problem},
    store::Presented,
};

/// The prefix, by which scanners for leaked secrets find them.
pub const PREFIX: &str = "sfr_";
/// Bytes before the checksum: the session, the generation, and the random ones.
const BODY: usize = 16 + 4 + 32;
/// Bytes of the checksum.
const CHECK: usize = 16;

/// A refresh token. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(String);

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl RefreshToken {
    /// A new token of a session.
    ///
    /// # Errors
    /// 500 if the system has no random numbers.
    pub fn random(session: SessionId, generation: u32, vault: &dyn Vault) -> Result<Self, Problem> {
        let mut bytes = [0; BODY + CHECK];
        let (body, checksum) = bytes.split_at_mut(BODY);
        body[..16].copy_from_slice(session.uuid().as_bytes());
        body[16..20].copy_from_slice(&generation.to_be_bytes());
        SystemRandom::new()
            .fill(&mut body[20..])
            .map_err(|_| Problem::new(Kind::Internal, "the system returned no random numbers"))?;
        checksum.copy_from_slice(&check(body, vault));
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The SHA-256.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// The token that a text is. `None` if this daemon has not issued it.
pub fn parse(text: &str, vault: &dyn Vault) -> Option<Presented> {
    let encoded = text.strip_prefix(PREFIX)?;
    // Before it is decoded, so that the allocation is bounded.
    if encoded.len() != (BODY + CHECK).div_ceil(3) * 4 - padding() {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let (body, checksum) = bytes.split_at_checked(BODY)?;
    if !bool::from(check(body, vault).ct_eq(checksum)) {
        return None;
    }
    let (session, rest) = body.split_first_chunk()?;
    let (generation, _) = rest.split_first_chunk()?;
    Some(Presented {
        session: SessionId::new(Uuid::from_bytes(*session)),
        generation: u32::from_be_bytes(*generation),
        digest: Sha256::digest(text).into(),
    })
}

/// The characters that base64 without padding lacks.
const fn padding() -> usize {
    (3 - (BODY + CHECK) % 3) % 3
}

/// The keyed checksum.
fn check(body: &[u8], vault: &dyn Vault) -> [u8; CHECK] {
    let digest = vault.digest(&format!("refresh token {}", URL_SAFE_NO_PAD.encode(body)));
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest[..CHECK]);
    check
}

#[cfg(test)]
mod tests {
    use control_domain::{Fault, Sealed, id::AccountId};
    use ring::hmac;

    use super::*;

    /// A vault with this key, for checksums alone.
    struct Keyed(u8);

    impl Vault for Keyed {
        fn seal(&self, _: AccountId, _: &str) -> Result<Sealed, Fault> {
            unimplemented!("tokens seal nothing")
        }

        fn open(&self, _: &Sealed) -> Result<Option<String>, Fault> {
            unimplemented!("tokens open nothing")
        }

        fn digest(&self, value: &str) -> [u8; 32] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[self.0; 32]);
            hmac::sign(&key, value.as_bytes()).as_ref().try_into().expect("32 bytes")
        }
    }

    #[test]
    fn a_token_names_its_session_and_generation_and_nobody_else_can_make_one() {
        let session = SessionId::new(Uuid::from_u128(7));
        let token = RefreshToken::random(session, 3, &Keyed(1)).expect("random numbers");
        let text = token.expose();
        let found = parse(text, &Keyed(1)).expect("our own");
        assert_eq!((found.session, found.generation, found.digest), (session, 3, token.digest()));
        let other = RefreshToken::random(session, 3, &Keyed(1)).expect("random numbers");
        assert_ne!(other.expose(), text);
        assert_eq!(format!("{token:?}"), "***");
        assert!(parse(text, &Keyed(2)).is_none(), "another daemon's");
        for index in PREFIX.len()..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(parse(&changed, &Keyed(1)).is_none(), "{index}");
        }
        for text in ["", PREFIX, &text[1..], &text[..text.len() - 1], &format!("{text}A"), "sfr_é"]
        {
            assert!(parse(text, &Keyed(1)).is_none(), "{text}");
        }
        assert!(parse(&format!("sfr_{}", "A".repeat(1 << 20)), &Keyed(1)).is_none());
    }
}

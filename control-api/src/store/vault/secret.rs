//! A key, and the encryption with it: ChaCha20-Poly1305 (RFC 8439) with a random nonce, which
//! precedes the ciphertext and its tag. The person is authenticated with the text.

use std::fmt;

use control_domain::Fault;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;

/// Why a value cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error("the system has no random numbers")]
    Random,
    #[error("a value or key is damaged, or the master key is another")]
    Damaged,
    #[error("the person's key has been erased")]
    Erased,
    #[error("another thread has made the person's key meanwhile")]
    MadeMeanwhile,
}

impl From<VaultError> for Fault {
    fn from(error: VaultError) -> Self {
        Self::Vault(Box::new(error))
    }
}

/// The bytes of a key.
#[derive(Clone)]
pub(super) struct Secret([u8; KEY_LEN]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// Makes a key at random.
    pub(super) fn make(random: &SystemRandom) -> Result<Self, VaultError> {
        let mut secret = [0; KEY_LEN];
        random.fill(&mut secret).map_err(|_| VaultError::Random)?;
        Ok(Self(secret))
    }

    /// The key with these bytes.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, VaultError> {
        bytes.try_into().map(Self).map_err(|_| VaultError::Damaged)
    }

    /// Its bytes, to be stored encrypted under another key.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Encrypts a text of a person.
    pub(super) fn encrypt(
        &self,
        random: &SystemRandom,
        person: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut text = plain.to_vec();
        let (aad, unique) = (Aad::from(person), Nonce::assume_unique_for_key(nonce));
        let sealed = self.cipher()?.seal_in_place_append_tag(unique, aad, &mut text);
        sealed.map_err(|_| VaultError::Damaged)?;
        Ok([&nonce[..], &text].concat())
    }

    /// Decrypts a text of a person.
    pub(super) fn decrypt(&self, person: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Damaged)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.cipher()?.open_in_place(nonce, Aad::from(person), &mut text);
        let length = plain.map_err(|_| VaultError::Damaged)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn cipher(&self) -> Result<LessSafeKey, VaultError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0).map_err(|_| VaultError::Damaged)?;
        Ok(LessSafeKey::new(key))
    }
}

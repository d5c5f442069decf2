//! Verifies the signature of a token. Pure.
//!
//! RFC 7515 5.2. The key determines the algorithm (RFC 8725 3.1); critical header parameters and
//! `aud`, which this server has no name for, are refused (RFC 7515 4.1.11, RFC 7519 4.1.3).

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};

use super::{
    Refused,
    claims::{Claims, Written},
    config::{self, Material},
};

/// The keys in force, by `kid`.
pub(super) struct Keys(HashMap<String, Verifier>);

/// A key and its algorithm.
struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Keys {
    /// Keys, the last one of each identifier.
    pub(super) fn new<'a>(keys: impl IntoIterator<Item = &'a config::Key>) -> Self {
        let verifier = |key: &config::Key| {
            let algorithm = match key.material {
                Material::Secret(_) => Algorithm::HS256,
                Material::PublicKey(_) => Algorithm::EdDSA,
            };
            let mut validation = Validation::new(algorithm);
            // `claims` compares times, so that the verdict can be kept.
            (validation.validate_exp, validation.validate_nbf) = (false, false);
            Some((key.id.clone(), Verifier { key: key.material.decoding()?, validation }))
        };
        Self(keys.into_iter().filter_map(verifier).collect())
    }

    /// The claims of a token, if one of the keys has signed it.
    ///
    /// # Errors
    /// [`Refused::Malformed`], [`Refused::Key`] or [`Refused::Signature`].
    pub(super) fn verify(&self, token: &str) -> Result<Claims, Refused> {
        let header = decode_header(token).map_err(|_| Refused::Malformed)?;
        let verifier = match &header.kid {
            Some(kid) => self.0.get(kid),
            // Unambiguous only with one key.
            None => self.0.values().next().filter(|_| self.0.len() == 1),
        };
        let Verifier { key, validation } = verifier.ok_or(Refused::Key)?;
        let decoded = decode::<Written>(token, key, validation);
        decoded.map_err(|err| refused(err.kind()))?.claims.try_into()
    }
}

/// The reason for a fault of the library.
fn refused(kind: &ErrorKind) -> Refused {
    match kind {
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::InvalidAlgorithm => Refused::Key,
        _ => Refused::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Header;

    use super::*;
    use crate::playback::testing::{
        self, OTHER_SECRET, SECRET, ed_key, ed_token, sign, token, with_header,
    };

    const CLAIMS: &str = r#"{"exp":4000000000,"channel":"demo"}"#;

    fn keys() -> Keys {
        Keys::new(&testing::config().keys)
    }

    #[test]
    fn tokens_of_both_algorithms_are_verified_with_the_key_that_kid_names() {
        let keys = keys();
        let claims = testing::claims(CLAIMS).unwrap();
        assert_eq!(keys.verify(&token("first", CLAIMS)), Ok(claims.clone()));
        assert_eq!(keys.verify(&ed_token("edge", CLAIMS)), Ok(claims));
        assert_eq!(keys.verify(&token("gone", CLAIMS)), Err(Refused::Key));
        assert_eq!(keys.verify(&token("second", CLAIMS)), Err(Refused::Signature));
    }

    #[test]
    fn a_token_without_kid_needs_a_single_key() {
        let bare = sign(&Header::new(Algorithm::HS256), SECRET, CLAIMS);
        assert_eq!(keys().verify(&bare), Err(Refused::Key));
        assert!(Keys::new(&testing::config().keys[..1]).verify(&bare).is_ok());
        assert_eq!(Keys::new(&[]).verify(&bare), Err(Refused::Key));
    }

    #[test]
    fn a_token_cannot_choose_its_algorithm() {
        // The public key as the secret of HS256, the classic confusion.
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("edge".into());
        let confused = sign(&header, testing::PUBLIC_KEY, CLAIMS);
        assert_eq!(keys().verify(&confused), Err(Refused::Key));
        let mut header = Header::new(Algorithm::HS384);
        header.kid = Some("first".into());
        assert_eq!(keys().verify(&sign(&header, SECRET, CLAIMS)), Err(Refused::Key));
        // No algorithm, with and without a signature.
        for text in [r#"{"alg":"none","kid":"first"}"#, r#"{"alg":"None","kid":"first"}"#] {
            let token = with_header(text, CLAIMS);
            for token in [token.clone(), format!("{}.", token.rsplit_once('.').unwrap().0)] {
                assert_eq!(keys().verify(&token), Err(Refused::Malformed), "{token}");
            }
        }
    }

    #[test]
    fn every_changed_character_is_refused() {
        for token in [token("first", CLAIMS), ed_token("edge", CLAIMS)] {
            assert!(keys().verify(&token).is_ok());
            for (index, old) in token.char_indices() {
                let new = if old == 'A' { 'B' } else { 'A' };
                let mut changed = token.clone();
                changed.replace_range(index..=index, &new.to_string());
                assert!(keys().verify(&changed).is_err(), "{index}: {changed}");
            }
        }
    }

    #[test]
    fn foreign_signatures_and_critical_parameters_are_refused() {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("first".into());
        assert_eq!(keys().verify(&sign(&header, OTHER_SECRET, CLAIMS)), Err(Refused::Signature));
        header.crit = Some(vec!["exp".into()]);
        assert!(keys().verify(&sign(&header, SECRET, CLAIMS)).is_err());
        let audience = r#"{"exp":4000000000,"channel":"demo","aud":"other"}"#;
        assert_eq!(keys().verify(&token("first", audience)), Err(Refused::Malformed));
        let other = jsonwebtoken::encode(
            &Header { kid: Some("edge".into()), ..Header::new(Algorithm::EdDSA) },
            &serde_json::from_str::<serde_json::Value>(CLAIMS).unwrap(),
            &ed_key(testing::OTHER_PRIVATE_KEY),
        );
        assert_eq!(keys().verify(&other.unwrap()), Err(Refused::Signature));
    }

    #[test]
    fn texts_that_are_not_tokens_are_refused() {
        for text in ["", ".", "..", "a.b.c", "e30.e30.", "e30.e30.AA", "....", "ä.ä.ä"] {
            assert_eq!(keys().verify(text), Err(Refused::Malformed), "{text}");
        }
    }
}

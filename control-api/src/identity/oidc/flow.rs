//! The state of a sign-in at a provider while the browser is there: a signed cookie, so that only
//! the browser that began can end it, and nothing is kept here.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_domain::{Time, Vault, id::AccountId};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// The name of the cookie without its prefix.
pub(crate) const COOKIE: &str = "sf_oidc";
/// The life of a sign-in.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// Longest cookie.
const MAX_BYTES: usize = 2_048;

/// The state. `Debug` prints the provider alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
    account: Option<AccountId>,
}

/// The state in the cookie.
#[derive(Serialize, Deserialize)]
struct Signed {
    flow: Flow,
    /// Milliseconds.
    expires: u64,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Flow {
    pub(super) fn new(
        provider: String,
        state: String,
        nonce: String,
        verifier: String,
        return_to: String,
        account: Option<AccountId>,
    ) -> Self {
        Self { provider, state, nonce, verifier, return_to, account }
    }

    /// The path to which the browser returns.
    pub(crate) fn return_to(&self) -> &str {
        &self.return_to
    }

    /// The account that is to be linked.
    pub(crate) fn account(&self) -> Option<AccountId> {
        self.account
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }

    /// Whether a response of this provider with this state belongs to it.
    pub(crate) fn belongs(&self, provider: &str, state: &str) -> bool {
        let is_same: bool = self.state.as_bytes().ct_eq(state.as_bytes()).into();
        self.provider == provider && is_same
    }

    /// The cookie's value. `None` if it would be too long.
    pub(crate) fn signed(&self, vault: &dyn Vault, now: Time) -> Option<String> {
        let signed = Signed { flow: self.clone(), expires: now.after(LIFE).as_millis() };
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&signed).ok()?);
        let signature = URL_SAFE_NO_PAD.encode(signature(&text, vault));
        Some(format!("{text}.{signature}")).filter(|cookie| cookie.len() <= MAX_BYTES)
    }

    /// Reads a cookie. `None` if it was not signed here, or is too old.
    pub(crate) fn verified(cookie: &str, vault: &dyn Vault, now: Time) -> Option<Self> {
        if cookie.len() > MAX_BYTES {
            return None;
        }
        let (text, given) = cookie.split_once('.')?;
        let given = URL_SAFE_NO_PAD.decode(given).ok()?;
        let is_ours: bool = signature(text, vault).as_slice().ct_eq(&given).into();
        if !is_ours {
            return None;
        }
        let signed = serde_json::from_slice::<Signed>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        (now < Time::from_millis(signed.expires)).then_some(signed.flow)
    }
}

fn signature(text: &str, vault: &dyn Vault) -> [u8; 32] {
    vault.digest(&format!("oidc flow {text}"))
}

#[cfg(test)]
mod tests {
    use control_domain::vault::MemoryVault;

    use super::*;

    const NOW: Time = Time::from_millis(1_796_000_000_000);

    fn flow(return_to: &str) -> Flow {
        let text = |text: &str| text.to_owned();
        Flow::new(text("a"), text("state"), text("nonce"), text("pkce"), text(return_to), None)
    }

    #[test]
    fn a_cookie_is_valid_for_ten_minutes_and_only_as_it_was_signed() {
        let vault = MemoryVault::default();
        let cookie = flow("/watch/demo").signed(&vault, NOW).expect("short enough");
        let read = |cookie: &str, now| Flow::verified(cookie, &vault, now);
        assert_eq!(read(&cookie, NOW), Some(flow("/watch/demo")));
        assert!(read(&cookie, NOW.after(LIFE - Duration::from_millis(1))).is_some());
        assert_eq!(read(&cookie, NOW.after(LIFE)), None);
        let (text, signature) = cookie.split_once('.').expect("two parts");
        let other = flow("/other").signed(&vault, NOW).expect("short enough");
        let (other, _) = other.split_once('.').expect("two parts");
        for forged in [
            format!("{other}.{signature}"),
            format!("{text}."),
            text.to_owned(),
            String::new(),
            ".".to_owned(),
            "x".repeat(10_000),
        ] {
            assert_eq!(read(&forged, NOW), None, "{forged}");
        }
        assert_eq!(flow(&"x".repeat(4_000)).signed(&vault, NOW), None);
    }

    #[test]
    fn a_response_belongs_to_one_provider_and_one_state() {
        assert!(flow("/").belongs("a", "state"));
        for (provider, state) in [("b", "state"), ("a", "other"), ("a", ""), ("a", "statexx")] {
            assert!(!flow("/").belongs(provider, state), "{provider} {state}");
        }
        assert_eq!(format!("{:?}", flow("/")), "Flow { provider: \"a\", .. }");
    }
}

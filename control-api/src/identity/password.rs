//! Passwords: argon2id (RFC 9106) with 19 MiB, two passes and one lane, as OWASP advises, in the
//! PHC format, so that each hash has its own parameters and is made again when ours change.
//!
//! A hash takes about 20 ms and 19 MiB. Two are computed at a time, on threads for blocking work;
//! some more requests wait, and others are refused with 503.
//!
//! A password has 8 to 128 characters after normalisation (NFC, as NIST SP 800-63B 5.1.1.2
//! advises); no mixture of kinds of characters is asked for. The commonest ones are refused.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash as Phc},
};
use control_domain::features::accounts::commands::PasswordHash;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{sync::Semaphore, task::spawn_blocking};
use unicode_normalization::UnicodeNormalization as _;

use crate::problem::{Kind, Problem};

/// Least and greatest number of characters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
/// Greatest number of bytes of a password that is presented, before it is normalised.
const MAX_BYTES: usize = 1_024;
/// Memory in KiB.
const MEMORY_KIB: u32 = 19_456;
/// Passes over it.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;
/// Bytes of a salt.
const SALT: usize = 16;
/// Hashes that are computed at a time.
const AT_A_TIME: usize = 2;
/// Requests that wait for a hash or compute one. At 20 ms a hash, the last waits for 0.6 s.
const WAITING: usize = 64;
/// Retry-After of a request beyond them.
const RETRY_AFTER_S: u64 = 1;

/// The commonest passwords of leaked lists that have at least 8 characters, in lower case, sorted.
const COMMON: &str = include_str!("common_passwords.txt");

/// A password as somebody presents it. `Debug` prints `***`.
#[derive(Clone)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a password cannot be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// It is too short or too long.
    #[error("a password has 8 to 128 characters")]
    Length,
    /// Everybody guesses it.
    #[error("this password is among the first that are guessed: choose another")]
    Common,
}

impl Password {
    /// A password to compare.
    ///
    /// # Errors
    /// [`Unsuitable::Length`] if none can be so long.
    pub fn presented(text: &str) -> Result<Self, Unsuitable> {
        match text.len() <= MAX_BYTES {
            true => Ok(Self(text.nfc().collect())),
            false => Err(Unsuitable::Length),
        }
    }

    /// A password that somebody chooses.
    ///
    /// # Errors
    /// [`Unsuitable`].
    pub fn chosen(text: &str) -> Result<Self, Unsuitable> {
        let password = Self::presented(text)?;
        if !LENGTH.contains(&password.0.chars().count()) {
            return Err(Unsuitable::Length);
        }
        let lower = password.0.to_lowercase();
        let first = lower.chars().next();
        let is_common = COMMON.lines().any(|common| common == lower)
            || lower.chars().all(|character| Some(character) == first);
        match is_common {
            true => Err(Unsuitable::Common),
            false => Ok(password),
        }
    }

    /// A password of 120 random bits, for an account that somebody else makes.
    ///
    /// # Errors
    /// 500 if the system has no random numbers.
    pub fn random() -> Result<Self, Problem> {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut bytes = [0; 15];
        SystemRandom::new().fill(&mut bytes).map_err(|_| no_random())?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, to show it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Another password, or there is none to compare with.
    Different,
    /// The password.
    Same,
    /// The password, whose hash has other parameters than new ones.
    SameButOutdated,
}

/// Computes hashes. Clones share the limits.
#[derive(Clone)]
pub struct Hasher {
    argon2: Argon2<'static>,
    random: Arc<SystemRandom>,
    /// A hash of a random password: compared with if there is no other, to take the same time.
    nobody: Arc<str>,
    computing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// A hasher with the parameters of this version. Computes one hash, which takes 20 ms.
    ///
    /// # Errors
    /// 500 if the system has no random numbers.
    pub fn new() -> Result<Self, Problem> {
        Self::with(MEMORY_KIB, PASSES)
    }

    /// A hasher with other parameters.
    pub(crate) fn with(memory_kib: u32, passes: u32) -> Result<Self, Problem> {
        let params = Params::new(memory_kib, passes, LANES, None).map_err(|err| broken(&err))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let random = Arc::new(SystemRandom::new());
        let nobody = hash(&argon2, &random, Password::random()?.expose())?;
        Ok(Self {
            argon2,
            random,
            nobody: nobody.into(),
            computing: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// The hash of a password.
    ///
    /// # Errors
    /// 503 if too many wait.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Problem> {
        let (argon2, random) = (self.argon2.clone(), Arc::clone(&self.random));
        let hash = move || hash(&argon2, &random, &password.0);
        self.compute(hash).await?.map(PasswordHash)
    }

    /// Compares a password with a hash, or with none, in the same time.
    ///
    /// # Errors
    /// 503 if too many wait.
    pub async fn compare(
        &self,
        password: Password,
        with: Option<String>,
    ) -> Result<Comparison, Problem> {
        let (argon2, nobody) = (self.argon2.clone(), Arc::clone(&self.nobody));
        self.compute(move || {
            let exists = with.is_some();
            let with = with.as_deref().unwrap_or(&nobody);
            // A hash that cannot be read is one that no password has.
            let same = argon2.verify_password(password.0.as_bytes(), with).is_ok();
            match same && exists {
                false => Comparison::Different,
                true if is_outdated(with, &argon2) => Comparison::SameButOutdated,
                true => Comparison::Same,
            }
        })
        .await
    }

    /// Runs a computation on a thread for blocking work, a few at a time.
    async fn compute<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || {
            let words = "too many passwords are being checked: repeat the request";
            Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
        };
        let _waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| busy())?;
        let permit = Arc::clone(&self.computing).acquire_owned().await.map_err(|_| busy())?;
        let computed = spawn_blocking(move || {
            // Held until the computation has ended, also if nobody waits for it any more.
            let _permit = permit;
            compute()
        });
        computed.await.map_err(|_| Problem::new(Kind::Internal, "a password was not computed"))
    }
}

fn hash(argon2: &Argon2<'_>, random: &SystemRandom, password: &str) -> Result<String, Problem> {
    let mut salt = [0; SALT];
    random.fill(&mut salt).map_err(|_| no_random())?;
    let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|err| broken(&err))?.to_string())
}

/// Whether a hash has other parameters than new ones.
fn is_outdated(hash: &str, argon2: &Argon2<'_>) -> bool {
    let Ok(hash) = Phc::new(hash) else { return true };
    let Ok(params) = Params::try_from(&hash) else { return true };
    let ours = argon2.params();
    hash.algorithm != Algorithm::Argon2id.ident()
        || (params.m_cost(), params.t_cost(), params.p_cost())
            != (ours.m_cost(), ours.t_cost(), ours.p_cost())
}

fn no_random() -> Problem {
    Problem::new(Kind::Internal, "the system returned no random numbers")
}

fn broken(err: &dyn fmt::Display) -> Problem {
    Problem::new(Kind::Internal, format!("a password cannot be hashed: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::presented(text).expect("short enough")
    }

    #[tokio::test]
    async fn a_password_is_compared_with_its_hash_which_has_the_advised_parameters() {
        let hasher = Hasher::new().expect("random numbers");
        let PasswordHash(hash) = hasher.hash(password("correct horse")).await.expect("room");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let again = hasher.hash(password("correct horse")).await.expect("room");
        assert_ne!(again.0, hash, "each has a salt of its own");
        let compare = async |text: &str, with: Option<&str>| {
            hasher.compare(password(text), with.map(str::to_owned)).await.expect("room")
        };
        assert_eq!(compare("correct horse", Some(&hash)).await, Comparison::Same);
        assert_eq!(compare("correct house", Some(&hash)).await, Comparison::Different);
        assert_eq!(compare("correct horse", None).await, Comparison::Different);
        assert_eq!(compare("correct horse", Some("damaged")).await, Comparison::Different);
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_is_to_be_made_again() {
        let before = Hasher::with(64, 1).expect("random numbers");
        let PasswordHash(hash) = before.hash(password("correct horse")).await.expect("room");
        let now = Hasher::with(128, 1).expect("random numbers");
        let compared = now.compare(password("correct horse"), Some(hash)).await.expect("room");
        assert_eq!(compared, Comparison::SameButOutdated);
    }

    #[tokio::test]
    async fn an_unknown_account_costs_the_same_computation() {
        // Slow enough that the difference to no computation cannot be missed.
        let hasher = Hasher::with(8_192, 1).expect("random numbers");
        let PasswordHash(hash) = hasher.hash(password("correct horse")).await.expect("room");
        let time = async |with: Option<String>| {
            let mut least = std::time::Duration::MAX;
            for _ in 0..5 {
                let start = std::time::Instant::now();
                hasher.compare(password("wrong horse"), with.clone()).await.expect("room");
                least = least.min(start.elapsed());
            }
            least
        };
        let (known, unknown) = (time(Some(hash)).await, time(None).await);
        // Without the computation it would be less than a hundredth; other tests run meanwhile.
        assert!(unknown > known / 5, "{known:?} {unknown:?}");
        assert!(!is_outdated(&hasher.nobody, &hasher.argon2));
    }

    #[tokio::test]
    async fn only_so_many_requests_wait_for_a_hash() {
        let hasher = Hasher::with(1_024, 1).expect("random numbers");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..WAITING + 20 {
            let hasher = hasher.clone();
            tasks.spawn(async move { hasher.hash(password("correct horse")).await.is_ok() });
        }
        let done = tasks.join_all().await;
        assert_eq!(done.iter().filter(|done| !**done).count(), 20);
        assert!(hasher.hash(password("correct horse")).await.is_ok(), "there is room again");
    }

    #[test]
    fn a_chosen_password_has_a_length_and_is_not_among_the_commonest() {
        for (text, expected) in [
            ("tulips-at-8", Ok(())),
            ("short12", Err(Unsuitable::Length)),
            (&"x1".repeat(64), Ok(())),
            (&"x1".repeat(65), Err(Unsuitable::Length)),
            (&"x".repeat(2_000), Err(Unsuitable::Length)),
            ("Password1", Err(Unsuitable::Common)),
            ("zzzzzzzzzzzz", Err(Unsuitable::Common)),
        ] {
            assert_eq!(Password::chosen(text).map(drop), expected, "{text}");
        }
        assert!(COMMON.lines().count() > 150 && COMMON.lines().all(|line| line.len() >= 8));
        assert!(COMMON.lines().all(|line| line == line.to_lowercase()));
    }

    #[test]
    fn two_spellings_of_one_character_are_one_password_and_none_is_printed() {
        let composed = password("caf\u{e9} noir");
        assert_eq!(composed.expose(), password("cafe\u{301} noir").expose());
        assert_eq!(format!("{composed:?}"), "***");
        let random = [(); 2].map(|()| Password::random().expect("random numbers"));
        assert_ne!(random[0].expose(), random[1].expose());
        assert!(Password::chosen(random[0].expose()).is_ok());
    }
}

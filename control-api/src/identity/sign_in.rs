//! The beginning, continuation and end of sessions.
//!
//! Attempts to sign in are limited by address (a layer of the route) and by name, whether an
//! account has it or not. Somebody who guesses at an account can so delay the sign-in of its owner,
//! whose sessions go on. The response to a wrong password and to an unknown name is the same, after
//! the same computation.

use control_domain::{
    Actor, Role, Vault as _,
    features::{
        accounts::{
            self,
            commands::SetPassword,
            tables::{Account, Person},
        },
        sessions::{
            self,
            commands::{ChangePassword, End, Start},
            events::Reason,
        },
    },
    id::{AccountId, SessionId},
    text::{DeviceName, DisplayName, Email, folded},
};
use tokio::task::spawn_blocking;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    access_token::LIFE,
    authority::{Identity, not_issued, now},
    password::{Comparison, Password},
    refresh_token::{self, RefreshToken},
    ticket::Holder,
};
use crate::{
    caller,
    platform::InUse,
    problem::{Kind, Problem},
    rate::Class,
    store::{Rotation, Traffic},
};

/// An attempt to sign in.
#[derive(Debug)]
pub struct Attempt {
    /// The name or the e-mail address.
    pub login: String,
    /// The password.
    pub password: Password,
    /// The password that replaces it, if it must be changed or its owner wants it.
    pub new_password: Option<Password>,
    /// The name of the device.
    pub device: DeviceName,
}

/// Somebody who is signed in, with new tokens.
#[derive(Debug)]
pub struct SignedIn {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The access token. `Debug` prints `***`.
    pub access: Access,
    /// The refresh token.
    pub refresh: RefreshToken,
    /// Seconds for which the access token is valid.
    pub expires_in: u64,
    /// The sequence of the last event.
    pub sequence: u64,
}

/// An access token as text.
pub struct Access(pub String);

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Identity {
    /// Signs somebody in.
    ///
    /// # Errors
    /// 401 if no account has this name and password, 403 if the password must be replaced, 429
    /// after too many attempts.
    pub async fn sign_in(&self, attempt: Attempt) -> Result<SignedIn, Problem> {
        let Attempt { login, password, new_password, device } = attempt;
        self.throttle(&login).await?;
        let found = self.find(&login).await?;
        // An account that signs in elsewhere has no password.
        let hash = found.as_ref().map(|(.., person)| person.password.clone());
        let hash = hash.filter(|hash| !hash.is_empty());
        let compared = self.hasher().compare(password.clone(), hash.clone()).await?;
        let (id, account, person) = match (found, compared) {
            (Some(found), Comparison::Same | Comparison::SameButOutdated) => found,
            _ => {
                let words = "no account has this name and this password";
                return Err(Problem::new(Kind::WrongCredentials, words));
            }
        };
        self.require_second_step(id, Holder::of(&account, &person)).await?;
        let mut hash = hash.map(accounts::commands::PasswordHash);
        if let Some(new) = new_password {
            let password = self.hasher().hash(new).await?;
            let command = ChangePassword { account: id, password: password.clone(), except: None };
            let ended = self.platform().send(Actor::System, command).await?.done;
            self.forget(ended).await?;
            hash = Some(password);
        } else if account.must_change_password {
            let words = "this password must be replaced: send new_password, too";
            return Err(Problem::new(Kind::PasswordChangeRequired, words));
        } else if compared == Comparison::SameButOutdated {
            let password = self.hasher().hash(password).await?;
            let command = SetPassword { account: id, password: password.clone() };
            self.platform().send(Actor::System, command).await?;
            hash = Some(password);
        }
        self.begin(Start { account: id, device, password: hash }, account.role).await
    }

    /// Begins a session, after credentials were checked.
    ///
    /// # Errors
    /// 409 if the account's password has changed meanwhile.
    pub async fn begin(&self, start: Start, role: Role) -> Result<SignedIn, Problem> {
        let account = start.account;
        let receipt = self.platform().send(Actor::System, start).await?;
        let (session, now) = (receipt.done, now());
        let refresh = RefreshToken::random(session, 0, self.platform().store().await?.vault())?;
        let digest = refresh.digest();
        self.with_traffic(move |traffic| traffic.begin(session, digest, now)).await?;
        info!(%account, %session, "session started");
        self.signed_in(account, role, session, refresh, receipt.sequence)
    }

    /// Continues a session with its refresh token, and replaces the token.
    ///
    /// # Errors
    /// 401 if it is not the present token of a session; 409 if it was used a moment ago.
    pub async fn refresh(&self, token: &str) -> Result<SignedIn, Problem> {
        let refused = || {
            let words = "this refresh token is not valid: sign in again";
            Problem::new(Kind::InvalidToken, words)
        };
        let (store, now) = (self.platform().store().await?, now());
        let presented = refresh_token::parse(token, store.vault()).ok_or_else(refused)?;
        let session = presented.session;
        let Some((row, account)) = self.session(&store, session, now)? else {
            drop(store);
            // It has ended, or is too old.
            self.forget(vec![session]).await?;
            self.end(session, Reason::Expired).await?;
            return Err(refused());
        };
        let generation = presented.generation.checked_add(1).ok_or_else(refused)?;
        let next = RefreshToken::random(session, generation, store.vault())?;
        let (digest, sequence) = (next.digest(), store.sequence());
        drop(store);
        let rotation =
            self.with_traffic(move |traffic| traffic.rotate(presented, digest, now)).await?;
        match rotation {
            Rotation::Rotated => self.signed_in(row.account, account.role, session, next, sequence),
            Rotation::Twice => {
                let words = "this refresh token was used a moment ago: use the new one";
                Err(Problem::new(Kind::Conflict, words).of_rule("token_used"))
            }
            Rotation::Reused => {
                warn!(account = %row.account, %session, "refresh token used twice: session ended");
                self.end(session, Reason::Reused).await?;
                Err(refused())
            }
            Rotation::Idle | Rotation::Unknown => {
                self.end(session, Reason::Expired).await?;
                Err(refused())
            }
        }
    }

    /// Forgets the refresh tokens of sessions that have ended.
    pub(crate) async fn forget(&self, sessions: Vec<SessionId>) -> Result<(), Problem> {
        self.with_traffic(move |traffic| traffic.forget(&sessions)).await
    }

    /// When each of these sessions was last continued; `None` for one that cannot be continued.
    pub(crate) async fn last_use(
        &self,
        sessions: &[SessionId],
    ) -> Result<Vec<Option<control_domain::Time>>, Problem> {
        Ok(self.platform().store().await?.traffic().last_use(sessions, now())?)
    }

    /// Ends a session that may have ended.
    async fn end(&self, session: SessionId, reason: Reason) -> Result<(), Problem> {
        match self.platform().send(Actor::System, End { session, reason }).await {
            Err(problem) if problem.kind() != Kind::NotFound => Err(problem),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A session that is in force, and its account.
    pub(super) fn session(
        &self,
        store: &InUse,
        session: SessionId,
        now: control_domain::Time,
    ) -> Result<Option<(sessions::tables::Session, Account)>, Problem> {
        Ok(store.read(|rows| sessions::queries::in_force(rows, session, now))??)
    }

    /// Takes an attempt from the share of a name, whether an account has it or not.
    pub(crate) async fn throttle(&self, login: &str) -> Result<(), Problem> {
        let store = self.platform().store().await?;
        let digest = store.vault().digest(&format!("login {}", folded(login.trim())));
        let mut share = [0; 16];
        share.copy_from_slice(&digest[..16]);
        self.limiter().take(Class::Login, caller::Account(Uuid::from_bytes(share)))
    }

    /// The account with a name or an e-mail address.
    async fn find(&self, login: &str) -> Result<Option<(AccountId, Account, Person)>, Problem> {
        self.read(|rows, vault| {
            let id = match (login.parse::<Email>(), login.parse::<DisplayName>()) {
                (Ok(email), _) => accounts::queries::by_email(rows, vault, &email)?,
                (_, Ok(name)) => accounts::queries::by_name(rows, vault, &name)?,
                (Err(_), Err(_)) => None,
            };
            let Some(id) = id else { return Ok(None) };
            let Some(account) = accounts::queries::account(rows, id)? else { return Ok(None) };
            Ok(account.open(vault)?.map(|person| (id, account, person)))
        })
        .await
    }

    fn signed_in(
        &self,
        account: AccountId,
        role: Role,
        session: SessionId,
        refresh: RefreshToken,
        sequence: u64,
    ) -> Result<SignedIn, Problem> {
        let access = self.tokens().issue(account, session, role, now());
        let access = Access(access.map_err(|error| not_issued(&error))?);
        Ok(SignedIn { account, session, access, refresh, expires_in: LIFE.as_secs(), sequence })
    }

    /// Writes to the file of refresh tokens, on a thread for blocking work.
    async fn with_traffic<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Traffic) -> Result<T, control_domain::Fault> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.platform().store().await?;
        let done = spawn_blocking(move || act(store.traffic())).await;
        done.map_err(|_| Problem::new(Kind::Internal, "a session could not be written"))?.map_err(
            |fault| {
                tracing::error!(%fault, "a session was not written");
                let words = "the session could not be written: repeat the request";
                Problem::new(Kind::Unavailable, words).retry_after(1)
            },
        )
    }
}

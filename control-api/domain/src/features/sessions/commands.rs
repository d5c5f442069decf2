//! Requests to start and end sessions.

use super::{
    events::{Ended, Reason, Started},
    queries,
    tables::MAX_OF_AN_ACCOUNT,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    event::NewEvent,
    features::accounts::{self, events::PasswordSet},
    id::{AccountId, SessionId},
    password::PasswordHash,
    permission::Who,
    rows::Rows,
    text::DeviceName,
};

/// Starts a session. The credentials were checked before. Sessions that are too old end, and the
/// oldest if the account has too many.
#[derive(Debug)]
pub struct Start {
    /// The account.
    pub account: AccountId,
    /// The name of the device.
    pub device: DeviceName,
    /// The hash with which a password was compared; `None` after other credentials. If the account
    /// has another by now, the session does not start.
    pub password: Option<PasswordHash>,
}

impl Command for Start {
    const NAME: &'static str = "session.start";
    const WHO: Who = Who::System;

    type Done = SessionId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<SessionId>, Refusal> {
        let account = accounts::queries::present(context.rows, self.account)?;
        let present = account.open(context.vault)?.map(|person| person.password);
        if self.password.as_ref().is_some_and(|hash| present.as_ref() != Some(&hash.0)) {
            return Err(Refusal::Conflict {
                rule: "password_changed",
                reason: "the account has got another password meanwhile",
            });
        }
        let present = queries::of_account(context.rows, self.account)?;
        let (old, rest): (Vec<_>, Vec<_>) =
            present.iter().partition(|(_, session)| queries::is_too_old(session, context.now));
        let excess = (rest.len() + 1).saturating_sub(MAX_OF_AN_ACCOUNT);
        let session = SessionId::new(context.ids.next());
        let mut decision = Decision::nothing(session);
        for (id, _) in old {
            decision = decision.and(Ended { session: *id, reason: Reason::Expired })?;
        }
        for (id, _) in rest.into_iter().take(excess) {
            decision = decision.and(Ended { session: *id, reason: Reason::Displaced })?;
        }
        let device = context.vault.seal(self.account, self.device.as_str())?;
        decision.and(Started { session, account: self.account, device })
    }
}

/// Ends a session.
#[derive(Debug)]
pub struct End {
    /// The session.
    pub session: SessionId,
    /// The reason.
    pub reason: Reason,
}

impl Command for End {
    const NAME: &'static str = "session.end";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::session(rows, self.session)?.account))
    }

    /// Nobody but the owner knows an account's sessions.
    fn is_visible(&self, _: &dyn Rows, _: &Actor) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::session(context.rows, self.session)?;
        Decision::event(Ended { session: self.session, reason: self.reason }, ())
    }
}

/// Ends the sessions of an account, but one.
#[derive(Debug)]
pub struct EndOthers {
    /// The account.
    pub account: AccountId,
    /// The session that goes on; `None`: all end.
    pub except: Option<SessionId>,
    /// The reason.
    pub reason: Reason,
}

impl Command for EndOthers {
    const NAME: &'static str = "session.end_others";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    /// The sessions that ended.
    type Done = Vec<SessionId>;

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        accounts::queries::present(rows, self.account)?;
        Ok(Some(self.account))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<Vec<SessionId>>, Refusal> {
        end_others(context, self.account, self.except, self.reason)
    }
}

/// Sets another password, and ends the sessions of the account but one, in one step: whoever signed
/// in with the old password is out. The old password, or a mailed token, is checked before.
#[derive(Debug)]
pub struct ChangePassword {
    /// The account.
    pub account: AccountId,
    /// The password.
    pub password: PasswordHash,
    /// The session that goes on; `None`: all end.
    pub except: Option<SessionId>,
}

impl Command for ChangePassword {
    const NAME: &'static str = "account.change_password";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    /// The sessions that ended.
    type Done = Vec<SessionId>;

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        accounts::queries::present(rows, self.account)?;
        Ok(Some(self.account))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<Vec<SessionId>>, Refusal> {
        let password = context.vault.seal(self.account, &self.password.0)?;
        let set = NewEvent::try_from(PasswordSet { account: self.account, password })?;
        let mut decision = end_others(context, self.account, self.except, Reason::PasswordChanged)?;
        decision.events.insert(0, set);
        Ok(decision)
    }
}

fn end_others(
    context: &Context<'_>,
    account: AccountId,
    except: Option<SessionId>,
    reason: Reason,
) -> Result<Decision<Vec<SessionId>>, Refusal> {
    let mut decision = Decision::nothing(Vec::new());
    for (session, _) in queries::of_account(context.rows, account)? {
        if Some(session) != except {
            decision = decision.and(Ended { session, reason })?;
            decision.done.push(session);
        }
    }
    Ok(decision)
}

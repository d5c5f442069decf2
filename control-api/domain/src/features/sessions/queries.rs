//! Questions about sessions. They read tables only.

use serde_json::json;

use super::{
    events::Event,
    tables::{BY_ACCOUNT, LIFE, MAX_OF_AN_ACCOUNT, SESSIONS, Session},
};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    event::{Envelope, Events as _},
    export::{ExportOf, Portion},
    features::accounts::{self, queries::Account},
    id::{AccountId, SessionId},
    permission::{Permission, Who},
    refusal::Refusal,
    rows::{Fault, Order, Rows},
    time::Time,
};

/// A session, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn session(rows: &dyn Rows, id: SessionId) -> Result<Session, Refusal> {
    SESSIONS.get(rows, &id)?.ok_or(Refusal::NotFound { thing: "session" })
}

/// Whether a session is older than any may be.
pub fn is_too_old(session: &Session, now: Time) -> bool {
    session.started.after(LIFE) <= now
}

/// The sessions of an account, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_account(rows: &dyn Rows, account: AccountId) -> Result<Vec<(SessionId, Session)>, Fault> {
    let ids = BY_ACCOUNT.page(rows, &account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
    let mut sessions = Vec::with_capacity(ids.len());
    for ((_, id), ()) in ids {
        sessions.extend(SESSIONS.get(rows, &id)?.map(|session| (id, session)));
    }
    Ok(sessions)
}

/// A session and its account, if the session is in force: it has not ended, is not too old, and the
/// account is not erased. Two point reads, because each request asks it.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn in_force(
    rows: &dyn Rows,
    id: SessionId,
    now: Time,
) -> Result<Option<(Session, Account)>, Fault> {
    let Some(session) = SESSIONS.get(rows, &id)? else { return Ok(None) };
    let account = accounts::queries::account(rows, session.account)?;
    let account = account.filter(|account| account.person.is_some());
    Ok(account.filter(|_| !is_too_old(&session, now)).map(|account| (session, account)))
}

/// The actors that may list the sessions of an account.
pub const LIST: Permission =
    Permission { command: "session.list", who: Who::OwnerOr(Role::Administrator) };

/// The sessions of an account for an actor, the oldest first: at most [`MAX_OF_AN_ACCOUNT`].
///
/// # Errors
/// A refusal of [`LIST`].
pub fn list(
    rows: &dyn Rows,
    actor: &Actor,
    account: AccountId,
) -> Result<Vec<(SessionId, Session)>, Refusal> {
    LIST.check(actor, Some(account), false)?;
    Ok(of_account(rows, account)?)
}

/// A session's events are for its owner.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let account = match Event::read(envelope)? {
        Event::Started(event) => Some(event.account),
        // Its row is gone, and its owner is the actor, who may always read it.
        Event::Ended(event) => SESSIONS.get(rows, &event.session)?.map(|session| session.account),
    };
    Ok(account.map_or(Audience::Administrators, Audience::Owner))
}

/// The sessions of a person.
///
/// # Errors
/// A [`Fault`] of the tables or the vault.
pub fn export(person: &ExportOf<'_>, _: Option<&[u8]>) -> Result<Portion, Fault> {
    let mut items = Vec::new();
    for (id, session) in of_account(person.rows, person.id)? {
        let device = person.vault.open(&session.device)?;
        items.push(json!({ "id": id, "device": device, "started": session.started }));
    }
    Ok(Portion::whole(items))
}

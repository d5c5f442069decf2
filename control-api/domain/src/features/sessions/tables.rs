//! The tables of sessions, and the fold that writes them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::accounts,
    id::{AccountId, SessionId},
    rows::{Fault, Order, RowsMut},
    table::Table,
    time::Time,
    vault::Sealed,
};

/// A session that has not ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The account.
    pub account: AccountId,
    /// The name of the device, which is personal.
    pub device: Sealed,
    /// When it began.
    pub started: Time,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("account", &self.account)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// All sessions.
pub const SESSIONS: Table<SessionId, Session> = Table::new("sessions.sessions");
/// The sessions of an account.
pub const BY_ACCOUNT: Table<(AccountId, SessionId), ()> = Table::new("sessions.by_account");

/// The greatest number of sessions of an account. A further one displaces the oldest.
pub const MAX_OF_AN_ACCOUNT: usize = 50;
/// The longest life of a session, however often it is used.
pub const LIFE: Duration = Duration::from_secs(180 * 24 * 3_600);

/// Applies an event of a session, or the end of an account.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let rows = &mut *folding.rows;
    if envelope.kind == accounts::events::ERASED {
        let accounts::events::Event::Erased(event) = accounts::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        let own = BY_ACCOUNT.page(rows, &event.account, None, Order::Up, MAX_OF_AN_ACCOUNT)?;
        return own.iter().try_for_each(|((_, session), ())| remove(rows, *session));
    }
    match Event::read(envelope)? {
        Event::Started(event) => {
            let session =
                Session { account: event.account, device: event.device, started: envelope.time };
            BY_ACCOUNT.put(rows, &(session.account, event.session), &())?;
            SESSIONS.put(rows, &event.session, &session)
        }
        Event::Ended(event) => remove(rows, event.session),
    }
}

fn remove(rows: &mut dyn RowsMut, id: SessionId) -> Result<(), Fault> {
    let Some(session) = SESSIONS.get(rows, &id)? else { return Ok(()) };
    BY_ACCOUNT.remove(rows, &(session.account, id))?;
    SESSIONS.remove(rows, &id)
}

//! Requests to record operations of the daemon. Whoever carries one out checks the permission
//! before, and records it afterwards with its outcome.

use super::events::{Outcome, Performed};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::{accounts, channels},
    id::AccountId,
    permission::Who,
    rows::Rows,
    text::{ChannelName, OperationName, OperationSubject, OperationValue, Reason},
    vault::Sealed,
};

/// Stands for actors without an account in [`Sealed`]: no account has it.
const NOBODY: AccountId = AccountId::new(uuid::Uuid::max());

/// Records an operation.
#[derive(Debug)]
pub struct Record {
    /// The operation.
    pub operation: OperationName,
    /// The thing that it was about.
    pub subject: OperationSubject,
    /// The result.
    pub outcome: Outcome,
    /// The value that it has set.
    pub value: Option<OperationValue>,
    /// Why, in the sender's words.
    pub reason: Option<Reason>,
}

impl Command for Record {
    const NAME: &'static str = "operation.record";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let performed = Performed {
            operation: self.operation.clone(),
            subject: self.subject.clone(),
            outcome: self.outcome,
            value: self.value.clone(),
            reason: sealed(context, self.reason.as_ref())?,
        };
        Decision::event(performed, ())
    }
}

/// Records that the broadcast of a channel was ended by a request.
#[derive(Debug)]
pub struct EndStream {
    /// The channel. It may be one that the platform does not know, which has no owner.
    pub channel: ChannelName,
    /// The result.
    pub outcome: Outcome,
    /// Why, in the sender's words.
    pub reason: Option<Reason>,
}

impl Command for EndStream {
    const NAME: &'static str = "stream.end";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(owned(rows, &self.channel)?.map(|channel| channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        let channel = owned(rows, &self.channel)?;
        Ok(channel.is_none_or(|channel| channels::queries::is_visible(&channel, actor)))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let text = |_| Refusal::NotFound { thing: "stream" };
        let performed = Performed {
            operation: Self::NAME.parse().map_err(text)?,
            subject: self.channel.as_str().parse().map_err(text)?,
            outcome: self.outcome,
            value: None,
            reason: sealed(context, self.reason.as_ref())?,
        };
        Decision::event(performed, ())
    }
}

/// The channel of this name, if the platform has one.
fn owned(
    rows: &dyn Rows,
    name: &ChannelName,
) -> Result<Option<channels::queries::Channel>, Refusal> {
    match channels::queries::by_name(rows, name)? {
        Some(id) => Ok(channels::queries::find(rows, id)?),
        None => Ok(None),
    }
}

/// The sender's words, sealed under the sender's key: they may name persons.
fn sealed(context: &Context<'_>, reason: Option<&Reason>) -> Result<Option<Sealed>, Refusal> {
    if let Some(account) = context.actor.account() {
        // An erased person has no key any more.
        accounts::queries::present(context.rows, account)?;
    }
    let person = context.actor.account().unwrap_or(NOBODY);
    Ok(reason.map(|reason| context.vault.seal(person, reason.as_str())).transpose()?)
}

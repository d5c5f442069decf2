//! If-Match within the decision of a command: two clients that have read the same state cannot both
//! change it.

use control_domain::{
    Actor, Command, Context, Refusal, Rows, Who, command::Decision, id::AccountId,
};

use crate::precondition::{ETag, IfMatch};

/// Computes the entity tag that a read of the thing would have now.
type Present = dyn Fn(&dyn Rows) -> Result<ETag, Refusal> + Send;

/// A command that is carried out only if the thing has the entity tag that the client has read.
pub(crate) struct Matching<C> {
    command: C,
    if_match: IfMatch,
    present: Box<Present>,
}

impl<C> Matching<C> {
    /// The command, with the precondition of the request.
    pub(crate) fn new(
        command: C,
        if_match: IfMatch,
        present: impl Fn(&dyn Rows) -> Result<ETag, Refusal> + Send + 'static,
    ) -> Self {
        Self { command, if_match, present: Box::new(present) }
    }
}

impl<C: Command> Command for Matching<C> {
    const NAME: &'static str = C::NAME;
    const WHO: Who = C::WHO;

    type Done = C::Done;

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        self.command.owner(rows)
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        self.command.is_visible(rows, actor)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<C::Done>, Refusal> {
        if !self.if_match.is_absent() && !self.if_match.matches(&(self.present)(context.rows)?) {
            let thing = C::NAME.split('.').next().unwrap_or(C::NAME);
            return Err(Refusal::Changed { thing });
        }
        self.command.decide(context)
    }
}

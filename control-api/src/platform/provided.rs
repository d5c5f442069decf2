//! A condition within the decision of a command: it is checked on the tables as they are at that
//! moment, so that of two requests with the same proof one is refused.

use control_domain::{
    Actor, Command, Context, Refusal, Rows, Who, command::Decision, id::AccountId,
};

/// Checks the condition.
type Condition = dyn Fn(&Context<'_>) -> Result<(), Refusal> + Send;

/// A command that is carried out only if a condition holds.
pub(crate) struct Provided<C> {
    command: C,
    condition: Box<Condition>,
}

impl<C> Provided<C> {
    /// The command, with its condition.
    pub(crate) fn new(
        command: C,
        condition: impl Fn(&Context<'_>) -> Result<(), Refusal> + Send + 'static,
    ) -> Self {
        Self { command, condition: Box::new(condition) }
    }
}

impl<C: Command> Command for Provided<C> {
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
        (self.condition)(context)?;
        self.command.decide(context)
    }
}

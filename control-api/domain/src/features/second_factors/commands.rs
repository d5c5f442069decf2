//! Requests to make, use and remove second factors.

use super::{
    events::{Begun, CodeUsed, Confirmed, RecoveryCodeUsed, Removed},
    queries,
    tables::SecondFactor,
};
use crate::{
    actor::Role,
    command::{Command, Context, Decision, Refusal},
    features::{accounts, stream_keys::events::KeyDigest},
    id::{AccountId, SecondFactorId},
    permission::Who,
    rows::Rows,
};

/// The secret of an authenticator app in base 32. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct FactorSecret(pub String);

impl std::fmt::Debug for FactorSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The conflict of an account that has a second factor in force.
const EXISTS: Refusal = Refusal::Conflict {
    rule: "second_factor_exists",
    reason: "the account has a second factor: disable it first",
};
/// The conflict of a code whose time step has been accepted before.
const USED: Refusal =
    Refusal::Conflict { rule: "code_used", reason: "this code was used: wait for the next one" };

/// Begins the enrolment of a second factor. An enrolment that was not confirmed is forgotten.
#[derive(Debug)]
pub struct Begin {
    /// The account.
    pub account: AccountId,
    /// The secret, which was made at random.
    pub secret: FactorSecret,
}

impl Command for Begin {
    const NAME: &'static str = "second_factor.begin";
    /// Also an administrator does not act as somebody else.
    const WHO: Who = Who::SignedIn;

    type Done = SecondFactorId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<SecondFactorId>, Refusal> {
        own(context, self.account, Self::NAME)?;
        accounts::queries::present(context.rows, self.account)?;
        if queries::in_force(context.rows, self.account)?.is_some() {
            return Err(EXISTS);
        }
        let factor = SecondFactorId::new(context.ids.next());
        let secret = context.vault.seal(self.account, &self.secret.0)?;
        Decision::event(Begun { factor, account: self.account, secret }, factor)
    }
}

/// Puts a second factor in force, because its owner has sent a code of it.
#[derive(Debug)]
pub struct Confirm {
    /// The account.
    pub account: AccountId,
    /// The factor whose code was sent. If its owner has begun again meanwhile, this one is unknown.
    pub factor: SecondFactorId,
    /// The time step of the code.
    pub step: u64,
    /// The digests of the recovery codes, which were made at random.
    pub recovery: Vec<KeyDigest>,
}

impl Command for Confirm {
    const NAME: &'static str = "second_factor.confirm";
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        own(context, self.account, Self::NAME)?;
        if queries::in_force(context.rows, self.account)?.is_some() {
            return Err(EXISTS);
        }
        let pending = queries::pending(context.rows, self.account)?;
        match pending.filter(|pending| pending.factor == self.factor) {
            None => Err(Refusal::NotFound { thing: "second_factor" }),
            Some(_) => {
                let Self { factor, step, ref recovery, .. } = *self;
                Decision::event(Confirmed { factor, step, recovery: recovery.clone() }, ())
            }
        }
    }
}

/// Accepts a code, once. It was compared before.
#[derive(Debug)]
pub struct UseCode {
    /// The account.
    pub account: AccountId,
    /// The factor with whose secret the code was compared.
    pub factor: SecondFactorId,
    /// The time step of the code.
    pub step: u64,
}

impl Command for UseCode {
    const NAME: &'static str = "second_factor.use_code";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let present = present(context.rows, self.account)?;
        if present.factor != self.factor {
            return Err(Refusal::NotFound { thing: "second_factor" });
        }
        if self.step <= present.last_step {
            return Err(USED);
        }
        Decision::event(CodeUsed { factor: self.factor, step: self.step }, ())
    }
}

/// Accepts a recovery code, once.
#[derive(Debug)]
pub struct UseRecoveryCode {
    /// The account.
    pub account: AccountId,
    /// The code's digest.
    pub code: KeyDigest,
}

impl Command for UseRecoveryCode {
    const NAME: &'static str = "second_factor.use_recovery_code";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let present = present(context.rows, self.account)?;
        match present.recovery.contains(&self.code.0) {
            false => Err(Refusal::NotFound { thing: "recovery_code" }),
            true => {
                Decision::event(RecoveryCodeUsed { factor: present.factor, code: self.code }, ())
            }
        }
    }
}

/// Removes a second factor. If its owner asks, the password and a code were compared before; an
/// administrator does it for somebody who has lost both the app and the recovery codes.
#[derive(Debug)]
pub struct Remove {
    /// The account.
    pub account: AccountId,
}

impl Command for Remove {
    const NAME: &'static str = "second_factor.remove";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        accounts::queries::present(rows, self.account)?;
        Ok(Some(self.account))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let present = present(context.rows, self.account)?;
        Decision::event(Removed { factor: present.factor }, ())
    }
}

/// The factor in force.
fn present(rows: &dyn Rows, account: AccountId) -> Result<SecondFactor, Refusal> {
    queries::in_force(rows, account)?.ok_or(Refusal::NotFound { thing: "second_factor" })
}

/// Refuses everybody but the account itself.
fn own(context: &Context<'_>, account: AccountId, command: &'static str) -> Result<(), Refusal> {
    match context.actor.account() == Some(account) {
        true => Ok(()),
        false => Err(Refusal::Forbidden { command, who: Who::SignedIn }),
    }
}

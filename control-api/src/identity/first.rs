//! The first administrator of a new platform.

use control_domain::{
    Actor,
    features::accounts::{self, commands::Bootstrap},
    text::{DisplayName, Email},
};
use tracing::info;

use super::{authority::Identity, password::Password};
use crate::{
    audit::Operation,
    problem::{Kind, Problem},
};

/// Names that are tried, because a viewer may have the first.
const NAMES: [&str; 4] = ["admin", "administrator", "operator", "admin-1"];

/// The administrator that was made, with the password that is shown once.
#[derive(Debug)]
pub struct FirstAdministrator {
    /// The name.
    pub name: String,
    /// The password, which must be replaced at the first sign-in.
    pub password: Password,
}

impl Identity {
    /// Makes an administrator if there is none.
    ///
    /// # Errors
    /// The problem of the command.
    pub async fn first_administrator(&self) -> Result<Option<FirstAdministrator>, Problem> {
        let present = |rows: &dyn control_domain::Rows| accounts::queries::administrators(rows, 1);
        if !self.platform().read(present).await?.is_empty() {
            return Ok(None);
        }
        let password = Password::random()?;
        let hash = self.hasher().hash(password.clone()).await?;
        let mut refused = Problem::new(Kind::Internal, "no name for the first administrator");
        for name in NAMES {
            let internal = |_| Problem::new(Kind::Internal, "a name of the first administrator");
            let email = format!("{name}@localhost");
            let bootstrap = Bootstrap {
                name: name.parse::<DisplayName>().map_err(internal)?,
                email: email.parse::<Email>().map_err(internal)?,
                password: hash.clone(),
            };
            match self.platform().send(Actor::System, bootstrap).await {
                Ok(receipt) => {
                    let Some(account) = receipt.done else { return Ok(None) };
                    info!(%account, "first administrator made");
                    let made = Operation::new("administrator.make", &account.to_string());
                    made.record(Some(self.platform()), Actor::System).await;
                    return Ok(Some(FirstAdministrator { name: name.to_owned(), password }));
                }
                Err(problem) if problem.kind() == Kind::Conflict => refused = problem,
                Err(problem) => return Err(problem),
            }
        }
        Err(refused)
    }
}

//! The account of a person that a provider has named: signed in, made, or linked.

use control_domain::{
    Actor,
    features::{
        accounts,
        identities::{
            self,
            commands::{Link, RegisterByIdentity},
        },
        sessions::commands::Start,
    },
    id::AccountId,
    text::{DeviceName, DisplayName},
};
use tracing::info;

use super::{Claims, Provider, refused};
use crate::{
    identity::{
        Identity, SignedIn,
        ticket::{Holder, Ticket},
    },
    mail::Order,
    problem::{Kind, Problem},
};

/// Attempts to find a free name for an account.
const NAMES: usize = 4;

/// The end of a sign-in at a provider.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Somebody is signed in.
    SignedIn(Box<SignedIn>),
    /// A second factor must follow.
    SecondStep(Ticket),
    /// The account has another identity now.
    Linked,
}

impl Identity {
    /// Uses what a provider says of a person: signs in, makes an account, or links one.
    ///
    /// # Errors
    /// 403 if the person may not, 409 if an account has the address or the identity.
    pub(crate) async fn accept(
        &self,
        provider: &Provider,
        claims: Claims,
        actor: Actor,
        linking: Option<AccountId>,
        device: DeviceName,
    ) -> Result<Outcome, Problem> {
        let id = provider.id().to_owned();
        if let Some(account) = linking {
            // The one who began must be the one who ends it.
            if actor.account() != Some(account) {
                return Err(refused("another account is signed in than the one to be linked"));
            }
            let command = Link { account, provider: id, subject: claims.subject };
            self.platform().send(actor, command).await?;
            return Ok(Outcome::Linked);
        }
        let store = self.platform().store().await?;
        let found = store
            .read(|rows| identities::queries::by_subject(rows, store.vault(), &claims.subject))??;
        drop(store);
        let account = match found {
            Some(account) => account,
            None => self.register_by_identity(id, claims).await?,
        };
        let row = self.platform().read(|rows| accounts::queries::present(rows, account)).await?;
        let person = self.person(account).await?;
        if let Some(ticket) = self.challenge(account, Holder::of(&row, &person)).await? {
            return Ok(Outcome::SecondStep(ticket));
        }
        let start = Start { account, device, password: None };
        Ok(Outcome::SignedIn(Box::new(self.begin(start, row.role).await?)))
    }

    /// Makes an account for a person.
    async fn register_by_identity(
        &self,
        provider: String,
        claims: Claims,
    ) -> Result<AccountId, Problem> {
        let Claims { subject, email, email_verified: is_verified, name } = claims;
        let email = email.ok_or_else(|| refused("the provider names no e-mail address"))?;
        for name in candidates(name.as_deref())? {
            let command = RegisterByIdentity {
                name,
                email: email.clone(),
                is_verified,
                provider: provider.clone(),
                subject: subject.clone(),
            };
            match self.platform().send(Actor::System, command).await {
                Ok(receipt) => {
                    let account = receipt.done;
                    info!(%account, provider, "account made by the first sign-in at a provider");
                    if !is_verified {
                        self.notify(Order::VerifyAddress(account));
                    }
                    return Ok(account);
                }
                Err(problem) if problem.rule() == Some("name_taken") => {}
                Err(problem) if problem.rule() == Some("email_taken") => {
                    let words = "an account has the address that the provider names: sign in to it \
                                 with its password, and link it to the provider";
                    return Err(Problem::new(Kind::Conflict, words).of_rule("email_taken"));
                }
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::new(Kind::Conflict, "no free name was found").of_rule("name_taken"))
    }
}

/// Names for an account: that of the provider, then with random digits.
fn candidates(name: Option<&str>) -> Result<Vec<DisplayName>, Problem> {
    let name = name.unwrap_or("viewer").chars().take(40).collect::<String>();
    let mut names = Vec::with_capacity(NAMES);
    names.extend(name.parse::<DisplayName>().ok());
    let base = if names.is_empty() { "viewer" } else { &name };
    for _ in 0..NAMES {
        let number = uuid::Uuid::new_v4().as_u128() % 1_000_000;
        names.extend(format!("{base} {number:06}").parse::<DisplayName>().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_gets_the_providers_name_or_another_one_if_it_is_taken_or_invalid() {
        let names = |name| {
            let names = candidates(name).expect("random numbers");
            names.into_iter().map(String::from).collect::<Vec<_>>()
        };
        let given = names(Some("Ada"));
        assert_eq!((given.len(), given[0].as_str()), (1 + NAMES, "Ada"));
        assert!(given[1..].iter().all(|name| name.starts_with("Ada ") && name.len() == 10));
        assert!(names(None)[0] == "viewer");
        assert!(names(Some("\u{1}"))[0].starts_with("viewer "));
        assert_eq!(names(Some(&"x".repeat(500)))[0].len(), 40);
    }
}

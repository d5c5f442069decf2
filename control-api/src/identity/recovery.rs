//! Verifying an address, resetting a forgotten password and changing an address: the uses of mailed
//! tokens.

use control_domain::{
    Actor, Refusal,
    features::{
        accounts::{
            self,
            commands::{ChangeEmail, VerifyEmail},
            tables::Person,
        },
        sessions::commands::ChangePassword,
    },
    id::AccountId,
    text::Email,
};
use uuid::Uuid;

use super::{
    Identity,
    authority::now,
    password::{Comparison, Password},
    ticket::{self, Presented, Purpose},
};
use crate::{
    caller,
    mail::{Order, Outbox},
    platform::Provided,
    problem::{Kind, Problem},
    rate::Class,
};

impl Identity {
    /// The queue of mails.
    ///
    /// # Errors
    /// 403 if no mail server is configured.
    pub(crate) fn outbox(&self) -> Result<&Outbox, Problem> {
        self.extras().outbox.get().ok_or_else(|| {
            let words = "this installation sends no mail: its operator must set [smtp]";
            Problem::new(Kind::MailDisabled, words)
        })
    }

    /// Posts a mail that a change causes, if a mail server is configured. The change has happened,
    /// so a full queue is no failure of it.
    pub(crate) fn notify(&self, order: Order) {
        if let Some(outbox) = self.extras().outbox.get()
            && let Err(err) = outbox.post(order)
        {
            tracing::warn!(%err, "a mail is not sent");
        }
    }

    /// Tells the owner of an address that somebody has tried to register with it. Few mails reach
    /// it, however many try.
    pub(crate) async fn notify_taken(&self, email: Email) {
        if self.take_share(Class::Mail, &format!("taken {}", email.folded())).await.is_ok() {
            self.notify(Order::AddressTaken(email));
        }
    }

    /// Sends another mail with a token to the address of an account.
    ///
    /// # Errors
    /// 404, 403 without a mail server, 409 if the address is verified, 503 if the queue is full.
    pub(crate) async fn send_verification(&self, account: AccountId) -> Result<(), Problem> {
        let outbox = self.outbox()?;
        let found = self.platform().read(|rows| accounts::queries::present(rows, account)).await?;
        if found.is_verified {
            let words = "the address is verified already";
            return Err(Problem::new(Kind::Conflict, words).of_rule("already_verified"));
        }
        outbox.post(Order::VerifyAddress(account)).map_err(full)
    }

    /// Verifies the address of the account that a token names. Returns the sequence.
    ///
    /// # Errors
    /// 403 if the token is not valid.
    pub(crate) async fn verify_email(&self, token: &str) -> Result<u64, Problem> {
        let token = self.presented(token, Purpose::VerifyEmail).await?;
        let command = VerifyEmail { account: token.account };
        let command = Provided::new(command, move |context| token.check(context));
        let receipt = self.platform().send(Actor::System, command).await.map_err(overtaken)?;
        Ok(receipt.sequence)
    }

    /// Sends a mail with a token to an address, if an account has it. Nothing here depends on that.
    ///
    /// # Errors
    /// 403 without a mail server, 503 if the queue is full.
    pub(crate) async fn request_reset(&self, email: Email) -> Result<(), Problem> {
        let outbox = self.outbox()?;
        // The owner of an address gets few mails, from however many addresses they are asked for.
        // The response does not tell, because it would tell of requests of others.
        match self.take_share(Class::Mail, &format!("reset {}", email.folded())).await {
            Ok(()) => outbox.post(Order::ResetPassword(email)).map_err(full),
            Err(problem) if problem.kind() == Kind::RateLimited => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Sets the password of the account that a token names, and ends all its sessions. Returns the
    /// sequence.
    ///
    /// # Errors
    /// 403 if the token is not valid.
    pub(crate) async fn complete_reset(
        &self,
        token: &str,
        password: Password,
    ) -> Result<u64, Problem> {
        // Before the computation, which is for nobody without a token.
        let token = self.presented(token, Purpose::ResetPassword).await?;
        let password = self.hasher().hash(password).await?;
        let command = ChangePassword { account: token.account, password, except: None };
        let command = Provided::new(command, move |context| token.check(context));
        let receipt = self.platform().send(Actor::System, command).await.map_err(overtaken)?;
        self.forget(receipt.done).await?;
        Ok(receipt.sequence)
    }

    /// Gives the actor's account another address, which must be verified. Returns the sequence.
    ///
    /// # Errors
    /// `None`: the password is another one. 409 if another account has the address, 429 after too
    /// many wrong passwords.
    pub(crate) async fn change_email(
        &self,
        actor: Actor,
        account: AccountId,
        email: Email,
        password: Password,
    ) -> Result<Option<u64>, Problem> {
        if !self.knows_password(account, password).await? {
            return Ok(None);
        }
        let before = self.person(account).await?.email.parse::<Email>().ok();
        let is_other = before.as_ref() != Some(&email);
        let command = ChangeEmail { account, email };
        let receipt = self.platform().send(actor, command).await?;
        if is_other {
            if let Some(before) = before {
                self.notify(Order::AddressChanged(before));
            }
            self.notify(Order::VerifyAddress(account));
        }
        Ok(Some(receipt.sequence))
    }

    /// Whether this is the password of an account. Attempts are counted.
    ///
    /// # Errors
    /// 429 after too many attempts, 503 if too many passwords are compared.
    pub(crate) async fn knows_password(
        &self,
        account: AccountId,
        password: Password,
    ) -> Result<bool, Problem> {
        self.take_share(Class::Login, &format!("password {account}")).await?;
        // An account that signs in elsewhere has none.
        let hash = Some(self.person(account).await?.password).filter(|hash| !hash.is_empty());
        let compared = self.hasher().compare(password, hash).await?;
        Ok(compared != Comparison::Different)
    }

    /// The personal data of an account.
    ///
    /// # Errors
    /// 404 if there is no such account.
    pub(super) async fn person(&self, account: AccountId) -> Result<Person, Problem> {
        self.read(|rows, vault| {
            let person = accounts::queries::present(rows, account)?.open(vault)?;
            person.ok_or(Refusal::NotFound { thing: "account" })
        })
        .await
    }

    /// Takes one request of a class from the share of anything that a text names.
    ///
    /// # Errors
    /// 429.
    pub(crate) async fn take_share(&self, class: Class, name: &str) -> Result<(), Problem> {
        let store = self.platform().store().await?;
        let digest = control_domain::Vault::digest(store.vault(), &format!("share {name}"));
        let mut share = [0; 16];
        share.copy_from_slice(&digest[..16]);
        self.limiter().take(class, caller::Account(Uuid::from_bytes(share)))
    }

    /// A token that is valid now.
    async fn presented(&self, text: &str, purpose: Purpose) -> Result<Presented, Problem> {
        let token = Presented::parse(text, purpose).ok_or_else(invalid)?;
        let store = self.platform().store().await?;
        let holder = store.read(|rows| token.holder(rows, store.vault(), now()))??;
        holder.map(|_| token).ok_or_else(invalid)
    }
}

fn invalid() -> Problem {
    let words = "the token from the mail is not valid: it was used, or is too old; ask for another";
    Problem::new(Kind::InvalidMailedToken, words)
}

/// The problem of a token that another request has used meanwhile.
fn overtaken(problem: Problem) -> Problem {
    match problem.rule() == Some(ticket::RULE) {
        true => invalid(),
        false => problem,
    }
}

fn full(_: crate::mail::Full) -> Problem {
    let words = "too many mails wait to be sent: repeat the request later";
    Problem::new(Kind::Unavailable, words).retry_after(60)
}

//! The queue of mails, off the path of requests.
//!
//! An order says to whom a mail is due, and the mail is written when it is sent, from the account
//! as it is then: an address that was verified meanwhile gets no mail. A request for an unknown
//! address is an order like any other, so the response and its time do not tell whether an account
//! has it.
//!
//! The queue is in memory. Orders that wait when the daemon ends are lost, and their number is
//! logged; the owner asks for another mail.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use control_domain::{
    Fault, Time,
    features::accounts::{
        self,
        tables::{Account, Person},
    },
    id::AccountId,
    text::Email,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use super::{
    letter::{Letter, Link},
    mailer::{Mail, Mailer, SendError},
};
use crate::{
    Platform,
    identity::ticket::{Holder, Purpose, Ticket},
    problem::Problem,
    traces,
};

/// Orders that may wait for the first attempt.
const WAITING: usize = 1_024;
/// Orders that may wait for another attempt. Beyond it no new ones are taken from the queue.
const MAX_RETRIES: usize = 1_024;
/// The delay after the first attempt; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(15);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);
/// Attempts, over about five hours.
const ATTEMPTS: u32 = 13;
/// Time for one attempt.
const TIME: Duration = Duration::from_secs(60);

/// A mail that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A token to the present address of an account, unless it is verified.
    VerifyAddress(AccountId),
    /// A token to an address that somebody says an account has.
    ResetPassword(Email),
    /// A notice to the former address of an account.
    AddressChanged(Email),
    /// A notice to an address with which somebody tried to register.
    AddressTaken(Email),
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many mails wait to be sent")]
pub struct Full;

/// Takes orders. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Order>);

impl Outbox {
    /// An outbox, and the postman that empties it. `url` is the address of the site, to which the
    /// links in mails lead.
    pub fn new(platform: Platform, mailer: Arc<dyn Mailer>, url: &str) -> (Self, Postman) {
        let (orders, waiting) = mpsc::channel(WAITING);
        let url = url.trim_end_matches('/').to_owned();
        let writer = Writer { platform, url };
        (Self(orders), Postman { waiting, mailer, writer, retries: Retries::default() })
    }

    /// Posts an order. Does not wait.
    ///
    /// # Errors
    /// [`Full`].
    pub fn post(&self, order: Order) -> Result<(), Full> {
        self.0.try_send(order).map_err(|_| Full)
    }
}

/// Sends the mails of an [`Outbox`], one after the other.
pub struct Postman {
    waiting: mpsc::Receiver<Order>,
    mailer: Arc<dyn Mailer>,
    writer: Writer,
    retries: Retries,
}

impl fmt::Debug for Postman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postman")
            .field("retries", &self.retries.orders.len())
            .finish_non_exhaustive()
    }
}

/// The orders that are tried again.
#[derive(Debug, Default)]
struct Retries {
    /// When each is due, and its number; the first on top.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Each order by its number, with the attempts that were made.
    orders: BTreeMap<u64, (Order, u32)>,
    /// The number of the last one.
    last: u64,
}

impl Retries {
    fn put(&mut self, due: Instant, order: Order, attempts: u32) {
        self.last += 1;
        self.due.push(Reverse((due, self.last)));
        self.orders.insert(self.last, (order, attempts));
    }

    fn take(&mut self) -> Option<(Order, u32)> {
        let Reverse((_, number)) = self.due.pop()?;
        self.orders.remove(&number)
    }

    fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

impl Postman {
    /// Sends mails until `stop`, or until no outbox is left.
    pub async fn serve(mut self, stop: CancellationToken) {
        let stopped = stop.clone();
        tokio::select! {
            () = stopped.cancelled() => {}
            () = self.run() => {}
        }
        let lost = self.retries.orders.len() + self.waiting.len();
        if lost > 0 {
            warn!(lost, "the daemon ends before these mails were sent");
        }
    }

    async fn run(&mut self) {
        loop {
            let due = self.retries.next();
            let has_room = self.retries.orders.len() < MAX_RETRIES;
            let later = due.unwrap_or_else(Instant::now);
            let (order, attempts) = tokio::select! {
                order = self.waiting.recv(), if has_room => match order {
                    Some(order) => (order, 0),
                    None => return,
                },
                () = sleep_until(later), if due.is_some() => match self.retries.take() {
                    Some(retry) => retry,
                    None => continue,
                },
            };
            self.attempt(order, attempts + 1).await;
        }
    }

    /// Sends one mail, or puts its order back.
    async fn attempt(&mut self, order: Order, attempts: u32) {
        let sent = match self.writer.write(&order).await {
            Ok(None) => return,
            Ok(Some((mail, kind))) => {
                let span = traces::mail(kind, attempts);
                let sent = timeout(TIME, self.mailer.send(&mail).instrument(span.clone())).await;
                let sent = sent.unwrap_or_else(|_| Err(SendError::NotSent("too slow".to_owned())));
                match &sent {
                    Ok(()) => {}
                    Err(SendError::Refused(_)) => traces::fail(&span, "refused"),
                    Err(SendError::NotSent(_)) => traces::fail(&span, "not_sent"),
                }
                sent.map(|()| kind)
            }
            Err(words) => Err(SendError::NotSent(words)),
        };
        match sent {
            Ok(kind) => info!(kind, attempts, "mail sent"),
            Err(err @ SendError::Refused(_)) => warn!(%err, "the mail server does not take a mail"),
            Err(err) if attempts >= ATTEMPTS => {
                error!(%err, attempts, "a mail is given up: check the mail server and [smtp]");
            }
            Err(err) => {
                let delay = delay(attempts);
                warn!(%err, attempts, delay_s = delay.as_secs(), "a mail is sent again later");
                self.retries.put(Instant::now() + delay, order, attempts);
            }
        }
    }
}

/// The delay after so many attempts.
fn delay(attempts: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY)
}

/// Writes mails from accounts as they are.
struct Writer {
    platform: Platform,
    url: String,
}

impl Writer {
    /// The mail of an order, and its kind; `None` if there is no reason for it any more.
    async fn write(&self, order: &Order) -> Result<Option<(Mail, &'static str)>, String> {
        let found = match order {
            Order::VerifyAddress(id) => self.account(Wanted::Id(*id)).await?,
            Order::ResetPassword(email) | Order::AddressTaken(email) => {
                self.account(Wanted::Email(email)).await?
            }
            Order::AddressChanged(email) => {
                return Ok(Some(self.addressed(&Letter::AddressChanged, email.clone())));
            }
        };
        let Some((id, account, person)) = found else { return Ok(None) };
        let holder = Holder::of(&account, &person);
        let Ok(email) = person.email.parse::<Email>() else { return Ok(None) };
        let letter = match order {
            Order::VerifyAddress(_) if account.is_verified => return Ok(None),
            Order::VerifyAddress(_) => {
                let (link, life) = self.link(Purpose::VerifyEmail, id, holder).await?;
                Letter::VerifyAddress { link, life }
            }
            Order::ResetPassword(_) => {
                let (link, life) = self.link(Purpose::ResetPassword, id, holder).await?;
                Letter::ResetPassword { link, life }
            }
            Order::AddressTaken(_) => Letter::AddressTaken,
            Order::AddressChanged(_) => Letter::AddressChanged,
        };
        Ok(Some(self.addressed(&letter, email)))
    }

    fn addressed(&self, letter: &Letter, to: Email) -> (Mail, &'static str) {
        // The name of the host: nobody has to learn another one.
        let site = self.url.split("://").last().unwrap_or(&self.url);
        (letter.to(to, site), letter.name())
    }

    /// The page for a token. The token is behind `#`, so that it reaches no server's log and no
    /// other site.
    async fn link(
        &self,
        purpose: Purpose,
        id: AccountId,
        holder: Holder<'_>,
    ) -> Result<(Link, Duration), String> {
        let store = self.platform.store().await.map_err(|problem| words(&problem))?;
        let now = Time::from(SystemTime::now());
        let token = Ticket::issue(purpose, id, holder, store.vault(), now);
        let page = match purpose {
            Purpose::VerifyEmail => "verify-email",
            Purpose::ResetPassword => "reset-password",
            Purpose::SecondStep => "sign-in",
        };
        Ok((Link(format!("{}/{page}#token={}", self.url, token.expose())), purpose.life()))
    }

    async fn account(
        &self,
        wanted: Wanted<'_>,
    ) -> Result<Option<(AccountId, Account, Person)>, String> {
        let store = self.platform.store().await.map_err(|problem| words(&problem))?;
        let found = store.read(|rows| {
            let id = match wanted {
                Wanted::Id(id) => Some(id),
                Wanted::Email(email) => accounts::queries::by_email(rows, store.vault(), email)?,
            };
            let Some(id) = id else { return Ok(None) };
            let Some(account) = accounts::queries::account(rows, id)? else { return Ok(None) };
            Ok::<_, Fault>(account.open(store.vault())?.map(|person| (id, account, person)))
        });
        found.and_then(|found| found).map_err(|fault| fault.to_string())
    }
}

/// How an account is found.
enum Wanted<'a> {
    Id(AccountId),
    Email(&'a Email),
}

fn words(problem: &Problem) -> String {
    format!("the database: {}", problem.kind().row().title)
}

#[cfg(test)]
mod tests;

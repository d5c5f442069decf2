//! Given-when-then: a feature's tests in memory, without a database.

use std::{cell::Cell, time::Duration};

use crate::{
    actor::{Actor, Role},
    command::{self, Command, Context, Ids, Refusal},
    event::{Envelope, Events},
    feature::{Folding, fold},
    features::{
        self, accounts,
        channels::{self, events::Visibility},
    },
    id::{ChannelId, EventId},
    password::PasswordHash,
    rows::MemoryRows,
    time::Time,
    vault::MemoryVault,
};

/// The platform in memory. Each command that is carried out takes a second.
#[derive(Debug)]
pub struct Scenario {
    /// The tables.
    pub rows: MemoryRows,
    /// The keys of personal data.
    pub vault: MemoryVault,
    /// All events, in order.
    pub log: Vec<Envelope>,
    now: Time,
    ids: Sequence,
    /// The log, from which no events were taken.
    #[cfg(test)]
    history: Vec<Envelope>,
}

/// Identifiers in order, the same in each run.
#[derive(Debug, Default)]
pub struct Sequence(Cell<u128>);

impl Ids for Sequence {
    fn next(&self) -> uuid::Uuid {
        self.0.set(self.0.get() + 1);
        uuid::Uuid::from_u128(self.0.get())
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rows: MemoryRows::default(),
            vault: MemoryVault::default(),
            log: Vec::new(),
            now: Time::from_millis(1_796_000_000_000),
            ids: Sequence::default(),
            #[cfg(test)]
            history: Vec::new(),
        }
    }
}

impl Scenario {
    /// Sends a command, and folds its events.
    ///
    /// # Errors
    /// The command's [`Refusal`].
    pub fn send<C: Command>(&mut self, actor: Actor, command: &C) -> Result<C::Done, Refusal> {
        let context = Context {
            rows: &self.rows,
            now: self.now,
            actor: &actor,
            ids: &self.ids,
            vault: &self.vault,
        };
        let decision = command::decide(command, &context)?;
        for event in decision.events {
            let envelope = event.sealed_in(EventId::new(self.ids.next()), self.now, actor.id());
            let mut folding = Folding { rows: &mut self.rows, vault: &self.vault };
            fold(features::ALL, &mut folding, &envelope)?;
            #[cfg(test)]
            {
                self.history.push(envelope.clone());
                features::golden::offer(&self.history);
            }
            self.log.push(envelope);
        }
        self.now = self.now.after(Duration::from_secs(1));
        Ok(decision.done)
    }

    /// The time of the next command.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Makes an account with this name and role.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn person(&mut self, name: &str, role: Role) -> Actor {
        let add = accounts::commands::Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: PasswordHash("$argon2id$".to_owned()),
            role,
        };
        let id = self.send(Actor::System, &add).expect("nobody has this name");
        Actor::Person { id, role }
    }

    /// Makes a channel of this person.
    ///
    /// # Panics
    /// If the name is taken, or the actor may not have channels.
    pub fn channel(&mut self, owner: Actor, name: &str, visibility: Visibility) -> ChannelId {
        let create = channels::commands::Create {
            owner: owner.account().expect("a person"),
            name: name.parse().expect("a channel name"),
            title: "A title".parse().expect("a title"),
            visibility,
        };
        self.send(owner, &create).expect("no channel has this name")
    }

    /// Erases a person's account and its key.
    ///
    /// # Panics
    /// If the actor is no person.
    pub fn erase(&mut self, person: Actor) {
        let account = person.account().expect("a person");
        self.send(person, &accounts::commands::Erase { account }).expect("their own account");
        self.vault.erase(account);
    }

    /// The events of one feature since the last call, as its type.
    ///
    /// # Panics
    /// If an event cannot be read.
    pub fn take_events<E: Events>(&mut self) -> Vec<E> {
        let log = std::mem::take(&mut self.log);
        let own = log.iter().filter(|event| E::TYPES.iter().any(|kind| kind.name == event.kind));
        own.map(|event| E::read(event).expect("the event was written by its type")).collect()
    }

    /// Folds the whole log again into empty tables, with the keys as they are now.
    ///
    /// # Panics
    /// If an event cannot be folded.
    pub fn rebuilt(&self) -> MemoryRows {
        let mut rows = MemoryRows::default();
        for envelope in &self.log {
            let mut folding = Folding { rows: &mut rows, vault: &self.vault };
            fold(features::ALL, &mut folding, envelope).expect("it was folded before");
        }
        rows
    }
}

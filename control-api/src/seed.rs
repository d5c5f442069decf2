//! Fixtures: a file of people, channels, videos and the rest, from which a platform is made for
//! demonstrations and tests.
//!
//! The things are made by commands, so that all rules hold for them. Each thing is one decision:
//! it is there as a whole, or not at all. A thing that exists, by its natural key, is left as it
//! is; therefore a file can be applied again. The key of a person is the e-mail address, of a
//! channel, category and stream key the name, of a video its channel and title.
//!
//! The whole file is checked before the first command: a fault names the place in the file as a
//! JSON Pointer (RFC 6901). A refusal of a later command leaves the things before it.

mod fixtures;
mod known;
mod things;
mod when;

use std::{collections::BTreeMap, time::SystemTime};

use control_domain::{
    Actor, Command, Refusal, Role, Time,
    features::{categories, follows, reactions, stream_keys, tags},
    id::{AccountId, ChannelId, VideoId},
    password::PasswordHash,
    text::{ChannelName, DisplayName, KeyName, VideoTitle, folded},
};
use serde::Serialize;

pub use self::fixtures::Fixtures;
use self::{
    fixtures::Channel,
    known::Known,
    things::{channel, person, video},
    when::past,
};
use crate::{
    KeyDigest,
    identity::password::{Hasher, Password, Unsuitable},
    problem::{Fault, Kind, Problem},
    secret::Secret,
    store::{SendError, Store},
};

/// The beginning of a stream key that is made here.
const KEY_PREFIX: &str = "live_";

/// The result of applying fixtures.
#[derive(Debug, Default, Serialize)]
pub struct Seeded {
    /// The result in a sentence.
    pub result: String,
    /// The number of things of each kind that were made.
    pub made: BTreeMap<&'static str, u64>,
    /// The number of things of each kind that existed.
    pub unchanged: BTreeMap<&'static str, u64>,
    /// The stream keys that were made with a random secret, which is shown this once.
    pub stream_keys: Vec<SeededKey>,
    /// The sequence of the last event.
    pub sequence: u64,
}

/// A stream key that was made with a random secret.
#[derive(Debug, Serialize)]
pub struct SeededKey {
    /// The channel's name.
    pub channel: String,
    /// The key's name.
    pub name: KeyName,
    /// The secret.
    key: SecretText,
}

/// A secret that is shown once. `Debug` prints `***`.
#[derive(Serialize)]
#[serde(transparent)]
struct SecretText(String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why fixtures were not applied, or only in part.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file is at fault. Nothing was made.
    #[error("the fixtures are not valid: {}", shown(.0))]
    Invalid(Vec<Fault>),
    /// The database refused a thing. Those before it were made.
    #[error(
        "{pointer}: {}; {made} things were made before it: mend the file, then apply it again",
        .problem.detail()
    )]
    Refused {
        /// The thing, as a JSON Pointer.
        pointer: String,
        /// The refusal.
        problem: Box<Problem>,
        /// The number of things that were made.
        made: u64,
    },
    /// The tables cannot be read.
    #[error("the database cannot be read: {}", .0.detail())]
    Unreadable(Box<Problem>),
}

/// The first faults, in a line.
fn shown(faults: &[Fault]) -> String {
    let shown = faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail));
    shown.collect::<Vec<_>>().join("; ")
}

impl From<SeedError> for Problem {
    fn from(error: SeedError) -> Self {
        let words = error.to_string();
        match error {
            SeedError::Invalid(faults) => {
                Self::new(Kind::InvalidContent, "the fixtures are not valid").with_errors(faults)
            }
            SeedError::Refused { problem, .. } => Self::new(problem.kind(), words),
            SeedError::Unreadable(problem) => *problem,
        }
    }
}

/// Makes the things of the fixtures that do not exist.
///
/// # Errors
/// [`SeedError`].
pub async fn seed(
    store: &Store,
    hasher: &Hasher,
    fixtures: &Fixtures,
) -> Result<Seeded, SeedError> {
    let now = SystemTime::now().into();
    // Fixtures may name the categories with which a platform begins.
    let start_set = categories::commands::MakeStartSet;
    store.send(Actor::System, start_set).await.map_err(unreadable)?;
    let known = store.read(|rows| Known::of(rows, store.vault(), fixtures));
    let known = known.map_err(unreadable)?.map_err(unreadable)?;
    let faults = known::faults(fixtures, &known, now);
    if !faults.is_empty() {
        return Err(SeedError::Invalid(faults));
    }
    let mut work = Work { store, hasher, now, known, seeded: Seeded::default() };
    work.categories_and_tags(fixtures).await?;
    work.people(fixtures).await?;
    work.channels(fixtures).await?;
    work.videos(fixtures).await?;
    work.follows_and_reactions(fixtures).await?;
    let mut seeded = work.seeded;
    seeded.sequence = store.sequence();
    let (made, unchanged) =
        (seeded.made.values().sum::<u64>(), seeded.unchanged.values().sum::<u64>());
    seeded.result = match made {
        0 => format!("nothing has changed: all {unchanged} things exist"),
        _ => format!("{made} things were made, {unchanged} existed"),
    };
    Ok(seeded)
}

fn unreadable(error: impl Into<Problem>) -> SeedError {
    SeedError::Unreadable(Box::new(error.into()))
}

/// The application of fixtures that are valid.
struct Work<'a> {
    store: &'a Store,
    hasher: &'a Hasher,
    now: Time,
    known: Known,
    seeded: Seeded,
}

impl Work<'_> {
    async fn categories_and_tags(&mut self, fixtures: &Fixtures) -> Result<(), SeedError> {
        for (index, category) in fixtures.categories.iter().enumerate() {
            let pointer = format!("/categories/{index}");
            if self.known.category(&category.name).is_some() {
                self.exists("categories");
                continue;
            }
            let (name, translations) = (category.name.clone(), category.translations.clone());
            let command = categories::commands::Make { name, translations };
            let id = self.make("categories", &pointer, Actor::System, command, None).await?;
            self.known.categories.insert(folded(category.name.as_str()), id);
        }
        for (index, tag) in fixtures.tags.iter().enumerate() {
            let command = tags::commands::Merge { tag: tag.tag.clone(), into: tag.into.clone() };
            let pointer = format!("/tags/{index}");
            self.make("tags", &pointer, Actor::System, command, None).await?;
        }
        Ok(())
    }

    async fn people(&mut self, fixtures: &Fixtures) -> Result<(), SeedError> {
        for (index, entry) in fixtures.people.iter().enumerate() {
            let key = folded(entry.name.as_str());
            if let Some(id) = self.known.by_email.get(&entry.email.folded()) {
                self.known.people.entry(key).or_insert((*id, entry.role));
                self.exists("people");
                continue;
            }
            let pointer = format!("/people/{index}");
            let hash = self.hash(&entry.password, &pointer).await?;
            let at = past(entry.registered.as_ref(), self.now);
            let command = person(entry, hash);
            let id = self.make("people", &pointer, Actor::System, command, at).await?;
            self.known.people.insert(key, (id, entry.role));
        }
        Ok(())
    }

    async fn channels(&mut self, fixtures: &Fixtures) -> Result<(), SeedError> {
        for (index, entry) in fixtures.channels.iter().enumerate() {
            let pointer = format!("/channels/{index}");
            let id = match self.known.channel(&entry.name) {
                Some(id) => {
                    self.exists("channels");
                    id
                }
                None => {
                    let owner = self.person(&entry.owner, &pointer)?.0;
                    let at = past(entry.created.as_ref(), self.now);
                    let command = channel(entry, owner);
                    let id = self.make("channels", &pointer, Actor::System, command, at).await?;
                    self.known.channels.insert(Known::key_of(&entry.name), id);
                    id
                }
            };
            self.stream_keys(entry, id, &pointer).await?;
        }
        Ok(())
    }

    async fn stream_keys(
        &mut self,
        entry: &Channel,
        channel: ChannelId,
        pointer: &str,
    ) -> Result<(), SeedError> {
        let present = self.store.read(|rows| stream_keys::queries::of_channel(rows, channel));
        let present = present.map_err(unreadable)?.map_err(unreadable)?;
        for (index, key) in entry.stream_keys.iter().enumerate() {
            if present.iter().any(|(_, row)| row.name == key.name.as_str()) {
                self.exists("stream_keys");
                continue;
            }
            let pointer = format!("{pointer}/stream_keys/{index}");
            let (digest, random) = match &key.secret {
                Some(secret) => (KeyDigest::of(secret), None),
                None => {
                    let secret = Secret::random(KEY_PREFIX).map_err(unreadable)?;
                    (secret.digest(), Some(SecretText(secret.expose().to_owned())))
                }
            };
            let (name, digest) = (key.name.clone(), stream_keys::events::KeyDigest(digest.bytes()));
            let command = stream_keys::commands::AddKey { channel, name, digest };
            self.make("stream_keys", &pointer, Actor::System, command, None).await?;
            let (channel, name) = (entry.name.to_string(), key.name.clone());
            let random = random.map(|key| SeededKey { channel, name, key });
            self.seeded.stream_keys.extend(random);
        }
        Ok(())
    }

    async fn videos(&mut self, fixtures: &Fixtures) -> Result<(), SeedError> {
        for (index, entry) in fixtures.videos.iter().enumerate() {
            let pointer = format!("/videos/{index}");
            let owner = self.channel(&entry.channel, &pointer)?;
            let key = (owner, folded(entry.title.as_str()));
            if self.known.videos.contains_key(&key) {
                self.exists("videos");
                continue;
            }
            let password = match &entry.password {
                Some(password) => Some(self.hash(password, &pointer).await?),
                None => None,
            };
            let category = entry.category.as_ref();
            let category = category.and_then(|name| self.known.category(name));
            let at = past(entry.published.as_ref(), self.now);
            let scheduled = entry.publish_at.as_ref().map(|when| when.at(self.now));
            let command = video(entry, owner, category, password, scheduled);
            let id = self.make("videos", &pointer, Actor::System, command, at).await?;
            self.known.videos.insert(key, id);
        }
        Ok(())
    }

    async fn follows_and_reactions(&mut self, fixtures: &Fixtures) -> Result<(), SeedError> {
        for (index, entry) in fixtures.follows.iter().enumerate() {
            let pointer = format!("/follows/{index}");
            let (id, role) = self.person(&entry.person, &pointer)?;
            let channel = self.channel(&entry.channel, &pointer)?;
            let found = self.store.read(|rows| follows::queries::follow(rows, id, channel));
            if found.map_err(unreadable)?.map_err(unreadable)?.is_some() {
                self.exists("follows");
                continue;
            }
            let command = follows::commands::Follow { channel, notices: entry.notices };
            let at = past(entry.since.as_ref(), self.now);
            self.make("follows", &pointer, Actor::Person { id, role }, command, at).await?;
        }
        for (index, entry) in fixtures.reactions.iter().enumerate() {
            let pointer = format!("/reactions/{index}");
            let (id, role) = self.person(&entry.person, &pointer)?;
            let video = self.video(&entry.channel, &entry.video, &pointer)?;
            let found = self.store.read(|rows| reactions::queries::reaction(rows, video, id));
            if found.map_err(unreadable)?.map_err(unreadable)?.is_some() {
                self.exists("reactions");
                continue;
            }
            let command = reactions::commands::React { video, reaction: entry.reaction };
            let at = past(entry.at.as_ref(), self.now);
            self.make("reactions", &pointer, Actor::Person { id, role }, command, at).await?;
        }
        Ok(())
    }

    /// Carries out a command, and counts the thing as made if the command had an event.
    async fn make<C>(
        &mut self,
        kind: &'static str,
        pointer: &str,
        actor: Actor,
        command: C,
        at: Option<Time>,
    ) -> Result<C::Done, SeedError>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        let before = self.store.sequence();
        let sent = self.store.send_at(actor, command, at).await;
        let receipt = sent.map_err(|error: SendError| self.refused(pointer, error.into()))?;
        // Other commands may have had events meanwhile; then an existing tag counts as made.
        let count = match receipt.sequence > before {
            true => &mut self.seeded.made,
            false => &mut self.seeded.unchanged,
        };
        *count.entry(kind).or_default() += 1;
        Ok(receipt.done)
    }

    fn exists(&mut self, kind: &'static str) {
        *self.seeded.unchanged.entry(kind).or_default() += 1;
    }

    async fn hash(&self, password: &str, pointer: &str) -> Result<PasswordHash, SeedError> {
        let unsuitable = |err: Unsuitable| {
            self.refused(pointer, Problem::new(Kind::InvalidContent, err.to_string()))
        };
        let password = Password::chosen(password).map_err(unsuitable)?;
        self.hasher.hash(password).await.map_err(|problem| self.refused(pointer, problem))
    }

    fn refused(&self, pointer: &str, problem: Problem) -> SeedError {
        let made = self.seeded.made.values().sum();
        SeedError::Refused { pointer: pointer.to_owned(), problem: Box::new(problem), made }
    }

    fn person(&self, name: &DisplayName, pointer: &str) -> Result<(AccountId, Role), SeedError> {
        let found = self.known.people.get(&folded(name.as_str())).copied();
        found.ok_or_else(|| self.missing("person", pointer))
    }

    fn channel(&self, name: &ChannelName, pointer: &str) -> Result<ChannelId, SeedError> {
        self.known.channel(name).ok_or_else(|| self.missing("channel", pointer))
    }

    fn video(
        &self,
        channel: &ChannelName,
        title: &VideoTitle,
        pointer: &str,
    ) -> Result<VideoId, SeedError> {
        let key = (self.channel(channel, pointer)?, folded(title.as_str()));
        let found = self.known.videos.get(&key).copied();
        found.ok_or_else(|| self.missing("video", pointer))
    }

    /// A thing that was there when the file was checked.
    fn missing(&self, thing: &'static str, pointer: &str) -> SeedError {
        self.refused(pointer, Refusal::NotFound { thing }.into())
    }
}

#[cfg(test)]
mod tests;

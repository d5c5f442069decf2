//! The keys of persons in a key-value bucket (ADR-8 of NATS): a value for each person, as it is
//! stored by the writer, encrypted under the master key. Replicas have the same master key.
//!
//! - A key is in the bucket before the first event that was sealed with it is in the stream.
//! - An erasure is in the bucket before its event is in the stream: the message with the key is
//!   overwritten in the server's file (`STREAM.MSG.DELETE` erases securely), and a purge marker
//!   takes its place. So a missing value is never taken for an erasure.
//! - The value `check` shows the master key. It is written after the keys of all events that are in
//!   the stream, so that a bucket that was lost is filled again before replicas use it.
//!
//! A replica that is behind may find the marker of a person before the event of the erasure. It
//! then folds the events before as a rebuild does after an erasure, with the same tables at the
//! end.

use std::collections::{BTreeSet, HashSet};

use async_nats::{
    HeaderMap,
    jetstream::{
        Context, ErrorCode,
        context::{GetStreamErrorKind, PublishErrorKind},
        message::{PublishMessage, StreamMessage},
        stream::{
            Config, DirectGetErrorKind, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream,
        },
    },
};
use bytes::Bytes;
use control_domain::id::AccountId;
use futures_util::future::try_join_all;
use tracing::info;

use super::{error::Error, settings::Settings};
use crate::store::{KeyVault, StoredKey};

/// The name of the public keys of access tokens.
pub(super) const JWKS: &str = "jwks";
/// The value that shows the master key.
const CHECK: &str = "check";
/// Its plain text.
const CHECKED: &[u8] = b"streamforge";
/// The header of the operation, and its value for a purge.
const OPERATION: &str = "KV-Operation";
const PURGE: &str = "PURGE";
/// The header by which a message replaces all before it.
const ROLLUP: &str = "Nats-Rollup";
/// Persons whose keys are known to be in the bucket, about 40 bytes each.
const KNOWN: usize = 16_384;
/// Requests at the same time.
const AT_ONCE: usize = 64;

/// The bucket.
#[derive(Debug)]
pub(super) struct Keys {
    jetstream: Context,
    stream: Stream,
    bucket: String,
    known: HashSet<AccountId>,
}

impl Keys {
    /// Opens the bucket, or makes it.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(super) async fn open_or_make(
        jetstream: &Context,
        settings: &Settings,
    ) -> Result<Self, Error> {
        match Self::open(jetstream, settings).await {
            Err(Error::NotFilled { .. }) => {}
            opened => return opened,
        }
        let bucket = bucket(settings);
        let made = jetstream.create_stream(config(&bucket, settings.copies)).await;
        let stream = made.map_err(|err| Error::request("making the bucket of keys")(err.into()))?;
        info!(bucket, "the bucket of keys is made");
        Ok(Self { jetstream: jetstream.clone(), stream, bucket, known: HashSet::new() })
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// [`Error::NotFilled`] if there is none; [`Error::Request`].
    pub(super) async fn open(jetstream: &Context, settings: &Settings) -> Result<Self, Error> {
        let bucket = bucket(settings);
        match jetstream.get_stream(format!("KV_{bucket}")).await {
            Ok(stream) => {
                Ok(Self { jetstream: jetstream.clone(), stream, bucket, known: HashSet::new() })
            }
            Err(err) => Err(match err.kind() {
                GetStreamErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Error::NotFilled { bucket }
                }
                _ => Error::request("opening the bucket of keys")(err.into()),
            }),
        }
    }

    /// Whether the bucket is complete.
    ///
    /// # Errors
    /// [`Error::MasterKey`] if its keys are under another master key; [`Error::Request`].
    pub(super) async fn is_complete(&self, vault: &KeyVault) -> Result<bool, Error> {
        let Some(message) = self.last(CHECK).await? else { return Ok(false) };
        match vault.decrypt(CHECK, &message.payload).is_some_and(|plain| plain == CHECKED) {
            true => Ok(true),
            false => Err(Error::MasterKey { bucket: self.bucket.clone() }),
        }
    }

    /// Records that the bucket is complete.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::Fault`].
    pub(super) async fn complete(&self, vault: &KeyVault) -> Result<(), Error> {
        self.put_named(CHECK, CHECKED, vault).await
    }

    /// Stores a text for replicas, encrypted under the master key.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::Fault`].
    pub(super) async fn put_named(
        &self,
        name: &str,
        plain: &[u8],
        vault: &KeyVault,
    ) -> Result<(), Error> {
        let payload = Bytes::from(vault.encrypt(name, plain)?);
        let sent = self.jetstream.publish(self.subject(name), payload).await;
        let failed = |err: async_nats::jetstream::context::PublishError| {
            Error::request("storing in the bucket of keys")(err.into())
        };
        sent.map_err(failed)?.await.map_err(failed)?;
        Ok(())
    }

    /// A text of the writer; `None` if there is none under this master key.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(super) async fn named(
        &self,
        name: &str,
        vault: &KeyVault,
    ) -> Result<Option<Vec<u8>>, Error> {
        let message = self.last(name).await?;
        Ok(message.and_then(|message| vault.decrypt(name, &message.payload)))
    }

    /// Stores the keys of persons, or that they are erased. Those that are there stay.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::Fault`].
    pub(super) async fn put(
        &mut self,
        persons: &BTreeSet<AccountId>,
        vault: &KeyVault,
    ) -> Result<(), Error> {
        let wanted = persons.iter().copied().filter(|person| !self.known.contains(person));
        let wanted = wanted.collect::<Vec<_>>();
        for some in wanted.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|person| self.put_one(*person, vault))).await?;
        }
        if self.known.len() + wanted.len() > KNOWN {
            self.known.clear();
        }
        self.known.extend(wanted.into_iter().take(KNOWN));
        Ok(())
    }

    async fn put_one(&self, person: AccountId, vault: &KeyVault) -> Result<(), Error> {
        let message = match vault.stored_key(person)? {
            Some(StoredKey::Present(key)) => PublishMessage::build().payload(key.into()),
            Some(StoredKey::Erased) | None => marker(),
        };
        self.send(person, message.expected_last_subject_sequence(0)).await
    }

    /// Erases the key of a person. Erasing again is no error.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(super) async fn erase(&mut self, person: AccountId) -> Result<(), Error> {
        let subject = self.subject(&person.to_string());
        match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) if !is_marker(&message.headers) => {
                let deleted = self.stream.delete_message(message.sequence).await;
                deleted.map_err(|err| Error::request("erasing a key")(err.into()))?;
            }
            Ok(_) => return Ok(()),
            Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => {}
            Err(err) => return Err(Error::request("erasing a key")(err.into())),
        }
        self.send(person, marker()).await
    }

    async fn send(&self, person: AccountId, message: PublishMessage) -> Result<(), Error> {
        let failed = |err: async_nats::jetstream::context::PublishError| {
            Error::request("storing a key")(err.into())
        };
        let subject = self.subject(&person.to_string());
        let sent = self.jetstream.send_publish(subject, message).await.map_err(failed)?;
        match sent.await {
            Ok(_) => Ok(()),
            // It is there.
            Err(err) if err.kind() == PublishErrorKind::WrongLastSequence => Ok(()),
            Err(err) => Err(failed(err)),
        }
    }

    /// The keys of persons.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::Request`].
    pub(super) async fn get(
        &self,
        persons: &[AccountId],
    ) -> Result<Vec<(AccountId, StoredKey)>, Error> {
        let mut keys = Vec::with_capacity(persons.len());
        for some in persons.chunks(AT_ONCE) {
            keys.extend(try_join_all(some.iter().map(|person| self.get_one(*person))).await?);
        }
        Ok(keys)
    }

    async fn get_one(&self, person: AccountId) -> Result<(AccountId, StoredKey), Error> {
        match self.last(&person.to_string()).await? {
            None => Err(Error::NoKey(person)),
            Some(message) if is_marker(&message.headers) => Ok((person, StoredKey::Erased)),
            Some(message) => Ok((person, StoredKey::Present(message.payload.to_vec()))),
        }
    }

    /// The present value of a name.
    async fn last(&self, name: &str) -> Result<Option<StreamMessage>, Error> {
        match self.stream.direct_get_last_for_subject(self.subject(name)).await {
            Ok(message) => Ok(Some(message)),
            Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(err) => Err(Error::request("reading the bucket of keys")(err.into())),
        }
    }

    fn subject(&self, name: &str) -> String {
        format!("$KV.{}.{name}", self.bucket)
    }
}

/// A message that takes the place of an erased key.
fn marker() -> PublishMessage {
    PublishMessage::build().header(OPERATION, PURGE).header(ROLLUP, "sub")
}

fn is_marker(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some()
}

fn bucket(settings: &Settings) -> String {
    format!("{}_keys", settings.stream)
}

/// The stream of a bucket, as ADR-8 describes it. But messages may be deleted, because a deletion
/// overwrites them in the file, and a purge need not.
fn config(bucket: &str, copies: usize) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        description: Some("The keys of personal data of streamforge, encrypted".to_owned()),
        subjects: vec![format!("$KV.{bucket}.>")],
        storage: StorageType::File,
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        num_replicas: copies,
        allow_rollup: true,
        allow_direct: true,
        ..Config::default()
    }
}

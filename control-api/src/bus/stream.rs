//! The stream: made by the writer, looked at by both sides.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        Context, ErrorCode,
        context::GetStreamErrorKind,
        stream::{Config, DiscardPolicy, RetentionPolicy, State, StorageType, Stream},
    },
};
use tracing::{info, warn};

use super::{error::Error, settings::Settings, subject};
use crate::store::Store;

/// How long the server recognizes a message that it has.
const DUPLICATES: Duration = Duration::from_secs(120);

/// The stream of events.
#[derive(Debug)]
pub(super) struct Events {
    stream: Stream,
    name: String,
}

impl Events {
    /// Opens the stream, or makes it.
    ///
    /// # Errors
    /// [`Error::Subjects`], [`Error::Request`].
    pub(super) async fn open_or_make(
        jetstream: &Context,
        settings: &Settings,
    ) -> Result<Self, Error> {
        match Self::open(jetstream, settings).await {
            Err(Error::NoStream(_)) => {}
            opened => return opened,
        }
        let made = jetstream.create_stream(config(settings)).await;
        let stream = made.map_err(|err| Error::request("making the stream")(err.into()))?;
        info!(stream = %settings.stream, "the stream of events is made");
        Ok(Self { stream, name: settings.stream.to_string() })
    }

    /// Opens the stream, if it exists. One that an operator has made may have limits of its own.
    ///
    /// # Errors
    /// [`Error::NoStream`], [`Error::Subjects`], [`Error::Request`].
    pub(super) async fn open(jetstream: &Context, settings: &Settings) -> Result<Self, Error> {
        let name = settings.stream.to_string();
        let stream = match jetstream.get_stream(&name).await {
            Ok(stream) => stream,
            Err(err) => {
                return Err(match err.kind() {
                    GetStreamErrorKind::JetStream(cause)
                        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Error::NoStream(name)
                    }
                    _ => Error::request("opening the stream")(err.into()),
                });
            }
        };
        let found = &stream.cached_info().config;
        let wanted = subject::all(&settings.prefix);
        if found.subjects != [wanted.as_str()] {
            let found = found.subjects.join(", ");
            return Err(Error::Subjects { stream: name, wanted, found });
        }
        if !found.deny_delete || !found.deny_purge {
            warn!(stream = name, "messages can be deleted from the stream: deny it");
        }
        Ok(Self { stream, name })
    }

    /// The name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The stream itself.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The state of the stream now.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(super) async fn state(&self) -> Result<State, Error> {
        let info = self.stream.get_info().await;
        Ok(info.map_err(|err| Error::request("looking at the stream")(err.into()))?.state)
    }

    /// Checks that a message is the event of this database with the same sequence.
    ///
    /// # Errors
    /// [`Error::OtherLog`], [`Error::Request`], [`Error::Fault`].
    pub(super) async fn compare(&self, sequence: u64, store: &Store) -> Result<(), Error> {
        let message = self.stream.get_raw_message(sequence).await;
        let message = message.map_err(|err| Error::request("reading the stream")(err.into()))?;
        let own = store.events(sequence.saturating_sub(1), 1)?;
        let is_own = own.first().is_some_and(|(found, envelope)| {
            let id = envelope.id.to_string();
            *found == sequence && message_id(&message.headers) == Some(&id)
        });
        match is_own {
            true => Ok(()),
            false => Err(Error::OtherLog { stream: self.name.clone(), sequence }),
        }
    }
}

/// The identifier of a message.
pub(super) fn message_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(NATS_MESSAGE_ID).map(|id| id.as_str())
}

fn config(settings: &Settings) -> Config {
    Config {
        name: settings.stream.to_string(),
        description: Some("The events of streamforge".to_owned()),
        subjects: vec![subject::all(&settings.prefix)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        // A full stream refuses events, which then wait in the log, and loses none.
        discard: DiscardPolicy::New,
        num_replicas: settings.copies,
        duplicate_window: DUPLICATES,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

//! Events: facts in the past tense, versioned and never changed, in an envelope of CloudEvents 1.0
//! (<https://github.com/cloudevents/spec>, version 1.0.2).

use schemars::Schema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    actor::{ActorId, Authority},
    id::EventId,
    rows::Fault,
    time::Time,
};

/// An event as it is kept in the log and sent to others.
///
/// In JSON it is a CloudEvent in structured mode. `actor`, `authority` and `request` are extension
/// attributes. The sequence is not part of it, because it is the event's key in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// Unique for ever. Effects use it as their idempotency key.
    pub id: EventId,
    /// The installation in which it happened, as a path: `/streamforge`.
    pub source: String,
    /// `streamforge.<thing>.<past tense>.v<version>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The identifier of the thing that it happened to.
    pub subject: String,
    /// When it was decided.
    pub time: Time,
    /// Always `application/json`.
    pub datacontenttype: ContentType,
    /// On whose behalf it happened.
    pub actor: ActorId,
    /// The right by which it was done, if the actor did not act on an own thing. Absent in events
    /// whose commands need no special right, and in events of the daemon itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// The identifier of the request by which it was done, which log messages and traces have too.
    /// Only events with an authority have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The fields of the event's type.
    pub data: Box<RawValue>,
}

/// The version of the CloudEvents specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecVersion {
    /// 1.0.
    #[serde(rename = "1.0")]
    V1,
}

/// The media type of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentType {
    /// JSON (RFC 8259).
    #[serde(rename = "application/json")]
    Json,
}

/// The source of all events of an installation.
pub const SOURCE: &str = "/streamforge";

/// An event that a command has decided, before it has an identifier and a time.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event's type.
    pub kind: &'static str,
    /// The identifier of the thing that it happened to.
    pub subject: String,
    /// The fields.
    pub data: Box<RawValue>,
    /// The right by which it is done; [`crate::command::decide`] sets it.
    pub authority: Option<Authority>,
}

impl NewEvent {
    /// Puts it into an envelope.
    pub fn sealed_in(self, id: EventId, time: Time, actor: ActorId) -> Envelope {
        Envelope {
            specversion: SpecVersion::V1,
            id,
            source: SOURCE.to_owned(),
            kind: self.kind.to_owned(),
            subject: self.subject,
            time,
            datacontenttype: ContentType::Json,
            actor,
            authority: self.authority,
            request: None,
            data: self.data,
        }
    }
}

impl Envelope {
    /// Adds the identifier of the request by which it was done, if it needed an authority.
    #[must_use]
    pub fn requested_by(self, request: Option<&str>) -> Self {
        let request = request.filter(|_| self.authority.is_some()).map(str::to_owned);
        Self { request, ..self }
    }
}

/// An event type that a feature declares.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// `streamforge.<thing>.<past tense>.v<version>`.
    pub name: &'static str,
    /// The JSON Schema of its data (draft 2020-12).
    pub schema: fn() -> Schema,
}

/// The events of one feature, declared with [`events!`](crate::events).
pub trait Events: Sized {
    /// All types.
    const TYPES: &'static [EventType];

    /// Reads the event in an envelope.
    ///
    /// # Errors
    /// [`Fault::Event`] if its type is none of this feature's, or its data are not of its type.
    fn read(envelope: &Envelope) -> Result<Self, Fault>;
}

/// The fault of data that are not of their type.
pub fn unreadable(kind: &str, error: serde_json::Error) -> Fault {
    Fault::Event { kind: kind.to_owned(), error }
}

/// Declares the events of a feature: an enum, one variant for each type, with its type name and the
/// field that identifies the subject.
///
/// A variant's data are a type of the same name, which implements `Serialize`, `Deserialize` and
/// `JsonSchema`.
#[macro_export]
macro_rules! events {
    ($(#[$doc:meta])* $vis:vis enum $name:ident {
        $($variant:ident = $kind:literal on $subject:ident),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis enum $name {
            $(
                #[doc = concat!("`", $kind, "`.")]
                $variant($variant),
            )+
        }

        impl $crate::event::Events for $name {
            const TYPES: &'static [$crate::event::EventType] = &[
                $($crate::event::EventType {
                    name: $kind,
                    schema: || schemars::schema_for!($variant),
                }),+
            ];

            fn read(envelope: &$crate::Envelope) -> Result<Self, $crate::Fault> {
                let data = envelope.data.get();
                let event = match envelope.kind.as_str() {
                    $($kind => serde_json::from_str(data).map(Self::$variant),)+
                    _ => Err(serde::de::Error::custom("the feature has no such event")),
                };
                event.map_err(|error| $crate::event::unreadable(&envelope.kind, error))
            }
        }

        $(
            impl TryFrom<$variant> for $crate::NewEvent {
                type Error = $crate::Fault;

                fn try_from(event: $variant) -> Result<Self, $crate::Fault> {
                    let data = serde_json::value::to_raw_value(&event)
                        .map_err(|error| $crate::event::unreadable($kind, error))?;
                    let subject = event.$subject.to_string();
                    Ok(Self { kind: $kind, subject, data, authority: None })
                }
            }
        )+
    };
}

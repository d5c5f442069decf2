//! The events of operations of the daemon.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    events,
    text::{OperationName, OperationSubject, OperationValue},
    vault::Sealed,
};

/// The result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was tried, and has failed or is incomplete.
    Failed,
}

impl Outcome {
    /// The outcome of something that has succeeded or not.
    pub fn of(has_succeeded: bool) -> Self {
        if has_succeeded { Self::Done } else { Self::Failed }
    }
}

/// Somebody has operated the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Performed {
    /// The operation: `thing.verb`.
    pub operation: OperationName,
    /// The thing that it was about, such as the name of a channel or a folder.
    pub subject: OperationSubject,
    /// The result.
    pub outcome: Outcome,
    /// The value that it has set, such as a log level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<OperationValue>,
    /// Why the sender did it, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Sealed>,
}

events! {
    /// An event of an operation.
    pub enum Event {
        Performed = "streamforge.operation.performed.v1" on subject,
    }
}

/// The type of [`Performed`].
pub const PERFORMED: &str = "streamforge.operation.performed.v1";

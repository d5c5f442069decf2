//! Operations of the daemon for the audit log: acts that change no thing of the platform, such as
//! the end of a broadcast or a backup, and would leave no event otherwise.
//!
//! An operation is recorded after it was carried out. If it cannot be recorded, for example because
//! the disk is full, the log of messages has it: the daemon must be operable then, too.

use std::{str::FromStr, time::Duration};

use control_domain::{
    Actor,
    features::audit::{
        commands::{EndStream, Record},
        events::Outcome,
    },
    text::{ChannelName, OperationName, OperationSubject, OperationValue, Reason},
};
use tokio::time::timeout;
use tracing::{error, info};

use crate::{
    Platform,
    problem::{Kind, Problem},
};

/// Time to record an operation. Its sender waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest texts of an operation in characters.
const MAX_SUBJECT: usize = 500;
const MAX_VALUE: usize = 1_000;

/// An operation that was carried out, or has failed.
#[derive(Debug, Clone)]
pub struct Operation {
    name: &'static str,
    subject: String,
    outcome: Outcome,
    value: Option<String>,
}

impl Operation {
    /// An operation that was carried out: its name `thing.verb`, and the thing that it was about.
    pub fn new(name: &'static str, subject: &str) -> Self {
        Self { name, subject: subject.to_owned(), outcome: Outcome::Done, value: None }
    }

    /// The same operation with its outcome.
    #[must_use]
    pub fn ended(self, has_succeeded: bool) -> Self {
        Self { outcome: Outcome::of(has_succeeded), ..self }
    }

    /// The same operation with the value that it has set. It must be no secret.
    #[must_use]
    pub fn setting(self, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..self }
    }

    /// The command that records it.
    pub fn into_command(self) -> Option<Record> {
        Some(Record {
            operation: self.name.parse::<OperationName>().ok()?,
            subject: bounded::<OperationSubject>(&self.subject, MAX_SUBJECT)?,
            outcome: self.outcome,
            value: self.value.and_then(|text| bounded::<OperationValue>(&text, MAX_VALUE)),
            reason: None,
        })
    }

    /// Records it. Without a platform there is no audit log.
    pub async fn record(self, platform: Option<&Platform>, actor: Actor) {
        let Some(platform) = platform else { return };
        let (name, subject) = (self.name, self.subject.clone());
        let result = match self.into_command() {
            Some(command) => timeout(LIMIT, platform.send(actor, command)).await,
            None => Ok(Err(Problem::new(Kind::Internal, "its name or subject is no text"))),
        };
        report(name, &subject, actor, result.map(|sent| sent.map(drop)));
    }
}

/// Records the end of a channel's broadcast by a request.
pub(crate) async fn record_end(
    platform: Option<&Platform>,
    actor: Actor,
    channel: ChannelName,
    has_succeeded: bool,
    reason: Option<Reason>,
) {
    let Some(platform) = platform else { return };
    let subject = channel.to_string();
    let command = EndStream { channel, outcome: Outcome::of(has_succeeded), reason };
    let result = timeout(LIMIT, platform.send(actor, command)).await;
    report("stream.end", &subject, actor, result.map(|sent| sent.map(drop)));
}

/// Logs an operation that is not in the audit log.
fn report(
    operation: &str,
    subject: &str,
    actor: Actor,
    result: Result<Result<(), Problem>, tokio::time::error::Elapsed>,
) {
    let words = match &result {
        Ok(Ok(())) => return,
        Ok(Err(problem)) => problem.detail(),
        Err(_) => "the database does not respond in time",
    };
    let actor = actor.id();
    if matches!(&result, Ok(Err(problem)) if problem.kind() == Kind::Replica) {
        info!(operation, subject, %actor, "an operation of a replica, which records none");
        return;
    }
    error!(operation, subject, %actor, words, "an operation is missing in the audit log");
}

/// A text without control characters, cut to a length in characters.
fn bounded<T: FromStr>(text: &str, max: usize) -> Option<T> {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    // Normalisation may make a text longer.
    let cut = |max: usize| plain.clone().take(max).collect::<String>().parse().ok();
    cut(max).or_else(|| cut(max / 18))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_subject_and_a_value_and_an_empty_one_is_no_subject() {
        let command = |subject: &str, value: &str| {
            Operation::new("database.backup", subject).setting(value).into_command()
        };
        let made = command("/srv/a\nb", &"ﷺ".repeat(2_000)).expect("a command");
        assert_eq!(made.subject.as_str(), "/srv/a b");
        assert!(made.value.expect("a value").as_str().chars().count() <= MAX_VALUE);
        let made = command(&"x".repeat(10_000), "").expect("a command");
        assert_eq!(made.subject.as_str().len(), MAX_SUBJECT);
        assert!(made.value.is_none());
        assert!(command("", "").is_none());
        let failed = Operation::new("database.backup", "/srv").ended(false).into_command();
        assert_eq!(failed.expect("a command").outcome, Outcome::Failed);
    }
}

//! How far each webhook in use is: pure state. The log is the queue of all webhooks, so that a
//! webhook that is behind needs no memory but its position.
//!
//! A line without a position is idle: there is nothing to deliver up to the event that was seen
//! last. The next event that it wants gives it a position. From there on it reads the log by
//! itself, delivers one event after the other, and becomes idle when it has reached the end.

use std::collections::BTreeMap;

use control_domain::{
    Time,
    features::webhooks::{filter::TypeFilter, queries::Webhook},
    id::{AccountId, WebhookId},
};

use super::schedule;
use crate::store::Progress;

/// The lines of all webhooks in use.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<WebhookId, Line>,
    /// The sequence of the last event up to which lines read the log.
    seen: u64,
    /// The sequence of the last event that was offered.
    offered: u64,
}

/// The line of one webhook.
#[derive(Debug)]
struct Line {
    owner: Option<AccountId>,
    types: TypeFilter,
    since: Time,
    /// Events up to this one are delivered or passed over.
    done: u64,
    /// `None`: idle.
    position: Option<Position>,
    failing_since: Option<Time>,
    /// A task works on it.
    is_busy: bool,
}

/// The event that is next, and its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The sequence of the first event to examine.
    pub(super) next: u64,
    /// Attempts to deliver it that have failed.
    pub(super) attempts: u32,
    /// When it is tried.
    at: Time,
}

/// The consequence of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    /// The time of the next attempt; `None`: the event is given up.
    pub(super) next: Option<Time>,
    /// Whether the webhook has failed for so long that it is to be disabled.
    pub(super) is_over: bool,
}

impl Lines {
    /// Forgets all lines. Those that continue read the log up to `seen`.
    pub(super) fn begin(&mut self, seen: u64) {
        *self = Self { lines: BTreeMap::new(), seen, offered: 0 };
    }

    /// The last event that was offered.
    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    /// The last event up to which lines read the log.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Adds, changes or removes a line, as its webhook is now. A new line begins behind the event
    /// at `sequence`. A webhook that is changed is tried at once.
    pub(super) fn set(
        &mut self,
        id: WebhookId,
        webhook: Option<&Webhook>,
        sequence: u64,
        now: Time,
    ) {
        let Some(webhook) = webhook.filter(|webhook| webhook.disabled.is_none()) else {
            self.lines.remove(&id);
            return;
        };
        let line = self.lines.entry(id).or_insert_with(|| Line {
            owner: webhook.owner,
            types: webhook.types.clone(),
            since: webhook.since,
            done: sequence,
            position: None,
            failing_since: None,
            is_busy: false,
        });
        if webhook.since > line.since {
            // It was disabled and enabled since the last look.
            line.failing_since = None;
        }
        line.types = webhook.types.clone();
        line.since = webhook.since;
        if let Some(position) = &mut line.position {
            position.at = position.at.min(now);
        }
    }

    /// The number of webhooks in use, and of those that fail now.
    pub(super) fn counts(&self) -> (usize, usize) {
        let failing = self.lines.values().filter(|line| line.failing_since.is_some());
        (self.lines.len(), failing.count())
    }

    /// Whether the webhook is in use.
    pub(super) fn contains(&self, id: WebhookId) -> bool {
        self.lines.contains_key(&id)
    }

    /// The webhooks of an account.
    pub(super) fn of_owner(&self, owner: AccountId) -> Vec<WebhookId> {
        let own = self.lines.iter().filter(|(_, line)| line.owner == Some(owner));
        own.map(|(id, _)| *id).collect()
    }

    /// Continues where a line was before a restart.
    pub(super) fn resume(&mut self, id: WebhookId, progress: Progress) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.failing_since = progress.failing_since;
        // A position behind the end is of a database that was replaced by an older one.
        line.position = progress.next.filter(|next| *next <= self.seen).map(|next| Position {
            next,
            attempts: progress.attempts,
            at: progress.at,
        });
    }

    /// The webhooks that want an event of a type, by their filters, and their owners.
    pub(super) fn wanting(&self, kind: &str, time: Time) -> Vec<(WebhookId, Option<AccountId>)> {
        let wanting =
            self.lines.iter().filter(|(_, line)| line.since <= time && line.types.includes(kind));
        wanting.map(|(id, line)| (*id, line.owner)).collect()
    }

    /// An event has happened, which these webhooks want. Returns those whose progress must be kept
    /// before the event may be passed over.
    pub(super) fn offer(
        &mut self,
        sequence: u64,
        wanting: &[WebhookId],
        now: Time,
    ) -> Vec<WebhookId> {
        let mut begun = Vec::new();
        for id in wanting {
            let Some(line) = self.lines.get_mut(id).filter(|line| line.done < sequence) else {
                continue;
            };
            let position =
                line.position.get_or_insert(Position { next: sequence, attempts: 0, at: now });
            if position.next == sequence {
                begun.push(*id);
            }
        }
        self.seen = self.seen.max(sequence);
        self.offered = sequence;
        begun
    }

    /// At most `room` webhooks that are due. Each is worked on until [`Lines::finish`].
    pub(super) fn take_due(&mut self, now: Time, room: usize) -> Vec<WebhookId> {
        let is_due =
            |line: &Line| !line.is_busy && line.position.is_some_and(|position| position.at <= now);
        let mut due = self
            .lines
            .iter()
            .filter(|(_, line)| is_due(line))
            .map(|(id, line)| (line.position.map(|position| position.at), *id))
            .collect::<Vec<_>>();
        // Those that wait longest first, so that busy webhooks do not starve others.
        due.sort_unstable();
        due.truncate(room);
        let due = due.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
        for id in &due {
            if let Some(line) = self.lines.get_mut(id) {
                line.is_busy = true;
            }
        }
        due
    }

    /// The time of the next work that nobody does yet.
    pub(super) fn next_at(&self) -> Option<Time> {
        let waiting = self.lines.values().filter(|line| !line.is_busy);
        waiting.filter_map(|line| line.position).map(|position| position.at).min()
    }

    /// The position of a line.
    pub(super) fn position(&self, id: WebhookId) -> Option<Position> {
        self.lines.get(&id)?.position
    }

    /// The work on a line is over for now.
    pub(super) fn finish(&mut self, id: WebhookId) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.is_busy = false;
        }
    }

    /// All events up to `through` are delivered or not wanted. The line is idle if there are no
    /// more.
    pub(super) fn pass(&mut self, id: WebhookId, through: u64, now: Time) {
        let seen = self.seen;
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.done = line.done.max(through);
        line.position = (through < seen).then_some(Position {
            next: through.saturating_add(1),
            attempts: 0,
            at: now,
        });
    }

    /// The event at `sequence` was delivered.
    pub(super) fn succeed(&mut self, id: WebhookId, sequence: u64, now: Time) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.failing_since = None;
        }
        self.pass(id, sequence, now);
    }

    /// An attempt to deliver the event at `sequence`, which began at `begun`, has failed.
    pub(super) fn fail(
        &mut self,
        id: WebhookId,
        sequence: u64,
        begun: Time,
        now: Time,
    ) -> Option<Failed> {
        let line = self.lines.get_mut(&id)?;
        let attempts = line.position.map_or(0, |position| position.attempts).saturating_add(1);
        let since = *line.failing_since.get_or_insert(begun);
        let failed =
            Failed { next: schedule::next(attempts, now), is_over: schedule::is_over(since, now) };
        match failed.next {
            Some(at) => line.position = Some(Position { next: sequence, attempts, at }),
            None => self.pass(id, sequence, now),
        }
        Some(failed)
    }

    /// Tries a webhook at once that waits.
    pub(super) fn hurry(&mut self, id: WebhookId, now: Time) {
        if let Some(position) = self.lines.get_mut(&id).and_then(|line| line.position.as_mut()) {
            position.at = position.at.min(now);
        }
    }

    /// The part of a line that must be kept; `None` if nothing.
    pub(super) fn progress(&self, id: WebhookId) -> Option<Progress> {
        let line = self.lines.get(&id)?;
        let (position, failing_since) = (line.position, line.failing_since);
        let has_progress = position.is_some() || failing_since.is_some();
        has_progress.then(|| Progress {
            next: position.map(|position| position.next),
            attempts: position.map_or(0, |position| position.attempts),
            at: position.map_or(Time::default(), |position| position.at),
            failing_since,
        })
    }
}

#[cfg(test)]
mod tests {
    use control_domain::Sealed;

    use super::*;

    fn id(n: u128) -> WebhookId {
        WebhookId::new(uuid::Uuid::from_u128(n))
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn webhook() -> Webhook {
        let person = AccountId::new(uuid::Uuid::from_u128(9));
        Webhook {
            owner: None,
            url: String::new(),
            types: TypeFilter::default(),
            secret: Sealed { person, sealed: String::new() },
            previous: None,
            disabled: None,
            since: at(0),
            created: at(0),
            changed: at(0),
        }
    }

    fn lines(seen: u64) -> Lines {
        let mut lines = Lines::default();
        lines.begin(seen);
        for n in 1..=2 {
            lines.set(id(n), Some(&webhook()), 0, at(0));
        }
        lines
    }

    #[test]
    fn a_line_delivers_in_order_and_is_idle_at_the_end() {
        let mut lines = lines(10);
        assert_eq!(lines.next_at(), None);
        assert_eq!(lines.offer(11, &[id(1)], at(5)), [id(1)]);
        assert_eq!(lines.take_due(at(5), 8), [id(1)]);
        assert_eq!(lines.take_due(at(5), 8), [], "it is worked on");
        // Meanwhile another event happens, which the line finds by itself.
        assert_eq!(lines.offer(12, &[id(1)], at(6)), []);
        lines.succeed(id(1), 11, at(7));
        lines.finish(id(1));
        assert_eq!(lines.position(id(1)).map(|position| position.next), Some(12));
        assert_eq!(lines.take_due(at(7), 8), [id(1)]);
        lines.succeed(id(1), 12, at(8));
        lines.finish(id(1));
        assert_eq!((lines.position(id(1)), lines.progress(id(1))), (None, None));
        // The follower repeats an event after a crash.
        assert_eq!(lines.offer(12, &[id(1)], at(9)), []);
        assert_eq!(lines.position(id(1)), None);
    }

    #[test]
    fn a_line_that_fails_delays_no_other_and_waits_for_its_time() {
        let mut lines = lines(0);
        lines.offer(1, &[id(1), id(2)], at(0));
        assert_eq!(lines.take_due(at(0), 1).len(), 1, "there is room for one");
        lines.finish(id(1));
        lines.take_due(at(0), 8);
        let failed = lines.fail(id(1), 1, at(0), at(100)).expect("it is in use");
        assert_eq!(failed, Failed { next: Some(at(5_100)), is_over: false });
        lines.succeed(id(2), 1, at(100));
        lines.finish(id(1));
        lines.finish(id(2));
        lines.offer(2, &[id(1), id(2)], at(200));
        assert_eq!(lines.take_due(at(200), 8), [id(2)]);
        assert_eq!(lines.next_at(), Some(at(5_100)));
        let progress = lines.progress(id(1)).expect("it waits");
        assert_eq!((progress.next, progress.attempts), (Some(1), 1));
        assert_eq!(progress.failing_since, Some(at(0)));
        // It is the same after a restart.
        let mut again = self::lines(2);
        again.resume(id(1), progress);
        assert_eq!(again.position(id(1)), lines.position(id(1)));
        lines.hurry(id(1), at(300));
        assert_eq!(lines.take_due(at(300), 8), [id(1)]);
    }

    #[test]
    fn an_event_is_given_up_and_a_webhook_after_five_days() {
        let mut lines = lines(0);
        let (mut now, mut given_up) = (at(0), 0);
        for sequence in 1..1_000 {
            lines.offer(sequence, &[id(1)], now);
        }
        loop {
            let next = lines.position(id(1)).expect("it is behind").next;
            let failed = lines.fail(id(1), next, now, now).expect("it is in use");
            if failed.is_over {
                break;
            }
            given_up += u64::from(failed.next.is_none());
            now = failed.next.unwrap_or(now);
        }
        assert!(now >= at(5 * 86_400_000) && now < at(6 * 86_400_000), "{now}");
        assert_eq!(given_up, 4);
        // A success forgets the failures.
        lines.succeed(id(1), 5, now);
        assert_eq!(lines.progress(id(1)).and_then(|progress| progress.failing_since), None);
    }

    #[test]
    fn a_line_is_gone_with_its_webhook_and_wants_nothing_from_before_it_was_enabled() {
        let mut lines = lines(0);
        let mut later = webhook();
        later.since = at(50);
        lines.set(id(1), Some(&later), 0, at(50));
        let wanting = |lines: &Lines, time| {
            lines
                .wanting("streamforge.a.b.v1", time)
                .into_iter()
                .map(|(id, _)| id)
                .collect::<Vec<_>>()
        };
        assert_eq!(wanting(&lines, at(49)), [id(2)]);
        assert_eq!(wanting(&lines, at(50)), [id(1), id(2)]);
        let disabled = control_domain::features::webhooks::events::Cause::Owner;
        lines.set(id(1), Some(&Webhook { disabled: Some(disabled), ..later }), 0, at(60));
        lines.set(id(2), None, 0, at(60));
        assert_eq!(wanting(&lines, at(70)), []);
        assert_eq!(lines.offer(1, &[id(1)], at(70)), []);
    }
}

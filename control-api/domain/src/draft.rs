//! Several commands that are decided as one: each sees the tables as the ones before it leave them,
//! and all of their events are written, or none.

use std::{collections::BTreeMap, fmt, ops::Bound};

use crate::{
    command::{self, Command, Context, Decision, Refusal},
    event::NewEvent,
    feature::{Feature, Folding, fold},
    id::EventId,
    rows::{Fault, Order, Row, Rows, RowsMut, is_empty},
};

/// A decision that grows by one command after the other.
///
/// Within [`Command::decide`]: [`Draft::new`], [`Draft::carry_out`] for each command, then
/// [`Draft::finish`]. The commands have the sender and the time of the context.
pub struct Draft<'a> {
    context: Context<'a>,
    features: &'a [&'a Feature],
    rows: ForeseenRows<'a>,
    events: Vec<NewEvent>,
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// A decision without events. `features` are all that the store has.
    pub fn new(context: &Context<'a>, features: &'a [&'a Feature]) -> Self {
        let rows = ForeseenRows { base: context.rows, tables: BTreeMap::new() };
        Self { context: *context, features, rows, events: Vec::new() }
    }

    /// Decides a command on the tables as the commands before it leave them.
    ///
    /// # Errors
    /// Its [`Refusal`]; then the draft must be dropped.
    pub fn carry_out<C: Command>(&mut self, command: &C) -> Result<C::Done, Refusal> {
        let decision = command::decide(command, &Context { rows: &self.rows, ..self.context })?;
        let Context { ids, now, actor, vault, .. } = self.context;
        for event in decision.events {
            // The event gets another identifier when it is written. No fold reads it.
            let envelope = event.clone().sealed_in(EventId::new(ids.next()), now, actor.id());
            fold(self.features, &mut Folding { rows: &mut self.rows, vault }, &envelope)?;
            self.events.push(event);
        }
        Ok(decision.done)
    }

    /// The decision.
    pub fn finish<Done>(self, done: Done) -> Decision<Done> {
        Decision { events: self.events, done }
    }
}

/// Tables with changes that are not written yet.
struct ForeseenRows<'a> {
    base: &'a dyn Rows,
    /// The rows that differ from those of `base`; `None`: removed.
    tables: BTreeMap<&'static str, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl Rows for ForeseenRows<'_> {
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.tables.get(table).and_then(|changed| changed.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(table, key),
        }
    }

    fn range(
        &self,
        table: &'static str,
        keys: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        if is_empty(keys) {
            return Ok(Vec::new());
        }
        let changed = self.tables.get(table);
        let changed = changed.into_iter().flat_map(|rows| rows.range::<[u8], _>(keys));
        let changed = changed.collect::<Vec<_>>();
        // Each change hides one row at most.
        let read = self.base.range(table, keys, order, limit.saturating_add(changed.len()))?;
        let mut rows = read.into_iter().collect::<BTreeMap<_, _>>();
        for (key, value) in changed {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(match order {
            Order::Up => rows.into_iter().take(limit).collect(),
            Order::Down => rows.into_iter().rev().take(limit).collect(),
        })
    }
}

impl RowsMut for ForeseenRows<'_> {
    fn put(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.tables.entry(table).or_default().insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, table: &'static str, key: &[u8]) -> Result<(), Fault> {
        self.tables.entry(table).or_default().insert(key.to_vec(), None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actor::{Actor, Role},
        features::{
            self,
            channels::{self, events::Visibility},
            videos::{
                commands::{Announce, Publish},
                processing::{FinishProcessing, FinishUpload, StartUpload},
                queries,
                state::Media,
            },
        },
        id::{ChannelId, VideoId},
        permission::Who,
        rows::MemoryRows,
        scenario::Scenario,
    };

    const TABLE: &str = "things";

    #[test]
    fn ranges_show_written_rows_with_the_changes_of_the_draft_in_both_orders() {
        let mut base = MemoryRows::default();
        for key in [b"a", b"c", b"e", b"g"] {
            base.put(TABLE, key, b"old").expect("memory");
        }
        let mut rows = ForeseenRows { base: &base, tables: BTreeMap::new() };
        rows.put(TABLE, b"b", b"new").expect("memory");
        rows.put(TABLE, b"e", b"new").expect("memory");
        rows.remove(TABLE, b"c").expect("memory");
        rows.remove(TABLE, b"x").expect("memory");
        let keys = |from, to, order, limit| {
            let rows = rows.range(TABLE, (from, to), order, limit).expect("memory");
            let key = |(key, value): Row| format!("{}{}", key[0] as char, value[0] as char);
            rows.into_iter().map(key).collect::<Vec<_>>()
        };
        let all = Bound::Unbounded;
        assert_eq!(keys(all, all, Order::Up, 9), ["ao", "bn", "en", "go"]);
        assert_eq!(keys(all, all, Order::Up, 2), ["ao", "bn"]);
        assert_eq!(keys(all, all, Order::Down, 3), ["go", "en", "bn"]);
        let (from, to) = (Bound::Excluded(b"a".as_slice()), Bound::Included(b"e".as_slice()));
        assert_eq!(keys(from, to, Order::Up, 1), ["bn"]);
        assert_eq!(keys(to, from, Order::Up, 9), [""; 0], "the ends cross");
        assert_eq!(rows.get(TABLE, b"c").expect("memory"), None);
        assert_eq!(rows.get(TABLE, b"g").expect("memory").as_deref(), Some(b"old".as_slice()));
    }

    /// Announces a video and publishes it, if it can be.
    #[derive(Debug)]
    struct Released {
        channel: ChannelId,
        media: Option<Media>,
    }

    impl Command for Released {
        const NAME: &'static str = "test.released";
        const WHO: Who = Who::System;

        type Done = VideoId;

        fn decide(&self, context: &Context<'_>) -> Result<Decision<VideoId>, Refusal> {
            let mut draft = Draft::new(context, features::ALL);
            let details = serde_json::from_str(
                r#"{"title":"Title","description":"","tags":[],"category":null,"language":null,
                    "visibility":"public","chapters":[]}"#,
            );
            let details = details.expect("details");
            let channel = self.channel;
            let video = draft.carry_out(&Announce { channel, details, password: None })?;
            draft.carry_out(&StartUpload { video })?;
            if let Some(media) = self.media {
                draft.carry_out(&FinishUpload { video, bytes: 1 })?;
                draft.carry_out(&FinishProcessing { video, media })?;
            } else {
                // Not a step that may follow.
                channels::queries::channel(context.rows, ChannelId::new(uuid::Uuid::nil()))?;
            }
            draft.carry_out(&Publish { video, at: None })?;
            Ok(draft.finish(video))
        }
    }

    #[test]
    fn commands_of_a_draft_see_the_ones_before_and_all_happen_or_none() {
        let mut platform = Scenario::default();
        let ada = platform.person("ada", Role::Creator);
        let channel = platform.channel(ada, "show", Visibility::Public);
        let before = platform.log.len();
        platform.send(Actor::System, &Released { channel, media: None }).expect_err("no channel");
        assert_eq!(platform.log.len(), before);

        let media = Some(Media { duration_ms: 1, width: None, height: None });
        let video =
            platform.send(Actor::System, &Released { channel, media }).expect("a whole video");
        assert_eq!(platform.log.len(), before + 5);
        let found = queries::video(&platform.rows, video).expect("it exists");
        assert_eq!(found.video.state.name(), "published");
        assert_eq!(platform.rebuilt(), platform.rows);
    }
}

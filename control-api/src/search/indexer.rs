//! Keeps the index as the tables are: copies them once, then reads the things again that each
//! event touches. All of it blocks for the disk, and is done in steps that end soon.
//!
//! What is written are the tables as they are when an event is read, which may be newer than the
//! event. So an event may be followed again without harm, and many events of one thing are one
//! change.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use control_domain::{
    Actor, Envelope, Fault, Refusal, Rows,
    features::{
        channels, follows, reactions, tags,
        videos::{self},
    },
    id::{ChannelId, VideoId},
    text::{Tag, folded},
};
use tantivy::{DocSet as _, TERMINATED, Term, schema::IndexRecordOption};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    entry::{self, Entry, Thing},
    error::Error,
    index::{Copied, Files, Progress, View},
    schema,
};
use crate::Store;
use control_domain::event::Events as _;

/// Events of one step.
const EVENTS: usize = 256;
/// Things that are read from one snapshot of the tables.
const THINGS: usize = 64;
/// Channels that are copied in one step.
const CHANNELS: usize = 16;
/// Changed things after which a commit is due, whatever the time is.
const MAX_CHANGES: usize = 20_000;
/// Bytes of changed things after which a commit is due. They wait in memory to be indexed.
const MAX_BYTES: usize = 16 << 20;
/// Events without a change after which the progress is committed alone. They would be read again.
const MAX_UNCHANGED: u64 = 4096;
/// Least time between two commits, each of which makes files durable.
const BETWEEN: Duration = Duration::from_millis(500);

/// What an event touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Touched {
    /// A video or a channel.
    Thing(Thing),
    /// A channel, and all its videos, which have its name and are as visible as it is.
    Whole(ChannelId),
    /// A channel that is gone with its videos.
    Gone(ChannelId),
    /// The likes of a video or the followers of a channel.
    Popularity(Thing),
    /// The videos with a tag, by its folded form, because it means another one now.
    Tag(String),
}

/// The state after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do at once.
    More,
    /// All events were followed, and there are changes: a commit is due after this time.
    Changed(Duration),
    /// The index is as the tables were.
    Done,
}

/// Writes the index.
pub(super) struct Indexer {
    files: Files,
    /// How far it is, with the changes that are not committed.
    now: Progress,
    /// The sequence of the last commit.
    committed: u64,
    last_commit: Option<Instant>,
    /// Things that were changed since, and their bytes.
    changes: usize,
    bytes: usize,
    /// Cancelled when the step that runs must end.
    stop: CancellationToken,
}

impl Indexer {
    /// Goes on with an index.
    pub(super) fn new(files: Files, progress: Progress, stop: CancellationToken) -> Self {
        let committed = progress.sequence;
        let (last_commit, changes, bytes) = (None, 0, 0);
        Self { files, now: progress, committed, last_commit, changes, bytes, stop }
    }

    /// A view of the entries as of the last commit, now and later.
    pub(super) fn view(&self) -> View {
        self.files.view()
    }

    /// The last event whose effect is seen: all behind the last commit have none, once there is no
    /// change that is not committed.
    pub(super) fn seen(&self) -> u64 {
        if self.changes == 0 { self.now.sequence } else { self.committed }
    }

    /// Does a part of the work that there is.
    ///
    /// # Errors
    /// [`Error`]. Then changes since the last commit are lost, and the index must be opened again.
    pub(super) fn step(&mut self, store: &Store) -> Result<Step, Error> {
        let is_caught_up = match self.now.copied {
            Some(copied) => {
                self.copy(store, copied)?;
                false
            }
            None => self.follow(store)?,
        };
        if self.changes >= MAX_CHANGES || self.bytes >= MAX_BYTES {
            self.commit()?;
        }
        if !is_caught_up {
            return Ok(Step::More);
        }
        if self.changes > 0 {
            let since = self.last_commit.map_or(BETWEEN, |last| last.elapsed());
            let left = BETWEEN.saturating_sub(since);
            if !left.is_zero() {
                return Ok(Step::Changed(left));
            }
            self.commit()?;
        } else if self.now.sequence - self.committed > MAX_UNCHANGED {
            self.commit()?;
        }
        Ok(Step::Done)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.files.commit(&self.now)?;
        self.committed = self.now.sequence;
        self.last_commit = Some(Instant::now());
        (self.changes, self.bytes) = (0, 0);
        Ok(())
    }

    /// Copies some channels with their videos.
    fn copy(&mut self, store: &Store, copied: Copied) -> Result<(), Error> {
        let page = store.read(|rows| {
            channels::queries::page(rows, &Actor::System, copied.channel, CHANNELS)
        })??;
        for (channel, _) in &page {
            self.whole(store, *channel)?;
            self.now.copied = Some(Copied { channel: Some(*channel) });
            // At the end of a channel, so that none is copied in part.
            if self.changes >= MAX_CHANGES || self.bytes >= MAX_BYTES {
                self.commit()?;
            }
        }
        if page.len() < CHANNELS {
            self.now.copied = None;
            self.commit()?;
        }
        Ok(())
    }

    /// Follows some events. Returns whether there are no more.
    fn follow(&mut self, store: &Store) -> Result<bool, Error> {
        let events = store.events(self.now.sequence, EVENTS)?;
        let Some((last, envelope)) = events.last() else { return Ok(true) };
        let touched = events.iter().filter_map(|(_, envelope)| touched(envelope));
        // In the order of the type, so that the videos with a tag are looked for last.
        for touched in touched.collect::<BTreeSet<_>>() {
            self.touch(store, touched)?;
        }
        (self.now.sequence, self.now.event) = (*last, Some(envelope.id));
        Ok(events.len() < EVENTS)
    }

    fn touch(&mut self, store: &Store, touched: Touched) -> Result<(), Error> {
        match touched {
            Touched::Thing(thing) => self.update(store, &[thing]),
            Touched::Whole(channel) => self.whole(store, channel),
            Touched::Gone(channel) => {
                self.files.remove_all(&entry::channel_key(channel));
                self.changes += 1;
                Ok(())
            }
            Touched::Popularity(thing) => {
                let now = store.read(|rows| entry::popularity_of(rows, thing))??;
                match self.popularity(thing)? == Some(u64::from(now)) {
                    true => Ok(()),
                    false => self.update(store, &[thing]),
                }
            }
            Touched::Tag(tag) => {
                // So that the entries of this step are found.
                if self.changes > 0 {
                    self.commit()?;
                }
                self.tagged(store, &tag)
            }
        }
    }

    /// Reads things again.
    fn update(&mut self, store: &Store, things: &[Thing]) -> Result<(), Error> {
        for things in things.chunks(THINGS) {
            self.check_stop()?;
            let read = |rows: &dyn Rows| -> Result<Vec<Option<Entry>>, Fault> {
                things.iter().map(|thing| Entry::read(rows, *thing)).collect()
            };
            for (thing, entry) in things.iter().zip(store.read(read)??) {
                self.set(*thing, entry)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, thing: Thing, entry: Option<Entry>) -> Result<(), Error> {
        self.bytes += entry.as_ref().map_or(0, Entry::bytes);
        self.changes += 1;
        match entry {
            // Nothing of a channel that is being copied is there: what was not committed as a whole
            // is gone.
            Some(entry) if self.now.copied.is_some() => self.files.add(entry),
            entry => self.files.set(thing, entry),
        }
    }

    /// Reads a channel and its videos again.
    fn whole(&mut self, store: &Store, channel: ChannelId) -> Result<(), Error> {
        self.update(store, &[Thing::Channel(channel)])?;
        let mut after = None;
        loop {
            self.check_stop()?;
            let (entries, next) = match store.read(|rows| videos_of(rows, channel, after))? {
                Ok(page) => page,
                Err(Refusal::Fault(fault)) => return Err(fault.into()),
                // It was deleted meanwhile.
                Err(_) => return Ok(()),
            };
            for entry in entries {
                self.set(entry.thing, Some(entry))?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Reads the videos again that have a tag, as of the last commit.
    fn tagged(&mut self, store: &Store, tag: &str) -> Result<(), Error> {
        let view = self.files.view();
        let term = Term::from_field_text(view.fields.keys, &entry::tag_key(tag));
        for segment in view.searcher().segment_readers() {
            let keys = segment.inverted_index(view.fields.keys)?;
            let Some(mut docs) = keys.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            let ids = Ids::of(segment)?;
            while docs.doc() != TERMINATED {
                let mut things = Vec::with_capacity(THINGS);
                while docs.doc() != TERMINATED && things.len() < THINGS {
                    if !segment.is_deleted(docs.doc()) {
                        things.push(Thing::of(false, ids.of_doc(docs.doc())));
                    }
                    docs.advance();
                }
                self.update(store, &things)?;
            }
        }
        Ok(())
    }

    /// The popularity that the entry of a thing has, as of the last commit.
    fn popularity(&self, thing: Thing) -> Result<Option<u64>, Error> {
        let view = self.files.view();
        let term = Term::from_field_text(view.fields.keys, &thing.key());
        for segment in view.searcher().segment_readers() {
            let keys = segment.inverted_index(view.fields.keys)?;
            let Some(mut docs) = keys.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            let facts = segment.fast_fields().u64(schema::FACTS)?;
            while docs.doc() != TERMINATED {
                if !segment.is_deleted(docs.doc()) {
                    return Ok(facts.first(docs.doc()).map(schema::popularity));
                }
                docs.advance();
            }
        }
        Ok(None)
    }

    fn check_stop(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// The identifiers of a segment's entries.
struct Ids {
    high: tantivy::columnar::Column<u64>,
    low: tantivy::columnar::Column<u64>,
}

impl Ids {
    fn of(segment: &tantivy::SegmentReader) -> Result<Self, Error> {
        let fast = segment.fast_fields();
        Ok(Self { high: fast.u64(schema::ID_HIGH)?, low: fast.u64(schema::ID_LOW)? })
    }

    fn of_doc(&self, doc: u32) -> Uuid {
        let part = |column: &tantivy::columnar::Column<u64>| column.first(doc).unwrap_or_default();
        Uuid::from_u64_pair(part(&self.high), part(&self.low))
    }
}

/// The entries of some videos of a channel, and the video behind which others follow.
fn videos_of(
    rows: &dyn Rows,
    channel: ChannelId,
    after: Option<VideoId>,
) -> Result<(Vec<Entry>, Option<VideoId>), Refusal> {
    let page = videos::queries::all_of_channel(rows, &Actor::System, channel, after, THINGS)?;
    let entries = page.items.into_iter().map(|entry| Entry::of_video(rows, entry));
    Ok((entries.collect::<Result<_, _>>()?, page.next))
}

/// What an event touches.
fn touched(envelope: &Envelope) -> Option<Touched> {
    let kind = envelope.kind.as_str();
    let subject = || envelope.subject.parse::<Uuid>().ok();
    let declares = |feature: &control_domain::Feature| feature.declares(kind);
    if declares(&videos::FEATURE) {
        return Some(Touched::Thing(Thing::of(false, subject()?)));
    }
    if declares(&channels::FEATURE) {
        let channel = ChannelId::new(subject()?);
        let event = channels::events::Event::read(envelope).ok()?;
        return match event {
            channels::events::Event::Created(_) => Some(Touched::Thing(Thing::Channel(channel))),
            channels::events::Event::Edited(event) => {
                let is_deep = event.edits.title.is_some() || event.edits.visibility.is_some();
                Some(match is_deep {
                    true => Touched::Whole(channel),
                    false => Touched::Thing(Thing::Channel(channel)),
                })
            }
            channels::events::Event::SettingsChanged(_) => None,
            channels::events::Event::Deleted(_) => Some(Touched::Gone(channel)),
        };
    }
    if declares(&reactions::FEATURE) {
        return Some(Touched::Popularity(Thing::of(false, subject()?)));
    }
    if declares(&follows::FEATURE) {
        return Some(Touched::Popularity(Thing::of(true, subject()?)));
    }
    if declares(&tags::FEATURE) {
        let tag: Tag = envelope.subject.parse().ok()?;
        return Some(Touched::Tag(folded(tag.as_str())));
    }
    None
}

#[cfg(test)]
mod tests {
    use control_domain::{NewEvent, Time, actor::ActorId, id::EventId};

    use super::*;

    fn of(event: Result<NewEvent, Fault>) -> Option<Touched> {
        let id = EventId::new(Uuid::nil());
        touched(&event.expect("JSON").sealed_in(id, Time::default(), ActorId::System))
    }

    #[test]
    fn an_event_touches_its_thing_and_all_that_has_its_words() {
        let (channel, video) = (ChannelId::new(Uuid::max()), VideoId::new(Uuid::max()));
        let edited = |edits| of(channels::events::Edited { channel, edits }.try_into());
        let edits = channels::events::Edits::default();
        let description = Some("x".parse().expect("a text"));
        let thing = Some(Touched::Thing(Thing::Channel(channel)));
        assert_eq!(edited(channels::events::Edits { description, ..edits.clone() }), thing);
        let title = Some("x".parse().expect("a title"));
        let titled = channels::events::Edits { title, ..edits.clone() };
        assert_eq!(edited(titled), Some(Touched::Whole(channel)));
        let visibility = Some(channels::events::Visibility::Private);
        let hidden = channels::events::Edits { visibility, ..edits };
        assert_eq!(edited(hidden), Some(Touched::Whole(channel)));
        let deleted = of(channels::events::Deleted { channel }.try_into());
        assert_eq!(deleted, Some(Touched::Gone(channel)));
        let unpublished = of(videos::events::Unpublished { video }.try_into());
        assert_eq!(unpublished, Some(Touched::Thing(Thing::Video(video))));
        let person = control_domain::id::AccountId::new(Uuid::nil());
        let reacted = of(reactions::events::ReactionRemoved { video, person }.try_into());
        assert_eq!(reacted, Some(Touched::Popularity(Thing::Video(video))));
        let separated =
            of(tags::events::Separated { tag: "FILMS".parse().expect("a tag") }.try_into());
        assert_eq!(separated, Some(Touched::Tag("films".to_owned())));
        assert!(Touched::Tag(String::new()) > Touched::Popularity(Thing::Video(video)));
    }

    #[test]
    fn events_of_other_things_touch_nothing() {
        let account = control_domain::id::AccountId::new(Uuid::nil());
        let erased = of(control_domain::features::accounts::events::Erased { account }.try_into());
        assert_eq!(erased, None);
    }
}

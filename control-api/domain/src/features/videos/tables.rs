//! The tables of videos, and the fold that writes them.

use serde::{Deserialize, Serialize};

use super::{
    details::{Details, Visibility},
    events::{Announced, Event},
    index::{self, Entries, Listing},
    state::State,
};
use crate::{
    event::{Envelope, Events as _},
    feature::Folding,
    features::channels,
    id::{ChannelId, VideoId},
    rows::{Fault, RowsMut},
    table::Table,
    time::Time,
    vault::Sealed,
};

/// A video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Video {
    /// The channel to which it belongs.
    pub channel: ChannelId,
    /// The properties that its owner chooses.
    pub details: Details,
    /// Its state.
    pub state: State,
    /// When it is to be published, if that is scheduled.
    pub publish_at: Option<Time>,
    /// The password's hash, which is sealed so that the row is the same after an erasure.
    pub password: Option<Sealed>,
    /// When it was announced.
    pub announced: Time,
    /// When it was last changed.
    pub changed: Time,
    /// The number of its events, for conditional edits.
    pub version: u64,
}

/// All videos.
pub const VIDEOS: Table<VideoId, Video> = Table::new("videos.videos");
/// The videos of a channel in the order of their announcements.
pub const BY_CHANNEL: Table<(ChannelId, VideoId), ()> = Table::new("videos.by_channel");
/// The number of videos of a channel that has any.
pub const COUNTS: Table<ChannelId, u64> = Table::new("videos.counts");
/// Channels that were deleted and have videos yet.
pub const ORPHANED: Table<ChannelId, ()> = Table::new("videos.orphaned");

/// The greatest number of videos of a channel.
pub const MAX_OF_A_CHANNEL: u64 = 100_000;

/// Applies an event of a video, or the end of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn fold(folding: &mut Folding<'_>, envelope: &Envelope) -> Result<(), Fault> {
    let (rows, time) = (&mut *folding.rows, envelope.time);
    if envelope.kind == channels::events::DELETED {
        let channels::events::Event::Deleted(event) = channels::events::Event::read(envelope)?
        else {
            return Ok(());
        };
        return match COUNTS.contains(rows, &event.channel)? {
            true => ORPHANED.put(rows, &event.channel, &()),
            false => Ok(()),
        };
    }
    match Event::read(envelope)? {
        Event::Announced(event) => announce(rows, time, event),
        Event::Edited(event) => change(rows, time, event.video, |video| {
            video.details.edit(event.edits);
            if video.details.visibility != Visibility::Password {
                video.password = None;
            }
        }),
        Event::PasswordSet(event) => change(rows, time, event.video, |video| {
            video.password = Some(event.password);
        }),
        Event::UploadStarted(event) => change(rows, time, event.video, |video| {
            video.state = State::Uploading;
        }),
        Event::Uploaded(event) => change(rows, time, event.video, |video| {
            video.state = State::Processing;
        }),
        Event::Processed(event) => change(rows, time, event.video, |video| {
            video.state = State::Ready(event.media);
        }),
        Event::Failed(event) => change(rows, time, event.video, |video| {
            video.state = State::Failed { cause: event.cause, reason: event.reason };
        }),
        Event::Scheduled(event) => change(rows, time, event.video, |video| {
            video.publish_at = Some(event.at);
        }),
        Event::Unscheduled(event) => change(rows, time, event.video, |video| {
            video.publish_at = None;
        }),
        Event::Published(event) => change(rows, time, event.video, |video| {
            video.publish_at = None;
            if let Some(media) = video.state.media() {
                video.state = State::Published { at: time, media };
            }
        }),
        Event::Unpublished(event) => change(rows, time, event.video, |video| {
            if let Some(media) = video.state.media() {
                video.state = State::Ready(media);
            }
        }),
        Event::Deleted(event) => delete(rows, event.video),
    }
}

fn announce(rows: &mut dyn RowsMut, time: Time, event: Announced) -> Result<(), Fault> {
    let video = Video {
        channel: event.channel,
        details: event.details,
        state: State::Draft,
        publish_at: None,
        password: None,
        announced: time,
        changed: time,
        version: 1,
    };
    let count = COUNTS.get(rows, &event.channel)?.unwrap_or_default();
    COUNTS.put(rows, &event.channel, &(count + 1))?;
    BY_CHANNEL.put(rows, &(event.channel, event.video), &())?;
    VIDEOS.put(rows, &event.video, &video)
}

/// Changes a video and its entries in the lists.
fn change(
    rows: &mut dyn RowsMut,
    time: Time,
    id: VideoId,
    change: impl FnOnce(&mut Video),
) -> Result<(), Fault> {
    let Some(before) = VIDEOS.get(rows, &id)? else { return Ok(()) };
    let mut after = before.clone();
    change(&mut after);
    after.changed = time;
    after.version += 1;
    index::update(rows, id, &entries(&before), &entries(&after))?;
    VIDEOS.put(rows, &id, &after)
}

fn delete(rows: &mut dyn RowsMut, id: VideoId) -> Result<(), Fault> {
    let Some(video) = VIDEOS.get(rows, &id)? else { return Ok(()) };
    index::update(rows, id, &entries(&video), &Entries::default())?;
    BY_CHANNEL.remove(rows, &(video.channel, id))?;
    match COUNTS.get(rows, &video.channel)?.unwrap_or_default() {
        ..=1 => {
            COUNTS.remove(rows, &video.channel)?;
            ORPHANED.remove(rows, &video.channel)?;
        }
        count => COUNTS.put(rows, &video.channel, &(count - 1))?,
    }
    VIDEOS.remove(rows, &id)
}

/// The places of a video in lists.
fn entries(video: &Video) -> Entries {
    let Details { tags, category, visibility, .. } = &video.details;
    let is_ready = matches!(video.state, State::Ready(_));
    let is_listed = matches!(visibility, Visibility::Public | Visibility::Internal);
    Entries {
        due: video.publish_at.filter(|_| is_ready),
        listing: video.state.published().filter(|_| is_listed).map(|at| Listing {
            at,
            channel: video.channel,
            category: *category,
            tags: tags.iter().cloned().collect(),
            is_public: *visibility == Visibility::Public,
        }),
    }
}

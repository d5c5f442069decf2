//! Questions about videos. They read tables only.
//!
//! Lists leave out videos that the actor may not see, and those of deleted channels. The key of
//! their pages is the time of publication with the video's identifier.

use serde_json::{Value, json};

pub use super::{
    access::{Access, Entry},
    index::TagCount,
    tables::Video,
};
use super::{
    events::DELETED,
    index::{BY_CATEGORY, BY_TAG, DUE, NEWEST, NEWEST_OF_CHANNEL, POPULAR_TAGS, SHORT, TAGS},
    tables::{BY_CHANNEL, COUNTS, ORPHANED, VIDEOS},
};
use crate::{
    actor::Actor,
    audience::Audience,
    command::Refusal,
    event::Envelope,
    export::{self, ExportOf, Portion},
    features::{categories, channels, tags},
    id::{CategoryId, ChannelId, VideoId},
    page::{self, Page},
    password::PasswordHash,
    rows::{Fault, Order, Rows},
    table::Beginning,
    text::{Tag, folded},
    time::Time,
    vault::Vault,
};

/// The key of a published video in lists: since when it is published, and its identifier.
pub type Place = (Time, VideoId);

/// A video whose channel exists, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn video(rows: &dyn Rows, id: VideoId) -> Result<Entry, Refusal> {
    entry(rows, id)?.ok_or(Refusal::NotFound { thing: "video" })
}

/// A video that the actor may know of, or [`Refusal::NotFound`].
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Fault`].
pub fn visible(rows: &dyn Rows, actor: &Actor, id: VideoId) -> Result<Entry, Refusal> {
    let entry = entry(rows, id)?.filter(|entry| entry.is_visible(actor));
    entry.ok_or(Refusal::NotFound { thing: "video" })
}

/// A video whose channel exists.
fn entry(rows: &dyn Rows, id: VideoId) -> Result<Option<Entry>, Fault> {
    let Some(video) = VIDEOS.get(rows, &id)? else { return Ok(None) };
    let channel = channels::queries::find(rows, video.channel)?;
    Ok(channel.map(|channel| Entry { id, video, channel }))
}

/// The hash of a video's password, if it has one and its owner is not erased.
///
/// # Errors
/// A [`Fault`] of the vault.
pub fn password(vault: &dyn Vault, video: &Video) -> Result<Option<PasswordHash>, Fault> {
    let sealed = video.password.as_ref();
    let hash = sealed.map(|sealed| vault.open(sealed)).transpose()?.flatten();
    Ok(hash.map(PasswordHash))
}

/// The number of videos of a channel, in all states.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn count(rows: &dyn Rows, channel: ChannelId) -> Result<u64, Fault> {
    Ok(COUNTS.get(rows, &channel)?.unwrap_or_default())
}

/// At most `limit` of the videos that are listed for the actor, the newest first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn newest(
    rows: &dyn Rows,
    actor: &Actor,
    after: Option<Place>,
    limit: usize,
) -> Result<Page<Entry, Place>, Fault> {
    let read = |after: Option<&Place>, count: usize| {
        let page = NEWEST.page(rows, &(), after, Order::Down, count)?;
        Ok(page.into_iter().map(|(place, ())| place).collect())
    };
    page::filtered(after, limit, read, |place| listed(rows, actor, place))
}

/// At most `limit` of a channel's videos that are listed for the actor, the newest first.
///
/// # Errors
/// [`Refusal::NotFound`] if the actor may not know of the channel, [`Refusal::Fault`].
pub fn of_channel(
    rows: &dyn Rows,
    actor: &Actor,
    channel: ChannelId,
    after: Option<Place>,
    limit: usize,
) -> Result<Page<Entry, Place>, Refusal> {
    channels::queries::visible(rows, actor, channel)?;
    let read = |after: Option<&Place>, count: usize| {
        let after = after.map(|(time, video)| (channel, *time, *video));
        let page = NEWEST_OF_CHANNEL.page(rows, &channel, after.as_ref(), Order::Down, count)?;
        Ok(page.into_iter().map(|((_, time, video), ())| (time, video)).collect())
    };
    let show =
        |(_, id): &Place| Ok(entry(rows, *id)?.filter(|entry| entry.is_listed_in_channel(actor)));
    Ok(page::filtered(after, limit, read, show)?)
}

/// At most `limit` of a channel's videos in all states, the newest announcement first: for its
/// owner and moderators. Others get those that [`of_channel`] lists.
///
/// # Errors
/// [`Refusal::NotFound`] if the actor may not know of the channel, [`Refusal::Fault`].
pub fn all_of_channel(
    rows: &dyn Rows,
    actor: &Actor,
    channel: ChannelId,
    after: Option<VideoId>,
    limit: usize,
) -> Result<Page<Entry, VideoId>, Refusal> {
    channels::queries::visible(rows, actor, channel)?;
    let read = |after: Option<&VideoId>, count: usize| {
        let after = after.map(|video| (channel, *video));
        let page = BY_CHANNEL.page(rows, &channel, after.as_ref(), Order::Down, count)?;
        Ok(page.into_iter().map(|((_, video), ())| video).collect())
    };
    let show =
        |id: &VideoId| Ok(entry(rows, *id)?.filter(|entry| entry.is_listed_in_channel(actor)));
    Ok(page::filtered(after, limit, read, show)?)
}

/// At most `limit` of the videos of a category that are listed for the actor, the newest first.
///
/// # Errors
/// [`Refusal::NotFound`] if there is no such category, [`Refusal::Fault`].
pub fn by_category(
    rows: &dyn Rows,
    actor: &Actor,
    category: CategoryId,
    after: Option<Place>,
    limit: usize,
) -> Result<Page<Entry, Place>, Refusal> {
    categories::queries::category(rows, category)?;
    let read = |after: Option<&Place>, count: usize| {
        let after = after.map(|(time, video)| (category, *time, *video));
        let page = BY_CATEGORY.page(rows, &category, after.as_ref(), Order::Down, count)?;
        Ok(page.into_iter().map(|((_, time, video), ())| (time, video)).collect())
    };
    Ok(page::filtered(after, limit, read, |place| listed(rows, actor, place))?)
}

/// At most `limit` of the videos with a tag, or with one that means the same, that are listed for
/// the actor, the newest first.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn by_tag(
    rows: &dyn Rows,
    actor: &Actor,
    tag: &Tag,
    after: Option<Place>,
    limit: usize,
) -> Result<Page<Entry, Place>, Fault> {
    let spellings = tags::queries::spellings(rows, tag)?;
    let read = |after: Option<&Place>, count: usize| {
        let mut places = Vec::new();
        for spelling in &spellings {
            let after = after.map(|(time, video)| (spelling.clone(), *time, *video));
            let page = BY_TAG.page(rows, spelling, after.as_ref(), Order::Down, count)?;
            places.extend(page.into_iter().map(|((_, time, video), ())| (time, video)));
        }
        // Each spelling has given its first ones, so the first ones of all are among them.
        places.sort_unstable_by(|a: &Place, b| b.cmp(a));
        places.dedup();
        places.truncate(count);
        Ok(places)
    };
    page::filtered(after, limit, read, |place| listed(rows, actor, place))
}

fn listed(rows: &dyn Rows, actor: &Actor, place: &Place) -> Result<Option<Entry>, Fault> {
    Ok(entry(rows, place.1)?.filter(|entry| entry.is_listed(actor)))
}

/// At most `limit` tags of public videos that begin with a text, or mean the same as one that
/// begins so, with the numbers of their videos, the most frequent first. Of the tags that begin
/// with more than [`SHORT`] characters, at most [`page::EXAMINED`] are compared.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn complete_tag(
    rows: &dyn Rows,
    beginning: &str,
    limit: usize,
) -> Result<Vec<TagCount>, Fault> {
    let beginning = folded(beginning.trim_start());
    let mut candidates = Vec::new();
    for (_, merged) in tags::queries::page(rows, &beginning, None, limit)? {
        candidates.push(merged.into);
    }
    if beginning.chars().count() <= SHORT {
        // Several of them may mean the same.
        let popular = POPULAR_TAGS.page(rows, &beginning, None, Order::Up, 2 * limit)?;
        for ((_, _, key), ()) in popular {
            candidates.extend(TAGS.get(rows, &key)?.map(|row| row.tag));
        }
    } else {
        let prefix = Beginning(&beginning);
        let mut found = TAGS.page(rows, &prefix, None, Order::Up, page::EXAMINED)?;
        found.sort_by_key(|(_, row)| std::cmp::Reverse(row.videos));
        candidates.extend(found.into_iter().take(2 * limit).map(|(_, row)| row.tag));
    }
    let mut completions = Vec::<TagCount>::new();
    for candidate in candidates {
        let tag = tags::queries::meaning(rows, &candidate)?;
        let key = folded(tag.as_str());
        if completions.iter().any(|other| folded(other.tag.as_str()) == key) {
            continue;
        }
        let mut videos = 0;
        for spelling in tags::queries::spellings(rows, &tag)? {
            videos += TAGS.get(rows, &spelling)?.map_or(0, |row| row.videos);
        }
        completions.extend((videos > 0).then_some(TagCount { tag, videos }));
    }
    completions.sort_by_key(|completion| std::cmp::Reverse(completion.videos));
    completions.truncate(limit);
    Ok(completions)
}

/// At most `limit` videos that are to be published by `now`, the longest due first. Videos of
/// deleted channels are among them.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn due(rows: &dyn Rows, now: Time, limit: usize) -> Result<Vec<VideoId>, Fault> {
    let due = DUE.page(rows, &(), None, Order::Up, limit)?;
    let due = due.into_iter().take_while(|((time, _), ())| *time <= now);
    Ok(due.map(|((_, video), ())| video).collect())
}

/// When the next video is to be published, if one is scheduled that can be.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn next_due(rows: &dyn Rows) -> Result<Option<Time>, Fault> {
    let first = DUE.page(rows, &(), None, Order::Up, 1)?;
    Ok(first.first().map(|((time, _), ())| *time))
}

/// At most `limit` videos of deleted channels with their channels, whose deletion is not an event
/// yet: there is work for `video.delete_orphans`.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn orphans(rows: &dyn Rows, limit: usize) -> Result<Vec<(ChannelId, VideoId)>, Fault> {
    let mut orphans = Vec::new();
    for (channel, ()) in ORPHANED.page(rows, &(), None, Order::Up, limit)? {
        let left = limit - orphans.len();
        if left == 0 {
            break;
        }
        let videos = BY_CHANNEL.page(rows, &channel, None, Order::Up, left)?;
        orphans.extend(videos.into_iter().map(|(key, ())| key));
    }
    Ok(orphans)
}

/// The events of a listed video are for everybody, and so is the deletion of a video, which names
/// nothing but its identifier. Other events are for the owner and moderators.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    let id = envelope.subject.parse().ok();
    Ok(match id.map(|id| entry(rows, id)).transpose()?.flatten() {
        Some(entry) if entry.is_listed(&Actor::Anonymous) => Audience::Anyone,
        Some(entry) => Audience::OwnerAndModerators(entry.channel.owner),
        None if envelope.kind == DELETED => Audience::Anyone,
        None => Audience::Administrators,
    })
}

/// The videos of a person's channels, in all states.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn export(person: &ExportOf<'_>, after: Option<&[u8]>) -> Result<Portion, Fault> {
    let rows = person.rows;
    let after = export::after::<(ChannelId, VideoId)>(BY_CHANNEL.name(), after)?;
    let mut found = Vec::new();
    for channel in channels::queries::of_owner(rows, person.id)? {
        // Channels are in the order of their keys.
        if after.is_some_and(|(last, _)| channel < last) {
            continue;
        }
        let limit = export::PORTION - found.len();
        let page = BY_CHANNEL.page(rows, &channel, after.as_ref(), Order::Up, limit)?;
        for (key, ()) in page {
            let video = VIDEOS.get(rows, &key.1)?;
            found.push((key, video.map(|video| shared(key.1, &video)).transpose()?));
        }
        if found.len() == export::PORTION {
            break;
        }
    }
    Ok(Portion::page(found))
}

/// A video in an export, without its password.
fn shared(id: VideoId, video: &Video) -> Result<Value, Fault> {
    Ok(json!({
        "id": id,
        "channel": video.channel,
        "details": export::json(&video.details)?,
        "state": video.state.name(),
        "published": video.state.published(),
        "publish_at": video.publish_at,
        "announced": video.announced,
        "changed": video.changed,
    }))
}

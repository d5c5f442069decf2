//! The lists of videos: by time, channel, category and tag, and those that are due. An entry exists
//! exactly while the video's state and visibility ask for it.

use serde::{Deserialize, Serialize};

use crate::{
    id::{CategoryId, ChannelId, VideoId},
    rows::{Fault, RowsMut},
    table::Table,
    text::{Tag, folded},
    time::Time,
};

/// Videos that can be published, and the time for which this is scheduled.
pub const DUE: Table<(Time, VideoId), ()> = Table::new("videos.due");
/// Listed videos by the time of their publication.
pub const NEWEST: Table<(Time, VideoId), ()> = Table::new("videos.newest");
/// Listed videos of a channel.
pub const NEWEST_OF_CHANNEL: Table<(ChannelId, Time, VideoId), ()> =
    Table::new("videos.newest_of_channel");
/// Listed videos with a tag, by its folded form.
pub const BY_TAG: Table<(String, Time, VideoId), ()> = Table::new("videos.by_tag");
/// Listed videos of a category.
pub const BY_CATEGORY: Table<(CategoryId, Time, VideoId), ()> = Table::new("videos.by_category");
/// Tags of public videos by their folded form.
pub const TAGS: Table<String, TagCount> = Table::new("videos.tags");
/// Tags of public videos by the beginning of their folded form, of at most [`SHORT`] characters,
/// and by the difference of their count to the greatest number: the most frequent first.
pub const POPULAR_TAGS: Table<(String, u64, String), ()> = Table::new("videos.popular_tags");

/// The longest beginning of a tag in [`POPULAR_TAGS`]. Fewer tags have longer ones in common.
pub const SHORT: usize = 2;

/// A tag and the number of public videos that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCount {
    /// The tag, as the first of these videos has it.
    pub tag: Tag,
    /// The number of videos.
    pub videos: u64,
}

/// The places of a video in lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// When it is to be published, if it can be.
    pub(super) due: Option<Time>,
    /// Its place in the lists of published videos.
    pub(super) listing: Option<Listing>,
}

/// The place of a video in the lists of published videos.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// When it was published.
    pub(super) at: Time,
    /// Its channel.
    pub(super) channel: ChannelId,
    /// Its category.
    pub(super) category: Option<CategoryId>,
    /// Its tags.
    pub(super) tags: Vec<Tag>,
    /// Whether its tags are counted: everybody sees it.
    pub(super) is_public: bool,
}

/// Replaces the places of a video.
pub(super) fn update(
    rows: &mut dyn RowsMut,
    video: VideoId,
    before: &Entries,
    after: &Entries,
) -> Result<(), Fault> {
    if before.due != after.due {
        if let Some(time) = before.due {
            DUE.remove(rows, &(time, video))?;
        }
        if let Some(time) = after.due {
            DUE.put(rows, &(time, video), &())?;
        }
    }
    if before.listing != after.listing {
        if let Some(listing) = &before.listing {
            take_out(rows, video, listing)?;
        }
        if let Some(listing) = &after.listing {
            list(rows, video, listing)?;
        }
    }
    Ok(())
}

fn list(rows: &mut dyn RowsMut, video: VideoId, listing: &Listing) -> Result<(), Fault> {
    let at = listing.at;
    NEWEST.put(rows, &(at, video), &())?;
    NEWEST_OF_CHANNEL.put(rows, &(listing.channel, at, video), &())?;
    if let Some(category) = listing.category {
        BY_CATEGORY.put(rows, &(category, at, video), &())?;
    }
    for tag in &listing.tags {
        BY_TAG.put(rows, &(folded(tag.as_str()), at, video), &())?;
        if listing.is_public {
            count(rows, tag, |videos| videos + 1)?;
        }
    }
    Ok(())
}

fn take_out(rows: &mut dyn RowsMut, video: VideoId, listing: &Listing) -> Result<(), Fault> {
    let at = listing.at;
    NEWEST.remove(rows, &(at, video))?;
    NEWEST_OF_CHANNEL.remove(rows, &(listing.channel, at, video))?;
    if let Some(category) = listing.category {
        BY_CATEGORY.remove(rows, &(category, at, video))?;
    }
    for tag in &listing.tags {
        BY_TAG.remove(rows, &(folded(tag.as_str()), at, video))?;
        if listing.is_public {
            count(rows, tag, |videos| videos.saturating_sub(1))?;
        }
    }
    Ok(())
}

/// Changes the count of a tag.
fn count(rows: &mut dyn RowsMut, tag: &Tag, change: impl FnOnce(u64) -> u64) -> Result<(), Fault> {
    let key = folded(tag.as_str());
    let row = TAGS.get(rows, &key)?;
    let before = row.as_ref().map_or(0, |row| row.videos);
    let tag = row.map_or_else(|| tag.clone(), |row| row.tag);
    let after = change(before);
    for beginning in beginnings(&key) {
        POPULAR_TAGS.remove(rows, &(beginning.clone(), u64::MAX - before, key.clone()))?;
        if after > 0 {
            POPULAR_TAGS.put(rows, &(beginning, u64::MAX - after, key.clone()), &())?;
        }
    }
    match after {
        0 => TAGS.remove(rows, &key),
        videos => TAGS.put(rows, &key, &TagCount { tag, videos }),
    }
}

/// The beginnings of a text of at most [`SHORT`] characters, the empty one included.
fn beginnings(text: &str) -> impl Iterator<Item = String> {
    (0..=SHORT.min(text.chars().count())).map(|length| text.chars().take(length).collect())
}

//! A video or a channel as the index holds it, read from the tables. The rules of who may find it
//! are the domain's; the index keeps their result to look at fewer entries, and each answer checks
//! it again.

use control_domain::{
    Actor, Fault, Refusal, Role, Rows, Time,
    features::{
        channels, follows, reactions, tags,
        videos::{self, details::Details},
    },
    id::{AccountId, ChannelId, VideoId},
    text::folded,
};
use uuid::Uuid;

use super::{analysis, place::Place};

/// A thing that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Thing {
    /// A video.
    Video(VideoId),
    /// A channel.
    Channel(ChannelId),
}

impl Thing {
    /// The thing of this kind with this identifier.
    pub(super) fn of(is_channel: bool, id: Uuid) -> Self {
        match is_channel {
            true => Self::Channel(ChannelId::new(id)),
            false => Self::Video(VideoId::new(id)),
        }
    }

    /// Whether it is a channel.
    pub(crate) fn is_channel(self) -> bool {
        matches!(self, Self::Channel(_))
    }

    /// Its identifier.
    pub(super) fn id(self) -> Uuid {
        match self {
            Self::Video(id) => id.uuid(),
            Self::Channel(id) => id.uuid(),
        }
    }

    /// The key of its entry.
    pub(super) fn key(self) -> String {
        format!("i:{}{}", if self.is_channel() { 'c' } else { 'v' }, self.id().simple())
    }
}

/// The entry of a thing.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) thing: Thing,
    /// Its texts, by the place at which a word counts.
    pub(super) texts: Vec<(Place, String)>,
    /// Terms that are compared as a whole.
    pub(super) keys: Vec<String>,
    /// When it was published or made.
    pub(super) at: Time,
    /// See [`popularity`].
    pub(super) popularity: u8,
}

impl Entry {
    /// The entry of a thing, as the tables are now; `None` if there is no such thing.
    ///
    /// # Errors
    /// A [`Fault`] of the tables.
    pub(super) fn read(rows: &dyn Rows, thing: Thing) -> Result<Option<Self>, Fault> {
        match thing {
            Thing::Video(id) => match videos::queries::video(rows, id) {
                Ok(entry) => Self::of_video(rows, entry).map(Some),
                Err(Refusal::Fault(fault)) => Err(fault),
                Err(_) => Ok(None),
            },
            Thing::Channel(id) => {
                let channel = channels::queries::find(rows, id)?;
                channel.map(|channel| Self::of_channel(rows, id, channel)).transpose()
            }
        }
    }

    /// The entry of a video.
    pub(super) fn of_video(rows: &dyn Rows, entry: videos::queries::Entry) -> Result<Self, Fault> {
        let thing = Thing::Video(entry.id);
        let counts = reactions::queries::counts(rows, entry.id)?;
        let mut keys = keys(thing, entry.video.channel, entry.channel.owner, |actor| {
            (entry.is_listed(actor), entry.is_listed_in_channel(actor))
        });
        let videos::queries::Entry { video, channel, .. } = entry;
        let at = video.state.published().unwrap_or(video.announced);
        let Details { title, description, tags, category, language, .. } = video.details;
        keys.push(exact(title.as_str()));
        keys.extend(category.map(category_key));
        keys.extend(language.iter().flat_map(|language| language_keys(language.as_str())));
        let mut texts = vec![
            (Place::Title, String::from(title)),
            (Place::Description, String::from(description)),
            (Place::Channel, channel.title),
        ];
        texts.extend(spoken(channel.name).map(|name| (Place::Channel, name)));
        for tag in tags.iter() {
            keys.push(tag_key(&folded(tag.as_str())));
            let meaning = tags::queries::meaning(rows, tag)?;
            if meaning != *tag {
                texts.push((Place::Tag, meaning.into()));
            }
            texts.push((Place::Tag, tag.as_str().to_owned()));
        }
        Ok(Self { thing, texts, keys, at, popularity: popularity(counts.likes) })
    }

    /// The entry of a channel.
    pub(super) fn of_channel(
        rows: &dyn Rows,
        id: ChannelId,
        channel: channels::queries::Channel,
    ) -> Result<Self, Fault> {
        let thing = Thing::Channel(id);
        let followers = follows::queries::followers(rows, id)?;
        let mut keys = keys(thing, id, channel.owner, |actor| {
            let is_listed = channels::queries::is_listed(&channel, actor);
            (is_listed, is_listed)
        });
        keys.push(exact(&channel.title));
        keys.push(exact(&channel.name));
        keys.dedup();
        let mut texts =
            vec![(Place::Title, channel.title), (Place::Description, channel.description)];
        texts.extend(spoken(channel.name).map(|name| (Place::Title, name)));
        Ok(Self { thing, texts, keys, at: channel.created, popularity: popularity(followers) })
    }

    /// The number of bytes of its texts and keys.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.texts.iter().map(|(_, text)| text.len()).sum::<usize>();
        texts + self.keys.iter().map(String::len).sum::<usize>()
    }
}

/// The name of a channel, and if it is cut into words by signs, the name without them: people type
/// it as one word, too.
fn spoken(name: String) -> impl Iterator<Item = String> {
    let whole = name.replace(['-', '_'], "");
    let is_cut = whole.len() < name.len() && !whole.is_empty();
    [name].into_iter().chain(is_cut.then_some(whole))
}

/// The popularity that the entry of a thing has now.
///
/// # Errors
/// A [`Fault`] of the tables.
pub(super) fn popularity_of(rows: &dyn Rows, thing: Thing) -> Result<u8, Fault> {
    let count = match thing {
        Thing::Video(id) => reactions::queries::counts(rows, id)?.likes,
        Thing::Channel(id) => follows::queries::followers(rows, id)?,
    };
    Ok(popularity(count))
}

/// The number of doublings of a count of likes or followers, from 0 for none. The entry is written
/// again only when it changes, which a popular video does rarely.
fn popularity(count: u64) -> u8 {
    // At most 64.
    u8::try_from(u64::BITS - count.leading_zeros()).unwrap_or(u8::MAX)
}

/// The keys of every thing. `listed`: whether an actor finds it, among all things and among those
/// of its channel.
fn keys(
    thing: Thing,
    channel: ChannelId,
    owner: AccountId,
    listed: impl Fn(&Actor) -> (bool, bool),
) -> Vec<String> {
    let mut keys = vec![
        thing.key(),
        kind_key(thing.is_channel()).to_owned(),
        channel_key(channel),
        owner_key(owner),
    ];
    // Somebody who owns nothing.
    let somebody = Actor::Person { id: AccountId::new(Uuid::nil()), role: Role::Viewer };
    for (actor, everywhere, in_channel) in [
        (Actor::Anonymous, EVERYBODY, EVERYBODY_IN_CHANNEL),
        (somebody, SIGNED_IN, SIGNED_IN_IN_CHANNEL),
    ] {
        let (is_listed, is_listed_in_channel) = listed(&actor);
        keys.extend(is_listed.then(|| everywhere.to_owned()));
        keys.extend(is_listed_in_channel.then(|| in_channel.to_owned()));
    }
    keys
}

/// The key of things that everybody finds.
pub(super) const EVERYBODY: &str = "a:everybody";
/// The key of things that everybody finds within their channel.
pub(super) const EVERYBODY_IN_CHANNEL: &str = "a:everybody-in-channel";
/// The key of things that everybody finds who is signed in.
pub(super) const SIGNED_IN: &str = "a:signed-in";
/// The key of things that everybody finds within their channel who is signed in.
pub(super) const SIGNED_IN_IN_CHANNEL: &str = "a:signed-in-in-channel";

/// The key of an account's own things.
pub(super) fn owner_key(owner: AccountId) -> String {
    format!("a:{}", owner.uuid().simple())
}

/// The key of videos, or of channels.
pub(super) fn kind_key(is_channel: bool) -> &'static str {
    if is_channel { "k:channel" } else { "k:video" }
}

/// The key of a channel and of its videos.
pub(super) fn channel_key(channel: ChannelId) -> String {
    format!("h:{}", channel.uuid().simple())
}

/// The key of the videos of a category.
pub(super) fn category_key(category: control_domain::id::CategoryId) -> String {
    format!("c:{}", category.uuid().simple())
}

/// The key of the videos that have a tag, by its folded form.
pub(super) fn tag_key(folded: &str) -> String {
    format!("t:{folded}")
}

/// The key of the videos in a language: a tag of BCP 47, or its first parts.
pub(super) fn language_key(range: &str) -> String {
    format!("l:{}", range.to_ascii_lowercase())
}

/// The keys of a language and of each beginning of its parts (RFC 4647 3.3.1).
fn language_keys(tag: &str) -> impl Iterator<Item = String> {
    let ends = tag.match_indices('-').map(|(end, _)| end).chain([tag.len()]);
    ends.map(|end| language_key(&tag[..end]))
}

/// The key of things whose title has these words and no others.
pub(super) fn exact(title: &str) -> String {
    format!("e:{}", analysis::joined(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_found_by_the_beginnings_of_its_parts() {
        let keys = language_keys("zh-Hant-TW").collect::<Vec<_>>();
        assert_eq!(keys, ["l:zh", "l:zh-hant", "l:zh-hant-tw"]);
    }

    #[test]
    fn popularity_grows_with_each_doubling() {
        let counts = [0, 1, 2, 3, 4, 1023, 1024, u64::MAX];
        assert_eq!(counts.map(popularity), [0, 1, 2, 2, 3, 10, 11, 64]);
    }
}

//! The things of a platform that fixtures name, and the check of a whole file before anything is
//! made.

use std::collections::{BTreeMap, BTreeSet};

use control_domain::{
    Actor, Fault as Failure, Refusal, Role, Rows, Time, Vault,
    features::{accounts, categories, channels, videos},
    id::{AccountId, CategoryId, ChannelId, VideoId},
    text::{CategoryName, ChannelName, DisplayName, folded},
};

use super::{fixtures::Fixtures, when::When};
use crate::{identity::password::Password, problem::Fault};

/// Faults of one file that are reported.
const MAX_FAULTS: usize = 20;

/// Things that exist, by the keys that fixtures have for them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By folded name.
    pub(super) people: BTreeMap<String, (AccountId, Role)>,
    /// By folded address.
    pub(super) by_email: BTreeMap<String, AccountId>,
    /// By folded name.
    pub(super) categories: BTreeMap<String, CategoryId>,
    /// By name in lower case.
    pub(super) channels: BTreeMap<String, ChannelId>,
    /// By channel and folded title.
    pub(super) videos: BTreeMap<(ChannelId, String), VideoId>,
}

impl Known {
    /// Looks up all things that the fixtures name.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) fn of(
        rows: &dyn Rows,
        vault: &dyn Vault,
        fixtures: &Fixtures,
    ) -> Result<Self, Failure> {
        let mut known = Self::default();
        for person in &fixtures.people {
            let id = accounts::queries::by_email(rows, vault, &person.email)?;
            known.by_email.extend(id.map(|id| (person.email.folded(), id)));
            // The owner of the address is the person of this entry, whatever the name is now.
            known.add_person(rows, person.name.as_str(), id)?;
        }
        let named = fixtures.channels.iter().map(|channel| &channel.owner);
        let named = named.chain(fixtures.follows.iter().map(|follow| &follow.person));
        for name in named.chain(fixtures.reactions.iter().map(|reaction| &reaction.person)) {
            if !known.people.contains_key(&folded(name.as_str())) {
                let id = accounts::queries::by_name(rows, vault, name)?;
                known.add_person(rows, name.as_str(), id)?;
            }
        }
        for (id, category) in categories::queries::all(rows)? {
            known.categories.insert(folded(category.name.as_str()), id);
        }
        let named = fixtures.channels.iter().map(|channel| &channel.name);
        let named = named.chain(fixtures.videos.iter().map(|video| &video.channel));
        let named = named.chain(fixtures.follows.iter().map(|follow| &follow.channel));
        for name in named.chain(fixtures.reactions.iter().map(|reaction| &reaction.channel)) {
            let id = channels::queries::by_name(rows, name)?;
            known.channels.extend(id.map(|id| (Self::key_of(name), id)));
        }
        let of_videos = fixtures.videos.iter().map(|video| &video.channel);
        let of_videos = of_videos.chain(fixtures.reactions.iter().map(|entry| &entry.channel));
        let of_videos = of_videos.filter_map(|name| known.channel(name)).collect::<BTreeSet<_>>();
        for channel in of_videos {
            known.add_videos(rows, channel)?;
        }
        Ok(known)
    }

    fn add_person(
        &mut self,
        rows: &dyn Rows,
        name: &str,
        id: Option<AccountId>,
    ) -> Result<(), Failure> {
        let Some(id) = id else { return Ok(()) };
        if let Some(account) = accounts::queries::account(rows, id)? {
            self.people.insert(folded(name), (id, account.role));
        }
        Ok(())
    }

    fn add_videos(&mut self, rows: &dyn Rows, channel: ChannelId) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = videos::queries::all_of_channel(rows, &Actor::System, channel, after, 100);
            let page = match page {
                Ok(page) => page,
                Err(Refusal::Fault(fault)) => return Err(fault),
                Err(_) => return Ok(()),
            };
            for entry in page.items {
                // Of several with one title, the oldest, which the fixtures have made.
                let key = (channel, folded(entry.video.details.title.as_str()));
                self.videos.insert(key, entry.id);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) fn key_of(channel: &ChannelName) -> String {
        channel.as_str().to_ascii_lowercase()
    }

    /// The category with a name.
    pub(super) fn category(&self, name: &CategoryName) -> Option<CategoryId> {
        self.categories.get(&folded(name.as_str())).copied()
    }

    /// The channel with a name.
    pub(super) fn channel(&self, name: &ChannelName) -> Option<ChannelId> {
        self.channels.get(&Self::key_of(name)).copied()
    }
}

/// The faults of a file, which is to be applied at `now`.
pub(super) fn faults(fixtures: &Fixtures, known: &Known, now: Time) -> Vec<Fault> {
    let mut check = Check { known, now, faults: Vec::new() };
    check.names(fixtures);
    check.people(fixtures);
    check.channels(fixtures);
    check.videos(fixtures);
    check.references(fixtures);
    check.faults.truncate(MAX_FAULTS);
    check.faults
}

struct Check<'a> {
    known: &'a Known,
    now: Time,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, pointer: String, detail: impl Into<std::borrow::Cow<'static, str>>) {
        self.faults.push(Fault { pointer: pointer.into(), detail: detail.into() });
    }

    /// Nothing stands twice in the file.
    fn names(&mut self, fixtures: &Fixtures) {
        let categories = fixtures.categories.iter().map(|category| folded(category.name.as_str()));
        self.unique(categories, |index| format!("/categories/{index}/name"));
        let names = fixtures.people.iter().map(|person| folded(person.name.as_str()));
        self.unique(names, |index| format!("/people/{index}/name"));
        let emails = fixtures.people.iter().map(|person| person.email.folded());
        self.unique(emails, |index| format!("/people/{index}/email"));
        let channels = fixtures.channels.iter().map(|channel| Known::key_of(&channel.name));
        self.unique(channels, |index| format!("/channels/{index}/name"));
        for (channel, entry) in fixtures.channels.iter().enumerate() {
            let keys = entry.stream_keys.iter().map(|key| key.name.to_string());
            self.unique(keys, |index| format!("/channels/{channel}/stream_keys/{index}/name"));
        }
        let titles = fixtures.videos.iter().map(|video| {
            format!("{}/{}", Known::key_of(&video.channel), folded(video.title.as_str()))
        });
        self.unique(titles, |index| format!("/videos/{index}/title"));
    }

    fn unique(&mut self, keys: impl Iterator<Item = String>, pointer: impl Fn(usize) -> String) {
        let mut seen = BTreeSet::new();
        for (index, key) in keys.enumerate() {
            if !seen.insert(key) {
                self.fault(pointer(index), "an earlier entry of the file has it, too");
            }
        }
    }

    fn people(&mut self, fixtures: &Fixtures) {
        for (index, person) in fixtures.people.iter().enumerate() {
            let at = |member: &str| format!("/people/{index}/{member}");
            if let Err(err) = Password::chosen(&person.password) {
                self.fault(at("password"), err.to_string());
            }
            self.past(person.registered.as_ref(), at("registered"));
        }
    }

    fn channels(&mut self, fixtures: &Fixtures) {
        for (index, channel) in fixtures.channels.iter().enumerate() {
            let at = |member: &str| format!("/channels/{index}/{member}");
            self.past(channel.created.as_ref(), at("created"));
            for (index, key) in channel.stream_keys.iter().enumerate() {
                let is_key = |secret: &String| {
                    let digit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
                    (16..=128).contains(&secret.len()) && secret.bytes().all(digit)
                };
                if !key.secret.as_ref().is_none_or(is_key) {
                    let words = "a stream key has 16 to 128 letters, digits, '-' and '_'";
                    self.fault(at(&format!("stream_keys/{index}/secret")), words);
                }
            }
        }
    }

    fn videos(&mut self, fixtures: &Fixtures) {
        let made = fixtures.categories.iter().map(|category| folded(category.name.as_str()));
        let made = made.collect::<BTreeSet<_>>();
        for (index, video) in fixtures.videos.iter().enumerate() {
            let at = |member: &str| format!("/videos/{index}/{member}");
            if let Some(category) = &video.category
                && self.known.category(category).is_none()
                && !made.contains(&folded(category.as_str()))
            {
                self.fault(at("category"), format!("there is no category {category}"));
            }
            let has_use = video.visibility == videos::details::Visibility::Password;
            match &video.password {
                Some(password) => {
                    if let Err(err) = Password::chosen(password) {
                        self.fault(at("password"), err.to_string());
                    }
                    if !has_use {
                        let words = "a password is for the visibility `password`";
                        self.fault(at("password"), words);
                    }
                }
                None if has_use => {
                    self.fault(at("password"), "the visibility `password` needs a password");
                }
                None => {}
            }
            self.past(video.published.as_ref(), at("published"));
            if video.published.is_some() && video.media.is_none() {
                self.fault(at("published"), "a video without `media` cannot be published");
            }
            if video.publish_at.is_some() && video.published.is_some() {
                self.fault(at("publish_at"), "the video is published already: see `published`");
            }
        }
    }

    /// Each thing that an entry names is in the file or exists.
    fn references(&mut self, fixtures: &Fixtures) {
        let people = fixtures.people.iter().map(|person| folded(person.name.as_str()));
        let people = people.collect::<BTreeSet<_>>();
        let channels = fixtures.channels.iter().map(|channel| Known::key_of(&channel.name));
        let channels = channels.collect::<BTreeSet<_>>();
        let titles = fixtures
            .videos
            .iter()
            .map(|video| (Known::key_of(&video.channel), folded(video.title.as_str())));
        let titles = titles.collect::<BTreeSet<_>>();
        let has_person = |name: &DisplayName| {
            let key = folded(name.as_str());
            people.contains(&key) || self.known.people.contains_key(&key)
        };
        let has_channel = |name: &ChannelName| {
            channels.contains(&Known::key_of(name)) || self.known.channel(name).is_some()
        };
        let mut missing = Vec::new();
        let mut need_person = |name: &DisplayName, pointer: String| {
            if !has_person(name) {
                missing.push((pointer, format!("there is no person {name}")));
            }
        };
        for (index, channel) in fixtures.channels.iter().enumerate() {
            need_person(&channel.owner, format!("/channels/{index}/owner"));
        }
        for (index, follow) in fixtures.follows.iter().enumerate() {
            need_person(&follow.person, format!("/follows/{index}/person"));
        }
        for (index, reaction) in fixtures.reactions.iter().enumerate() {
            need_person(&reaction.person, format!("/reactions/{index}/person"));
        }
        let mut need_channel = |name: &ChannelName, pointer: String| {
            let is_known = has_channel(name);
            if !is_known {
                missing.push((pointer, format!("there is no channel {name}")));
            }
            is_known
        };
        for (index, video) in fixtures.videos.iter().enumerate() {
            need_channel(&video.channel, format!("/videos/{index}/channel"));
        }
        for (index, follow) in fixtures.follows.iter().enumerate() {
            need_channel(&follow.channel, format!("/follows/{index}/channel"));
        }
        let mut unseen = Vec::new();
        for (index, reaction) in fixtures.reactions.iter().enumerate() {
            let (channel, title) = (&reaction.channel, folded(reaction.video.as_str()));
            if !need_channel(channel, format!("/reactions/{index}/channel")) {
                continue;
            }
            let exists = self.known.channel(channel);
            let exists =
                exists.is_some_and(|id| self.known.videos.contains_key(&(id, title.clone())));
            if !exists && !titles.contains(&(Known::key_of(channel), title)) {
                let words = format!("channel {channel} has no video {}", reaction.video);
                unseen.push((format!("/reactions/{index}/video"), words));
            }
        }
        for (pointer, words) in missing.into_iter().chain(unseen) {
            self.fault(pointer, words);
        }
        for (index, reaction) in fixtures.reactions.iter().enumerate() {
            self.past(reaction.at.as_ref(), format!("/reactions/{index}/at"));
        }
        for (index, follow) in fixtures.follows.iter().enumerate() {
            self.past(follow.since.as_ref(), format!("/follows/{index}/since"));
        }
    }

    /// A thing that has happened did so before now.
    fn past(&mut self, when: Option<&When>, pointer: String) {
        if when.is_some_and(|when| when.at(self.now) > self.now) {
            self.fault(pointer, "it is in the future");
        }
    }
}

//! Whatever commands are sent, tables that are folded again from the log equal the live ones, also
//! after erasures, and also if one feature alone is folded again.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::super::{
    ALL, accounts, api_keys, audit, categories, channels, follows, permissions, pictures,
    reactions, sessions, stream_keys, tags, videos, views, webhooks,
};
use crate::{
    actor::{Actor, Door, Role},
    command::{Command, Refusal},
    feature::{Feature, Folding, fold},
    id::{ApiKeyId, CategoryId, ChannelId, NodeId, SessionId, StreamKeyId, VideoId, WebhookId},
    password::PasswordHash,
    rows::{MemoryRows, RowsMut as _},
    scenario::Scenario,
    time::Time,
};

/// The features whose commands are all sent here.
const COVERED: &[&Feature] = &[
    &accounts::FEATURE,
    &sessions::FEATURE,
    &api_keys::FEATURE,
    &channels::FEATURE,
    &stream_keys::FEATURE,
    &categories::FEATURE,
    &tags::FEATURE,
    &videos::FEATURE,
    &follows::FEATURE,
    &reactions::FEATURE,
    &views::FEATURE,
    &webhooks::FEATURE,
    &audit::FEATURE,
    &pictures::FEATURE,
];

/// A step: its kind, and three numbers that choose its things and its values.
type Step = (u8, u8, u8, u8);

/// The number of kinds.
const KINDS: u8 = 57;

/// A platform on which steps are taken. It remembers all things that ever existed, so that commands
/// are sent about deleted ones, too.
#[derive(Default)]
struct Platform {
    scenario: Scenario,
    sent: BTreeSet<&'static str>,
    carried_out: BTreeSet<&'static str>,
    people: Vec<Actor>,
    channels: Vec<(ChannelId, Actor)>,
    keys: Vec<(StreamKeyId, Actor)>,
    sessions: Vec<(SessionId, Actor)>,
    api_keys: Vec<(ApiKeyId, Actor)>,
    videos: Vec<(VideoId, Actor)>,
    categories: Vec<CategoryId>,
    webhooks: Vec<(WebhookId, Actor)>,
    batch: u64,
}

fn pick<T: Copy>(things: &[T], number: u8) -> Option<T> {
    (!things.is_empty()).then(|| things[usize::from(number) % things.len()])
}

fn tag(number: u8) -> crate::text::Tag {
    ["News", "news", "Films", "cinema", "movies"][usize::from(number) % 5].parse().expect("a tag")
}

fn of_channel(number: u8) -> channels::events::Visibility {
    use channels::events::Visibility::{Members, Private, Public, Unlisted};
    [Public, Public, Unlisted, Private, Members][usize::from(number) % 5]
}

fn of_video(number: u8) -> videos::details::Visibility {
    use videos::details::Visibility::{Internal, Members, Password, Private, Public, Unlisted};
    let all = [Public, Public, Public, Unlisted, Private, Members, Internal, Password];
    all[usize::from(number) % all.len()]
}

impl Platform {
    /// Sends a command. A refusal is as good as a success, a fault is none.
    fn send<C: Command>(&mut self, actor: Actor, command: &C) -> Option<C::Done> {
        self.sent.insert(C::NAME);
        match self.scenario.send(actor, command) {
            Ok(done) => {
                self.carried_out.insert(C::NAME);
                Some(done)
            }
            Err(Refusal::Fault(fault)) => panic!("{}: {fault}", C::NAME),
            Err(_) => None,
        }
    }

    fn step(&mut self, (kind, a, b, c): Step) -> Option<()> {
        match kind % KINDS {
            0..=9 => self.about_people(kind % KINDS, a, b, c),
            10..=19 => self.about_channels(kind % KINDS, a, b, c),
            20..=31 => self.about_videos(kind % KINDS, a, b, c),
            40..=47 => self.about_sessions(kind % KINDS, a, b, c),
            48..=51 => self.about_webhooks(kind % KINDS, a, b, c),
            52..=53 => self.about_operations(kind % KINDS, a, b, c),
            54..=55 => self.about_views(a, b, c),
            56 => self.about_pictures(a, b, c),
            kind => self.about_lists(kind, a, b, c),
        }
    }

    fn about_sessions(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use accounts::commands::{Bootstrap, ExpirePassword};
        use sessions::{commands::*, events::Reason};
        if kind == 47 {
            let bootstrap = Bootstrap {
                name: format!("n{}", a % 8).parse().expect("a name"),
                email: format!("{}@example.org", b % 8).parse().expect("an address"),
                password: PasswordHash(format!("$argon2id${c}")),
            };
            let id = self.send(Actor::System, &bootstrap)??;
            self.people.push(Actor::Person { id, role: Role::Administrator });
            return Some(());
        }
        let actor = pick(&self.people, a)?;
        let account = actor.account()?;
        let except = pick(&self.sessions, c).map(|(session, _)| session);
        match kind {
            40 => {
                let device = format!("device {b}").parse().expect("a name");
                let session =
                    self.send(Actor::System, &Start { account, device, password: None })?;
                self.sessions.push((session, actor));
            }
            41 => {
                let (session, owner) = pick(&self.sessions, b)?;
                self.send(owner, &End { session, reason: Reason::SignedOut })?;
            }
            42 => {
                self.send(actor, &EndOthers { account, except, reason: Reason::Revoked })?;
            }
            43 => {
                let password = PasswordHash(format!("$argon2id${b}"));
                self.send(actor, &ChangePassword { account, password, except })?;
            }
            44 => {
                let add = api_keys::commands::AddKey {
                    account,
                    name: format!("key {}", b % 8).parse().expect("a name"),
                    digest: stream_keys::events::KeyDigest([c; 32]),
                    scopes: crate::scope::Scope::ALL
                        .into_iter()
                        .take(1 + usize::from(c) % 5)
                        .collect(),
                    expires: c.is_multiple_of(2).then(|| Time::from_millis(4_000_000_000_000)),
                };
                let key = self.send(actor, &add)?;
                self.api_keys.push((key, actor));
            }
            45 => {
                let (key, owner) = pick(&self.api_keys, b)?;
                self.send(owner, &api_keys::commands::RevokeKey { key })?;
            }
            _ => self.send(Actor::System, &ExpirePassword { account })?,
        }
        Some(())
    }

    fn about_operations(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use audit::{commands::*, events::Outcome};
        let people = pick(&self.people, a).into_iter();
        let doors = Door::ALL.into_iter().map(Actor::Operator).chain([Actor::System]);
        let actor = pick(&people.chain(doors).collect::<Vec<_>>(), b)?;
        let outcome = Outcome::of(c.is_multiple_of(2));
        let reason = c.is_multiple_of(3).then(|| "it was loud".parse().expect("a reason"));
        if kind == 52 {
            let channel = format!("c{}", b % 8).parse().expect("a channel name");
            return self.send(actor, &EndStream { channel, outcome, reason });
        }
        let record = Record {
            operation: "log_level.set".parse().expect("a name"),
            subject: "log_level".parse().expect("a subject"),
            outcome,
            value: c.is_multiple_of(5).then(|| "debug".parse().expect("a value")),
            reason,
        };
        self.send(actor, &record)
    }

    fn about_people(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use accounts::commands::*;
        let (name, email) = (format!("n{}", a % 8), format!("{}@example.org", b % 8));
        let (name, email) = (name.parse().expect("a name"), email.parse().expect("an address"));
        let password = PasswordHash(format!("$argon2id${c}"));
        match kind {
            0 => {
                let register = Register { name, email, password };
                let id = self.send(Actor::Anonymous, &register)?;
                self.people.push(Actor::Person { id, role: Role::Viewer });
                return Some(());
            }
            1 | 2 => {
                let role = Role::ALL[usize::from(c) % 4].max(Role::Creator);
                let id = self.send(Actor::System, &Add { name, email, password, role })?;
                self.people.push(Actor::Person { id, role });
                return Some(());
            }
            _ => {}
        }
        let actor = pick(&self.people, a)?;
        let account = actor.account()?;
        match kind {
            3 => {
                let about = Some(format!("About {b}").parse().expect("a text"));
                self.send(actor, &EditProfile { account, name: Some(name), about })
            }
            4 => self.send(actor, &SetPassword { account, password }),
            5 => self.send(Actor::System, &VerifyEmail { account }),
            6 => self.send(actor, &ChangeEmail { account, email }),
            7 => {
                let role = Role::ALL[usize::from(c) % 4];
                self.send(Actor::System, &ChangeRole { account, role })
            }
            8 => {
                self.send(actor, &Erase { account })?;
                self.scenario.vault.erase(account);
                Some(())
            }
            _ => {
                self.scenario.wait(Duration::from_secs(u64::from(b)));
                Some(())
            }
        }
    }

    fn about_channels(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use channels::{commands::*, settings};
        if kind <= 11 {
            let owner = pick(&self.people, a)?;
            let name = format!("c{}", b % 8).parse().expect("a channel name");
            let (title, visibility) = ("A title".parse().expect("a title"), of_channel(c));
            let create = Create { owner: owner.account()?, name, title, visibility };
            let channel = self.send(owner, &create)?;
            self.channels.push((channel, owner));
            return Some(());
        }
        let (channel, owner) = pick(&self.channels, a)?;
        match kind {
            12 => {
                let title = Some(format!("Title {b}").parse().expect("a title"));
                let edits = channels::events::Edits {
                    title,
                    visibility: Some(of_channel(c)),
                    ..Default::default()
                };
                self.send(owner, &Edit { channel, edits })
            }
            13 => {
                let changes = settings::Changes {
                    recording: Some(b.is_multiple_of(2)),
                    category: Some(pick(&self.categories, c)),
                    ..Default::default()
                };
                self.send(owner, &ChangeSettings { channel, changes, expected: None })
            }
            14 => self.send(owner, &Delete { channel }),
            15 | 16 => {
                let digest = stream_keys::events::KeyDigest([b; 32]);
                let name = format!("key {c}").parse().expect("a name");
                let add = stream_keys::commands::AddKey { channel, name, digest };
                let key = self.send(owner, &add)?;
                self.keys.push((key, owner));
                Some(())
            }
            17 => {
                let (key, owner) = pick(&self.keys, b)?;
                self.send(owner, &stream_keys::commands::RevokeKey { key })
            }
            18 => {
                use follows::events::Notices::{All, None, Some};
                let notices = [All, Some, None][usize::from(c) % 3];
                let follow = follows::commands::Follow { channel, notices };
                self.send(pick(&self.people, b)?, &follow)
            }
            _ => self.send(pick(&self.people, b)?, &follows::commands::Unfollow { channel }),
        }
    }

    fn about_videos(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use videos::{commands::*, details, processing::*, state};
        let visibility = of_video(c);
        let password = (visibility == details::Visibility::Password)
            .then(|| PasswordHash(format!("$argon2id${b}")));
        let tags = || vec![tag(a), tag(b)].try_into().expect("two tags");
        if kind <= 21 {
            let (channel, owner) = pick(&self.channels, a)?;
            let details = details::Details {
                title: format!("Title {b}").parse().expect("a title"),
                description: String::new().try_into().expect("a text"),
                tags: tags(),
                category: pick(&self.categories, b),
                language: None,
                visibility,
                chapters: Vec::new().try_into().expect("no chapters"),
            };
            let video = self.send(owner, &Announce { channel, details, password })?;
            self.videos.push((video, owner));
            return Some(());
        }
        let (video, owner) = pick(&self.videos, a)?;
        let media = state::Media { duration_ms: u64::from(b), width: None, height: None };
        let (uploaded, processed) =
            (FinishUpload { video, bytes: u64::from(b) }, FinishProcessing { video, media });
        match kind {
            22 => {
                let edits = details::Edits {
                    tags: Some(tags()),
                    category: Some(pick(&self.categories, b)),
                    visibility: Some(visibility),
                    ..Default::default()
                };
                self.send(owner, &Edit { video, edits, password, expected: None })
            }
            23 | 24 => {
                self.send(owner, &StartUpload { video })?;
                self.send(Actor::System, &uploaded)?;
                self.send(Actor::System, &processed)
            }
            25 => self.send(owner, &StartUpload { video }),
            26 => {
                let (cause, reason) = (state::Cause::Media, "No picture".parse().expect("words"));
                self.send(Actor::System, &Fail { video, cause, reason })
            }
            27 => self.send(owner, &Publish { video, at: None }),
            28 => {
                let at = Time::from_millis(self.scenario.now().as_millis() + u64::from(b) * 100);
                self.send(owner, &Publish { video, at: Some(at) })
            }
            29 => match b % 4 {
                0 => self.send(owner, &Delete { video }),
                _ => self.send(owner, &Unpublish { video }),
            },
            _ => {
                use reactions::{
                    commands::React,
                    events::Reaction::{Dislike, Like},
                };
                let reaction = [Like, Like, Dislike][usize::from(c) % 3];
                self.send(pick(&self.people, b)?, &React { video, reaction })
            }
        }
    }

    fn about_lists(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use categories::commands::*;
        let system = Actor::System;
        let category = pick(&self.categories, a);
        let name = format!("c{}", b % 8).parse().expect("a name");
        match kind {
            32 => {
                let make = Make { name, translations: Default::default() };
                let category = self.send(system, &make)?;
                self.categories.push(category);
                Some(())
            }
            33 => {
                let category = category?;
                let rename =
                    Rename { category, name: Some(name), translations: None, expected: None };
                self.send(system, &rename)
            }
            34 => match c % 4 {
                0 => self.send(system, &Remove { category: category? }),
                1 => self.send(system, &MakeStartSet),
                _ => self.send(system, &Move { category: category?, position: u32::from(b % 4) }),
            },
            35 => self.send(system, &tags::commands::Merge { tag: tag(a), into: tag(b) }),
            36 => self.send(system, &tags::commands::Separate { tag: tag(a) }),
            37 => {
                let (video, _) = pick(&self.videos, a)?;
                self.send(pick(&self.people, b)?, &reactions::commands::Withdraw { video })
            }
            38 => self.send(system, &videos::commands::PublishDue),
            _ => {
                self.send(system, &channels::commands::DeleteOrphans)?;
                self.send(system, &videos::commands::DeleteOrphans)
            }
        }
    }

    fn about_webhooks(&mut self, kind: u8, a: u8, b: u8, c: u8) -> Option<()> {
        use webhooks::{commands::*, events::Cause};
        let url = format!("https://h{b}.example.org/in").parse().expect("an address");
        let secret = format!("whsec_{}", "QUJD".repeat(8)).parse().expect("a secret");
        if kind <= 49 {
            let actor = if c.is_multiple_of(4) { Actor::System } else { pick(&self.people, a)? };
            let types = webhooks::filter::TypeFilter::default();
            let create = Create { owner: actor.account(), url, types, secret };
            let webhook = self.send(actor, &create)?;
            self.webhooks.push((webhook, actor));
            return Some(());
        }
        let (webhook, owner) = pick(&self.webhooks, a)?;
        match (kind, c % 6) {
            (50, 0..=2) => {
                let types = vec!["streamforge.video.*".to_owned()].try_into().expect("a type");
                let edits = Edits { url: Some(url), types: Some(types) };
                self.send(owner, &Edit { webhook, edits })
            }
            (50, _) => self.send(owner, &RotateSecret { webhook, secret }),
            (_, 0) => self.send(owner, &Disable { webhook }),
            (_, 1) => self.send(Actor::System, &GiveUp { webhook, cause: Cause::Failing }),
            (_, 2) => self.send(owner, &Delete { webhook }),
            _ => self.send(owner, &Enable { webhook }),
        }
    }

    fn about_views(&mut self, a: u8, b: u8, c: u8) -> Option<()> {
        use views::commands::{Count, Record, Subject};
        let channel = pick(&self.channels, a).map(|(channel, _)| Subject::Channel(channel));
        let video = pick(&self.videos, b).map(|(video, _)| Subject::Video(video));
        let (minute, views) = (self.scenario.now(), u64::from(c));
        let count = |subject| Count { subject, minute, views, watched_ms: 1_000 * views };
        let counts = channel.into_iter().chain(video).map(count).collect();
        let node = NodeId::new(uuid::Uuid::from_u128(u128::from(c % 2)));
        // Now and then a batch is sent again, or late.
        self.batch += u64::from(!b.is_multiple_of(4));
        self.send(Actor::System, &Record { node, batch: self.batch, counts })
    }

    fn about_pictures(&mut self, a: u8, b: u8, c: u8) -> Option<()> {
        use pictures::{commands::*, events::PictureHash};
        // A name is of one owner and one use.
        let name = |owner: uuid::Uuid, purpose: u8| {
            let mut hash = [0; 32];
            hash[..16].copy_from_slice(owner.as_bytes());
            hash[16] = purpose;
            hash[17] = b % 3;
            (!b.is_multiple_of(5)).then_some(PictureHash(hash))
        };
        if c.is_multiple_of(3) {
            let person = pick(&self.people, a)?;
            let account = person.account()?;
            return self.send(person, &ChangeAvatar { account, avatar: name(account.uuid(), 0) });
        }
        let (channel, owner) = pick(&self.channels, a)?;
        match c % 3 {
            1 => {
                let avatar = name(channel.uuid(), 1);
                self.send(owner, &ChangeChannelAvatar { channel, avatar })
            }
            _ => self.send(owner, &ChangeBanner { channel, banner: name(channel.uuid(), 2) }),
        }
    }

    /// The live tables after the tables of one feature were dropped and folded again.
    fn rebuilt_alone(&self, feature: &'static Feature) -> MemoryRows {
        let mut rows = MemoryRows::default();
        let others = ALL.iter().filter(|other| other.name != feature.name);
        for table in others.flat_map(|other| other.tables) {
            for (key, value) in self.scenario.rows.rows(table) {
                rows.put(table, key, value).expect("memory");
            }
        }
        for envelope in &self.scenario.log {
            let mut folding = Folding { rows: &mut rows, vault: &self.scenario.vault };
            fold(&[feature], &mut folding, envelope).expect("it was folded before");
        }
        rows
    }
}

/// Steps that make things first, so that later ones find some.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let makers = prop::sample::select(vec![1_u8, 2, 10, 11, 20, 21, 23, 27, 32]);
    let first = prop::collection::vec((makers, any::<u8>(), any::<u8>(), any::<u8>()), 20..40);
    let then = prop::collection::vec(any::<Step>(), 20..120);
    (first, then).prop_map(|(first, then)| [first, then].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn folded_again_equals_live(steps in steps()) {
        let mut platform = Platform::default();
        for step in steps {
            platform.step(step);
        }
        prop_assert_eq!(platform.scenario.rebuilt(), platform.scenario.rows.clone());
        for feature in ALL {
            let rebuilt = platform.rebuilt_alone(feature);
            prop_assert!(rebuilt == platform.scenario.rows, "{} differs", feature.name);
        }
        platform.assert_counts();
    }
}

#[test]
fn all_commands_of_these_features_are_sent_and_carried_out() {
    let mut platform = Platform::default();
    // Numbers of a simple generator, so that the test is the same each time.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    for _ in 0..6_000 {
        // Erasures and deletions are rarer, so that something remains.
        let step = (next(), next(), next(), next());
        if !(matches!(step.0 % KINDS, 8 | 14) && step.3 > 40) {
            platform.step(step);
        }
    }
    let all = COVERED.iter().flat_map(|feature| feature.permissions);
    let all = all.map(|permission| permission.command).collect::<BTreeSet<_>>();
    let known = permissions().map(|permission| permission.command).collect::<BTreeSet<_>>();
    assert!(all.is_subset(&known));
    // The permissions of queries are no commands.
    let is_query = |name: &str| {
        let verb = name.split('.').nth(1).unwrap_or_default();
        ["list", "show", "show_settings", "show_analytics", "export", "admit_viewers", "deliver"]
            .contains(&verb)
    };
    let missing = all.difference(&platform.carried_out).filter(|name| !is_query(name));
    assert_eq!(missing.collect::<Vec<_>>(), [] as [&&str; 0], "never carried out");
    assert_eq!(platform.scenario.rebuilt(), platform.scenario.rows);
    platform.assert_counts();
}

impl Platform {
    /// Counts equal the numbers of rows.
    fn assert_counts(&self) {
        let rows = &self.scenario.rows;
        let all = 10_000;
        for (channel, _) in &self.channels {
            let followers = follows::queries::of_channel(rows, *channel, None, all);
            let count = follows::queries::followers(rows, *channel).expect("memory");
            assert_eq!(count, followers.expect("memory").len() as u64);
            let videos = videos::tables::BY_CHANNEL;
            let listed = videos.page(rows, channel, None, crate::rows::Order::Up, all);
            let count = videos::queries::count(rows, *channel).expect("memory");
            assert_eq!(count, listed.expect("memory").len() as u64);
        }
        // No list has a video that is deleted, although queries would leave it out.
        for (_, id) in self.indexed() {
            assert!(self.has_video(id), "{id} is listed");
        }
        for (video, _) in &self.videos {
            let reactions = reactions::tables::REACTIONS;
            let listed = reactions.page(rows, video, None, crate::rows::Order::Up, all);
            let counts = reactions::queries::counts(rows, *video).expect("memory");
            assert_eq!(counts.likes + counts.dislikes, listed.expect("memory").len() as u64);
        }
    }

    /// The entries of all lists of videos.
    fn indexed(&self) -> Vec<(Time, VideoId)> {
        use videos::index::{BY_CATEGORY, BY_TAG, DUE, NEWEST, NEWEST_OF_CHANNEL};
        let (rows, up, all) = (&self.scenario.rows, crate::rows::Order::Up, 10_000);
        let mut entries = DUE.page(rows, &(), None, up, all).expect("memory");
        entries.extend(NEWEST.page(rows, &(), None, up, all).expect("memory"));
        let mut entries = entries.into_iter().map(|(place, ())| place).collect::<Vec<_>>();
        let of_channels = NEWEST_OF_CHANNEL.page(rows, &(), None, up, all).expect("memory");
        entries.extend(of_channels.into_iter().map(|((_, time, id), ())| (time, id)));
        let by_tag = BY_TAG.page(rows, &(), None, up, all).expect("memory");
        entries.extend(by_tag.into_iter().map(|((_, time, id), ())| (time, id)));
        let by_category = BY_CATEGORY.page(rows, &(), None, up, all).expect("memory");
        entries.extend(by_category.into_iter().map(|((_, time, id), ())| (time, id)));
        entries
    }

    fn has_video(&self, id: VideoId) -> bool {
        videos::tables::VIDEOS.contains(&self.scenario.rows, &id).expect("memory")
    }
}

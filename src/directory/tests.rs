use std::{fs, path::PathBuf, time::Duration};

use control_domain::{
    Actor, Command, Role,
    features::{
        accounts::commands::{Add, Erase, PasswordHash},
        channels::{
            commands::{Create, Delete, Edit},
            events::{Edits, Visibility as V},
        },
        stream_keys::{
            commands::{AddKey, RevokeKey},
            events::KeyDigest as Digest,
        },
    },
    id::{AccountId, StreamKeyId},
};
use tokio::{task::JoinHandle, time::timeout};

use super::*;

/// A platform with its directory, which follows it.
struct Site {
    platform: Platform,
    directory: Directory,
    subjects: mpsc::Receiver<Uuid>,
    stop: CancellationToken,
    following: JoinHandle<()>,
    folder: PathBuf,
}

impl Site {
    async fn new(name: &str) -> Self {
        let name = format!("streamforge-directory-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let (directory, stop) = (Directory::new(platform.clone()), CancellationToken::new());
        let (withdrawn, subjects) = mpsc::channel(8);
        let following = tokio::spawn(directory.clone().follow(stop.clone(), withdrawn));
        Self { platform, directory, subjects, stop, following, folder }
    }

    async fn send<C: Command<Done: 'static> + 'static>(&self, command: C) -> C::Done {
        self.platform.send(Actor::System, command).await.expect("it is permitted").done
    }

    async fn account(&self, name: &str) -> AccountId {
        self.send(Add {
            name: name.parse().expect("a name"),
            email: format!("{name}@example.org").parse().expect("an address"),
            password: PasswordHash("$argon2id$secret".to_owned()),
            role: Role::Creator,
        })
        .await
    }

    async fn channel(&self, owner: AccountId, name: &str, visibility: V) -> ChannelId {
        let (name, title) = (name.parse().expect("a name"), "A title".parse().expect("a title"));
        self.send(Create { owner, name, title, visibility }).await
    }

    async fn key(&self, channel: ChannelId, text: &str) -> StreamKeyId {
        let (name, digest) = (text.parse().expect("a name"), KeyDigest::of(text).bytes());
        self.send(AddKey { channel, name, digest: Digest(digest) }).await
    }

    async fn grant(&self, key: &str) -> Option<Grant> {
        self.directory.grant(key).await.expect("the tables can be read")
    }

    /// Waits until the directory shows whether a channel is private.
    async fn until_private(&self, name: &str, expected: bool) {
        let name = name.parse().expect("a name");
        let shown = async {
            while self.directory.is_private(&name) != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), shown).await.expect("the directory follows the events");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_stored_key_grants_its_channel_until_it_is_revoked() {
    let mut site = Site::new("revoked").await;
    let ada = site.account("ada").await;
    let channel = site.channel(ada, "ada", V::Public).await;
    let key = site.key(channel, "first").await;
    site.key(channel, "second").await;
    assert!(site.grant("third").await.is_none());
    let first = site.grant("first").await.expect("the key is stored");
    let second = site.grant("second").await.expect("the key is stored");
    assert_eq!(first.channel.as_str(), "ada");
    assert_eq!(site.directory.0.rights.len(), 2);

    site.send(RevokeKey { key }).await;
    first.withdrawn.cancelled().await;
    assert_eq!(site.subjects.recv().await, Some(key.uuid()));
    assert!(!second.withdrawn.is_cancelled());
    assert!(site.grant("first").await.is_none());
    drop((first, second));
    assert_eq!(site.directory.0.rights.len(), 0, "rights stay although nobody publishes");
}

#[tokio::test]
async fn the_end_of_a_channel_or_account_ends_its_publishers() {
    let site = Site::new("ends").await;
    let (ada, eve) = (site.account("ada").await, site.account("eve").await);
    let mut grants = Vec::new();
    for (owner, name) in [(ada, "one"), (ada, "two"), (eve, "three")] {
        let channel = site.channel(owner, name, V::Public).await;
        site.key(channel, name).await;
        grants.push((channel, site.grant(name).await.expect("the key is stored")));
    }
    site.send(Delete { channel: grants[0].0 }).await;
    grants[0].1.withdrawn.cancelled().await;
    assert!(!grants[1].1.withdrawn.is_cancelled());
    site.send(Erase { account: ada }).await;
    grants[1].1.withdrawn.cancelled().await;
    assert!(site.grant("two").await.is_none());
    assert!(!grants[2].1.withdrawn.is_cancelled());
}

#[tokio::test]
async fn private_channels_are_known_from_the_start_and_followed() {
    let site = Site::new("private").await;
    let (ada, eve) = (site.account("ada").await, site.account("eve").await);
    let one = site.channel(ada, "one", V::Private).await;
    site.channel(ada, "two", V::Unlisted).await;
    site.channel(eve, "three", V::Members).await;
    site.until_private("one", true).await;
    site.until_private("three", true).await;
    site.until_private("two", false).await;
    let edit = |visibility| Edit {
        channel: one,
        edits: Edits { visibility: Some(visibility), ..Edits::default() },
    };
    site.send(edit(V::Public)).await;
    site.until_private("one", false).await;
    site.send(edit(V::Private)).await;
    site.until_private("one", true).await;

    // Another directory reads them at its start.
    let second = Directory::new(site.platform.clone());
    let (withdrawn, _subjects) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let following = tokio::spawn(second.clone().follow(stop.clone(), withdrawn));
    while !second.is_private(&"three".parse().expect("a name")) {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    following.await.expect("it stops");
    site.send(Erase { account: eve }).await;
    site.until_private("three", false).await;
}

#[tokio::test]
async fn a_directory_keeps_what_it_knows_when_the_database_is_closed() {
    let site = Site::new("closed").await;
    let ada = site.account("ada").await;
    let channel = site.channel(ada, "one", V::Private).await;
    site.key(channel, "first").await;
    let grant = site.grant("first").await.expect("the key is stored");
    site.until_private("one", true).await;
    // The directory, which waits for events, does not delay it.
    site.platform.close().await;
    assert!(site.directory.is_private(&"one".parse().expect("a name")));
    assert!(matches!(site.directory.grant("first").await, Err(LookupError::Closed)));
    assert!(!grant.withdrawn.is_cancelled());
    // A message of the process that has the database now.
    assert_eq!(site.directory.withdraw(ada.uuid()), 1);
    assert!(grant.withdrawn.is_cancelled());
    site.stop.cancel();
    let mut site = site;
    (&mut site.following).await.expect("it stops");
}

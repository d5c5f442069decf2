use std::{env, fs, path::Path, sync::atomic::AtomicUsize, sync::atomic::Ordering};

use control_domain::{
    Role,
    features::{
        accounts::commands::{Add, PasswordHash},
        pictures::{commands::ChangeAvatar, queries},
    },
    id::ChannelId,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;

/// A maker that waits for permits, and counts its pictures.
struct Slow {
    permits: Semaphore,
    begun: AtomicUsize,
}

impl PictureMaker for Slow {
    fn make<'a>(&'a self, picture: Bytes, sizes: &'static [Size]) -> Making<'a> {
        Box::pin(async move {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.expect("it is open").forget();
            Ok(vec![picture; sizes.len()])
        })
    }
}

struct Site {
    folder: PathBuf,
    platform: Platform,
    maker: Arc<Slow>,
    pictures: Pictures,
    ada: Actor,
}

impl Site {
    async fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("sf-pictures-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let platform = Platform::default();
        platform.open(&folder).await.expect("the folder can be written");
        let add = Add {
            name: "ada".parse().expect("a name"),
            email: "ada@example.org".parse().expect("an address"),
            password: PasswordHash("$argon2id$".to_owned()),
            role: Role::Viewer,
        };
        let id = platform.send(Actor::System, add).await.expect("a free name").done;
        let maker = Arc::new(Slow { permits: Semaphore::new(0), begun: AtomicUsize::new(0) });
        let pictures = Pictures::new(platform.clone(), maker.clone(), folder.clone());
        Self { folder, platform, maker, pictures, ada: Actor::Person { id, role: Role::Viewer } }
    }

    fn account(&self) -> AccountId {
        self.ada.account().expect("a person")
    }

    async fn set(&self, picture: &'static [u8]) -> Result<PictureHash, Problem> {
        let account = self.account();
        let command = move |avatar| ChangeAvatar { account, avatar };
        let set = self.pictures.set(self.ada, Use::Avatar(account), picture.into(), command);
        set.await.map(|(name, _)| name)
    }

    async fn shown(&self) -> Option<PictureHash> {
        let account = self.account();
        self.platform.read(|rows| queries::avatar(rows, account)).await.expect("the tables")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn files(folder: &Path) -> usize {
    let folders = fs::read_dir(folder.join(FOLDER)).into_iter().flatten();
    folders.map(|shard| fs::read_dir(shard.expect("an entry").path()).expect("it").count()).sum()
}

#[tokio::test]
async fn a_sender_has_one_picture_in_progress_and_others_are_not_delayed() {
    let site = Site::new("turns").await;
    let turn = site.pictures.begin(&site.ada).expect("the first");
    let refused = site.pictures.begin(&site.ada).err().expect("the second");
    assert_eq!(refused.kind(), Kind::RateLimited);
    assert!(site.pictures.begin(&Actor::System).is_ok());
    drop(turn);
    assert!(site.pictures.begin(&site.ada).is_ok());
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_nothing() {
    let site = Site::new("given-up").await;
    let limit = Duration::from_millis(20);
    assert!(tokio::time::timeout(limit, site.set(b"one")).await.is_err());
    assert_eq!(site.maker.begun.load(Ordering::SeqCst), 1);
    assert_eq!((site.shown().await, files(&site.folder)), (None, 0));
}

#[tokio::test]
async fn unused_files_are_removed_at_the_start_and_after_a_refused_command() {
    let site = Site::new("unused").await;
    site.maker.permits.add_permits(9);
    let first = site.set(b"one").await.expect("a picture");
    assert_eq!((site.shown().await, files(&site.folder)), (Some(first), 3));
    // As after a crash between the files and the command, of another use.
    let lost = PictureHash([7; 32]);
    site.pictures.0.files.write(lost, &[(48, Bytes::from_static(b"x"))]).expect("a file");
    assert_eq!(files(&site.folder), 4);
    site.pictures.sweep(None).await.expect("the files");
    assert_eq!(files(&site.folder), 3);
    assert!(site.pictures.file(first, 48).await.expect("it").is_some());

    // The account is gone when its picture is ready.
    let account = site.account();
    let erase = control_domain::features::accounts::commands::Erase { account };
    site.platform.send(Actor::System, erase).await.expect("the operator");
    let refused = site.set(b"two").await.expect_err("it is erased");
    assert_eq!(refused.kind(), Kind::NotFound);
    assert_eq!(files(&site.folder), 0);
}

#[test]
fn all_pictures_of_one_use_are_in_one_folder_and_have_different_names() {
    let account = AccountId::new(Uuid::from_u128(7));
    let channel = ChannelId::new(Uuid::from_u128(7));
    let uses = [Use::Avatar(account), Use::ChannelAvatar(channel), Use::Banner(channel)];
    let names = uses.map(|purpose| purpose.name(b"content"));
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
    for purpose in uses {
        let [a, b] = [b"one", b"two"].map(|content| purpose.name(content));
        assert!(a != b && a.0[..2] == b.0[..2] && a.0[..2] == purpose.shard());
    }
}

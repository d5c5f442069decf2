use http::StatusCode;
use tokio::time::Instant;

use super::*;
use crate::edge::{budget::Budget, content::Content, freshness::Freshness};

const TARGET: &str = "/media/01890a5d-ac96-774b-bcce-b302099a8057/v0/1.m4s";
const FILE: &str = "01890a5d-ac96-774b-bcce-b302099a8057/v0.1.m4s";

/// A test's directory, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("streamforge-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn open(&self, limit: u64) -> Disk {
        Disk::open(&self.0, limit, 1 << 20, &Metrics::default()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn object(text: &str, lifetime_s: u64) -> Arc<Object> {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_static("\"1\""));
    headers.append("vary", HeaderValue::from_static("accept-encoding"));
    headers.append("vary", HeaderValue::from_static("origin"));
    headers.insert("content-type", HeaderValue::from_static("video/iso.segment"));
    let freshness =
        Freshness::kept(Duration::ZERO, Duration::from_secs(lifetime_s), Instant::now());
    let budget = Budget::new(1 << 20, Gauge::default());
    let content = Content::whole(Bytes::from(text.to_owned()), &budget);
    Arc::new(Object::new(StatusCode::OK, &headers, freshness, content))
}

/// Writes, and waits until the file exists.
async fn write(disk: &Disk, target: &str, text: &str) {
    disk.write(&target.into(), &object(text, 1_000), Duration::from_secs(5));
    until(|| disk.find(&target.into()).is_some()).await;
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come about");
}

#[tokio::test]
async fn an_object_survives_a_restart_with_its_headers_and_its_age() {
    let dir = Dir::new("survives");
    write(&dir.open(1 << 20), TARGET, "bytes").await;
    fs::write(dir.0.join("foreign"), "not ours").unwrap();
    fs::write(dir.0.join(FILE).with_file_name(".streamforge-1-1"), "half").unwrap();
    let disk = dir.open(1 << 20);
    until(|| disk.shared.index().bytes() > 0).await;
    let file = disk.read(&TARGET.into()).await.unwrap();
    assert_eq!((file.body, file.lifetime.as_secs()), (Bytes::from_static(b"bytes"), 1_000));
    assert!((5..20).contains(&file.age.as_secs()), "{:?}", file.age);
    assert_eq!(
        (&file.headers["etag"], &file.headers["content-type"]),
        (&HeaderValue::from_static("\"1\""), &HeaderValue::from_static("video/iso.segment"))
    );
    let vary: Vec<_> = file.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["accept-encoding", "origin"]);
    assert!(dir.0.join("foreign").exists());
    assert!(!dir.0.join(FILE).with_file_name(".streamforge-1-1").exists());
}

#[tokio::test]
async fn a_corrupt_file_or_one_of_another_object_is_removed() {
    let dir = Dir::new("torn");
    write(&dir.open(1 << 20), TARGET, "bytes of a segment").await;
    let path = dir.0.join(FILE);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut changed = good.clone();
    changed[good.len() - 12] ^= 1;
    let other = String::from_utf8_lossy(&good).replace("v0/1.m4s", "v0/2.m4s").into_bytes();
    for bad in
        [&good[..good.len() - 1], &good[1..], &good[..7], &[], &flipped, &changed, &other, &[0; 99]]
    {
        fs::write(&path, bad).unwrap();
        let disk = dir.open(1 << 20);
        until(|| disk.shared.index().bytes() > 0).await;
        assert!(disk.read(&TARGET.into()).await.is_none());
        assert!(!path.exists());
        assert_eq!(disk.shared.index().bytes(), 0);
        assert!(!disk.shared.off.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn the_disk_limit_is_kept_by_evicting_the_least_recently_used_files() {
    let dir = Dir::new("bound");
    let disk = dir.open(40 << 10);
    let path = |n: usize| TARGET.replace("/1.m4s", &format!("/{n}.m4s"));
    for n in 0..20 {
        write(&disk, &path(n), &"x".repeat(4_000)).await;
        assert!(disk.find(&path(0).into()).is_some(), "after {n}");
        assert!(disk.read(&path(0).into()).await.is_some(), "after {n}");
    }
    until(|| fs::read_dir(dir.0.join(FILE).parent().unwrap()).unwrap().count() <= 5).await;
    assert!(disk.read(&path(1).into()).await.is_none());
    // A smaller limit applies from the next start on.
    drop(disk);
    let disk = dir.open(10 << 10);
    until(|| disk.shared.index().bytes() > 0 && disk.shared.index().bytes() <= 10 << 10).await;
}

#[tokio::test]
async fn a_failing_disk_cache_is_disabled() {
    let dir = Dir::new("fails");
    let disk = dir.open(1 << 20);
    let other = "/media/01890a5d-ac96-774b-bcce-b302099a8058/v0/1.m4s";
    write(&disk, other, "bytes").await;
    // A file in place of a directory, which fails for root, too.
    fs::write(dir.0.join(FILE).parent().unwrap(), "in the way").unwrap();
    let object = object("bytes", 1_000);
    disk.write(&TARGET.into(), &object, Duration::ZERO);
    until(|| disk.shared.off.load(Ordering::Relaxed)).await;
    until(|| disk.find(&other.into()).is_none()).await;
    // Requests find nothing on the disk, so that they go to the origin; objects in memory stay.
    for target in [TARGET, other] {
        assert!(disk.find(&target.into()).is_none());
        assert!(disk.read(&target.into()).await.is_none());
    }
    disk.write(&TARGET.into(), &object, Duration::ZERO);
    assert!(disk.find(&TARGET.into()).is_none());
    assert_eq!(object.content.rope().map(|rope| rope.len()), Some("bytes".len()));
    // A cache that cannot be used from the start is disabled.
    let file = dir.0.join("file");
    fs::write(&file, "").unwrap();
    assert!(Disk::open(&file, 1 << 20, 1 << 20, &Metrics::default()).is_none());
}

#[test]
fn a_stale_file_is_not_read() {
    let born = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let mut bytes = format!("{MAGIC}\n{TARGET}\n100\n50\netag: \"1\"\n\nbody").into_bytes();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    let at = |seconds| parse(TARGET, bytes.clone().into(), born + Duration::from_secs(seconds));
    assert_eq!(at(49).unwrap().age.as_secs(), 49);
    assert!(at(50).is_none());
    assert_eq!(
        parse(TARGET, bytes.clone().into(), SystemTime::UNIX_EPOCH).unwrap().age.as_secs(),
        0
    );
}

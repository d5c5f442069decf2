//! The disk of `data_dir`: its free space, sampled at intervals on a thread where it may block,
//! because a disk may hang.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use control_api::health::{Check, Finding};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};

use crate::blocking;

/// Free bytes below which the disk is nearly full: 256 MiB, in which the database can write for a
/// while.
const LEAST_FREE: u64 = 256 << 20;
/// Age of a sample from which the disk does not respond.
const HANGS: Duration = Duration::from_secs(30);

/// The space of a disk in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    /// Available to the daemon's user.
    free: u64,
    /// Of the whole file system.
    size: u64,
}

/// A result of reading the space.
#[derive(Debug)]
struct Sample {
    at: Instant,
    space: Result<Space, String>,
}

/// The disk. Clones share the newest sample.
#[derive(Clone)]
pub(super) struct Disk(Arc<Shared>);

/// Reads the space of a folder's disk.
type Read = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

struct Shared {
    path: PathBuf,
    read: Box<Read>,
    created: Instant,
    newest: ArcSwapOption<Sample>,
    /// Whether a thread reads the space now: there is one at a time, also if the disk hangs.
    is_reading: AtomicBool,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Disk {
    /// The disk of a folder, which may not exist yet.
    pub(super) fn new(path: &Path) -> Self {
        Self::reading(path, space)
    }

    fn reading(
        path: &Path,
        read: impl Fn(&Path) -> io::Result<Space> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            path: path.to_owned(),
            read: Box::new(read),
            created: Instant::now(),
            newest: ArcSwapOption::empty(),
            is_reading: AtomicBool::new(false),
        }))
    }

    /// Adds the metrics to a registry whose prefix is the product's name.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Reads the space. Does nothing while an earlier call still waits for the disk.
    pub(super) async fn sample(&self) {
        if self.0.is_reading.swap(true, Ordering::Acquire) {
            return;
        }
        let shared = Arc::clone(&self.0);
        blocking::run(move || {
            let space = (shared.read)(&shared.path).map_err(|error| error.to_string());
            shared.newest.store(Some(Arc::new(Sample { at: Instant::now(), space })));
            shared.is_reading.store(false, Ordering::Release);
        })
        .await;
    }

    fn finding(&self, now: Instant) -> Finding {
        let newest = self.0.newest.load_full();
        let at = newest.as_ref().map_or(self.0.created, |sample| sample.at);
        let age = now.saturating_duration_since(at);
        let path = self.0.path.display();
        if age > HANGS {
            return Finding::Degraded(format!(
                "the disk of data_dir ({path}) has not responded for {} s",
                age.as_secs()
            ));
        }
        match newest.as_deref().map(|sample| &sample.space) {
            None => Finding::Ok,
            Some(Err(error)) => {
                Finding::Degraded(format!("the disk of data_dir ({path}) fails: {error}"))
            }
            Some(Ok(space)) if space.free < LEAST_FREE => Finding::Degraded(format!(
                "the disk of data_dir ({path}) is nearly full: {} MiB are free",
                space.free >> 20
            )),
            Some(Ok(_)) => Finding::Ok,
        }
    }
}

impl Check for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn check(&self) -> Finding {
        self.finding(Instant::now())
    }
}

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let newest = self.0.newest.load_full();
        // A value that cannot be read is absent: 0 would look like a measurement.
        let Some(Ok(space)) = newest.as_deref().map(|sample| &sample.space) else {
            return Ok(());
        };
        let values = [
            ("disk_free", "Free space of the disk of data_dir", space.free),
            ("disk_size", "Size of the disk of data_dir", space.size),
        ];
        for (name, help, bytes) in values {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            let unit = Some(&Unit::Bytes);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The space of the file system of a folder, or of its nearest parent that exists: statvfs(3).
fn space(path: &Path) -> io::Result<Space> {
    let mut folder = path;
    loop {
        match rustix::fs::statvfs(folder) {
            Ok(found) => {
                let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
                return Ok(Space { free: bytes(found.f_bavail), size: bytes(found.f_blocks) });
            }
            Err(error) => match folder.parent() {
                Some(parent) if error == rustix::io::Errno::NOENT => {
                    // The parent of a relative path with one part is the current folder.
                    let is_empty = parent.as_os_str().is_empty();
                    folder = if is_empty { Path::new(".") } else { parent };
                }
                _ => return Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use prometheus_client::encoding::text;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_is_nearly_full_or_fails_is_degraded_until_it_has_room() {
        let free = Arc::new(Mutex::new(Ok(LEAST_FREE)));
        let given = Arc::clone(&free);
        let disk = Disk::reading(Path::new("/data"), move |_| match *given.lock().unwrap() {
            Ok(free) => Ok(Space { free, size: 1 << 30 }),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        });
        assert_eq!(disk.check(), Finding::Ok, "nothing is known yet");
        disk.sample().await;
        assert_eq!(disk.check(), Finding::Ok);
        *free.lock().unwrap() = Ok(LEAST_FREE - 1);
        disk.sample().await;
        let Finding::Degraded(words) = disk.check() else { panic!("{:?}", disk.check()) };
        assert_eq!(words, "the disk of data_dir (/data) is nearly full: 255 MiB are free");
        let mut registry = Registry::with_prefix("streamforge");
        disk.register(&mut registry);
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        let line = format!("\nstreamforge_disk_free_bytes {}\n", LEAST_FREE - 1);
        assert!(written.contains(&line), "{written}");
        // EIO
        *free.lock().unwrap() = Err(5);
        disk.sample().await;
        assert!(matches!(disk.check(), Finding::Degraded(words) if words.contains("Input/output")));
        *free.lock().unwrap() = Ok(LEAST_FREE);
        disk.sample().await;
        assert_eq!(disk.check(), Finding::Ok);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_takes_one_thread_and_is_degraded() {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Mutex::new(hang);
        let disk = Disk::reading(Path::new("/data"), move |_| {
            let _ = hang.lock().unwrap().recv();
            Ok(Space { free: u64::MAX, size: u64::MAX })
        });
        let first = tokio::spawn({
            let disk = disk.clone();
            async move { disk.sample().await }
        });
        while !disk.0.is_reading.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        // Returns at once, because a thread waits already.
        disk.sample().await;
        let later = Instant::now() + HANGS + Duration::from_secs(1);
        assert!(matches!(disk.finding(later), Finding::Degraded(words) if words.contains("31 s")));
        release.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(disk.check(), Finding::Ok);
    }

    #[test]
    fn the_space_of_a_folder_that_does_not_exist_is_that_of_its_parent() {
        let found = space(Path::new("/proc/self/not/there")).unwrap();
        assert_eq!(found, space(Path::new("/proc")).unwrap());
        assert!(space(Path::new("not-there")).unwrap().size > 0);
    }
}

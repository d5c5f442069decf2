//! Avatars and banners: decoded and made small by another process ([`PictureMaker`]), kept as files
//! under their hash, and removed when no account or channel shows them any more.
//!
//! A file is written before the command that names it is sent. One mutex is held from the first
//! file to the commit, and while unused files are removed, so that a new file is not removed as
//! unused. A crash between the two leaves files that the next start removes.

mod files;
mod purpose;
mod removals;

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use control_domain::{
    Actor, Command, Envelope, Fault, Rows, features::pictures::events::PictureHash, id::AccountId,
};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::files::Files;
pub use self::purpose::{Size, Use};
use crate::{
    Platform,
    problem::{Kind, Problem},
    store::{Begin, FollowError, Follower, Receipt},
};

/// The largest uploaded picture in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// The folder in that of the platform.
pub const FOLDER: &str = "pictures";
/// Pause of the removal of unused files after a fault.
const RETRY: Duration = Duration::from_secs(1);
/// Retry-After of a picture beyond the limits.
const RETRY_AFTER_S: u64 = 2;

/// Why a picture was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// The uploaded picture is at fault; the reason is for its sender.
    #[error("{0}")]
    Refused(String),
    /// Too many pictures are being made.
    #[error("too many pictures are being made")]
    Busy,
    /// The machine cannot make pictures; the reason is for the operator.
    #[error("pictures cannot be made: {0}")]
    Unavailable(String),
}

/// The pictures of all sizes, or the reason why there are none.
pub type Making<'a> = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, MakeError>> + Send + 'a>>;

/// Makes small pictures of an uploaded one, without its metadata.
pub trait PictureMaker: Send + Sync {
    /// The middle of a picture in each of these sizes, as JPEG.
    fn make<'a>(&'a self, picture: Bytes, sizes: &'static [Size]) -> Making<'a>;
}

/// The pictures of accounts and channels. Clones share them.
#[derive(Clone)]
pub struct Pictures(Arc<Shared>);

struct Shared {
    platform: Platform,
    maker: Arc<dyn PictureMaker>,
    files: Files,
    /// Held while files are written and named, and while unused ones are removed.
    turn: tokio::sync::Mutex<()>,
    /// The accounts whose pictures are being made.
    senders: Mutex<HashSet<Option<AccountId>>>,
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pictures").field("files", &self.0.files).finish_non_exhaustive()
    }
}

/// The turn of one sender, until it is dropped.
pub(crate) struct Turn {
    pictures: Pictures,
    sender: Option<AccountId>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pictures.senders().remove(&self.sender);
    }
}

impl Pictures {
    /// Pictures in the folder [`FOLDER`] of the platform's.
    pub fn new(platform: Platform, maker: Arc<dyn PictureMaker>, folder: PathBuf) -> Self {
        let files = Files::new(folder.join(FOLDER));
        let (turn, senders) = (tokio::sync::Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { platform, maker, files, turn, senders }))
    }

    fn senders(&self) -> std::sync::MutexGuard<'_, HashSet<Option<AccountId>>> {
        self.0.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the upload of a picture, before its body is read: a sender has one at a time.
    ///
    /// # Errors
    /// 429 if the sender has another one in progress.
    pub(crate) fn begin(&self, actor: &Actor) -> Result<Turn, Problem> {
        let sender = actor.account();
        match self.senders().insert(sender) {
            true => Ok(Turn { pictures: self.clone(), sender }),
            false => {
                let words = "another picture of this account is being made: send one at a time";
                Err(Problem::new(Kind::RateLimited, words).retry_after(RETRY_AFTER_S))
            }
        }
    }

    /// Makes a picture of an uploaded one, and carries out the command that names it.
    ///
    /// # Errors
    /// 422 if the uploaded picture is at fault, 503 if too many are in progress, and those of the
    /// command.
    pub(crate) async fn set<C>(
        &self,
        actor: Actor,
        purpose: Use,
        uploaded: Bytes,
        command: impl FnOnce(Option<PictureHash>) -> C,
    ) -> Result<(PictureHash, Receipt<C::Done>), Problem>
    where
        C: Command + 'static,
        C::Done: 'static,
    {
        let shared = &self.0;
        let made = shared.maker.make(uploaded, purpose.sizes()).await?;
        let largest = made.first().filter(|_| made.len() == purpose.sizes().len());
        let largest = largest.ok_or_else(|| MakeError::Unavailable("a size is missing".into()))?;
        let name = purpose.name(largest);
        let widths = purpose.sizes().iter().map(|(width, _)| *width);
        let files = widths.zip(made.iter().cloned()).collect::<Vec<_>>();
        let turn = shared.turn.lock().await;
        let folder = shared.files.clone();
        let written = spawn_blocking(move || folder.write(name, &files)).await;
        let written = written.map_err(|_| unwritable())?;
        written.map_err(|err| {
            error!(%err, "a picture cannot be written");
            unwritable()
        })?;
        let sent = shared.platform.send(actor, command(Some(name))).await;
        drop(turn);
        if sent.is_err()
            && let Err(err) = self.sweep(Some(purpose.shard())).await
        {
            warn!(%err, "files of a picture that is not in use remain until the next start");
        }
        Ok((name, sent?))
    }

    /// The file of a picture in the size of this width; `None` if there is none.
    pub(crate) async fn file(
        &self,
        name: PictureHash,
        width: u16,
    ) -> Result<Option<Bytes>, Problem> {
        let folder = self.0.files.clone();
        let read = spawn_blocking(move || folder.read(name, width)).await;
        match read {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(err)) => {
                error!(%err, "a picture cannot be read");
                Err(Problem::new(Kind::Internal, "the picture cannot be read"))
            }
            Err(_) => Err(Problem::new(Kind::Internal, "the picture cannot be read")),
        }
    }

    /// Removes files that nothing shows, until `stop` or until the platform's database closes.
    pub async fn serve(self, stop: CancellationToken) {
        let over = self.0.platform.ending().child_token();
        let mut removing = pin!(self.remove_unused(&over));
        tokio::select! {
            () = &mut removing => {}
            () = stop.cancelled() => {
                over.cancel();
                removing.await;
            }
        }
        // It ends earlier in a process that has handed over the database.
        stop.cancelled().await;
    }

    async fn remove_unused(&self, over: &CancellationToken) {
        while !over.is_cancelled() {
            if let Some(store) = self.0.platform.ready() {
                // After a crash or a restoration there may be unused files anywhere.
                if let Err(err) = self.sweep(None).await {
                    warn!(%err, "files of pictures that are not in use remain");
                }
                if let Err(err) = store.follow(&Removals(self), over).await {
                    error!(%err, "files of pictures are not removed: trying again");
                }
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Removes the unused files in one folder, or in all.
    async fn sweep(&self, shard: Option<[u8; 2]>) -> Result<(), SweepError> {
        let shared = &self.0;
        let folder = shared.files.clone();
        let shards = match shard {
            Some(shard) => vec![shard],
            None => spawn_blocking(move || folder.shards()).await??,
        };
        for shard in shards {
            let _turn = shared.turn.lock().await;
            let folder = shared.files.clone();
            let names = spawn_blocking(move || folder.names(shard)).await??;
            let Some(store) = shared.platform.ready() else { return Ok(()) };
            let unused = |rows: &dyn Rows| -> Result<Vec<PictureHash>, Fault> {
                let mut unused = Vec::new();
                for name in names {
                    if !control_domain::features::pictures::queries::holds(rows, name)? {
                        unused.push(name);
                    }
                }
                Ok(unused)
            };
            let unused = store.read(unused)??;
            let folder = shared.files.clone();
            spawn_blocking(move || folder.remove(shard, &unused)).await??;
        }
        Ok(())
    }
}

/// Why unused files were not removed.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("the files cannot be read or removed: {0}")]
    Files(#[from] std::io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Removes the files of pictures that an event has taken out of use.
struct Removals<'a>(&'a Pictures);

impl Follower for Removals<'_> {
    fn name(&self) -> &str {
        "pictures"
    }

    /// With the next event: the sweep before has removed what earlier ones left.
    fn begin(&self) -> Begin {
        Begin::Next
    }

    fn follows(&self, kind: &str) -> bool {
        removals::follows(kind)
    }

    async fn handle(&self, _: u64, envelope: &Envelope) -> Result<(), FollowError> {
        for purpose in removals::uses(envelope) {
            let swept = self.0.sweep(Some(purpose.shard())).await;
            swept.map_err(|err| FollowError::Again(err.into()))?;
        }
        Ok(())
    }
}

fn unwritable() -> Problem {
    let words = "the picture cannot be stored; the daemon's log has the reason";
    Problem::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
}

impl From<MakeError> for Problem {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Refused(reason) => Self::new(Kind::InvalidContent, reason),
            MakeError::Busy => {
                Self::new(Kind::Unavailable, "too many pictures are being made: try again later")
                    .retry_after(RETRY_AFTER_S)
            }
            MakeError::Unavailable(reason) => {
                error!(reason, "no picture can be made");
                let words = "this server cannot make pictures now; its log has the reason";
                Self::new(Kind::Unavailable, words).retry_after(RETRY_AFTER_S)
            }
        }
    }
}

#[cfg(test)]
mod tests;

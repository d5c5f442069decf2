//! The maintenance of the database: routes of the control socket alone, for the commands
//! `streamforge db`. They are not a part of the API, because they name files of the daemon's
//! machine and may take minutes.

use std::{io, path::PathBuf};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    routing::{get, post},
};
use control_domain::{Actor, Door};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::spawn_blocking};
use tracing::{info, warn};

use crate::{
    Platform,
    audit::Operation,
    content::{self, Content},
    identity::password::Hasher,
    platform::InUse,
    problem::{Kind, Problem},
    seed::{self, Fixtures, Seeded},
    store::{ArchiveError, RebuildError},
};

/// Bytes of an export that are sent at once, and the number of such pieces that may wait.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;
/// The sender of all these requests.
const OPERATOR: Actor = Actor::Operator(Door::Socket);
/// The greatest size of a file of fixtures in bytes.
pub const FIXTURES_BYTES: usize = 16 << 20;

/// The routes. `hasher` is for the passwords of fixtures.
pub fn routes(platform: Platform, hasher: Hasher) -> Router {
    let seeding = post(seed).layer(content::limit(FIXTURES_BYTES));
    let seeding = Router::new().route("/maintenance/seed", seeding);
    let seeding = seeding.with_state((platform.clone(), hasher));
    Router::new()
        .route("/maintenance/verification", post(verify))
        .route("/maintenance/rebuild", post(rebuild))
        .route("/maintenance/backup", post(backup))
        .route("/maintenance/export", get(export))
        .with_state(platform)
        .merge(seeding)
}

/// The result of a comparison of the tables with the log.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// The events that were read.
    pub events: u64,
    /// The rows that were compared.
    pub rows: u64,
    /// The faults in words. None: the database is sound.
    pub faults: Vec<String>,
}

/// The features whose tables to build again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// Their names. None: all.
    pub features: Vec<String>,
}

/// Where to write a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// A folder of the daemon's machine that has no backup, as an absolute path.
    pub folder: PathBuf,
}

async fn verify(State(platform): State<Platform>) -> Result<Json<Verification>, Problem> {
    let store = platform.store().await?;
    let found = blocking(move || store.verify()).await??;
    let (events, rows, faults) = (found.events, found.rows, found.faults);
    if !faults.is_empty() {
        warn!(faults = faults.len(), "the database is not sound: see `streamforge db verify`");
    }
    Ok(Json(Verification { events, rows, faults }))
}

async fn rebuild(
    State(platform): State<Platform>,
    Content(Rebuild { features }): Content<Rebuild>,
) -> Result<Json<serde_json::Value>, Problem> {
    let store = platform.store().await?;
    let names: Vec<&str> = features.iter().map(String::as_str).collect();
    let known: Vec<_> = control_domain::features::ALL.iter().map(|known| known.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let words = format!("there is no feature {unknown}: the features are {}", known.join(", "));
        return Err(Problem::new(Kind::InvalidContent, words));
    }
    let rebuilt = store.rebuild(&names).await?;
    info!(features = ?rebuilt, "tables are built again");
    let ready = store.ready().await;
    let operation = Operation::new("database.rebuild", &rebuilt.join(" ")).ended(ready.is_ok());
    operation.record(Some(&platform), OPERATOR).await;
    ready.map_err(|err: RebuildError| {
        Problem::new(Kind::Internal, format!("the tables cannot be built: {err}"))
    })?;
    Ok(Json(serde_json::json!({ "rebuilt": rebuilt })))
}

async fn backup(
    State(platform): State<Platform>,
    Content(Backup { folder }): Content<Backup>,
) -> Result<Json<serde_json::Value>, Problem> {
    if !folder.is_absolute() {
        return Err(Problem::new(Kind::InvalidContent, "the folder must be an absolute path"));
    }
    let store = platform.store().await?;
    let to = folder.clone();
    let written = blocking(move || store.backup(&to)).await?;
    let operation = Operation::new("database.backup", &folder.to_string_lossy());
    operation.ended(written.is_ok()).record(Some(&platform), OPERATOR).await;
    let sequence = written.map_err(|err| match err {
        ArchiveError::Exists { .. } => Problem::new(Kind::Conflict, err.to_string()),
        ArchiveError::Fault(fault) => fault.into(),
        other => Problem::new(Kind::Internal, format!("the backup failed: {other}")),
    })?;
    info!(folder = %folder.display(), sequence, "backup written");
    Ok(Json(serde_json::json!({ "folder": folder, "sequence": sequence })))
}

/// Applies the fixtures in the body.
async fn seed(
    State((platform, hasher)): State<(Platform, Hasher)>,
    body: Bytes,
) -> Result<Json<Seeded>, Problem> {
    let fixtures = Fixtures::parse(&body).map_err(|fault| {
        Problem::new(Kind::InvalidContent, "the fixtures are not valid").with_errors([fault])
    })?;
    let store = platform.store().await?;
    let seeded = seed::seed(&store, &hasher, &fixtures).await?;
    info!(result = seeded.result, "fixtures applied");
    Ok(Json(seeded))
}

/// All events as lines of JSON. It ends early if the database fails; the last line is then cut off.
async fn export(State(platform): State<Platform>) -> Result<Body, Problem> {
    let store = platform.store().await?;
    // In the log of the daemon alone: as an event it would change what is exported.
    info!("all events are exported");
    let (pieces, mut written) = mpsc::channel(PIECES);
    spawn_blocking(move || write_out(&store, pieces));
    Ok(Body::from_stream(stream::poll_fn(move |context| written.poll_recv(context))))
}

/// Writes all events into the channel.
fn write_out(store: &InUse, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let mut out = io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
    if let Err(err) = store.export(&mut out) {
        warn!(%err, "the export has ended early");
        // A reader that is gone is the usual reason.
        let _ = pieces.blocking_send(Err(io::Error::other(err.to_string())));
    }
}

/// A writer whose bytes go to a channel.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs work that reads or writes files for long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let panicked = |_| Problem::new(Kind::Internal, "the work has panicked: see the log");
    spawn_blocking(work).await.map_err(panicked)
}

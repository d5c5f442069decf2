//! The commands about the database: through the daemon if one runs, otherwise on the files.

use std::{
    io,
    path::{Path, PathBuf},
};

use control_api::{
    Store,
    audit::Operation,
    identity::password::Hasher,
    maintenance::{Backup, FIXTURES_BYTES, Rebuild},
    seed::{self, Fixtures},
    store::NodeRole,
};
use control_domain::{Actor, Door, features};
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::{commands::Database, error::Error};
use crate::control_socket::{Client, ClientError};

/// Carries out a command. Returns the JSON to print. `folder` is the platform's.
///
/// # Errors
/// [`Error`].
pub(super) async fn carry_out(
    client: &Client,
    command: Database,
    folder: &Path,
) -> Result<Value, Error> {
    match command {
        Database::Verify => verify(client, folder).await,
        Database::Rebuild { features } => rebuild(client, folder, features).await,
        Database::Backup { folder: to } => backup(client, folder, &to).await,
        Database::Restore { backup, erased } => restore(client, folder, &backup, &erased).await,
        Database::Export => export(client, folder).await,
        Database::Seed { file } => seed(client, folder, &file).await,
    }
}

async fn verify(client: &Client, folder: &Path) -> Result<Value, Error> {
    let path = "/maintenance/verification";
    if let Some(found) = of_daemon(client.send(Method::POST, path, None).await)? {
        return Ok(found);
    }
    let found = open(folder).await?.verify().map_err(failed)?;
    Ok(json!({ "events": found.events, "rows": found.rows, "faults": found.faults }))
}

async fn rebuild(client: &Client, folder: &Path, features: Vec<String>) -> Result<Value, Error> {
    let body = body(&Rebuild { features: features.clone() });
    let sent = client.send(Method::POST, "/maintenance/rebuild", Some(&body)).await;
    if let Some(done) = of_daemon(sent)? {
        return Ok(done);
    }
    let names: Vec<&str> = features.iter().map(String::as_str).collect();
    let store = open(folder).await?;
    let rebuilt = store.rebuild(&names).await.map_err(failed)?;
    store.ready().await.map_err(failed)?;
    record(&store, Operation::new("database.rebuild", &rebuilt.join(" "))).await;
    Ok(json!({ "rebuilt": rebuilt }))
}

async fn backup(client: &Client, folder: &Path, to: &Path) -> Result<Value, Error> {
    let absolute = std::path::absolute(to);
    let to = absolute.map_err(|source| Error::Path { path: to.to_owned(), source })?;
    let body = body(&Backup { folder: to.clone() });
    let sent = client.send(Method::POST, "/maintenance/backup", Some(&body)).await;
    if let Some(done) = of_daemon(sent)? {
        return Ok(done);
    }
    let store = open(folder).await?;
    let sequence = store.backup(&to)?;
    record(&store, Operation::new("database.backup", &to.to_string_lossy())).await;
    Ok(json!({ "folder": to, "sequence": sequence }))
}

async fn restore(
    client: &Client,
    folder: &Path,
    backup: &Path,
    erased: &[PathBuf],
) -> Result<Value, Error> {
    // A daemon that waits for its database would open it half done.
    if of_daemon(client.send(Method::GET, "/api/v1/streams?limit=1", None).await)?.is_some() {
        return Err(Error::DaemonRuns);
    }
    let lists: Vec<&Path> = erased.iter().map(PathBuf::as_path).collect();
    let restored = Store::restore(backup, folder, &lists)?;
    // The tables are built now, so that the daemon starts at once.
    let store = open(folder).await?;
    record(&store, Operation::new("database.restore", &backup.to_string_lossy())).await;
    Ok(json!({ "sequence": restored.sequence, "erased_again": restored.erased_again }))
}

async fn export(client: &Client, folder: &Path) -> Result<Value, Error> {
    let mut out = io::BufWriter::new(io::stdout());
    if of_daemon(client.copy("/maintenance/export", &mut out).await)?.is_none() {
        let store = open(folder).await?;
        store.export(&mut out)?;
    }
    Ok(Value::Null)
}

async fn seed(client: &Client, folder: &Path, file: &Path) -> Result<Value, Error> {
    let read = |source| Error::Path { path: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(read)?.len();
    if size > FIXTURES_BYTES as u64 {
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB")));
    }
    let text = std::fs::read(file).map_err(read)?;
    // Read here, too, so that the fault names the file.
    let faulty = |fault: control_api::problem::Fault| Error::Fixtures {
        file: file.to_owned(),
        pointer: fault.pointer.into_owned(),
        detail: fault.detail.into_owned(),
    };
    let fixtures = Fixtures::parse(&text).map_err(faulty)?;
    let sent = client.send_text(Method::POST, "/maintenance/seed", text.into()).await;
    if let Some(seeded) = of_daemon(sent)? {
        return Ok(seeded);
    }
    let hasher = Hasher::new().map_err(|_| Error::Random)?;
    let seeded = seed::seed(&open(folder).await?, &hasher, &fixtures).await.map_err(failed)?;
    Ok(body(&seeded))
}

/// The result of the daemon; `None` if none runs.
fn of_daemon<T>(result: Result<T, ClientError>) -> Result<Option<T>, Error> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(ClientError::NoDaemon { .. }) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Opens the database, and waits until its tables are complete.
async fn open(folder: &Path) -> Result<Store, Error> {
    let store = Store::open_as(NodeRole::of(folder), folder, features::ALL)?;
    store.ready().await.map_err(failed)?;
    Ok(store)
}

/// Adds an operation to the audit log. It was carried out, so that a failure, for example of a disk
/// that is read-only, is no error of the command.
async fn record(store: &Store, operation: Operation) {
    if let Some(command) = operation.into_command()
        && let Err(err) = store.send(Actor::Operator(Door::Socket), command).await
    {
        eprintln!("streamforge: done, but not in the audit log: {err}");
    }
}

fn body(content: &impl Serialize) -> Value {
    serde_json::to_value(content).unwrap_or_default()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Store(Box::new(error))
}

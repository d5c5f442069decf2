//! The resources for draining: a server of this process' broadcasts on a Unix socket, for the
//! process that takes over.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use http_server::Server;
use origin_http::Router;

use super::error::Kept;
use crate::{blocking, config::Config};

/// The resources for draining.
pub(super) struct Retirement {
    /// Limits of the local server: those of the HTTP listener.
    http: http_server::Config,
    /// The same responses as for players.
    router: Arc<Router>,
    /// Specific to this process.
    pub(super) socket: PathBuf,
    /// Maximum time for which publishers are kept.
    pub(super) drain: Duration,
    /// A discontinuity sequence that players of the previous process may have seen.
    pub(super) discontinuities: u64,
}

impl Retirement {
    /// The resources of this process. Nothing is opened before a hand-over.
    pub(super) fn new(config: &Config, router: Arc<Router>, discontinuities: u64) -> Self {
        Self {
            http: config.http.server(&config.https),
            router,
            socket: config.data_dir.join("handover").join(format!("{}.sock", process::id())),
            drain: config.upgrade.drain(),
            discontinuities,
        }
    }

    /// A server of this process' broadcasts for the new process.
    ///
    /// # Errors
    /// [`Kept::Local`].
    pub(super) async fn local_server(&self) -> Result<Server<Router>, Kept> {
        let failed = |source| Kept::Local { socket: self.socket.clone(), source };
        let socket = self.socket.clone();
        let listener = blocking::run(move || listen(&socket)).await.map_err(failed)?;
        let sockets =
            http_server::Sockets { local: vec![listener], ..http_server::Sockets::default() };
        let (router, metrics) = (Arc::clone(&self.router), self.router.metrics().server.clone());
        Server::new(self.http.clone(), sockets, None, router, metrics).map_err(failed)
    }

    /// Removes the socket file.
    pub(super) async fn clean_up(&self) {
        let socket = self.socket.clone();
        // It exists only if this process has tried to hand over.
        let _ = blocking::run(move || fs::remove_file(socket)).await;
    }
}

/// A socket that is accessible only to this user.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // From an older process with the same process id.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

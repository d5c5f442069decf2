//! The control socket: a Unix socket in the data folder, through which the daemon's own user
//! administers it, without a token. The commands `user`, `channel`, `key`, `video`, `webhook`,
//! `stream` and `db` use it.

mod client;

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
};

use axum::Extension;
use control_api::{
    admin,
    caller::{Caller, Operator},
};
use tokio::net;
use tokio_util::sync::CancellationToken;

pub(crate) use client::{Client, ClientError};

/// The name of the socket in the data folder.
const NAME: &str = "control.sock";

/// The path of the socket.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// The socket, not yet served.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    server: admin::Server<net::UnixListener>,
    path: PathBuf,
    /// The number of its file, by which it is recognised.
    inode: u64,
}

impl ControlSocket {
    /// Binds the socket in a data folder. A socket of another process is replaced: it is one of an
    /// old process that hands over, or that has ended. Blocks; must be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// The folder cannot be written, or its path is too long for a socket.
    pub(crate) fn bind(data_dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        let path = path(data_dir);
        // Bound under another name and then renamed, so that there is always one.
        let new = data_dir.join(format!("{NAME}.{}", process::id()));
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        Ok(Self { server: admin::Server::local(listener)?, path, inode })
    }

    /// Serves the API's routes to the operator until `stop`, then removes the socket if it is still
    /// this one.
    pub(crate) async fn serve(self, api: axum::Router, stop: CancellationToken) {
        let caller = Caller { address: std::net::Ipv4Addr::LOCALHOST.into(), ours: false };
        let router = api.layer(Extension(Operator)).layer(Extension(caller));
        self.server.serve(router, stop).await;
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // The folder may be gone.
            let _ = fs::remove_file(&self.path);
        }
    }
}

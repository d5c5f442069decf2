//! Requests through the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

/// Time limit of a request. A backup of a large database takes a while.
const LIMIT: Duration = Duration::from_secs(3_600);
/// Maximum size of a response in bytes.
const MAX_BYTES: usize = 64 << 20;

/// A client of the daemon that uses a data folder.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "no daemon with platform.enabled listens on {}: start it, or name its configuration with \
         --config", socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection failed.
    #[error("{}: {cause}", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon refused the request.
    #[error("{detail} ({status})")]
    Refused {
        /// The status of the response.
        status: StatusCode,
        /// The problem in a sentence.
        detail: String,
    },
}

impl Client {
    /// A client of the daemon at this socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends a request with a body of JSON, and returns the JSON of the response; null if it is
    /// empty.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let sent = timeout(LIMIT, self.exchange(method, path, body)).await;
        let (status, body) = sent.map_err(|late| self.failed(late))??;
        let value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).map_err(|err| self.failed(err))?,
        };
        if status.is_success() {
            return Ok(value);
        }
        let mut detail = value["detail"].as_str().unwrap_or("the request failed").to_owned();
        for fault in value["errors"].as_array().into_iter().flatten() {
            let (at, fault) = (fault["pointer"].as_str(), fault["detail"].as_str());
            if let (Some(at), Some(fault)) = (at.filter(|at| !at.is_empty()), fault) {
                detail.push_str(&format!("; {at}: {fault}"));
            }
        }
        Err(ClientError::Refused { status, detail })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|err| match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { socket: self.socket.clone() }
            }
            _ => self.failed(err),
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|err| self.failed(err))?;
        let json = HeaderValue::from_static("application/json");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HeaderValue::from_static("localhost"))
            .header(header::CONTENT_TYPE, json)
            .body(Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|err| self.failed(err))?;
        let response = async {
            let response = sender.send_request(request).await.map_err(|err| self.failed(err))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await;
            Ok((head.status, body.map_err(|err| self.failed(err))?.to_bytes()))
        };
        // The connection future transfers the response, and ends with it.
        tokio::pin!(connection, response);
        tokio::select! {
            response = &mut response => response,
            ended = &mut connection => match ended {
                Ok(()) => response.await,
                Err(err) => Err(self.failed(err)),
            },
        }
    }

    fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection { socket: self.socket.clone(), cause: cause.into() }
    }
}

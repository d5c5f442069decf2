//! Requests through the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

/// Time limit of a request. A backup of a large database takes a while.
const LIMIT: Duration = Duration::from_secs(3_600);
/// Maximum size of a response in bytes.
const MAX_BYTES: usize = 64 << 20;

/// The body of a request.
type Body = Full<Bytes>;
/// The connection of a request.
type Connection = http1::Connection<TokioIo<UnixStream>, Body>;

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
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send_text(method, path, body.into()).await
    }

    /// Sends a request with a body of JSON as text, and returns the JSON of the response; null if
    /// it is empty.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn send_text(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
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

    /// Sends a request without a body, and writes the body of the response as it arrives.
    ///
    /// # Errors
    /// [`ClientError`]; a part of the body may have been written.
    pub(crate) async fn copy(
        &self,
        path: &str,
        out: &mut (dyn io::Write + Send),
    ) -> Result<(), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(Method::GET, path, Bytes::new())?;
        let copied = async {
            let response = sender.send_request(request).await.map_err(|err| self.failed(err))?;
            let status = response.status();
            if !status.is_success() {
                return Err(ClientError::Refused { status, detail: "no export".to_owned() });
            }
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|err| self.failed(err))?;
                if let Ok(bytes) = frame.into_data() {
                    out.write_all(&bytes).map_err(|err| self.failed(err))?;
                }
            }
            out.flush().map_err(|err| self.failed(err))
        };
        self.beside(connection, copied).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(method, path, body)?;
        let response = async {
            let response = sender.send_request(request).await.map_err(|err| self.failed(err))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await;
            Ok((head.status, body.map_err(|err| self.failed(err))?.to_bytes()))
        };
        self.beside(connection, response).await
    }

    async fn connect(&self) -> Result<(SendRequest<Body>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|err| match err.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { socket: self.socket.clone() }
            }
            _ => self.failed(err),
        })?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|err| self.failed(err))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Body>, ClientError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HeaderValue::from_static("localhost"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Body::from(body))
            .map_err(|err| self.failed(err))
    }

    /// Completes `work` while the connection transfers its bytes, and ends with it.
    async fn beside<T>(
        &self,
        connection: Connection,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => done,
            ended = connection => match ended {
                Ok(()) => work.await,
                Err(err) => Err(self.failed(err)),
            },
        }
    }

    fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection { socket: self.socket.clone(), cause: cause.into() }
    }
}

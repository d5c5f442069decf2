//! The API of the old process, for that of the new one: each request uses a separate connection to
//! the old one's Unix socket.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use control_api::{Elsewhere, NoResponse, PendingResponse};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tracing::debug;

/// Time limit; the old process responds from memory, but may ask an even older one.
const LIMIT: Duration = Duration::from_secs(2);
/// Maximum size of a response in bytes: four pages of streams with all their renditions.
const MAX_BYTES: usize = 4 << 20;

/// The old process, as long as it runs.
#[derive(Debug)]
pub(crate) struct Older {
    /// Path of its Unix socket.
    socket: PathBuf,
}

impl Older {
    /// The process that serves this socket.
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    /// Sends one request on a new connection.
    ///
    /// # Errors
    /// [`NoResponse::Gone`] if nobody listens on the socket. [`NoResponse::Faulty`] if the
    /// connection fails, or the response is invalid or larger than [`MAX_BYTES`].
    async fn send(&self, request: Request<()>) -> Result<Response<Bytes>, NoResponse> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|err| match err.kind() {
            // A process removes its socket when it ends; nobody listens on that of a killed one.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoResponse::Gone,
            _ => faulty(&err),
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|err| faulty(&err))?;
        let mut request = request.map(|()| Empty::<Bytes>::new());
        // A request of HTTP/1.1 needs a Host (RFC 9112 3.2), and the original one may be of HTTP/2.
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().insert(header::HOST, host);
        let response = async {
            let response = sender.send_request(request).await.map_err(|err| faulty(&err))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await;
            Ok(Response::from_parts(head, body.map_err(|err| faulty(&*err))?.to_bytes()))
        };
        // The connection future transfers the response, and ends with it.
        tokio::pin!(connection, response);
        tokio::select! {
            response = &mut response => response,
            ended = &mut connection => match ended {
                Ok(()) => response.await,
                Err(err) => Err(faulty(&err)),
            },
        }
    }
}

/// Logs a fault. At level debug, because each request of a client may cause one.
fn faulty(err: &dyn Error) -> NoResponse {
    debug!(%err, "the old process does not respond");
    NoResponse::Faulty
}

impl Elsewhere for Older {
    fn ask(&self, request: Request<()>) -> PendingResponse<'_> {
        Box::pin(async move {
            timeout(LIMIT, self.send(request)).await.unwrap_or_else(|_| {
                debug!(limit_s = LIMIT.as_secs(), "the old process does not respond in time");
                Err(NoResponse::Late)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use http::{Method, StatusCode};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    fn request() -> Request<()> {
        let request = Request::builder().method(Method::DELETE).uri("/api/v1/streams/a?b=c");
        request.header(header::AUTHORIZATION, "Bearer token").body(()).unwrap()
    }

    #[tokio::test]
    async fn a_request_gets_its_response_over_the_socket_and_none_without_a_listener() {
        let path = env::temp_dir().join(format!("streamforge-older-{}.sock", process::id()));
        let _ = fs::remove_file(&path);
        let older = Older::at(&path);
        assert_eq!(older.ask(request()).await.unwrap_err(), NoResponse::Gone);
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer =
                b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let (answer, asked) = tokio::join!(older.ask(request()), serve);
        let answer = answer.unwrap();
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::NOT_FOUND, &b"no"[..]));
        assert!(asked.starts_with("DELETE /api/v1/streams/a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains("authorization: Bearer token\r\n") && asked.contains("host: "),
            "{asked}"
        );
        drop(listener);
        assert_eq!(older.ask(request()).await.unwrap_err(), NoResponse::Gone);
        fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn a_process_that_closes_without_a_response_is_faulty_and_not_gone() {
        let path = env::temp_dir().join(format!("streamforge-closing-{}.sock", process::id()));
        let _ = fs::remove_file(&path);
        let older = Older::at(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let close = async { drop(listener.accept().await.unwrap()) };
        let (response, ()) = tokio::join!(older.ask(request()), close);
        assert_eq!(response.unwrap_err(), NoResponse::Faulty);
        fs::remove_file(&path).unwrap();
    }
}

//! Requests to a provider: over TLS with the certificate authorities of the system, within a time
//! and a size, and without redirects.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use openidconnect::AsyncHttpClient;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

/// Time for a request.
const TIME: Duration = Duration::from_secs(10);
/// Largest body of a response.
const MAX_BODY_BYTES: usize = 256 << 10;
/// Largest head of a response.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Why there is no response. The texts have no part of the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// The provider's document names an address without TLS.
    #[error("an address of the provider has no TLS")]
    Plain,
    /// The request was not answered.
    #[error("no response: {0}")]
    Http(String),
    /// The body is too long, or breaks off.
    #[error("its response is longer than {} KiB, or breaks off", MAX_BODY_BYTES >> 10)]
    Body,
    /// It took too long.
    #[error("no response within {} s", TIME.as_secs())]
    Late,
}

/// The certificate authorities of the system.
pub(super) fn authorities() -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Without any, each request fails with the reason.
    store.add_parsable_certificates(found.certs);
    Arc::new(store)
}

/// Whether an address is on this machine, by its text.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Whether requests may go to an address. `is_local`: the issuer is on this machine, and so may be
/// its other addresses, without TLS.
pub(super) fn is_permitted(uri: &Uri, is_local: bool) -> bool {
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_local && is_loopback(uri),
        _ => false,
    }
}

/// Sends requests to one provider.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    is_local: bool,
}

impl Client {
    /// A client that trusts these authorities.
    pub(super) fn new(
        authorities: &Arc<RootCertStore>,
        is_local: bool,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(authorities))
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(TIME));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            // Requests are rare, so no connection is kept.
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Ok(Self { http, is_local })
    }

    /// Sends a request, and receives the whole response.
    pub(super) async fn send(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Unreachable> {
        if !is_permitted(request.uri(), self.is_local) {
            return Err(Unreachable::Plain);
        }
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let exchange = async {
            let response = self.http.request(request).await;
            let response = response.map_err(|err| Unreachable::Http(causes(&err)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
            let body = body.map_err(|_| Unreachable::Body)?.to_bytes().to_vec();
            Ok(Response::from_parts(head, body))
        };
        timeout(TIME, exchange).await.unwrap_or(Err(Unreachable::Late))
    }
}

impl<'c> AsyncHttpClient<'c> for Client {
    type Error = Unreachable;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, Unreachable>> + Send + 'c>>;

    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// The texts of an error and of its causes.
fn causes(err: &dyn std::error::Error) -> String {
    let mut words = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        words = format!("{words}: {err}");
        cause = err.source();
    }
    words.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn client(is_local: bool) -> Client {
        Client::new(&Arc::new(RootCertStore::empty()), is_local).expect("TLS of this machine")
    }

    /// A server that sends these bytes to one request.
    async fn server(response: Vec<u8>) -> Request<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 4_096];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(&response).await;
        });
        Request::get(uri).body(Vec::new()).expect("a request")
    }

    #[tokio::test]
    async fn a_response_has_a_bounded_size_and_redirects_are_not_followed() {
        let found =
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nok";
        let response = client(true).send(server(found.to_vec()).await).await.expect("a response");
        assert_eq!((response.status().as_u16(), response.body().as_slice()), (302, &b"ok"[..]));
        let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        long.resize(MAX_BODY_BYTES + 100, b'x');
        let response = client(true).send(server(long).await).await;
        assert!(matches!(response, Err(Unreachable::Body)), "{response:?}");
    }

    #[tokio::test]
    async fn only_a_provider_on_this_machine_has_addresses_without_tls_and_only_here() {
        let request = |uri: &str| Request::get(uri).body(Vec::new()).expect("a request");
        for (uri, is_local) in [
            ("http://127.0.0.1:1/", false),
            ("http://192.0.2.1/", true),
            ("ftp://127.0.0.1/", true),
        ] {
            let refused = client(is_local).send(request(uri)).await;
            assert!(matches!(refused, Err(Unreachable::Plain)), "{uri} {refused:?}");
        }
        let closed = client(true).send(request("http://127.0.0.1:1/")).await;
        assert!(matches!(closed, Err(Unreachable::Http(_))), "{closed:?}");
    }
}

//! The right to publish by a back end: an HTTP server of the operator that is asked about each
//! publisher, in the forms of MediaMTX (`authHTTPAddress`) and nginx-rtmp (`on_publish`), so that
//! one that was written for these needs no change.
//!
//! An exchange has a limit for its time, and for the size of its response; the number of
//! simultaneous exchanges is limited. Redirects are not followed. A back end that fails, or whose
//! response is not valid, refuses the publisher.

mod form;
mod json;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{StatusCode, Uri, header::LOCATION};
use ingest_rtmp::{Grant, Lease, PublishRequest, Reason, Refusal};
use media_core::{ChannelName, name};
use rustls::RootCertStore;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    client::{self, Client, Response},
    hint::hint,
};
use crate::{
    authorities,
    config::{Format, Webhook},
};

/// Maximum number of notices about publishers that have stopped which are sent at the same time;
/// further ones are dropped and counted.
const MAX_NOTICES: usize = 256;

/// Why a back end cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `publish.webhook.ca` has no certificate authorities.
    #[error("publish.webhook.ca: {0}")]
    Authorities(#[from] authorities::Error),
    /// The TLS settings are not supported.
    #[error("publish.webhook: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client for the addresses of a configuration. Blocks for the certificate authorities.
fn connect(settings: &Webhook) -> Result<Client, Error> {
    let mut addresses = settings.url.iter().chain(&settings.done_url);
    // Without https the system's are not needed.
    let is_needed =
        !settings.ca.as_os_str().is_empty() || addresses.any(|address| address.is_https());
    let roots = match is_needed {
        true => authorities::load(&settings.ca)?,
        false => RootCertStore::empty(),
    };
    Ok(Client::new(roots, settings.timeout())?)
}

/// A back end and the publishers that it has admitted.
pub(super) struct BackEnd {
    settings: Webhook,
    client: Client,
    /// Permits of exchanges: `publish.webhook.max_requests`.
    requests: Semaphore,
    /// Cancelled when back ends no longer decide.
    right: CancellationToken,
    /// Number of the last request, which the back end sees as `clientid`.
    last_client: AtomicU64,
    notices: Notices,
}

/// Notices that are being sent, of all back ends since the start.
#[derive(Debug, Clone)]
pub(super) struct Notices {
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { tasks: TaskTracker::new(), permits: Arc::new(Semaphore::new(MAX_NOTICES)) }
    }
}

impl Notices {
    /// Waits until all notices are sent. Each has a limit.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A fault of the back end, or of the way to it, for the log. It never holds a key.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no response from the back end at {address} within {ms} ms")]
    TimedOut { address: String, ms: u128 },
    #[error("the back end at {address} does not respond: {cause}")]
    Exchange { address: String, cause: client::Fault },
    #[error("the back end failed with status {0}")]
    Status(StatusCode),
    #[error(
        "the back end redirected to another address, which is not followed (status {0}): name the \
         final one in publish.webhook.url"
    )]
    Redirected(StatusCode),
    #[error("the back end redirected to an rtmp:// address, to which this server does not relay")]
    Relay,
    #[error("the back end named an invalid channel in Location: {0}")]
    Channel(name::Invalid),
    #[error("the back end's Location is not a text of visible characters")]
    Location,
}

impl BackEnd {
    /// A back end as configured. Blocks for the files of certificate authorities.
    ///
    /// # Errors
    /// The certificate authorities cannot be read.
    pub(super) fn new(settings: &Webhook, notices: Notices) -> Result<Self, Error> {
        Ok(Self {
            settings: settings.clone(),
            client: connect(settings)?,
            requests: Semaphore::new(settings.max_requests()),
            right: CancellationToken::new(),
            last_client: AtomicU64::new(0),
            notices,
        })
    }

    /// The right of the publishers that back ends have admitted.
    pub(super) fn right(&self) -> &CancellationToken {
        &self.right
    }

    /// Scheme, host and port.
    pub(super) fn address(&self) -> String {
        self.settings.url.as_ref().map_or_else(String::new, ToString::to_string)
    }

    /// Adopts the right of `before`: its publishers continue.
    pub(super) fn continue_right(self: &mut Arc<Self>, before: &Self) {
        // Nobody else has it before it is in force.
        if let Some(this) = Arc::get_mut(self) {
            this.right = before.right.clone();
        }
    }

    /// Asks the back end about a request to publish.
    ///
    /// # Errors
    /// It refuses, or does not respond as it should.
    pub(super) async fn decide(
        self: &Arc<Self>,
        request: &PublishRequest,
    ) -> Result<Grant, Refusal> {
        let client_id = self.last_client.fetch_add(1, Ordering::Relaxed) + 1;
        let channel = match self.settings.format {
            Format::MediaMtx => self.ask_as_mediamtx(request).await?,
            Format::NginxRtmp => self.ask_as_nginx(request, client_id).await?,
        };
        let (withdrawn, lease) = (self.right.clone(), self.lease(request, client_id));
        Ok(Grant { withdrawn, lease, ..Grant::from(channel) })
    }

    /// MediaMTX: a status from 200 to 299 admits, and any other refuses.
    async fn ask_as_mediamtx(&self, request: &PublishRequest) -> Result<ChannelName, Refusal> {
        // The key is the path here, which the back end cannot change, so an invalid one is not
        // asked about.
        let channel = named(request)?;
        let response = self.ask(json::CONTENT_TYPE, json::body(request)).await?;
        match response.status {
            status if status.is_success() => Ok(channel),
            status if status.is_redirection() => Err(failed(&Fault::Redirected(status))),
            status => Err(refused(request, status)),
        }
    }

    /// nginx-rtmp: a status from 200 to 299 admits, one from 300 to 399 admits to the stream that
    /// `Location` names, and any other refuses.
    async fn ask_as_nginx(
        &self,
        request: &PublishRequest,
        client_id: u64,
    ) -> Result<ChannelName, Refusal> {
        let body = form::publish(request, client_id);
        let response = self.ask(form::CONTENT_TYPE, body).await?;
        match response.status {
            status if status.is_success() => named(request),
            status if status.is_redirection() => match response.headers.get(LOCATION) {
                // Without a name the stream keeps its own.
                None => named(request),
                Some(location) if location.is_empty() => named(request),
                Some(location) => {
                    let location = location.to_str().map_err(|_| failed(&Fault::Location))?;
                    renamed(location).map_err(|fault| failed(&fault))
                }
            },
            status => Err(refused(request, status)),
        }
    }

    /// One exchange with the back end about a publisher.
    async fn ask(&self, content_type: &'static str, body: Bytes) -> Result<Response, Refusal> {
        let Some(url) = &self.settings.url else {
            // The configuration was checked, so there is an address.
            return Err(failed(&Fault::Status(StatusCode::NOT_FOUND)));
        };
        let limit = self.settings.timeout();
        // The wait for a permit counts too: the publisher waits for the decision.
        let exchange = timeout(limit, async {
            let _permit = self.requests.acquire().await;
            self.client.post(url.uri(), content_type, body).await
        });
        let address = url.to_string();
        match exchange.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(cause)) => Err(failed(&Fault::Exchange { address, cause })),
            Err(_) => Err(failed(&Fault::TimedOut { address, ms: limit.as_millis() })),
        }
    }

    /// The lease of an admitted publisher; at its end the back end is notified, if it wants to be.
    fn lease(self: &Arc<Self>, request: &PublishRequest, client_id: u64) -> Lease {
        match &self.settings.done_url {
            Some(url) => Lease::new(Admitted {
                back_end: Arc::clone(self),
                url: url.uri().clone(),
                body: form::publish_done(request, client_id),
            }),
            None => Lease::default(),
        }
    }

    /// Sends a notice in a task of its own; its response is not read as a decision.
    fn notify(self: &Arc<Self>, url: Uri, body: Bytes) {
        let (Ok(permit), Ok(runtime)) =
            (Arc::clone(&self.notices.permits).try_acquire_owned(), Handle::try_current())
        else {
            warn!("notice about the end of a stream dropped: too many are being sent");
            return;
        };
        let back_end = Arc::clone(self);
        let notice = async move {
            let exchange = back_end.client.post(&url, form::CONTENT_TYPE, body);
            match timeout(back_end.settings.timeout(), exchange).await {
                Ok(Ok(_)) => {}
                Ok(Err(cause)) => warn!(%cause, "notice about the end of a stream failed"),
                Err(_) => {
                    warn!(cause = "no response in time", "notice about the end of a stream failed")
                }
            }
            drop(permit);
        };
        self.notices.tasks.spawn_on(notice, &runtime);
    }
}

/// Without the client, and without what the settings hide.
impl fmt::Debug for BackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackEnd").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// An admitted publisher. The notice is sent when it is dropped.
struct Admitted {
    back_end: Arc<BackEnd>,
    url: Uri,
    body: Bytes,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.back_end.notify(std::mem::take(&mut self.url), std::mem::take(&mut self.body));
    }
}

/// The channel that the publisher has named.
fn named(request: &PublishRequest) -> Result<ChannelName, Refusal> {
    let key = request.key.expose();
    key.parse().map_err(|err: name::Invalid| {
        let words = format!("{err}; the stream key is the channel's name here{}", hint(key));
        Refusal::new(Reason::Name, words)
    })
}

/// The channel that the back end has named.
fn renamed(location: &str) -> Result<ChannelName, Fault> {
    // nginx-rtmp would push the stream to this address.
    if location.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("rtmp://")) {
        return Err(Fault::Relay);
    }
    location.parse().map_err(Fault::Channel)
}

/// The refusal for a status of the back end.
fn refused(request: &PublishRequest, status: StatusCode) -> Refusal {
    if !status.is_client_error() {
        return failed(&Fault::Status(status));
    }
    let words = format!(
        "this server's operator does not permit this stream: check the stream key, or ask for \
         another{}",
        hint(request.key.expose())
    );
    Refusal::denied(words).with_detail(format!("the back end refused with status {status}"))
}

/// The refusal for a fault of the back end, which is not the publisher's.
fn failed(fault: &Fault) -> Refusal {
    Refusal::new(
        Reason::Failed,
        "the server could not check this stream key: try again in a moment, and tell its operator \
         if that does not help",
    )
    .with_detail(fault.to_string())
}

#[cfg(test)]
mod tests;

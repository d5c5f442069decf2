//! The operator's settings, read from a file and the environment, and checked once. A parsed value
//! is in its range; constraints between two values are checked at the end. Each section is passed
//! to its crate.

mod analytics;
mod api;
mod bus;
mod error;
mod ladder;
mod oidc;
mod overlay;
mod platform;
mod publish;
mod secret;
mod shown;
mod smtp;
pub(crate) mod source;
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "nothing is exported"))]
mod traces;
mod webhooks;
mod within;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use media_core::{broadcast, hub};
use origin_http::{edge, playback};
use serde::Deserialize;

use crate::{
    certificates::{self, Files},
    sockets::{Purpose, Wanted},
};
use analytics::Analytics;
use api::Api;
use bus::Bus;
pub(crate) use error::Error;
pub(crate) use ladder::Ladder;
use oidc::Provider;
use platform::Platform;
pub(crate) use publish::{Address, Format, Jwt, Key, Policy, Publish, Webhook};
use smtp::Mail;
pub(crate) use traces::Traces;
use webhooks::Webhooks;
use within::Within;

/// All settings. `conf/streamforge.toml` describes the effect and the costs of each key; the
/// defaults are its values.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Directory of the daemon's files. Media are held in memory.
    pub(crate) data_dir: PathBuf,
    /// Listeners and limits for publishers and RTMP players.
    pub(crate) rtmp: ingest_rtmp::Config,
    /// Listeners of RTMP over TLS.
    rtmps: Rtmps,
    /// Listeners and limits for players.
    pub(crate) http: origin_http::Config,
    /// Listeners of HTTPS, and of HTTP/3 on the same ports.
    pub(crate) https: origin_http::Https,
    /// The certificate of all TLS listeners.
    tls: Tls,
    /// The listener of metrics and health checks.
    pub(crate) admin: Admin,
    /// Origins from which missing media are fetched.
    pub(crate) edge: edge::Config,
    /// Private channels, and the keys of playback tokens.
    pub(crate) playback: playback::Config,
    /// The hand-over to a new process.
    pub(crate) upgrade: Upgrade,
    /// The administrator's token, and the limits of the API.
    pub(crate) api: Api,
    /// The database of accounts and channels.
    pub(crate) platform: Platform,
    /// The servers to which its events go.
    pub(crate) bus: Bus,
    /// Views and watch time.
    pub(crate) analytics: Analytics,
    /// The server of the platform's mails.
    pub(crate) smtp: Mail,
    /// The providers at which people sign in.
    pub(crate) oidc: Vec<Provider>,
    /// The deliveries of its events.
    pub(crate) webhooks: Webhooks,
    /// The right to publish, and stream keys.
    pub(crate) publish: Publish,
    /// Segmentation and memory of broadcasts.
    pub(crate) live: Live,
    /// Renditions.
    pub(crate) ladder: Ladder,
    /// The export of traces.
    pub(crate) traces: Traces,
    /// The test picture.
    pub(crate) demo: Demo,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/streamforge".into(),
            rtmp: ingest_rtmp::Config::default(),
            rtmps: Rtmps::default(),
            http: origin_http::Config::default(),
            https: origin_http::Https::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            edge: edge::Config::default(),
            playback: playback::Config::default(),
            upgrade: Upgrade::default(),
            api: Api::default(),
            platform: Platform::default(),
            bus: Bus::default(),
            analytics: Analytics::default(),
            smtp: Mail::default(),
            oidc: Vec::new(),
            webhooks: Webhooks::default(),
            publish: Publish::default(),
            live: Live::default(),
            ladder: Ladder::default(),
            traces: Traces::default(),
            demo: Demo::default(),
        }
    }
}

/// RTMP over TLS; the limits are those of `rtmp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rtmps {
    /// Addresses; empty for none. Without a certificate they are not bound.
    #[serde(deserialize_with = "net_core::config::addresses")]
    listen: Vec<SocketAddr>,
}

impl Default for Rtmps {
    fn default() -> Self {
        Self { listen: vec![([0u16; 8], 1936).into()] }
    }
}

/// The certificate of TLS listeners, which are disabled without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    /// Empty: none.
    cert: PathBuf,
    /// The private key of `cert`; both are set, or neither.
    key: PathBuf,
    /// Whether a self-signed certificate is used if `cert` is empty; for development.
    self_signed: bool,
}

/// The origin of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// The operator's files.
    Files(Files),
    /// A self-signed certificate under this `data_dir`.
    SelfSigned(PathBuf),
}

impl Certificate {
    /// The files; a self-signed pair is created if necessary.
    pub(crate) fn files(&self) -> Result<Files, certificates::Error> {
        match self {
            Self::Files(files) => Ok(files.clone()),
            Self::SelfSigned(data_dir) => certificates::keep_self_signed(data_dir),
        }
    }
}

/// The operator's listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// Addresses of `/metrics`, `/healthz` and `/readyz`; empty for none.
    #[serde(deserialize_with = "net_core::config::addresses")]
    listen: Vec<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: vec![([127, 0, 0, 1], 9090).into()] }
    }
}

/// Settings of a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Upgrade {
    /// Maximum life of the old process after a hand-over, in seconds.
    drain_s: Within<0, 604_800>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self { drain_s: Within::new(43_200) }
    }
}

impl Upgrade {
    /// Time for which the old process keeps publishers that do not leave by themselves.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s.get())
    }
}

/// Segmentation and storage of live broadcasts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Live {
    /// Part duration in milliseconds, at most half of a segment. It determines the latency.
    part_ms: Within<50, 2_000>,
    /// Intended segment duration in milliseconds: T.
    segment_ms: Within<1_000, 10_000>,
    /// Length of playlists in seconds, at least three target durations.
    window_s: Within<6, 86_400>,
    /// MiB of memory for one broadcast with all its renditions.
    window_mb: Within<16, 1_048_576>,
    /// Seconds for which a broadcast waits for a publisher that has disconnected.
    reconnect_s: Within<0, 3_600>,
    /// Maximum number of channels.
    max_channels: Within<1, 100_000>,
    /// Length of a broadcast's log in milliseconds, in addition to the newest group.
    backlog_ms: Within<1_000, 60_000>,
    /// Size of a broadcast's log in MiB.
    backlog_mb: Within<1, 1_024>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            part_ms: Within::new(200),
            segment_ms: Within::new(2_000),
            window_s: Within::new(60),
            window_mb: Within::new(256),
            reconnect_s: Within::new(10),
            max_channels: Within::new(1_000),
            backlog_ms: Within::new(10_000),
            backlog_mb: Within::new(64),
        }
    }
}

impl Live {
    /// Settings of the hub.
    pub(crate) fn hub(&self) -> hub::Settings {
        let segment = Duration::from_millis(self.segment_ms.get());
        let mib = usize::try_from(self.backlog_mb.get()).unwrap_or(usize::MAX);
        hub::Settings {
            broadcast: broadcast::Limits {
                bytes: mib.saturating_mul(1 << 20),
                age: Duration::from_millis(self.backlog_ms.get()),
                segment,
                stall: segment,
            },
            reconnect: Duration::from_secs(self.reconnect_s.get()),
            max_channels: usize::try_from(self.max_channels.get()).unwrap_or(usize::MAX),
        }
    }

    /// Settings of the packager.
    pub(crate) fn packager(&self) -> packager::Config {
        packager::Config {
            part: Duration::from_millis(self.part_ms.get()),
            window: Duration::from_secs(self.window_s.get()),
            window_mb: usize::try_from(self.window_mb.get()).unwrap_or(usize::MAX),
        }
    }

    fn check(&self) -> Result<(), Error> {
        // With fewer than two parts in a segment, parts would bring players no nearer to the live
        // edge.
        let (part_ms, segment_ms, window_s) =
            (self.part_ms.get(), self.segment_ms.get(), self.window_s.get());
        if part_ms * 2 > segment_ms {
            return Err(Error::LongPart { part_ms, most_ms: segment_ms / 2 });
        }
        // RFC 8216bis 6.2.2: a playlist never lists less than three target durations, and ours is
        // ceil(2T).
        let least_s = (2 * segment_ms).div_ceil(1_000) * 3;
        if window_s < least_s {
            return Err(Error::ShortWindow { window_s, segment_ms, least_s });
        }
        Ok(())
    }
}

/// The built-in test picture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Demo {
    /// Whether it is published to the channel `demo`.
    pub(crate) enabled: bool,
}

impl Config {
    /// The folder of the platform's database.
    pub(crate) fn platform_folder(&self) -> PathBuf {
        self.data_dir.join("platform")
    }

    /// Removes what a replica does not do: it has no publishers.
    ///
    /// # Errors
    /// [`Error::ReplicaWithoutBus`].
    pub(crate) fn become_replica(&mut self) -> Result<(), Error> {
        if self.bus.url.is_none() {
            return Err(Error::ReplicaWithoutBus);
        }
        self.rtmp.listen.clear();
        self.rtmps.listen.clear();
        self.demo.enabled = false;
        self.ladder.disable();
        Ok(())
    }

    /// The origin of the certificate, if one is configured.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        let Tls { cert, key, self_signed } = &self.tls;
        // Files take precedence, so that `self_signed` may stay set when a certificate is added.
        match (cert.as_os_str().is_empty(), self_signed) {
            (false, _) => Some(Certificate::Files(Files { cert: cert.clone(), key: key.clone() })),
            (true, true) => Some(Certificate::SelfSigned(self.data_dir.clone())),
            (true, false) => None,
        }
    }

    /// All configured sockets; those of TLS only with a certificate.
    pub(crate) fn listeners(&self) -> Vec<Wanted> {
        let tls = self.certificate().is_some();
        // Each section has its own addresses; HTTP/3 shares those of HTTPS.
        let of = |purpose, addresses: &[SocketAddr], on: bool| {
            let addresses = if on { addresses } else { &[] };
            let wanted = |&address| Wanted { purpose, address };
            addresses.iter().map(wanted).collect::<Vec<_>>()
        };
        [
            of(Purpose::Rtmp, &self.rtmp.listen, true),
            of(Purpose::Rtmps, &self.rtmps.listen, tls),
            of(Purpose::Http, &self.http.listen, true),
            of(Purpose::Https, &self.https.listen, tls),
            of(Purpose::Quic, &self.https.listen, tls && self.https.http3),
            of(Purpose::Admin, &self.admin.listen, true),
        ]
        .concat()
    }

    /// Checks that an edge does not request from itself, which would wait for its own responses.
    fn check_origins(&self) -> Result<(), Error> {
        for wanted in self.listeners() {
            // Fetches are HTTP requests, so only these listeners can be the origin.
            if !matches!(wanted.purpose, Purpose::Http | Purpose::Https) {
                continue;
            }
            let mut origins = self.edge.origin.iter();
            if let Some(origin) = origins.find(|origin| origin.is_listener(wanted.address)) {
                let (origin, address) = (Box::new(origin.clone()), wanted.address);
                return Err(Error::OwnOrigin { origin, address });
            }
        }
        Ok(())
    }

    /// Checks the constraints between values.
    fn check(&self) -> Result<(), Error> {
        // The test picture is published over RTMP without TLS.
        if self.demo.enabled && self.rtmp.listen.is_empty() {
            return Err(Error::DemoWithoutRtmp);
        }
        if self.tls.cert.as_os_str().is_empty() != self.tls.key.as_os_str().is_empty() {
            return Err(Error::HalfACertificate);
        }
        self.api.check()?;
        self.bus.check(self.platform.enabled)?;
        // The sections' own checks follow; each returns its first fault.
        self.publish.check()?;
        self.live.check()?;
        self.ladder.check()?;
        self.rtmp.check()?;
        self.http.check()?;
        self.edge.check()?;
        self.playback.check()?;
        self.traces.check()?;
        self.check_origins()?;
        Ok(self.live.packager().check()?)
    }
}

#[cfg(test)]
mod tests;

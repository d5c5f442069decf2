//! The start: everything is created, then all sockets are opened, then all parts begin. So a fault
//! is found before anything has begun.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use control_api::{Administrator, Api, Renditions, admin, renditions::NoRenditions};
use http_server::Mount;
use media_core::Hub;
use origin_http::{AccessLog, Audience, Edge, edge};
use packager::Packager;
use prometheus_client::registry::Registry;
use rustls::server::ResolvesServerCert;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transcoder::{Ladder, Pictures, ladder};

use super::{
    Call, Daemon,
    adapters::{ApiService, AudienceCount, ChannelPosters, LadderStatus, strict},
    parts::{Part, Parts},
    reload::Reloadable,
    retire::Retirement,
    tick,
};
use crate::{
    certificates::Certificates,
    config::Config,
    demo,
    handover::{Older, Predecessor},
    limits,
    notify::{self, Pulse},
    pages,
    publish::Publishers,
    sockets::{Inherited, Purpose, Sockets},
};

impl Daemon {
    /// Opens all listeners, then starts all parts.
    ///
    /// # Errors
    /// One line with the fault and the remedy.
    pub(super) async fn start(
        Call { loaded, file, .. }: Call,
        inherited: Inherited,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, String> {
        let config = &loaded.config;
        limits::raise_and_log(config);
        let hub = Hub::new(config.live.hub());
        let mut packager = Packager::new(hub.clone(), config.live.packager()).map_err(|err| format!("live: {err}"))?;
        let numbers = predecessor.as_ref().map(Predecessor::numbers);
        if let Some(numbers) = numbers {
            hub.begin_after(numbers, Instant::now());
            packager = packager.after(numbers.discontinuity);
        }
        let presentations = packager.presentations();
        let rtmp_metrics = ingest_rtmp::Metrics::default();
        let http_metrics = origin_http::Metrics::default();
        let readiness = admin::Readiness::default();

        let mut registry = Registry::with_prefix("streamforge");
        admin::register(&mut registry, hub.clone());
        packager.metrics().register(&mut registry);
        rtmp_metrics.register(&mut registry);
        http_metrics.register(&mut registry);
        let certificates = load_certificates(config)?;
        if let Some(certificates) = &certificates {
            certificates.register(&mut registry);
        }

        // The running program, even if another version has been installed in its place, because a
        // worker must have the daemon's protocol version.
        let program = PathBuf::from("/proc/self/exe");
        let pictures = Pictures::new(program.clone(), config.ladder.poster());
        let ladder_metrics = transcoder::Metrics::default();
        ladder_metrics.register(&mut registry);
        let ladder = prepare_ladder(config, &hub, program, &pictures, ladder_metrics).await?;

        let mut publishers = Publishers::new(&config.publish);
        let demo_key = config.demo.enabled.then(demo::Key::random);
        if let Some(key) = &demo_key {
            publishers.admit(demo::channel().map_err(|err| err.to_string())?, key.expose());
        }
        let publishers = Arc::new(publishers);

        let audience = Audience::default();
        let viewers = Arc::new(AudienceCount {
            http: audience.clone(),
            rtmp: rtmp_metrics.clone(),
        });
        let renditions: Arc<dyn Renditions> = match &ladder {
            Some(ladder) => Arc::new(LadderStatus(ladder.statuses())),
            None => Arc::new(NoRenditions),
        };
        let administrator = Administrator::new(config.api.administrator());
        let mut api = Api::new(hub.clone(), viewers, renditions, administrator.clone());
        if let Some(predecessor) = &predecessor {
            api = api.beside(Arc::new(Older::at(predecessor.local())));
        }
        let api = ApiService::new(api.router());
        let access_log = AccessLog::open(&config.http, &http_metrics)
            .map_err(|err| format!("http.access_log: {}: {err}", config.http.access_log))?;
        let edge = make_edge(config, predecessor.as_ref(), &mut registry)?;
        let mut router = origin_http::Router::new(
            &config.http,
            presentations.clone(),
            pages::watch(),
            Box::new(ChannelPosters {
                hub: hub.clone(),
                pictures,
            }),
            vec![Mount::new("/api/", config.http.api(), api)],
            audience,
            http_metrics,
        );
        router.log(access_log.clone());
        router.fetch_from(edge.clone());
        let router = Arc::new(router);

        let mut sockets = Sockets::open(&config.listeners(), inherited)?;
        let resolver = || certificates.clone().map(|shown| shown as Arc<dyn ResolvesServerCert>);
        let rtmp = ingest_rtmp::Listeners {
            rtmp: sockets.tcp(Purpose::Rtmp)?,
            rtmps: sockets.tcp(Purpose::Rtmps)?,
        };
        let authorize = publishers.clone();
        let metrics = rtmp_metrics.clone();
        let rtmp = ingest_rtmp::Server::new(&config.rtmp, rtmp, resolver(), hub.clone(), authorize, metrics)
            .map_err(|err| format!("rtmp: {err}"))?;
        let http = http_server::Sockets {
            http: sockets.tcp(Purpose::Http)?,
            https: sockets.tcp(Purpose::Https)?,
            quic: sockets.quic(),
            ..http_server::Sockets::default()
        };
        let settings = config.http.server(&config.https);
        let metrics = router.metrics().server.clone();
        let http = http_server::Server::new(settings, http, resolver(), Arc::clone(&router), metrics)
            .map_err(|err| format!("http: {err}"))?;
        let operator = admin::Server::new(sockets.tcp(Purpose::Admin)?).map_err(|err| format!("admin: {err}"))?;

        let (mut parts, pulse, retire) = (Parts::default(), Pulse::default(), CancellationToken::new());
        let (clock, ticking) = (hub.clone(), pulse.clone());
        parts.start(Part::Clock, |stop| tick(clock, ticking, stop));
        if let Some(ladder) = ladder {
            parts.start(Part::Ladder, |stop| ladder.serve(stop));
        }
        parts.start(Part::Packager, |stop| packager.serve(stop));
        if let Some(certificates) = certificates.clone() {
            parts.start(Part::Certificates, |stop| certificates.watch(stop));
        }
        let tools = strict(
            admin::router(registry, readiness.clone()),
            usize::try_from(config.http.max_headers).unwrap_or(usize::MAX),
        );
        parts.start(Part::Admin, |stop| operator.serve(tools, stop));
        parts.start(Part::Http, |stop| http.serve(retire.clone(), stop));
        parts.start(Part::Rtmp, |stop| rtmp.serve(retire.clone(), stop));
        readiness.set(true);
        for open in sockets.iter() {
            info!(listener = open.purpose.name(), addr = %open.address, "listening");
        }
        if let (Some(key), Some(address)) = (demo_key, sockets.address(Purpose::Rtmp)) {
            start_demo(&mut parts, config, &key, address, sockets.address(Purpose::Http))?;
        }
        let (live, peers) = (hub.clone(), rtmp_metrics);
        let status = move || format!("{} live, {} publishers", live.broadcasts().len(), peers.publishers());
        parts.start(Part::Notify, |stop| notify::watch(pulse, status, stop));
        Ok(Self {
            hub,
            presentations,
            readiness,
            parts,
            sockets,
            retire,
            edge,
            retirement: Retirement::new(config, router, numbers.unwrap_or_default().discontinuity),
            reloadable: Reloadable {
                running: loaded,
                file,
                publishers,
                administrator,
                certificates,
                access_log,
            },
            predecessor,
        })
    }
}

/// Loads the certificate, if one is configured.
fn load_certificates(config: &Config) -> Result<Option<Arc<Certificates>>, String> {
    let Some(certificate) = config.certificate() else {
        return Ok(None);
    };
    let loaded = certificate.files().and_then(Certificates::load);
    loaded.map(Arc::new).map(Some).map_err(|err| format!("tls: {err}"))
}

/// The edge for media of other processes: those of the old process, and those of the configured
/// origins.
fn make_edge(
    config: &Config,
    predecessor: Option<&Predecessor>,
    registry: &mut Registry,
) -> Result<Option<Arc<Edge>>, String> {
    let local = predecessor.map(|predecessor| predecessor.local().to_owned());
    let settings = match local {
        None if config.edge.origin.is_empty() => return Ok(None),
        None => config.edge.clone(),
        Some(local) if config.edge.origin.is_empty() => edge::Config::local(local),
        Some(local) => {
            let mut settings = config.edge.clone();
            settings.origin.insert(0, edge::Origin::Local(local));
            settings
        }
    };
    let metrics = edge::Metrics::default();
    metrics.register(registry);
    let edge = Edge::new(&settings, metrics).map_err(|err| format!("edge: {err}"))?;
    Ok(Some(edge))
}

/// Publishes the test picture, and prints where to watch it.
fn start_demo(
    parts: &mut Parts,
    config: &Config,
    key: &demo::Key,
    rtmp: SocketAddr,
    http: Option<SocketAddr>,
) -> Result<(), String> {
    let worker =
        demo::worker(rtmp, &config.rtmp.app, key).map_err(|err| format!("the test picture's program: {err}"))?;
    parts.start(Part::Demo, |stop| worker.supervise(stop));
    if let Some(http) = http {
        // On stdout, independent of the log's format.
        println!("Watch http://{}/watch/{}", demo::reachable(http), demo::CHANNEL);
    }
    Ok(())
}

/// The ladder, if it is enabled and possible.
///
/// # Errors
/// The configured encoder does not work.
async fn prepare_ladder(
    config: &Config,
    hub: &Hub,
    program: PathBuf,
    pictures: &Pictures,
    metrics: transcoder::Metrics,
) -> Result<Option<Ladder>, String> {
    if !config.ladder.encodes() {
        return Ok(None);
    }
    let settings = config.ladder.transcoder();
    match Ladder::prepare(hub.clone(), settings, program, pictures.clone(), metrics).await {
        Ok(ladder) => Ok(Some(ladder)),
        Err(err @ ladder::Error::NotThisEncoder(_)) => Err(format!("ladder.encoder: {err}")),
        Err(err) => {
            warn!(%err, "no ladder: only sources are served");
            Ok(None)
        }
    }
}

//! The start: everything is created, then all sockets are opened, then all parts begin. So a fault
//! is found before anything has begun.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use control_api::{
    Administrator, Api, Health, Manners, Readiness, Renditions, admin, cors::Cors, mail::Postman,
    rate::Limiter, renditions::NoRenditions, requests, store::NodeRole,
};
use http_server::Mount;
use media_core::Hub;
use origin_http::{AccessLog, Audience, Edge, Playback, edge};
use packager::Packager;
use prometheus_client::registry::Registry;
use rustls::server::ResolvesServerCert;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transcoder::{Ladder, Pictures, ladder};

use super::{
    Call, Daemon, accounts,
    adapters::{ApiService, AudienceCount, ChannelPosters, LadderStatus, PrivateChannels, strict},
    bus::BusPart,
    error::Error,
    health::{Checked, Checks},
    operations::RunningDaemon,
    parts::{Part, Parts},
    platform::{PlatformParts, deliver},
    reload::Reloadable,
    retirement::Retirement,
    tick,
    views::ViewCounts,
};
use crate::{
    certificates::Certificates,
    config::{Config, source::Loaded},
    control_socket::ControlSocket,
    demo,
    directory::Directory,
    handover::{Older, Predecessor},
    limits,
    notify::{self, Pulse},
    pages,
    publish::Publishers,
    sockets::{Inherited, Purpose, Sockets},
};

/// All parts that are created before a socket is opened.
struct Created {
    /// The registry of broadcasts, still empty.
    hub: Hub,
    /// Packages each broadcast of the hub.
    packager: Packager,
    /// `None` if it is off, or no encoder works.
    ladder: Option<Ladder>,
    /// `None` without a configured certificate.
    certificates: Option<Arc<Certificates>>,
    /// The database, and what ingest and playback know of it; `None` if it is off.
    platform: Option<PlatformParts>,
    /// Publishes the platform's events or takes them, if a bus is configured.
    bus: Option<BusPart>,
    /// Sends the platform's mails, if there is a mail server.
    postman: Option<Postman>,
    /// Counts views; `None` without the platform.
    views: Option<ViewCounts>,
    /// The routes of the API for the control socket, which only the platform has.
    control: Option<axum::Router>,
    /// Decides about publishers.
    publishers: Arc<Publishers>,
    /// The key of the test picture, if it is enabled.
    demo_key: Option<demo::Key>,
    /// The administrator's token, which SIGHUP may change.
    administrator: Administrator,
    /// The limits and origins of the API, which SIGHUP may change.
    manners: Manners,
    /// The rules for playback tokens, which SIGHUP may change.
    playback: Arc<Playback>,
    /// The log of requests, if a file is configured.
    access_log: Option<AccessLog>,
    /// Fetches media that are not published here.
    edge: Option<Arc<Edge>>,
    /// Forms the responses of all HTTP listeners, also for the next process.
    router: Arc<origin_http::Router>,
    /// Also the source of the number of publishers and RTMP players.
    rtmp_metrics: ingest_rtmp::Metrics,
    /// Shows and changes the running daemon.
    operations: RunningDaemon,
    /// The health checks.
    health: Checks,
    /// All metrics, for the admin listener.
    registry: Registry,
}

/// The servers on the opened sockets.
struct Servers {
    /// On the RTMP and RTMPS listeners.
    rtmp: ingest_rtmp::Server,
    /// On the HTTP, HTTPS and QUIC sockets.
    http: http_server::Server<origin_http::Router>,
    /// On the operator's listeners.
    admin: admin::Server,
}

impl Daemon {
    /// Opens all listeners, then starts all parts.
    ///
    /// # Errors
    /// The first fault; no part has begun.
    pub(super) async fn start(
        Call { loaded, file, role, export, .. }: Call,
        inherited: Inherited,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, Error> {
        let predecessor = predecessor.map(Arc::new);
        let config = &loaded.config;
        limits::raise_and_log(config);
        let created = Created::new(&loaded, predecessor.as_deref(), role).await?;
        let mut sockets = Sockets::open(&config.listeners(), inherited)?;
        let servers = Servers::new(config, &created, &mut sockets)?;
        let control = match created.control {
            Some(api) => {
                Some((ControlSocket::bind(&config.data_dir).map_err(Error::Control)?, api))
            }
            None => None,
        };
        let (hub, presentations) = (created.hub, created.packager.presentations());

        let (mut parts, pulse, retire) =
            (Parts::default(), Pulse::default(), CancellationToken::new());
        let readiness = Readiness::default();
        let health = Health::new(readiness.clone(), created.health.checks);
        let mut registry = created.registry;
        health.register(&mut registry);
        if let Some(export) = &export {
            export.register(&mut registry);
        }
        let tools = admin::router(registry, health);
        let tools = strict(tools, usize::try_from(config.http.max_headers).unwrap_or(usize::MAX));
        let (clock, ticking) = (hub.clone(), pulse.clone());
        // The clock first: it ends broadcasts whose publishers are away, and its beats keep the
        // watchdog quiet. Listeners follow when everything behind them runs.
        parts.start(Part::Clock, |stop| tick(clock, ticking, stop));
        if let Some(export) = export {
            parts.start(Part::Traces, |stop| export.serve(stop));
        }
        if let Some(ladder) = created.ladder {
            parts.start(Part::Ladder, |stop| ladder.serve(stop));
        }
        parts.start(Part::Packager, |stop| created.packager.serve(stop));
        let platform = created.platform.as_ref().map(|parts| parts.platform.clone());
        if let Some(platform) = created.platform {
            let older = predecessor.clone();
            let (webhooks, folder) = (platform.webhooks.clone(), platform.folder().to_owned());
            // The writer delivers and counts.
            if role == NodeRole::Writer {
                let pictures = platform.pictures.clone();
                parts.start(Part::Webhooks, |stop| deliver(webhooks, folder, stop));
                parts.start(Part::Pictures, |stop| pictures.serve(stop));
                if let Some(views) = created.views {
                    let platform = platform.platform.clone();
                    parts.start(Part::Views, |stop| views.run(platform, stop));
                }
            }
            #[cfg(feature = "search")]
            {
                let (search, folder) = (platform.search.clone(), platform.folder().to_owned());
                parts.start(Part::Search, |stop| super::platform::keep_index(search, folder, stop));
            }
            parts.start(Part::Platform, |stop| platform.follow(older, stop));
        }
        if let Some(bus) = created.bus {
            parts.start(Part::Bus, |stop| bus.serve(stop));
        }
        if let Some(postman) = created.postman {
            parts.start(Part::Mail, |stop| postman.serve(stop));
        }
        if let Some(certificates) = created.certificates.clone() {
            parts.start(Part::Certificates, |stop| certificates.watch(stop));
        }
        if let Some((socket, api)) = control {
            parts.start(Part::Control, |stop| socket.serve(api, stop));
        }
        let publishers = Arc::clone(&created.publishers);
        parts.start(Part::TokenKeys, |stop| publishers.watch(stop));
        parts.start(Part::Health, |stop| created.health.watch.run(stop));
        parts.start(Part::Admin, |stop| servers.admin.serve(tools, stop));
        parts.start(Part::Http, |stop| servers.http.serve(retire.clone(), stop));
        parts.start(Part::Rtmp, |stop| servers.rtmp.serve(retire.clone(), stop));
        // All parts run. Earlier connections have waited in the listeners' backlogs, so none of
        // them failed.
        readiness.set(true);
        for open in sockets.iter() {
            info!(listener = open.purpose.name(), addr = %open.address, "listening");
        }
        if let (Some(key), Some(address)) = (created.demo_key, sockets.address(Purpose::Rtmp)) {
            start_demo(&mut parts, config, &key, address, sockets.address(Purpose::Http))?;
        }
        let (live, peers) = (hub.clone(), created.rtmp_metrics);
        let status =
            move || format!("{} live, {} publishers", live.broadcasts().len(), peers.publishers());
        // Last, because a watchdog must not be notified for a daemon that does not serve.
        parts.start(Part::Notify, |stop| notify::watch(pulse, status, stop));
        let numbers = predecessor.as_deref().map(Predecessor::numbers).unwrap_or_default();
        Ok(Self {
            hub,
            presentations,
            platform: platform.clone(),
            readiness,
            parts,
            sockets,
            retire,
            edge: created.edge,
            retirement: Retirement::new(config, created.router, numbers.discontinuity),
            reloadable: Reloadable {
                running: loaded,
                file,
                publishers: created.publishers,
                administrator: created.administrator,
                manners: created.manners,
                playback: created.playback,
                certificates: created.certificates,
                access_log: created.access_log,
                operations: created.operations,
                platform,
            },
            predecessor,
        })
    }
}

impl Created {
    /// Creates the parts. Encoders are tested, which takes some seconds.
    async fn new(
        loaded: &Loaded,
        predecessor: Option<&Predecessor>,
        role: NodeRole,
    ) -> Result<Self, Error> {
        let config = &loaded.config;
        let (hub, packager) = make_packager(config, predecessor)?;
        let rtmp_metrics = ingest_rtmp::Metrics::default();
        let http_metrics = origin_http::Metrics::default();
        // The order of registration is the order of `/metrics`.
        let mut registry = Registry::with_prefix("streamforge");
        admin::register(&mut registry, hub.clone());
        packager.metrics().register(&mut registry);
        rtmp_metrics.register(&mut registry);
        http_metrics.register(&mut registry);
        // The certificate is loaded before the encoders are tested: a fault in it is reported
        // without a wait of some seconds.
        let certificates = load_certificates(config, &mut registry)?;
        let (ladder, pictures) = prepare_ladder(config, &hub, &mut registry).await?;
        let demo_key = config.demo.enabled.then(demo::Key::random);
        let mut manners = make_manners(config);
        let (takes_over, limiter) = (predecessor.is_some(), Arc::clone(&manners.limiter));
        let platform = PlatformParts::new(config, takes_over, limiter, role).await?;
        let bus = match &platform {
            Some(parts) => BusPart::new(config, &parts.identity).await?,
            None => None,
        };
        let directory = platform.as_ref().map(|parts| parts.directory.clone());
        let playback = make_playback(config, platform.as_ref());
        playback.register(&mut registry);
        let publishers = make_publishers(config, demo_key.as_ref(), &playback, directory)?;

        let audience = Audience::default();
        let viewers = AudienceCount { http: audience.clone(), rtmp: rtmp_metrics.clone() };
        let administrator = Administrator::new(config.api.administrator());
        manners.metrics = register_platform(platform.as_ref(), &mut registry);
        bus.iter().for_each(|bus| bus.register(&mut registry));
        let checked = Checked {
            config,
            ladder: ladder.as_ref(),
            certificates: certificates.as_ref(),
            platform: platform.as_ref().map(|parts| (&parts.platform, &parts.directory)),
            bus: bus.as_ref(),
        };
        #[allow(unused_mut, reason = "the search adds its own")]
        let mut health = Checks::new(&checked, &mut registry);
        #[cfg(feature = "search")]
        health.checks.extend(platform.as_ref().map(PlatformParts::search_health));
        let views = ViewCounts::new(config, platform.as_ref(), &mut registry);
        let operations = RunningDaemon::new(loaded, ladder.as_ref().map(Ladder::workers));
        let privacy = PrivateChannels(Arc::clone(&playback));
        let mut api =
            make_api(&hub, viewers, ladder.as_ref(), &administrator, privacy, predecessor);
        let mut postman = None;
        if let Some(parts) = &platform {
            let identity;
            (identity, postman) = accounts::complete(config, parts.identity.clone())?;
            // The writer sends the mails.
            postman = postman.filter(|_| role == NodeRole::Writer);
            api = api
                .with_platform(parts.platform.clone())
                .with_identity(identity)
                .with_playback_tokens(parts.playback_key.clone())
                .with_webhooks(parts.webhooks.clone())
                .with_pictures(parts.pictures.clone());
            #[cfg(feature = "search")]
            {
                api = api.with_search(parts.search.clone());
            }
        }
        api = api.with_operations(Arc::new(operations.clone()));
        let control = platform.as_ref().map(|parts| {
            let (platform, hasher) = (parts.platform.clone(), parts.identity.hasher().clone());
            // Its operator is not limited, but counted.
            let manners = Manners { metrics: manners.metrics.clone(), ..Manners::default() };
            let api = api.clone().with_manners(manners).router();
            api.merge(control_api::maintenance::routes(platform, hasher))
        });
        let api = api.with_manners(manners.clone()).router();
        let api = ApiService::new(api);
        let access_log = AccessLog::open(&config.http, &http_metrics)
            .map_err(|source| Error::AccessLog { file: config.http.access_log.clone(), source })?;
        let edge = make_edge(config, predecessor, &mut registry)?;
        let mut router = origin_http::Router::new(
            &config.http,
            packager.presentations(),
            pages::watch(),
            Box::new(ChannelPosters { hub: hub.clone(), pictures }),
            // The pages of the API's problems, and the keys of its tokens, are a part of it.
            ["/api/", "/problems/", "/.well-known/"]
                .map(|prefix| Mount::new(prefix, mount(config), api.clone()))
                .into(),
            audience,
            http_metrics,
        );
        router.log(access_log.clone());
        router.fetch_from(edge.clone());
        router.guard(Arc::clone(&playback));
        router.sample(views.as_ref().map(ViewCounts::sampler));
        Ok(Self {
            hub,
            packager,
            ladder,
            certificates,
            platform,
            bus,
            postman,
            views,
            control,
            publishers,
            demo_key,
            administrator,
            manners,
            playback,
            access_log,
            edge,
            router: Arc::new(router),
            rtmp_metrics,
            operations,
            health,
            registry,
        })
    }
}

impl Servers {
    /// Creates the servers, and moves or duplicates their sockets.
    fn new(config: &Config, created: &Created, sockets: &mut Sockets) -> Result<Self, Error> {
        // All TLS listeners share the certificate, so a reload applies to each of them.
        let certificates = || {
            let certificates = created.certificates.clone();
            certificates.map(|shown| shown as Arc<dyn ResolvesServerCert>)
        };
        let listeners = ingest_rtmp::Listeners {
            rtmp: sockets.tcp(Purpose::Rtmp)?,
            rtmps: sockets.tcp(Purpose::Rtmps)?,
        };
        let (hub, metrics) = (created.hub.clone(), created.rtmp_metrics.clone());
        let authorize = created.publishers.clone();
        let rtmp = ingest_rtmp::Server::new(
            &config.rtmp,
            listeners,
            certificates(),
            hub,
            authorize,
            metrics,
        )
        .map_err(Error::Rtmp)?;
        let listeners = http_server::Sockets {
            http: sockets.tcp(Purpose::Http)?,
            https: sockets.tcp(Purpose::Https)?,
            quic: sockets.quic(),
            ..http_server::Sockets::default()
        };
        let router = Arc::clone(&created.router);
        let metrics = router.metrics().server.clone();
        let settings = config.http.server(&config.https);
        let http = http_server::Server::new(settings, listeners, certificates(), router, metrics)
            .map_err(Error::Http)?;
        let admin = admin::Server::new(sockets.tcp(Purpose::Admin)?).map_err(Error::Admin)?;
        Ok(Self { rtmp, http, admin })
    }
}

/// The hub and its packager, whose numbers are above those of the old process.
fn make_packager(
    config: &Config,
    predecessor: Option<&Predecessor>,
) -> Result<(Hub, Packager), Error> {
    let hub = Hub::new(config.live.hub());
    let packager = Packager::new(hub.clone(), config.live.packager()).map_err(Error::Packager)?;
    let Some(numbers) = predecessor.map(Predecessor::numbers) else {
        return Ok((hub, packager));
    };
    hub.begin_after(numbers, Instant::now());
    Ok((hub, packager.after(numbers.discontinuity)))
}

/// The publishers of the configuration, and that of the test picture. Blocks for files.
fn make_publishers(
    config: &Config,
    demo_key: Option<&demo::Key>,
    playback: &Arc<Playback>,
    directory: Option<Directory>,
) -> Result<Arc<Publishers>, Error> {
    let mut publishers = Publishers::new(&config.publish).map_err(Error::Publish)?;
    publishers.guard(Arc::clone(playback));
    if let Some(directory) = directory {
        publishers.with_stored_keys(directory);
    }
    if let Some(key) = demo_key {
        publishers.admit(demo::channel().map_err(Error::DemoChannel)?, key.expose());
    }
    Ok(Arc::new(publishers))
}

/// The rules for playback tokens, with the platform's private channels and its key.
fn make_playback(config: &Config, platform: Option<&PlatformParts>) -> Arc<Playback> {
    let mut playback = Playback::new(&config.playback);
    if let Some(PlatformParts { directory, playback_key, .. }) = platform {
        playback = playback.with_directory(Box::new(directory.clone()));
        if let Some(key) = playback_key.verifying() {
            playback = playback.with_key(key, &config.playback);
        }
    }
    Arc::new(playback)
}

/// The properties of the API's mounts. Routes have limits of their own, of which that of pictures
/// may be greater than the usual one.
fn mount(config: &Config) -> http_server::mount::Settings {
    let usual = config.http.api();
    let max_body_bytes = usual.max_body_bytes.max(control_api::pictures::MAX_BYTES);
    http_server::mount::Settings { max_body_bytes, ..usual }
}

/// The limits and origins of the API.
fn make_manners(config: &Config) -> Manners {
    Manners {
        max_body_bytes: config.http.max_body_bytes,
        limiter: Arc::new(Limiter::new(config.api.limits())),
        cors: Cors::new(config.api.origins()),
        trusted: config.traces.trusted.clone(),
        ..Manners::default()
    }
}

/// Adds the metrics of the platform. Returns those of the API, which are counted with it alone.
fn register_platform(
    platform: Option<&PlatformParts>,
    registry: &mut Registry,
) -> Option<requests::Metrics> {
    let parts = platform?;
    let metrics = requests::Metrics::default();
    metrics.register(registry);
    parts.platform.register(registry);
    parts.directory.register(registry);
    parts.webhooks.register(registry);
    #[cfg(feature = "search")]
    parts.search.register(registry);
    Some(metrics)
}

/// The API, which includes the broadcasts of the old process.
fn make_api(
    hub: &Hub,
    viewers: AudienceCount,
    ladder: Option<&Ladder>,
    administrator: &Administrator,
    privacy: PrivateChannels,
    predecessor: Option<&Predecessor>,
) -> Api {
    let renditions: Arc<dyn Renditions> = match ladder {
        Some(ladder) => Arc::new(LadderStatus(ladder.statuses())),
        None => Arc::new(NoRenditions),
    };
    let mut api = Api::new(hub.clone(), Arc::new(viewers), renditions, administrator.clone())
        .hiding(Arc::new(privacy));
    if let Some(predecessor) = predecessor {
        api = api.beside(Arc::new(Older::at(predecessor.local())));
    }
    api
}

/// Loads the certificate, if one is configured.
fn load_certificates(
    config: &Config,
    registry: &mut Registry,
) -> Result<Option<Arc<Certificates>>, Error> {
    let Some(certificate) = config.certificate() else {
        return Ok(None);
    };
    let loaded = certificate.files().and_then(Certificates::load);
    let certificates = loaded.map_err(Error::Certificates)?;
    certificates.register(registry);
    Ok(Some(Arc::new(certificates)))
}

/// The edge for media of other processes: those of the old process, and those of the configured
/// origins.
fn make_edge(
    config: &Config,
    predecessor: Option<&Predecessor>,
    registry: &mut Registry,
) -> Result<Option<Arc<Edge>>, Error> {
    let local = predecessor.map(|predecessor| predecessor.local().to_owned());
    // The old process is asked first: it is on this machine and has the broadcasts of publishers
    // that have not reconnected.
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
    let edge = Edge::new(&settings, metrics).map_err(Error::Edge)?;
    Ok(Some(edge))
}

/// Publishes the test picture, and prints where to watch it.
fn start_demo(
    parts: &mut Parts,
    config: &Config,
    key: &demo::Key,
    rtmp: SocketAddr,
    http: Option<SocketAddr>,
) -> Result<(), Error> {
    let worker = demo::worker(rtmp, &config.rtmp.app, key).map_err(Error::Demo)?;
    parts.start(Part::Demo, |stop| worker.supervise(stop));
    if let Some(http) = http {
        // On stdout, independent of the log's format.
        let (address, channel) = (demo::reachable(http), demo::CHANNEL);
        // Nobody may read it.
        let _ = writeln!(io::stdout(), "Watch http://{address}/watch/{channel}");
    }
    Ok(())
}

/// The ladder, if it is enabled and possible, and the pictures of broadcasts.
///
/// # Errors
/// The configured encoder does not work.
async fn prepare_ladder(
    config: &Config,
    hub: &Hub,
    registry: &mut Registry,
) -> Result<(Option<Ladder>, Pictures), Error> {
    // The running program, even if another version has been installed in its place, because a
    // worker must have the daemon's protocol version.
    let program = PathBuf::from("/proc/self/exe");
    let pictures = Pictures::new(program.clone(), config.ladder.poster(), config.ladder.nice());
    let metrics = transcoder::Metrics::default();
    metrics.register(registry);
    if !config.ladder.encodes() {
        return Ok((None, pictures));
    }
    let settings = config.ladder.transcoder();
    match Ladder::prepare(hub.clone(), settings, program, pictures.clone(), metrics).await {
        Ok(ladder) => Ok((Some(ladder), pictures)),
        // A named encoder must not be replaced by another one, so its failure is a fault. Otherwise
        // sources are served without renditions.
        Err(err @ ladder::Error::NotThisEncoder(_)) => Err(Error::Encoder(err)),
        Err(err) => {
            warn!(%err, "no ladder: only sources are served");
            Ok((None, pictures))
        }
    }
}

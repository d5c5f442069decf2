//! What `serve` runs: the hub and its clock, the listeners, the packager, the demonstration; and how they stop, in the order in which data
//! flow, under one grace period.

mod adapters;
mod parts;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use control_api::{Api, Renditions, admin, renditions::NoRenditions};
use media_core::Hub;
use origin_http::Audience;
use packager::{Live, Packager, Presentations};
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transcoder::{Ladder, Pictures, ladder};

use crate::{config::Config, demo, pages, publish::Publishers, signals::Signals};
use adapters::{ApiService, AudienceCount, ChannelPosters, LadderStatus};
use parts::{Part, Parts};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// How often the clock acts on the hub.
const TICK: Duration = Duration::from_millis(100);
/// From the first signal until everything has stopped.
const GRACE: Duration = Duration::from_secs(10);
/// For publishers and RTMP players to be told; who does not read keeps its connection until the grace is over, and nobody waits for it.
const TELL: Duration = Duration::from_secs(1);
/// After the broadcasts have ended: for players to fetch the end of their playlists.
const LINGER: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// One line: why it did not start, or did not end well.
pub(crate) fn run(config: Config) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| format!("no threads to run on: {err}"))?;
    let outcome = runtime.block_on(serve(&config));
    // What is left has outlived the grace.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|err| format!("signals: {err}"))?;
    let mut daemon = Daemon::start(config).await?;
    let ended_by_itself = tokio::select! {
        signal = signals.next() => {
            info!(signal, grace_s = GRACE.as_secs(), "stopping");
            false
        }
        () = daemon.parts.any_ended() => true,
    };
    tokio::select! {
        drained = timeout(GRACE, daemon.stop()) => if drained.is_err() {
            warn!("not all has stopped within the grace, ending");
        },
        signal = signals.next() => {
            return Err(format!("ended at once by a second {signal}; what was live is cut off"));
        }
    }
    info!("stopped");
    match (daemon.parts.panicked(), ended_by_itself) {
        (Some(part), _) => Err(format!(
            "{part} has failed, a fault of this program: the log says where; start it again"
        )),
        (None, true) => Err("a part has ended by itself: the log says which; start it again".into()),
        (None, false) => Ok(()),
    }
}

/// All that runs.
struct Daemon {
    hub: Hub,
    presentations: Presentations,
    readiness: admin::Readiness,
    parts: Parts,
}

impl Daemon {
    /// Binds all listeners, then starts all parts.
    async fn start(config: &Config) -> Result<Self, String> {
        let hub = Hub::new(config.live.hub());
        let packager = Packager::new(hub.clone(), config.live.packager()).map_err(|err| format!("live: {err}"))?;
        let presentations = packager.presentations();
        let rtmp_metrics = ingest_rtmp::Metrics::default();
        let http_metrics = origin_http::Metrics::default();
        let readiness = admin::Readiness::default();

        let mut registry = Registry::with_prefix("streamforge");
        admin::register(&mut registry, hub.clone());
        packager.metrics().register(&mut registry);
        rtmp_metrics.register(&mut registry);
        http_metrics.register(&mut registry);

        // What runs, though another may have been installed in its place: a worker speaks its own daemon's language.
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

        let audience = Audience::default();
        let viewers = Arc::new(AudienceCount {
            http: audience.clone(),
            rtmp: rtmp_metrics.clone(),
        });
        let renditions: Arc<dyn Renditions> = match &ladder {
            Some(ladder) => Arc::new(LadderStatus(ladder.statuses())),
            None => Arc::new(NoRenditions),
        };
        let api = Api::new(hub.clone(), viewers, renditions, config.api.administrator());
        let api = ApiService::new(api.router());
        let router = origin_http::Router::new(
            &config.http,
            presentations.clone(),
            pages::watch(),
            Box::new(ChannelPosters {
                hub: hub.clone(),
                pictures,
            }),
            Box::new(api),
            audience,
            http_metrics,
        );

        let rtmp = config.rtmp.listen.map(|address| {
            ingest_rtmp::Server::bind(&config.rtmp, hub.clone(), Arc::new(publishers), rtmp_metrics)
                .map_err(|err| unbound("rtmp", address, &err))
        });
        let rtmp = rtmp.transpose()?;
        let mut sockets = origin_http::Sockets::default();
        for &address in &config.http.listen {
            sockets
                .http
                .push(listen(address).map_err(|err| unbound("http", address, &err))?);
        }
        let http_addresses: Vec<SocketAddr> = sockets.http.iter().filter_map(|at| at.local_addr().ok()).collect();
        let https = origin_http::Https::default();
        let http = (!sockets.http.is_empty())
            .then(|| origin_http::Server::new(&config.http, &https, sockets, None, Arc::new(router)))
            .transpose()
            .map_err(|err| format!("http: {err}"))?;
        let admin = match config.admin.listen {
            Some(address) => Some(
                admin::Server::bind(address)
                    .await
                    .map_err(|err| unbound("admin", address, &err))?,
            ),
            None => None,
        };

        let mut parts = Parts::default();
        let clock = hub.clone();
        parts.start(Part::Clock, |stop| tick(clock, stop));
        if let Some(ladder) = ladder {
            parts.start(Part::Ladder, |stop| ladder.serve(stop));
        }
        parts.start(Part::Packager, |stop| packager.serve(stop));
        if let Some(server) = admin {
            listening("admin", server.local_addr());
            let router = admin::router(registry, readiness.clone());
            parts.start(Part::Admin, |stop| server.serve(router, stop));
        }
        let http_address = http_addresses.first().copied();
        if let Some(server) = http {
            for &address in &http_addresses {
                listening("http", address);
            }
            parts.start(Part::Http, |stop| server.serve(CancellationToken::new(), stop));
        }
        if let Some(server) = rtmp {
            let address = server.local_addr();
            listening("rtmp", address);
            parts.start(Part::Rtmp, |stop| server.serve(stop));
            if let Some(key) = demo_key {
                let worker = demo::worker(address, &config.rtmp.app, &key)
                    .map_err(|err| format!("the test picture's program: {err}"))?;
                parts.start(Part::Demo, |stop| worker.supervise(stop));
                if let Some(http) = http_address {
                    // For people: stdout, whatever the log looks like.
                    println!("Watch http://{}/watch/{}", demo::reachable(http), demo::CHANNEL);
                }
            }
        }
        readiness.set(true);
        Ok(Self {
            hub,
            presentations,
            readiness,
            parts,
        })
    }

    /// Stops all parts in the order data flow: publishers, broadcasts, requests, the rest. Bounded by the caller.
    async fn stop(&mut self) {
        self.readiness.set(false);
        self.parts.stop(Part::Demo).await;
        let live: Vec<Arc<Live>> = self
            .hub
            .broadcasts()
            .iter()
            .filter_map(|broadcast| self.presentations.broadcast(broadcast.id()))
            .collect();
        if timeout(TELL, self.parts.stop(Part::Rtmp)).await.is_err() {
            info!("rtmp peers left that do not read");
        }
        self.hub.close();
        for live in &live {
            // A segment that never comes: the end is what wakes this.
            live.changed(0, u64::MAX, None).await;
        }
        if live.iter().any(|live| live.current().is_some()) {
            sleep(LINGER).await;
        }
        for part in [
            Part::Ladder,
            Part::Http,
            Part::Packager,
            Part::Rtmp,
            Part::Clock,
            Part::Admin,
        ] {
            self.parts.stop(part).await;
        }
    }
}

/// The ladder, if there is to be one and there can be.
///
/// # Errors
/// The configuration asks for an encoder that does not work.
async fn prepare_ladder(
    config: &Config,
    hub: &Hub,
    program: PathBuf,
    pictures: &Pictures,
    metrics: transcoder::Metrics,
) -> Result<Option<Ladder>, String> {
    if !config.ladder.enabled {
        return Ok(None);
    }
    let settings = config.ladder.transcoder();
    match Ladder::prepare(hub.clone(), settings, program, pictures.clone(), metrics).await {
        Ok(ladder) => Ok(Some(ladder)),
        Err(err @ ladder::Error::NotThisEncoder(_)) => Err(format!("ladder.encoder: {err}")),
        Err(err) => {
            warn!(%err, "no ladder: sources are passed through alone");
            Ok(None)
        }
    }
}

/// Lets the clock act on the hub until `stop`.
async fn tick(hub: Hub, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => hub.advance(Instant::now()),
            () = stop.cancelled() => break,
        }
    }
}

/// A listening socket. A `[::]` address takes IPv4 too, and becomes `0.0.0.0` where there is no IPv6.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let any = address.is_ipv6() && address.ip().is_unspecified();
    match bind(address) {
        Err(err) if any && err.kind() != io::ErrorKind::AddrInUse => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        listener => listener,
    }
}

fn listening(listener: &'static str, address: SocketAddr) {
    info!(listener, addr = %address, "listening");
}

/// Why a listener could not be bound, and what to do.
pub(crate) fn unbound(section: &str, address: SocketAddr, err: &io::Error) -> String {
    let advice = match err.kind() {
        io::ErrorKind::AddrInUse => "another program has the port: stop it, or set another",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address: set another",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set another",
        _ => "set another",
    };
    format!("{section}.listen: {address}: {err}; {advice}")
}

//! The platform's API under load, beside PostgreSQL: reads of one thing by its identifier, and
//! durable edits. Each server runs on core 0, the loaders (wrk, pgbench, our own for edits) on
//! core 1; servers alternate within a round. The rate "a core" is that of core 0, which the server
//! fills.
//!
//! `--rounds 3 --seconds 5 --connections 64 --channels 2000`. Needs two cores, root, Debian's `wrk`
//! and `postgresql`, and a disk under the directory for temporary files.

use std::{
    fs,
    time::{Duration, Instant},
};

use benches::{
    Failure,
    loader::{self, Latency},
    postgres::Postgres,
    process::{option, pin},
    site::{Folder, Site},
};

/// The core of the measured server.
const SERVER_CORE: usize = 0;
/// The core of the loaders, which inherit it from this process.
const LOAD_CORE: usize = 1;

fn main() -> Result<(), Failure> {
    let rounds: usize = option("--rounds", 3)?;
    let seconds: u64 = option("--seconds", 5)?;
    let connections: usize = option("--connections", 64)?;
    let channels: usize = option("--channels", 2_000)?;
    pin(LOAD_CORE)?;
    let begun = Instant::now();
    let site = Site::start(Some(SERVER_CORE), channels)?;
    println!("{} channels made in {:.1} s", site.channels.len(), begun.elapsed().as_secs_f64());
    let postgres = Postgres::start(SERVER_CORE)?;
    let scripts = Folder::new("scripts")?;
    let script = scripts.path().join("channels.lua");
    fs::write(&script, random_channels(&site.channels))?;
    println!(
        "| round | what | a second | p99 | of the server's core |\n| --- | --- | --- | --- | --- |"
    );
    for round in 1..=rounds {
        let row = |what: &str, rate: f64, p99_ms: f64, share: f64| {
            println!("| {round} | {what} | {rate:.0} | {p99_ms:.2} ms | {:.0} % |", share * 1e2);
        };
        let before = site.daemon.server.usage()?.scheduled_s;
        let Latency { rate, p99_ms } =
            loader::latency(site.daemon.http, &script, connections, seconds)?;
        let spent = site.daemon.server.usage()?.scheduled_s - before;
        row("reads through HTTP", rate, p99_ms, spent / seconds as f64);

        let count = postgres.read(connections, seconds)?;
        row("reads of PostgreSQL", count.rate, count.p99_ms, f64::NAN);

        let before = site.daemon.server.usage()?.scheduled_s;
        let edits = site.edit(0, Instant::now() + Duration::from_secs(seconds))?;
        let spent = site.daemon.server.usage()?.scheduled_s - before;
        let p99 = edits.times.get(edits.times.len() * 99 / 100).ok_or("no edits")?;
        let lasted = edits.lasted.as_secs_f64();
        row(
            "edits through HTTP",
            edits.done as f64 / lasted,
            p99.as_secs_f64() * 1e3,
            spent / lasted,
        );

        let count = postgres.write(32, seconds)?;
        row("updates of PostgreSQL", count.rate, count.p99_ms, f64::NAN);
    }
    Ok(())
}

/// wrk's script: requests of random channels.
fn random_channels(channels: &[String]) -> String {
    let list: Vec<_> = channels.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        "local ids = {{{}}}\nrequest = function()\n  return wrk.format(\"GET\", \
         \"/api/v1/channels/\" .. ids[math.random(#ids)])\nend\n",
        list.join(",")
    )
}

//! What one turn of the control loop costs with thousands of workspaces in the table, and what a look into it.
//!
//! `rounds [WORKSPACES] [TURNS]`: a driver that has so many workspaces running, all at one listener; the loop is the
//! real one with its records, on a runtime like usher's. A turn is one request that changes one workspace: it is
//! answered when the new table is published. A lookup is what every request does.

mod driver;

use anyhow::Context;
use config::{Config, WorkspaceId};
use control::{Acts, Control, RedbRecords, Workspaces};
use driver::Running;
use prometheus::Registry;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// As usher has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Nothing of it is reaped while it is measured, and still each turn computes when it would be.
const CONFIG: &str = r#"
domain = "lab.localhost"
state_dir = "/nonexistent"
[[listeners]]
address = "127.0.0.1:0"
[login]
development = true
[access]
allow = "true"
template = "'bench'"
[workspaces]
idle_after = "1h"
[templates.bench]
command = ["true", "{port}"]
connect = "port"
"#;
/// Of how many lookups the average is taken.
const LOOKUPS: usize = 1_000_000;
/// How long the loop is watched while nothing happens but the passing of time.
const QUIET: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (workspaces, turns) = (number(5_000)?, number(2_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(workspaces, turns))
}

async fn measure(count: usize, turns: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let running = Running::at(listener.local_addr()?, count)?;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let ids = running.ids.clone();
    let folder = tempfile::tempdir()?;
    let config = Config::parse("bench", CONFIG, &|_| None).context("the configuration of the bench")?;
    let (_config, config) = watch::channel(Arc::new(config));
    let records = Arc::new(RedbRecords::open(&folder.path().join("state.redb"))?);
    let shutdown = CancellationToken::new();

    let begun = Instant::now();
    let control = Control::start(
        config,
        Arc::new(running),
        records,
        &Registry::new(),
        Acts::untold(),
        shutdown.clone(),
    )
    .await?;
    all_ready(&control.workspaces, count).await?;
    let adopted = begun.elapsed();

    let mut times = Vec::with_capacity(turns);
    let busy = cpu_time();
    for id in ids.iter().cycle().take(turns) {
        let asked = Instant::now();
        control.workspaces.extend(id).await.context("a ready workspace can be extended")?;
        times.push(asked.elapsed());
    }
    let per_turn = (cpu_time() - busy) / u32::try_from(turns)?;
    let lookup = lookup_time(&control.workspaces, &ids)?;
    let busy = cpu_time();
    tokio::time::sleep(QUIET).await;
    let per_second = (cpu_time() - busy) / u32::try_from(QUIET.as_secs())?;
    times.sort_unstable();
    println!("\n## rounds: one turn of the control loop, {turns} turns one after the other");
    println!(
        "| workspaces | p50 ms | p99 ms | CPU ms/turn | CPU ms/s at rest | all adopted after s | lookup ns |"
    );
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {count} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        ms(times[turns / 2]),
        ms(times[turns * 99 / 100]),
        ms(per_turn),
        ms(per_second),
        adopted.as_secs_f64(),
        lookup.as_nanos()
    );
    shutdown.cancel();
    control.running.await??;
    Ok(())
}

/// Waits until every workspace is ready.
async fn all_ready(workspaces: &Workspaces, count: usize) -> anyhow::Result<()> {
    let mut changes = workspaces.changes();
    loop {
        changes.borrow_and_update();
        let ready = workspaces.all().iter().filter(|entry| entry.phase.as_str() == "ready").count();
        if ready == count {
            return Ok(());
        }
        let changed = tokio::time::timeout(Duration::from_secs(60), changes.changed()).await;
        changed.with_context(|| format!("only {ready} of {count} workspaces became ready"))??;
    }
}

/// How long a lookup takes on average, of each workspace in turn: none is where the one before was.
fn lookup_time(workspaces: &Workspaces, ids: &[WorkspaceId]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for id in ids.iter().cycle().take(LOOKUPS) {
        let found = std::hint::black_box(workspaces.lookup(id));
        found.with_context(|| format!("{id} is in the table"))?;
    }
    Ok(begun.elapsed() / u32::try_from(LOOKUPS)?)
}

/// The processor time of this process so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

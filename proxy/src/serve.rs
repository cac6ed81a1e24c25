//! `usher serve`: makes every part, joins them, and ends them in order.

mod certificates;
mod ground;
mod operators;

use crate::accept::{self, CoreFailed, Cores};
use crate::assertion::Assertions;
use crate::audit::{Audit, AuditError, Auditing};
use crate::edge::Edge;
use crate::identity::{ProviderError, Providers, refresh};
use crate::keys::{Following, Keys, KeysError};
use crate::limits::Limits;
use crate::listen::{self, Bound, ListenError};
use crate::machines::{IssuerError, Issuers, Machines};
use crate::metrics::Metrics;
use crate::{drain, pem, prestart, warnings};
use arc_swap::ArcSwap;
use certificates::CertificatesError;
use certs::{HttpChallenges, Resolver};
use config::Config;
use control::kubernetes::{ConnectError, RightsError};
use control::{Control, LoopError, OpenError, Records, SessionRef, StartError, StoreOpenError};
use ground::{BesideRecords, Ground};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Threads of the runtime beside the cores: the control loop, the records, the admin listeners. None of it is in
/// the way of a request, so two are enough on any machine.
const CONTROL_THREADS: usize = 2;

/// Why Usher could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder cannot be made or is not ours alone.
    #[error("the state folder {} cannot be used: {problem}", path.display())]
    State {
        /// `state_dir`.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The embedded file cannot be used.
    #[error(transparent)]
    Records(#[from] StoreOpenError),
    /// There is no way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ConnectError),
    /// Workspaces or routes are beside the records.
    #[error(transparent)]
    Beside(#[from] BesideRecords),
    /// The cluster lacks what Usher needs.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The driver cannot begin.
    #[error(transparent)]
    Driver(#[from] OpenError),
    /// An identity provider cannot be followed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The audit file cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A trusted issuer cannot be followed.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Certificates cannot be kept or had.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// What keeps certificates ended although nobody told it to.
    #[error(transparent)]
    CertificatesEnded(#[from] certs::Ended),
    /// A listener cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control loop cannot begin.
    #[error(transparent)]
    Control(#[from] StartError),
    /// Two metrics of one name.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The operator's side cannot be bound.
    #[error("the admin listener {place} cannot be bound; end what listens there, or change [admin] {key}")]
    Admin {
        /// The address or path.
        place: String,
        /// Its key.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the admin address's TLS cannot be used.
    #[error("the admin address cannot be served by TLS")]
    AdminFiles(#[from] pem::Unusable),
    /// The system gives no thread, runtime or signal.
    #[error("the system refuses what usher needs to run: threads, descriptors or signals")]
    System(#[from] io::Error),
    /// The control loop ended although nobody told it to.
    #[error("the control loop ended")]
    LoopEnded(#[from] LoopError),
    /// A part that runs for ever panicked.
    #[error("a part of usher panicked")]
    Panicked(#[from] JoinError),
    /// A thread that carries connections ended although nobody told it to.
    #[error("a thread that carries connections ended")]
    CoreEnded,
    /// An admin listener ended although nobody told it to.
    #[error("an admin listener ended")]
    AdminEnded,
    /// What asks the identity providers ended although nobody told it to.
    #[error("what asks the identity providers ended")]
    IdentityEnded,
    /// What writes the audit trail ended although nobody told it to.
    #[error("what writes the audit trail ended")]
    AuditEnded,
    /// As [`ServeError::CoreEnded`], by a panic, seen at the end.
    #[error(transparent)]
    CoreFailed(#[from] CoreFailed),
}

/// How long threads that write are waited for at the end.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Runs the edge until it was drained.
///
/// # Errors
/// It cannot start, or a part that must run for ever ended.
pub fn serve(config: Config) -> Result<(), ServeError> {
    let open_files = raise_descriptor_limit();
    prepare_state_dir(&config.state_dir)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("usher-control")
        .enable_all()
        .build()?;
    let served = runtime.block_on(run(Arc::new(config), open_files));
    // What is being written is waited for; a thread that waits for a mount which hangs is not, for ever.
    runtime.shutdown_timeout(LAST_WRITES);
    served
}

async fn run(config: Arc<Config>, open_files: Option<u64>) -> Result<(), ServeError> {
    let shutdown = CancellationToken::new();
    let metrics = Metrics::new()?;
    let (audit, mut auditing) = Audit::begin(&config.audit, &metrics.audit)?;
    let ground = Ground::prepare(&config, &metrics.registry).await?;
    let records = ground.records();
    let (keys, following) = Keys::open_for(&config, &records).await?;
    let (resolver, challenges) = (Resolver::of_none(), HttpChallenges::default());
    let tls = listen::tls::server_config(resolver.clone(), &config.tls, &keys);
    let bound = listen::bind(&config.listeners, &tls, cores())?;
    let (_config, seen) = watch::channel(config.clone());
    let secrets = ground.tls_secrets(certificates::named_secrets(&config));
    let (driver, driving) = ground.drive(seen.clone(), open_files, shutdown.clone()).await?;
    let shared = driver.shared();
    let leads = shared.as_ref().map(|shared| shared.leads.clone());
    let (registry, acts) = (&metrics.registry, audit.acts());
    let control = Control::start(seen, driver, records.clone(), registry, acts, shutdown.clone()).await?;
    let around = certificates::Around {
        config: &config,
        records: &records,
        shared,
        workspaces: &control.workspaces,
        secrets,
        registry,
    };
    let (operations, certifying) =
        certificates::begin(around, (resolver.clone(), challenges.clone())).await?;
    let (providers, mut discovering) = Providers::follow(&config.login)?;
    let issuers = Issuers::follow(&config, &control.users, &mut discovering)?;
    let (refresh, wishes) = refresh::Wishes::new();
    let edge = Arc::new(Edge {
        config: ArcSwap::from(config.clone()),
        workspaces: control.workspaces,
        sessions: control.sessions,
        tokens: control.tokens,
        machines: Machines::new(&keys, issuers, &metrics),
        users: control.users,
        tickets: control.tickets,
        providers,
        refresh,
        resolver,
        challenges,
        assertions: Assertions::new(&keys),
        keys,
        certificates: operations,
        origins: bound.origins(),
        limits: Limits::new(&metrics),
        metrics,
        audit,
        draining: CancellationToken::new(),
        close_tunnels: CancellationToken::new(),
        drain: drain::Drain::default(),
    });
    let beside =
        Beside { control: control.running, discovering, following, certifying, auditing: &mut auditing };
    let tools = Tools { records, leads, wishes, shutdown };
    carry(&edge, bound, beside, tools).await?;
    driving.await?;
    // Last: what the others do until they end is told, too.
    Ok(auditing.end().await?)
}

/// How many threads carry connections.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the parts that begin with the requests work with.
struct Tools {
    records: Arc<dyn Records>,
    leads: Option<watch::Receiver<bool>>,
    wishes: mpsc::Receiver<SessionRef>,
    shutdown: CancellationToken,
}

/// Carries requests until everything was drained; then what ran beside them has ended, but for the driver and the trail.
async fn carry(edge: &Arc<Edge>, bound: Bound, beside: Beside<'_>, tools: Tools) -> Result<(), ServeError> {
    let Tools { records, leads, wishes, shutdown } = tools;
    // Before anybody is told that it listens, and may want it to end.
    let signals = drain::Signals::new()?;
    let admin = operators::serve(edge).await?;
    announce(edge, &bound);
    let cores = accept::spawn(edge, bound)?;
    let refreshing = tokio::spawn(refresh::run(edge.clone(), wishes, shutdown.clone()));
    let prestarting = prestart::begin(edge.clone(), records, leads, shutdown.clone());
    let mut parts = Parts { admin, refreshing, beside };
    let watched = watch_over(edge, signals, &cores, &mut parts).await;
    watched.inspect_err(|error| tracing::error!(%error, "usher ends, since a part of it has"))?;
    tokio::task::spawn_blocking(|| cores.join()).await??;
    shutdown.cancel();
    parts.beside.control.await??;
    parts.refreshing.await?;
    Ok(prestarting.await?)
}

/// What runs before there are requests.
struct Beside<'a> {
    control: JoinHandle<Result<(), LoopError>>,
    /// Who follows the identity providers.
    discovering: JoinSet<()>,
    following: Following,
    certifying: certs::Running,
    /// Who writes the trail.
    auditing: &'a mut Auditing,
}

/// What runs beside the requests until everything was drained.
struct Parts<'a> {
    admin: JoinSet<()>,
    refreshing: JoinHandle<()>,
    beside: Beside<'a>,
}

/// Returns when everything was drained.
async fn watch_over(
    edge: &Edge,
    signals: drain::Signals,
    cores: &Cores,
    parts: &mut Parts<'_>,
) -> Result<(), ServeError> {
    let Parts { admin, refreshing, beside } = parts;
    let Beside { control, discovering, following, certifying, auditing } = beside;
    let drained = drain::on_signal(edge, signals);
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => Ok(()),
        ended = control => Err(ended?.err().map_or(ServeError::CoreEnded, ServeError::from)),
        error = operators::ended(admin) => Err(error),
        ended = refreshing => Err(ended.err().map_or(ServeError::IdentityEnded, ServeError::from)),
        Some(ended) = discovering.join_next() => Err(ended.err().map_or(ServeError::IdentityEnded, ServeError::from)),
        error = following => Err(error.into()),
        ended = certifying => Err(ended.into()),
        ended = auditing.ended() => Err(ended.err().map_or(ServeError::AuditEnded, ServeError::from)),
        () = cores.ended() => {
            // In a drain the cores end one by one; before it that is a fault.
            if edge.draining.is_cancelled() { drained.await; Ok(()) } else { Err(ServeError::CoreEnded) }
        }
    }
}

/// As many descriptors as the system lets this process have: every connection takes one or two. Tells how many it
/// was started with, which is what its workspaces get.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    limit.current
}

/// Makes the state folder for its owner alone, or sees that it is so: it holds keys, sessions and users' files.
fn prepare_state_dir(path: &Path) -> Result<(), ServeError> {
    let unusable = |problem: String| ServeError::State { path: path.to_owned(), problem };
    let failed = |error: io::Error| {
        unusable(format!("{error}; state_dir must name a folder that usher can make, or that is its own"))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let found = path.metadata().map_err(failed)?;
    let (mode, owner, own) = (found.permissions().mode() & 0o777, found.uid(), geteuid().as_raw());
    if owner != own {
        // Whoever has it may have put keys there that they know.
        return Err(unusable(format!(
            "it belongs to user {owner}, and usher runs as user {own}; run: chown {own} {}",
            path.display()
        )));
    }
    if mode & 0o077 != 0 {
        return Err(unusable(format!(
            "others may enter it (mode {mode:03o}); run: chmod 700 {}",
            path.display()
        )));
    }
    Ok(())
}

/// Says where it listens, what to open, and what is dangerous.
fn announce(edge: &Edge, bound: &Bound) {
    let config = edge.config.load();
    for address in bound.addresses() {
        tracing::info!(listener.address = %address, "listening");
    }
    if config.login.development {
        edge.metrics.development_login.set(1);
        tracing::warn!(
            login.anywhere = config.login.development_from_anywhere_unsafe,
            "the development login is on: it believes whatever name is typed"
        );
    }
    for warning in warnings::of(&config) {
        tracing::warn!("{warning}");
    }
    let Some(listener) = edge.origins.0.first() else { return };
    let mut text = format!("The portal is at {}/\n", listener.origin(config.portal.as_str()));
    if config.login.development {
        let workspace = listener.origin(&format!("alice.{}", config.domain));
        text.push_str(&format!("Try {workspace}/ and log in as alice\n"));
    }
    // Only a courtesy: whoever closed standard output does not want it.
    io::stdout().write_all(text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_state_folder_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        prepare_state_dir(&state).unwrap();
        assert_eq!(mode(&state), 0o700);
    }

    #[test]
    fn a_state_folder_that_others_may_enter_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        let told = prepare_state_dir(folder.path()).unwrap_err().to_string();
        assert!(told.contains("mode 750") && told.contains("chmod 700"), "{told}");
    }

    #[test]
    fn a_state_folder_of_somebody_else_is_refused_with_the_way_out() {
        assert!(geteuid().is_root(), "only root can give folders away: run this test as root");
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(12345), None).unwrap();
        let told = prepare_state_dir(folder.path()).unwrap_err().to_string();
        assert!(told.contains("belongs to user 12345") && told.contains("run: chown 0 "), "{told}");
    }
}

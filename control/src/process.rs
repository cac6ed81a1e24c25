//! The driver `process`: a workspace is a child process of Usher on this machine.
//!
//! All workspaces run under Usher's own account, so a process is no security boundary: whoever can run code in one
//! can read the files, memory and sockets of all others. It is for one person, or for people who trust each other.
//!
//! Workspaces outlive Usher. The next one finds them by their records, and by the mark in their environment.

mod board;
mod causes;
mod command;
mod ending;
mod folders;
mod keeper;
mod launch;
mod log;
mod ports;
mod proc;
mod recorded;

use crate::{Action, Cause, Driver, Event, Identity, Observed, ObservedPhase, RecordError, Records};
use board::Board;
use config::{TemplateName, WorkspaceId};
use ending::{Looker, end_all};
use folders::{Folders, utf8};
use futures_util::stream::BoxStream;
use keeper::{About, Found, Keeper, Running, generation};
use launch::{Main, address};
use ports::Ports;
use proc::{Held, Whose};
use recorded::{Ledger, Place, Recorded, Run, Wanted};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many starts and stops of one workspace may wait for the one that is under way.
const MAILBOX: usize = 16;
/// The grace of processes whose workspace has no record, and so no template's grace.
const STRAY_GRACE: Duration = Duration::from_secs(5);

/// What the driver is told about the machine.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// The folder of homes, sockets, logs and the installation's id. One Usher at a time uses it.
    pub state_dir: PathBuf,
    /// The `usher` binary, for templates with `{usher}`.
    pub usher: PathBuf,
    /// How many files a workspace may have open unless it raises the limit itself: what Usher was started with,
    /// where it has raised its own. None = no limit.
    pub open_files: Option<u64>,
}

/// Runs workspaces as child processes. Dropping it leaves them running.
pub struct ProcessDriver {
    shared: Arc<Shared>,
    keepers: Mutex<HashMap<WorkspaceId, mpsc::Sender<Action>>>,
}

/// Why the driver cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file of the state cannot be used.
    #[error("cannot use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another Usher uses the state folder.
    #[error("another usher uses this state folder: {} is held by {by}", path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
        /// Who holds it.
        by: String,
    },
    /// Unix sockets in the state folder would have too long a path.
    #[error("the path of the state folder is {by} bytes too long for Unix sockets: {}", path.display())]
    PathTooLong {
        /// The state folder.
        path: PathBuf,
        /// By how much.
        by: usize,
    },
    /// A path cannot be written into a template.
    #[error("the path is not UTF-8: {}", .0.display())]
    NotUtf8(PathBuf),
    /// `/proc` does not tell what it should.
    #[error("cannot look at the processes of this machine")]
    Processes(#[source] io::Error),
    /// The records cannot be read.
    #[error("cannot read the records of workspaces")]
    Records(#[source] RecordError),
    /// One record is not as this version writes it.
    #[error("the record of workspace {name} cannot be read: {problem}")]
    BadRecord {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// What all keepers use.
struct Shared {
    folders: Folders,
    usher: String,
    open_files: Option<u64>,
    boot: String,
    records: Arc<dyn Records>,
    looker: Looker,
    ports: Ports,
    board: Board,
}

/// The mark of a workspace's processes.
fn mark(installation: &str, name: &str) -> String {
    format!("{installation}/{name}")
}

/// A workspace as its record and a look at its process show it.
struct Known {
    id: WorkspaceId,
    ledger: Ledger,
    about: About,
    found: Found,
}

impl ProcessDriver {
    /// Finds the workspaces of an earlier Usher again: routes to those that run, ends what was left half done.
    ///
    /// # Errors
    /// The state folder, the records or `/proc` cannot be used.
    pub async fn open(settings: ProcessSettings, records: Arc<dyn Records>) -> Result<Self, OpenError> {
        let folders = Folders::open(&settings.state_dir).await?;
        let usher = utf8(&settings.usher)?.to_owned();
        let boot = proc::boot_id().map_err(OpenError::Processes)?;
        let mut known = Vec::new();
        for (ledger, recorded) in Ledger::all(&records).await.map_err(OpenError::Records)? {
            known.push(know(ledger, recorded, &boot)?);
        }
        let (looker, ports, board) = (Looker::new(), Ports::default(), Board::new(Vec::new()));
        let open_files = settings.open_files;
        let shared = Arc::new(Shared { folders, usher, open_files, boot, records, looker, ports, board });
        end_strays(&shared, &known).await?;
        remove_old_sockets(&shared, &known)?;
        let driver = Self { shared, keepers: Mutex::default() };
        for one in known {
            driver.take_up(one).await;
        }
        Ok(driver)
    }

    /// Shows a known workspace and gives it a keeper.
    async fn take_up(&self, known: Known) {
        let Known { id, ledger, about, found } = known;
        let phase = match &found {
            Found::Running(Running { run, .. }) => {
                if let Place::Port(port) = run.place {
                    self.shared.ports.adopt(&id, port);
                }
                let address = Some(address(&self.shared, run));
                Some(ObservedPhase::started(generation(run), address))
            }
            Found::Unfinished { run: Some(run), .. } => Some(ObservedPhase::stopping(generation(run))),
            // All but gone: only files and the record are left to remove.
            Found::Unfinished { run: None, .. } => None,
            Found::Idle => Some(ObservedPhase::Stopped),
        };
        if matches!(found, Found::Unfinished { run: None, wanted: Wanted::Deleted { volume: false } }) {
            self.shared.board.keep(&id, about.owner.clone());
        }
        if let Some(phase) = phase {
            let About { owner, template, grant } = about.clone();
            self.shared.board.tell(Observed::alone(id.clone(), owner, template, grant, phase)).await;
        }
        let sender = self.keeper(id.clone(), ledger, Some(about), found);
        self.keepers.lock().expect("nobody panics with the lock held").insert(id, sender);
    }

    fn keeper(
        &self,
        id: WorkspaceId,
        ledger: Ledger,
        about: Option<About>,
        found: Found,
    ) -> mpsc::Sender<Action> {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let keeper = Keeper { shared: self.shared.clone(), id, ledger, about, mailbox };
        // Its end is seen: but for the driver's own end it breaks the board, and the observers' streams end.
        tokio::spawn(keeper.keep(found));
        sender
    }

    /// Gives an order to a workspace's keeper; a new workspace gets one.
    fn order(&self, id: &WorkspaceId, action: Action) -> Result<(), Cause> {
        let mut keepers = self.keepers.lock().expect("nobody panics with the lock held");
        let keeper = keepers.entry(id.clone()).or_insert_with(|| {
            let ledger = Ledger::new(self.shared.records.clone(), id.to_string());
            self.keeper(id.clone(), ledger, None, Found::Idle)
        });
        keeper.try_send(action).map_err(|_| causes::too_many_orders())
    }
}

#[async_trait::async_trait]
impl Driver for ProcessDriver {
    fn observe(&self) -> BoxStream<'static, Event> {
        self.shared.board.observe()
    }

    async fn act(&self, action: Action) -> Result<(), Cause> {
        let id = match &action {
            Action::Start(spec) => {
                if self.shared.board.owner(&spec.id).is_some_and(|owner| owner != spec.owner) {
                    return Err(Cause::not_the_owner(&spec.id));
                }
                spec.id.clone()
            }
            Action::Delete { id, owner: Some(owner), .. }
                if self.shared.board.owner(id).is_some_and(|known| known != *owner) =>
            {
                return Err(Cause::not_the_owner(id));
            }
            Action::Delete { id, .. } => id.clone(),
            Action::Stop { id, .. } if self.shared.board.look(id).is_some() => id.clone(),
            // Nothing of it runs; nothing waits here for a nudge; and there is nobody to write anything down for.
            Action::Stop { .. }
            | Action::Nudge(_)
            | Action::Want(_)
            | Action::Mark { .. }
            | Action::Unmark { .. } => return Ok(()),
        };
        self.order(&id, action)
    }

    async fn remove_kept_files(&self, id: &WorkspaceId, owner: Option<&Identity>) -> Result<bool, Cause> {
        let Some(kept) = self.shared.board.kept(id) else { return Ok(false) };
        if owner.is_some_and(|owner| *owner != kept) {
            return Err(Cause::not_the_owner(id));
        }
        self.order(id, Action::Delete { id: id.clone(), volume: true, owner: owner.cloned() }).map(|()| true)
    }

    async fn log_tail(&self, id: &WorkspaceId) -> String {
        self.shared.folders.log(id).tail().await
    }
}

/// What a record means now. A running workspace is adopted only if its very process lives.
fn know(
    ledger: Ledger,
    recorded: Result<Recorded, serde_json::Error>,
    boot: &str,
) -> Result<Known, OpenError> {
    let bad = |problem: String| OpenError::BadRecord { name: ledger.name().to_owned(), problem };
    let recorded = recorded.map_err(|error| bad(error.to_string()))?;
    let id = WorkspaceId::parse(ledger.name()).map_err(|error| bad(error.to_string()))?;
    let template = TemplateName::parse(&recorded.template).map_err(|error| bad(error.to_string()))?;
    let found = match (recorded.wanted, recorded.run) {
        (Wanted::Running | Wanted::Stopped, None) => Found::Idle,
        (Wanted::Running, Some(run)) => match adopt(&run, boot).map_err(OpenError::Processes)? {
            Some(held) => Found::Running(Running { main: Main::Adopted(held), run }),
            None => Found::Unfinished { run: Some(run), wanted: Wanted::Stopped },
        },
        (wanted, run) => Found::Unfinished { run, wanted },
    };
    let about = About { owner: recorded.owner, template, grant: recorded.grant.into() };
    Ok(Known { id, ledger, about, found })
}

/// The main process of a start, if it is still that one.
fn adopt(run: &Run, boot: &str) -> io::Result<Option<Held>> {
    match &run.process {
        Some(process) if process.boot == boot => Held::open(process.id),
        _ => Ok(None),
    }
}

/// Ends processes that bear this installation's mark, but of whose start no record knows.
async fn end_strays(shared: &Shared, known: &[Known]) -> Result<(), OpenError> {
    let prefix = mark(&shared.folders.installation, "");
    let kept: HashSet<String> = known
        .iter()
        .filter(|one| matches!(one.found, Found::Running(_) | Found::Unfinished { run: Some(_), .. }))
        .map(|one| mark(&shared.folders.installation, one.ledger.name()))
        .collect();
    let seen = shared.looker.look().await.map_err(OpenError::Processes)?;
    let strays: HashSet<String> = seen
        .into_iter()
        .filter_map(|one| one.mark)
        .filter(|mark| mark.starts_with(&prefix) && !kept.contains(mark))
        .collect();
    let endings = strays.into_iter().map(|mark| async move {
        tracing::warn!(workspace.mark = mark, "ending processes of a workspace that no record knows");
        end_all(&shared.looker, &Whose { mark, main: None }, STRAY_GRACE).await;
    });
    futures_util::future::join_all(endings).await;
    Ok(())
}

fn remove_old_sockets(shared: &Shared, known: &[Known]) -> Result<(), OpenError> {
    let kept: Vec<PathBuf> = known
        .iter()
        .filter_map(|one| match &one.found {
            Found::Running(Running { run, .. }) => Some(shared.folders.socket(&run.generation)),
            _ => None,
        })
        .collect();
    let failed = |error| OpenError::Folder { path: shared.folders.sockets(), error };
    shared.folders.remove_sockets_but(&kept).map_err(failed)
}

#[cfg(test)]
mod tests;

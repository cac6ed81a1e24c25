//! Keeps one workspace: starts it, watches it, ends it, one thing after the other.

use super::ending::end_all;
use super::folders::random_id;
use super::launch::{Main, address, free_port, launch};
use super::log::remove_file;
use super::proc::Whose;
use super::recorded::{Ledger, Place, Recorded, RecordedProcess, Run, Wanted};
use super::{Shared, causes, mark};
use crate::{
    Action, Cause, Generation, Grant, Identity, Observed, ObservedPhase, RecordError, StartSpec, crash,
};
use config::{Runs, TemplateName, WorkspaceId};
use std::process::ExitStatus;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The task behind one workspace, and the only writer of its record.
pub(super) struct Keeper {
    pub shared: Arc<Shared>,
    pub id: WorkspaceId,
    pub ledger: Ledger,
    /// None for one that was never started.
    pub about: Option<About>,
    pub mailbox: mpsc::Receiver<Action>,
}

/// What is told of a workspace in every phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub owner: Identity,
    pub template: TemplateName,
    pub grant: Grant,
}

/// How a keeper finds its workspace.
pub(super) enum Found {
    /// Not running.
    Idle,
    /// Running, started by an earlier Usher.
    Running(Running),
    /// An earlier Usher was killed over it, or it ended while there was none: perhaps some processes live.
    Unfinished { run: Option<Run>, wanted: Wanted },
}

/// A running workspace.
pub(super) struct Running {
    pub main: Main,
    pub run: Run,
}

enum Happened {
    Ended(Option<ExitStatus>),
    Asked(Option<Action>),
}

impl Keeper {
    /// Keeps the workspace until the driver is dropped, which leaves the workspace as it is.
    pub async fn keep(mut self, found: Found) {
        // Not disarmed if this task panics or is aborted.
        let guard = self.shared.board.guard();
        let mut running = self.resume(found).await;
        while let Some(next) = self.step(running).await {
            running = next;
        }
        guard.disarm();
    }

    /// Carries on from where an earlier Usher was.
    async fn resume(&mut self, found: Found) -> Option<Running> {
        match found {
            Found::Idle => None,
            Found::Running(running) => Some(running),
            // It was gone before: that is no news.
            Found::Unfinished { run: None, wanted: wanted @ Wanted::Deleted { volume: false } } => {
                if let Err(cause) = self.delete(wanted, false).await {
                    tracing::warn!(workspace.name = %self.id, cause = cause.code.as_str(), "a deletion is not finished");
                }
                None
            }
            Found::Unfinished { run, wanted } => {
                if let Some(run) = run {
                    self.end(&run, wanted).await;
                }
                self.settle(wanted).await;
                None
            }
        }
    }

    /// Waits for the next thing to happen and does what it asks for; `None` = the driver is gone.
    async fn step(&mut self, mut running: Option<Running>) -> Option<Option<Running>> {
        let happened = match &mut running {
            Some(running) => self.watch(running).await,
            None => Happened::Asked(self.mailbox.recv().await),
        };
        Some(match (happened, running) {
            (Happened::Asked(action), running) => self.obey(action?, running).await,
            (Happened::Ended(status), Some(running)) => {
                self.ended(running, status).await;
                None
            }
            (Happened::Ended(_), None) => None,
        })
    }

    async fn watch(&mut self, running: &mut Running) -> Happened {
        let next = async {
            tokio::select! {
                status = running.main.ended() => Happened::Ended(status),
                action = self.mailbox.recv() => Happened::Asked(action),
            }
        };
        self.shared.folders.log(&self.id).bounded_during(running.run.log_size, next).await
    }

    async fn obey(&mut self, action: Action, running: Option<Running>) -> Option<Running> {
        match (action, running) {
            (Action::Start(spec), None) => self.start(spec).await,
            (Action::Stop { generation: Some(asked), .. }, Some(running))
                if *asked.0 == *running.run.generation =>
            {
                self.stop(running, Wanted::Stopped).await
            }
            (Action::Delete { volume, .. }, Some(running)) => {
                self.stop(running, Wanted::Deleted { volume }).await
            }
            (Action::Delete { volume, .. }, None) => {
                self.settle(Wanted::Deleted { volume }).await;
                None
            }
            // It is as asked for, or it is another generation, which is left alone, or it is nothing that a driver
            // that is alone is asked for.
            (_, running) => running,
        }
    }

    async fn start(&mut self, spec: StartSpec) -> Option<Running> {
        crash::point("spawn.asked");
        if self.about.as_ref().is_some_and(|about| about.owner != spec.owner) {
            tracing::error!(workspace.name = %self.id, "a start for somebody who is not the owner was dropped");
            return None;
        }
        self.about = Some(About {
            owner: spec.owner.clone(),
            template: spec.template.name.clone(),
            grant: spec.grant.clone(),
        });
        match self.spawn(&spec).await {
            Ok(running) => {
                let address = Some(address(&self.shared, &running.run));
                self.tell(ObservedPhase::started(generation(&running.run), address)).await;
                crash::point("spawn.told");
                Some(running)
            }
            Err(cause) => {
                self.tell(ObservedPhase::Failed { cause }).await;
                None
            }
        }
    }

    /// The intent is recorded before the fork and the process after it: an Usher that is killed in between leaves
    /// a record that makes the next one end whatever bears the mark.
    async fn spawn(&mut self, spec: &StartSpec) -> Result<Running, Cause> {
        let Runs::Process(template) = &spec.template.runs else {
            return Err(causes::not_for_processes(&spec.template.name));
        };
        let port = || self.shared.ports.reserve(&self.id, free_port);
        let place = Place::new(template.connect, port)
            .map_err(|error| causes::no_resources("find a free port", &error))?;
        let mut run = Run {
            generation: random_id(),
            place,
            stop_grace_ms: u64::try_from(spec.template.stop_grace.as_millis()).unwrap_or(u64::MAX),
            log_size: template.log_size,
            process: None,
        };
        self.record(Wanted::Running, Some(&run)).await.map_err(|error| causes::state_unwritable(&error))?;
        crash::point("spawn.intent-recorded");
        let (shared, spec, planned) = (self.shared.clone(), spec.clone(), run.clone());
        let template = template.clone();
        let launched = tokio::task::spawn_blocking(move || launch(&shared, &spec, &template, &planned)).await;
        let lost =
            |error: tokio::task::JoinError| Err(causes::no_resources("start a process", &error.into()));
        let (main, process) = match launched.unwrap_or_else(lost) {
            Ok(launched) => launched,
            Err(cause) => {
                self.end(&run, Wanted::Stopped).await;
                return Err(cause);
            }
        };
        crash::point("spawn.forked");
        run.process = Some(RecordedProcess { id: process, boot: self.shared.boot.clone() });
        if let Err(error) = self.record(Wanted::Running, Some(&run)).await {
            self.end(&run, Wanted::Stopped).await;
            return Err(causes::state_unwritable(&error));
        }
        crash::point("spawn.process-recorded");
        Ok(Running { main, run })
    }

    /// The main process ended without being asked: what it left behind ends, too.
    async fn ended(&mut self, running: Running, status: Option<ExitStatus>) {
        self.tell(ObservedPhase::stopping(generation(&running.run))).await;
        self.end(&running.run, Wanted::Stopped).await;
        let log = self.shared.folders.log(&self.id).tail().await;
        self.tell(ObservedPhase::Failed { cause: causes::ended(status, &log) }).await;
    }

    async fn stop(&mut self, running: Running, wanted: Wanted) -> Option<Running> {
        crash::point("stop.asked");
        if let Err(error) = self.record(wanted, Some(&running.run)).await {
            // The stop goes on: if Usher is killed over it, the next one adopts what is left, and stops it again.
            tracing::warn!(workspace.name = %self.id, %error, "cannot record that a workspace is being stopped");
        }
        crash::point("stop.intent-recorded");
        self.tell(ObservedPhase::stopping(generation(&running.run))).await;
        self.end(&running.run, wanted).await;
        self.settle(wanted).await;
        None
    }

    /// Ends all processes of a start and records that none is left.
    async fn end(&mut self, run: &Run, wanted: Wanted) {
        let name = self.id.to_string();
        let whose = Whose {
            mark: mark(&self.shared.folders.installation, &name),
            main: run
                .process
                .as_ref()
                .filter(|process| process.boot == self.shared.boot)
                .map(|process| process.id),
        };
        let ending = end_all(&self.shared.looker, &whose, run.stop_grace());
        self.shared.folders.log(&self.id).bounded_during(run.log_size, ending).await;
        crash::point("stop.all-ended");
        self.shared.ports.release(&self.id);
        if let Err(error) = remove_file(&self.shared.folders.socket(&run.generation)) {
            tracing::warn!(workspace.name = name, %error, "cannot remove a workspace's socket");
        }
        if let Err(error) = self.record(wanted, None).await {
            // Harmless: the next Usher finds none of its processes, and records it.
            tracing::warn!(workspace.name = name, %error, "cannot record that a workspace has ended");
        }
        crash::point("stop.end-recorded");
    }

    /// What is left to do when no process is left.
    async fn settle(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Running | Wanted::Stopped => self.tell(ObservedPhase::Stopped).await,
            Wanted::Deleted { volume } => match self.delete(wanted, volume).await {
                Ok(()) => {
                    // Whose the files are that stay has to be known for as long as they do.
                    let kept = self.about.as_ref().filter(|_| !volume).map(|about| about.owner.clone());
                    if volume {
                        self.about = None;
                    }
                    self.shared.board.gone(&self.id, kept).await;
                }
                Err(cause) => self.tell(ObservedPhase::Failed { cause }).await,
            },
        }
    }

    /// Removes files and then the record, so that a deletion that was cut off is taken up again. Where files stay, the
    /// record does, too: it says whose they are.
    async fn delete(&mut self, wanted: Wanted, volume: bool) -> Result<(), Cause> {
        self.record(wanted, None).await.map_err(|error| causes::state_unwritable(&error))?;
        let (shared, id) = (self.shared.clone(), self.id.clone());
        let removal = move || {
            shared.folders.log(&id).remove()?;
            if volume { shared.folders.remove_home(&id) } else { Ok(()) }
        };
        let removed = tokio::task::spawn_blocking(removal).await.unwrap_or_else(|error| Err(error.into()));
        removed.map_err(|error| causes::no_resources("remove the workspace's files", &error))?;
        crash::point("delete.files-removed");
        if volume {
            self.ledger.remove().await.map_err(|error| causes::state_unwritable(&error))
        } else {
            Ok(())
        }
    }

    /// Records what is wanted and the start that may have processes. Nothing for one that was never started.
    async fn record(&mut self, wanted: Wanted, run: Option<&Run>) -> Result<(), RecordError> {
        let Some(about) = self.about.clone() else { return Ok(()) };
        let (template, grant) = (about.template.to_string(), (&about.grant).into());
        let recorded = Recorded { owner: about.owner, template, grant, wanted, run: run.cloned() };
        self.ledger.write(&recorded).await
    }

    /// Tells observers. Of one that was never started there is nothing to tell.
    async fn tell(&self, phase: ObservedPhase) {
        if let Some(About { owner, template, grant }) = self.about.clone() {
            self.shared.board.tell(Observed::alone(self.id.clone(), owner, template, grant, phase)).await;
        }
    }
}

/// The generation of a start, as others see it.
pub(super) fn generation(run: &Run) -> Generation {
    Generation(run.generation.as_str().into())
}

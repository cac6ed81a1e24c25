//! Everything of this package, started together.

use crate::control_loop::{ControlLoop, Others, Sources};
use crate::metrics::Metrics;
use crate::peers::Heard;
use crate::sessions::{Keeper, Limits};
use crate::state::{Settings, State};
use crate::usage::Restored;
use crate::work::Probes;
use crate::{
    Acts, Driver, LoopError, RecordError, Records, Sessions, Shared, Tickets, Tokens, Users, Workspaces,
    clock, table, tokens, usage,
};
use config::Config;
use futures_util::StreamExt;
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

/// What runs, and the handles on it.
pub struct Control {
    /// The table, and the way to ask for something.
    pub workspaces: Workspaces,
    /// Who is logged in.
    pub sessions: Sessions,
    /// Who has which label.
    pub users: Users,
    /// Who comes without a browser.
    pub tokens: Tokens,
    /// Which tickets were used.
    pub tickets: Tickets,
    /// Ends after a shutdown, when the last use is recorded. If it ends before, the process cannot go on: nothing
    /// would be started, stopped or revoked any more.
    pub running: JoinHandle<Result<(), LoopError>>,
}

/// Why control could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What was recorded cannot be read.
    #[error("what was recorded before cannot be read")]
    Records(#[from] RecordError),
    /// Two metrics of one name.
    #[error("the metrics of control cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Control {
    /// Starts the loops on the current runtime: of workspaces, of sessions, of tokens, of tickets and of last use.
    ///
    /// Every later configuration from `config` holds from then on for what starts. `acts` is told what is done here. `shutdown` ends the loops, and
    /// leaves workspaces running.
    ///
    /// # Errors
    /// The records cannot be read, or metrics of these names exist.
    pub async fn start(
        config: watch::Receiver<Arc<Config>>,
        driver: Arc<dyn Driver>,
        records: Arc<dyn Records>,
        registry: &Registry,
        acts: Acts,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new(registry)?);
        let shared = driver.shared();
        let name = shared.as_ref().map_or(usage::ALONE, |shared| &shared.name).to_owned();
        let loaded = usage::load(&*records, &name).await?;
        // A use is told within one period, and the telling takes far less than another.
        let late = shared.as_ref().map_or(Duration::ZERO, |shared| shared.use_every * 2);
        let limits = Limits::of(&config.borrow(), late);
        let (sessions, keeper) =
            Keeper::new(records.clone(), limits, loaded.sessions.clone(), metrics.clone(), acts.clone())
                .await?;
        let (tokens, tokens_kept) = tokens::Keeper::new(records.clone()).await?;
        let (workspaces, publisher, requests) = table::table(driver.clone());
        let (written, followed) = watch::channel(usage::Written::nothing(clock::now()));
        let (heard, taken_in) = watch::channel(Heard::default());
        let others = shared.as_ref().map(|shared| Others {
            news: usage::others(&*records, name.clone(), sessions.clone()),
            leads: shared.leads.clone(),
            written: followed,
            heard,
        });
        let mut use_kept = usage::Keeper {
            records: records.clone(),
            workspaces: workspaces.clone(),
            sessions: sessions.clone(),
            name,
            version: loaded.version,
            every: shared.as_ref().map_or(usage::EVERY, |shared| shared.use_every),
            shared: shared
                .as_ref()
                .map(|shared| usage::Shared { heard: taken_in, leads: shared.leads.clone() }),
            written,
        };
        if shared.is_some() {
            // Before the driver is asked what there is, so that no mark is missed that does not wait for this Usher.
            use_kept.register(&loaded).await?;
        }
        let state = state(Settings::of(&config.borrow()), loaded.workspaces, shared.as_ref());
        let sources = Sources {
            events: driver.observe(),
            requests,
            others,
            settings: WatchStream::new(config.clone()).map(|config| Settings::of(&config)).boxed(),
            shutdown: shutdown.clone(),
        };
        let control_loop = ControlLoop::new(state, publisher, driver, Probes::real(), metrics).telling(acts);
        let followed = config.clone();
        let limits = WatchStream::new(config).map(move |config| Limits::of(&config, late)).boxed();
        let tickets = Tickets::new(records.clone());
        let (swept, ended, stopped) = (tickets.clone(), shutdown.clone(), shutdown.clone());
        let tokens_kept = tokens_kept.run(shutdown.clone());
        // A loop that fails ends all; after a shutdown each ends by itself, the record of last use last.
        let running = tokio::spawn(async move {
            let aside = async {
                tokio::join!(use_kept.keep(stopped), ended.run_until_cancelled(swept.sweep()));
                Ok(())
            };
            tokio::try_join!(control_loop.run(sources), keeper.run(limits, shutdown), tokens_kept, aside)
                .map(drop)
        });
        let users = Users::new(records, followed);
        Ok(Self { workspaces, sessions, users, tokens, tickets, running })
    }
}

/// The state that the control loop begins with.
fn state(settings: Settings, recorded: Restored, shared: Option<&Shared>) -> State {
    let mut state = State::new(settings, recorded, shared.is_some());
    if let (Some(peers), Some(shared)) = (&mut state.peers, shared) {
        peers.apart = !shared.one_order;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Device, Event, Login, NewSession, ObservedPhase, Phase, RedbRecords, Route};
    use config::{Label, Subject};
    use std::path::Path;

    struct Usher {
        control: Control,
        driver: Arc<FakeDriver>,
        shutdown: CancellationToken,
        _config: watch::Sender<Arc<Config>>,
    }

    async fn usher(file: &Path) -> Usher {
        let text = include_str!("../../config/quickstart.toml");
        let config = Config::parse("quickstart.toml", text, &|_| None).unwrap();
        let (_config, followed) = watch::channel(Arc::new(config));
        let (driver, shutdown) = (FakeDriver::new(), CancellationToken::new());
        driver.freeze();
        driver.tell(Event::Synced);
        let records = Arc::new(RedbRecords::open(file).unwrap());
        let control = Control::start(
            followed,
            driver.clone(),
            records,
            &Registry::new(),
            Acts::untold(),
            shutdown.clone(),
        )
        .await
        .unwrap();
        Usher { control, driver, shutdown, _config }
    }

    impl Usher {
        /// The route to alice's instance 7 behind this listener, once it was reached over the network.
        async fn route(&self, listener: &tokio::net::TcpListener) -> Route {
            let address = Some(crate::Address::Tcp(listener.local_addr().unwrap()));
            let phase = ObservedPhase::started(generation(7), address);
            self.driver.tell(seen(&id("alice"), phase));
            let mut changes = self.control.workspaces.changes();
            loop {
                changes.borrow_and_update();
                if let Some(Phase::Ready(route)) =
                    self.control.workspaces.lookup(&id("alice")).map(|entry| entry.phase.clone())
                {
                    return route;
                }
                tokio::time::timeout(secs(10), changes.changed()).await.unwrap().unwrap();
            }
        }

        async fn shut_down(self) {
            self.shutdown.cancel();
            self.control.running.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_used_and_who_was_logged_in_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state.redb");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let new = NewSession {
            identity: owner(&id("alice")),
            label: Label::parse("alice").unwrap(),
            display_name: "Alice".to_owned(),
            subject: Subject::default(),
            login: Login::now(None, None, Device::default()),
            kept: None,
        };

        let first = usher(&file).await;
        first.route(&listener).await;
        let (session, _) = first.control.sessions.create(new).await.unwrap();
        let entry = first.control.workspaces.lookup(&id("alice")).unwrap();
        entry.activity.client_frame();
        first.control.workspaces.keep(&id("alice"), secs(7200)).await.unwrap();
        first.shut_down().await;

        let second = usher(&file).await;
        second.route(&listener).await;
        assert!(second.control.sessions.lookup(&session).is_some());
        let entry = second.control.workspaces.lookup(&id("alice")).unwrap();
        assert_eq!(entry.terms.as_ref().unwrap().last.1, "client_frame");
        assert_eq!(entry.why_alive(clock::now()).unwrap().reason, "kept");
        second.shut_down().await;
    }
}

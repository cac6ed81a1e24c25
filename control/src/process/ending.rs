//! Ends every process of a workspace, however many and wherever they are: TERM, the grace, KILL, until none is left.

use super::proc::{Held, ProcessId, Seen, Whose, lives, members, scan};
use crate::crash;
use rustix::process::Signal;
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks while processes are known to live: what they start meanwhile is found by the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between the two looks that must both find nothing: a process is invisible for the moment of its `exec`, and
/// one that a dying process started may have got a pid that the first look had passed already.
const CONFIRM_AFTER: Duration = Duration::from_millis(15);
/// After a look that failed, for want of descriptors say.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often an operator is told of processes that cannot be killed: they hang in the kernel.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Looks at all processes, a few at a time: a look costs a few system calls per process of the machine.
pub(super) struct Looker(Semaphore);

impl Looker {
    pub fn new() -> Self {
        Self(Semaphore::new(2))
    }

    /// All processes.
    pub async fn look(&self) -> io::Result<Vec<Seen>> {
        let _turn = self.0.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(scan).await.map_err(io::Error::other)?
    }

    /// The living processes of a workspace.
    pub async fn members(&self, whose: &Whose) -> io::Result<Vec<ProcessId>> {
        let usher = rustix::process::getpid().as_raw_pid();
        Ok(members(&self.look().await?, whose, usher))
    }
}

/// Returns when no process of the workspace is left. Never gives up, for nothing may be started before.
pub(super) async fn end_all(looker: &Looker, whose: &Whose, grace: Duration) {
    let began = Instant::now();
    let mut complain_at = began + grace + COMPLAIN_EVERY;
    let mut hunt = Hunt::default();
    let mut found_none = 0;
    while found_none < 2 {
        hunt.kill = began.elapsed() >= grace;
        match hunt.round(looker, whose).await {
            Ok(true) => {
                found_none = 0;
                crash::point(if hunt.kill { "stop.killed" } else { "stop.signalled" });
                hunt.wait(grace.saturating_sub(began.elapsed())).await;
            }
            Ok(false) => {
                found_none += 1;
                sleep(CONFIRM_AFTER).await;
            }
            Err(error) => {
                tracing::warn!(workspace.mark = whose.mark, %error, "cannot look for a workspace's processes");
                sleep(RETRY_AFTER).await;
            }
        }
        if Instant::now() >= complain_at {
            complain_at += COMPLAIN_EVERY;
            let processes = hunt.held.len();
            tracing::warn!(
                workspace.mark = whose.mark,
                processes,
                "processes of a workspace outlive SIGKILL"
            );
        }
    }
}

/// The processes that are being ended. Once seen they are held, whatever they do to hide.
#[derive(Default)]
struct Hunt {
    held: HashMap<ProcessId, Held>,
    /// They run as another user (`sudo`): they may not be signalled, and waiting for them could last for ever.
    beyond_reach: HashSet<ProcessId>,
    kill: bool,
}

impl Hunt {
    /// Looks, and signals: TERM to what is new, or KILL to all. Tells whether anything lives.
    async fn round(&mut self, looker: &Looker, whose: &Whose) -> io::Result<bool> {
        for process in looker.members(whose).await? {
            if self.beyond_reach.contains(&process) || self.held.contains_key(&process) {
                continue;
            }
            let Some(held) = Held::open(process)? else { continue };
            if held.signal(Signal::TERM)? {
                self.held.insert(process, held);
            } else {
                tracing::warn!(
                    workspace.mark = whose.mark,
                    pid = process.pid,
                    "a workspace's process runs as another user"
                );
                self.beyond_reach.insert(process);
            }
        }
        if self.kill {
            for held in self.held.values() {
                held.signal(Signal::KILL)?;
            }
        }
        Ok(!self.held.is_empty())
    }

    /// Waits until all that are held have ended, but not beyond the grace or the next look.
    async fn wait(&mut self, grace_left: Duration) {
        let most = if self.kill { LOOK_EVERY } else { LOOK_EVERY.min(grace_left) };
        let all = futures_util::future::join_all(self.held.values().map(Held::ended));
        // An error is the time that is up: some live, which the next line finds out.
        timeout(most, all).await.ok();
        self.held.retain(|process, _| lives(*process));
    }
}

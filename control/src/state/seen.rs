//! What is seen of a workspace that is to run, taken into its start.

use super::Starting;
use super::instance::Instance;
use crate::{Address, Cause, Generation, Member, Step, Trouble, Weight};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is seen of a workspace that is to run.
pub(super) struct Seen {
    pub(super) generation: Option<Generation>,
    pub(super) address: Option<Address>,
    pub(super) members: Vec<Member>,
    pub(super) step: Step,
    pub(super) trouble: Option<Trouble>,
}

impl Seen {
    /// Why it never will be ready, if that is known.
    pub(super) fn end(&self) -> Option<&Cause> {
        self.trouble.as_ref().filter(|trouble| trouble.weight == Weight::End).map(|trouble| &trouble.cause)
    }
}

impl Starting {
    pub(super) fn is(&self, generation: &Generation) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.generation == *generation)
    }

    fn has_members(&self) -> bool {
        self.instance.as_ref().is_some_and(Instance::has_members)
    }

    /// Takes in how far it is; tells whether that shows, and what ends the traffic to the instance before, or to
    /// members that are gone.
    pub(super) fn see(&mut self, seen: Seen, now: Instant) -> (bool, Vec<CancellationToken>) {
        let shows = self.step != seen.step || self.trouble != seen.trouble;
        let moved = self.step != seen.step;
        (self.step, self.trouble) = (seen.step, seen.trouble);
        (self.taken, self.shown) = (true, true);
        let ended = match seen.generation {
            Some(generation) if self.is(&generation) && (self.has_members() || !seen.members.is_empty()) => {
                let ended = self.instance.as_mut().map(|instance| instance.see(seen.members));
                let mut ended = ended.unwrap_or_default();
                if self.address != seen.address {
                    (self.address, self.progress) = (seen.address, now);
                    ended.extend(self.prober.take());
                } else if moved {
                    self.progress = now;
                }
                return (shows, ended);
            }
            Some(generation) if self.is(&generation) => {
                if seen.address.is_none() || seen.address == self.address {
                    if moved {
                        self.progress = now;
                    }
                    return (shows, Vec::new());
                }
                self.address = seen.address;
                self.renew()
            }
            None if self.instance.is_none() => {
                if moved {
                    self.progress = now;
                }
                return (shows, Vec::new());
            }
            generation => {
                let before = self.instance.take().map(|instance| instance.ended);
                self.instance = generation.map(|generation| Instance::new(generation, seen.members, now));
                self.address = seen.address;
                self.prober = None;
                before
            }
        };
        self.progress = now;
        (shows, ended.into_iter().collect())
    }

    /// Lets the prober begin anew; gives what ends the one before.
    fn renew(&mut self) -> Option<CancellationToken> {
        self.prober = None;
        Some(self.instance.as_mut()?.renew())
    }
}

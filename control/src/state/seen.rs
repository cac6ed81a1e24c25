//! What is seen of a workspace that is to run, taken into its start.

use super::{Instance, Starting};
use crate::{Address, Cause, Generation, Step, Trouble, Weight};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is seen of a workspace that is to run.
pub(super) struct Seen {
    pub(super) generation: Option<Generation>,
    pub(super) address: Option<Address>,
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

    /// Takes in how far it is; tells whether that shows, and what ends the traffic to the instance before.
    pub(super) fn see(&mut self, seen: Seen, now: Instant) -> (bool, Option<CancellationToken>) {
        let shows = self.step != seen.step || self.trouble != seen.trouble;
        let moved = self.step != seen.step;
        (self.step, self.trouble) = (seen.step, seen.trouble);
        (self.taken, self.shown) = (true, true);
        let ended = match seen.generation {
            Some(generation) if self.is(&generation) => {
                if seen.address.is_none() || seen.address == self.address {
                    if moved {
                        self.progress = now;
                    }
                    return (shows, None);
                }
                self.address = seen.address;
                self.renew()
            }
            None if self.instance.is_none() => {
                if moved {
                    self.progress = now;
                }
                return (shows, None);
            }
            generation => {
                let before = self.instance.take().map(|instance| instance.ended);
                self.instance = generation.map(|generation| Instance::new(generation, now));
                self.address = seen.address;
                self.probing = false;
                before
            }
        };
        self.progress = now;
        (shows, ended)
    }

    /// Lets the prober begin anew; gives what ends the one before.
    pub(super) fn renew(&mut self) -> Option<CancellationToken> {
        self.probing = false;
        let instance = self.instance.as_mut()?;
        Some(std::mem::take(&mut instance.ended))
    }
}

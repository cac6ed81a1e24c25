//! Where a workspace stands, and what is known of it only there.

use super::instance::Instance;
use crate::usage::Kept;
use crate::{Address, Cause, Generation, Grant, Identity, Mark, Order, Route, Sight, Step, Terms, Trouble};
use config::{Template, TemplateName};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a workspace stands, with what matters only there.
#[derive(Debug)]
pub(crate) enum Stage {
    Stopped,
    Queued(Want),
    Starting(Starting),
    Ready(Ready),
    Stopping(Stopping),
    Failed { cause: Cause, retry_at: Instant },
}

/// A wish to see a workspace run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) owner: Identity,
    pub(crate) host: String,
    /// The template that it was admitted with.
    pub(crate) template: TemplateName,
    /// What it was admitted with.
    pub(crate) grant: Grant,
    /// When it was asked for.
    pub(crate) since: Instant,
    /// Its place in the queue.
    pub(crate) place: Place,
    /// Whether the driver has written it down: what it tells from then on comes after it.
    pub(crate) taken: bool,
    /// Before this the driver is not asked again, be it to write it down or to start it.
    pub(crate) again_at: Option<Instant>,
}

impl Want {
    /// Whether all others can see it.
    pub(super) fn is_written(&self) -> bool {
        self.taken || matches!(self.place, Place::Given(_))
    }
}

/// A place in the queue of those that wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Written down, so that it may start when its turn comes.
    Given(Order),
    /// Asked for and not written down yet: behind all that are.
    Asked(u64),
}

#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) template: Arc<Template>,
    pub(crate) host: String,
    /// When somebody asked for it; `None` = it ran before Usher did.
    pub(crate) woken: Option<Instant>,
    /// Whether the driver has taken it up: what it tells from then on is about this start.
    pub(crate) taken: bool,
    /// Whether the driver has told of it since: where there are others, what they do shows by then, too.
    pub(crate) shown: bool,
    /// When the driver is asked again, after an answer that does not say whether it was taken up.
    pub(crate) again_at: Option<Instant>,
    pub(crate) step: Step,
    /// When it last got further.
    pub(crate) progress: Instant,
    /// What hinders it.
    pub(crate) trouble: Option<Trouble>,
    pub(crate) instance: Option<Instance>,
    pub(crate) address: Option<Address>,
    /// What ends its prober, if that runs.
    pub(crate) prober: Option<CancellationToken>,
    /// When somebody last asked for it once more.
    pub(crate) nudged: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) instance: Instance,
    pub(crate) address: Address,
    pub(crate) template: Arc<Template>,
    pub(crate) host: String,
    pub(crate) since: Instant,
    pub(crate) terms: Terms,
    /// Before this the driver is not asked about its mark, nor to stop it.
    pub(crate) quiet_until: Option<Instant>,
    pub(crate) busy: Busy,
    /// Whether it gets no traffic, since the others may stop it without knowing of that.
    pub(crate) cut_off: bool,
}

impl Ready {
    /// The way to it, whose address was surely its own until then.
    pub(super) fn route(&self, sight: &Sight) -> Route {
        Route {
            generation: self.instance.generation.clone(),
            address: self.address.clone(),
            template: self.template.clone(),
            ended: self.instance.ended.clone(),
            proof: self.instance.proof.clone(),
            sight: sight.clone(),
            parts: self.instance.parts().collect(),
        }
    }

    /// What is known of its use, to be remembered until this instance is ready again.
    pub(super) fn kept(&self) -> Kept {
        let mut terms = self.terms.clone();
        terms.inherit();
        let Terms { started, last, extended_until, kept_until, .. } = terms;
        let generation = self.instance.generation.fingerprint();
        Kept { generation, started, last, extended_until, kept_until }
    }
}

/// A mark, and since when there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) mark: Mark,
    pub(crate) since: Instant,
}

/// Where the question to the application stands, whether it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Not asked yet.
    NotAsked,
    /// Asked; no answer yet.
    Asking,
    /// Answered, and when.
    Answered(Instant),
}

#[derive(Debug)]
pub(crate) struct Stopping {
    pub(crate) how: How,
    /// Which instance; not known when a start was called off before it was seen.
    pub(crate) generation: Option<Generation>,
    pub(crate) then: Then,
    /// Before this the driver is not asked (again) to do it.
    pub(crate) again_at: Option<Instant>,
    /// Whether the driver has taken it up: what it tells from then on comes after it.
    pub(crate) taken: bool,
    /// What holds it up.
    pub(crate) trouble: Option<Cause>,
    /// Set if it began to end without Usher: the driver will tell whether that is a failure.
    pub(crate) unasked: Option<Unasked>,
}

/// What is remembered of a workspace that began to end by itself, or by another hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unasked {
    /// Whether it was not ready yet.
    pub(crate) spawning: bool,
}

/// How a workspace is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    Stop,
    /// `owner` = who asks; none = an operator.
    Delete {
        volume: bool,
        owner: Option<Identity>,
    },
}

/// What comes after a stop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Then {
    /// It stays stopped.
    Rest,
    /// It was woken meanwhile.
    Start(Want),
    /// It was stopped because it failed.
    Fail(Cause),
}

impl Stage {
    /// Its place in the queue, if it waits there.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Queued(want) => Some(want.place),
            _ => None,
        }
    }

    /// The instance that traffic may go to, now or once it is ready.
    pub(crate) fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Starting(starting) => starting.instance.as_ref(),
            Self::Ready(ready) => Some(&ready.instance),
            _ => None,
        }
    }

    /// The instance that runs, whether traffic may go to it or not.
    pub(crate) fn generation(&self) -> Option<&Generation> {
        match self {
            Self::Stopping(stopping) => stopping.generation.as_ref(),
            stage => stage.instance().map(|instance| &instance.generation),
        }
    }

    /// Whether it runs, or will without anybody asking again, as far as is known here.
    pub(crate) fn is_wanted(&self) -> bool {
        match self {
            Self::Queued(_) | Self::Starting(_) | Self::Ready(_) => true,
            Self::Stopping(stopping) => matches!(stopping.then, Then::Start(_)),
            Self::Stopped | Self::Failed { .. } => false,
        }
    }
}

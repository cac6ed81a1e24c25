//! What control does, and what becomes of sessions, as lines.

use super::{Audit, By, Entry, Event, Reason};
use crate::identity::Failure;
use control::{Act, Acts, Cause, Ending, IdentityRef, Over, Revoking, StopReason};

impl Audit {
    /// Tells each session that ended, `like` this; and that it could not be told of all, if so.
    pub fn ended(&self, ending: &Ending, like: &Entry) {
        for ended in &ending.ended {
            self.record(like.clone().to_ended(ended));
        }
        if ending.failed.is_some() {
            self.record(like.clone().but_failed(Reason::Records));
        }
    }

    /// Tells each token that was revoked, `like` this; and that it could not be told of all, if so.
    pub fn revoked(&self, revoking: &Revoking, like: &Entry) {
        for token in &revoking.revoked {
            self.record(like.clone().to_token(token));
        }
        if revoking.failed.is_some() {
            self.record(like.clone().but_failed(Reason::Records));
        }
    }

    /// Tells that somebody was signed out, by whom `by` makes entries of, and each session that ended so.
    pub fn signed_out(
        &self,
        ending: &Ending,
        by: &dyn Fn(Event) -> Entry,
        label: &str,
        identity: IdentityRef<'_>,
    ) {
        let entry = by(Event::SignOut).subject(identity).subject_label(label);
        self.record(if ending.failed.is_some() { entry.but_failed(Reason::Records) } else { entry });
        self.ended(ending, &by(Event::SessionEnded).because(Reason::SignOut));
    }

    /// Tells what became of a workspace that was to be deleted, `like` this; nothing where there was none.
    pub fn deleted(&self, deleted: &Result<bool, Cause>, files: bool, like: Entry) {
        let reason = if files { Reason::FilesDeleted } else { Reason::FilesKept };
        match deleted {
            Ok(true) => self.record(like.because(reason)),
            Ok(false) => {}
            Err(cause) => self.record(like.but_failed(Reason::NotDeleted).cause(cause.code)),
        }
    }

    /// What takes in what control does.
    pub fn acts(&self) -> Acts {
        let audit = self.clone();
        Acts::new(move |act| audit.extend(told(&act)))
    }

    fn extend(&self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.record(entry);
        }
    }
}

/// What went wrong with a provider.
pub(crate) fn of_failure(event: Event, failure: &Failure) -> Entry {
    match failure {
        Failure::Away(_) => Entry::failed(event, Reason::ProviderUnreachable),
        Failure::Client(_) => Entry::failed(event, Reason::ClientRefused),
        Failure::Refused(_) => Entry::refused(event, Reason::ProviderRefused),
        Failure::Wrong(_) => Entry::refused(event, Reason::AnswerNotBelieved),
    }
}

fn told(act: &Act) -> Option<Entry> {
    let entry = match act {
        Act::SessionOver(ended, over) => {
            let reason = match over {
                Over::Unused => Reason::Unused,
                Over::TooOld => Reason::TooOld,
                Over::TooMany => Reason::TooMany,
            };
            Entry::done(Event::SessionEnded).because(reason).to_ended(ended)
        }
        Act::NotStarted { id, owner, cause } => Entry::failed(Event::WorkspaceStart, Reason::StartFailed)
            .workspace(id)
            .subject(owner.as_ref())
            .cause(*cause),
        Act::Reaped { id, owner, reason } => {
            let reason = match reason {
                StopReason::Idle => Reason::Unused,
                StopReason::MaxAge => Reason::TooOld,
                // Whoever asked for these is told of where they ask.
                StopReason::Asked | StopReason::ByHand | StopReason::Deleted => return None,
            };
            Entry::done(Event::WorkspaceStop).because(reason).workspace(id).subject(owner.as_ref())
        }
    };
    Some(entry.by(By::Usher))
}

//! The trail: who logged in and out, who did what, and what was refused; a line each, and never a secret.
//!
//! A line is made where something happens, and handed on by a bounded channel: [`Audit::record`] waits for nothing. One
//! task writes it to the log and, if one is configured, to a file ([`Writer`]). Of several replicas the one that did
//! something tells of it.

mod entry;
mod event;
mod field;
mod file;
mod losses;
mod reason;
mod schema;
mod told;
mod writer;

pub use entry::Entry;
pub use event::{By, Event, Outcome, ROWS, Row};
pub use field::{COMMON, Field};
pub use reason::Reason;
pub use schema::schema;
pub(crate) use told::of_failure;
pub use writer::{Auditing, Writer};

use crate::metrics::AuditMetrics;
use file::Trail;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use losses::Losses;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Seconds.
const MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("it is not 0");
/// How many lines may wait to be written: what a thousand people cause within some seconds, and half a MiB.
const WAITING: usize = 4096;

/// The audit file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the audit file {} cannot be written; correct [audit] file, or make its folder", path.display())]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// How many refusals that anybody can cause get into the file in a second; a minute's worth at once.
const OF_STRANGERS: NonZeroU32 = NonZeroU32::new(10).expect("it is not 0");

/// The way into the trail. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    lines: mpsc::Sender<Entry>,
    losses: Arc<Losses>,
    metrics: AuditMetrics,
    of_strangers: Arc<DefaultDirectRateLimiter>,
}

impl Audit {
    /// Opens the file, if one is configured; the second part is to be run.
    ///
    /// # Errors
    /// The file cannot be opened: better told at start than when it is looked for.
    pub fn open(config: &config::Audit, metrics: &AuditMetrics) -> Result<(Self, Writer), AuditError> {
        let trail = match &config.file {
            Some(path) => {
                let opened = Trail::open(path, config.file_size, config.files_kept);
                Some(opened.map_err(|source| AuditError { path: path.clone(), source })?)
            }
            None => None,
        };
        let losses = Arc::new(Losses::new(metrics.clone(), trail.is_some()));
        let (lines, inbox) = mpsc::channel(WAITING);
        let quota = Quota::per_second(OF_STRANGERS).allow_burst(OF_STRANGERS.saturating_mul(MINUTE));
        let of_strangers = Arc::new(RateLimiter::direct(quota));
        let audit = Self { lines, losses: losses.clone(), metrics: metrics.clone(), of_strangers };
        Ok((audit, Writer::new(inbox, trail, losses)))
    }

    /// As [`Audit::open`], and has it written on the current runtime.
    ///
    /// # Errors
    /// As [`Audit::open`].
    pub fn begin(config: &config::Audit, metrics: &AuditMetrics) -> Result<(Self, Auditing), AuditError> {
        let (audit, writer) = Self::open(config, metrics)?;
        Ok((audit, writer.begin()))
    }

    /// Takes a line in. Where too many wait it goes to the log at once, and is counted as lost for the file.
    pub fn record(&self, entry: Entry) {
        self.metrics.count(entry.event(), entry.outcome());
        if entry.is_by_strangers() && self.of_strangers.check().is_err() {
            entry.log();
            return self
                .losses
                .one(&"somebody causes refusals without end, which must not push out what matters");
        }
        if let Err(error) = self.lines.try_send(entry) {
            let (why, entry) = match error {
                mpsc::error::TrySendError::Full(entry) => ("too many lines wait to be written", entry),
                mpsc::error::TrySendError::Closed(entry) => ("the file is closed already", entry),
            };
            entry.log();
            self.losses.one(&why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn refusals_that_anybody_causes_leave_room_for_what_matters() {
        let config = config::Audit { file: None, file_size: 1 << 20, files_kept: 1 };
        let (audit, _unread) = Audit::open(&config, &Metrics::new().unwrap().audit).unwrap();
        for _ in 0..WAITING * 2 {
            audit.record(Entry::refused(Event::Ticket, Reason::BadTicket));
        }
        let taken = WAITING - audit.lines.capacity();
        assert!((600..WAITING).contains(&taken), "a minute's worth: {taken}");
        audit.record(Entry::done(Event::Login));
        assert_eq!(WAITING - audit.lines.capacity(), taken + 1);
    }
}

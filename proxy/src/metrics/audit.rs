//! What the trail tells of itself.

use super::Maker;
use crate::audit::{Event, Outcome, ROWS};
use prometheus::IntCounter;
use std::collections::HashMap;
use std::sync::Arc;

/// The metrics of the trail. Cheap to clone.
#[derive(Clone)]
pub struct AuditMetrics {
    events: Arc<HashMap<(Event, Outcome), IntCounter>>,
    lost: IntCounter,
}

impl AuditMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let events = make.counters(
            "usher_audit_events_total",
            "Audit events, by name and outcome.",
            &["event", "outcome"],
        )?;
        let lost = make.counters(
            "usher_audit_lost_total",
            "Audit events that are missing in the audit file, and stand in the log alone.",
            &[],
        )?;
        let pairs = ROWS.iter().flat_map(|row| row.outcomes.iter().map(move |outcome| (row, *outcome)));
        let counter = |row: &crate::audit::Row, outcome: Outcome| {
            events.with_label_values(&[row.name, outcome.as_str()])
        };
        let events = pairs.map(|(row, outcome)| ((row.event, outcome), counter(row, outcome))).collect();
        Ok(Self { events: Arc::new(events), lost: lost.with_label_values(&[] as &[&str]) })
    }

    /// Counts one.
    pub fn count(&self, event: Event, outcome: Outcome) {
        if let Some(counter) = self.events.get(&(event, outcome)) {
            counter.inc();
        }
    }

    /// Counts one that the file does not have.
    pub fn lost(&self) {
        self.lost.inc();
    }

    /// How many the file does not have.
    pub fn lost_so_far(&self) -> u64 {
        self.lost.get()
    }
}

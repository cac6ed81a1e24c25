//! What control counts: one struct, the registry given, every label a variant of an enum.

use crate::CauseCode;
use crate::StopReason;
use crate::state::{Note, Stage, State};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper bounds of the buckets of spawn durations, in seconds: from a demo to a heavy application's first start.
const SPAWN_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// How a start ended that did not fail.
const READY: &str = "ready";

/// Control's metrics.
pub(crate) struct Metrics {
    workspaces: IntGaugeVec,
    spawns: IntCounterVec,
    spawn_duration: Histogram,
    queue: IntGauge,
    crashes: IntCounterVec,
    reaps: IntCounterVec,
    /// Tells how many sessions are live.
    pub(crate) sessions: IntGauge,
    /// Counts what the control loop's tasks lost by a panic.
    pub(crate) panics: IntCounter,
    /// Counts turns of the control loop that ended although there was more to decide.
    pub(crate) unsettled: IntCounter,
}

impl Metrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let workspaces = Opts::new("usher_workspaces", "Workspaces, by phase.");
        let spawns = Opts::new("usher_spawns_total", "Starts that were asked for, by how they ended.");
        let duration =
            HistogramOpts::new("usher_spawn_duration_seconds", "Time from a wake to a ready workspace.")
                .buckets(SPAWN_BUCKETS.to_vec());
        let crashes = Opts::new("usher_crashes_total", "Ready workspaces that failed, by cause.");
        let reaps = Opts::new("usher_reaps_total", "Workspaces stopped by Usher itself, by reason.");
        let metrics = Self {
            workspaces: IntGaugeVec::new(workspaces, &["phase"])?,
            spawns: IntCounterVec::new(spawns, &["result"])?,
            spawn_duration: Histogram::with_opts(duration)?,
            queue: IntGauge::new(
                "usher_spawn_queue_length",
                "Workspaces that wait for their turn to start.",
            )?,
            crashes: IntCounterVec::new(crashes, &["cause"])?,
            reaps: IntCounterVec::new(reaps, &["reason"])?,
            sessions: IntGauge::new("usher_sessions", "Live sessions.")?,
            panics: IntCounter::new(
                "usher_control_panics_total",
                "Tasks of the control loop that panicked.",
            )?,
            unsettled: IntCounter::new(
                "usher_control_unsettled_total",
                "Turns of the control loop that came to no end of deciding.",
            )?,
        };
        metrics.register(registry)?;
        metrics.begin_at_zero();
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.workspaces.clone()))?;
        registry.register(Box::new(self.spawns.clone()))?;
        registry.register(Box::new(self.spawn_duration.clone()))?;
        registry.register(Box::new(self.queue.clone()))?;
        registry.register(Box::new(self.crashes.clone()))?;
        registry.register(Box::new(self.reaps.clone()))?;
        registry.register(Box::new(self.sessions.clone()))?;
        registry.register(Box::new(self.panics.clone()))?;
        registry.register(Box::new(self.unsettled.clone()))
    }

    /// Makes every series exist from the start, so that a rate over it has a beginning.
    fn begin_at_zero(&self) {
        for phase in PHASES {
            self.workspaces.with_label_values(&[phase]);
        }
        for reason in [StopReason::Idle, StopReason::MaxAge] {
            self.reaps.with_label_values(&[reason.as_str()]);
        }
        self.spawns.with_label_values(&[READY]);
        for cause in CauseCode::ALL {
            self.spawns.with_label_values(&[cause.as_str()]);
            self.crashes.with_label_values(&[cause.as_str()]);
        }
    }

    /// Counts something that happened.
    pub(crate) fn note(&self, note: &Note) {
        match note {
            Note::Ready(_, Some(took)) => {
                self.spawns.with_label_values(&[READY]).inc();
                self.spawn_duration.observe(took.as_secs_f64());
            }
            Note::Ready(_, None) => {}
            Note::Failed { cause, spawning: true, .. } => {
                self.spawns.with_label_values(&[cause.code.as_str()]).inc();
            }
            Note::Failed { cause, spawning: false, .. } => {
                self.crashes.with_label_values(&[cause.code.as_str()]).inc();
            }
            Note::Reaped(_, reason) => self.reaps.with_label_values(&[reason.as_str()]).inc(),
        }
    }

    /// Tells how many stand where.
    pub(crate) fn count(&self, state: &State) {
        let mut counts = [0_i64; PHASES.len()];
        for workspace in state.workspaces.values() {
            counts[place(&workspace.stage)] += 1;
        }
        for (phase, count) in PHASES.into_iter().zip(counts) {
            self.workspaces.with_label_values(&[phase]).set(count);
        }
        self.queue.set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
    }
}

/// The texts of [`Phase::as_str`], in the order of [`place`].
const PHASES: [&str; 6] = ["stopped", "queued", "starting", "ready", "stopping", "failed"];

fn place(stage: &Stage) -> usize {
    match stage {
        Stage::Stopped => 0,
        Stage::Queued(_) => 1,
        Stage::Starting(_) => 2,
        Stage::Ready(_) => 3,
        Stage::Stopping(_) => 4,
        Stage::Failed { .. } => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Phase, Step};

    #[test]
    fn the_phases_that_are_counted_are_those_that_are_published() {
        let queued = Phase::Queued { position: 1 };
        let starting = Phase::starting(Step::Asked);
        for phase in [Phase::Stopped, queued, starting, Phase::stopping()] {
            assert!(PHASES.contains(&phase.as_str()), "{phase:?}");
        }
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let series = || registry.gather().iter().map(|family| family.get_metric().len()).sum::<usize>();
        let before = series();
        let id = config::WorkspaceId::parse("alice").unwrap();
        metrics.note(&Note::Ready(id.clone(), Some(std::time::Duration::ZERO)));
        for code in CauseCode::ALL {
            let cause = crate::testing::cause(*code);
            for spawning in [true, false] {
                metrics.note(&Note::Failed { id: id.clone(), cause: cause.clone(), spawning });
            }
        }
        for reason in [StopReason::Idle, StopReason::MaxAge] {
            metrics.note(&Note::Reaped(id.clone(), reason));
        }
        assert_eq!(series(), before);
    }

    #[test]
    fn every_metric_has_a_help_text_and_our_prefix_and_is_registered_once() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).unwrap();
        for family in registry.gather() {
            assert!(family.name().starts_with("usher_"), "{}", family.name());
            assert!(family.help().ends_with('.'), "{}", family.name());
        }
        assert!(Metrics::new(&registry).is_err());
    }
}

//! What is counted of warm workspaces.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// What became of a start that could have taken a warm workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It did.
    Claimed,
    /// None was ready.
    NoneReady,
    /// Others took those that were.
    Lost,
}

impl Took {
    const ALL: [Self; 3] = [Self::Claimed, Self::NoneReady, Self::Lost];

    fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::NoneReady => "none_ready",
            Self::Lost => "lost",
        }
    }
}

/// The metrics of warm workspaces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WarmMetrics {
    workspaces: IntGaugeVec,
    claims: IntCounterVec,
}

impl WarmMetrics {
    /// Makes and registers them; once per registry.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let workspaces = Opts::new(
            "usher_warm_workspaces",
            "Warm workspaces that are nobody's yet, by template and by whether they are ready.",
        );
        let claims = Opts::new(
            "usher_warm_claims_total",
            "Starts of templates with warm workspaces, by whether they took one.",
        );
        let metrics = Self {
            workspaces: IntGaugeVec::new(workspaces, &["template", "state"])?,
            claims: IntCounterVec::new(claims, &["result"])?,
        };
        registry.register(Box::new(metrics.workspaces.clone()))?;
        registry.register(Box::new(metrics.claims.clone()))?;
        for took in Took::ALL {
            metrics.claims.with_label_values(&[took.as_str()]);
        }
        Ok(metrics)
    }

    pub(super) fn took(&self, took: Took) {
        self.claims.with_label_values(&[took.as_str()]).inc();
    }

    /// A template has none any more.
    pub(super) fn forget(&self, template: &str) {
        for state in ["starting", "ready"] {
            // One that was never counted is forgotten already.
            let _ = self.workspaces.remove_label_values(&[template, state]);
        }
    }

    /// Tells how many there are of each template.
    pub(super) fn count<'a>(&self, counts: impl Iterator<Item = (&'a str, usize, usize)>) {
        for (template, starting, ready) in counts {
            for (state, count) in [("starting", starting), ("ready", ready)] {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.workspaces.with_label_values(&[template, state]).set(count);
            }
        }
    }
}

//! What the client counts.

use super::CallError;
use super::asked::{Asked, Resource, Verb};
use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::time::Duration;

/// Upper bounds of the buckets of call durations, in seconds: from an answer out of the server's cache to the
/// deadline of a list.
const BUCKETS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What Usher asks for: these series exist from the start. The verbs of its Roles.
const ASKED: [(Resource, &[Verb]); 7] = [
    (Resource::StatefulSets, &[Verb::List, Verb::Watch, Verb::Create, Verb::Patch, Verb::Delete]),
    (Resource::Pods, &[Verb::List, Verb::Watch, Verb::Patch, Verb::Delete]),
    (Resource::Claims, &[Verb::List, Verb::Watch, Verb::Delete]),
    (Resource::Events, &[Verb::List, Verb::Watch]),
    (Resource::Secrets, &[Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Patch, Verb::Delete]),
    (Resource::Leases, &[Verb::Get, Verb::Create, Verb::Update]),
    (Resource::Scales, &[Verb::Get, Verb::Patch]),
];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Ok,
    /// Another write came first, or the object exists already.
    Conflict,
    /// Any other refusal.
    Refused,
    /// The server has too much to do.
    Throttled,
    /// The server failed.
    Failed,
    /// No answer, or no whole one, before the deadline.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// Whoever called left.
    Abandoned,
}

impl Ending {
    /// Those that every series begins with; the others begin with their first.
    const OFTEN: [Self; 4] = [Self::Ok, Self::Failed, Self::Timeout, Self::Unreachable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Abandoned => "abandoned",
        }
    }

    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::TOO_MANY_REQUESTS => Self::Throttled,
            status if status.is_client_error() => Self::Refused,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Ok,
        }
    }

    pub(crate) fn of_error(error: &CallError) -> Self {
        match error {
            CallError::Refused { code, .. } => {
                StatusCode::from_u16(*code).map_or(Self::Failed, Self::of_status)
            }
            CallError::Silent { .. } | CallError::Crowded { .. } => Self::Timeout,
            CallError::Unreachable { .. } => Self::Unreachable,
            CallError::Unreadable { .. } => Self::Failed,
        }
    }
}

/// The metrics of one client and everything that it is used for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGauge,
    watches_blind: IntGaugeVec,
    relists: IntCounterVec,
    leads: IntGauge,
}

impl ClientMetrics {
    /// Makes and registers them; once per registry.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new(
            "usher_kubernetes_requests_total",
            "Calls of the Kubernetes API, by verb, resource and how they ended.",
        );
        let durations = HistogramOpts::new(
            "usher_kubernetes_request_duration_seconds",
            "Time from a call of the Kubernetes API to the end of its answer; of a watch to its beginning.",
        );
        let blind = Opts::new(
            "usher_kubernetes_watches_blind",
            "Watches that do not know the truth now, by resource: they began just now, or the API is silent.",
        );
        let relists = Opts::new(
            "usher_kubernetes_lists_total",
            "Lists that watches began with or had to begin anew with, by resource.",
        );
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["verb", "resource", "result"])?,
            durations: HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["verb"])?,
            in_flight: IntGauge::new(
                "usher_kubernetes_requests_in_flight",
                "Calls of the Kubernetes API that wait for their answer, watches apart.",
            )?,
            watches_blind: IntGaugeVec::new(blind, &["resource"])?,
            relists: IntCounterVec::new(relists, &["resource"])?,
            leads: IntGauge::new("usher_kubernetes_leads", "1 while this replica holds the reaper's lease.")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.watches_blind.clone()))?;
        registry.register(Box::new(metrics.relists.clone()))?;
        registry.register(Box::new(metrics.leads.clone()))?;
        metrics.begin_at_zero();
        Ok(metrics)
    }

    fn begin_at_zero(&self) {
        for (resource, verbs) in ASKED {
            for verb in verbs {
                for ending in Ending::OFTEN {
                    let labels = [verb.as_str(), resource.as_str(), ending.as_str()];
                    self.requests.with_label_values(&labels);
                }
                self.durations.with_label_values(&[verb.as_str()]);
            }
            if verbs.contains(&Verb::Watch) {
                self.watches_blind.with_label_values(&[resource.as_str()]);
                self.relists.with_label_values(&[resource.as_str()]);
            }
        }
    }

    pub(crate) fn ended(&self, asked: Asked, ending: Ending, took: Duration) {
        let labels = [asked.verb.as_str(), asked.resource.as_str(), ending.as_str()];
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&[asked.verb.as_str()]).observe(took.as_secs_f64());
    }

    pub(crate) fn in_flight(&self) -> &IntGauge {
        &self.in_flight
    }

    /// How many watches of this resource are blind.
    pub(crate) fn blind(&self, resource: Resource) -> IntGauge {
        self.watches_blind.with_label_values(&[resource.as_str()])
    }

    /// Whether this replica leads.
    pub(crate) fn lead(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(crate) fn listed(&self, resource: Resource) {
        self.relists.with_label_values(&[resource.as_str()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_text_and_our_prefix_and_begins_at_zero() {
        let registry = Registry::new();
        let _metrics = ClientMetrics::new(&registry).unwrap();
        let families = registry.gather();
        assert_eq!(families.len(), 6);
        for family in families {
            assert!(family.name().starts_with("usher_kubernetes_"), "{}", family.name());
            assert!(family.help().ends_with('.'), "{}", family.name());
            assert!(!family.get_metric().is_empty(), "{}", family.name());
        }
        assert!(ClientMetrics::new(&registry).is_err());
    }

    #[test]
    fn a_status_ends_a_call_by_what_can_be_done_about_it() {
        for (status, expected) in [
            (200, "ok"),
            (201, "ok"),
            (403, "refused"),
            (404, "refused"),
            (409, "conflict"),
            (422, "refused"),
        ] {
            assert_eq!(
                Ending::of_status(StatusCode::from_u16(status).unwrap()).as_str(),
                expected,
                "{status}"
            );
        }
        for (status, expected) in [(429, "throttled"), (500, "failed"), (503, "failed"), (504, "failed")] {
            assert_eq!(
                Ending::of_status(StatusCode::from_u16(status).unwrap()).as_str(),
                expected,
                "{status}"
            );
        }
    }
}

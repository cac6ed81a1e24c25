//! What the edge counts: one struct, our own registry, every label a variant of an enum.
//!
//! Children of labelled metrics are resolved once at start, so that counting is an atomic add and takes no lock.

mod audit;
mod bearers;
mod handshakes;
mod limits;
mod proxy_headers;

pub use audit::AuditMetrics;
pub use handshakes::{Handshake, Handshakes};
pub use limits::{Limit, LimitMetrics};
pub use proxy_headers::{BadProxyHeader, BadProxyHeaders};

use crate::refusal::Code;
use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::HashMap;
use std::time::Duration;

/// Upper bounds of the buckets of request durations, in seconds: from a cached page to a long download.
const REQUEST_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Which of our places answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceLabel {
    /// The portal.
    Portal,
    /// An endpoint of ours on a workspace's host.
    Edge,
    /// A workspace.
    Workspace,
    /// None: refused before a place was known.
    None,
}

impl PlaceLabel {
    const ALL: [Self; 4] = [Self::Portal, Self::Edge, Self::Workspace, Self::None];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Edge => "edge",
            Self::Workspace => "workspace",
            Self::None => "none",
        }
    }
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginResult {
    /// A session was made.
    Accepted,
    /// The rules say no.
    Denied,
    /// It could not be judged: no cookie, a stale form, a failing store.
    Failed,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The upgrade was answered with something else than a good 101.
    NotOpened,
    /// One side closed.
    Closed,
    /// A side broke the protocol or a limit (1002, 1008).
    Violation,
    /// The session ended (4401).
    Session,
    /// The workspace was stopped (4503).
    Stopped,
    /// The workspace became somebody else's (4403).
    NotAllowed,
    /// Usher drained (1012).
    Drained,
    /// The connection failed or stalled.
    Failed,
}

/// The edge's metrics.
pub struct Metrics {
    /// The registry of the process: every package registers its own metrics here.
    pub registry: Registry,
    requests: [[IntCounter; 5]; 4],
    durations: [Histogram; 4],
    refusals: HashMap<Code, IntCounter>,
    logins: [IntCounter; 3],
    /// Requests with a token, by kind and result: [`crate::machines`] counts in it.
    pub bearers: IntCounterVec,
    tunnel_ends: [IntCounter; TUNNEL_ENDS.len()],
    /// Tunnels that are open now.
    pub tunnels_open: IntGauge,
    /// Data frames carried, from the client and from the workspace.
    pub client_frames: IntCounter,
    /// As [`Metrics::client_frames`], the other way.
    pub workspace_frames: IntCounter,
    /// Connections that are open now.
    pub connections_open: IntGauge,
    /// Connections accepted.
    pub connections_accepted: IntCounter,
    /// Connections closed at once, since as many as the descriptors allow were open.
    pub connections_refused: IntCounter,
    /// TLS handshakes.
    pub handshakes: Handshakes,
    /// Connections that did not begin with a header of the PROXY protocol as they had to.
    pub bad_proxy_headers: BadProxyHeaders,
    /// What the limits count.
    pub limits: LimitMetrics,
    /// What the trail counts.
    pub audit: AuditMetrics,
    /// 1 while the development login is served.
    pub development_login: IntGauge,
}

impl Metrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let requests = make.counters(
            "usher_requests_total",
            "Requests answered, by place and class of status.",
            &["place", "status"],
        )?;
        let durations = make.histograms(
            "usher_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            &["place"],
        )?;
        let refusals = make.counters(
            "usher_refusals_total",
            "Requests refused, by the code of the refusal.",
            &["code"],
        )?;
        let logins = make.counters("usher_logins_total", "Logins, by how they ended.", &["result"])?;
        let ends = make.counters("usher_tunnels_total", "WebSockets that ended, by why.", &["end"])?;
        let frames = make.counters(
            "usher_tunnel_frames_total",
            "WebSocket data frames carried, by who sent them.",
            &["from"],
        )?;
        let connections = make.counters(
            "usher_connections_total",
            "Connections by what became of them at the listener.",
            &["result"],
        )?;
        let build = make.gauges("usher_build_info", "1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            requests: PlaceLabel::ALL.map(|place| {
                STATUS_CLASSES.map(|class| requests.with_label_values(&[place.as_str(), class]))
            }),
            durations: PlaceLabel::ALL.map(|place| durations.with_label_values(&[place.as_str()])),
            refusals: crate::refusal::all()
                .iter()
                .map(|code| (*code, refusals.with_label_values(&[code.row().code])))
                .collect(),
            logins: ["accepted", "denied", "failed"].map(|result| logins.with_label_values(&[result])),
            bearers: bearers::counters(&make)?,
            tunnel_ends: TUNNEL_ENDS.map(|end| ends.with_label_values(&[end])),
            tunnels_open: make.gauge("usher_tunnels_open", "WebSockets open now.")?,
            client_frames: frames.with_label_values(&["client"]),
            workspace_frames: frames.with_label_values(&["workspace"]),
            connections_open: make.gauge("usher_connections_open", "Client connections open now.")?,
            connections_accepted: connections.with_label_values(&["accepted"]),
            connections_refused: connections.with_label_values(&["refused"]),
            handshakes: Handshakes::new(&make)?,
            limits: LimitMetrics::new(&make)?,
            audit: AuditMetrics::new(&make)?,
            bad_proxy_headers: BadProxyHeaders::new(&make)?,
            development_login: make.gauge(
                "usher_development_login",
                "1 while the development login is served: never in production.",
            )?,
            registry,
        })
    }

    /// Counts an answered request.
    pub fn request(&self, place: PlaceLabel, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        self.requests[place as usize][class].inc();
        self.durations[place as usize].observe(took.as_secs_f64());
    }

    /// Counts a refusal.
    pub fn refusal(&self, code: Code) {
        if let Some(counter) = self.refusals.get(&code) {
            counter.inc();
        }
    }

    /// Counts a login.
    pub fn login(&self, result: LoginResult) {
        self.logins[result as usize].inc();
    }

    /// Counts the end of a tunnel.
    pub fn tunnel_ended(&self, end: TunnelEnd) {
        self.tunnel_ends[end as usize].inc();
    }
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// In the order of [`TunnelEnd`].
const TUNNEL_ENDS: [&str; 8] =
    ["not_opened", "closed", "violation", "session", "stopped", "not_allowed", "drained", "failed"];

/// Makes metrics and registers them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let made = IntGauge::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let made =
            HistogramVec::new(HistogramOpts::new(name, help).buckets(REQUEST_BUCKETS.to_vec()), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_text_and_our_prefix() {
        let metrics = Metrics::new().unwrap();
        for family in metrics.registry.gather() {
            assert!(family.name().starts_with("usher_"), "{}", family.name());
            assert!(family.help().ends_with('.'), "{}", family.name());
        }
    }

    #[test]
    fn every_labelled_metric_is_there_at_zero_before_anything_happens() {
        let families = Metrics::new().unwrap().registry.gather();
        let children =
            |name: &str| families.iter().find(|family| family.name() == name).unwrap().get_metric();
        for (name, count) in [
            ("usher_requests_total", 4 * STATUS_CLASSES.len()),
            ("usher_refusals_total", crate::refusal::all().len()),
            ("usher_logins_total", 3),
            ("usher_tunnels_total", TUNNEL_ENDS.len()),
            ("usher_tunnel_frames_total", 2),
            ("usher_connections_total", 2),
            ("usher_tls_handshakes_total", 12),
            ("usher_bad_proxy_headers_total", 4),
            ("usher_limited_total", 9),
        ] {
            assert_eq!(children(name).len(), count, "{name}");
            assert!(children(name).iter().all(|child| child.get_counter().get_value() == 0.0), "{name}");
        }
        assert_eq!(children("usher_request_duration_seconds").len(), 4);
    }

    #[test]
    fn every_end_of_a_tunnel_is_counted_under_its_own_name() {
        let metrics = Metrics::new().unwrap();
        metrics.tunnel_ended(TunnelEnd::NotAllowed);
        metrics.tunnel_ended(TunnelEnd::Failed);
        let counted: Vec<_> =
            TUNNEL_ENDS.iter().zip(&metrics.tunnel_ends).filter(|(_, n)| n.get() == 1).collect();
        assert_eq!(counted.iter().map(|(name, _)| **name).collect::<Vec<_>>(), ["not_allowed", "failed"]);
    }

    #[test]
    fn a_request_is_counted_under_its_place_and_class() {
        let metrics = Metrics::new().unwrap();
        metrics.request(PlaceLabel::Workspace, StatusCode::NOT_FOUND, Duration::from_millis(3));
        assert_eq!(metrics.requests[PlaceLabel::Workspace as usize][3].get(), 1);
        assert_eq!(metrics.durations[PlaceLabel::Workspace as usize].get_sample_count(), 1);
    }
}

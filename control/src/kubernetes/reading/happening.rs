//! Events of the cluster, as far as they tell why a workspace does not start.

use super::quote::{between, name, words};
use super::refusal;
use super::sign::{Finding, Sign};
use super::view::View;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use std::time::Instant;

/// How much of a message is kept: the API server takes no more than 1 KiB.
const KEPT: usize = 2 << 10;

/// One Event object in the form last received, without what is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    about: String,
    reason: String,
    message: String,
    count: i32,
    /// By the clock of who wrote it: compared with that of other events only.
    last: Option<Timestamp>,
    heard: Instant,
    listed: bool,
}

impl Happening {
    /// An event as received at `heard`; one that came in a list (all of one list at one instant) and not as a
    /// change may be of any age.
    ///
    /// Takes the series that newer writers keep instead of a count.
    pub(crate) fn of(event: &Event, heard: Instant, listed: bool) -> Self {
        let series = event.series.as_ref();
        let at = [
            series.and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
            event.last_timestamp.as_ref().map(|time| time.0),
            event.event_time.as_ref().map(|time| time.0),
        ];
        let mut message = event.message.clone().unwrap_or_default();
        if message.len() > KEPT {
            let mut end = KEPT;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        Self {
            about: event.involved_object.uid.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            message,
            count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
            last: at.into_iter().flatten().max(),
            heard,
            listed,
        }
    }

    /// Its reason, in the cluster's word.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    fn is_about(&self, uid: Option<&str>) -> bool {
        !self.about.is_empty() && uid == Some(self.about.as_str())
    }

    fn order(&self) -> (Instant, Option<Timestamp>, i32) {
        (self.heard, self.last, self.count)
    }
}

/// Why the controller makes no pod, and whether that was said of this start, not of an earlier one.
pub(super) fn refused(view: &View<'_>) -> Option<(Finding, bool)> {
    let uid = Some(view.set.uid.as_str());
    let of_set = || view.happenings.iter().filter(|happening| happening.is_about(uid));
    let refused =
        of_set().filter(|happening| happening.reason == "FailedCreate").max_by_key(|h| h.order())?;
    let made = of_set()
        .filter(|happening| {
            happening.reason == "SuccessfulCreate" && happening.message.starts_with("create Pod")
        })
        .max_by_key(|happening| happening.order());
    if made.is_some_and(|made| made.order() > refused.order()) {
        return None;
    }
    let said =
        refused.message.split_once("failed error: ").map_or(refused.message.as_str(), |(_, said)| said);
    let finding = refusal::of(said, view.namespace(), &view.describe_set())?;
    Some((finding, !refused.listed && refused.heard >= view.asked))
}

/// Why its claim gets no volume, as the claim's own events say it.
pub(super) fn unbound(view: &View<'_>) -> Option<Finding> {
    let claims = view.claims.iter().filter(|claim| !bound(claim));
    let uids: Vec<&str> = claims.filter_map(|claim| claim.metadata.uid.as_deref()).collect();
    let of_claims = view.happenings.iter().filter(|happening| uids.contains(&happening.about.as_str()));
    let told = of_claims
        .filter(|happening| matches!(happening.reason.as_str(), "FailedBinding" | "ProvisioningFailed"))
        .max_by_key(|happening| happening.order())?;
    let (message, look) = (told.message.as_str(), view.describe_claim());
    Some(if message.contains("no storage class is set") {
        let hint =
            format!("set the template's volume.class, or a default storage class in the cluster; {look}");
        Finding::new(Sign::VolumeClassMissing, "There is no kind of volume for this workspace's files.", hint)
    } else if let Some(class) = between(message, "storageclass.storage.k8s.io \"", "\" not found") {
        let class = name(class);
        let hint = format!(
            "there is no storage class \"{class}\": make it, or correct the template's volume.class and delete the \
             claim, which keeps its class; {look}"
        );
        Finding::new(
            Sign::VolumeClassMissing,
            "There is no volume of the kind that this workspace asks for.",
            hint,
        )
    } else {
        Finding::plain(Sign::VolumeUnbound, format!("the cluster says: {}; {look}", words(message)))
    })
}

fn bound(claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Whether the pod pulls an image that it has not got yet.
pub(super) fn pulling(view: &View<'_>) -> bool {
    let of_pod = |reason: &'static str| of_pod(view).filter(move |happening| happening.reason == reason);
    of_pod("Pulling").any(|pulling| {
        let image = between(&pulling.message, "\"", "\"");
        !of_pod("Pulled").any(|pulled| between(&pulled.message, "\"", "\"") == image)
    })
}

/// Why the node does not come to make the container: only its events tell.
pub(super) fn stuck_on_node(view: &View<'_>) -> Option<Finding> {
    let beyond = ["Pulling", "Pulled", "Created", "Started"];
    let past = of_pod(view).any(|happening| beyond.contains(&happening.reason.as_str()));
    let ready =
        view.condition("PodReadyToStartContainers").is_some_and(|condition| condition.status == "True");
    if past || ready {
        return None;
    }
    let tells =
        ["FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "NetworkNotReady"];
    let told = of_pod(view).filter(|happening| tells.contains(&happening.reason.as_str()));
    let told = told.max_by_key(|happening| happening.order())?;
    let message = told.message.as_str();
    let hint = || format!("the node says: {}; {}", words(message), view.describe_pod());
    Some(match told.reason.as_str() {
        "FailedCreatePodSandBox" | "NetworkNotReady" => Finding::plain(Sign::NetworkFails, hint()),
        _ if message.contains("Multi-Attach") || message.contains("already used by pod") => {
            let words = "The volume with your files is still held by another node.";
            let way_out = "if that node is gone for good: kubectl taint node NODE \
                           node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
            Finding::new(Sign::VolumeElsewhere, words, format!("{}; {way_out}", hint()))
        }
        _ => missing_object(message, view.namespace())
            .unwrap_or_else(|| Finding::plain(Sign::MountFails, hint())),
    })
}

/// A secret or a config map that something names and that is not there.
pub(super) fn missing_object(message: &str, namespace: &str) -> Option<Finding> {
    let of = |kind: &str, sign: Sign| {
        let lower = message.to_ascii_lowercase();
        let not_found = format!("{kind} \"");
        let at = lower.find(&not_found).filter(|_| lower.contains("\" not found"));
        if let Some(object) = at.and_then(|at| between(&message[at..], "\"", "\"")) {
            let object = name(object);
            return Some(Finding::plain(
                sign,
                format!("make {kind} \"{object}\" in namespace {namespace}, or correct the template"),
            ));
        }
        let key = lower.find("couldn't find key ").filter(|_| lower.contains(&format!(" in {kind} ")))?;
        Some(Finding::plain(
            sign,
            format!("{}: add the key, or correct the template", words(&message[key..])),
        ))
    };
    of("secret", Sign::SecretMissing).or_else(|| of("configmap", Sign::ConfigMapMissing))
}

fn of_pod<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Happening> + use<'a> {
    let uid = view.pod.and_then(|pod| pod.metadata.uid.as_deref());
    view.happenings.iter().filter(move |happening| happening.is_about(uid))
}

//! What the scheduler lacks, from its message: the message is the only place that says it.

use super::quote::{name, words};
use super::sign::{Finding, Sign};
use super::view::View;

/// More reasons than this are not looked at: each is of a kind, and there are fewer kinds.
const REASONS: usize = 32;
/// The scheduler's remarks on preemption begin with one of these; they say nothing that helps.
const NOISE: [&str; 3] = [". no new claims to deallocate", ". preemption:", " preemption: "];

/// Why nodes do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lack {
    /// Not enough of it is free: `memory`, `nvidia.com/gpu`.
    Resource(String),
    Full,
    Selector,
    Affinity,
    Taint,
    Unusable,
    Port,
    Device,
    NoVolume,
    VolumeLost,
    VolumeElsewhere,
    VolumeInUse,
    VolumeLimit,
    Other(String),
}

/// What the scheduler said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// How many nodes there are; none = it does not say.
    nodes: Option<u32>,
    /// On how many nodes what lacks.
    lacks: Vec<(u32, Lack)>,
}

/// The scheduler's condition or event, in words.
pub(super) fn unschedulable(view: &View<'_>, message: &str) -> Finding {
    let said = Said::of(message);
    let (sign, detail) = said.told();
    let hint =
        format!("{}; {}. The scheduler says: {}", said.breakdown(), view.describe_pod(), words(cut(message)));
    Finding::new(sign, detail, hint)
}

/// Without the scheduler's remarks on preemption.
fn cut(message: &str) -> &str {
    let end = NOISE.iter().filter_map(|noise| message.find(noise)).min().unwrap_or(message.len());
    message[..end].trim_end_matches(['.', ' '])
}

impl Said {
    fn of(message: &str) -> Self {
        let message = cut(message);
        let (nodes, reasons) = match message.split_once(" nodes are available: ") {
            Some((counts, reasons)) => {
                (counts.rsplit('/').next().and_then(|all| all.trim().parse().ok()), reasons)
            }
            None => (None, message),
        };
        let lacks = reasons.split(", ").take(REASONS).filter_map(|reason| {
            let reason = reason.trim();
            let (count, what) = match reason.split_once(' ') {
                Some((count, what)) if count.parse::<u32>().is_ok() => (count.parse().unwrap_or(0), what),
                _ => (nodes.unwrap_or(0), reason),
            };
            (!what.is_empty()).then(|| (count, Lack::of(what)))
        });
        Self { nodes, lacks: lacks.collect() }
    }

    fn has(&self, lack: &Lack) -> bool {
        self.lacks.iter().any(|(_, known)| known == lack)
    }

    /// What is free nowhere, GPUs and their like first.
    fn resources(&self) -> Vec<&str> {
        let mut resources: Vec<&str> = Vec::new();
        for (_, lack) in &self.lacks {
            if let Lack::Resource(resource) = lack
                && !resources.contains(&resource.as_str())
            {
                resources.push(resource);
            }
        }
        resources.sort_by_key(|resource| !resource.contains('/'));
        resources
    }

    /// The sentence for the user: of several reasons, the one that decides.
    fn told(&self) -> (Sign, String) {
        if self.has(&Lack::VolumeLost) {
            return (Sign::VolumeLost, Sign::VolumeLost.code().words().detail.to_owned());
        }
        if self.has(&Lack::NoVolume) {
            return (Sign::VolumeUnbound, Sign::VolumeUnbound.code().words().detail.to_owned());
        }
        let tied = self.has(&Lack::VolumeElsewhere);
        let resources = self.resources();
        if !resources.is_empty() {
            let lacking = enough(&resources);
            let detail = match tied {
                true => format!("The node that holds your files has not {lacking}."),
                false => format!("There is no node with {lacking}."),
            };
            return (Sign::Unschedulable, detail);
        }
        let sentence = |lack: &Lack| self.has(lack).then(|| lack.sentence()).flatten();
        if tied {
            let words = "The volume with your files is tied to a node that cannot be used now.";
            return (Sign::VolumeElsewhere, words.to_owned());
        }
        if let Some(words) = sentence(&Lack::VolumeInUse) {
            return (Sign::VolumeElsewhere, words.to_owned());
        }
        let order = [
            Lack::Full,
            Lack::VolumeLimit,
            Lack::Device,
            Lack::Port,
            Lack::Selector,
            Lack::Affinity,
            Lack::Taint,
            Lack::Unusable,
        ];
        if let Some(words) = order.iter().find_map(sentence) {
            return (Sign::Unschedulable, words.to_owned());
        }
        (Sign::Unschedulable, Sign::Unschedulable.code().words().detail.to_owned())
    }

    /// Every reason with its count, for the operator.
    fn breakdown(&self) -> String {
        let of = self.nodes.map(|nodes| format!(" of {nodes}")).unwrap_or_default();
        let reasons: Vec<String> = self
            .lacks
            .iter()
            .take(8)
            .map(|(count, lack)| format!("{count}{of}: {}", lack.reason()))
            .collect();
        format!("nodes: {}", reasons.join(", "))
    }
}

/// Resources as people name them: "enough free memory and CPU", "a free GPU".
fn enough(resources: &[&str]) -> String {
    let mut extended = resources.iter().filter(|resource| resource.contains('/'));
    if let Some(resource) = extended.next() {
        return format!("a free {}", device(resource));
    }
    let plain: Vec<&str> = resources
        .iter()
        .take(3)
        .map(|resource| match *resource {
            "cpu" => "CPU",
            "ephemeral-storage" => "disk space",
            other => other,
        })
        .collect();
    format!("enough free {}", plain.join(" and "))
}

fn device(resource: &str) -> String {
    let kind = resource.rsplit('/').next().unwrap_or(resource).to_ascii_lowercase();
    if kind == "gpu" || kind.starts_with("gpu") || kind.ends_with("gpu") || kind.starts_with("mig-") {
        "GPU".to_owned()
    } else {
        name(resource)
    }
}

impl Lack {
    fn of(what: &str) -> Self {
        if let Some(resource) = what.strip_prefix("Insufficient ") {
            return Self::Resource(name(resource));
        }
        // The texts of the scheduler's plug-ins, those of earlier versions among them.
        let table = [
            ("Too many pods", Self::Full),
            ("bound to non-existent persistentvolume", Self::VolumeLost),
            ("unbound immediate PersistentVolumeClaims", Self::NoVolume),
            ("didn't find available persistent volumes", Self::NoVolume),
            ("persistentvolumeclaim", Self::NoVolume),
            ("binding volumes", Self::NoVolume),
            ("did not have enough free storage", Self::NoVolume),
            ("match PersistentVolume's node affinity", Self::VolumeElsewhere),
            ("volume node affinity conflict", Self::VolumeElsewhere),
            ("no available volume zone", Self::VolumeElsewhere),
            ("ReadWriteOncePod access mode already in-use", Self::VolumeInUse),
            ("no available disk", Self::VolumeInUse),
            ("exceed max volume count", Self::VolumeLimit),
            ("free ports for the requested pod ports", Self::Port),
            ("resourceclaim", Self::Device),
            ("cannot allocate all claims", Self::Device),
            ("node affinity/selector", Self::Selector),
            ("node selector", Self::Selector),
            ("affinity", Self::Affinity),
            ("topology spread", Self::Affinity),
            ("taint", Self::Taint),
            ("unschedulable", Self::Unusable),
            ("not ready", Self::Unusable),
            ("no nodes available", Self::Unusable),
        ];
        let known = table.into_iter().find(|(text, _)| what.contains(text));
        known.map_or_else(|| Self::Other(words(what)), |(_, lack)| lack)
    }

    fn sentence(&self) -> Option<&'static str> {
        Some(match self {
            Self::Full => "Every node runs as many workspaces and programs as it may.",
            Self::VolumeInUse => "The volume with your files is still in use by something else.",
            Self::VolumeLimit => "No node can take one more volume.",
            Self::Device => "There is no node with the free device that this workspace asks for.",
            Self::Port => "On every node something else uses a port that this workspace needs.",
            Self::Selector => "There is no node of the kind that this workspace asks for.",
            Self::Affinity => "There is no node beside, or apart from, what this workspace asks for.",
            Self::Taint => "The nodes that are there are reserved for something else, or are not ready.",
            Self::Unusable => "There is no node that takes anything now.",
            _ => return None,
        })
    }

    fn reason(&self) -> String {
        match self {
            Self::Resource(resource) => format!("not enough {resource}"),
            Self::Other(what) => what.clone(),
            Self::Full => "as many pods as the node may have".into(),
            Self::Selector => "node selector or affinity does not match".into(),
            Self::Affinity => "pod affinity or spread does not match".into(),
            Self::Taint => "a taint without a toleration".into(),
            Self::Unusable => "cordoned or not ready".into(),
            Self::Port => "host port in use".into(),
            Self::Device => "no device for its resource claim".into(),
            Self::NoVolume => "no volume for its claim".into(),
            Self::VolumeLost => "its claim's volume is gone".into(),
            Self::VolumeElsewhere => "its volume is tied to another node or zone".into(),
            Self::VolumeInUse => "its volume is in use".into(),
            Self::VolumeLimit => "no more volumes can be attached".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::*;
    use super::*;
    use proptest::prelude::*;

    const NOISE: &str = " no new claims to deallocate, preemption: 0/5 nodes are available: 5 Preemption is not helpful \
                         for scheduling.";

    const TABLE: &[(&str, Sign, &str)] = &[
        (
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
            Unschedulable,
            "There is no node with a free GPU.",
        ),
        (
            "0/5 nodes are available: 3 Insufficient memory, 2 node(s) had untolerated taint(s).",
            Unschedulable,
            "There is no node with enough free memory.",
        ),
        (
            "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
            Unschedulable,
            "There is no node with enough free CPU and memory.",
        ),
        (
            "0/9 nodes are available: 8 Insufficient cpu, 1 Insufficient nvidia.com/mig-1g.5gb.",
            Unschedulable,
            "There is no node with a free GPU.",
        ),
        (
            "0/9 nodes are available: 9 Insufficient example.org/fpga.",
            Unschedulable,
            "There is no node with a free example.org/fpga.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            Unschedulable,
            "There is no node of the kind that this workspace asks for.",
        ),
        (
            "0/3 nodes are available: 3 node(s) had untolerated taint {node.kubernetes.io/unreachable: }. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
            Unschedulable,
            "The nodes that are there are reserved for something else, or are not ready.",
        ),
        (
            "0/3 nodes are available: 3 Too many pods.",
            Unschedulable,
            "Every node runs as many workspaces and programs as it may.",
        ),
        (
            "pod has unbound immediate PersistentVolumeClaims. not found",
            VolumeUnbound,
            "The volume for this workspace's files is not there yet.",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
            VolumeUnbound,
            "The volume for this workspace's files is not there yet.",
        ),
        (
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
            VolumeElsewhere,
            "The volume with your files is tied to a node that cannot be used now.",
        ),
        (
            "0/2 nodes are available: 1 Insufficient memory, 1 node(s) had volume node affinity conflict.",
            Unschedulable,
            "The node that holds your files has not enough free memory.",
        ),
        (
            "0/2 nodes are available: persistentvolumeclaim \"home\" bound to non-existent persistentvolume \"pv\".",
            VolumeLost,
            "The volume with this workspace's files cannot be found.",
        ),
        ("no nodes available to schedule pods", Unschedulable, "There is no node that takes anything now."),
        (
            "running PreBind plugin \"VolumeBinding\": binding volumes: timed out waiting for the condition",
            VolumeUnbound,
            "The volume for this workspace's files is not there yet.",
        ),
        (
            "0/1 nodes are available: 1 the moon is full.",
            Unschedulable,
            "No node of the cluster can take this workspace now.",
        ),
    ];

    #[test]
    fn each_lack_is_told_in_plain_words() {
        for (message, sign, detail) in TABLE {
            assert_eq!(Said::of(message).told(), (*sign, (*detail).to_owned()), "{message}");
            assert_eq!(
                Said::of(&format!("{message}{NOISE}")).told(),
                (*sign, (*detail).to_owned()),
                "{message}"
            );
        }
    }

    #[test]
    fn the_operator_sees_every_reason_with_its_count_and_no_noise() {
        let message = format!(
            "0/5 nodes are available: 3 Insufficient memory, 2 node(s) had untolerated taint(s).{NOISE}"
        );
        let said = Said::of(&message);
        assert_eq!(
            said.breakdown(),
            "nodes: 3 of 5: not enough memory, 2 of 5: a taint without a toleration"
        );
        assert_eq!(
            cut(&message),
            "0/5 nodes are available: 3 Insufficient memory, 2 node(s) had untolerated taint(s)"
        );
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic_or_talk_without_end(
            message in ".*|([0-9]{0,12}/[0-9]{0,12} nodes are available: )?([0-9]{0,11} (Insufficient |node\\(s\\) )?.{0,80}, ){0,200}"
        ) {
            let said = Said::of(&message);
            prop_assert!(said.lacks.len() <= REASONS);
            let (_, detail) = said.told();
            prop_assert!(detail.len() <= 1024 && !detail.contains(char::is_control));
            prop_assert!(said.breakdown().len() <= 8 * 400);
        }
    }
}

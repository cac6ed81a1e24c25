//! What is always true of each cause, in words.

use super::{CauseCode, CauseWords};

impl CauseCode {
    /// Its name, and what can be said of it without looking.
    #[expect(clippy::too_many_lines, reason = "one line a code: a table")]
    pub fn words(self) -> CauseWords {
        let (name, detail, hint) = match self {
            Self::ProgramNotFound => (
                "program_not_found",
                "The program of this workspace was not found.",
                "look at the template's command: is that program there, and executable, where the \
                 workspace runs?",
            ),
            Self::Crashed => (
                "crashed",
                "The workspace's program ended by itself.",
                "read the workspace's log; detail quotes its last lines",
            ),
            Self::StartTimeout => (
                "start_timeout",
                "The workspace was not ready in time.",
                "does its command listen where Usher connects? If it only needs longer, raise the \
                 template's start_timeout",
            ),
            Self::TemplateGone => (
                "template_gone",
                "The template of this workspace does not exist any more.",
                "bring the template back, or delete the workspace",
            ),
            Self::TemplateChanged => (
                "template_changed",
                "The settings of this workspace changed while it waited. Please try again.",
                "passing: what was made for its user was made of another template, or of the template as it \
                 was before; the next try makes it anew",
            ),
            Self::NotTheOwner => (
                "not_the_owner",
                "This name belongs to somebody else.",
                "an object of that name, or the volume claim that it would get, was made for another identity; nothing of \
                 it was touched",
            ),
            Self::SecretMissing => (
                "secret_missing",
                "A secret that this workspace needs is missing.",
                "make the secret, or correct the template that names it",
            ),
            Self::NoResources => (
                "no_resources",
                "The machine lacks something that the workspace needs.",
                "detail names it: disk, descriptors, processes or memory of Usher's machine",
            ),
            Self::StateUnwritable => (
                "state_unwritable",
                "Usher could not record the workspace.",
                "is the disk of the state folder full, or the folder not writable?",
            ),
            Self::ConfigMapMissing => (
                "config_map_missing",
                "A setting that this workspace needs is missing.",
                "make the config map, or correct the template that names it",
            ),
            Self::ImageMissing => (
                "image_missing",
                "The image of this workspace is not there.",
                "load the image on the node, or let image_pull_policy pull it",
            ),
            Self::ImageNameBad => (
                "image_name_bad",
                "The name of this workspace's image is not valid.",
                "correct the template's image",
            ),
            Self::ImagePullFailed => (
                "image_pull_failed",
                "The image of this workspace cannot be fetched.",
                "is the image's name right, its registry reachable from the nodes, and the pull \
                 secret there?",
            ),
            Self::Unschedulable => (
                "unschedulable",
                "No node of the cluster can take this workspace now.",
                "detail says what lacks; kubectl describe pod shows the scheduler's words",
            ),
            Self::VolumeUnbound => (
                "volume_unbound",
                "The volume for this workspace's files is not there yet.",
                "look at the claim with kubectl describe pvc: its class, and the provisioner of that \
                 class",
            ),
            Self::VolumeLost => (
                "volume_lost",
                "The volume with this workspace's files cannot be found.",
                "the claim is bound to a volume that is gone: restore the volume before anything else",
            ),
            Self::VolumeElsewhere => (
                "volume_elsewhere",
                "The volume with your files is on another node.",
                "the volume must be released by its node, or a node beside it must be free",
            ),
            Self::VolumeUnmountable => (
                "volume_unmountable",
                "A volume of this workspace cannot be mounted.",
                "kubectl describe pod shows the node's words",
            ),
            Self::RunsAsRoot => (
                "runs_as_root",
                "The image of this workspace wants to run as root, which is not allowed here.",
                "set the template's run_as to a number of a user that the image knows",
            ),
            Self::CannotStart => (
                "cannot_start",
                "The node could not start this workspace.",
                "kubectl describe pod shows the node's words",
            ),
            Self::CrashLoop => (
                "crash_loop",
                "The workspace's program ends again and again.",
                "detail has its exit code and its last lines; correct the template's command or image",
            ),
            Self::InitFailed => (
                "init_failed",
                "A step that prepares this workspace failed.",
                "look at the template's init_containers; detail quotes the last lines of the one that \
                 failed",
            ),
            Self::OutOfMemory => (
                "out_of_memory",
                "The workspace needed more memory than it may have, and was ended.",
                "raise the template's resources.memory",
            ),
            Self::NetworkFailed => (
                "network_failed",
                "The node cannot connect this workspace to the network.",
                "look at the node's network plug-in; kubectl describe pod shows its words",
            ),
            Self::QuotaExceeded => (
                "quota_exceeded",
                "No more may run now: what this installation may use is used up.",
                "raise the quota of the namespace, or lower spawn.concurrent and running_max",
            ),
            Self::LimitsRequired => (
                "limits_required",
                "This workspace is not allowed to run without limits.",
                "set the template's resources: a quota of the namespace asks for them",
            ),
            Self::PodSecurity => (
                "pod_security",
                "This workspace breaks the security rules of the cluster.",
                "the hint names the rules; correct the template, or the profile of the namespace",
            ),
            Self::ServiceAccountMissing => (
                "service_account_missing",
                "The account that this workspace runs under is missing.",
                "make the service account, or correct the template's service_account",
            ),
            Self::PriorityClassMissing => (
                "priority_class_missing",
                "The priority that this workspace asks for does not exist.",
                "make the priority class, or correct the template's pod overlay",
            ),
            Self::AdmissionRefused => (
                "admission_refused",
                "A rule of the cluster refuses this workspace.",
                "detail has the policy's own words",
            ),
            Self::AdmissionUnavailable => (
                "admission_unavailable",
                "The cluster could not check this workspace against its rules.",
                "the admission webhook that the hint names does not answer",
            ),
            Self::SpecInvalid => (
                "spec_invalid",
                "The cluster does not accept what the template of this workspace asks for.",
                "the hint has the field; correct the template or its pod overlay",
            ),
            Self::StartRefused => (
                "start_refused",
                "The cluster could not make this workspace.",
                "detail has the cluster's own words",
            ),
            Self::NodeLost => (
                "node_lost",
                "The node of this workspace does not answer. Your files are safe.",
                "bring the node back, or remove it; with a volume: kubectl taint node NODE \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
            ),
            Self::Evicted => (
                "evicted",
                "The node ran short of something and ended this workspace. It starts again by itself.",
                "give the template requests that fit its use, or the nodes more room",
            ),
            Self::Drained => (
                "drained",
                "The node of this workspace is being emptied. It starts again on another by itself.",
                "an eviction (kubectl drain) or a node's shutdown; nothing to do",
            ),
            Self::Preempted => (
                "preempted",
                "Something more urgent took the place of this workspace. It starts again by itself \
                 when there is room.",
                "more nodes, or a higher priority class in the template's pod overlay",
            ),
            Self::Removed => (
                "removed",
                "This workspace was ended in the cluster, past Usher. It starts again by itself.",
                "its pod was deleted by hand or by a controller; usher stop is the way that users \
                 understand",
            ),
            Self::DeadlineExceeded => (
                "deadline_exceeded",
                "This workspace reached the longest time that the cluster lets it run. It starts \
                 again by itself.",
                "something in the cluster set activeDeadlineSeconds, such as an admission webhook; max_age does this with a warning",
            ),
            Self::FailedOnNode => (
                "failed_on_node",
                "The node refused or ended this workspace. It starts again by itself.",
                "the hint has the node's own words",
            ),
            Self::ClusterUnreachable => (
                "cluster_unreachable",
                "The cluster does not answer. What runs goes on running.",
                "is the API server up, and reachable from Usher?",
            ),
            Self::ClusterRecovering => (
                "cluster_recovering",
                "The cluster is still recovering from an outage. Your workspace starts as soon as it \
                 can.",
                "nothing to do: the cluster's controllers and nodes come back one after another, \
                 within a minute or so",
            ),
            Self::ClusterSlow => (
                "cluster_slow",
                "The cluster has not begun to start this workspace.",
                "is the controller manager running, and the scheduler? kubectl describe statefulset \
                 shows what the cluster said",
            ),
            Self::ClusterBusy => (
                "cluster_busy",
                "The cluster is busy. Please try again in a moment.",
                "the API server limits Usher's requests; look at its priority and fairness settings",
            ),
            Self::NotPermitted => (
                "not_permitted",
                "Usher is not allowed to do that in the cluster.",
                "the hint names the right; the chart's Role has all that Usher uses",
            ),
            Self::Conflict => (
                "conflict",
                "The workspace was changed at the same moment by somebody else. Please try again.",
                "passing; if it lasts, something else writes the same object",
            ),
            Self::NamespaceMissing => (
                "namespace_missing",
                "The place for workspaces in the cluster does not exist.",
                "make the namespace that the template or kubernetes.namespace names, or list it in more_namespaces; it must not be in deletion",
            ),
            Self::AddressRefused => (
                "address_refused",
                "The workspace has an address at which it may not be reached.",
                "add the network of the cluster's pods to kubernetes.pod_networks (with the chart: workspaces.podNetworks), beside those it has",
            ),
            Self::ObjectMissing => (
                "object_missing",
                "What is served here is not in the cluster.",
                "make the object that routes.NAME names, or correct its kind, object and namespace",
            ),
            Self::NotOptedIn => (
                "not_opted_in",
                "What is served here may not be started from here.",
                "who owns the object has to agree: annotate (or label) it with usher.dev/route=NAME, the name of \
                 the route",
            ),
        };
        CauseWords { name, detail, hint }
    }
}

//! Why a workspace is not running, in words for people.

mod words;

/// A named cause: a sentence for the user and a hint for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The stable name.
    pub code: CauseCode,
    /// One sentence for the user.
    pub detail: String,
    /// One hint for the operator.
    pub hint: String,
}

/// Declares the codes, so that none can be missing in [`CauseCode::ALL`].
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident,)*) => {
        /// Stable names of causes, as they stand in `/.usher/status`, logs and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CauseCode {
            $($(#[$doc])* $code,)*
        }

        impl CauseCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$code,)*];
        }
    };
}

codes! {
    /// The program of the template does not exist or cannot be executed.
    ProgramNotFound,
    /// It ended by itself.
    Crashed,
    /// It did not accept connections, or its ready probe never succeeded, in `start_timeout`.
    StartTimeout,
    /// The template is not in the configuration any more.
    TemplateGone,
    /// The template was changed while it waited for its turn.
    TemplateChanged,
    /// An object of that name belongs to somebody else.
    NotTheOwner,
    /// A secret of its environment or of its mounts cannot be read.
    SecretMissing,
    /// The machine lacks something: disk, descriptors, processes.
    NoResources,
    /// The state file could not be written.
    StateUnwritable,
    /// A config map that its environment or its mounts name is missing.
    ConfigMapMissing,
    /// Its image is not on the node, and the template forbids to pull it.
    ImageMissing,
    /// The name of its image is none.
    ImageNameBad,
    /// Its image cannot be pulled.
    ImagePullFailed,
    /// No node can take it.
    Unschedulable,
    /// There is no volume for its claim.
    VolumeUnbound,
    /// The volume that its claim is bound to does not exist any more.
    VolumeLost,
    /// Its volume is held by, or tied to, another node.
    VolumeElsewhere,
    /// Its volume cannot be attached or mounted.
    VolumeUnmountable,
    /// Its image wants to run as root, which is not allowed.
    RunsAsRoot,
    /// The node could not start its container.
    CannotStart,
    /// It ended by itself again and again.
    CrashLoop,
    /// A step that prepares it failed.
    InitFailed,
    /// It needed more memory than it may have.
    OutOfMemory,
    /// The node cannot give it a network.
    NetworkFailed,
    /// A quota of the cluster is used up.
    QuotaExceeded,
    /// A quota of the cluster wants limits that the template does not set.
    LimitsRequired,
    /// It breaks the security profile of its namespace.
    PodSecurity,
    /// Its service account is missing.
    ServiceAccountMissing,
    /// Its priority class is missing.
    PriorityClassMissing,
    /// A policy of the cluster refuses it.
    AdmissionRefused,
    /// A policy of the cluster does not answer.
    AdmissionUnavailable,
    /// The cluster does not take what the template makes.
    SpecInvalid,
    /// The cluster refuses to make it, for a reason that is not known here.
    StartRefused,
    /// Its node does not answer.
    NodeLost,
    /// Its node ran short of something and put it out.
    Evicted,
    /// Its node is being emptied.
    Drained,
    /// Something with a higher priority took its place.
    Preempted,
    /// Somebody removed it from its node.
    Removed,
    /// It was active for longer than its deadline.
    DeadlineExceeded,
    /// Its node refused or ended it.
    FailedOnNode,
    /// The cluster does not answer.
    ClusterUnreachable,
    /// The cluster was away, and its controllers have not all come back.
    ClusterRecovering,
    /// The cluster has not done anything for it yet.
    ClusterSlow,
    /// The cluster turns requests away because it has too many.
    ClusterBusy,
    /// Usher lacks a right in the cluster.
    NotPermitted,
    /// It was changed by somebody else at the same moment.
    Conflict,
    /// The namespace of the workspaces is missing.
    NamespaceMissing,
    /// It has an address that Usher may not dial.
    AddressRefused,
    /// What the route leads to is not there.
    ObjectMissing,
    /// Who made what the route leads to has not agreed that it is woken.
    NotOptedIn,
}

/// What is always true of a cause; a [`Cause`] says more where more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CauseWords {
    /// The stable text of its code.
    pub name: &'static str,
    /// One sentence for the user.
    pub detail: &'static str,
    /// One hint for the operator.
    pub hint: &'static str,
}

impl CauseCode {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        self.words().name
    }

    /// Whether it is of what a route leads to, as its maker left it: nothing was started.
    pub(crate) fn is_of_object(self) -> bool {
        matches!(self, Self::ObjectMissing | Self::NotOptedIn)
    }

    /// Whether it is why an instance ended whose successor comes by itself.
    pub fn is_interruption(self) -> bool {
        matches!(
            self,
            Self::Evicted
                | Self::Drained
                | Self::Preempted
                | Self::Removed
                | Self::DeadlineExceeded
                | Self::FailedOnNode
        )
    }

    /// Whether it is of the moment and of all: nothing that a workspace can help, and nothing to count against it.
    pub(crate) fn is_passing(self) -> bool {
        matches!(
            self,
            Self::ClusterUnreachable
                | Self::ClusterRecovering
                | Self::ClusterSlow
                | Self::ClusterBusy
                | Self::Conflict
        )
    }
}

/// What is always true of it, where no more is known.
impl From<CauseCode> for Cause {
    fn from(code: CauseCode) -> Self {
        let CauseWords { detail, hint, .. } = code.words();
        Self { code, detail: detail.to_owned(), hint: hint.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_a_name_of_its_own_a_sentence_and_a_hint() {
        let names: HashSet<&str> = CauseCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), CauseCode::ALL.len());
        for code in CauseCode::ALL {
            let CauseWords { name, detail, hint } = code.words();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(detail.ends_with('.') && detail.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(!hint.is_empty() && !hint.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn users_are_told_nothing_in_the_words_of_kubernetes() {
        let jargon =
            ["pod", "StatefulSet", "namespace", "PersistentVolume", "kubelet", "kubectl", "container"];
        for code in CauseCode::ALL {
            let detail = code.words().detail;
            assert!(!jargon.iter().any(|word| detail.contains(word)), "{detail}");
        }
    }
}

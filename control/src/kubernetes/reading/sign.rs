//! What can be read as a reason, and what follows from each.
//!
//! | sign | cause | follows |
//! |---|---|---|
//! | `ImageMissing` | `image_missing` | `End` |
//! | `ImageNameBad` | `image_name_bad` | `End` |
//! | `ImageNotPulled` | `image_pull_failed` | `Hindrance` |
//! | `ImageRefused` | `image_pull_failed` | `End` |
//! | `Unschedulable` | `unschedulable` | `Passing` |
//! | `VolumeUnbound` | `volume_unbound` | `Passing` |
//! | `VolumeClassMissing` | `volume_unbound` | `Hindrance` |
//! | `VolumeLost` | `volume_lost` | `Hindrance` |
//! | `VolumeElsewhere` | `volume_elsewhere` | `Passing` |
//! | `MountFails` | `volume_unmountable` | `Passing` |
//! | `SecretMissing` | `secret_missing` | `Hindrance` |
//! | `ConfigMapMissing` | `config_map_missing` | `Hindrance` |
//! | `RunsAsRoot` | `runs_as_root` | `End` |
//! | `ProgramNotFound` | `program_not_found` | `End` |
//! | `CannotStart` | `cannot_start` | `Hindrance` |
//! | `CannotStartAgain` | `cannot_start` | `End` |
//! | `Crashed` | `crashed` | `Hindrance` |
//! | `CrashedAgain` | `crash_loop` | `End` |
//! | `InitFailed` | `init_failed` | `Hindrance` |
//! | `InitFailedAgain` | `init_failed` | `End` |
//! | `OutOfMemory` | `out_of_memory` | `Hindrance` |
//! | `OutOfMemoryAgain` | `out_of_memory` | `End` |
//! | `NetworkFails` | `network_failed` | `Passing` |
//! | `QuotaExceeded` | `quota_exceeded` | `Hindrance` |
//! | `LimitsRequired` | `limits_required` | `End` |
//! | `PodSecurity` | `pod_security` | `End` |
//! | `ServiceAccountMissing` | `service_account_missing` | `Passing` |
//! | `PriorityClassMissing` | `priority_class_missing` | `End` |
//! | `AdmissionRefused` | `admission_refused` | `End` |
//! | `AdmissionUnavailable` | `admission_unavailable` | `Passing` |
//! | `SpecInvalid` | `spec_invalid` | `End` |
//! | `NamespaceMissing` | `namespace_missing` | `End` |
//! | `NotPermitted` | `not_permitted` | `Hindrance` |
//! | `StartRefused` | `start_refused` | `Passing` |
//! | `NodeLost` | `node_lost` | `Hindrance` |
//! | `Evicted` | `evicted` | `Notice` |
//! | `Drained` | `drained` | `Notice` |
//! | `Preempted` | `preempted` | `Notice` |
//! | `Removed` | `removed` | `Notice` |
//! | `DeadlineExceeded` | `deadline_exceeded` | `Notice` |
//! | `FailedOnNode` | `failed_on_node` | `Notice` |
//! | `ClusterUnreachable` | `cluster_unreachable` | `Hindrance` |
//! | `ClusterRecovering` | `cluster_recovering` | `Passing` |
//! | `ClusterSlow` | `cluster_slow` | `Passing` |

use crate::{Cause, CauseCode};

/// What follows from a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// No waiting cures it: the workspace goes back to 0 at once.
    End,
    /// Shown at once. It may heal, or somebody may mend it: the timeout of the step ends it.
    Hindrance,
    /// As a hindrance, but it often heals by itself: shown only after [`super::SETTLES`] without progress.
    Passing,
    /// Why an instance ended that is being replaced: shown until its successor has begun, ends nothing.
    Notice,
}

macro_rules! signs {
    ($($sign:ident => $code:ident, $follows:ident;)*) => {
        /// What can be read as a reason. The module's table says what follows from each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Sign {
            $($sign,)*
        }

        impl Sign {
            /// Every sign, its name, its cause and what follows.
            #[cfg(test)]
            pub(super) const ALL: &'static [(Self, &'static str)] = &[$((Self::$sign, stringify!($sign)),)*];

            /// The cause as which it is told.
            pub(super) fn code(self) -> CauseCode {
                match self {
                    $(Self::$sign => CauseCode::$code,)*
                }
            }

            /// What follows.
            pub(super) fn follows(self) -> Follows {
                match self {
                    $(Self::$sign => Follows::$follows,)*
                }
            }
        }
    };
}

signs! {
    ImageMissing => ImageMissing, End;
    ImageNameBad => ImageNameBad, End;
    ImageNotPulled => ImagePullFailed, Hindrance;
    // The registry gave a definite answer, and gave it again after the first back-off.
    ImageRefused => ImagePullFailed, End;
    // A node that another workspace just left, or one that is being added.
    Unschedulable => Unschedulable, Passing;
    // A provisioner takes its seconds.
    VolumeUnbound => VolumeUnbound, Passing;
    VolumeClassMissing => VolumeUnbound, Hindrance;
    VolumeLost => VolumeLost, Hindrance;
    // The node that had it lets go some seconds after the workspace ended there.
    VolumeElsewhere => VolumeElsewhere, Passing;
    // The node may not know yet that the pod is its own: healed after 13 s (measured 2026-11-21).
    MountFails => VolumeUnmountable, Passing;
    SecretMissing => SecretMissing, Hindrance;
    ConfigMapMissing => ConfigMapMissing, Hindrance;
    RunsAsRoot => RunsAsRoot, End;
    ProgramNotFound => ProgramNotFound, End;
    CannotStart => CannotStart, Hindrance;
    CannotStartAgain => CannotStart, End;
    Crashed => Crashed, Hindrance;
    CrashedAgain => CrashLoop, End;
    InitFailed => InitFailed, Hindrance;
    InitFailedAgain => InitFailed, End;
    OutOfMemory => OutOfMemory, Hindrance;
    OutOfMemoryAgain => OutOfMemory, End;
    NetworkFails => NetworkFailed, Passing;
    // Others stop, and it fits.
    QuotaExceeded => QuotaExceeded, Hindrance;
    LimitsRequired => LimitsRequired, End;
    PodSecurity => PodSecurity, End;
    // That of a new namespace is made some seconds after it.
    ServiceAccountMissing => ServiceAccountMissing, Passing;
    PriorityClassMissing => PriorityClassMissing, End;
    AdmissionRefused => AdmissionRefused, End;
    AdmissionUnavailable => AdmissionUnavailable, Passing;
    SpecInvalid => SpecInvalid, End;
    NamespaceMissing => NamespaceMissing, End;
    NotPermitted => NotPermitted, Hindrance;
    StartRefused => StartRefused, Passing;
    NodeLost => NodeLost, Hindrance;
    Evicted => Evicted, Notice;
    Drained => Drained, Notice;
    Preempted => Preempted, Notice;
    Removed => Removed, Notice;
    DeadlineExceeded => DeadlineExceeded, Notice;
    FailedOnNode => FailedOnNode, Notice;
    ClusterUnreachable => ClusterUnreachable, Hindrance;
    ClusterRecovering => ClusterRecovering, Passing;
    ClusterSlow => ClusterSlow, Passing;
}

/// A sign that was seen, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) sign: Sign,
    /// One sentence for the user.
    pub(super) detail: String,
    /// One hint for the operator.
    pub(super) hint: String,
    /// Whether the workspace runs in spite of it.
    spares: bool,
}

impl Finding {
    /// With the sentence that is always true of its cause.
    pub(super) fn plain(sign: Sign, hint: impl Into<String>) -> Self {
        Self::new(sign, sign.code().words().detail, hint)
    }

    pub(super) fn new(sign: Sign, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { sign, detail: detail.into(), hint: hint.into(), spares: false }
    }

    /// It is of something beside a workspace that runs: what would be the end only hinders.
    pub(super) fn sparing(self) -> Self {
        Self { spares: true, ..self }
    }

    /// What follows from it.
    pub(super) fn follows(&self) -> Follows {
        match self.sign.follows() {
            Follows::End if self.spares => Follows::Hindrance,
            follows => follows,
        }
    }

    /// As it is told.
    pub(super) fn cause(self) -> Cause {
        Cause { code: self.sign.code(), detail: self.detail, hint: self.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_one_that_is_read() {
        let table: Vec<&str> =
            include_str!("sign.rs").lines().filter(|line| line.starts_with("//! | `")).collect();
        let wanted: Vec<String> = Sign::ALL
            .iter()
            .map(|(sign, name)| {
                format!("//! | `{name}` | `{}` | `{:?}` |", sign.code().as_str(), sign.follows())
            })
            .collect();
        assert_eq!(table, wanted);
    }
}

//! What the security contexts of a pod and of a container have in common.

use super::Finder;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
    WindowsSecurityContextOptions,
};

/// The fields that both have.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) run_as_non_root: Option<bool>,
    run_as_user: Option<i64>,
    pub(super) seccomp: Option<&'a SeccompProfile>,
    app_armor: Option<&'a AppArmorProfile>,
    se_linux: Option<&'a SELinuxOptions>,
    windows: Option<&'a WindowsSecurityContextOptions>,
}

/// The types of SELinux that are those of containers (*Baseline*, SELinux).
const SE_LINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

impl<'a> Context<'a> {
    /// Of a pod.
    pub(super) fn of_pod(context: &'a PodSecurityContext) -> Self {
        Self {
            run_as_non_root: context.run_as_non_root,
            run_as_user: context.run_as_user,
            seccomp: context.seccomp_profile.as_ref(),
            app_armor: context.app_armor_profile.as_ref(),
            se_linux: context.se_linux_options.as_ref(),
            windows: context.windows_options.as_ref(),
        }
    }

    /// Of a container.
    pub(super) fn of_container(context: &'a SecurityContext) -> Self {
        Self {
            run_as_non_root: context.run_as_non_root,
            run_as_user: context.run_as_user,
            seccomp: context.seccomp_profile.as_ref(),
            app_armor: context.app_armor_profile.as_ref(),
            se_linux: context.se_linux_options.as_ref(),
            windows: context.windows_options.as_ref(),
        }
    }

    /// What is wrong wherever it is said.
    pub(super) fn check(&self, finder: &mut Finder<'_>) {
        finder.must(
            self.run_as_non_root != Some(false),
            "securityContext.runAsNonRoot",
            "lets it run as root",
            "true",
        );
        finder.must(self.run_as_user != Some(0), "securityContext.runAsUser", "is root", "another user");
        finder.must(
            self.seccomp.is_none_or(confines),
            "securityContext.seccompProfile",
            "does not confine system calls",
            "RuntimeDefault or Localhost",
        );
        let is_confined =
            |profile: &AppArmorProfile| ["RuntimeDefault", "Localhost"].contains(&&*profile.type_);
        finder.must(
            self.app_armor.is_none_or(is_confined),
            "securityContext.appArmorProfile",
            "is not confined by AppArmor",
            "RuntimeDefault or Localhost",
        );
        let is_containers = |options: &SELinuxOptions| {
            SE_LINUX_TYPES.contains(&options.type_.as_deref().unwrap_or_default())
                && [&options.user, &options.role].iter().all(|name| name.as_deref().is_none_or(str::is_empty))
        };
        finder.must(
            self.se_linux.is_none_or(is_containers),
            "securityContext.seLinuxOptions",
            "sets another type than a container's, or a user or role",
            "no user, no role, and a type of containers, such as container_t",
        );
        finder.must(
            self.windows.is_none_or(|options| options.host_process != Some(true)),
            "securityContext.windowsOptions.hostProcess",
            "makes it a process of the host",
            "false",
        );
    }
}

/// Whether a profile confines system calls.
pub(super) fn confines(profile: &SeccompProfile) -> bool {
    ["RuntimeDefault", "Localhost"].contains(&&*profile.type_)
}

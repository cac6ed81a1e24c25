//! What is known of one workspace, as whoever acts takes it with them.

use super::workspace::uid;
use crate::Generation;
use crate::kubernetes::names;
use crate::kubernetes::notes::Notes;
use crate::kubernetes::outline::Outline;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::sync::Arc;

/// What whoever acts knows of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) set: Arc<Outline>,
    pub(crate) notes: Notes,
    /// Its pod, of this StatefulSet or of the warm one that it has claimed.
    pub(crate) pod: Option<Arc<Pod>>,
    /// The warm StatefulSet that it runs in, or that has its files, as both say.
    pub(crate) body: Option<Arc<Outline>>,
}

impl Known {
    /// The `uid` of its StatefulSet.
    pub(crate) fn uid(&self) -> &str {
        &self.set.uid
    }

    /// The version of its StatefulSet.
    pub(crate) fn version(&self) -> u64 {
        self.set.version
    }

    /// Whether it is to run.
    pub(crate) fn is_wanted(&self) -> bool {
        let elsewhere = self.body.as_ref().map_or(self.notes.claims.is_some(), |body| body.replicas > 0);
        self.set.replicas > 0 || elsewhere
    }

    /// Whether it names a warm set that is not its own.
    pub(crate) fn claims_in_vain(&self) -> bool {
        self.notes.claims.is_some() && self.body.is_none()
    }

    /// The warm set that has its files.
    pub(crate) fn keeper(&self) -> Option<&str> {
        let body = self.body.as_ref().filter(|body| body.keeps_files);
        body.map(|body| body.name.as_str()).or(self.notes.files.as_deref())
    }

    /// Whether somebody has begun to delete it.
    pub(crate) fn ends(&self) -> bool {
        self.set.ends
    }

    /// Which instance its pod is.
    pub(crate) fn generation(&self) -> Option<Generation> {
        self.pod.as_ref().and_then(|pod| uid(&pod.metadata))
    }

    /// The name of its pod.
    pub(crate) fn pod_name(&self) -> String {
        let name = self.pod.as_ref().and_then(|pod| pod.metadata.name.clone());
        name.unwrap_or_else(|| names::pod(&self.notes.id))
    }

    /// Whether its pod's program runs.
    pub(crate) fn runs(&self) -> bool {
        self.status().is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
    }

    /// Whether its pod's program was ever started.
    pub(crate) fn has_begun(&self) -> bool {
        self.status().is_some_and(|status| {
            let state = status.state.as_ref();
            let begun = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
            begun || status.restart_count > 0
        })
    }

    fn status(&self) -> Option<&ContainerStatus> {
        let statuses = self.pod.as_ref()?.status.as_ref()?.container_statuses.as_ref()?;
        statuses.iter().find(|status| status.name == names::CONTAINER)
    }
}

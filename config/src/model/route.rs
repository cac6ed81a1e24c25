//! What is there already, and is woken by who may enter: `[routes.NAME]`.

use super::{Config, Template};
use crate::expression::Expression;
use crate::names::{RouteName, TemplateName};
use std::sync::Arc;
use std::time::Duration;

/// `[routes.NAME]`: a host of the operator's choice, and the object in the cluster that answers there.
#[derive(Debug)]
pub struct DeclaredRoute {
    /// `allow`: who may enter.
    pub allow: Expression<bool>,
    /// When it is in use, when it stops, how it is served: what a workspace has by its template. It runs as
    /// [`Runs::Existing`](super::Runs::Existing), and no template of the configuration has its name.
    pub template: Arc<Template>,
}

/// An object that somebody else made: `kind`, `object`, `namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingObject {
    /// The route that leads to it.
    pub route: RouteName,
    /// `kind`.
    pub kind: ObjectKind,
    /// `object`: its name.
    pub name: String,
    /// `namespace`: where it is; the workspaces' unless set.
    pub namespace: String,
    /// `port`: where its pods listen.
    pub port: u16,
    /// `replicas`: how many it is woken to, unless it was seen to have another number.
    pub replicas: u32,
    /// `schedule_timeout`: how long a pod may wait for a node.
    pub schedule_timeout: Duration,
    /// `pull_timeout`: how long its images may take.
    pub pull_timeout: Duration,
}

/// `kind`: what can be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// `"Deployment"`.
    Deployment,
    /// `"StatefulSet"`.
    StatefulSet,
}

impl ObjectKind {
    /// Its name in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

impl Config {
    /// The template of this name: one of the configuration, or a route's.
    pub fn template(&self, name: &TemplateName) -> Option<&Arc<Template>> {
        let of_route = || self.routes.values().map(|route| &route.template).find(|known| known.name == *name);
        self.templates.get(name).or_else(of_route)
    }
}

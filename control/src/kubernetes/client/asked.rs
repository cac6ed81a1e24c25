//! What a request asks of the API server, read off its method and path.

use super::Object;
use http::Method;
use http::request::Parts;
use std::fmt;

/// What a request does. The words are those of Kubernetes' own roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// Whether it may change an object, so that the server is to check the fields of its body.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Patch)
    }
}

/// What it is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    StatefulSets,
    Deployments,
    Scales,
    Pods,
    Claims,
    Events,
    Secrets,
    Leases,
    Other,
}

impl Resource {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StatefulSets => "statefulsets",
            Self::Deployments => "deployments",
            Self::Scales => "scales",
            Self::Pods => "pods",
            Self::Claims => "persistentvolumeclaims",
            Self::Events => "events",
            Self::Secrets => "secrets",
            Self::Leases => "leases",
            Self::Other => "other",
        }
    }

    /// That of a type of objects.
    pub(crate) fn of<K: Object>() -> Self {
        Self::parse(&K::plural(&()), None)
    }

    fn parse(plural: &str, subresource: Option<&str>) -> Self {
        match (plural, subresource) {
            ("statefulsets" | "deployments", Some("scale")) => Self::Scales,
            ("statefulsets", _) => Self::StatefulSets,
            ("deployments", _) => Self::Deployments,
            ("pods", _) => Self::Pods,
            ("persistentvolumeclaims", _) => Self::Claims,
            ("events", _) => Self::Events,
            ("secrets", _) => Self::Secrets,
            ("leases", _) => Self::Leases,
            _ => Self::Other,
        }
    }
}

/// A verb on a resource: what errors name and metrics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) verb: Verb,
    pub(crate) resource: Resource,
}

impl Asked {
    /// Reads a request whose path begins at the server's root.
    pub(crate) fn of(request: &Parts) -> Self {
        let path = Path::of(request.uri.path());
        let watches =
            request.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let verb = match request.method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if watches => Verb::Watch,
            _ if path.names_one => Verb::Get,
            _ => Verb::List,
        };
        Self { verb, resource: path.resource }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.resource.as_str())
    }
}

struct Path {
    resource: Resource,
    /// Whether it is of one object and not of all.
    names_one: bool,
}

impl Path {
    /// `/api/v1/…` or `/apis/<group>/<version>/…`, then perhaps `namespaces/<namespace>/`, then
    /// `<plural>[/<name>[/<subresource>]]`.
    fn of(path: &str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let skipped = match segments.next() {
            Some("api") => 1,
            Some("apis") => 2,
            _ => return Self { resource: Resource::Other, names_one: true },
        };
        let rest: Vec<&str> = segments.skip(skipped).collect();
        let within = match rest.as_slice() {
            ["namespaces", _, within @ ..] if !within.is_empty() => within,
            all => all,
        };
        let plural = within.first().copied().unwrap_or_default();
        let resource = Resource::parse(plural, within.get(2).copied());
        Self { resource, names_one: within.len() > 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn every_request_is_named_by_its_verb_and_resource() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces/w/pods?", "list pods"),
            ("GET", "/api/v1/namespaces/w/pods?&watch=true&timeoutSeconds=8", "watch pods"),
            ("GET", "/api/v1/namespaces/w/pods/a-0", "get pods"),
            ("GET", "/api/v1/pods?limit=500", "list pods"),
            ("GET", "/api/v1/namespaces/w/secrets/watch%3Dtrue", "get secrets"),
            ("POST", "/apis/apps/v1/namespaces/w/statefulsets?&fieldManager=x", "create statefulsets"),
            ("PATCH", "/apis/apps/v1/namespaces/w/statefulsets/a", "patch statefulsets"),
            ("PATCH", "/apis/apps/v1/namespaces/w/statefulsets/a/scale", "patch scales"),
            ("GET", "/apis/apps/v1/namespaces/w/deployments/a/scale", "get scales"),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/u/leases/reaper", "update leases"),
            ("DELETE", "/api/v1/namespaces/w/persistentvolumeclaims/a", "delete persistentvolumeclaims"),
            ("GET", "/api/v1/namespaces/w/events", "list events"),
            ("GET", "/api/v1/namespaces/w", "get other"),
            ("GET", "/api/v1/namespaces", "list other"),
            ("GET", "/version", "get other"),
            ("GET", "/", "get other"),
        ] {
            let (parts, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
            assert_eq!(Asked::of(&parts).to_string(), expected, "{method} {uri}");
        }
    }
}

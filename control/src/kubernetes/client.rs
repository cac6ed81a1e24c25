//! The way to the API server: every call has a deadline, at most 32 are in flight, all are counted.
//!
//! `kube`'s own ready-made stack is not used. It tries a refused write again by itself up to fifteen times, so
//! that a caller could not tell its own object from another's (a create meets its own 409) nor when it gives
//! up; and it has no deadline. Here a call is made once, and who called decides.

mod asked;
mod calls;
mod error;
mod guard;
mod metrics;
#[cfg(test)]
mod tests;

pub(crate) use asked::Resource;
pub(crate) use calls::of;
pub use calls::{Created, Object};
pub use error::CallError;
pub use metrics::ClientMetrics;

use guard::{Deadlines, Guard, IN_FLIGHT, Shared};
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tower::util::option_layer;
use tower::{BoxError, Layer, Service, ServiceExt};

/// How long a connection that nobody uses is kept: shorter than load balancers forget it, so that a call
/// seldom meets a dead one.
const IDLE: Duration = Duration::from_secs(20);

/// Where the cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// A kubeconfig file; without one and without a context: the service account of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it, or in the file that kubectl would use; without one: its current context.
    pub context: Option<String>,
}

/// Why there is no way to a cluster. None of it is repaired by waiting.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a pod, and no file is named.
    #[error(
        "this is not a pod with a service account ({reason}): name a file in `kubernetes.kubeconfig`, or run Usher in the cluster"
    )]
    NotInCluster {
        /// What is missing.
        reason: String,
    },
    /// The file cannot be read or says too little.
    #[error("the kubeconfig {file} cannot be used: {reason}")]
    Kubeconfig {
        /// Its path.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file has no such context.
    #[error(
        "the kubeconfig {file} has no context {context:?}; it has {known:?}: correct `kubernetes.context`"
    )]
    Context {
        /// Its path.
        file: String,
        /// The context that was asked for.
        context: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The credentials cannot be used.
    #[error("the credentials for the cluster at {server} cannot be used: {reason}")]
    Credentials {
        /// The server's address.
        server: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The kubeconfig wants a proxy.
    #[error("the kubeconfig {file} wants a proxy (`proxy-url`), which Usher does not use: remove it")]
    Proxy {
        /// Its path.
        file: String,
    },
}

/// The way to one cluster. Cheap to clone; to be made on the runtime that uses it.
///
/// Every write is checked strictly: a field that the server does not know is a refusal. The calls are made with
/// `kube`'s requests and types, and read here: `kube` logs what it cannot read, and it may be a secret.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    patient: kube::Client,
    own_namespace: Option<String>,
    server: Arc<str>,
    metrics: ClientMetrics,
}

impl Client {
    /// Reads the credentials; makes no connection yet.
    ///
    /// # Errors
    /// Why there is no way to a cluster, and what to change.
    pub async fn new(settings: &ClientSettings, metrics: ClientMetrics) -> Result<Self, ConnectError> {
        let (config, own_namespace) = config(settings).await?;
        let server = address(&config.cluster_url);
        let unusable = |error: kube::Error| ConnectError::Credentials {
            server: server.clone(),
            reason: error::chain(&error),
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = config.rustls_https_connector_with_connector(connector).map_err(unusable)?;
        let connections: hyper_util::client::legacy::Client<_, Body> =
            hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IN_FLIGHT)
                .build(connector);
        let service = config.extra_headers_layer().map_err(unusable)?.layer(connections);
        let service = service.map_err(BoxError::from);
        let service = option_layer(config.auth_layer().map_err(unusable)?).layer(service);
        let service = config.base_uri_layer().layer(service);
        Ok(Self { own_namespace, ..Self::over(service, &server, metrics) })
    }

    /// Over connections that take paths from the server's root.
    pub(crate) fn over<S, B>(service: S, server: &str, metrics: ClientMetrics) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = Arc::new(Shared::new(server, metrics.clone()));
        let of = |deadlines| {
            let guard = Guard::new(service.clone(), shared.clone(), deadlines);
            // Nothing is ever asked of a default namespace: every call names its own.
            kube::Client::new(guard, "default")
        };
        Self {
            kube: of(Deadlines::PROMPT),
            patient: of(Deadlines::PATIENT),
            own_namespace: None,
            server: server.into(),
            metrics,
        }
    }

    /// The same for who would rather wait than fail: a call about one object fails after 2.5 s and not 0.8 s.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { kube: self.patient.clone(), ..self.clone() }
    }

    /// The namespace of the pod that this runs in.
    pub fn own_namespace(&self) -> Option<&str> {
        self.own_namespace.as_deref()
    }

    /// The API server's address, for logs.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn metrics(&self) -> &ClientMetrics {
        &self.metrics
    }
}

async fn config(settings: &ClientSettings) -> Result<(Config, Option<String>), ConnectError> {
    let ClientSettings { kubeconfig: path, context } = settings;
    if path.is_none() && context.is_none() {
        let config =
            Config::incluster().map_err(|error| ConnectError::NotInCluster { reason: error.to_string() })?;
        let namespace = config.default_namespace.clone();
        return Ok((config, Some(namespace)));
    }
    let file = path.as_ref().map_or("of kubectl".to_owned(), |path| path.display().to_string());
    let unusable = |error| ConnectError::Kubeconfig { file: file.clone(), reason: reason(error) };
    let kubeconfig = path.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(unusable)?;
    let known: Vec<_> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
            KubeconfigError::LoadContext(context) => {
                ConnectError::Context { file: file.clone(), context, known }
            }
            error => unusable(error),
        })?;
    if let Some(proxy) = config.proxy_url.take()
        && !proxy_of_environment(&proxy)
    {
        return Err(ConnectError::Proxy { file });
    }
    Ok((config, None))
}

/// What is wrong with a kubeconfig, without a word of what it holds.
fn reason(error: KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is not a kubeconfig in YAML".to_owned(),
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        error => error.to_string(),
    }
}

/// Whether `kube` took this proxy from the environment, where it stands for everything and is not meant for
/// the cluster.
fn proxy_of_environment(proxy: &http::Uri) -> bool {
    let mut named = ["HTTPS_PROXY", "https_proxy"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.any(|value| value.parse::<http::Uri>().is_ok_and(|uri| uri == *proxy))
}

/// Scheme, host and port, without what a URL may say about a user.
fn address(url: &http::Uri) -> String {
    let host = url.host().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme_str().unwrap_or("https"))
}

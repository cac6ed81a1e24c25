//! The validated configuration, as the other packages read it. Built only by the reader in this package.

mod audit;
mod certificates;
mod client;
mod kubernetes;
mod login;
mod machines;
mod quota;
mod route;

pub use audit::*;
pub use certificates::*;
pub use client::*;
pub use kubernetes::*;
pub use login::*;
pub use machines::*;
pub use quota::*;
pub use route::*;

use crate::expression::{Expression, RequestFacts, Subject};
use crate::names::{HostName, QuotaName, RouteName, TemplateName, WorkspaceName};
use crate::network::AddressLists;
use crate::places::Places;
use crate::secret::Secret;
use crate::values::{BadValue, Values};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One validated, immutable configuration. A request sees one from its first byte to its last.
#[derive(Debug)]
pub struct Config {
    /// `domain`: the base under which every workspace has its host.
    pub domain: HostName,
    /// `portal`: the host of login, dashboard and API; the domain itself unless set.
    pub portal: HostName,
    /// `state_dir`: the folder (0700) of the embedded file, keys, sockets, homes and logs.
    pub state_dir: PathBuf,
    /// `driver`: what runs the workspaces; every template is one of it.
    pub driver: Driver,
    /// `trusted_proxies` and `client_address`: whom to believe where a client is.
    pub proxies: Proxies,
    /// `[[listeners]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[tls]`.
    pub tls: Tls,
    /// `[certificates.NAME]`: what listeners with `https` show.
    pub certificates: Certificates,
    /// `[admin]`.
    pub admin: Admin,
    /// `[login]`.
    pub login: Login,
    /// `[access]`: who may enter, and as whom.
    pub access: Access,
    /// `[limits]`.
    pub limits: Limits,
    /// `[sessions]`.
    pub sessions: Sessions,
    /// `[audit]`.
    pub audit: Audit,
    /// `[machines]`: who comes without a browser.
    pub machines: Machines,
    /// `[spawn]`.
    pub spawn: Spawn,
    /// `[drain]`.
    pub drain: Drain,
    /// `[quotas.NAME]`: how much may run at a time.
    pub quotas: BTreeMap<QuotaName, Arc<Quota>>,
    /// `[named_workspaces.NAME]`: the further workspaces that every user may have.
    pub named_workspaces: BTreeMap<WorkspaceName, NamedWorkspace>,
    /// `[templates.NAME]`, with the defaults of `[workspaces]` filled in.
    pub templates: BTreeMap<TemplateName, Arc<Template>>,
    /// `[routes.NAME]`, with the defaults of `[workspaces]` filled in.
    pub routes: BTreeMap<RouteName, DeclaredRoute>,
    /// Where the keys of the templates stand, for what others find wrong with them.
    pub(crate) places: Places,
}

/// `driver`.
#[derive(Debug, Clone)]
pub enum Driver {
    /// `"process"`: child processes of this machine.
    Process,
    /// `"kubernetes"`: pods, as `[kubernetes]` says.
    Kubernetes(Kubernetes),
}

/// One place to listen on; all its addresses serve the same.
#[derive(Debug, Clone)]
pub struct Listener {
    /// `address`: one or more.
    pub addresses: Vec<SocketAddr>,
    /// `public_port`: the port that browsers use, where it is not the one bound.
    pub public_port: Option<u16>,
    /// `protocol`: what is spoken there.
    pub protocol: ListenerProtocol,
    /// `proxy_protocol`: connections begin with a header of the PROXY protocol, and come from trusted proxies.
    pub proxy_protocol: bool,
}

/// `protocol`: what a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// `"http"`: HTTP/1.1 in cleartext.
    Http,
    /// `"https"`: HTTP/2 and HTTP/1.1 over TLS, with the certificates of [`Config::certificates`].
    Https,
    /// `"redirect"`: as `http`, but all that is answered is `http-01` of ACME, and where the same is served by https.
    Redirect,
}

/// `[admin]`: the operator's side.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `address`: `/metrics`, `/livez`, `/readyz` over TCP.
    pub address: SocketAddr,
    /// `socket`: everything, `/status` and changes included (0600).
    pub socket: PathBuf,
    /// `certificate`, `private_key` and `client_authority`; none = cleartext.
    pub tls: Option<AdminTls>,
}

/// What the admin address shakes hands with: PEM files that are looked at again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// `certificate`: the chain, leaf first.
    pub certificate: PathBuf,
    /// `private_key`: PKCS #8, PKCS #1 or SEC1.
    pub private_key: PathBuf,
    /// `client_authority`: who signs for clients; none = whoever connects may ask.
    pub client_authority: Option<PathBuf>,
}

/// `[access]`: CEL over `user`, `claims`, `groups`, `request`.
#[derive(Debug)]
pub struct Access {
    /// `allow`: bool; who may enter.
    pub allow: Expression<bool>,
    /// `groups`: list of strings, over `user`, `claims`, `request`; which groups a person is in, asked at the login and
    /// at each refresh.
    pub groups: Expression<Vec<String>>,
    /// `label`: string; which label a user asks for.
    pub label: Expression<String>,
    /// `admin`: bool; who may see and end what is others'.
    pub admin: Expression<bool>,
    /// `template`: string; which template the user's first workspace has.
    pub template: Expression<String>,
    /// `running_max`: int; how many workspaces of one user may run at a time.
    pub running_max: Expression<i64>,
    /// `tier`: string, over `user`, `claims`, `groups`; what [`Limits`] see as `user.tier`.
    pub tier: Expression<String>,
    /// `allow_addresses` and `deny_addresses`: from where anything at all may be reached.
    pub addresses: AddressLists,
}

/// `[sessions]`.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// `idle_after`: unused this long = ended.
    pub idle_after: Duration,
    /// `max_age`: ended this long after the login, used or not.
    pub max_age: Duration,
    /// `per_user`: how many one user may have; the oldest leaves.
    pub per_user: usize,
    /// `refresh_after`: so old at most what a provider said gets, until it is asked again.
    pub refresh_after: Duration,
    /// `outage_grace`: so much longer it holds while the provider does not answer.
    pub outage_grace: Duration,
}

/// `[spawn]`: how many at a time.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// `concurrent`: workspaces starting at the same time, over all users.
    pub concurrent: usize,
    /// `queue`: how many may wait for their turn; more get 503.
    pub queue: usize,
    /// `hold_timeout`: how long a request of a script is held while its workspace starts.
    pub hold_timeout: Duration,
}

/// `[drain]`: how the process ends.
#[derive(Debug, Clone)]
pub struct Drain {
    /// `delay`: readiness fails this long before the listeners close.
    pub delay: Duration,
    /// `after`: how long WebSockets may end by themselves before they get Close 1012.
    pub after: Duration,
    /// `spread`: over how long the Close frames are spread.
    pub spread: Duration,
}

/// `[named_workspaces.NAME]`.
#[derive(Debug)]
pub struct NamedWorkspace {
    /// `template`: string expression, as [`Access::template`].
    pub template: Expression<String>,
}

/// `[templates.NAME]`: how a workspace runs and when it is in use.
#[derive(Debug)]
pub struct Template {
    /// The key of the table.
    pub name: TemplateName,
    /// How they run: by the driver chosen.
    pub runs: Runs,
    /// `ready`: the request that must succeed; none = the port accepts.
    pub ready: Option<ReadyProbe>,
    /// `ports`: the further TCP ports that `<port>--<label>` may reach.
    pub ports: Vec<u16>,
    /// `notice`: put the notice's script into the application's pages.
    pub notice: bool,
    /// `service_workers`: let the application register service workers.
    pub service_workers: bool,
    /// `headers`: under which further names, in lower case, the application is told what of its user.
    pub headers: BTreeMap<String, UserFact>,
    /// `start_timeout`: time without progress until a start has failed.
    pub start_timeout: Duration,
    /// `stop_grace`: between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// `[[prestart]]`: times at which workspaces start before their users come.
    pub prestart: Vec<Prestart>,
    /// When it is in use and when it stops.
    pub idle: Idle,
    /// `allow_addresses` and `deny_addresses`: from where its workspaces may be reached and started.
    pub addresses: AddressLists,
}

/// What an application may be told of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserFact {
    /// What to call them.
    Name,
    /// Their label.
    Label,
    /// Their address, if a provider has verified it.
    Email,
    /// Their groups.
    Groups,
    /// The provider's `sub`.
    Subject,
}

/// `[[prestart]]`: a time at which workspaces of a template start before their users come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prestart {
    /// `days`: whether it is on each day of the week, Monday first.
    pub days: [bool; 7],
    /// `at`: the time of day, in minutes after midnight.
    pub minute: u16,
    /// `zone`: whose clocks; a name of the IANA time zone database, if it is one.
    pub zone: String,
    /// `groups`: for users who were in one of these at their last login; empty = for all.
    pub groups: Vec<String>,
}

impl Template {
    /// Evaluates what is made for each user, when a start of theirs is admitted.
    ///
    /// # Errors
    /// The first rule that fails or gives what its key does not take.
    pub fn evaluate(&self, subject: &Subject, request: &RequestFacts) -> Result<Values, BadValue> {
        match &self.runs {
            Runs::Process(_) | Runs::Existing(_) => Ok(Values::default()),
            Runs::Kubernetes(pods) => pods.evaluate(subject, request),
        }
    }

    /// Whether something of it is made for each user.
    pub fn has_rules(&self) -> bool {
        match &self.runs {
            Runs::Process(_) | Runs::Existing(_) => false,
            Runs::Kubernetes(pods) => pods.has_rules(),
        }
    }
}

/// What a template tells its driver.
#[derive(Debug)]
pub enum Runs {
    /// For the driver `process`.
    Process(ProcessTemplate),
    /// For the driver `kubernetes`.
    Kubernetes(Box<PodTemplate>),
    /// What a route leads to: it is not made, only woken.
    Existing(ExistingObject),
}

/// How a template's workspaces run as processes.
#[derive(Debug, Clone)]
pub struct ProcessTemplate {
    /// `command`: program and arguments, with [`crate::PLACEHOLDERS`] replaced.
    pub command: Vec<String>,
    /// `environment`: what the workspace gets besides `PATH`, `HOME`, `LANG`, `USHER_WORKSPACE`.
    pub environment: BTreeMap<String, Value>,
    /// `connect`: how the workspace is reached.
    pub connect: Connect,
    /// `log_size`: how many bytes of output are kept.
    pub log_size: u64,
}

/// How a template's workspaces are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// A Unix socket whose path is `{socket}`.
    Socket,
    /// A free TCP port on 127.0.0.1, `{port}`.
    Port,
}

/// A value that may be a secret.
#[derive(Debug, Clone)]
pub enum Value {
    /// Written in the configuration; `{…}` placeholders are replaced.
    Plain(String),
    /// From the environment or a file.
    Secret(Secret),
}

/// The HTTP request by which a workspace shows that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyProbe {
    /// `path`: absolute, with query.
    pub path: String,
    /// `status`: the status that means ready; none = any below 500.
    pub status: Option<u16>,
    /// `contains`: what the first 4 KiB of the body must contain.
    pub contains: Option<String>,
}

/// When a workspace is in use, and when it stops: the idle keys of a template, defaults from `[workspaces]`.
#[derive(Debug)]
pub struct Idle {
    /// `idle_after`: stopped when unused this long; none (`"never"`) = not by idleness.
    pub idle_after: Option<Duration>,
    /// `warn_before`: the notice appears this long before a stop.
    pub warn_before: Duration,
    /// `max_age`: stopped this long after its start, used or not; none (`"never"`) = no limit.
    pub max_age: Option<Duration>,
    /// `keep_until_max`: how far ahead a user may say "keep until".
    pub keep_until_max: Duration,
    /// `count_open_sockets`: an open WebSocket is use.
    pub count_open_sockets: bool,
    /// `count_workspace_frames`: data frames that the workspace sends are use.
    pub count_workspace_frames: bool,
    /// `count_open_responses`: a response whose body is still open is use.
    pub count_open_responses: bool,
    /// `background`: requests that are the application's own polling and no use.
    pub background: Vec<BackgroundRequest>,
    /// `busy`: a question to the application that says whether it computes.
    pub busy: Option<BusyProbe>,
}

/// One line of `background`: `"GET,PUT /lab/api/workspaces/*"`.
///
/// The methods are exact; the path is matched without its query; `*` at the end matches any rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackgroundRequest {
    /// Upper-case methods.
    pub methods: Vec<String>,
    /// The path, without the final `*`.
    pub path: String,
    /// Whether it ended in `*`.
    pub prefix: bool,
}

impl BackgroundRequest {
    /// Whether a request is this background polling. `path` is without the query.
    pub fn matches(&self, method: &str, path: &str) -> bool {
        let path_fits = if self.prefix { path.starts_with(&self.path) } else { path == self.path };
        path_fits && self.methods.iter().any(|m| m == method)
    }
}

/// `busy`: asks the workspace over HTTP whether it computes.
#[derive(Debug)]
pub struct BusyProbe {
    /// `path`: absolute, answered with JSON (at most 1 MiB are read).
    pub path: String,
    /// `expression`: bool over `json` (the answer) and `now` (timestamp); an error counts as busy = false.
    pub expression: Expression<bool>,
    /// `every`: how often it is asked while nothing else counts as use.
    pub every: Duration,
}

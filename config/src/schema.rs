//! Every key of the configuration: its kind, its default, its meaning.
//!
//! The reader takes the defaults from here, so that what is documented is what is used.

use KeyDefault::{Otherwise, Required, Value};

/// What the documentation says of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// `templates.NAME.idle_after`; `NAME` stands for a name of the operator's choice, and a key of
    /// `[[listeners]]` is `listeners.address`.
    pub path: &'static str,
    /// What kind of value it has: `duration`, `bool`, …
    pub kind: &'static str,
    /// What it is without the key.
    pub default: KeyDefault,
    /// What it does, in a line.
    pub meaning: &'static str,
}

/// What a key is when it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDefault {
    /// It must be given.
    Required,
    /// A value, written in TOML.
    Value(&'static str),
    /// Something that depends on other keys, or nothing: in words.
    Otherwise(&'static str),
}

/// Every key that the configuration knows, in the order of `usher.example.toml`.
pub fn reference() -> &'static [KeyDoc] {
    KEYS
}

/// Whether a path is a key or a table of the schema.
pub(crate) fn knows(path: &str) -> bool {
    KEYS.iter()
        .any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The entry of a path.
pub(crate) fn key(path: &str) -> Option<&'static KeyDoc> {
    KEYS.iter().find(|key| key.path == path)
}

const fn doc(path: &'static str, kind: &'static str, default: KeyDefault, meaning: &'static str) -> KeyDoc {
    KeyDoc { path, kind, default, meaning }
}

const AS_WORKSPACES: KeyDefault = Otherwise("as in [workspaces]");
const PATH: &str = "path";
const DURATION: &str = "duration";
const NEVER: &str = "duration or \"never\"";
const ADDRESS: &str = "address";
const BOOL: &str = "bool";
const NUMBER: &str = "number";
const STRING: &str = "string";
const BOOL_RULE: &str = "expression: bool";
const STRING_RULE: &str = "expression: string";
const INT_RULE: &str = "expression: int";

#[rustfmt::skip]
const KEYS: &[KeyDoc] = &[
    doc("domain", "host name", Required, "every workspace has its host under it: <label>.<domain>"),
    doc("portal", "host name", Otherwise("the domain"), "the host of login, dashboard and API"),
    doc("state_dir", PATH, Value("\"/var/lib/usher\""), "folder (0700) of records, keys, sockets, homes and logs; relative to where usher starts"),

    doc("listeners.address", "address or list", Required, "where to listen: one address or more that serve the same"),
    doc("listeners.public_port", NUMBER, Otherwise("the port listened on"), "the port that browsers use, where it is another one"),
    doc("listeners.certificate", PATH, Otherwise("cleartext"), "PEM file of the certificate, leaf first; together with private_key"),
    doc("listeners.private_key", PATH, Otherwise("cleartext"), "PEM file of the certificate's key: PKCS #8, PKCS #1 or SEC1"),

    doc("admin.address", ADDRESS, Value("\"127.0.0.1:9090\""), "/metrics, /livez and /readyz over TCP"),
    doc("admin.socket", PATH, Otherwise("admin.sock in state_dir"), "Unix socket (0600) of everything for operators, changes included"),

    doc("login.development", BOOL, Value("false"), "offer the login that believes whatever name is typed; for trying and testing"),
    doc("login.development_from_anywhere_unsafe", BOOL, Value("false"), "offer it on listeners that are not loopback, too: whoever reaches one is whoever they say they are"),

    doc("access.allow", BOOL_RULE, Required, "who may enter, of those who have logged in; \"true\" is all of them"),
    doc("access.label", STRING_RULE, Value("\"user.name\""), "which label a user asks for"),
    doc("access.template", STRING_RULE, Required, "which template a user's first workspace has"),
    doc("access.running_max", INT_RULE, Value("\"2\""), "how many workspaces of one user may run at a time"),

    doc("sessions.idle_after", DURATION, Value("\"30m\""), "a session unused this long ends"),
    doc("sessions.max_age", DURATION, Value("\"24h\""), "a session ends this long after the login, used or not"),

    doc("spawn.concurrent", NUMBER, Value("8"), "how many workspaces start at the same time, over all users"),
    doc("spawn.queue", NUMBER, Value("1000"), "how many may wait for their turn; more get 503"),
    doc("spawn.hold_timeout", DURATION, Value("\"60s\""), "how long a script's request is held while its workspace starts"),

    doc("drain.delay", DURATION, Value("\"0s\""), "readiness fails this long before the listeners close"),
    doc("drain.after", DURATION, Value("\"5m\""), "how long WebSockets may end by themselves before they are closed"),
    doc("drain.spread", DURATION, Value("\"30s\""), "over how long those closes are spread"),

    doc("workspaces.idle_after", NEVER, Value("\"30m\""), "a workspace unused this long is stopped"),
    doc("workspaces.warn_before", DURATION, Value("\"5m\""), "the notice appears this long before a stop"),
    doc("workspaces.max_age", NEVER, Value("\"never\""), "a workspace is stopped this long after its start, used or not"),
    doc("workspaces.keep_until_max", DURATION, Value("\"12h\""), "how far ahead a user may say \"keep until\""),
    doc("workspaces.start_timeout", DURATION, Value("\"90s\""), "a start without progress for this long has failed"),
    doc("workspaces.stop_grace", DURATION, Value("\"10s\""), "time between SIGTERM and SIGKILL"),
    doc("workspaces.log_size", "size", Value("\"1MiB\""), "how much of a workspace's output is kept"),

    doc("named_workspaces.NAME.template", STRING_RULE, Required, "which template the user's workspace of this name has"),

    doc("templates.NAME.command", "list of strings", Required, "program and arguments; {socket} {port} {host} {home} {label} {name} {usher} are replaced"),
    doc("templates.NAME.connect", "\"socket\" or \"port\"", Required, "how the workspace is reached: a Unix socket {socket}, or a TCP port {port} on 127.0.0.1"),
    doc("templates.NAME.environment", "table", Otherwise("empty"), "variables besides PATH, HOME, LANG and USHER_WORKSPACE"),
    doc("templates.NAME.environment.NAME", STRING, Otherwise("not set"), "the value, with replacements as in command; or where a secret comes from"),
    doc("templates.NAME.environment.NAME.from_env", STRING, Otherwise("not used"), "the variable of usher's own environment that holds the value"),
    doc("templates.NAME.environment.NAME.from_file", PATH, Otherwise("not used"), "the file that holds the value; one line break at its end is cut"),
    doc("templates.NAME.ready", "table", Otherwise("ready when it accepts"), "the request that must succeed before users are let in"),
    doc("templates.NAME.ready.path", "request path", Required, "what is asked for"),
    doc("templates.NAME.ready.status", NUMBER, Otherwise("any below 500"), "the status that means ready"),
    doc("templates.NAME.ready.contains", STRING, Otherwise("anything"), "what the first 4 KiB of the answer must contain"),
    doc("templates.NAME.ports", "list of numbers", Value("[]"), "further TCP ports of the workspace that <port>--<label>.<domain> reaches"),
    doc("templates.NAME.notice", BOOL, Value("false"), "warn in the application's pages before a stop"),
    doc("templates.NAME.service_workers", BOOL, Value("false"), "let the application register service workers"),
    doc("templates.NAME.idle_after", NEVER, AS_WORKSPACES, "as workspaces.idle_after"),
    doc("templates.NAME.warn_before", DURATION, AS_WORKSPACES, "as workspaces.warn_before"),
    doc("templates.NAME.max_age", NEVER, AS_WORKSPACES, "as workspaces.max_age"),
    doc("templates.NAME.keep_until_max", DURATION, AS_WORKSPACES, "as workspaces.keep_until_max"),
    doc("templates.NAME.start_timeout", DURATION, AS_WORKSPACES, "as workspaces.start_timeout"),
    doc("templates.NAME.stop_grace", DURATION, AS_WORKSPACES, "as workspaces.stop_grace"),
    doc("templates.NAME.log_size", "size", AS_WORKSPACES, "as workspaces.log_size"),
    doc("templates.NAME.count_open_sockets", BOOL, Value("false"), "an open WebSocket is use, though nothing is sent"),
    doc("templates.NAME.count_workspace_frames", BOOL, Value("false"), "what the workspace sends over a WebSocket is use"),
    doc("templates.NAME.count_open_responses", BOOL, Value("false"), "a response that has not ended is use"),
    doc("templates.NAME.background", "list of requests", Value("[]"), "the application's own polling, which is no use: methods and path, * for any rest"),
    doc("templates.NAME.busy", "table", Otherwise("not asked"), "a question to the application whether it computes, which is use"),
    doc("templates.NAME.busy.path", "request path", Required, "what is asked for; it answers with JSON"),
    doc("templates.NAME.busy.expression", BOOL_RULE, Required, "whether it computes, over json (the answer) and now"),
    doc("templates.NAME.busy.every", DURATION, Value("\"60s\""), "how often it is asked while nothing else is use"),
];

//! The table of all keys, with the words that many of them share.

use super::KeyDefault::{Otherwise, Required, Value};
use super::{DriverName, KeyDefault, KeyDoc};

const fn doc(path: &'static str, kind: &'static str, default: KeyDefault, meaning: &'static str) -> KeyDoc {
    KeyDoc { path, kind, default, meaning, driver: None }
}

const fn of_process(
    path: &'static str,
    kind: &'static str,
    default: KeyDefault,
    meaning: &'static str,
) -> KeyDoc {
    KeyDoc { path, kind, default, meaning, driver: Some(DriverName::Process) }
}

const fn of_pods(
    path: &'static str,
    kind: &'static str,
    default: KeyDefault,
    meaning: &'static str,
) -> KeyDoc {
    KeyDoc { path, kind, default, meaning, driver: Some(DriverName::Kubernetes) }
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
const FACT: &str = "\"name\", \"label\", \"email\", \"groups\" or \"subject\"";
const GROUPS_RULE: &str = "expression: list of strings";
const TABLE: &str = "table";
const NAME: &str = "name";
const TEXT: &str = "string or expression";
const QUANTITY: &str = "quantity or expression";
const AMOUNT: &str = "quantity";
const NO_LIMIT: KeyDefault = Otherwise("no limit");
const NOT_SET: KeyDefault = Otherwise("not set");
const NONE: KeyDefault = Otherwise("none");
const NETWORKS: &str = "list of networks";
const EMPTY: KeyDefault = Value("[]");

#[rustfmt::skip]
pub(super) const KEYS: &[KeyDoc] = &[
    doc("domain", "host name", Required, "every workspace has its host under it: <label>.<domain>"),
    doc("portal", "host name", Otherwise("the domain"), "the host of login, dashboard and API"),
    doc("state_dir", PATH, Value("\"/var/lib/usher\""), "folder (0700) of records, keys, sockets, homes and logs; relative to where usher starts"),

    doc("driver", "\"process\" or \"kubernetes\"", Value("\"process\""), "what runs the workspaces: processes of this machine, or pods of a cluster"),

    doc("trusted_proxies", NETWORKS, EMPTY, "the proxies in front of usher, whose word is taken for where clients are"),
    doc("client_address", "\"peer\", \"x-forwarded-for\" or \"forwarded\"", Value("\"peer\""), "where a client's address is read from: the connection, or the header that trusted_proxies set"),

    doc("listeners.address", "address or list", Required, "where to listen: one address or more that serve the same"),
    doc("listeners.public_port", NUMBER, Otherwise("the port listened on"), "the port that browsers use, where it is another one"),
    doc("listeners.protocol", "\"http\", \"https\" or \"redirect\"", Value("\"http\""), "what is spoken there: cleartext; TLS, with the certificates below; or cleartext that answers `http-01` and leads all else to https"),
    doc("listeners.proxy_protocol", BOOL, Value("false"), "every connection comes from trusted_proxies and begins with a header of the PROXY protocol, version 1 or 2"),

    doc("tls.min_version", "\"1.2\" or \"1.3\"", Value("\"1.2\""), "the oldest version of TLS that is spoken; of 1.2 only ciphers with forward secrecy and authentication"),
    doc("tls.handshake_timeout", DURATION, Value("\"10s\""), "a handshake that takes longer is given up"),
    doc("tls.hsts_max_age", DURATION, Otherwise("\"365d\"; \"0s\" where the domain ends in localhost"), "how long browsers shall remember to come by https alone, told by every host for itself; \"0s\" = they are not told"),
    doc("certificates.NAME.names", "list of names", Otherwise("the domain, all hosts below it, and the portal; with files and secret, whatever the certificate says"), "what it is for: host names, and `*.` before one for all hosts one label below"),
    doc("certificates.NAME.source", "\"acme\", \"files\", \"self-signed\" or \"secret\"", Required, "where it comes from: an authority by ACME, PEM files, an authority of usher's own for development, or a Secret of Kubernetes"),
    doc("certificates.NAME.authorities", "name or list of names", Otherwise("the only one there is"), "with acme: who is asked, one after the other until one gives it"),
    doc("certificates.NAME.challenge", "\"http-01\", \"tls-alpn-01\" or \"dns-01\"", Required, "with acme: how usher proves that the names are its own; names with `*` need dns-01"),
    doc("certificates.NAME.dns_provider", NAME, Otherwise("the only one there is"), "with dns-01: who writes the records"),
    doc("certificates.NAME.per_host", BOOL, Value("false"), "with acme: a certificate for each host that the names cover and that is known, such as users', in place of one for all"),
    doc("certificates.NAME.new_per_week", NUMBER, Value("40"), "with per_host: how many hosts get their first certificate within seven days; authorities have such limits of their own"),
    doc("certificates.NAME.certificate", PATH, Required, "with files: the chain in PEM form, leaf first; watched"),
    doc("certificates.NAME.private_key", PATH, Required, "with files: its key in PEM form, PKCS #8, PKCS #1 or SEC1; watched"),
    of_pods("certificates.NAME.secret", NAME, Required, "with secret: its name in the namespace of the records, of type kubernetes.io/tls; watched"),
    doc("acme.NAME.directory", ADDRESS, Required, "where the authority is: the address of its ACME directory"),
    doc("acme.NAME.terms_of_service_agreed", BOOL, Required, "that you agree to its terms of service: true, or there are no certificates"),
    doc("acme.NAME.contact", "list of strings", EMPTY, "whom it may write to: addresses such as mailto:ops@example.org"),
    doc("acme.NAME.profile", STRING, Otherwise("the authority's default"), "which kind of certificate, by its name for it"),
    doc("acme.NAME.external_account", TABLE, NOT_SET, "your account with it, where it asks for one"),
    doc("acme.NAME.external_account.key_id", STRING, Required, "the account's name, as the authority says it"),
    doc("acme.NAME.external_account.hmac_key.from_env", NAME, NOT_SET, "the environment variable with its key, base64url"),
    doc("acme.NAME.external_account.hmac_key.from_file", PATH, NOT_SET, "the file with its key, base64url"),
    doc("acme.NAME.account_key", PATH, Otherwise("made and kept by usher"), "PEM file (PKCS #8, P-256) with the key of the ACME account"),
    doc("acme.NAME.certificate_authority", PATH, Otherwise("the system's"), "PEM file of who signs for the directory's own https"),
    doc("dns_providers.NAME.kind", "\"rfc2136\", \"acme-dns\", \"exec\" or \"cloudflare\"", Required, "how records are written"),
    doc("dns_providers.NAME.check_propagation", BOOL, Value("true"), "see a record at all authoritative servers before the authority is asked to"),
    doc("dns_providers.NAME.propagation_timeout", DURATION, Value("\"5m\""), "how long a record may take to get there"),
    doc("dns_providers.NAME.resolvers", "list of addresses", EMPTY, "whom to ask which servers are authoritative; empty = the system's"),
    doc("dns_providers.NAME.server", ADDRESS, Required, "with rfc2136: the primary server, such as 10.0.0.53:53"),
    doc("dns_providers.NAME.zone", "host name", Otherwise("found by its SOA record"), "with rfc2136: the zone that is updated"),
    doc("dns_providers.NAME.tsig", TABLE, Otherwise("updates are not signed"), "with rfc2136: the key that signs updates"),
    doc("dns_providers.NAME.tsig.key_name", NAME, Required, "its name at the server"),
    doc("dns_providers.NAME.tsig.secret.from_env", NAME, NOT_SET, "the environment variable with it, base64"),
    doc("dns_providers.NAME.tsig.secret.from_file", PATH, NOT_SET, "the file with it, base64"),
    doc("dns_providers.NAME.tsig.algorithm", "\"hmac-sha256\", \"hmac-sha384\" or \"hmac-sha512\"", Value("\"hmac-sha256\""), "its algorithm"),
    doc("dns_providers.NAME.url", ADDRESS, Required, "with acme-dns: where its API is"),
    doc("dns_providers.NAME.username", STRING, Required, "with acme-dns: as it said at the registration"),
    doc("dns_providers.NAME.password.from_env", NAME, NOT_SET, "with acme-dns: the environment variable with the password of the registration"),
    doc("dns_providers.NAME.password.from_file", PATH, NOT_SET, "with acme-dns: the file with it"),
    doc("dns_providers.NAME.subdomain", STRING, Required, "with acme-dns: as it said at the registration"),
    doc("dns_providers.NAME.command", "list of strings", Required, "with exec: program and arguments, to which `present` or `clear`, the record's name and its text are added"),
    doc("dns_providers.NAME.timeout", DURATION, Value("\"60s\""), "with exec: after which it is killed"),
    doc("dns_providers.NAME.api", ADDRESS, Value("\"https://api.cloudflare.com/client/v4\""), "with cloudflare: where its API is"),
    doc("dns_providers.NAME.token.from_env", NAME, NOT_SET, "with cloudflare: the environment variable with an API token that may read the zone and edit its DNS"),
    doc("dns_providers.NAME.token.from_file", PATH, NOT_SET, "with cloudflare: the file with it"),

    doc("admin.address", ADDRESS, Value("\"127.0.0.1:9090\""), "/metrics, /livez and /readyz over TCP"),
    doc("admin.certificate", PATH, Otherwise("cleartext"), "PEM file of the certificate of admin.address, leaf first; looked at again when it changes; together with private_key"),
    doc("admin.private_key", PATH, Otherwise("cleartext"), "PEM file of that certificate's key: PKCS #8, PKCS #1 or SEC1"),
    doc("admin.client_authority", PATH, Otherwise("everybody may ask"), "PEM file of who signs for those who may ask at admin.address; without a certificate of theirs the handshake fails"),
    doc("admin.socket", PATH, Otherwise("admin.sock in state_dir"), "Unix socket (0600) of everything for operators, changes included"),

    doc("login.development", BOOL, Value("false"), "offer the login that believes whatever name is typed; for trying and testing"),
    doc("login.development_from_anywhere_unsafe", BOOL, Value("false"), "offer it to others than this machine, too: whoever reaches it is whoever they say they are"),

    doc("login.providers.NAME.preset", "\"oidc\", \"auth0\", \"github\", \"gitlab\", \"google\", \"keycloak\" or \"microsoft\"", Value("\"oidc\""), "whose software or service it is, which gives the other keys their defaults; NAME stands in /auth/NAME/callback"),
    doc("login.providers.NAME.issuer", ADDRESS, Otherwise("of GitHub, GitLab and Google the public one; else required"), "where the provider is: `iss` in its tokens, to the last slash"),
    doc("login.providers.NAME.title", STRING, Otherwise("the preset's or NAME"), "what its button on the login page says"),
    doc("login.providers.NAME.client_id", STRING, Required, "the name by which the provider knows Usher"),
    doc("login.providers.NAME.client_secret.from_env", NAME, NOT_SET, "the environment variable with the client's secret"),
    doc("login.providers.NAME.client_secret.from_file", PATH, NOT_SET, "the file with the client's secret; a line break at its end is left out"),
    doc("login.providers.NAME.private_key.from_env", NAME, NOT_SET, "in place of a client_secret: the environment variable with a PEM key, RSA or P-256"),
    doc("login.providers.NAME.private_key.from_file", PATH, NOT_SET, "in place of a client_secret: the PEM file of a key, RSA or P-256"),
    doc("login.providers.NAME.authentication", "\"client_secret_basic\", \"client_secret_post\" or \"private_key_jwt\"", Otherwise("\"client_secret_basic\", or \"private_key_jwt\" with a private_key"), "how Usher proves to the provider who it is"),
    doc("login.providers.NAME.scopes", "list of strings", Otherwise("the preset's: \"openid\", \"profile\", \"email\" and what a refresh needs"), "what is asked of the provider"),
    doc("login.providers.NAME.parameters.NAME", STRING, NONE, "sent along to the provider's login page, such as `prompt`"),
    doc("login.providers.NAME.certificate_authority", PATH, Otherwise("the system's"), "PEM file of who signs for the provider's certificate"),
    doc("login.providers.NAME.logout", "\"offer\", \"always\" or \"never\"", Value("\"offer\""), "whether who logs out here is led to the provider to log out there, by a button or at once"),
    doc("login.providers.NAME.user_info", BOOL, Otherwise("true; false for the presets google and microsoft, whose id tokens say all"), "ask the provider's user info endpoint for what the id token does not say"),
    doc("login.providers.NAME.emails_verified", BOOL, Value("false"), "its e-mail addresses are verified though it does not say so; others are hidden from all rules"),
    doc("login.providers.NAME.hosted_domain", STRING, NONE, "for the preset google: the domain (`hd`) that accounts must belong to"),

    doc("login.providers.NAME.allow_addresses", NETWORKS, EMPTY, "from where somebody may log in by it; empty = from everywhere"),
    doc("login.providers.NAME.deny_addresses", NETWORKS, EMPTY, "from where nobody may log in by it, whatever the other list says"),

    doc("access.allow", BOOL_RULE, Required, "who may enter, of those who have logged in; \"true\" is all of them"),
    doc("access.groups", GROUPS_RULE, Value("\"has(claims.groups) ? claims.groups : []\""), "which groups somebody is in; asked at the login and at each refresh, over `user`, `claims` and `request`"),
    doc("access.label", STRING_RULE, Value("\"has(claims.preferred_username) ? claims.preferred_username : user.name\""), "which label a user asks for"),
    doc("access.admin", BOOL_RULE, Value("\"false\""), "who may see who is logged in, and sign them out"),
    doc("access.template", STRING_RULE, Required, "which template a user's first workspace has"),
    doc("access.running_max", INT_RULE, Value("\"2\""), "how many workspaces of one user may run at a time"),
    doc("access.tier", STRING_RULE, Value("\"''\""), "what the rules of [limits] see as user.tier; over `user`, `claims` and `groups`"),
    doc("access.allow_addresses", NETWORKS, EMPTY, "from where the portal and everything else may be reached; empty = from everywhere"),
    doc("access.deny_addresses", NETWORKS, EMPTY, "from where nothing may be reached, whatever the other list says"),

    doc("limits.handshakes_per_address", NUMBER, Value("6000"), "TLS handshakes in a minute from one address, or one /64 of IPv6; those of trusted_proxies are not counted; one more is closed before it begins"),
    doc("limits.handshakes", NUMBER, Value("4096"), "TLS handshakes under way at a time, over all addresses; one more ends the oldest of whoever has most, or is closed"),
    doc("limits.requests_per_address", NUMBER, Value("30000"), "requests in a minute from one address, or one /64 of IPv6, whoever sends them"),
    doc("limits.logins_per_address", NUMBER, Value("10"), "attempts to log in in a minute from one address"),
    doc("limits.bad_tokens_per_address", NUMBER, Value("30"), "requests in a minute from one address with a token that is no good, or with a code or secret of `usher login` that is none; good ones and logins do not count"),
    doc("limits.requests_per_user", INT_RULE, Value("\"6000\""), "requests in a minute of one user, from wherever"),
    doc("limits.spawns_per_user", INT_RULE, Value("\"20\""), "starts in a minute that one user asks for"),
    doc("limits.messages_per_user", INT_RULE, Value("\"60000\""), "data frames in a minute that one user sends over all their WebSockets; one more closes its socket with 1008"),

    doc("sessions.idle_after", DURATION, Value("\"30m\""), "a session unused this long ends; on Kubernetes two periods of `kubernetes.use_every` later"),
    doc("sessions.max_age", DURATION, Value("\"24h\""), "a session ends this long after the login, used or not"),
    doc("sessions.per_user", NUMBER, Value("20"), "how many sessions one user may have; the oldest leaves"),
    doc("sessions.refresh_after", DURATION, Value("\"10m\""), "how old what a provider said of somebody gets until it is asked again, while the session is used; half of its token's life if that is less"),
    doc("sessions.outage_grace", DURATION, Value("\"8h\""), "how long sessions live on what a provider that does not answer said before"),

    doc("audit.file", PATH, NONE, "where the audit trail is written as well as to the log, as a line of JSON for each event (0600); its folder must be there"),
    doc("audit.file_size", "size", Value("\"64MiB\""), "the size at which that file is renamed to FILE.1, and that to FILE.2 and so on, and a new one is begun"),
    doc("audit.files_kept", NUMBER, Value("10"), "how many such older files stay; the oldest is removed"),
    doc("machines.token_lifetime", DURATION, Value("\"90d\""), "how long an API token is good at most, and a login of `usher login` however it is used"),
    doc("machines.tokens_per_user", NUMBER, Value("50"), "how many API tokens one user may have"),
    doc("machines.login_lifetime", DURATION, Value("\"30d\""), "a login of `usher login` ends when it is unused this long"),
    doc("machines.issuers.NAME.issuer", ADDRESS, Required, "whose tokens are believed beside Usher's own: `iss` in them, to the last slash"),
    doc("machines.issuers.NAME.audience", STRING, Required, "what must stand in `aud` of its tokens"),
    doc("machines.issuers.NAME.allow", BOOL_RULE, Required, "who of those whom it signs for may come by its tokens, beside what access.allow says: public issuers sign for everybody"),
    doc("machines.issuers.NAME.jwks_url", ADDRESS, Otherwise("as its discovery document says"), "where its keys are"),
    doc("machines.issuers.NAME.algorithms", "list of strings", Value("[\"RS256\", \"ES256\", \"EdDSA\"]"), "by which algorithms its tokens may be signed; a key that names its own takes that one alone"),
    doc("machines.issuers.NAME.scopes", "list of strings", Value("[\"workspaces:read\", \"workspaces:start\", \"workspaces:stop\", \"workspaces:access\"]"), "what its tokens may be used for"),
    doc("machines.issuers.NAME.lifetime_max", DURATION, Value("\"24h\""), "a token that is good for longer is not believed"),
    doc("machines.issuers.NAME.certificate_authority", PATH, Otherwise("the system's"), "PEM file of who signs for the issuer's certificate"),

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
    of_process("workspaces.log_size", "size", Value("\"1MiB\""), "how much of a workspace's output is kept"),

    of_pods("kubernetes.namespace", NAME, Required, "the namespace of the workspaces"),
    of_pods("kubernetes.more_namespaces", "list of names", Value("[]"), "where else templates may have their workspaces"),
    of_pods("kubernetes.records_namespace", NAME, Otherwise("the one of usher's own pod"), "the namespace of users, sessions and keys; never the workspaces' or a route's, where whoever starts a pod reads every Secret"),
    of_pods("kubernetes.kubeconfig", PATH, Otherwise("from within the cluster"), "the file that says how the cluster is reached"),
    of_pods("kubernetes.context", STRING, Otherwise("the current one"), "which context of the kubeconfig"),
    of_pods("kubernetes.pod_networks", "list of networks", Value("[\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"fc00::/7\"]"), "where pods have their addresses; nothing else is dialled, and loopback and link-local never"),
    of_pods("kubernetes.use_every", DURATION, Value("\"1m\""), "how often each replica writes down which workspaces it saw in use"),

    doc("quotas.NAME.applies_to", BOOL_RULE, Required, "whose workspaces count against it, of those who come in"),
    doc("quotas.NAME.each", TABLE, NO_LIMIT, "what each of these users may have running at a time"),
    doc("quotas.NAME.each.workspaces", NUMBER, NO_LIMIT, "how many workspaces"),
    of_pods("quotas.NAME.each.NAME", AMOUNT, NO_LIMIT, "how much of a resource they may request together: cpu, memory, nvidia.com/gpu, …"),
    doc("quotas.NAME.all", TABLE, NO_LIMIT, "what all of these users together may have running at a time"),
    doc("quotas.NAME.all.workspaces", NUMBER, NO_LIMIT, "as quotas.NAME.each.workspaces"),
    of_pods("quotas.NAME.all.NAME", AMOUNT, NO_LIMIT, "as quotas.NAME.each.NAME"),

    doc("named_workspaces.NAME.template", STRING_RULE, Required, "which template the user's workspace of this name has"),

    of_process("templates.NAME.command", "list of strings", Required, "program and arguments; {socket} {port} {host} {home} {label} {name} {usher} are replaced"),
    of_process("templates.NAME.connect", "\"socket\" or \"port\"", Required, "how the workspace is reached: a Unix socket {socket}, or a TCP port {port} on 127.0.0.1"),
    of_pods("templates.NAME.namespace", TEXT, Otherwise("kubernetes.namespace"), "where its workspaces are made: kubernetes.namespace or one of more_namespaces; one that exists stays where it is"),
    of_pods("templates.NAME.image", TEXT, Required, "the container image"),
    of_pods("templates.NAME.image_pull_policy", "\"Always\", \"IfNotPresent\" or \"Never\"", Otherwise("as Kubernetes decides"), "when the image is pulled"),
    of_pods("templates.NAME.command", "list of strings", Otherwise("the image's own"), "program and arguments; {port} {host} {home} {label} {name} are replaced"),
    of_pods("templates.NAME.port", NUMBER, Required, "the port on which the workspace listens, on all addresses of its pod; {port}"),
    of_pods("templates.NAME.resources", TABLE, Required, "amounts by the names of resources; memory needs a limit, cpu a request or a limit"),
    of_pods("templates.NAME.resources.NAME", QUANTITY, NOT_SET, "how much is requested, which is also the limit"),
    of_pods("templates.NAME.resources.requests", TABLE, Otherwise("empty"), "what is requested, where the limit is another or none"),
    of_pods("templates.NAME.resources.requests.NAME", QUANTITY, NOT_SET, "how much is requested"),
    of_pods("templates.NAME.resources.limits", TABLE, Otherwise("empty"), "what is the limit, where another amount or none is requested"),
    of_pods("templates.NAME.resources.limits.NAME", QUANTITY, NOT_SET, "how much is the limit"),
    of_pods("templates.NAME.working_dir", PATH, Otherwise("where the image says"), "where the program begins: mostly where volume.mount is"),
    of_pods("templates.NAME.volume", TABLE, Required, "the user's files, which outlive the pod; or \"none\": they end with it"),
    of_pods("templates.NAME.volume.size", QUANTITY, Required, "how large a new one is"),
    of_pods("templates.NAME.volume.class", NAME, Otherwise("the cluster's default"), "its storage class"),
    of_pods("templates.NAME.volume.mount", PATH, Value("\"/home/workspace\""), "where the workspace sees it: {home}"),
    of_pods("templates.NAME.volume.access", "\"ReadWriteOnce\", \"ReadWriteOncePod\" or \"ReadWriteMany\"", Value("\"ReadWriteOnce\""), "who may mount it: one node, one pod (the safest, where the storage knows it), many"),
    of_pods("templates.NAME.run_as", TABLE, Otherwise("all 1000"), "who the workspace is in its pod; never root"),
    of_pods("templates.NAME.run_as.uid", NUMBER, Value("1000"), "the user"),
    of_pods("templates.NAME.run_as.gid", NUMBER, Value("1000"), "the group"),
    of_pods("templates.NAME.run_as.fs_group", NUMBER, Value("1000"), "the group to which the volume is given"),
    of_pods("templates.NAME.mounts", "list of tables", NONE, "what else the workspace sees, each of one source"),
    of_pods("templates.NAME.mounts.path", PATH, Required, "where"),
    of_pods("templates.NAME.mounts.config_map", NAME, NOT_SET, "a ConfigMap of the workspaces' namespace"),
    of_pods("templates.NAME.mounts.secret", NAME, NOT_SET, "a Secret of the workspaces' namespace"),
    of_pods("templates.NAME.mounts.claim", NAME, NOT_SET, "a volume claim of the workspaces' namespace, shared by all of the template's workspaces"),
    of_pods("templates.NAME.mounts.empty_dir", "quantity", NOT_SET, "an empty folder of this size at most, which ends with the pod"),
    of_pods("templates.NAME.mounts.sub_path", STRING, Otherwise("all of it"), "only this file or folder of it"),
    of_pods("templates.NAME.mounts.read_only", BOOL, Otherwise("true, but for empty_dir"), "whether the workspace can only read it"),
    of_pods("templates.NAME.node_selector", TABLE, Otherwise("any node"), "labels that the node must have"),
    of_pods("templates.NAME.node_selector.NAME", TEXT, NOT_SET, "the label's value"),
    of_pods("templates.NAME.service_account", TEXT, Otherwise("the namespace's default"), "the service account; its token is not put into the pod"),
    of_pods("templates.NAME.tolerations", "list of tables", NONE, "each a Toleration of Kubernetes"),
    of_pods("templates.NAME.init_containers", "list of tables", NONE, "each a Container of Kubernetes, run to its end before the workspace"),
    of_pods("templates.NAME.sidecars", "list of tables", NONE, "each a Container of Kubernetes, running beside the workspace"),
    of_pods("templates.NAME.schedule_timeout", DURATION, Value("\"10m\""), "how long a pod may wait for a node"),
    of_pods("templates.NAME.pull_timeout", DURATION, Value("\"10m\""), "how long its images may take to be pulled"),
    of_pods("templates.NAME.warm", TABLE, Otherwise("none"), "pods that run before their users come, so that who comes first does not wait for a start; for templates without expressions"),
    of_pods("templates.NAME.warm.ready", NUMBER, Value("0"), "how many are kept ready; each costs what the template's resources say"),
    of_pods("templates.NAME.allow_privileged", BOOL, Value("false"), "let sidecars, init_containers and pod leave the restricted Pod Security Standard, or pod give a token of the service account"),
    of_pods("templates.NAME.pod", TABLE, Otherwise("empty"), "a PodSpec of Kubernetes, merged (strategically) over what the other keys make; the workspace's container is `workspace`, its volume `home`"),
    of_process("templates.NAME.environment", TABLE, Otherwise("empty"), "variables besides PATH, HOME, LANG and USHER_WORKSPACE"),
    of_pods("templates.NAME.environment", TABLE, Otherwise("empty"), "variables besides HOME, USHER_WORKSPACE, USHER_LABEL, USHER_NAME and USHER_HOST"),
    doc("templates.NAME.environment.NAME", STRING, Otherwise("not set"), "the value, with replacements as in command; or where a secret comes from"),
    of_process("templates.NAME.environment.NAME.from_env", STRING, Otherwise("not used"), "the variable of usher's own environment that holds the value"),
    of_process("templates.NAME.environment.NAME.from_file", PATH, Otherwise("not used"), "the file that holds the value; one line break at its end is cut"),
    of_pods("templates.NAME.environment.NAME.expression", STRING_RULE, Otherwise("not used"), "gives the value for each user when a start is admitted; every key that takes an expression takes it in this form"),
    of_pods("templates.NAME.environment.NAME.from_secret", TABLE, Otherwise("not used"), "the Secret of the workspaces' namespace that holds the value"),
    of_pods("templates.NAME.environment.NAME.from_secret.name", NAME, Required, "the Secret's name"),
    of_pods("templates.NAME.environment.NAME.from_secret.key", STRING, Required, "the key in it"),
    doc("templates.NAME.ready", "table", Otherwise("ready when it accepts"), "the request that must succeed before users are let in"),
    doc("templates.NAME.ready.path", "request path", Required, "what is asked for"),
    doc("templates.NAME.ready.status", NUMBER, Otherwise("any below 500"), "the status that means ready"),
    doc("templates.NAME.ready.contains", STRING, Otherwise("anything"), "what the first 4 KiB of the answer must contain"),
    doc("templates.NAME.ports", "list of numbers", Value("[]"), "further TCP ports of the workspace that <port>--<label>.<domain> reaches"),
    doc("templates.NAME.notice", BOOL, Value("false"), "warn in the application's pages before a stop"),
    doc("templates.NAME.service_workers", BOOL, Value("false"), "let the application register service workers"),
    doc("templates.NAME.headers.NAME", FACT, NONE, "tells the application a fact about its user in a header of this name, too: name, label, email (verified), groups or subject"),
    doc("templates.NAME.prestart", "list of tables", NONE, "times at which first workspaces of the template start before their users come, each for those who have logged in before"),
    doc("templates.NAME.prestart.days", STRING, Otherwise("every day"), "on which days: mon, tue-fri, sat,sun"),
    doc("templates.NAME.prestart.at", "time of day", Required, "when, such as 07:50"),
    doc("templates.NAME.prestart.zone", STRING, Otherwise("UTC"), "by whose clocks: a name of the IANA time zone database"),
    doc("templates.NAME.prestart.groups", "list of strings", Otherwise("everybody"), "for users who were in one of these groups at their last login"),
    doc("templates.NAME.allow_addresses", NETWORKS, EMPTY, "from where its workspaces may be reached and started; empty = from everywhere"),
    doc("templates.NAME.deny_addresses", NETWORKS, EMPTY, "from where they may not, whatever the other list says"),
    doc("templates.NAME.idle_after", NEVER, AS_WORKSPACES, "as workspaces.idle_after"),
    doc("templates.NAME.warn_before", DURATION, AS_WORKSPACES, "as workspaces.warn_before"),
    doc("templates.NAME.max_age", NEVER, AS_WORKSPACES, "as workspaces.max_age"),
    doc("templates.NAME.keep_until_max", DURATION, AS_WORKSPACES, "as workspaces.keep_until_max"),
    doc("templates.NAME.start_timeout", DURATION, AS_WORKSPACES, "as workspaces.start_timeout"),
    doc("templates.NAME.stop_grace", DURATION, AS_WORKSPACES, "as workspaces.stop_grace"),
    of_process("templates.NAME.log_size", "size", AS_WORKSPACES, "as workspaces.log_size"),
    doc("templates.NAME.count_open_sockets", BOOL, Value("false"), "an open WebSocket is use, though nothing is sent"),
    doc("templates.NAME.count_workspace_frames", BOOL, Value("false"), "what the workspace sends over a WebSocket is use"),
    doc("templates.NAME.count_open_responses", BOOL, Value("false"), "a response that has not ended is use"),
    doc("templates.NAME.background", "list of requests", Value("[]"), "the application's own polling, which is no use: methods and path, * for any rest"),
    doc("templates.NAME.busy", "table", Otherwise("not asked"), "a question to the application whether it computes, which is use"),
    doc("templates.NAME.busy.path", "request path", Required, "what is asked for; it answers with JSON"),
    doc("templates.NAME.busy.expression", BOOL_RULE, Required, "whether it computes, over json (the answer) and now"),
    doc("templates.NAME.busy.every", DURATION, Value("\"60s\""), "how often it is asked while nothing else is use"),

    of_pods("routes.NAME.kind", "\"Deployment\" or \"StatefulSet\"", Required, "what is woken; its annotation or label usher.dev/route must be the route's name"),
    of_pods("routes.NAME.object", NAME, Required, "its name"),
    of_pods("routes.NAME.namespace", NAME, Otherwise("kubernetes.namespace"), "where it is"),
    of_pods("routes.NAME.port", NUMBER, Required, "the port on which its pods listen"),
    of_pods("routes.NAME.allow", BOOL_RULE, Required, "who may enter; asked for every request"),
    of_pods("routes.NAME.replicas", NUMBER, Value("1"), "how many pods it is woken to, where its annotation usher.dev/replicas does not say how many it had"),
    of_pods("routes.NAME.ready", TABLE, Otherwise("ready when it accepts"), "as templates.NAME.ready"),
    of_pods("routes.NAME.ready.path", "request path", Required, "as templates.NAME.ready.path"),
    of_pods("routes.NAME.ready.status", NUMBER, Otherwise("any below 500"), "as templates.NAME.ready.status"),
    of_pods("routes.NAME.ready.contains", STRING, Otherwise("anything"), "as templates.NAME.ready.contains"),
    of_pods("routes.NAME.notice", BOOL, Value("false"), "as templates.NAME.notice"),
    of_pods("routes.NAME.service_workers", BOOL, Value("false"), "as templates.NAME.service_workers"),
    of_pods("routes.NAME.headers.NAME", FACT, NONE, "as templates.NAME.headers.NAME"),
    of_pods("routes.NAME.allow_addresses", NETWORKS, EMPTY, "as templates.NAME.allow_addresses"),
    of_pods("routes.NAME.deny_addresses", NETWORKS, EMPTY, "as templates.NAME.deny_addresses"),
    of_pods("routes.NAME.idle_after", NEVER, AS_WORKSPACES, "as workspaces.idle_after"),
    of_pods("routes.NAME.warn_before", DURATION, AS_WORKSPACES, "as workspaces.warn_before"),
    of_pods("routes.NAME.max_age", NEVER, AS_WORKSPACES, "as workspaces.max_age"),
    of_pods("routes.NAME.keep_until_max", DURATION, AS_WORKSPACES, "as workspaces.keep_until_max"),
    of_pods("routes.NAME.start_timeout", DURATION, AS_WORKSPACES, "as workspaces.start_timeout"),
    of_pods("routes.NAME.schedule_timeout", DURATION, Value("\"10m\""), "as templates.NAME.schedule_timeout"),
    of_pods("routes.NAME.pull_timeout", DURATION, Value("\"10m\""), "as templates.NAME.pull_timeout"),
    of_pods("routes.NAME.count_open_sockets", BOOL, Value("false"), "as templates.NAME.count_open_sockets"),
    of_pods("routes.NAME.count_workspace_frames", BOOL, Value("false"), "as templates.NAME.count_workspace_frames"),
    of_pods("routes.NAME.count_open_responses", BOOL, Value("false"), "as templates.NAME.count_open_responses"),
    of_pods("routes.NAME.background", "list of requests", Value("[]"), "as templates.NAME.background"),
    of_pods("routes.NAME.busy", TABLE, Otherwise("not asked"), "as templates.NAME.busy; one of its pods is asked"),
    of_pods("routes.NAME.busy.path", "request path", Required, "as templates.NAME.busy.path"),
    of_pods("routes.NAME.busy.expression", BOOL_RULE, Required, "as templates.NAME.busy.expression"),
    of_pods("routes.NAME.busy.every", DURATION, Value("\"60s\""), "as templates.NAME.busy.every"),
];

//! `[dns_providers.NAME]`: who writes the records of challenges.

use super::{address, filled};
use crate::layout::{Environment, secret};
use crate::model::{DnsProvider, DnsProviderKind, Tsig, TsigAlgorithm};
use crate::names::DnsProviderName;
use crate::reader::{Table, value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const SOURCES: &str = "{ from_env = \"NAME\" } or { from_file = \"PATH\" }";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KindName {
    Rfc2136,
    AcmeDns,
    Exec,
    Cloudflare,
}

const KINDS: [(&str, KindName); 4] = [
    ("rfc2136", KindName::Rfc2136),
    ("acme-dns", KindName::AcmeDns),
    ("exec", KindName::Exec),
    ("cloudflare", KindName::Cloudflare),
];

const ALGORITHMS: [(&str, TsigAlgorithm); 3] = [
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
];

/// Reads `[dns_providers]`.
pub(super) fn dns_providers(
    root: &mut Table<'_>,
    outer: Environment<'_>,
) -> Option<BTreeMap<DnsProviderName, Arc<DnsProvider>>> {
    root.named("dns_providers", DnsProviderName::parse, |name, field| {
        field.table()?.read(|table| provider(name, table, outer))
    })
}

fn provider(
    name: Option<&DnsProviderName>,
    table: &mut Table<'_>,
    outer: Environment<'_>,
) -> Option<Arc<DnsProvider>> {
    let kind_name = table.value("kind", value::word(&KINDS, "a kind of DNS provider"));
    let check_propagation = table.value("check_propagation", value::boolean);
    let propagation_timeout = table.value("propagation_timeout", value::duration(SECOND));
    let resolvers = table.value("resolvers", value::list(value::socket_address));
    let kind = match kind_name? {
        KindName::Rfc2136 => rfc2136(table, outer),
        KindName::AcmeDns => acme_dns(table, outer),
        KindName::Exec => exec(table, outer),
        KindName::Cloudflare => cloudflare(table, outer),
    };
    Some(Arc::new(DnsProvider {
        name: name?.clone(),
        kind: kind?,
        check_propagation: check_propagation?,
        propagation_timeout: propagation_timeout?,
        resolvers: resolvers?,
    }))
}

fn rfc2136(table: &mut Table<'_>, outer: Environment<'_>) -> Option<DnsProviderKind> {
    let server = table.value("server", value::socket_address);
    let zone = table.maybe("zone", value::host_name);
    let tsig = table.maybe_table("tsig", |table| {
        let key_name = table.value("key_name", value::host_name);
        let secret =
            table.table("secret", |table| secret::bytes_of(table, SOURCES, outer, is_base64, "base64"));
        let algorithm = table.value("algorithm", value::word(&ALGORITHMS, "an algorithm of TSIG"));
        Some(Tsig { key_name: key_name?, secret: secret?, algorithm: algorithm? })
    });
    Some(DnsProviderKind::Rfc2136 { server: server?, zone: zone?, tsig: tsig? })
}

fn acme_dns(table: &mut Table<'_>, outer: Environment<'_>) -> Option<DnsProviderKind> {
    let url = table.value("url", address);
    let username = table.value("username", filled);
    let password = table.table("password", |table| secret::of(table, SOURCES, outer));
    let subdomain = table.value("subdomain", filled);
    Some(DnsProviderKind::AcmeDns {
        url: url?,
        username: username?,
        password: password?,
        subdomain: subdomain?,
    })
}

fn exec(table: &mut Table<'_>, outer: Environment<'_>) -> Option<DnsProviderKind> {
    let command = table.value("command", value::list(value::string));
    let timeout = table.value("timeout", value::duration(SECOND));
    let command = command?;
    let is_sound = |word: &String| !word.contains('\0');
    let Some(program) = command.first().filter(|word| !word.is_empty() && command.iter().all(is_sound))
    else {
        table.fault(
            "command",
            "names no program",
            "a program and its arguments, such as [\"/etc/usher/dns.sh\"]",
        );
        return None;
    };
    if !is_runnable(program, outer) {
        let problem = format!("`{program}` is no program that can be run");
        table.fault("command", problem, "an executable file that is there, or the name of one in PATH");
        return None;
    }
    Some(DnsProviderKind::Exec { command, timeout: timeout? })
}

/// Whether there is such a program, found as `execvp` finds it.
fn is_runnable(program: &str, outer: Environment<'_>) -> bool {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|seen| seen.is_file() && seen.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return is_executable(Path::new(program));
    }
    // Without one it is for the system to say where it looks.
    outer("PATH")
        .is_none_or(|path| std::env::split_paths(&path).any(|folder| is_executable(&folder.join(program))))
}

/// RFC 4648 §4, as key generators write it.
fn is_base64(text: &str) -> bool {
    !text.is_empty() && STANDARD.decode(text).is_ok()
}

fn cloudflare(table: &mut Table<'_>, outer: Environment<'_>) -> Option<DnsProviderKind> {
    let api = table.value("api", address);
    let token = table.table("token", |table| secret::of(table, SOURCES, outer));
    Some(DnsProviderKind::Cloudflare { api: api?, token: token? })
}

//! `[tls]`, `[certificates.NAME]`, `[acme.NAME]`, `[dns_providers.NAME]`: what is shown in handshakes, and how it is got.

mod authorities;
mod dns;
mod fit;

use super::Environment;
use super::listeners::Bound;
use crate::model::{
    AcmeSource, Authority, CertificateSource, Certificates, Challenge, DeclaredCertificate, DnsProvider,
    PerHost, Tls, TlsVersion,
};
use crate::names::{AuthorityName, CertificateName, DnsProviderName, HostName, Issuer, NamePattern};
use crate::reader::{Field, Table, Wrong, value};
use crate::schema::DriverName;
use crate::values::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
/// What the preload lists of browsers ask for, in place of a guess.
const HSTS_MAX_AGE: Duration = Duration::from_hours(365 * 24);
/// Most names of one certificate: what authorities take.
const NAMES_MAX: usize = 100;

/// A certificate, and where its names stand.
struct Placed<'a> {
    declared: Arc<DeclaredCertificate>,
    /// One for each of its names that were written down.
    places: Vec<Field<'a>>,
    /// Its table.
    table: Field<'a>,
}

/// What a certificate can refer to, and is given where it says nothing. What is none had findings.
struct Around<'x> {
    authorities: Option<BTreeMap<AuthorityName, Arc<Authority>>>,
    dns_providers: Option<BTreeMap<DnsProviderName, Arc<DnsProvider>>>,
    /// The domain and the portal.
    hosts: Option<(&'x HostName, &'x HostName)>,
    driver: DriverName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceName {
    Acme,
    Files,
    SelfSigned,
    Secret,
}

const SOURCES: [(&str, SourceName); 4] = [
    ("acme", SourceName::Acme),
    ("files", SourceName::Files),
    ("self-signed", SourceName::SelfSigned),
    ("secret", SourceName::Secret),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChallengeName {
    Http01,
    TlsAlpn01,
    Dns01,
}

const CHALLENGES: [(&str, ChallengeName); 3] = [
    ("http-01", ChallengeName::Http01),
    ("tls-alpn-01", ChallengeName::TlsAlpn01),
    ("dns-01", ChallengeName::Dns01),
];

/// Reads `[tls]`.
pub(super) fn tls(table: &mut Table<'_>, domain: Option<&HostName>) -> Option<Tls> {
    let min_version =
        table.value("min_version", value::word(&VERSIONS, "a version of TLS that is spoken here"));
    let handshake_timeout = table.value("handshake_timeout", value::duration(Duration::from_secs(1)));
    let hsts_max_age = table.maybe("hsts_max_age", value::duration(Duration::ZERO))?;
    // There other things are served by http, which browsers would be kept from for as long.
    let usual = if domain?.is_localhost() { Duration::ZERO } else { HSTS_MAX_AGE };
    Some(Tls {
        min_version: min_version?,
        handshake_timeout: handshake_timeout?,
        hsts_max_age: hsts_max_age.unwrap_or(usual),
    })
}

/// Reads `[acme]`, `[dns_providers]` and `[certificates]`, and sees that they and the listeners fit together.
pub(super) fn certificates(
    root: &mut Table<'_>,
    environment: Environment<'_>,
    hosts: Option<(&HostName, &HostName)>,
    (driver, listeners): (DriverName, Option<&[Bound<'_>]>),
) -> Option<Certificates> {
    let around = Around {
        authorities: authorities::authorities(root, environment),
        dns_providers: dns::dns_providers(root, environment),
        hosts,
        driver,
    };
    let placed = root.named("certificates", CertificateName::parse, |name, field| {
        let (declared, places) = field.table()?.read(|table| certificate(name, table, &around))?;
        Some(Placed { declared, places, table: field })
    });
    fit::fit(root, placed?, listeners?, hosts?)
}

fn certificate<'a>(
    name: Option<&CertificateName>,
    table: &mut Table<'a>,
    around: &Around<'_>,
) -> Option<(Arc<DeclaredCertificate>, Vec<Field<'a>>)> {
    let named = names(table);
    let source_name = table.value("source", value::word(&SOURCES, "a source of certificates"))?;
    let source = match source_name {
        SourceName::Acme => acme(table, around).map(CertificateSource::Acme),
        SourceName::Files => files(table),
        SourceName::SelfSigned => Some(CertificateSource::SelfSigned),
        SourceName::Secret => secret(table, around.driver),
    };
    let (given, places) = named?;
    let names = match source_name {
        SourceName::Acme | SourceName::SelfSigned if given.is_empty() => usual_names(around)?,
        _ => given,
    };
    if let Some(CertificateSource::Acme(acme)) = &source {
        can_be_proved(table, &names, &places, acme)?;
    }
    Some((Arc::new(DeclaredCertificate { name: name?.clone(), names, source: source? }), places))
}

/// The names that are written down, and where.
fn names<'a>(table: &mut Table<'a>) -> Option<(Vec<NamePattern>, Vec<Field<'a>>)> {
    let fields = table.maybe_items("names", false)?.unwrap_or_default();
    if fields.len() > NAMES_MAX {
        table.fault("names", "are too many for one certificate", format!("at most {NAMES_MAX}"));
        return None;
    }
    let read_all: Vec<Option<NamePattern>> = fields.iter().map(|field| field.parse(pattern)).collect();
    Some((read_all.into_iter().collect::<Option<_>>()?, fields))
}

fn pattern(value: &DeValue<'_>) -> Result<NamePattern, Wrong> {
    let text = value::string(value)?;
    NamePattern::parse(&text).map_err(|bad| Wrong::new("is not a name for a certificate", bad.rule))
}

/// Those of all hosts that Usher serves: the domain and all below it, and the portal where it is elsewhere.
fn usual_names(around: &Around<'_>) -> Option<Vec<NamePattern>> {
    let (domain, portal) = around.hosts?;
    let mut names = vec![NamePattern::Host(domain.clone()), NamePattern::Wildcard(domain.clone())];
    if !names.iter().any(|name| name.covers(portal.as_str())) {
        names.push(NamePattern::Host(portal.clone()));
    }
    Some(names)
}

/// Whether the names can be had by the challenge.
fn can_be_proved(
    table: &Table<'_>,
    names: &[NamePattern],
    places: &[Field<'_>],
    source: &AcmeSource,
) -> Option<()> {
    if source.per_host.is_some() || matches!(source.challenge, Challenge::Dns01(_)) {
        return Some(());
    }
    let at = names.iter().position(NamePattern::is_wildcard);
    let Some(at) = at else { return Some(()) };
    let problem = format!("`{}` can be had by `dns-01` alone", names[at]);
    let accepted = "challenge = \"dns-01\"; or per_host = true, for a certificate of each user's host; or names without `*`";
    match places.get(at) {
        Some(place) => place.fault(problem, accepted),
        None => table.fault("challenge", problem, accepted),
    }
    None
}

fn files(table: &mut Table<'_>) -> Option<CertificateSource> {
    let certificate = table.value("certificate", value::path);
    let private_key = table.value("private_key", value::path);
    Some(CertificateSource::Files { certificate: certificate?, private_key: private_key? })
}

fn secret(table: &mut Table<'_>, driver: DriverName) -> Option<CertificateSource> {
    if driver == DriverName::Process {
        table.fault(
            "source",
            "`secret` belongs to the driver `kubernetes`",
            "\"acme\", \"files\" or \"self-signed\"",
        );
    }
    let name = table.value("secret", |value| value::of_kind(value, Kind::Name));
    (driver == DriverName::Kubernetes).then_some(CertificateSource::Secret(name?))
}

fn acme(table: &mut Table<'_>, around: &Around<'_>) -> Option<AcmeSource> {
    let authorities = asked_authorities(table, around);
    let challenge = challenge(table, around);
    let per_host = per_host(table);
    Some(AcmeSource { authorities: authorities?, challenge: challenge?, per_host: per_host? })
}

/// Who is asked: those that are named, in this order; or the only one there is.
fn asked_authorities(table: &mut Table<'_>, around: &Around<'_>) -> Option<Vec<Arc<Authority>>> {
    let fields = table.maybe_items("authorities", true)?;
    let declared = around.authorities.as_ref()?;
    let accepted = || match declared.is_empty() {
        true => "a table [acme.NAME] with the address of an authority".to_owned(),
        false => format!("names of tables of [acme]: {}", one_of(declared.keys())),
    };
    let Some(fields) = fields else {
        if let (1, Some(only)) = (declared.len(), declared.values().next()) {
            return Some(vec![only.clone()]);
        }
        table.fault("authorities", "is missing, and there is not one authority alone", accepted());
        return None;
    };
    if fields.is_empty() {
        table.fault("authorities", "is empty", accepted());
        return None;
    }
    let find = |field: &Field<'_>| {
        let name = field.parse(value::string)?;
        let found = declared.get(name.as_str()).cloned();
        if found.is_none() {
            field.fault(format!("there is no authority `{name}`"), accepted());
        }
        found
    };
    let found: Vec<Option<Arc<Authority>>> = fields.iter().map(find).collect();
    found.into_iter().collect()
}

fn challenge(table: &mut Table<'_>, around: &Around<'_>) -> Option<Challenge> {
    let challenge = table.value("challenge", value::word(&CHALLENGES, "a challenge"));
    let provider = table.maybe("dns_provider", value::string);
    let (challenge, provider) = (challenge?, provider?);
    if challenge != ChallengeName::Dns01 {
        if provider.is_some() {
            table.fault("dns_provider", "is asked for nothing", "challenge = \"dns-01\" beside it, or none");
        }
        return Some(match challenge {
            ChallengeName::TlsAlpn01 => Challenge::TlsAlpn01,
            _ => Challenge::Http01,
        });
    }
    let declared = around.dns_providers.as_ref()?;
    let found = match &provider {
        Some(name) => declared.get(name.as_str()),
        None => declared.values().next().filter(|_| declared.len() == 1),
    };
    if found.is_none() {
        let problem = match &provider {
            Some(name) => format!("there is no DNS provider `{name}`"),
            None => "is missing, and there is not one DNS provider alone".to_owned(),
        };
        let accepted = match declared.is_empty() {
            true => "a table [dns_providers.NAME] of who writes the records".to_owned(),
            false => format!("a name of a table of [dns_providers]: {}", one_of(declared.keys())),
        };
        table.fault("dns_provider", problem, accepted);
    }
    found.cloned().map(Challenge::Dns01)
}

fn per_host(table: &mut Table<'_>) -> Option<Option<PerHost>> {
    let per_host = table.value("per_host", value::boolean);
    let new_per_week = table.value("new_per_week", value::integer(1..=100_000_usize));
    if !per_host? {
        if table.has("new_per_week") {
            table.fault("new_per_week", "bounds nothing", "per_host = true beside it, or none");
        }
        return Some(None);
    }
    Some(Some(PerHost { new_per_week: new_per_week? }))
}

/// The address of an API.
fn address(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    let address = Issuer::parse(&text).map_err(|bad| Wrong::new("is not an address", bad.rule))?;
    Ok(address.as_str().to_owned())
}

/// A text that is there.
fn filled(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    if text.is_empty() { Err(Wrong::new("is empty", "a text")) } else { Ok(text) }
}

fn one_of<'n>(names: impl Iterator<Item = &'n (impl std::fmt::Display + 'n)>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

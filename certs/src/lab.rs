//! Workers over a store in memory, and the authority that they ask.

mod authority;
mod memory;

pub(crate) use authority::{GenerousAuthority, Said};
pub(crate) use memory::Memory;

use crate::acme::{Accounts, AcmeClient};
use crate::metrics::Metrics;
use crate::resolver::{HttpChallenges, Resolver};
use crate::run::{Settings, Worker};
use crate::state::Proof;
use crate::store::Store;
use crate::units::{Unit, units};
use config::{Certificates, Config, HostName};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// What the configuration says of certificates: for each known host one from this authority.
pub(crate) fn certificates(authority: &GenerousAuthority, more: &str) -> Certificates {
    let directory = authority.directory();
    let text = format!(
        "domain = 'lab.test'\nlisteners = [{{ address = '127.0.0.1:443', protocol = 'https' }}, {{ address = '127.0.0.1:80' }}]\n\
         access = {{ allow = 'true', template = \"'demo'\" }}\n\
         [acme.generous]\ndirectory = '{directory}'\nterms_of_service_agreed = true\n\
         [certificates.site]\nsource = 'acme'\nchallenge = 'http-01'\nper_host = true\n{more}\n\
         [templates.demo]\ncommand = ['demo', '{{port}}']\nconnect = 'port'\n"
    );
    let config = Config::parse("test", &text, &|_| None).unwrap_or_else(|findings| panic!("{findings}"));
    config.certificates.clone()
}

/// Tables of certificates whose records these scripts of a shell write, by the names of their providers.
pub(crate) fn programs(scripts: &[(&str, String)]) -> String {
    let table = |(name, script): &(&str, String)| {
        format!(
            "[dns_providers.{name}]\nkind = 'exec'\ncommand = ['/bin/sh', '-c', {script:?}, 'sh']\ncheck_propagation = false\n\
             [certificates.{name}]\nsource = 'acme'\nchallenge = 'dns-01'\ndns_provider = '{name}'\nnames = ['{name}.test']\n"
        )
    };
    scripts.iter().map(table).collect()
}

/// A record with this text that a provider has written for `gone.test`.
pub(crate) fn record(provider: &str, text: &str) -> Proof {
    let [provider, host, text] = [provider, "gone.test", text].map(str::to_owned);
    Proof::Record { provider, host, text }
}

/// What is to be had for one host.
pub(crate) fn unit(certificates: &Certificates, host: &str) -> Unit {
    let host = HostName::parse(host).expect("it is a host's name");
    let all = units(certificates, &BTreeSet::from([host.clone()]));
    all.into_values().find(|unit| unit.id.ends_with(host.as_str())).expect("it is known")
}

/// One Usher's worker, and what it counts.
pub(crate) fn worker(
    certificates: &Certificates,
    store: &Arc<Memory>,
    replica: Option<&str>,
) -> (Worker, Registry) {
    let registry = Registry::new();
    let store: Arc<dyn Store> = store.clone();
    let acme = AcmeClient {
        accounts: Accounts::new(store.clone()),
        claims: crate::claim::Claims::new(store.clone(), replica.map(str::to_owned)),
        store,
        dns: crate::run::dns_records(certificates).expect("their programs are named"),
        answered: watch::channel(Default::default()).1,
        replicas: watch::channel(BTreeSet::new()).1,
        metrics: Metrics::new(&registry).expect("their names are free"),
    };
    (Worker::new(acme, certificates), registry)
}

/// What a whole Usher is told that knows these hosts.
pub(crate) fn settings(
    certificates: &Certificates,
    store: &Arc<impl Store + 'static>,
    hosts: &[&str],
) -> Settings {
    let hosts = hosts.iter().map(|host| HostName::parse(host).expect("it is a host's name"));
    Settings {
        certificates: certificates.clone(),
        store: store.clone(),
        replica: None,
        leads: watch::channel(true).1,
        replicas: watch::channel(BTreeSet::new()).1,
        hosts: watch::channel(hosts.collect()).1,
        secrets: watch::channel(BTreeMap::new()).1,
        metrics: Metrics::new(&Registry::new()).expect("their names are free"),
        resolver: Resolver::of_none(),
        challenges: HttpChallenges::default(),
    }
}

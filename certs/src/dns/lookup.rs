//! Where a name's records are kept: the end of its CNAMEs, the zone, and the servers that are authoritative for it.
//!
//! Resolvers are asked only for what seldom changes: a zone's servers and their addresses. The rest is asked of those
//! servers, so that nothing which a resolver has cached passes for the present state.

use super::ask::{ANSWER_TIMEOUT, By, ask};
use super::error::{AskError, DnsError};
use super::resolv_conf;
use config::DnsProviderName;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How many CNAMEs are followed. Resolvers give up after some eight to sixteen (BIND: 11 by default, Unbound: 11).
pub(super) const CHAIN_MAX: usize = 8;
/// How many servers of a zone are asked, and how many addresses of each. The root has 13 servers, with two each.
const SERVERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 4;

/// Asks resolvers and authoritative servers for one provider.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    provider: DnsProviderName,
    /// Empty = those of the system, which may change.
    resolvers: Vec<SocketAddr>,
    /// Where authoritative servers listen: 53 everywhere but in proofs.
    port: u16,
}

/// A server that is authoritative for a zone, as the zone names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameServer {
    /// Its name.
    pub(super) name: Name,
    /// The ways to it.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Where a name's records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The name itself, or where its CNAMEs lead.
    pub(super) name: Name,
    /// The zone that it is in.
    pub(super) zone: Name,
    /// Whom the zone names as its servers; at least one.
    pub(super) servers: Vec<NameServer>,
}

impl Lookup {
    pub(super) fn new(provider: DnsProviderName, resolvers: Vec<SocketAddr>, port: u16) -> Self {
        Self { provider, resolvers, port }
    }

    /// Where the records of this name are, after at most so long.
    ///
    /// # Errors
    /// Nobody tells, the CNAMEs do not end, or it takes too long.
    pub(super) async fn place(&self, name: &Name, within: Duration) -> Result<Place, DnsError> {
        let slow = || DnsError::Slow { provider: self.provider.clone(), name: told(name), waited: within };
        timeout(within, self.end_of_chain(name)).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn end_of_chain(&self, name: &Name) -> Result<Place, DnsError> {
        let mut at = name.clone();
        for _ in 0..=CHAIN_MAX {
            let (zone, servers) = self.servers_of(&at).await?;
            match self.alias(&at, &zone, &servers).await? {
                Some(target) => at = target,
                None => return Ok(Place { name: at, zone, servers }),
            }
        }
        Err(DnsError::Chain { provider: self.provider.clone(), name: told(name), steps: CHAIN_MAX })
    }

    /// Where the CNAME of a name leads, as the first server says that answers. All are asked at once: a dead one costs no
    /// time.
    async fn alias(
        &self,
        name: &Name,
        zone: &Name,
        servers: &[NameServer],
    ) -> Result<Option<Name>, DnsError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let ways = servers.iter().flat_map(|server| server.addresses.iter().map(move |way| (server, *way)));
        let mut answers: FuturesUnordered<_> = ways
            .map(|(server, way)| async move {
                let target = async {
                    let answer = ask(way, name, RecordType::CNAME, By::OwnZones, deadline).await?;
                    own_target(way, &answer, name, deadline).await
                };
                let target: Result<Option<Name>, AskError> = target.await;
                target.map_err(|error| format!("{} ({})", told(&server.name), failed(way, &error)))
            })
            .collect();
        let without = servers.iter().filter(|server| server.addresses.is_empty());
        let mut tried: Vec<String> =
            without.map(|server| format!("{} (it has no address)", told(&server.name))).collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(target) => return Ok(target),
                Err(error) => tried.push(error),
            }
        }
        let provider = self.provider.clone();
        Err(DnsError::NoServer { provider, name: told(name), zone: told(zone), tried })
    }

    /// The zone of a name and its servers: the nearest name above, or this one, that has NS records.
    async fn servers_of(&self, name: &Name) -> Result<(Name, Vec<NameServer>), DnsError> {
        let resolvers = self.resolvers().await?;
        let mut zone = name.clone();
        while !zone.is_root() {
            let answer = match self.resolve(&resolvers, &zone, RecordType::NS).await {
                Ok(answer) => answer,
                // A resolver follows the name's own CNAME, and fails where that leads nowhere; what is above does not
                // depend on it.
                Err(_) if zone == *name => Message::query(),
                Err(error) => return Err(error),
            };
            let names = servers_in(&answer, &zone);
            if !names.is_empty() {
                let servers = join_all(names.into_iter().map(|name| self.server(&resolvers, name))).await;
                return Ok((zone, servers));
            }
            zone = next_above(&answer, &zone);
        }
        Err(DnsError::NoZone { provider: self.provider.clone(), name: told(name) })
    }

    /// A server with its addresses; none where nobody tells.
    async fn server(&self, resolvers: &[SocketAddr], name: Name) -> NameServer {
        let both = [RecordType::A, RecordType::AAAA];
        let answers = join_all(both.map(|kind| self.resolve(resolvers, &name, kind))).await;
        let addresses = answers.iter().flatten().flat_map(addresses_in).take(ADDRESSES_MAX);
        let addresses = addresses.map(|address| SocketAddr::new(address, self.port)).collect();
        NameServer { name, addresses }
    }

    /// What the first resolver says that answers.
    async fn resolve(
        &self,
        resolvers: &[SocketAddr],
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, DnsError> {
        let mut tried = Vec::new();
        for resolver in resolvers {
            match ask(*resolver, name, kind, By::Recursion, Instant::now() + ANSWER_TIMEOUT).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tried.push(failed(*resolver, &error)),
            }
        }
        Err(DnsError::Resolving { provider: self.provider.clone(), name: told(name), tried })
    }

    async fn resolvers(&self) -> Result<Vec<SocketAddr>, DnsError> {
        if self.resolvers.is_empty() {
            let none = |reason| DnsError::NoResolver { provider: self.provider.clone(), reason };
            resolv_conf::servers().await.map_err(none)
        } else {
            Ok(self.resolvers.clone())
        }
    }
}

/// A name as people write it, without the dot at its end.
pub(super) fn told(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// A server, and what came of asking it.
pub(super) fn failed(server: SocketAddr, error: &AskError) -> String {
    format!("{server}: {error}")
}

/// Where an answer of a server that has the zone says that the CNAME of a name leads, if the CNAME is the name's own. One
/// of a wildcard, which answers for every name that nobody has made (RFC 4592), is out of the way once the name has a record.
pub(super) async fn own_target(
    server: SocketAddr,
    answer: &Message,
    name: &Name,
    deadline: Instant,
) -> Result<Option<Name>, AskError> {
    let Some(target) = target_of(answer, name) else { return Ok(None) };
    // No longer than the label before it, which is `_acme-challenge`.
    let label = format!("_usher-{:08x}", fastrand::u32(..));
    let Ok(beside) = name.base_name().prepend_label(label) else { return Ok(Some(target)) };
    let answer = ask(server, &beside, RecordType::CNAME, By::OwnZones, deadline).await?;
    let is_for_all = target_of(&answer, &beside).as_ref() == Some(&target);
    Ok(Some(target).filter(|_| !is_for_all))
}

/// Where an answer says that the CNAME of a name leads.
pub(super) fn target_of(answer: &Message, name: &Name) -> Option<Name> {
    answer.answers.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    })
}

fn servers_in(answer: &Message, zone: &Name) -> Vec<Name> {
    let records = answer.answers.iter().filter(|record| record.name == *zone);
    let names = records.filter_map(|record| match &record.data {
        RData::NS(name) => Some(name.0.clone()),
        _ => None,
    });
    names.take(SERVERS_MAX).collect()
}

fn addresses_in(answer: &Message) -> impl Iterator<Item = IpAddr> {
    answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    })
}

/// Where to look next, when a name has no NS records: at the zone that the answer names, else one label up.
///
/// Behind a CNAME the answer names the zone of its target, which is none of the name's own and does not count.
fn next_above(answer: &Message, name: &Name) -> Name {
    zone_in(&answer.authorities, name).filter(|zone| zone != name).unwrap_or_else(|| name.base_name())
}

/// The zone of a name, by an SOA record among these.
pub(super) fn zone_in(records: &[hickory_proto::rr::Record], name: &Name) -> Option<Name> {
    let zone = records.iter().find(|record| record.record_type() == RecordType::SOA)?.name.clone();
    zone.zone_of(name).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{CNAME, NS, SOA};
    use hickory_proto::rr::{Name, Record};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn soa(of: &str) -> Record {
        let data = SOA::new(name("ns."), name("you."), 1, 1, 1, 1, 1);
        Record::from_rdata(name(of), 60, RData::SOA(data))
    }

    #[test]
    fn a_zone_is_looked_for_where_the_answer_says_and_else_one_label_up() {
        for (zone, at, next) in [
            (Some("lab.test."), "_acme-challenge.a.b.lab.test.", "lab.test."),
            (Some("TEST."), "lab.test.", "test."),
            (None, "a.lab.test.", "lab.test."),
            // Of the target of a CNAME.
            (Some("elsewhere.test."), "a.lab.test.", "lab.test."),
            // No step forward would never end.
            (Some("lab.test."), "lab.test.", "test."),
            (Some("a.lab.test."), "lab.test.", "test."),
            (Some("."), "test.", "."),
            (None, "test.", "."),
        ] {
            let mut answer = Message::query();
            answer.authorities.extend(zone.map(soa));
            assert_eq!(next_above(&answer, &name(at)), name(next), "{zone:?} {at}");
        }
    }

    #[test]
    fn only_records_of_the_name_itself_count() {
        let mut answer = Message::query();
        answer.add_answer(Record::from_rdata(name("b.test."), 60, RData::CNAME(CNAME(name("c.test.")))));
        answer.add_answer(Record::from_rdata(name("A.test."), 60, RData::CNAME(CNAME(name("b.test.")))));
        answer.add_answer(Record::from_rdata(name("test."), 60, RData::NS(NS(name("ns.test.")))));
        assert_eq!(target_of(&answer, &name("a.test.")), Some(name("b.test.")));
        assert_eq!(target_of(&answer, &name("c.test.")), None);
        assert_eq!(servers_in(&answer, &name("test.")), [name("ns.test.")]);
        assert_eq!(servers_in(&answer, &name("a.test.")), []);
    }

    #[test]
    fn no_more_servers_are_asked_than_a_zone_has_use_for() {
        let mut answer = Message::query();
        for number in 0..50 {
            let server = name(&format!("ns{number}.test."));
            answer.add_answer(Record::from_rdata(name("test."), 60, RData::NS(NS(server))));
        }
        assert_eq!(servers_in(&answer, &name("test.")).len(), SERVERS_MAX);
    }

    #[test]
    fn names_are_told_without_the_last_dot() {
        assert_eq!(told(&name("_acme-challenge.lab.test.")), "_acme-challenge.lab.test");
    }
}

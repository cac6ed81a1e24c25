//! Waiting until all authoritative servers show a record.
//!
//! The authority asks any of them. One that answers without the record spoils the validation: it is waited for to the
//! last, and then is an error. One that does not answer at all only costs the authority's resolver another try at the
//! next (RFC 1034 §5.3.3), but it may come back without the record: it is waited for as well, and after the timeout
//! passed over with a warning, else one dead secondary would keep every certificate from being renewed.

use super::ask::{ANSWER_TIMEOUT, By, ask};
use super::error::DnsError;
use super::lookup::{Lookup, NameServer, Place, told};
use config::DnsProviderName;
use futures_util::future::join_all;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two rounds: as long at first, twice as long each time, and no longer than the other.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// What was seen of a record that authoritative servers show.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Propagation {
    /// The servers that did not answer to the end, and what came of asking them.
    pub silent: Vec<String>,
}

/// What one server of a zone says, over all ways to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Shown,
    /// Where it answers without the record.
    Lacking(String),
    /// Why it says nothing.
    Nothing(String),
}

/// The last word of each server of a zone, in the zone's order.
#[derive(Debug, Default)]
struct LastWords(Vec<Says>);

/// Waits until the servers show all these texts at the end of the CNAMEs of a name.
///
/// # Errors
/// A server answers without them, or none answers, until the timeout; or who they are is not found out until then.
pub(super) async fn wait(
    provider: &DnsProviderName,
    lookup: &Lookup,
    name: &Name,
    texts: &[String],
    within: Duration,
) -> Result<Propagation, DnsError> {
    let deadline = Instant::now() + within;
    let place = find(provider, lookup, name, within, deadline).await?;
    let mut pause = PAUSE_FIRST;
    let mut words = LastWords::default();
    loop {
        words.hear(ask_all(&place, texts, deadline).await);
        if words.are_all_shown() {
            return Ok(Propagation::default());
        }
        match rest(pause, deadline).await {
            Some(longer) => pause = longer,
            None => return words.at_last(provider, &place, within),
        }
    }
}

/// Finds out who the servers are, again and again until the deadline.
async fn find(
    provider: &DnsProviderName,
    lookup: &Lookup,
    name: &Name,
    within: Duration,
    deadline: Instant,
) -> Result<Place, DnsError> {
    let mut pause = PAUSE_FIRST;
    let mut failed = DnsError::Slow { provider: provider.clone(), name: told(name), waited: within };
    loop {
        match lookup.place(name, deadline.saturating_duration_since(Instant::now())).await {
            Ok(place) => return Ok(place),
            // The last try is cut short: what an earlier one has found tells more.
            Err(DnsError::Slow { .. }) => (),
            Err(error) => failed = error,
        }
        match rest(pause, deadline).await {
            Some(longer) => pause = longer,
            None => return Err(failed),
        }
    }
}

/// Waits, and tells how long to wait the next time; at once and nothing where no time is left for another round.
async fn rest(pause: Duration, deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left <= PAUSE_FIRST * 2 {
        return None;
    }
    sleep(pause.min(left - PAUSE_FIRST)).await;
    Some((pause * 2).min(PAUSE_LAST))
}

async fn ask_all(place: &Place, texts: &[String], deadline: Instant) -> Vec<Says> {
    let deadline = deadline.min(Instant::now() + ANSWER_TIMEOUT);
    let says = place.servers.iter().map(|server| async move {
        let ways = server.addresses.iter().map(|address| async move {
            (*address, ask(*address, &place.name, RecordType::TXT, By::OwnZones, deadline).await)
        });
        let ways = join_all(ways).await.into_iter();
        let ways: Vec<_> = ways
            .map(|(address, answer)| {
                let shows = answer.map(|answer| shows(&answer, &place.name, texts));
                (address, shows.map_err(|error| error.to_string()))
            })
            .collect();
        one(server, &ways)
    });
    join_all(says).await
}

/// Whether an answer has all these texts as TXT records of this name.
fn shows(answer: &Message, name: &Name, texts: &[String]) -> bool {
    let shown: Vec<Vec<u8>> = answer
        .answers
        .iter()
        .filter(|record| record.name == *name)
        .filter_map(|record| match &record.data {
            // One text may stand there in several pieces (RFC 8555 §8.4 by RFC 1035 §3.3.14).
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        })
        .collect();
    texts.iter().all(|text| shown.iter().any(|shown| shown == text.as_bytes()))
}

/// What one server says: its addresses are ways to it, so one that leads nowhere does not count beside one that does.
fn one(server: &NameServer, ways: &[(SocketAddr, Result<bool, String>)]) -> Says {
    let name = told(&server.name);
    if let Some((address, _)) = ways.iter().find(|(_, says)| *says == Ok(false)) {
        return Says::Lacking(format!("{name} ({address})"));
    }
    if ways.iter().any(|(_, says)| *says == Ok(true)) {
        return Says::Shown;
    }
    let reasons =
        ways.iter().filter_map(|(address, says)| Some(format!("{address}: {}", says.as_ref().err()?)));
    let reasons = reasons.collect::<Vec<_>>();
    let reasons = if reasons.is_empty() { "it has no address".to_owned() } else { reasons.join(", ") };
    Says::Nothing(format!("{name} ({reasons})"))
}

impl LastWords {
    /// Who says nothing now has said what they said last: a server that lacks the record does not come to have it by
    /// falling silent.
    fn hear(&mut self, says: Vec<Says>) {
        self.0.resize(says.len(), Says::Nothing(String::new()));
        for (last, now) in self.0.iter_mut().zip(says) {
            if !matches!(now, Says::Nothing(_)) || matches!(last, Says::Nothing(_)) {
                *last = now;
            }
        }
    }

    fn are_all_shown(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|says| *says == Says::Shown)
    }

    /// What it comes to when there is no more time.
    fn at_last(
        self,
        provider: &DnsProviderName,
        place: &Place,
        waited: Duration,
    ) -> Result<Propagation, DnsError> {
        let is_shown = self.0.contains(&Says::Shown);
        let (mut lacking, mut silent) = (Vec::new(), Vec::new());
        for says in self.0 {
            match says {
                Says::Shown => (),
                Says::Lacking(server) => lacking.push(server),
                Says::Nothing(server) => silent.push(server),
            }
        }
        let (provider, name, zone) = (provider.clone(), told(&place.name), told(&place.zone));
        if !is_shown || !lacking.is_empty() {
            let (lacking, silent) = (lacking.into(), silent.into());
            return Err(DnsError::NotShown { provider, name, zone, waited, lacking, silent });
        }
        tracing::warn!(
            dns.provider = %provider, dns.name = %name, dns.servers = %silent.join("; "),
            "authoritative servers that do not answer are passed over"
        );
        Ok(Propagation { silent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::TXT;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn server() -> NameServer {
        NameServer { name: name("ns1.test."), addresses: Vec::new() }
    }

    #[test]
    fn a_server_shows_what_one_way_to_it_shows_and_none_denies() {
        let (v4, v6): (SocketAddr, SocketAddr) =
            ("10.0.0.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap());
        let gone = || Err("no route".to_owned());
        for (ways, says) in [
            (vec![(v4, Ok(true)), (v6, Ok(true))], Says::Shown),
            (vec![(v4, Ok(true)), (v6, gone())], Says::Shown),
            (vec![(v4, Ok(true)), (v6, Ok(false))], Says::Lacking("ns1.test ([fd00::1]:53)".to_owned())),
            (vec![(v4, gone()), (v6, Ok(false))], Says::Lacking("ns1.test ([fd00::1]:53)".to_owned())),
            (
                vec![(v4, gone()), (v6, gone())],
                Says::Nothing("ns1.test (10.0.0.1:53: no route, [fd00::1]:53: no route)".to_owned()),
            ),
            (vec![], Says::Nothing("ns1.test (it has no address)".to_owned())),
        ] {
            assert_eq!(one(&server(), &ways), says, "{ways:?}");
        }
    }

    #[test]
    fn the_last_word_of_each_server_decides() {
        let lacking = || Says::Lacking("ns2".to_owned());
        let silent = || Says::Nothing("ns2".to_owned());
        let place = Place { name: name("a.test."), zone: name("test."), servers: Vec::new() };
        let provider = DnsProviderName::parse("home").unwrap();
        let outcome = |rounds: Vec<Vec<Says>>| {
            let mut words = LastWords::default();
            rounds.into_iter().for_each(|round| words.hear(round));
            if words.are_all_shown() {
                return "shown".to_owned();
            }
            match words.at_last(&provider, &place, Duration::from_secs(9)) {
                Ok(told) => format!("passed over {}", told.silent.join(" ")),
                Err(error) => error.to_string(),
            }
        };
        let fails = |told: &str| {
            format!(
                "a.test is not at all authoritative servers of test after 9s (dns_providers.home): {told}"
            )
        };
        for (rounds, says) in [
            (vec![vec![Says::Shown, Says::Shown]], "shown".to_owned()),
            (vec![vec![Says::Shown, lacking()], vec![Says::Shown, Says::Shown]], "shown".to_owned()),
            (vec![vec![Says::Shown, Says::Shown], vec![Says::Shown, silent()]], "shown".to_owned()),
            (vec![vec![Says::Shown, silent()]], "passed over ns2".to_owned()),
            (vec![vec![Says::Shown, lacking()]], fails("missing at ns2")),
            (vec![vec![Says::Shown, lacking()], vec![Says::Shown, silent()]], fails("missing at ns2")),
            (vec![vec![Says::Shown, Says::Shown], vec![Says::Shown, lacking()]], fails("missing at ns2")),
            (vec![vec![silent(), silent()]], fails("no answer from ns2, ns2")),
            (vec![vec![silent(), lacking()]], fails("missing at ns2; no answer from ns2")),
        ] {
            assert_eq!(outcome(rounds.clone()), says, "{rounds:?}");
        }
    }

    #[test]
    fn all_texts_are_wanted_in_whatever_pieces() {
        let mut answer = Message::query();
        let mut add = |of: &str, text: &[&str]| {
            let text = TXT::new(text.iter().map(ToString::to_string).collect());
            answer.add_answer(Record::from_rdata(name(of), 60, RData::TXT(text)));
        };
        add("A.test.", &["one"]);
        add("a.test.", &["tw", "o"]);
        add("b.test.", &["three"]);
        for (texts, is_shown) in [
            (vec!["one"], true),
            (vec!["two", "one"], true),
            (vec!["one", "three"], false),
            (vec!["on"], false),
            (vec!["tw"], false),
        ] {
            let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            assert_eq!(shows(&answer, &name("a.test."), &texts), is_shown, "{texts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_leave_time_for_a_last_round() {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(20);
        let (mut pause, mut at) = (PAUSE_FIRST, Vec::new());
        while let Some(longer) = rest(pause, deadline).await {
            pause = longer;
            at.push(began.elapsed().as_millis());
        }
        assert_eq!(at, [250, 750, 1_750, 3_750, 7_750, 12_750, 17_750, 19_750]);
    }
}

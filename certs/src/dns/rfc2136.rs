//! Dynamic updates (RFC 2136), signed with a shared key (TSIG, RFC 8945).

use super::ask::{ANSWER_TIMEOUT, By, ask, by_tcp, rcode};
use super::error::{AskError, DnsError};
use super::lookup::{CHAIN_MAX, Lookup, own_target, target_of, told, zone_in};
use super::{Change, FIND_TIMEOUT, TTL};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::{DnsProviderName, HostName, Tsig, TsigAlgorithm};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm as Algorithm, TsigError};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout};

/// How far the clocks of both sides may differ, in seconds: as RFC 8945 §10 recommends.
const FUDGE: u16 = 300;

/// Changes records at one primary server.
pub(super) struct Updates {
    provider: DnsProviderName,
    server: SocketAddr,
    zone: Option<Name>,
    signer: Option<TSigner>,
}

/// What the server itself says of a name.
enum Kept {
    /// It has the zone.
    InZone(Name),
    /// The name is an alias.
    As(Name),
    /// It does not say: not its zone, or it does not answer questions.
    Unknown,
}

impl Updates {
    /// # Errors
    /// The zone or the key cannot be used.
    pub(super) fn new(
        provider: DnsProviderName,
        server: SocketAddr,
        zone: Option<&HostName>,
        tsig: Option<&Tsig>,
    ) -> Result<Self, DnsError> {
        let unusable = |key, reason: String| DnsError::Unusable { provider: provider.clone(), key, reason };
        let zone = zone.map(absolute).transpose().map_err(|reason| unusable("zone", reason))?;
        let signer = tsig.map(signer).transpose().map_err(|reason| unusable("tsig", reason))?;
        Ok(Self { provider, server, zone, signer })
    }

    /// Adds or deletes one TXT record, at the end of the CNAMEs of the name. Adding one that is there and deleting one
    /// that is not are done as well (RFC 2136 §3.4.2).
    ///
    /// # Errors
    /// The place is not found, the server does not do it, or does not prove that it did.
    pub(super) async fn change(
        &self,
        lookup: &Lookup,
        name: &Name,
        text: &str,
        change: Change,
    ) -> Result<(), DnsError> {
        let (name, zone) = self.place(lookup, name).await?;
        if !zone.zone_of(&name) {
            let (name, zone) = (told(&name), told(&zone));
            return Err(DnsError::OutsideZone { provider: self.provider.clone(), name, zone });
        }
        self.send(update(&name, &zone, text, change), &name, &zone).await
    }

    /// Where the record is to be written, and in which zone.
    ///
    /// The server is asked first, since it may have what the rest of the world does not see; for the CNAMEs in zones of
    /// others, the resolvers and the servers of these zones.
    async fn place(&self, lookup: &Lookup, name: &Name) -> Result<(Name, Name), DnsError> {
        let mut at = name.clone();
        for _ in 0..=CHAIN_MAX {
            match self.kept(&at).await? {
                Kept::InZone(zone) => return Ok((at, self.zone.clone().unwrap_or(zone))),
                Kept::As(target) => at = target,
                Kept::Unknown => {
                    let place = lookup.place(&at, FIND_TIMEOUT).await?;
                    return Ok((place.name, self.zone.clone().unwrap_or(place.zone)));
                }
            }
        }
        Err(DnsError::Chain { provider: self.provider.clone(), name: told(name), steps: CHAIN_MAX })
    }

    async fn kept(&self, name: &Name) -> Result<Kept, DnsError> {
        match self.ask_for(name).await {
            Ok(kept) => Ok(kept),
            Err(AskError::Lame | AskError::Refused(_)) => Ok(Kept::Unknown),
            Err(error) => Err(self.unreachable(name, error)),
        }
    }

    async fn ask_for(&self, name: &Name) -> Result<Kept, AskError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut at = name.clone();
        while !at.is_root() {
            let answer = ask(self.server, &at, RecordType::SOA, By::OwnZones, deadline).await?;
            if target_of(&answer, &at).is_none() {
                let zone = zone_in(&answer.answers, name).or_else(|| zone_in(&answer.authorities, name));
                return Ok(zone.map_or(Kept::Unknown, Kept::InZone));
            }
            if at == *name
                && let Some(target) = own_target(self.server, &answer, name, deadline).await?
            {
                return Ok(Kept::As(target));
            }
            // Behind a CNAME an answer names the zone of its target: what is above tells the name's own.
            at = at.base_name();
        }
        Ok(Kept::Unknown)
    }

    async fn send(&self, mut update: Message, name: &Name, zone: &Name) -> Result<(), DnsError> {
        let unproven = |reason: String| self.unproven(name, reason);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let verifier = match &self.signer {
            Some(signer) => update.finalize(signer, now).map_err(|error| unproven(error.to_string()))?,
            None => None,
        };
        let bytes = update.to_vec().map_err(|error| unproven(error.to_string()))?;
        // By TCP at once: an update whose answer gets lost would be sent again without knowing what became of it, and
        // over TCP nobody else can answer. Every server takes TCP (RFC 7766 §5).
        let answered = timeout(ANSWER_TIMEOUT, by_tcp(self.server, &bytes)).await;
        let bytes = answered.unwrap_or(Err(AskError::Silent(ANSWER_TIMEOUT)));
        let bytes = bytes.map_err(|error| self.unreachable(name, error))?;
        // Before anything is verified: the verifier counts on a message that can be read.
        let unreadable = |reason: String| self.unreachable(name, AskError::Unreadable(reason));
        let answer = Message::from_vec(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if answer.id != update.id || answer.message_type != MessageType::Response {
            return Err(unreadable("it is about something else".to_owned()));
        }
        // A refusal counts without a signature: a server that does not know the key cannot sign it (RFC 8945 §5.3.2).
        if answer.response_code != ResponseCode::NoError {
            return Err(self.refused(&answer, name, zone));
        }
        verifier.map_or(Ok(()), |verifier| verify(verifier, &answer, &bytes)).map_err(unproven)
    }

    fn refused(&self, answer: &Message, name: &Name, zone: &Name) -> DnsError {
        let error = answer.signature().and_then(|signature| signature.data.error);
        DnsError::Refused {
            provider: self.provider.clone(),
            server: self.server,
            name: told(name),
            zone: told(zone),
            reason: reason(answer.response_code, error),
        }
    }

    fn unreachable(&self, name: &Name, source: AskError) -> DnsError {
        DnsError::Unreachable {
            provider: self.provider.clone(),
            server: self.server,
            name: told(name),
            source,
        }
    }

    fn unproven(&self, name: &Name, reason: String) -> DnsError {
        DnsError::Unproven { provider: self.provider.clone(), server: self.server, name: told(name), reason }
    }
}

fn absolute(name: &HostName) -> Result<Name, String> {
    Name::from_ascii(format!("{name}.")).map_err(|error| error.to_string())
}

fn signer(tsig: &Tsig) -> Result<TSigner, String> {
    // Without what the decoder says of it: that would show a piece of the secret.
    let key = STANDARD.decode(tsig.secret.reveal()).map_err(|_| "its secret is not base64".to_owned())?;
    let algorithm = match tsig.algorithm {
        TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
    };
    // The key's name is signed in lower case (RFC 8945 §4.3.3), as a host name already is.
    TSigner::new(key, algorithm, absolute(&tsig.key_name)?, FUDGE).map_err(|error| error.to_string())
}

/// RFC 2136 §2: the zone stands where the question does, the changes where the authority does.
fn update(name: &Name, zone: &Name, text: &str, change: Change) -> Message {
    let mut update = Message::query();
    update.metadata.op_code = OpCode::Update;
    update.metadata.recursion_desired = false;
    update.add_query(Query::query(zone.clone(), RecordType::SOA));
    let mut record = Record::from_rdata(name.clone(), TTL, RData::TXT(TXT::new(vec![text.to_owned()])));
    if change == Change::Clear {
        // §2.5.4: this one record of the name, and none of the others.
        record.dns_class = DNSClass::NONE;
        record.ttl = 0;
    }
    update.add_authority(record);
    update
}

/// Whether the answer is signed with our key, for our question, and now.
fn verify(mut verifier: TSigVerifier, answer: &Message, bytes: &[u8]) -> Result<(), String> {
    let signature = &answer.signature().ok_or("it has no signature")?.data;
    // The verifier subtracts one from the other.
    if signature.time < u64::from(signature.fudge) {
        return Err("it is signed at no possible time".to_owned());
    }
    verifier.verify(bytes).map(|_| ()).map_err(|error| error.to_string())
}

/// What a refusal means, and what to do.
fn reason(code: ResponseCode, tsig: Option<TsigError>) -> String {
    let (tsig, hint) = match (code, tsig) {
        (_, Some(TsigError::BadKey)) => (
            " (BADKEY)",
            "it knows no key of this name and algorithm: compare tsig.key_name and tsig.algorithm",
        ),
        (_, Some(TsigError::BadSig)) => {
            (" (BADSIG)", "it has another secret for this key: compare tsig.secret")
        }
        (_, Some(TsigError::BadTime)) => {
            (" (BADTIME)", "its clock and this one differ by more than 5 minutes")
        }
        (ResponseCode::NotAuth, _) => {
            ("", "it is not the primary server of this zone: compare server and zone")
        }
        (ResponseCode::NotZone, _) => {
            ("", "the name is not in this zone: set the right one, or leave it out")
        }
        (ResponseCode::Refused, _) => {
            ("", "its policy (in BIND `update-policy`) does not let this key change TXT records of this name")
        }
        (ResponseCode::NotImp, _) => ("", "it takes no updates, or not for this zone"),
        (ResponseCode::ServFail, _) => ("", "its log tells why; often it may not write the zone's files"),
        _ => ("", "its log tells why"),
    };
    format!("{}{tsig}; {hint}", rcode(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Secret;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn key(secret: &str) -> Tsig {
        Tsig {
            key_name: HostName::parse("usher").unwrap(),
            secret: Secret::new(secret.to_owned()),
            algorithm: TsigAlgorithm::HmacSha256,
        }
    }

    #[test]
    fn one_record_is_added_or_deleted_and_no_other() {
        let add = update(&name("a.lab.test."), &name("lab.test."), "text", Change::Present);
        let clear = update(&name("a.lab.test."), &name("lab.test."), "text", Change::Clear);
        for update in [&add, &clear] {
            let read = Message::from_vec(&update.to_vec().unwrap()).unwrap();
            assert_eq!(read.op_code, OpCode::Update);
            assert_eq!(read.queries, [Query::query(name("lab.test."), RecordType::SOA)]);
            assert!(read.answers.is_empty(), "no prerequisite");
            assert_eq!(read.authorities.len(), 1);
            assert_eq!(read.authorities[0].data, RData::TXT(TXT::new(vec!["text".to_owned()])));
        }
        assert_eq!((add.authorities[0].dns_class, add.authorities[0].ttl), (DNSClass::IN, 60));
        assert_eq!((clear.authorities[0].dns_class, clear.authorities[0].ttl), (DNSClass::NONE, 0));
    }

    #[test]
    fn an_answer_must_be_signed_with_the_same_key_for_the_same_question() {
        let signer = |secret| signer(&key(secret)).unwrap();
        let (ours, others) = (signer("b3Vycw=="), signer("b3RoZXJz"));
        let now = 1_700_000_000;
        let signed = |signer: &TSigner| {
            let mut update = update(&name("a.test."), &name("test."), "text", Change::Present);
            let verifier = update.finalize(signer, now).unwrap().unwrap();
            (update, verifier)
        };
        let answer = |by: &TSigner, to: &Message, at: u64| {
            let mut answer = Message::response(to.id, OpCode::Update);
            let mac = to.signature().unwrap().data.mac.clone();
            let bytes = answer.to_vec().unwrap();
            let context = hickory_proto::rr::TSigResponseContext::new(to.id, at, by.clone(), mac, None);
            answer.set_signature(context.sign(&bytes).unwrap());
            answer
        };
        let verified = |verifier, answer: &Message| {
            let bytes = answer.to_vec().unwrap();
            verify(verifier, &Message::from_vec(&bytes).unwrap(), &bytes)
        };
        let (update, verifier) = signed(&ours);
        assert_eq!(verified(verifier, &answer(&ours, &update, now)), Ok(()));
        let (update, verifier) = signed(&ours);
        assert!(verified(verifier, &answer(&others, &update, now)).is_err(), "another key");
        let (update, verifier) = signed(&ours);
        assert!(verified(verifier, &answer(&ours, &update, now + 600)).is_err(), "another time");
        let (update, verifier) = signed(&ours);
        assert!(verified(verifier, &answer(&ours, &update, 1)).is_err(), "before all times");
        let (other, _) = signed(&others);
        let (_, verifier) = signed(&ours);
        assert!(verified(verifier, &answer(&ours, &other, now)).is_err(), "another question");
        let (update, verifier) = signed(&ours);
        let unsigned = Message::response(update.id, OpCode::Update);
        assert_eq!(verified(verifier, &unsigned), Err("it has no signature".to_owned()));
    }

    #[test]
    fn a_bad_secret_is_not_shown() {
        let updates = |secret| {
            let provider = DnsProviderName::parse("home").unwrap();
            Updates::new(provider, "127.0.0.1:53".parse().unwrap(), None, Some(&key(secret)))
        };
        assert!(updates("c2VjcmV0").is_ok());
        let told = updates("geheim!").err().unwrap();
        assert_eq!(told.to_string(), "dns_providers.home.tsig cannot be used: its secret is not base64");
        assert!(!format!("{told:?}").contains("geheim"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, tsig, says) in [
            (ResponseCode::NotAuth, Some(TsigError::BadKey), "NOTAUTH (BADKEY)"),
            (ResponseCode::NotAuth, Some(TsigError::BadSig), "NOTAUTH (BADSIG)"),
            (ResponseCode::NotAuth, Some(TsigError::BadTime), "NOTAUTH (BADTIME)"),
            (ResponseCode::NotAuth, None, "NOTAUTH"),
            (ResponseCode::Refused, None, "REFUSED"),
            (ResponseCode::YXDomain, None, "YXDOMAIN"),
        ] {
            let told = reason(code, tsig);
            let (code, hint) = told.split_once("; ").unwrap();
            assert_eq!(code, says);
            assert!(!hint.is_empty());
        }
    }
}

//! One line, put together where something happens.

use super::field::SCHEMA;
use super::{By, Event, Field, Outcome, Reason};
use crate::access::authenticate::Caller;
use crate::own::Asked;
use config::{Label, WorkspaceId};
use control::{CauseCode, Ended, IdentityRef, Session, SessionRef, Token};
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::net::IpAddr;
use std::time::SystemTime;

/// The longest text of a line, in bytes: what comes from clients and providers is cut.
const TEXT_MAX: usize = 256;

/// What is said where a login was by none of the providers.
const DEVELOPMENT: &str = "development";

/// A line of the trail. What it was not told it does not say.
#[derive(Debug, Clone)]
pub struct Entry {
    at: SystemTime,
    event: Event,
    outcome: Outcome,
    by: By,
    reason: Option<Reason>,
    /// In the order of [`Field::ALL`].
    fields: [Option<Box<str>>; Field::ALL.len()],
}

impl Entry {
    /// It was done, by a person unless [`Entry::by`] says otherwise.
    pub fn done(event: Event) -> Self {
        Self::new(event, Outcome::Done, None)
    }

    /// Somebody may not, or what they brought is not to be believed.
    pub fn refused(event: Event, reason: Reason) -> Self {
        Self::new(event, Outcome::Refused, Some(reason))
    }

    /// It could not be done.
    pub fn failed(event: Event, reason: Reason) -> Self {
        Self::new(event, Outcome::Failed, Some(reason))
    }

    fn new(event: Event, outcome: Outcome, reason: Option<Reason>) -> Self {
        Self { at: SystemTime::now(), event, outcome, by: By::Person, reason, fields: Default::default() }
    }

    /// What happened.
    pub fn event(&self) -> Event {
        self.event
    }

    /// How it went.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether it is a refusal that no other limit bounds but that of requests.
    pub(super) fn is_by_strangers(&self) -> bool {
        let event = matches!(self.event, Event::Ticket | Event::ProviderLogout | Event::SignOut);
        event && self.outcome == Outcome::Refused
    }

    /// As it is, but it could not be done.
    pub fn but_failed(self, reason: Reason) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason), ..self }
    }

    /// For what is done in several ways.
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// What kind of somebody did it.
    pub fn by(self, by: By) -> Self {
        Self { by, ..self }
    }

    /// In which request.
    pub fn asked(self, asked: &Asked) -> Self {
        self.at(asked.connection.client.ip(), &asked.request_id)
    }

    /// In which request, and from where.
    pub fn at(self, address: IpAddr, request_id: &str) -> Self {
        self.with(Field::Address, &address.to_string()).with(Field::RequestId, request_id)
    }

    /// Who did it, with which session or token.
    pub fn caller(self, caller: &Caller) -> Self {
        let entry = self.actor(caller.session.identity(), Some(&caller.session.label));
        match &caller.bearer {
            None => entry.session(caller.id.reference()),
            Some(bearer) => entry.maybe(Field::Token, bearer.token.map(|token| token.to_string()).as_deref()),
        }
    }

    /// Who did it, with this token.
    pub fn by_token(self, token: &Token) -> Self {
        self.actor(token.session.identity(), Some(&token.session.label)).token(token)
    }

    /// About which token.
    pub fn token(self, token: &Token) -> Self {
        self.with(Field::Token, &token.reference.to_string())
    }

    /// To which token, and so to whose, it was done.
    pub fn to_token(self, token: &Token) -> Self {
        let session = &token.session;
        self.subject(session.identity()).subject_label(session.label.as_str()).token(token)
    }

    /// Who did it.
    pub fn actor(self, IdentityRef { issuer, subject }: IdentityRef<'_>, label: Option<&Label>) -> Self {
        let entry = self.with(Field::ActorIss, issuer).with(Field::ActorSub, subject);
        entry.maybe(Field::ActorLabel, label.map(Label::as_str))
    }

    /// To whom, or to whose, it was done.
    pub fn subject(self, IdentityRef { issuer, subject }: IdentityRef<'_>) -> Self {
        self.with(Field::SubjectIss, issuer).with(Field::SubjectSub, subject)
    }

    /// The same by the label.
    pub fn subject_label(self, label: &str) -> Self {
        self.with(Field::SubjectLabel, label)
    }

    /// Which session.
    pub fn session(self, session: SessionRef) -> Self {
        self.with(Field::Session, &session.short())
    }

    /// To which session, and so to whom, it was done.
    pub fn to_session(self, reference: SessionRef, session: &Session) -> Self {
        let entry = self.subject(session.identity()).subject_label(session.label.as_str());
        entry.session(reference).provider(session.provider())
    }

    /// The same of one that has ended.
    pub fn to_ended(self, ended: &Ended) -> Self {
        self.to_session(ended.reference, &ended.session)
    }

    /// With what browser.
    pub fn agent(self, family: &str) -> Self {
        self.with(Field::Agent, family)
    }

    /// By which provider; none = the development login.
    pub fn provider(self, name: Option<&str>) -> Self {
        self.with(Field::Provider, name.unwrap_or(DEVELOPMENT))
    }

    /// About which workspace.
    pub fn workspace(self, id: &WorkspaceId) -> Self {
        self.with(Field::Workspace, &id.to_string())
    }

    /// Why a workspace failed.
    pub fn cause(self, cause: CauseCode) -> Self {
        self.with(Field::Cause, cause.as_str())
    }

    fn maybe(self, field: Field, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.with(field, text),
            None => self,
        }
    }

    fn with(mut self, field: Field, text: &str) -> Self {
        self.fields[field as usize] = Some(bounded(text));
        self
    }

    fn time(&self) -> String {
        let time = Timestamp::try_from(self.at).unwrap_or_default();
        format!("{time:.3}")
    }

    /// Writes it to the log, as the event `audit` with the target `usher::audit`.
    pub(super) fn log(&self) {
        let field = |field: Field| self.fields[field as usize].as_deref();
        tracing::info!(
            target: "usher::audit",
            time = self.time(),
            schema = SCHEMA,
            event = self.event.row().name,
            outcome = self.outcome.as_str(),
            by = self.by.as_str(),
            reason = self.reason.map(Reason::as_str),
            cause = field(Field::Cause),
            actor.iss = field(Field::ActorIss),
            actor.sub = field(Field::ActorSub),
            actor.label = field(Field::ActorLabel),
            subject.iss = field(Field::SubjectIss),
            subject.sub = field(Field::SubjectSub),
            subject.label = field(Field::SubjectLabel),
            session = field(Field::Session),
            address = field(Field::Address),
            agent = field(Field::Agent),
            request_id = field(Field::RequestId),
            workspace = field(Field::Workspace),
            provider = field(Field::Provider),
            token = field(Field::Token),
            "audit"
        );
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time())?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("event", self.event.row().name)?;
        map.serialize_entry("outcome", self.outcome.as_str())?;
        map.serialize_entry("by", self.by.as_str())?;
        if let Some(reason) = self.reason {
            map.serialize_entry("reason", reason.as_str())?;
        }
        for (field, text) in Field::ALL.iter().zip(&self.fields) {
            if let Some(text) = text {
                map.serialize_entry(field.name(), text)?;
            }
        }
        map.end()
    }
}

/// A text as it may stand in a line: without control characters, and cut at a character.
fn bounded(text: &str) -> Box<str> {
    let mut text: String = text
        .chars()
        .take(TEXT_MAX)
        .map(|c| if is_visible(c) { c } else { char::REPLACEMENT_CHARACTER })
        .collect();
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text.into_boxed_str()
}

/// Not what moves a terminal's cursor, ends a line, or turns the order of reading around.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry() -> Entry {
        let who = IdentityRef { issuer: "https://id.example", subject: "a\"b\nc\u{202e}d" };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        let entry = Entry::refused(Event::Login, Reason::NotAdmitted).at([192, 0, 2, 1].into(), "r-1");
        Entry { at, ..entry.actor(who, None).provider(None) }
    }

    #[test]
    fn a_line_says_what_it_was_told_in_order_and_nothing_else() {
        assert_eq!(
            serde_json::to_string(&entry()).unwrap(),
            "{\"time\":\"2023-11-14T22:13:20.007Z\",\"schema\":1,\"event\":\"login\",\"outcome\":\"refused\",\
             \"by\":\"person\",\"reason\":\"not_admitted\",\"actor.iss\":\"https://id.example\",\
             \"actor.sub\":\"a\\\"b\u{fffd}c\u{fffd}d\",\"address\":\"192.0.2.1\",\"request_id\":\"r-1\",\
             \"provider\":\"development\"}"
        );
    }

    #[test]
    fn what_comes_from_elsewhere_is_cut() {
        for text in ["x", "\u{20ac}", "\u{1}", "\u{1f600}"] {
            let length = bounded(&text.repeat(9000)).len();
            assert!(length <= TEXT_MAX && length > TEXT_MAX - 4, "{length}");
        }
    }
}

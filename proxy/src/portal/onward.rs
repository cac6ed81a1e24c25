//! Where a login leads: an address that these listeners serve, through a hand-off where it needs one.

use super::{answer, awaiting};
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::access::route::Place;
use crate::edge::{Edge, ListenerFacts};
use crate::handoff::{self, Address, Attempt, Ticket};
use crate::own::Asked;
use crate::page::escape;
use crate::refusal::Code;
use axum::response::Response;
use config::Config;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a login leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Onward {
    /// The page; none = the dashboard.
    to: Option<Address>,
    /// The hand-off that the page's host has begun.
    attempt: Option<Attempt>,
    /// Whether the hand-off is begun for the second time.
    again: bool,
    /// Since when the page is shown that waits for the host's certificate, as that page says.
    since: Option<SystemTime>,
}

impl Onward {
    /// Reads the query of `/login`; an address that is not ours counts as none.
    pub(super) fn parse(config: &Config, listener: &ListenerFacts, query: &str) -> Self {
        let mut onward = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "return" => onward.to = Address::parse(config, listener, &value),
                "attempt" => onward.attempt = Attempt::parse(&value),
                "again" => onward.again = true,
                "since" => onward.since = value.parse().ok().and_then(time),
                _ => {}
            }
        }
        onward
    }

    /// What [`Onward::parse`] reads, but for how long it has been waited; empty for the dashboard.
    pub(super) fn query(&self, listener: &ListenerFacts) -> String {
        let Some(to) = &self.to else { return String::new() };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("return", &to.url(listener));
        if let Some(attempt) = &self.attempt {
            query.append_pair("attempt", &attempt.to_text());
        }
        if self.again {
            query.append_key_only("again");
        }
        query.finish()
    }

    /// The login that leads there.
    pub(super) fn login(&self, listener: &ListenerFacts) -> String {
        match self.query(listener) {
            query if query.is_empty() => "/login".to_owned(),
            query => format!("/login?{query}"),
        }
    }

    /// What the login is for, as HTML.
    pub(super) fn purpose(&self) -> String {
        match self.to.as_ref().filter(|to| to.place != Place::Portal) {
            Some(to) => format!("Log in to go to <code>{}</code>.", escape(to.host.as_str())),
            None => "Log in to reach your workspaces.".to_owned(),
        }
    }

    /// Sends somebody who is logged in on their way.
    ///
    /// A host that is not theirs gets one page, the same whether its user exists or not, and never a ticket; that of a
    /// route that is not open to them says so. One that has no certificate yet is waited for here.
    pub(super) fn go(&self, edge: &Edge, asked: &Asked, caller: &Caller, now: SystemTime) -> Response {
        let listener = &asked.connection.listener;
        let Some(to) = &self.to else { return handoff::redirect("/", []) };
        if to.place == Place::Portal {
            return handoff::redirect(&to.url(listener), []);
        }
        let path = to.page.split('?').next().unwrap_or("/");
        let facts = || authorise::facts(&to.host, "GET", path, &asked.connection);
        match authorise::allowed(edge, &asked.config, &to.place, caller, facts) {
            Ok(_) => {}
            Err(refusal) if refusal.code == Code::NotFound => return answer::no_such_workspace(asked),
            Err(refusal) => return answer::refuse(asked, &refusal),
        }
        if !awaiting::is_open(edge, listener, to.host.as_str()) {
            let here = self.login(listener);
            return match self.since {
                // By an address of its own: the page that waits is loaded again and again.
                None => handoff::redirect(&format!("{here}&since={}", awaiting::unix(now)), []),
                Some(since) => awaiting::page(edge, asked, caller, to, (&here, since), now),
            };
        }
        // Without an attempt nobody would hold its cookie: the host itself begins one.
        let Some(attempt) = self.attempt else { return handoff::redirect(&to.url(listener), []) };
        let ticket =
            Ticket::new(caller.id, attempt, to.page.clone(), self.again, now).seal(&edge.keys, &to.host);
        let enter = format!("{}{}", listener.origin(to.host.as_str()), handoff::PATH);
        handoff::redirect(&handoff::with_query(&enter, &[("ticket", &ticket)]), [])
    }
}

/// The time of UNIX seconds, if there is such a time.
fn time(unix: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(unix))
}

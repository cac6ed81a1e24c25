//! `/.usher/enter`: the workspace host's side of a hand-off.
//!
//! Open to everybody, since nobody has a session here yet: what proves who calls is the ticket together with
//! the attempt's cookie. `access/isolate.rs` lets only navigations of tabs come this far.

use super::{Address, Attempt, Kind, Ticket, pages, redirect, start};
use crate::access::authenticate::{self, Caller};
use crate::access::authorise;
use crate::access::route::Place;
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::own::Asked;
use crate::refusal::{self, Code, Refusal};
use crate::session_cookie::{self, Presented};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// The endpoint, as a router with the one path `/`: to be nested at [`handoff::PATH`].
pub fn enter_routes(edge: Arc<Edge>) -> axum::Router {
    // A HEAD would reach the handler of GET, and nothing that only looks at a link may spend its ticket.
    axum::Router::new().route("/", get(enter).head(not_allowed).fallback(not_allowed)).with_state(edge)
}

/// What a request to the endpoint asks for. Its first parameter decides.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// `return=PAGE`, with `again` if it is the second time.
    Begin { page: String, again: bool },
    /// `ticket=…`
    Redeem { ticket: String },
    /// `done=PAGE`
    Done { page: String },
}

impl Step {
    fn parse(query: &str) -> Self {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        match pairs.next() {
            Some((key, ticket)) if key == "ticket" => Self::Redeem { ticket: ticket.into_owned() },
            Some((key, page)) if key == "done" => Self::Done { page: page.into_owned() },
            Some((key, page)) if key == "return" => {
                Self::Begin { page: page.into_owned(), again: pairs.any(|(key, _)| key == "again") }
            }
            _ => Self::Begin { page: "/".to_owned(), again: false },
        }
    }
}

async fn not_allowed(Extension(asked): Extension<Asked>) -> Response {
    refusal::answer(&Refusal::new(Code::MethodNotAllowed), &asked.reader()).map(axum::body::Body::from)
}

async fn enter(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let now = SystemTime::now();
    match Step::parse(uri.query().unwrap_or_default()) {
        Step::Begin { page, again } => begin(&asked, &page, again, &headers, now),
        Step::Redeem { ticket } => redeem(&edge, &asked, &ticket, &headers, now).await,
        Step::Done { page } => done(&asked, &page),
    }
}

fn begin(asked: &Asked, page: &str, again: bool, headers: &HeaderMap, now: SystemTime) -> Response {
    let listener = &asked.connection.listener;
    // Plain http on a name that browsers do not trust: the cookie would be dropped, so do not start.
    let Some(page) = on_this_host(asked, page) else { return pages::cookie_dropped(asked, &start("/")) };
    if asked.own.caller.is_some() {
        return redirect(&page.url(listener), []);
    }
    let (attempt, cookies) = Attempt::begin(Kind::Enter, headers, now);
    let login = handoff::login_to_hand_off(&asked.config, listener, &page.url(listener), attempt, again);
    redirect(&login, cookies)
}

async fn redeem(edge: &Edge, asked: &Asked, sealed: &str, headers: &HeaderMap, now: SystemTime) -> Response {
    let Ok(ticket) = Ticket::open(&edge.keys, &asked.host, sealed.as_bytes()) else {
        return refuse(edge, asked, None, Reason::BadTicket, pages::not_handed_over(asked, "/"));
    };
    if asked.own.caller.as_ref().is_some_and(|caller| caller.id == ticket.session) {
        return go(asked, &ticket.page);
    }
    let Some(left) = ticket.left(now) else { return restart(edge, asked, &ticket, Reason::Expired) };
    // Spent by whoever shows it first, the right browser or not: a stolen one dies where it is tried.
    match edge.tickets.redeem(&ticket.id, left).await {
        Err(error) => {
            tracing::error!(error = %error, "a ticket could not be redeemed");
            edge.audit.record(told(Entry::failed(Event::Ticket, Reason::Records), asked, Some(&ticket)));
            return pages::unavailable();
        }
        Ok(false) => return restart(edge, asked, &ticket, Reason::Replayed),
        Ok(true) if !ticket.attempt.is_of(Kind::Enter, headers) => {
            return restart(edge, asked, &ticket, Reason::OtherBrowser);
        }
        Ok(true) => {}
    }
    let issued = Presented { id: ticket.session, issued: now };
    let Some(session) = authenticate::live(edge, issued).await else {
        return restart(edge, asked, &ticket, Reason::SessionOver);
    };
    let caller = Caller::in_person(ticket.session, session);
    if !may_enter(edge, asked, &caller, &ticket.page) {
        return restart(edge, asked, &ticket, Reason::NotAdmitted);
    }
    edge.audit.record(told(Entry::done(Event::WorkspaceEntered), asked, None).caller(&caller));
    let cookies = [
        session_cookie::issue(&edge.keys, &asked.own.place, &asked.host, ticket.session, now),
        ticket.attempt.end(Kind::Enter),
    ];
    redirect(&handoff::with_query(handoff::PATH, &[("done", &ticket.page)]), cookies)
}

/// What is told of a ticket on this host.
fn told(entry: Entry, asked: &Asked, ticket: Option<&Ticket>) -> Entry {
    let entry = entry.asked(asked);
    let entry = match &asked.own.place {
        Place::Workspace { id, .. } => entry.workspace(id),
        Place::Portal => entry,
    };
    match ticket {
        Some(ticket) => entry.session(ticket.session.reference()),
        None => entry,
    }
}

fn done(asked: &Asked, page: &str) -> Response {
    if asked.own.caller.is_some() { go(asked, page) } else { pages::cookie_dropped(asked, &start(page)) }
}

fn go(asked: &Asked, page: &str) -> Response {
    match on_this_host(asked, page) {
        Some(page) => redirect(&page.url(&asked.connection.listener), []),
        None => pages::cookie_dropped(asked, &start("/")),
    }
}

/// Begins the hand-off anew, silently and once: a ticket may be late or shown twice by a Back button.
fn restart(edge: &Edge, asked: &Asked, ticket: &Ticket, reason: Reason) -> Response {
    let page = if ticket.again {
        pages::not_handed_over(asked, &ticket.page)
    } else {
        redirect(&format!("{}&again", start(&ticket.page)), [ticket.attempt.end(Kind::Enter)])
    };
    refuse(edge, asked, Some(ticket), reason, page)
}

fn refuse(edge: &Edge, asked: &Asked, ticket: Option<&Ticket>, reason: Reason, page: Response) -> Response {
    edge.audit.record(told(Entry::refused(Event::Ticket, reason), asked, ticket));
    page
}

/// A page of this host; `/` for what is no page of it; `None` on a host whose cookies browsers drop.
fn on_this_host(asked: &Asked, page: &str) -> Option<Address> {
    let listener = &asked.connection.listener;
    Address::on(&asked.config, listener, &asked.host, page)
        .or_else(|| Address::on(&asked.config, listener, &asked.host, "/"))
}

/// Whether this host is theirs, or open to them. The portal looked before it made the ticket; a host hands itself to
/// nobody else, whatever a ticket says.
fn may_enter(edge: &Edge, asked: &Asked, caller: &Caller, page: &str) -> bool {
    let path = page.split('?').next().unwrap_or("/");
    let facts = || authorise::facts(&asked.host, "GET", path, &asked.connection);
    authorise::allowed(edge, &asked.config, &asked.own.place, caller, facts).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parameter_says_which_step_it_is() {
        let begin = |page: &str, again| Step::Begin { page: page.to_owned(), again };
        for (query, step) in [
            ("return=%2Flab%3Fx%3D1%26y", begin("/lab?x=1&y", false)),
            ("return=%2Flab&again", begin("/lab", true)),
            ("ticket=abc&return=%2F", Step::Redeem { ticket: "abc".to_owned() }),
            ("done=%2Flab", Step::Done { page: "/lab".to_owned() }),
            ("return=%2F&ticket=abc", begin("/", false)),
            ("", begin("/", false)),
            ("other=1", begin("/", false)),
        ] {
            assert_eq!(Step::parse(query), step, "{query}");
        }
    }
}

//! Before the portal leads to a host: whether that has a certificate, without which no browser opens it.
//!
//! With `per_host` a host gets its own when it is first known, which takes seconds, or days where a budget is used up.
//! The page waits at the portal, since on the host itself nothing can be said.

use super::{answer, fields, workspaces};
use crate::access::authenticate::Caller;
use crate::access::route::Place;
use crate::edge::{Edge, ListenerFacts};
use crate::handoff::Address;
use crate::own::Asked;
use crate::page::{Page, REFRESH_SECONDS, escape};
use axum::response::Response;
use certs::{Listed, Next};
use config::{NamePattern, WorkspaceId};
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a page looks again by itself. Getting a certificate takes some ten answers of an authority, of which each may
/// take 30 s; mostly it is seconds in all.
const LOOKS_AGAIN: Duration = Duration::from_mins(5);

/// How it stands with the certificate of a host that has none.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It is being got, or will be in a moment.
    Coming,
    /// It could not be had, and is tried for again at this time, if at any.
    Later(Option<SystemTime>),
    /// It is got once the workspace was started.
    AfterStart,
    /// Hosts of ports get none of their own.
    NotForPorts,
}

/// Whether a browser that is led there by this listener finds a certificate, so far as that is Usher's affair.
pub(super) fn is_open(edge: &Edge, listener: &ListenerFacts, host: &str) -> bool {
    !listener.tls || edge.certificates.is_none() || edge.resolver.serves(host)
}

/// The page that waits for the certificate of a host. `here` is the address that looks again, on the portal; since when
/// it has been looked.
pub(super) fn page(
    edge: &Edge,
    asked: &Asked,
    caller: &Caller,
    to: &Address,
    (here, since): (&str, SystemTime),
    now: SystemTime,
) -> Response {
    let listed = edge.certificates.as_ref().map(certs::Operations::list).unwrap_or_default();
    let is_there = |id: &WorkspaceId| edge.workspaces.lookup(id).is_some();
    let standing = standing(&listed, to, is_there, now);
    let waits = now.duration_since(since).unwrap_or_default();
    let looks_again = waits < LOOKS_AGAIN && matches!(standing, Standing::Coming | Standing::Later(_));
    let (title, lead) = words(&standing, to.host.as_str(), looks_again, now);
    let action = match (&standing, &to.place) {
        (Standing::AfterStart, Place::Workspace { id, .. }) => {
            start(id, &fields::token(&edge.keys, asked, &caller.id))
        }
        (Standing::NotForPorts, _) => {
            "<a class=\"button second\" href=\"/\">To your workspaces</a>".to_owned()
        }
        _ => format!("<a class=\"button second\" href=\"{}\">Look again</a>", escape(here)),
    };
    let body = format!(
        "<div id=\"awaiting\" role=\"status\"><h1>{title}</h1><p class=\"lead\">{lead}</p></div>\
         <div class=\"actions\">{action}</div>\
         <p class=\"small soft\">For the operator: <code>usher certs list</code> says how it stands.</p>"
    );
    let again = format!("{here}&since={}", unix(since));
    let (scripts, refresh) = match looks_again {
        true => (&["/assets/await.js"][..], Some(again.as_str())),
        false => (&[][..], None),
    };
    let page = Page { title, body: &body, scripts, refresh, ..Page::default() };
    let mut response = answer::page(asked, StatusCode::SERVICE_UNAVAILABLE, page);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(REFRESH_SECONDS));
    response
}

/// UNIX seconds.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn standing(
    listed: &[Listed],
    to: &Address,
    is_there: impl Fn(&WorkspaceId) -> bool,
    now: SystemTime,
) -> Standing {
    let host = to.host.as_str();
    let covers = |name: &String| NamePattern::parse(name).is_ok_and(|name| name.covers(host));
    let Some(meant) = listed.iter().find(|listed| listed.names.iter().any(covers)) else {
        return match &to.place {
            Place::Workspace { port: Some(_), .. } => Standing::NotForPorts,
            Place::Workspace { id: id @ WorkspaceId::Own { name: Some(_), .. }, .. } if !is_there(id) => {
                Standing::AfterStart
            }
            // It became known in this very moment.
            Place::Workspace { .. } | Place::Portal => Standing::Coming,
        };
    };
    match meant.next {
        Some(Next::UnderWay) => Standing::Coming,
        Some(Next::At(at)) => match UNIX_EPOCH + Duration::from_secs(at) {
            at if at <= now => Standing::Coming,
            at => Standing::Later(Some(at)),
        },
        None => Standing::Later(None),
    }
}

/// Title and lead; the lead is HTML.
fn words(standing: &Standing, host: &str, looks_again: bool, now: SystemTime) -> (&'static str, String) {
    let host = format!("<code>{}</code>", escape(host));
    let by_itself = if looks_again { " This page goes on by itself." } else { "" };
    match standing {
        Standing::Coming if looks_again => (
            "A certificate is on its way",
            format!(
                "{host} is new, and browsers open it only with a certificate. It takes some seconds.{by_itself}"
            ),
        ),
        Standing::Coming => (
            "The certificate takes longer than it should",
            format!(
                "There is none for {host} yet, and browsers do not open it without. Look again later, or tell whoever runs this site."
            ),
        ),
        Standing::Later(at) => {
            let left = at.and_then(|at| at.duration_since(now).ok()).map(workspaces::in_words);
            let again = left.map(|left| format!(" It is tried again in {left}.")).unwrap_or_default();
            (
                "There is no certificate yet",
                format!(
                    "Browsers do not open {host} without one, and it could not be had so far.{again}{by_itself} \
                     If it is not to wait, tell whoever runs this site."
                ),
            )
        }
        Standing::AfterStart => (
            "Start it first",
            format!("{host} gets a certificate once it was started, and browsers open it only with one."),
        ),
        Standing::NotForPorts => (
            "This port cannot be opened here",
            format!(
                "{host} has no certificate: here each workspace has its own, and its ports have none. \
                 Whoever runs this site can have one for all (<code>*.domain</code>, by <code>dns-01</code>)."
            ),
        ),
    }
}

fn start(id: &WorkspaceId, token: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/api/v1/workspaces/{id}/start\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{token}\"><button>Start</button></form>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::HostName;

    fn to(host: &str, id: &str, port: Option<u16>) -> Address {
        let place = Place::Workspace { id: WorkspaceId::parse(id).unwrap(), port };
        Address { host: HostName::parse(host).unwrap(), place, page: "/".to_owned() }
    }

    fn listed(names: &[&str], next: Option<Next>) -> Listed {
        Listed {
            id: "people--alice.lab.test".to_owned(),
            source: "acme".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            served: None,
            next,
            failures: vec![],
        }
    }

    #[test]
    fn it_is_told_how_it_stands_with_the_certificate_of_a_host() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let alice = to("alice.lab.test", "alice", None);
        let gpu = to("gpu--alice.lab.test", "gpu--alice", None);
        let port = to("8888--alice.lab.test", "alice", Some(8888));
        let later = |seconds| Standing::Later(Some(UNIX_EPOCH + Duration::from_secs(seconds)));
        let of = |names: &[&str], next| vec![listed(names, next)];
        for (all, to, there, expected) in [
            (of(&["alice.lab.test"], Some(Next::UnderWay)), &alice, true, Standing::Coming),
            (of(&["alice.lab.test"], Some(Next::At(0))), &alice, true, Standing::Coming),
            (of(&["alice.lab.test"], Some(Next::At(1060))), &alice, true, later(1060)),
            (of(&["lab.test", "*.lab.test"], Some(Next::At(1060))), &port, true, later(1060)),
            (of(&["alice.lab.test"], None), &alice, true, Standing::Later(None)),
            (of(&["bob.lab.test"], Some(Next::At(1060))), &alice, true, Standing::Coming),
            (of(&["bob.lab.test"], None), &gpu, false, Standing::AfterStart),
            (of(&["bob.lab.test"], None), &gpu, true, Standing::Coming),
            (of(&["alice.lab.test"], Some(Next::UnderWay)), &port, true, Standing::NotForPorts),
        ] {
            assert_eq!(standing(&all, to, |_| there, now), expected, "{} of {all:?}", to.host);
        }
    }

    #[test]
    fn a_page_that_goes_on_by_itself_says_so_and_one_that_does_not_says_what_to_do() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let (later, week) = (now + Duration::from_secs(150), now + Duration::from_hours(7 * 24));
        for (standing, looks_again, said) in [
            (Standing::Coming, true, "goes on by itself"),
            (Standing::Coming, false, "tell whoever runs this site"),
            (Standing::Later(Some(later)), true, "again in 2 min. This page goes on by itself."),
            (Standing::Later(Some(week)), false, "again in 7 d. If it is not to wait"),
            (Standing::Later(None), false, "could not be had so far. If"),
        ] {
            let (_, lead) = words(&standing, "alice.lab.test", looks_again, now);
            assert!(lead.contains(said), "{standing:?}: {lead}");
            assert_eq!(lead.contains("by itself"), looks_again, "{lead}");
        }
    }
}

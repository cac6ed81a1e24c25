//! The one function that builds the head that goes upstream, and the one that filters what comes back.

pub mod names;
mod set_cookie;

use crate::access::Forward;
use crate::assertion::Told;
use crate::connection::ConnectionFacts;
use crate::cookies;
use crate::notice;
use crate::refusal::{Code, Refusal};
use crate::request::{Arrival, FIELDS_MAX, HEAD_MAX, check_body, tokens};
use config::{HostName, UserFact};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What to call the user.
const X_USHER_USER: HeaderName = HeaderName::from_static("x-usher-user");
/// The provider's name for the user.
const X_USHER_SUBJECT: HeaderName = HeaderName::from_static("x-usher-subject");
/// The user's address, if a provider has verified it.
const X_USHER_EMAIL: HeaderName = HeaderName::from_static("x-usher-email");
/// The user's groups.
const X_USHER_GROUPS: HeaderName = HeaderName::from_static("x-usher-groups");
/// What proves who asks, to a workspace that checks it ([`crate::assertion`]).
const X_USHER_ASSERTION: HeaderName = HeaderName::from_static("x-usher-assertion");
/// Longest value of a header about the user, before encoding: a name, not a story.
const USER_MAX: usize = 256;
/// Longest value of the groups, encoded: as much as an assertion has for them.
const GROUPS_MAX: usize = 3072;

/// Makes a client's head the one that goes upstream: client identity headers, our cookies, a token by which the
/// caller came, and hop-by-hop headers leave (upgrade headers stay for a WebSocket), `X-Forwarded-*` and `X-Usher-*` of ours come, and what
/// the template calls otherwise.
/// `Host` passes unmodified.
///
/// Under Pingora it belongs in `upstream_request_filter`: what is set before can be named by the client's
/// `Connection` and be taken away.
pub fn to_upstream(head: &mut RequestHeader, asked: &RequestHeader, forward: &Forward, told: Told) {
    let template = &forward.route.template;
    let user = User { told, headers: &template.headers };
    rewrite(head, &forward.arrival, user, notice::wanted(asked, template));
    if forward.permit.caller().bearer.is_some() {
        head.remove_header(&header::AUTHORIZATION);
    }
}

/// What a workspace is told of its user.
struct User<'a> {
    told: Told,
    /// Under which further names its application expects what.
    headers: &'a BTreeMap<String, UserFact>,
}

impl User<'_> {
    /// One fact, if it is known.
    fn fact(&self, fact: UserFact) -> Option<HeaderValue> {
        let known = match fact {
            UserFact::Name => &self.told.name,
            UserFact::Label => &self.told.label,
            UserFact::Subject => &self.told.subject,
            UserFact::Email => self.told.email.as_ref()?,
            UserFact::Groups => self.told.groups.as_ref()?,
        };
        Some(known.clone())
    }
}

fn rewrite(head: &mut RequestHeader, arrival: &Arrival, user: User<'_>, uncompressed: bool) {
    // `Request::parse` has refused nominations that matter.
    let nominated: HashSet<HeaderName> = nominations(&head.headers).collect();
    remove_where(head, |name| {
        is_hop_by_hop(name.as_str())
            || nominated.contains(name)
            || names::is_identity(name.as_str())
            || user.headers.keys().any(|ours| names::is(name.as_str(), ours))
    });
    cookies::strip(head);
    make_origin_form(head);
    if arrival.websocket {
        set(head, header::CONNECTION, HeaderValue::from_static("Upgrade"));
        set(head, header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let (scheme, authority) = arrival.origin.split_once("://").expect("an origin has a scheme");
    set(head, X_FORWARDED_FOR, visible(&arrival.client.to_string()));
    set(head, X_FORWARDED_PROTO, visible(scheme));
    set(head, X_FORWARDED_HOST, visible(authority));
    const OURS: [(HeaderName, UserFact); 4] = [
        (X_USHER_USER, UserFact::Name),
        (X_USHER_SUBJECT, UserFact::Subject),
        (X_USHER_EMAIL, UserFact::Email),
        (X_USHER_GROUPS, UserFact::Groups),
    ];
    let theirs = user.headers.iter().filter_map(|(name, fact)| Some((name.parse().ok()?, *fact)));
    for (name, fact) in OURS.into_iter().chain(theirs) {
        if let Some(value) = user.fact(fact) {
            set(head, name, value);
        }
    }
    set(head, X_USHER_ASSERTION, user.told.assertion);
    if uncompressed {
        // The notice's script goes into the document, and what is compressed is never changed.
        set(head, header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Takes out of a workspace's answer what it must not say: our cookies, `Set-Cookie` with a `Domain` at or above
/// the base, `Clear-Site-Data`, `Alt-Svc`, `Strict-Transport-Security`, our header names, hop-by-hop headers, `Server`.
///
/// `Transfer-Encoding` stays: it belongs to whoever frames the body (Pingora reads it again behind its filters).
/// `Service-Worker-Allowed` may stay: without a worker that the edge lets through it means nothing.
pub fn from_upstream(head: &mut ResponseHeader, base: &HostName) {
    let nominated: Vec<HeaderName> = nominations(&head.headers).filter(|name| !frames_body(name)).collect();
    for name in nominated {
        head.remove_header(&name);
    }
    let dropped: Vec<HeaderName> =
        head.headers.keys().filter(|name| is_dropped(name.as_str())).cloned().collect();
    for name in dropped {
        head.remove_header(&name);
    }
    filter_set_cookie(head, base);
}

/// Has an answer say for how long browsers shall come by https alone (RFC 6797 §6.1): the site's own word, whoever made
/// the answer, and none over cleartext.
pub fn speak_for_site(head: &mut ResponseHeader, connection: &ConnectionFacts) {
    head.remove_header(&header::STRICT_TRANSPORT_SECURITY);
    if let Some(says) = &connection.transport_security {
        head.insert_header(header::STRICT_TRANSPORT_SECURITY, says.clone()).expect("it is a header's value");
    }
}

/// What [`speak_for_site`] says over a connection with TLS; none where nothing is said.
pub fn transport_security(tls: &config::Tls) -> Option<HeaderValue> {
    let seconds = tls.hsts_max_age.as_secs();
    (seconds > 0)
        .then(|| HeaderValue::try_from(format!("max-age={seconds}")).expect("digits are a header value"))
}

/// Judges an answer before it is used: one that is too large, of no certain length, or a 101 that nobody asked for.
///
/// # Errors
/// 502; the upstream connection is not used again.
pub fn check_upstream(head: &ResponseHeader) -> Result<(), Refusal> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::with(Code::BadUpstream, "The workspace switched protocols unasked."));
    }
    let size: usize = head.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + ": \r\n".len()).sum();
    if size > HEAD_MAX || head.headers.len() > FIELDS_MAX {
        return Err(Refusal::with(Code::BadUpstream, "The head of the workspace's answer is too large."));
    }
    // Pingora reads a length from `2, 2` or `gzip, chunked`; whoever stands in front of us may read another.
    check_body(&head.headers)
        .map_err(|_| Refusal::with(Code::BadUpstream, "The workspace's answer does not say how long it is."))
}

fn is_dropped(name: &str) -> bool {
    matches!(name, "clear-site-data" | "alt-svc" | "strict-transport-security" | "server")
        || is_hop_by_hop(name)
        || names::is_ours(name)
}

fn frames_body(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING
}

fn filter_set_cookie(head: &mut ResponseHeader, base: &HostName) {
    let all: Vec<HeaderValue> = head.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    let kept: Vec<&HeaderValue> =
        all.iter().filter(|value| set_cookie::may_pass(value.as_bytes(), base)).collect();
    if kept.len() == all.len() {
        return;
    }
    head.remove_header(&header::SET_COOKIE);
    for value in kept {
        head.append_header(header::SET_COOKIE, value.clone()).expect("what came as a header is one");
    }
}

/// The headers that `Connection` names (RFC 9110 §7.6.1).
fn nominations(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    tokens(headers, &header::CONNECTION).filter_map(|token| HeaderName::from_bytes(token).ok())
}

/// For a request Pingora has taken them away before `upstream_request_filter`; a tunnel's head comes as the client sent it.
fn is_hop_by_hop(name: &str) -> bool {
    name == "connection" || names::HOP_BY_HOP.contains(&name)
}

fn remove_where(head: &mut RequestHeader, unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<HeaderName> = head.headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in found {
        head.remove_header(&name);
    }
}

/// An absolute-form target becomes the path that was judged: two readings of it cannot differ upstream.
fn make_origin_form(head: &mut RequestHeader) {
    if head.version < Version::HTTP_2 && !head.raw_path().starts_with(b"/") {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        // A path of a parsed Uri is a valid target.
        let _ = head.set_raw_path(target.as_bytes());
    }
}

fn set(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    head.insert_header(name, value).expect("a header name is a valid one");
}

/// Texts as one, between commas; commas, spaces, `%` and what is not visible ASCII percent-encoded. None where they take more
/// room than a head has for them: by a part of them an application would decide wrongly.
pub(crate) fn list(texts: &[String]) -> Option<HeaderValue> {
    let mut encoded = String::new();
    for (index, text) in texts.iter().enumerate() {
        encoded.push_str(if index == 0 { "" } else { "," });
        for byte in text.bytes() {
            match byte {
                b',' | b'%' => drop(write!(encoded, "%{byte:02X}")),
                b'!'..=b'~' => encoded.push(char::from(byte)),
                _ => drop(write!(encoded, "%{byte:02X}")),
            }
        }
    }
    (encoded.len() <= GROUPS_MAX)
        .then(|| HeaderValue::try_from(encoded).expect("visible ASCII is a header value"))
}

/// A text as visible ASCII with single inner spaces; every other byte, and `%` itself, percent-encoded.
pub(crate) fn visible(text: &str) -> HeaderValue {
    let end = text.floor_char_boundary(USER_MAX);
    let mut encoded = String::with_capacity(end);
    for byte in text[..end].trim().bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' ' if !encoded.ends_with(' ') => encoded.push(' '),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).expect("visible ASCII is a header value")
}

#[cfg(test)]
mod tests;

//! Phase 1: which place a request is for, by its host alone.

use crate::access::authenticate::Caller;
use crate::edge::Edge;
use crate::refusal::{Code, Refusal};
use crate::request::{Request, is_worker_script};
use config::{Config, HostName, Label, WorkspaceId};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a host name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Login, dashboard, API.
    Portal,
    /// A workspace's host, whether it exists is not known yet; or that of a route, which many share.
    Workspace {
        /// Which.
        id: WorkspaceId,
        /// `8888` of `8888--alice`.
        port: Option<u16>,
    },
}

impl Place {
    /// Whether one of our own endpoints answers: everything on the portal, and what stands under `/.usher/` or
    /// `/.well-known/acme-challenge/` (raw and decoded) on a workspace host. What only might stand there by some
    /// reading of the path is ours, too, so that no workspace ever answers for it.
    pub fn is_own(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Portal => true,
            Self::Workspace { .. } => is_reserved(request.path),
        }
    }

    /// Whether this asks a workspace for a service worker that its template does not allow. We answer then, with
    /// a worker that unregisters itself: a refusal would leave the old one in place, and it would see tickets.
    ///
    /// A workspace that was never started allows none, and to somebody without a session every workspace looks
    /// like one of those.
    pub fn withholds_worker(
        &self,
        edge: &Edge,
        config: &Config,
        caller: Option<&Caller>,
        request: &Request<'_>,
    ) -> bool {
        let Self::Workspace { id, .. } = self else { return false };
        let allows = || {
            let entry = edge.workspaces.lookup(id)?;
            config.template(&entry.template).map(|template| template.service_workers)
        };
        is_worker_script(&request.head.headers) && !(caller.is_some() && allows().unwrap_or(false))
    }
}

/// Which place a request is for.
///
/// # Errors
/// 421 where the host is not covered by the certificate chosen for the connection, else 404 for every host
/// that is none of ours; neither says whether a user exists.
pub fn place(edge: &Edge, config: &Config, request: &Request<'_>) -> Result<Place, Refusal> {
    let host = request.host.as_str();
    // Browsers put requests for all names of a certificate on one connection (RFC 9113 §9.1.1). One for another name
    // has no business there, and a new connection may lead it right.
    if let Some(opened_for) = &request.connection.server_name
        && opened_for != host
        && !edge.resolver.covers(opened_for, host)
    {
        return Err(Refusal::new(Code::MisdirectedRequest));
    }
    place_of(config, &request.host).ok_or_else(|| {
        let portal = request.connection.listener.origin(config.portal.as_str());
        Refusal::with(
            Code::NotFound,
            format!("Nothing is served under the name {}. The portal is {portal}/.", request.host),
        )
    })
}

/// Lets pass what came to a listener that serves it.
///
/// # Errors
/// 308 to the same by https, where the listener leads there.
pub fn served_here(request: &Request<'_>) -> Result<(), Refusal> {
    if !request.connection.listener.redirects {
        return Ok(());
    }
    let location = request.origin() + &ascii(&request.page());
    Err(Refusal { location: Some(location), ..Refusal::new(Code::HttpsNeeded) })
}

/// A target as it may stand in a URI (RFC 3986 §2.1): what is not ASCII is percent-encoded.
fn ascii(target: &str) -> String {
    let mut ascii = String::with_capacity(target.len());
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            ascii.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(ascii, "%{byte:02X}");
        }
    }
    ascii
}

/// What a host stands for; `None` for every host that is none of ours.
pub(crate) fn place_of(config: &Config, host: &HostName) -> Option<Place> {
    if *host == config.portal {
        return Some(Place::Portal);
    }
    let part = host.as_str().strip_suffix(config.domain.as_str())?.strip_suffix('.')?;
    // What the operator declares goes before any user's label: nobody is given such a label.
    if let Some((route, _)) = config.routes.get_key_value(part) {
        return Some(Place::Workspace { id: WorkspaceId::Route(route.clone()), port: None });
    }
    if let Some((front, label)) = part.split_once("--")
        && front.bytes().all(|byte| byte.is_ascii_digit())
    {
        let id = WorkspaceId::Own { label: Label::parse(label).ok()?, name: None };
        return Some(Place::Workspace { id, port: Some(port(front)?) });
    }
    // One part only: neither a label nor a name contains a dot.
    Some(Place::Workspace { id: WorkspaceId::parse(part).ok()?, port: None })
}

/// A port as it is written: 1 to 65535, no leading zero.
fn port(digits: &str) -> Option<u16> {
    let port: u16 = digits.parse().ok()?;
    (port != 0 && !digits.starts_with('0')).then_some(port)
}

/// Whether a path is ours on a workspace's host, as it came or decoded.
fn is_reserved(path: &str) -> bool {
    is_reserved_form(path) || is_reserved_form(&decode(path))
}

/// Reads a path as the most lenient server would: empty and `.` segments vanish, `\` is `/`, case and what
/// follows a `;` do not matter. Behind a `..` every segment could stand at the top.
fn is_reserved_form(path: &str) -> bool {
    let (mut could_be_first, mut after_well_known, mut climbed) = (true, false, false);
    let segments = path.split(['/', '\\']).map(|part| part.split(';').next().unwrap_or_default());
    for segment in segments.filter(|part| !part.is_empty() && *part != ".") {
        let is = |name: &str| segment.eq_ignore_ascii_case(name);
        if (could_be_first && is(".usher")) || (after_well_known && is("acme-challenge")) {
            return true;
        }
        climbed |= segment == "..";
        after_well_known = could_be_first && is(".well-known");
        could_be_first = climbed;
    }
    false
}

/// A path with its percent-encodings decoded once, as applications do.
fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        match pair.and_then(hex_pair) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(digits[0])? * 16 + value(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;
    use crate::request::tests::{Client, get, head};
    use config::NamePattern;
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::sign::CertifiedKey;
    use std::sync::Arc;

    fn host(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    /// With the routes `notes` and `www`.
    fn config(portal: &str) -> Config {
        let mut text = include_str!("../../../config/usher.kubernetes.example.toml")
            .replace("lab.example.org", "lab.test");
        for (name, port) in [("notes", 1), ("www", 2)] {
            let keys = format!("kind = 'Deployment'\nobject = '{name}'\nport = {port}\nallow = 'true'\n");
            text.push_str(&format!("[routes.{name}]\n{keys}"));
        }
        Config::parse("test", &format!("portal = '{portal}'\n{text}"), &|_| None)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    fn place_at(text: &str) -> Option<Place> {
        place_of(&config("lab.test"), &host(text))
    }

    fn workspace(id: &str, port: Option<u16>) -> Option<Place> {
        Some(Place::Workspace { id: WorkspaceId::parse(id).unwrap(), port })
    }

    #[test]
    fn a_host_is_the_portal_one_workspace_or_nothing() {
        for (name, expected) in [
            ("lab.test", Some(Place::Portal)),
            ("LAB.test.", Some(Place::Portal)),
            ("alice.lab.test", workspace("alice", None)),
            ("Alice.Lab.Test", workspace("alice", None)),
            ("gpu--alice.lab.test", workspace("gpu--alice", None)),
            ("8888--alice.lab.test", workspace("alice", Some(8888))),
            ("65535--alice.lab.test", workspace("alice", Some(65535))),
            ("65536--alice.lab.test", None),
            ("0--alice.lab.test", None),
            ("08888--alice.lab.test", None),
            ("8888--gpu--alice.lab.test", None),
            ("8888a--alice.lab.test", None),
            ("a.alice.lab.test", None),
            ("1alice.lab.test", None),
            ("admin.lab.test", None),
            ("notes.lab.test", workspace("route:notes", None)),
            ("Notes.lab.test.", workspace("route:notes", None)),
            ("www.lab.test", workspace("route:www", None)),
            ("8888--notes.lab.test", workspace("notes", Some(8888))),
            ("gpu--notes.lab.test", workspace("gpu--notes", None)),
            ("x.notes.lab.test", None),
            ("xn--alice.lab.test", None),
            ("alicelab.test", None),
            ("evillab.test", None),
            ("test", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(place_at(name), expected, "{name}");
        }
    }

    #[test]
    fn a_portal_of_its_own_name_leaves_the_domain_itself_empty() {
        let config = config("usher.example");
        assert_eq!(place_of(&config, &config.portal), Some(Place::Portal));
        assert_eq!(place_of(&config, &config.domain), None);
        assert_eq!(place_of(&config, &host("alice.lab.test")), workspace("alice", None));
    }

    #[test]
    fn what_could_be_read_as_a_reserved_path_never_goes_to_a_workspace() {
        for path in [
            "/.usher",
            "/.usher/",
            "/.usher/status",
            "//.usher/status",
            "/./.usher/x",
            "/%2eusher/x",
            "/.%75sher/x",
            "/%2F.usher/x",
            "/x/../.usher/x",
            "/x/%2e%2e/.usher/x",
            "/x/..%2f.usher/enter",
            "/.usher/../x",
            "/.USHER/x",
            "/.usher;a=1/x",
            "/.usher%2fstatus",
            "/..%5c.usher/x",
            "/.well-known/acme-challenge/t",
            "/.well-known//acme-challenge/t",
            "/%2ewell-known/acme%2dchallenge/t",
            "/a/b/../../.usher/x",
            "/a/../b/.usher/x",
        ] {
            assert!(is_reserved(path), "{path}");
        }
        for path in [
            "/",
            "/x",
            "/usher",
            "/.usherx",
            "/.usher.txt",
            "/files/.usher/x",
            "/.well-known/x",
            "/x/.well-known/acme-challenge/t",
            "/%",
            "/%2",
            "/%zz/.usher",
            "/%252eusher/x",
        ] {
            assert!(!is_reserved(path), "{path}");
        }
    }

    /// What shows one certificate for the portal and the workspaces.
    fn resolver() -> certs::Resolver {
        let made = rcgen::generate_simple_self_signed(vec!["lab.localhost".to_owned()]).unwrap();
        let key = any_supported_type(&made.signing_key.into()).unwrap();
        let names =
            ["lab.localhost", "*.lab.localhost", "other.test"].map(|n| NamePattern::parse(n).unwrap());
        certs::Resolver::of_one(
            Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key)),
            names.to_vec(),
        )
    }

    #[tokio::test]
    async fn a_host_that_the_certificate_of_the_connection_is_not_for_is_misdirected() {
        let lab = Lab::showing(resolver()).await;
        let config = lab.edge.config.load_full();
        for (shown, host, refused) in [
            (Some("lab.localhost"), "lab.localhost", None),
            (Some("alice.lab.localhost"), "bob.lab.localhost", None),
            (Some("alice.lab.localhost"), "lab.localhost", None),
            (Some("other.test"), "alice.lab.localhost", None),
            // Covered, and none of ours: another connection would lead nowhere else.
            (Some("alice.lab.localhost"), "1bob.lab.localhost", Some(Code::NotFound)),
            (Some("alice.lab.localhost"), "other.test", Some(Code::NotFound)),
            (Some("alice.lab.localhost"), "foreign.test", Some(Code::MisdirectedRequest)),
            // A certificate that is not shown any more, or never was.
            (Some("gone.test"), "alice.lab.localhost", Some(Code::MisdirectedRequest)),
            (Some("gone.test"), "gone.test", Some(Code::NotFound)),
            (Some("a.b.lab.localhost"), "b.lab.localhost", Some(Code::MisdirectedRequest)),
            // Cleartext is for all names.
            (None, "alice.lab.localhost", None),
            (None, "foreign.test", Some(Code::NotFound)),
        ] {
            let mut client = Client::plain();
            client.0.server_name = shown.map(str::to_owned);
            let head = get(host, "/");
            let request = Request::parse(&head, &client.0).unwrap();
            let placed = place(&lab.edge, &config, &request).err().map(|refusal| refusal.code);
            assert_eq!(placed, refused, "{host} by way of {shown:?}");
        }
    }

    #[test]
    fn a_listener_that_leads_on_leads_to_the_same_by_https_and_nowhere_else() {
        for (port, host, path, location) in [
            (443, "lab.test", "/", "https://lab.test/"),
            (8443, "lab.test", "/", "https://lab.test:8443/"),
            (443, "Alice.LAB.test.:8080", "/a%20b?x=1&y=/#", "https://alice.lab.test/a%20b?x=1&y=/"),
            (443, "lab.test", "//evil.example/", "https://lab.test//evil.example/"),
            (443, "lab.test", "/\u{e9}?\u{e9}", "https://lab.test/%C3%A9?%C3%A9"),
            (443, "lab.test", "/%0d%0aSet-Cookie:x", "https://lab.test/%0d%0aSet-Cookie:x"),
            (443, "lab.test:80", "http://lab.test:80/x?y", "https://lab.test/x?y"),
        ] {
            let mut client = Client::plain();
            let listener =
                crate::edge::ListenerFacts { tls: true, public_port: port, loopback: true, redirects: true };
            client.0.listener = Arc::new(listener);
            let head = head("GET", host, path.split('#').next().unwrap(), &[]);
            let request = Request::parse(&head, &client.0).unwrap();
            let refusal = served_here(&request).unwrap_err();
            assert_eq!((refusal.code, refusal.location.as_deref()), (Code::HttpsNeeded, Some(location)));
        }
        let (head, client) = (get("lab.test", "/"), Client::plain());
        assert_eq!(served_here(&Request::parse(&head, &client.0).unwrap()), Ok(()));
    }

    #[test]
    fn everything_on_the_portal_is_ours() {
        let client = Client::plain();
        let head = get("lab.test", "/any");
        let request = Request::parse(&head, &client.0).unwrap();
        assert!(Place::Portal.is_own(&request));
        assert!(!workspace("alice", None).unwrap().is_own(&request));
    }
}

use super::*;
use crate::edge::ListenerFacts;
use std::sync::Arc;

/// A client on a loopback listener at port 8080.
pub(crate) struct Client(pub ConnectionFacts);

impl Client {
    pub(crate) fn plain() -> Self {
        let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        Self(ConnectionFacts {
            listener: Arc::new(listener),
            client: "127.0.0.1:4000".parse().unwrap(),
            server_name: None,
            transport_security: None,
        })
    }
}

pub(crate) fn head(method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build(method, path.as_bytes(), None).unwrap();
    head.append_header("Host", host).unwrap();
    for (name, value) in headers {
        head.append_header((*name).to_owned(), *value).unwrap();
    }
    head
}

pub(crate) fn get(host: &str, path: &str) -> RequestHeader {
    head("GET", host, path, &[])
}

fn code(head: &RequestHeader) -> Option<Code> {
    Request::parse(head, &Client::plain().0).err().map(|refusal| refusal.code)
}

/// What becomes of a GET with these headers beside `Host`.
fn with(headers: &[(&str, &str)]) -> Option<Code> {
    code(&head("GET", "alice.lab.test", "/", headers))
}

#[test]
fn a_request_is_read_as_it_came() {
    let head = get("Alice.LAB.test.:8080", "/a%20b/c?x=1&y=%2f");
    let client = Client::plain();
    let request = Request::parse(&head, &client.0).unwrap();
    assert_eq!(request.host.as_str(), "alice.lab.test");
    assert_eq!((request.path, request.query), ("/a%20b/c", Some("x=1&y=%2f")));
    assert_eq!(request.origin(), "http://alice.lab.test:8080");
    assert!(!request.websocket);
}

#[test]
fn trace_and_connect_are_not_served() {
    assert_eq!(code(&head("TRACE", "alice.lab.test", "/", &[])), Some(Code::MethodNotAllowed));
    let connect = RequestHeader::build("CONNECT", b"alice.lab.test:80", None).unwrap();
    assert_eq!(code(&connect), Some(Code::MethodNotAllowed));
}

#[test]
fn a_head_is_at_most_32_kib_and_100_fields() {
    assert_eq!(with(&[("x-a", &"x".repeat(HEAD_MAX - 200))]), None);
    assert_eq!(with(&[("x-a", &"x".repeat(HEAD_MAX))]), Some(Code::HeadersTooLarge));
    let long = format!("/{}", "x".repeat(HEAD_MAX));
    assert_eq!(code(&get("alice.lab.test", &long)), Some(Code::HeadersTooLarge));
    let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(with(&many[..99]), None);
    assert_eq!(with(&many), Some(Code::HeadersTooLarge));
}

#[test]
fn a_cookie_bomb_is_told_apart_since_it_can_be_healed() {
    let bomb = "x".repeat(HEAD_MAX);
    assert_eq!(with(&[("cookie", &bomb)]), Some(Code::CookiesTooLarge));
    assert_eq!(with(&[("cookie", &bomb), ("x-a", &bomb)]), Some(Code::HeadersTooLarge));
    let crumbs = vec![("cookie", "a=b"); 150];
    assert_eq!(with(&crumbs), None, "HTTP/2 clients send a field per cookie");
}

#[test]
fn a_body_ends_in_one_way_only() {
    for (headers, refused) in [
        (vec![("content-length", "5")], false),
        (vec![("transfer-encoding", "chunked")], false),
        (vec![("transfer-encoding", "Chunked")], false),
        (vec![("content-length", "5"), ("transfer-encoding", "chunked")], true),
        (vec![("content-length", "5, 5")], true),
        (vec![("content-length", "5"), ("content-length", "5")], true),
        (vec![("content-length", "+5")], true),
        (vec![("content-length", "-1")], true),
        (vec![("content-length", "")], true),
        (vec![("content-length", "99999999999999999999999")], true),
        (vec![("transfer-encoding", "identity, chunked")], true),
        (vec![("transfer-encoding", "gzip, chunked")], true),
        (vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], true),
        (vec![("transfer-encoding", "identity")], true),
        (vec![("transfer-encoding", "")], true),
    ] {
        assert_eq!(with(&headers).is_some(), refused, "{headers:?}");
    }
}

#[test]
fn the_bytes_show_what_the_parsed_head_hides() {
    assert_eq!(check_raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()));
    assert_eq!(check_raw(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), Ok(()));
    for raw in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"POST / HTTP/1.1\r\ncontent-LENGTH: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(check_raw(raw).unwrap_err().code, Code::BadRequest, "{}", raw.escape_ascii());
    }
}

#[test]
fn an_underscore_in_a_name_is_refused() {
    assert_eq!(with(&[("x_usher_user", "root")]), Some(Code::BadRequest));
    assert_eq!(with(&[("a_b", "")]), Some(Code::BadRequest));
}

#[test]
fn connection_names_nothing_that_decides_who_asks() {
    for (value, refused) in [
        ("keep-alive", false),
        ("close, TE", false),
        ("x-mine", false),
        ("Cookie", true),
        ("close, AUTHORIZATION", true),
        ("origin", true),
        ("sec-fetch-site", true),
        ("x-forwarded-for", true),
        ("X_Usher_User", true),
        ("x-usher-user", true),
        ("host", true),
        ("service-worker", true),
        ("\"x-usher-user\"", true),
    ] {
        assert_eq!(with(&[("connection", value)]).is_some(), refused, "{value}");
    }
}

#[test]
fn a_host_is_one_name_and_perhaps_a_port() {
    for (host, expected) in [
        ("alice.lab.test", None),
        ("alice.lab.test:443", None),
        ("", Some(Code::BadRequest)),
        (":80", Some(Code::BadRequest)),
        ("alice.lab.test:", Some(Code::BadRequest)),
        ("alice.lab.test:x", Some(Code::BadRequest)),
        ("alice.lab.test:99999", Some(Code::BadRequest)),
        ("alice.lab.test:80:80", Some(Code::BadRequest)),
        ("alice_lab.test", Some(Code::BadRequest)),
        ("alice.lab.test..", Some(Code::BadRequest)),
        ("a b", Some(Code::BadRequest)),
        ("user@alice.lab.test", Some(Code::BadRequest)),
        ("[::1]:8080", Some(Code::NotFound)),
    ] {
        assert_eq!(code(&get(host, "/")), expected, "{host:?}");
    }
    let none = RequestHeader::build("GET", b"/", None).unwrap();
    assert_eq!(code(&none), Some(Code::BadRequest));
    assert_eq!(with(&[("host", "alice.lab.test")]), Some(Code::BadRequest), "two of them");
}

#[test]
fn an_absolute_target_and_host_say_the_same() {
    let at = |target: &str, host: &str| code(&get(host, target));
    assert_eq!(at("http://alice.lab.test/x", "alice.lab.test"), None);
    assert_eq!(at("HTTP://alice.lab.test", "alice.lab.test"), None);
    assert_eq!(at("http://bob.lab.test/x", "alice.lab.test"), Some(Code::BadRequest));
    assert_eq!(at("ftp://alice.lab.test/x", "alice.lab.test"), Some(Code::BadRequest));
    assert_eq!(at("*", "alice.lab.test"), Some(Code::BadRequest));
    assert_eq!(at("?x", "alice.lab.test"), Some(Code::BadRequest));
}

#[test]
fn http2_names_its_host_in_the_authority() {
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    head.set_uri("https://alice.lab.test:8443/x?y".parse().unwrap());
    head.set_version(Version::HTTP_2);
    let client = Client::plain();
    let request = Request::parse(&head, &client.0).unwrap();
    assert_eq!(request.host.as_str(), "alice.lab.test");
    assert_eq!((request.path, request.query), ("/x", Some("y")));
}

#[test]
fn a_path_holds_no_backslash_no_control_byte_and_no_zero() {
    for path in ["/a\\b", "/a%00b", "/%00", "/a\\..\\.usher"] {
        assert_eq!(code(&get("alice.lab.test", path)), Some(Code::BadRequest), "{path}");
    }
    for path in ["/a%5cb", "/a?b=%00", "/\u{e4}"] {
        assert_eq!(code(&get("alice.lab.test", path)), None, "{path}");
    }
    let latin1 = RequestHeader::build("GET", b"/\xe4", None).unwrap();
    assert_eq!(code(&latin1), Some(Code::BadRequest));
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The handshake with one header in place of its own, or with one more.
fn handshake_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut headers: Vec<_> = HANDSHAKE.into_iter().filter(|(own, _)| *own != name).collect();
    headers.push((name, value));
    headers
}

#[test]
fn a_websocket_is_a_whole_handshake_or_refused() {
    let client = Client::plain();
    let good = head("GET", "alice.lab.test", "/ws", &HANDSHAKE);
    assert!(Request::parse(&good, &client.0).unwrap().websocket);
    for (method, headers, refused) in [
        ("GET", handshake_with("upgrade", "WebSocket"), false),
        ("GET", handshake_with("content-length", "0"), false),
        ("POST", HANDSHAKE.to_vec(), true),
        ("GET", handshake_with("connection", "keep-alive"), true),
        ("GET", handshake_with("upgrade", "websocket, h2c"), true),
        ("GET", handshake_with("upgrade", "websocket/1"), true),
        ("GET", handshake_with("sec-websocket-version", "8"), true),
        ("GET", handshake_with("sec-websocket-key", "c2hvcnQ="), true),
        ("GET", handshake_with("sec-websocket-key", "not base64 at all!!!!!!!"), true),
        ("GET", handshake_with("content-length", "5"), true),
        ("GET", handshake_with("transfer-encoding", "chunked"), true),
        ("GET", HANDSHAKE[..3].to_vec(), true),
        ("GET", HANDSHAKE[1..].to_vec(), true),
        ("GET", [&HANDSHAKE[..], &HANDSHAKE[3..]].concat(), true),
    ] {
        let came = head(method, "alice.lab.test", "/ws", &headers);
        assert_eq!(code(&came), refused.then_some(Code::BadRequest), "{method} {headers:?}");
    }
    let mut old = head("GET", "alice.lab.test", "/ws", &HANDSHAKE);
    old.set_version(Version::HTTP_10);
    assert_eq!(code(&old), Some(Code::BadRequest));
}

#[test]
fn an_upgrade_to_anything_else_is_an_ordinary_request() {
    let came = head("GET", "alice.lab.test", "/", &[("connection", "upgrade"), ("upgrade", "h2c")]);
    assert!(!Request::parse(&came, &Client::plain().0).unwrap().websocket);
}

#[test]
fn the_intent_is_what_the_browser_says_and_no_more() {
    let (navigate, document) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
    let html = ("accept", "text/html,application/xhtml+xml");
    for (headers, expected) in [
        (vec![navigate, document, ("sec-fetch-site", "none"), html], Intent::Navigation),
        (vec![navigate, document, ("sec-purpose", "prefetch;prerender"), html], Intent::Page),
        (vec![navigate, document, ("purpose", "prefetch")], Intent::Page),
        (vec![navigate, ("sec-fetch-dest", "iframe"), html], Intent::Page),
        (vec![navigate, html], Intent::Page),
        (vec![("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty"), html], Intent::Background),
        (vec![("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], Intent::Background),
        (vec![("sec-fetch-site", "same-origin")], Intent::Background),
        (vec![navigate, navigate, document, html], Intent::Background),
        (vec![html], Intent::Page),
        (vec![html, ("origin", "http://bob.lab.test")], Intent::Page),
        (vec![("origin", "http://alice.lab.test")], Intent::Background),
        (vec![("accept", "*/*"), ("user-agent", "curl/8")], Intent::Script),
        (vec![("accept", "image/*,*/*;q=0.8"), ("user-agent", "Mozilla/5.0 (iPhone)")], Intent::Background),
        (vec![("accept", "*/*"), ("accept-language", "de")], Intent::Background),
        (vec![("accept", "*/*"), ("referer", "https://bob.lab.test/")], Intent::Background),
        (vec![html, ("user-agent", "Mozilla/5.0 (iPhone)"), ("accept-language", "de")], Intent::Page),
        (vec![("accept", "*/*"), ("purpose", "prefetch")], Intent::Background),
        (vec![("sec-purpose", "prefetch")], Intent::Background),
        (vec![], Intent::Script),
    ] {
        let came = head("GET", "alice.lab.test", "/", &headers);
        assert_eq!(Intent::of(&came.headers), expected, "{headers:?}");
    }
}

#[test]
fn a_worker_script_is_known_by_either_header() {
    let asks = |headers: &[(&str, &str)]| is_worker_script(&head("GET", "a.test", "/sw.js", headers).headers);
    assert!(asks(&[("service-worker", "script")]));
    assert!(asks(&[("sec-fetch-dest", "serviceworker")]));
    assert!(!asks(&[("sec-fetch-dest", "script")]));
}

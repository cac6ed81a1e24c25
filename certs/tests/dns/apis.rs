//! The HTTP APIs, by stand-ins that answer as their makers document it.

use super::servers::{Servers, host};
use bytes::Bytes;
use certs::DnsError;
use config::{DnsProviderKind, Secret};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const SECRET: &str = "geheim-0123456789";

/// A request as it came.
struct Asked {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: http::HeaderMap,
    body: Value,
}

impl Asked {
    async fn of(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().split('&');
        let query = query.filter_map(|pair| pair.split_once('='));
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn wants(&self, name: &str) -> &str {
        self.query.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

/// An API on this machine, until the test ends.
async fn serve<F>(answer: F) -> SocketAddr
where
    F: Fn(Asked) -> (StatusCode, String) + Send + Sync + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer.clone();
                async move {
                    let (status, body) = answer(Asked::of(request).await);
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

fn acme_dns(address: SocketAddr, password: &str) -> DnsProviderKind {
    DnsProviderKind::AcmeDns {
        url: format!("http://{address}"),
        username: "eabcdb41".to_owned(),
        password: Secret::new(password.to_owned()),
        subdomain: "8e5700ea".to_owned(),
    }
}

/// Keeps the last two texts of one registration, as acme-dns does.
async fn acme_dns_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let texts = Arc::new(Mutex::new(Vec::new()));
    let kept = texts.clone();
    let address = serve(move |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/update"));
        if (asked.header("x-api-user"), asked.header("x-api-key")) != ("eabcdb41", SECRET) {
            return (StatusCode::UNAUTHORIZED, r#"{"error": "forbidden"}"#.to_owned());
        }
        assert_eq!(asked.body["subdomain"], "8e5700ea");
        let text = asked.body["txt"].as_str().expect("a text").to_owned();
        if text.len() != 43 {
            return (StatusCode::BAD_REQUEST, r#"{"error": "bad_txt"}"#.to_owned());
        }
        let mut kept = kept.lock().expect("no test holds it when it fails");
        kept.push(text.clone());
        let surplus = kept.len().saturating_sub(2);
        kept.drain(..surplus);
        (StatusCode::OK, json!({ "txt": text }).to_string())
    })
    .await;
    (address, texts)
}

fn text(number: u8) -> String {
    format!("{number:0>43}")
}

#[tokio::test]
async fn acme_dns_gets_the_texts_and_keeps_two() {
    let servers = Servers::start().await;
    let (address, texts) = acme_dns_server().await;
    let records = servers.records_of(servers.provider(acme_dns(address, SECRET)));
    let registered = host("registered.lab.test");
    for number in 1..=3 {
        records.present(&registered, &text(number)).await.unwrap();
    }
    records.clear(&registered, &text(3)).await.unwrap();
    assert_eq!(*texts.lock().unwrap(), [text(2), text(3)], "nothing is taken away");
}

#[tokio::test]
async fn acme_dns_is_told_nothing_about_names_that_do_not_lead_to_it() {
    let servers = Servers::start().await;
    let (address, texts) = acme_dns_server().await;
    let mut provider = servers.provider(acme_dns(address, SECRET));
    let records = servers.records_of(provider.clone());
    for (of, found) in [
        ("lab.test", "_acme-challenge.lab.test is no CNAME record; dns_providers.home needs the record"),
        (
            "alias.lab.test",
            "_acme-challenge.alias.lab.test leads to alias.records.test; dns_providers.home needs the record",
        ),
    ] {
        let error = records.present(&host(of), &text(1)).await.unwrap_err();
        assert!(error.to_string().starts_with(found), "{error}");
        assert!(error.to_string().contains(&format!("`_acme-challenge.{of}. CNAME 8e5700ea.")), "{error}");
    }
    assert!(texts.lock().unwrap().is_empty());
    // The operator knows better.
    provider.check_propagation = false;
    servers.records_of(provider).present(&host("lab.test"), &text(1)).await.unwrap();
    assert_eq!(*texts.lock().unwrap(), [text(1)]);
}

#[tokio::test]
async fn what_acme_dns_refuses_is_told_without_the_password() {
    let servers = Servers::start().await;
    let (address, _) = acme_dns_server().await;
    let registered = host("registered.lab.test");
    let records = servers.records_of(servers.provider(acme_dns(address, "not-the-password")));
    let told = records.present(&registered, &text(1)).await.unwrap_err().to_string();
    assert!(told.contains(&format!("dns_providers.home at http://{address} fails")), "{told}");
    assert!(told.contains(r#"401 Unauthorized: {"error": "forbidden"}; compare username"#), "{told}");
    assert!(!told.contains("not-the-password"), "{told}");
    let records = servers.records_of(servers.provider(acme_dns(address, SECRET)));
    let told = records.present(&registered, "short").await.unwrap_err().to_string();
    assert!(told.contains(r#"400 Bad Request: {"error": "bad_txt"}"#), "{told}");
    assert!(!format!("{records:?}").contains(SECRET));
}

/// The records of two zones: id, name, content.
type Zones = Arc<Mutex<Vec<(String, String, String)>>>;

const ZONES: [(&str, &str); 2] =
    [("023e105f4ecef8ad9ca31a8372d0c353", "lab.test"), ("3a31a8372d0c353023e105f4ecef8ad9", "records.test")];

fn said(result: &Value) -> (StatusCode, String) {
    let answer = json!({ "success": true, "errors": [], "messages": [], "result": result });
    (StatusCode::OK, answer.to_string())
}

fn failed(status: StatusCode, code: i64, message: &str) -> (StatusCode, String) {
    let errors = json!([{ "code": code, "message": message }]);
    (status, json!({ "success": false, "errors": errors, "messages": [], "result": null }).to_string())
}

fn cloudflare_answer(zones: &Zones, asked: &Asked) -> (StatusCode, String) {
    if asked.header("authorization") != format!("Bearer {SECRET}") {
        return failed(StatusCode::FORBIDDEN, 10000, "Authentication error");
    }
    let mut records = zones.lock().expect("no test holds it when it fails");
    let path = asked.path.strip_prefix("/client/v4").expect("the path of the configuration");
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let shown = |(id, name, content): &(String, String, String)| json!({ "id": id, "type": "TXT", "name": name, "content": content, "ttl": 60 });
    match (&asked.method, &parts[..]) {
        (&Method::GET, ["zones"]) => {
            let found = ZONES.iter().filter(|(_, name)| *name == asked.wants("name"));
            said(&found.map(|(id, name)| json!({ "id": id, "name": name })).collect())
        }
        (&Method::GET, ["zones", zone, "dns_records"]) => {
            assert!(ZONES.iter().any(|(id, _)| id == zone));
            assert_eq!(asked.wants("type"), "TXT");
            let found = records.iter().filter(|(_, name, _)| name == asked.wants("name.exact"));
            said(&found.map(shown).collect())
        }
        (&Method::POST, ["zones", zone, "dns_records"]) => {
            let (_, zone) = ZONES.iter().find(|(id, _)| id == zone).expect("a zone");
            let of = |key: &str| asked.body[key].as_str().expect("a text").to_owned();
            assert_eq!((of("type").as_str(), &asked.body["ttl"]), ("TXT", &json!(60)));
            assert!(of("name").ends_with(zone));
            if records.iter().any(|(_, name, content)| (name, content) == (&of("name"), &of("content"))) {
                return failed(StatusCode::BAD_REQUEST, 81058, "An identical record already exists.");
            }
            let record = (format!("{:032x}", 1000 + records.len()), of("name"), of("content"));
            records.push(record.clone());
            said(&shown(&record))
        }
        (&Method::DELETE, ["zones", _, "dns_records", id]) => {
            let before = records.len();
            records.retain(|(of, _, _)| of != id);
            if records.len() == before {
                return failed(StatusCode::NOT_FOUND, 81044, "Record does not exist.");
            }
            said(&json!({ "id": id }))
        }
        _ => failed(StatusCode::NOT_FOUND, 7003, "Could not route to the path"),
    }
}

fn cloudflare(address: SocketAddr, token: &str) -> DnsProviderKind {
    DnsProviderKind::Cloudflare {
        api: format!("http://{address}/client/v4"),
        token: Secret::new(token.to_owned()),
    }
}

#[tokio::test]
async fn cloudflare_gets_one_record_for_each_text_where_the_name_leads() {
    let servers = Servers::start().await;
    let zones = Zones::default();
    let kept = zones.clone();
    let address = serve(move |asked| cloudflare_answer(&kept, &asked)).await;
    let records = servers.records_of(servers.provider(cloudflare(address, SECRET)));
    let shown = || {
        let zones = zones.lock().unwrap();
        zones.iter().map(|(_, name, content)| format!("{name} {content}")).collect::<Vec<_>>()
    };
    let lab = host("lab.test");
    for text in ["one", "two", "two"] {
        records.present(&lab, text).await.unwrap();
    }
    records.present(&host("alias.lab.test"), "three").await.unwrap();
    let (one, two) = ("_acme-challenge.lab.test \"one\"", "_acme-challenge.lab.test \"two\"");
    assert_eq!(shown(), [one, two, "alias.records.test \"three\""]);
    let wild = host("wild.records.test");
    records.present(&wild, "four").await.unwrap();
    assert_eq!(shown()[3..], ["_acme-challenge.wild.records.test \"four\""]);
    records.clear(&wild, "four").await.unwrap();
    records.clear(&lab, "one").await.unwrap();
    records.clear(&lab, "one").await.unwrap();
    assert_eq!(shown(), [two, "alias.records.test \"three\""]);
    records.clear(&host("alias.lab.test"), "three").await.unwrap();
    records.clear(&lab, "two").await.unwrap();
    assert!(shown().is_empty());
}

#[tokio::test]
async fn what_cloudflare_refuses_is_told_by_code_and_without_the_token() {
    let servers = Servers::start().await;
    let zones = Zones::default();
    let address = serve(move |asked| cloudflare_answer(&zones, &asked)).await;
    let records = servers.records_of(servers.provider(cloudflare(address, "not-the-token")));
    let told = records.present(&host("lab.test"), "text").await.unwrap_err().to_string();
    assert!(told.contains("403 Forbidden: Authentication error (10000)"), "{told}");
    assert!(!told.contains("not-the-token"), "{told}");
    let records = servers.records_of(servers.provider(cloudflare(address, SECRET)));
    let told = records.present(&host("fixed.test"), "text").await.unwrap_err().to_string();
    assert!(told.contains("fails for _acme-challenge.fixed.test: the token sees no zone"), "{told}");
}

#[tokio::test]
async fn an_api_that_leads_away_or_talks_too_much_is_told() {
    let servers = Servers::start().await;
    for (status, body, says) in [
        (StatusCode::FOUND, String::new(), "302 Found: it says nothing"),
        (StatusCode::OK, "x".repeat(100_000), "its answer is longer than 65536 bytes"),
        (StatusCode::BAD_GATEWAY, format!("<html>{SECRET}\n</html>"), "502 Bad Gateway: <html>… </html>"),
        (StatusCode::OK, "{\"success\": true}".to_owned(), "its answer has no result"),
    ] {
        let address = serve(move |_| (status, body.clone())).await;
        let records = servers.records_of(servers.provider(cloudflare(address, SECRET)));
        let error = records.present(&host("lab.test"), "text").await.unwrap_err();
        assert!(matches!(error, DnsError::Api { .. }), "{error:?}");
        assert!(error.to_string().ends_with(says), "{error}");
    }
}

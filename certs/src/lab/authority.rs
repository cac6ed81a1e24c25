//! An authority that speaks ACME (RFC 8555) on loopback, asks for no proof and looks at no signature.

use super::memory::some_turns;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// What it says in place of what it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// Behind the prefix of RFC 8555 §6.7.
    pub(crate) problem: &'static str,
    pub(crate) detail: &'static str,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
}

/// A running one. Dropped, it is gone.
pub(crate) struct GenerousAuthority {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    serving: JoinHandle<()>,
}

struct Inner {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// How often it was asked for what.
    asked: BTreeMap<String, usize>,
    says: BTreeMap<String, Said>,
    /// For what it gives no answer.
    hangs: BTreeSet<String>,
    /// The keys of accounts; each is its account's number.
    accounts: Vec<String>,
    /// The addresses of accounts that it knows no more.
    forgotten: BTreeSet<String>,
    orders: Vec<Order>,
    /// How many orders were under way at a time, at most.
    most: usize,
    /// It knows no certificate that an order replaces.
    is_forgetful: bool,
    /// It does not say what an order replaces.
    is_silent: bool,
    /// How often an order is looked at in vain, and when it says to come again.
    is_slow: (usize, u64),
    /// When what it gives is good, in days from now.
    days: Range<i64>,
    /// From when to when it wants what it gives renewed (RFC 3339), never saying when to ask again.
    window: Option<(&'static str, &'static str)>,
    /// For whom it is in place of who asked.
    names: Option<Vec<String>>,
}

#[derive(Clone)]
struct Order {
    names: Vec<String>,
    replaces: Value,
    chain: Option<String>,
    looks: usize,
    is_fetched: bool,
}

impl GenerousAuthority {
    pub(crate) async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        let inner = Arc::new(Mutex::new(Inner {
            issuer: CertifiedIssuer::self_signed(params, key).expect("the parameters are valid"),
            asked: BTreeMap::new(),
            says: BTreeMap::new(),
            hangs: BTreeSet::new(),
            accounts: Vec::new(),
            forgotten: BTreeSet::new(),
            orders: Vec::new(),
            most: 0,
            is_forgetful: false,
            is_silent: false,
            is_slow: (0, 0),
            days: -1..89,
            window: None,
            names: None,
        }));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(serve(listener, address, inner.clone()));
        Self { address, inner, serving }
    }

    pub(crate) fn directory(&self) -> String {
        format!("http://{}/directory", self.address)
    }

    /// How often it was asked for this: `order`, `account`, …
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.held().asked.get(what).copied().unwrap_or_default()
    }

    /// Says this whenever it is asked for that, from now on.
    pub(crate) fn says(&self, what: &str, said: Said) {
        self.held().says.insert(what.to_owned(), said);
    }

    /// Never answers when it is asked for this, from now on.
    pub(crate) fn hangs(&self, what: &str) {
        self.held().hangs.insert(what.to_owned());
    }

    /// Is generous from now on.
    pub(crate) fn mends(&self) {
        let mut held = self.held();
        held.says.clear();
        held.is_slow = (0, 0);
        held.names = None;
    }

    /// How many accounts it has.
    pub(crate) fn accounts(&self) -> usize {
        self.held().accounts.len()
    }

    /// How many orders were under way at a time, at most: made, and their certificates not fetched yet.
    pub(crate) fn most_at_a_time(&self) -> usize {
        self.held().most
    }

    /// Knows none of the accounts any more that it has.
    pub(crate) fn forgets_accounts(&self) {
        let mut held = self.held();
        held.forgotten = (0..held.accounts.len()).map(|number| account(self.address, number)).collect();
    }

    /// Knows no certificate any more that it gave.
    pub(crate) fn forgets_certificates(&self) {
        self.held().is_forgetful = true;
    }

    /// Says of no order any more what it replaces.
    pub(crate) fn says_of_no_replacing(&self) {
        self.held().is_silent = true;
    }

    /// Takes so many looks at an order to sign, and says when to look again, in seconds.
    pub(crate) fn is_slow(&self, looks: usize, retry_after: u64) {
        self.held().is_slow = (looks, retry_after);
    }

    /// What it gives is good in these days from now.
    pub(crate) fn gives_for(&self, days: Range<i64>) {
        self.held().days = days;
    }

    /// Wants what it gives renewed within this time, and does not say when to ask again.
    pub(crate) fn wants_renewed(&self, start: &'static str, end: &'static str) {
        self.held().window = Some((start, end));
    }

    /// What it gives is for this host.
    pub(crate) fn gives_to(&self, name: &str) {
        self.held().names = Some(vec![name.to_owned()]);
    }

    fn held(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }
}

impl Drop for GenerousAuthority {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, inner: Arc<Mutex<Inner>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let inner = inner.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(address, &inner, request));
            let server = hyper::server::conn::http1::Builder::new();
            // Fails when the client has had enough.
            let _left = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    address: SocketAddr,
    inner: &Mutex<Inner>,
    request: Request<Incoming>,
) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    some_turns().await;
    let mut parts = path.trim_start_matches('/').split('/');
    let (what, number) = (parts.next().unwrap_or_default(), parts.next().and_then(|text| text.parse().ok()));
    let asked = if what == "order" && number.is_some() { "look" } else { what };
    let does_hang = {
        let mut inner = inner.lock().expect("nobody panics with it");
        *inner.asked.entry(asked.to_owned()).or_default() += 1;
        inner.hangs.contains(asked)
    };
    if does_hang {
        std::future::pending::<()>().await;
    }
    let mut inner = inner.lock().expect("nobody panics with it");
    if let Some(said) = inner.says.get(asked) {
        let answer = problem(said.status, said.problem, said.detail, said.retry_after);
        return Ok(answer);
    }
    let signed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let part = |name: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(signed[name].as_str().unwrap_or_default()).unwrap_or_default();
        serde_json::from_slice::<Value>(&decoded).unwrap_or_default()
    };
    Ok(inner.answer(address, (what, number), (&part("protected"), &part("payload"))))
}

impl Inner {
    fn answer(
        &mut self,
        at: SocketAddr,
        (what, number): (&str, Option<usize>),
        (head, payload): (&Value, &Value),
    ) -> Answer {
        let to = |path: &str| format!("http://{at}/{path}");
        if head["kid"].as_str().is_some_and(|account| self.forgotten.contains(account)) {
            return problem(401, "unauthorized", "the account is not valid, has status deactivated", None);
        }
        match (what, number) {
            ("directory", _) => {
                let directory = json!({ "newNonce": to("nonce"), "newAccount": to("account"), "newOrder": to("order"), "renewalInfo": to("window") });
                said(200, None, directory.to_string())
            }
            ("account", None) => {
                let key = head["jwk"].to_string();
                let known = self.accounts.iter().position(|known| *known == key);
                let number = known.unwrap_or_else(|| {
                    self.accounts.push(key);
                    self.accounts.len() - 1
                });
                said(201, Some(account(at, number)), r#"{"status":"valid"}"#.to_owned())
            }
            ("order", None) if self.is_forgetful && payload.get("replaces").is_some() => {
                problem(500, "serverInternal", "could not find an order for the given certificate", None)
            }
            ("order", None) => {
                let number = self.take(payload);
                said(201, Some(to(&format!("order/{number}"))), self.state(at, number))
            }
            ("order", Some(number)) => {
                self.orders[number].looks += 1;
                let mut answer = said(200, None, self.state(at, number));
                if self.is_processing(number) {
                    let after = self.is_slow.1.into();
                    answer.headers_mut().insert("retry-after", after);
                }
                answer
            }
            ("finalize", Some(number)) => {
                let request = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default());
                let chain = self.sign(number, &request.expect("it is base64url"));
                self.orders[number].chain = Some(chain);
                said(200, None, self.state(at, number))
            }
            ("window", _) if let Some((start, end)) = self.window => {
                let window = json!({ "suggestedWindow": { "start": start, "end": end } });
                said(200, None, window.to_string())
            }
            ("certificate", Some(number)) => {
                self.orders[number].is_fetched = true;
                said(200, None, self.orders[number].chain.clone().expect("it is asked for what there is"))
            }
            _ => said(200, None, String::new()),
        }
    }

    /// Takes an order; its number.
    fn take(&mut self, payload: &Value) -> usize {
        let names = payload["identifiers"].as_array().into_iter().flatten();
        let names = names.filter_map(|one| one["value"].as_str().map(str::to_owned)).collect();
        self.orders.push(Order {
            names,
            replaces: payload["replaces"].clone(),
            chain: None,
            looks: 0,
            is_fetched: false,
        });
        let under_way = self.orders.iter().filter(|order| !order.is_fetched).count();
        self.most = self.most.max(under_way);
        self.orders.len() - 1
    }

    fn is_processing(&self, number: usize) -> bool {
        self.orders[number].chain.is_some() && self.orders[number].looks <= self.is_slow.0
    }

    fn state(&self, at: SocketAddr, number: usize) -> String {
        let to = |what: &str| format!("http://{at}/{what}/{number}");
        let status = match &self.orders[number].chain {
            None => "ready",
            Some(_) if self.is_processing(number) => "processing",
            Some(_) => "valid",
        };
        let certificate = (status == "valid").then(|| to("certificate"));
        let replaces = Some(&self.orders[number].replaces).filter(|_| !self.is_silent);
        json!({
            "status": status, "authorizations": [], "finalize": to("finalize"), "certificate": certificate,
            "replaces": replaces,
        })
        .to_string()
    }

    fn sign(&self, number: usize, request: &[u8]) -> String {
        let (_, request) = X509CertificationRequest::from_der(request).expect("it is a request");
        let key = request.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        let names = self.names.clone().unwrap_or_else(|| self.orders[number].names.clone());
        let mut params = CertificateParams::new(names).expect("the names are DNS names");
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.not_before = in_days(self.days.start).into();
        params.not_after = in_days(self.days.end).into();
        let leaf = params.signed_by(&Point(key), &self.issuer).expect("the parameters are valid");
        leaf.pem() + &self.issuer.pem()
    }
}

fn account(at: SocketAddr, number: usize) -> String {
    format!("http://{at}/account/{number}")
}

fn said(status: u16, location: Option<String>, body: String) -> Answer {
    let nonce = format!("{:032x}", fastrand::u128(..));
    let mut response = Response::builder().status(status).header("replay-nonce", nonce);
    if let Some(location) = location {
        response = response.header("location", location);
    }
    response.body(body.into()).expect("the fields are good")
}

fn problem(status: u16, kind: &str, detail: &str, retry_after: Option<u64>) -> Answer {
    let kind = format!("urn:ietf:params:acme:error:{kind}");
    let mut answer = said(status, None, json!({ "type": kind, "detail": detail }).to_string());
    *answer.status_mut() = StatusCode::from_u16(status).expect("it is a status");
    if let Some(after) = retry_after {
        answer.headers_mut().insert("retry-after", after.into());
    }
    answer
}

fn in_days(days: i64) -> SystemTime {
    let away = Duration::from_hours(24 * days.unsigned_abs());
    if days < 0 { SystemTime::now() - away } else { SystemTime::now() + away }
}

/// A public key on the curve P-256, of which nobody here has the other half.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

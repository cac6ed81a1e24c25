//! A certificate authority that fails, in whichever way a test asks for: a proxy in front of a real one.

mod forgery;

pub use forgery::Forgery;

use crate::certificate_authority::CertificateAuthority;
use crate::http_client::{Answer, Client};
use crate::issuer::Issuer;
use crate::tls::Certificate;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Beside those of the real one, on its address.
const PORT: u16 = 14001;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The directory.
    Directory,
    /// A nonce.
    Nonce,
    /// `newAccount`.
    NewAccount,
    /// `newOrder`.
    NewOrder,
    /// The state of an order.
    Order,
    /// The state of an authorization.
    Authorization,
    /// That a challenge be looked at.
    Challenge,
    /// `finalize`.
    Finalize,
    /// A certificate.
    Certificate,
    /// When to renew one.
    RenewalInfo,
    /// Anything else.
    Other,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Directory,
        Self::Nonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::Order,
        Self::Authorization,
        Self::Challenge,
        Self::Finalize,
        Self::Certificate,
        Self::RenewalInfo,
        Self::Other,
    ];

    /// By the paths that Pebble has.
    fn of(path: &str) -> Self {
        match path.split('/').nth(1).unwrap_or_default() {
            "dir" => Self::Directory,
            "nonce-plz" => Self::Nonce,
            "sign-me-up" => Self::NewAccount,
            "order-plz" => Self::NewOrder,
            "my-order" => Self::Order,
            "authZ" => Self::Authorization,
            "chalZ" => Self::Challenge,
            "finalize-order" => Self::Finalize,
            "certZ" => Self::Certificate,
            "draft-ietf-acme-ari-03" => Self::RenewalInfo,
            _ => Self::Other,
        }
    }
}

/// What is not as it should be.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The request is taken and never answered.
    Silence,
    /// The answer's head comes, and never its body.
    HeadAlone,
    /// The connection ends in the middle of the body.
    HalfABody,
    /// The real one is not asked; this is the answer.
    Says {
        /// The status.
        status: StatusCode,
        /// The field `Retry-After`.
        retry_after: Option<String>,
        /// The body: JSON, or what a load balancer says.
        body: String,
    },
    /// An order or an authorization has failed, whatever became of its challenges.
    Invalid,
    /// It knows of no certificate that an order says to replace, and makes all other orders.
    Forgets,
    /// An authorization without this challenge.
    Without(&'static str),
    /// Another chain than the one that was issued.
    Chain(Forgery),
}

impl Fault {
    /// A problem document with a type of RFC 8555 §6.7: `rateLimited`, `badNonce`.
    pub fn problem(status: StatusCode, kind: &str, retry_after: Option<&str>) -> Self {
        let body = problem(kind, "as the test wants");
        Self::Says { status, retry_after: retry_after.map(str::to_owned), body }
    }
}

fn problem(kind: &str, detail: &str) -> String {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }).to_string()
}

/// A running one, honest so far. Dropped, it is gone.
pub struct FalseAuthority {
    address: SocketAddr,
    state: Arc<State>,
    serving: Option<JoinHandle<()>>,
}

struct State {
    certificate: Certificate,
    real: Client,
    issuer: Issuer,
    faults: Mutex<BTreeMap<Kind, Fault>>,
    asked: Mutex<BTreeMap<Kind, usize>>,
    orders: Mutex<Vec<Value>>,
}

type Body = BoxBody<Bytes, io::Error>;

impl FalseAuthority {
    /// Starts one in front of this. Its https shows the same certificate.
    pub async fn before(authority: &CertificateAuthority) -> Self {
        let real = authority.address();
        let certificate = authority.certificate().clone();
        let state = State {
            real: Client::at(real, Some(certificate.clone())),
            certificate,
            issuer: Issuer::new(),
            faults: Mutex::default(),
            asked: Mutex::default(),
            orders: Mutex::default(),
        };
        let address = SocketAddr::new(real.ip(), PORT);
        let mut started = Self { address, state: Arc::new(state), serving: None };
        started.comes_up().await;
        started
    }

    /// Its address for ACME clients.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Fails so whenever it is asked for this, from now on.
    pub fn fails(&self, kind: Kind, fault: Fault) {
        self.state.faults.lock().expect("nobody panics with it").insert(kind, fault);
    }

    /// Fails so whatever it is asked for, from now on.
    pub fn fails_everywhere(&self, fault: &Fault) {
        Kind::ALL.into_iter().for_each(|kind| self.fails(kind, fault.clone()));
    }

    /// Is honest from now on.
    pub fn mends(&self) {
        self.state.faults.lock().expect("nobody panics with it").clear();
    }

    /// Refuses connections from now on, and ends those that there are.
    pub async fn goes_down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Cancelled, which is what was wanted.
            let _ended = serving.await;
        }
    }

    /// Takes connections again.
    pub async fn comes_up(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the address is the authority's alone");
        let state = Arc::clone(&self.state);
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(Arc::clone(&state).serve(stream));
            }
        }));
    }

    /// What the orders asked for that were made, oldest first.
    pub fn orders(&self) -> Vec<Value> {
        self.state.orders.lock().expect("nobody panics with it").clone()
    }

    /// How often it was asked for this, failures included.
    pub fn asked(&self, kind: Kind) -> usize {
        self.state.asked.lock().expect("nobody panics with it").get(&kind).copied().unwrap_or(0)
    }
}

impl Drop for FalseAuthority {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl State {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let Ok(stream) = self.certificate.acceptor().accept(stream).await else { return };
        let service = service_fn(|request| self.answer(request));
        // Fails when either side has had enough.
        let _left =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let kind = Kind::of(request.uri().path());
        *self.asked.lock().expect("nobody panics with it").entry(kind).or_default() += 1;
        let fault = self.faults.lock().expect("nobody panics with it").get(&kind).cloned();
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        match fault {
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Says { status, retry_after, body }) => said(status, retry_after, body),
            // As Pebble says it of each certificate whose serial number begins with a byte from 0x80 on.
            Some(Fault::Forgets) if payload(&body)?.get("replaces").is_some() => {
                let told = "could not find an order for the given certificate";
                said(StatusCode::INTERNAL_SERVER_ERROR, None, problem("serverInternal", told))
            }
            fault => {
                let mut answer = self.forward(head, body).await?;
                match &fault {
                    Some(Fault::Invalid) => answer.body = failed(&answer).to_string().into(),
                    Some(Fault::Without(challenge)) => {
                        answer.body = without(&answer, challenge).to_string().into();
                    }
                    Some(Fault::Chain(forgery)) => {
                        answer.body = forgery.of(&answer.text(), &self.issuer).into()
                    }
                    _ => {}
                }
                Ok(passed_on(answer, fault))
            }
        }
    }

    /// Asks the real one under the same Host: it checks the address that is signed, and builds all others, by that.
    async fn forward(&self, head: Parts, body: Bytes) -> anyhow::Result<Answer> {
        let host = self.real.address.ip().to_string();
        let mut ask = self.real.ask(head.method, &host, head.uri.path());
        for name in ["host", "content-type", "user-agent"] {
            if let Some(field) = head.headers.get(name) {
                ask = ask.replacing(name, field.to_str()?);
            }
        }
        let answer = ask.body(body.clone()).try_send().await?;
        if Kind::of(head.uri.path()) == Kind::NewOrder && answer.status == StatusCode::CREATED {
            self.orders.lock().expect("nobody panics with it").push(payload(&body)?);
        }
        Ok(answer)
    }
}

/// What a signed request says (RFC 7515 §7.2.2).
fn payload(body: &[u8]) -> anyhow::Result<Value> {
    let signed: Value = serde_json::from_slice(body)?;
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str().unwrap_or_default())?;
    Ok(serde_json::from_slice(&payload)?)
}

/// This order or authorization, failed.
fn failed(answer: &Answer) -> Value {
    let mut document = answer.json();
    let unauthorized = json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": "as the test wants", "status": 403 });
    document["status"] = json!("invalid");
    match document["challenges"].as_array_mut() {
        Some(challenges) => {
            for challenge in challenges {
                challenge["status"] = json!("invalid");
                challenge["error"] = unauthorized.clone();
            }
        }
        None => document["error"] = unauthorized,
    }
    document
}

/// This authorization, without one challenge.
fn without(answer: &Answer, challenge: &str) -> Value {
    let mut document = answer.json();
    if let Some(challenges) = document["challenges"].as_array_mut() {
        challenges.retain(|offered| offered["type"] != challenge);
    }
    document
}

fn said(status: StatusCode, retry_after: Option<String>, body: String) -> anyhow::Result<Response<Body>> {
    let content_type = if body.starts_with('{') { "application/problem+json" } else { "text/html" };
    let mut response = Response::builder().status(status).header("content-type", content_type);
    if let Some(after) = retry_after {
        response = response.header("retry-after", after);
    }
    Ok(response.body(whole(body.into()))?)
}

/// The answer, with as much of its body as the fault lets through.
fn passed_on(answer: Answer, fault: Option<Fault>) -> Response<Body> {
    let half = answer.body.slice(..answer.body.len() / 2);
    let length = answer.body.len();
    let body = match fault {
        Some(Fault::HeadAlone) => BodyExt::boxed(StreamBody::new(stream::pending())),
        Some(Fault::HalfABody) => {
            let first = stream::once(async { Ok(Frame::data(half)) });
            let end = stream::once(async {
                // So that what is there goes out before.
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionAborted))
            });
            BodyExt::boxed(StreamBody::new(first.chain(end)))
        }
        _ => whole(answer.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove("transfer-encoding");
    if length > 0 {
        response.headers_mut().insert("content-length", length.into());
    }
    response
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed()
}

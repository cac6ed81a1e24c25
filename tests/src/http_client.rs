//! One HTTP request at a time, to 127.0.0.1 with any Host, every header in the test's hands.

use crate::tls::{Certificate, Stream};
use crate::wait::SOON;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where requests go: one listener of an usher.
#[derive(Clone)]
pub struct Client {
    /// The listener.
    pub address: SocketAddr,
    /// Its certificate; none = cleartext.
    pub certificate: Option<Certificate>,
    /// What each connection begins with, before TLS: a header of the PROXY protocol.
    pub introduction: Vec<u8>,
    /// What each request carries besides: what a proxy adds.
    pub added: Vec<(String, String)>,
}

impl Client {
    /// One that talks to this listener itself.
    pub fn at(address: SocketAddr, certificate: Option<Certificate>) -> Self {
        Self { address, certificate, introduction: Vec::new(), added: Vec::new() }
    }

    /// As by way of a load balancer that begins connections so.
    pub fn introduced(mut self, header: &[u8]) -> Self {
        self.introduction = header.to_vec();
        self
    }

    /// As by way of a proxy that adds this field to each request.
    pub fn adding(mut self, name: &str, field: &str) -> Self {
        self.added = vec![(name.to_owned(), field.to_owned())];
        self
    }

    /// A new connection that will speak HTTP/1.1.
    pub async fn connect(&self, host: &str) -> std::io::Result<Box<dyn Stream>> {
        let stream = self.begin().await?;
        Ok(match &self.certificate {
            Some(certificate) => Box::new(certificate.shake_hands(stream, host, "http/1.1").await?),
            None => Box::new(stream),
        })
    }

    async fn begin(&self) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(&self.introduction).await?;
        Ok(stream)
    }

    /// A host with this listener's port, as browsers put it into Host.
    pub fn authority(&self, host: &str) -> String {
        format!("{host}:{}", self.address.port())
    }

    /// The origin of a host, as browsers see it through this listener.
    pub fn origin(&self, host: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority(host))
    }

    /// A request that carries nothing but Host.
    pub fn ask(&self, method: Method, host: &str, path: &str) -> Ask {
        let mut headers = HeaderMap::new();
        headers.insert("host", value(&self.authority(host)));
        for (name, field) in &self.added {
            let name: HeaderName = name.parse().expect("a test's header name is valid");
            headers.append(name, value(field));
        }
        let path = path.to_owned();
        Ask { client: self.clone(), host: host.to_owned(), method, path, headers, body: Bytes::new() }
    }

    /// A GET that carries nothing but Host.
    pub fn get(&self, host: &str, path: &str) -> Ask {
        self.ask(Method::GET, host, path)
    }

    /// A POST that carries nothing but Host.
    pub fn post(&self, host: &str, path: &str) -> Ask {
        self.ask(Method::POST, host, path)
    }
}

/// A request to be sent on a connection of its own.
#[derive(Clone)]
pub struct Ask {
    client: Client,
    host: String,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    /// With one more field of this name.
    pub fn with(mut self, name: &str, field: &str) -> Self {
        let name: HeaderName = name.parse().expect("a test's header name is valid");
        self.headers.append(name, value(field));
        self
    }

    /// With this field in place of those of its name.
    pub fn replacing(mut self, name: &str, field: &str) -> Self {
        self.headers.remove(name);
        self.with(name, field)
    }

    /// As a browser navigates a tab; `site` is what `Sec-Fetch-Site` says.
    pub fn navigate(self, site: &str) -> Self {
        self.with("sec-fetch-site", site)
            .with("sec-fetch-mode", "navigate")
            .with("sec-fetch-dest", "document")
            .with("upgrade-insecure-requests", "1")
            .with("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
    }

    /// As a browser's `fetch` asks; `site` is what `Sec-Fetch-Site` says.
    pub fn fetch(self, site: &str) -> Self {
        self.with("sec-fetch-site", site)
            .with("sec-fetch-mode", "cors")
            .with("sec-fetch-dest", "empty")
            .with("accept", "*/*")
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With a form's fields as its body.
    pub fn form(self, fields: &[(String, String)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.with("content-type", "application/x-www-form-urlencoded").body(body)
    }

    /// Sends it and takes the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}{}", self.method, self.host, self.path);
        let answer = tokio::time::timeout(SOON * 3, self.try_send()).await;
        answer
            .unwrap_or_else(|_| panic!("{what}: no answer"))
            .unwrap_or_else(|error| panic!("{what}: {error:#}"))
    }

    /// As [`Ask::send`], where the connection may well be cut.
    pub async fn try_send(self) -> anyhow::Result<Answer> {
        let stream = self.client.connect(&self.host).await?;
        let mut request = Request::builder().method(self.method).uri(self.path).body(Full::new(self.body))?;
        *request.headers_mut() = self.headers;
        exchange(stream, request).await
    }
}

/// The answer to a GET over a stream that is connected already.
pub(crate) async fn answer_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> anyhow::Result<Answer> {
    exchange(stream, Request::get(path).header("host", "localhost").body(Full::default())?).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let answer = Answer::collect(sender.send_request(request).await?).await;
    driven.abort();
    answer
}

/// A connection that is kept for the next request, as browsers do, and replaced when the other side has ended it.
#[derive(Default)]
pub struct Kept {
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Kept {
    /// Sends a request and takes the whole answer.
    ///
    /// # Errors
    /// It was sent and not answered. What could not be sent, since the connection had ended, goes over another.
    pub async fn send(&mut self, ask: Ask) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(ask.method).uri(ask.path).body(Full::new(ask.body))?;
        *request.headers_mut() = ask.headers;
        loop {
            let mut sender = match self.sender.take() {
                Some(sender) => sender,
                None => {
                    let stream = TokioIo::new(ask.client.connect(&ask.host).await?);
                    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
                    tokio::spawn(connection);
                    sender
                }
            };
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(answer) => {
                    let answer = Answer::collect(answer).await?;
                    self.sender = Some(sender);
                    return Ok(answer);
                }
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    async fn collect(answer: http::Response<Incoming>) -> anyhow::Result<Self> {
        let (parts, body) = answer.into_parts();
        Ok(Self { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// A field as text; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |field| field.to_str().unwrap_or_default())
    }

    /// The code of a refusal.
    pub fn error_code(&self) -> &str {
        self.field("usher-error")
    }
}

/// The answer to one GET over HTTP/2.
pub async fn h2_answer(
    client: &Client,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let certificate = client.certificate.as_ref().ok_or_else(|| anyhow::anyhow!("HTTP/2 needs TLS"))?;
    let stream = certificate.shake_hands(client.begin().await?, host, "h2").await?;
    let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    anyhow::ensure!(chosen.as_deref() == Some(b"h2"), "the listener does not speak HTTP/2: {chosen:?}");
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let mut request = Request::builder().uri(format!("https://{}{path}", client.authority(host)));
    for (name, field) in headers {
        request = request.header(*name, *field);
    }
    let answer = Answer::collect(sender.send_request(request.body(Full::<Bytes>::default())?).await?).await;
    driven.abort();
    answer
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).expect("a test's header value is valid")
}

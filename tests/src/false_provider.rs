//! An identity provider that lies, in whichever way a test asks for.

use crate::http_client::Client;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Its name for Usher.
pub const CLIENT: &str = "usher";

/// How an id token is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Signed {
    /// As it should be.
    #[default]
    Honestly,
    /// `alg: none`, and no signature.
    Not,
    /// `HS256`, with this as the secret.
    With(Vec<u8>),
    /// With a key that nobody publishes, under the name of the one that is published.
    ByAnotherKey,
    /// Under the name of no key.
    UnderNoName,
}

/// What is not as it should be.
#[derive(Debug, Clone, Default)]
pub struct Lies {
    /// Claims of the id token that are others; null = missing.
    pub claims: Map<String, Value>,
    /// The payload of the id token as it stands there, in place of claims; `NONCE`, `ISSUER`, `NOW` and `LATER` in it are replaced.
    pub payload: Option<String>,
    /// How the id token is signed.
    pub signed: Signed,
    /// What discovery says otherwise.
    pub metadata: Map<String, Value>,
    /// Whole answers by path, byte by byte; empty = silence.
    pub answers: BTreeMap<&'static str, Vec<u8>>,
    /// Parameters that stand in the way back, too, or in place of those of the same name; empty = missing.
    pub back: Vec<(&'static str, String)>,
}

/// A running one. Dropped, it is gone.
pub struct FalseProvider {
    /// Where it is asked.
    pub client: Client,
    server: Arc<Server>,
    serving: JoinHandle<()>,
}

struct Key {
    pair: EcdsaKeyPair,
    public: Value,
}

impl Key {
    fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("random numbers");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .expect("it was made a moment ago");
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        let public =
            json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": name, "x": x, "y": y });
        Self { pair, public }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).expect("random numbers").as_ref().to_vec()
    }
}

struct Server {
    issuer: String,
    key: Key,
    other: Key,
    lies: Mutex<Lies>,
    /// The nonce of the last login.
    nonce: Mutex<String>,
    /// Every path that was asked for.
    asked: Mutex<Vec<String>>,
    /// Every request, whole.
    sent: Mutex<String>,
}

impl FalseProvider {
    /// Starts one that is honest so far. Everybody is alice.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address: SocketAddr = listener.local_addr().expect("it is bound");
        let server = Arc::new(Server {
            issuer: format!("http://{address}"),
            key: Key::new("the key"),
            other: Key::new("the key"),
            lies: Mutex::default(),
            nonce: Mutex::default(),
            asked: Mutex::default(),
            sent: Mutex::default(),
        });
        let serves = server.clone();
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let server = serves.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Self { client: Client::at(address, None), server, serving }
    }

    /// Its `iss`.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.client.address)
    }

    /// The key that it publishes.
    pub fn public_key(&self) -> &Value {
        &self.server.key.public
    }

    /// Lies so from now on.
    pub fn lies(&self, lies: Lies) {
        *self.server.lies.lock().expect("nobody panics with it") = lies;
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.server.asked.lock().expect("nobody panics with it");
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// A token for a machine, signed honestly: `claims` beside its issuer and its times, or in place of them.
    pub fn token(&self, claims: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut said = json!({ "iss": self.issuer(), "iat": now, "exp": now + 600 });
        for (name, value) in claims.as_object().expect("claims are an object") {
            said[name] = value.clone();
        }
        let message = message("ES256", "the key", &said.to_string());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.server.key.sign(message.as_bytes())))
    }

    /// Whether this stood in any request.
    pub fn was_sent(&self, text: &str) -> bool {
        self.server.sent.lock().expect("nobody panics with it").contains(text)
    }

    /// Its table in Usher's configuration, under this name.
    pub fn table(&self, name: &str) -> String {
        let issuer = self.issuer();
        format!(
            "[login.providers.{name}]\nissuer = \"{issuer}\"\ntitle = \"{name}\"\nclient_id = \"{CLIENT}\"\n\
             client_secret = {{ from_env = \"SECRET\" }}\n"
        )
    }
}

impl Drop for FalseProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    async fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&request) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend_from_slice(&buffer[..count]),
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        self.sent.lock().expect("nobody panics with it").push_str(&text);
        let target = text.split(' ').nth(1).unwrap_or("/");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let lies = self.lies.lock().expect("nobody panics with it").clone();
        self.asked.lock().expect("nobody panics with it").push(path.to_owned());
        let answer = match lies.answers.get(path) {
            Some(answer) if answer.is_empty() => {
                // Silent, until the other side has had enough.
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                return;
            }
            Some(answer) => answer.clone(),
            None => self.answer(path, query, &lies),
        };
        // Fails when the other side does not want to hear it all.
        let _left = stream.write_all(&answer).await;
    }

    fn answer(&self, path: &str, query: &str, lies: &Lies) -> Vec<u8> {
        match path {
            "/.well-known/openid-configuration" => json_answer(&self.metadata(lies)),
            "/jwks" => json_answer(&json!({ "keys": [self.key.public] })),
            "/authorize" => self.authorize(query, lies),
            "/token" => json_answer(&json!({
                "access_token": "access", "refresh_token": "refresh", "token_type": "Bearer", "expires_in": 3600, "id_token": self.id_token(lies),
            })),
            "/userinfo" => {
                json_answer(&json!({ "sub": "alice", "name": "Alice", "preferred_username": "alice" }))
            }
            _ => answer("404 Not Found", "text/plain", b"nothing here"),
        }
    }

    fn metadata(&self, lies: &Lies) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let mut metadata = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            // As a provider does that means harm: whatever is supported here is not what Usher believes.
            "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"],
        });
        for (key, value) in &lies.metadata {
            metadata[key] = value.clone();
        }
        metadata
    }

    fn authorize(&self, query: &str, lies: &Lies) -> Vec<u8> {
        let pairs: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        *self.nonce.lock().expect("nobody panics with it") = pairs["nonce"].clone();
        let mut back = vec![("code", "the code".to_owned()), ("state", pairs["state"].clone())];
        for (name, value) in &lies.back {
            back.retain(|(known, _)| known != name);
            back.extend((!value.is_empty()).then(|| (*name, value.clone())));
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(back).finish();
        let location = format!("{}?{query}", pairs["redirect_uri"]);
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .into_bytes()
    }

    fn id_token(&self, lies: &Lies) -> String {
        let nonce = self.nonce.lock().expect("nobody panics with it").clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "alice", "nonce": nonce, "iat": now, "exp": now + 3600,
        });
        for (key, value) in &lies.claims {
            claims[key] = value.clone();
        }
        if let Value::Object(claims) = &mut claims {
            claims.retain(|_, value| !value.is_null());
        }
        let payload = match &lies.payload {
            Some(payload) => payload
                .replace("NONCE", &nonce)
                .replace("ISSUER", &self.issuer)
                .replace("LATER", &(now + 3600).to_string())
                .replace("NOW", &now.to_string()),
            None => claims.to_string(),
        };
        let (alg, kid) = match lies.signed {
            Signed::Not => ("none", "the key"),
            Signed::With(_) => ("HS256", "the key"),
            Signed::UnderNoName => ("ES256", "another key"),
            Signed::Honestly | Signed::ByAnotherKey => ("ES256", "the key"),
        };
        let message = message(alg, kid, &payload);
        let signature = match &lies.signed {
            Signed::Not => Vec::new(),
            Signed::With(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
            }
            Signed::ByAnotherKey => self.other.sign(message.as_bytes()),
            Signed::Honestly | Signed::UnderNoName => self.key.sign(message.as_bytes()),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What of a token is signed.
fn message(alg: &str, kid: &str, payload: &str) -> String {
    let header = json!({ "alg": alg, "kid": kid, "typ": "JWT" }).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

/// Whether a request has come with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

fn json_answer(document: &Value) -> Vec<u8> {
    answer("200 OK", "application/json", document.to_string().as_bytes())
}

/// An answer as it goes over the wire.
pub fn answer(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

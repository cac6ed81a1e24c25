//! The keys of one issuer: asked for now and then, and kept while it does not answer.

use crate::identity::{Web, WebError};
use crate::machines::jwt::FixedKey;
use arc_swap::ArcSwap;
use config::{TokenAlgorithm, TrustedIssuer};
use http::{Request, StatusCode, Uri};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};

/// The first wait after a failure; each further failure doubles it.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How often they are asked for although all is well: keys are rotated.
const ANEW: Duration = Duration::from_hours(1);
/// How often at most they are asked for because of a key that is not known: whoever sends tokens could make Usher ask.
const KEYS_AGAIN: Duration = Duration::from_secs(30);
/// The most keys of one issuer.
const KEYS: usize = 64;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum NoKeys {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("{0} is answered with {1}")]
    Status(&'static str, StatusCode),
    #[error("{0} is not what it must be")]
    Document(&'static str),
}

/// An issuer that is followed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Followed {
    told: Arc<TrustedIssuer>,
    keys: Arc<ArcSwap<Vec<FixedKey>>>,
    /// Whether it was heard when it was last asked.
    answers: Arc<AtomicBool>,
    changed: watch::Receiver<()>,
    wanted: Arc<Notify>,
    /// Holds those who wait for a key.
    waiting: Arc<Semaphore>,
}

/// How many tokens of one issuer may wait for a key at a time.
const WAITING: usize = 256;

impl Followed {
    /// One whose keys are not known yet; what [`Followed::follow`] tells of them.
    pub(super) fn new(told: Arc<TrustedIssuer>) -> (Self, watch::Sender<()>) {
        let (changes, changed) = watch::channel(());
        let (keys, answers, wanted) = Default::default();
        let waiting = Arc::new(Semaphore::new(WAITING));
        (Self { told, keys, answers, changed, wanted, waiting }, changes)
    }

    /// Those that are known.
    pub(super) fn keys(&self) -> Arc<Vec<FixedKey>> {
        self.keys.load_full()
    }

    /// Whether a key that is not among them is none of its keys, as far as is known; else it could not be asked.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Relaxed)
    }

    /// What it was heard to say, or that it was not heard: then those that are known stay.
    pub(super) fn know(&self, keys: Option<Vec<FixedKey>>) {
        self.answers.store(keys.is_some(), Relaxed);
        if let Some(keys) = keys {
            self.keys.store(Arc::new(keys));
        }
    }

    /// Asks for them again, since one is not known; waits up to `patience` for what comes. More than one question in
    /// [`KEYS_AGAIN`] is not asked. False: so many wait already that this one does not.
    pub(super) async fn renewed(&self, patience: Duration) -> bool {
        let mut changed = self.changed.clone();
        changed.mark_unchanged();
        self.wanted.notify_one();
        let Ok(_waits) = self.waiting.try_acquire() else { return false };
        // Whether they came in time or not: what is known then is what there is.
        drop(tokio::time::timeout(patience, changed.changed()).await);
        true
    }

    /// Follows it, for ever.
    pub(super) async fn follow(self, web: Web, changes: watch::Sender<()>) {
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            let wait = match self.ask(&web).await {
                Ok(keys) => {
                    failures = 0;
                    self.know(Some(keys));
                    ANEW
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(token.issuer = %self.told.name, %error, "the keys of a trusted issuer cannot be had");
                    }
                    self.know(None);
                    let wait = AGAIN_FIRST.saturating_mul(1 << failures.min(10)).min(AGAIN_MAX);
                    failures += 1;
                    wait
                }
            };
            changes.send_replace(());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wanted.notified() => tokio::time::sleep_until((asked + KEYS_AGAIN.min(wait)).into()).await,
            }
        }
    }

    async fn ask(&self, web: &Web) -> Result<Vec<FixedKey>, NoKeys> {
        let at = match &self.told.keys_at {
            Some(at) => at.to_string(),
            None => self.discover(web).await?,
        };
        let document = get(web, &at, "its document of keys").await?;
        let keys = document.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or(NoKeys::Document("its document of keys"))?;
        // Those of a kind that nobody here knows are somebody else's.
        let keys = keys.iter().take(KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        Ok(keys.filter_map(|key| fixed(&key, &self.told.algorithms)).collect())
    }

    /// Where it says that its keys are (OpenID Connect Discovery 1.0 §4).
    async fn discover(&self, web: &Web) -> Result<String, NoKeys> {
        const DOCUMENT: &str = "its /.well-known/openid-configuration";
        let issuer = self.told.issuer.as_str();
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = get(web, &at, DOCUMENT).await?;
        let text = |key| document.get(key).and_then(Value::as_str);
        match (text("issuer"), text("jwks_uri")) {
            (Some(itself), Some(keys)) if itself == issuer => Ok(keys.to_owned()),
            _ => Err(NoKeys::Document(DOCUMENT)),
        }
    }
}

async fn get(web: &Web, at: &str, what: &'static str) -> Result<Value, NoKeys> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = Uri::try_from(at).map_err(|_| NoKeys::Document(what))?;
    let answer = web.ask(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(NoKeys::Status(what, answer.status()));
    }
    serde_json::from_slice(answer.body()).map_err(|_| NoKeys::Document(what))
}

/// A key with its one algorithm: its own where it names one, else the first that fits its kind and is allowed. None if none
/// is, and for a secret that others would have as well.
pub(super) fn fixed(key: &Jwk, allowed: &[TokenAlgorithm]) -> Option<FixedKey> {
    if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let named = key.common.key_algorithm.map(|named| named.to_string());
    let fits = |algorithm: &Algorithm| {
        is_of_kind(*algorithm, &key.algorithm)
            && named.as_ref().is_none_or(|named| *named == format!("{algorithm:?}"))
    };
    let algorithm = allowed.iter().map(|allowed| algorithm_of(*allowed)).find(fits)?;
    Some(FixedKey { name: key.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(key).ok()? })
}

fn is_of_kind(algorithm: Algorithm, key: &AlgorithmParameters) -> bool {
    use Algorithm as A;
    match key {
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512)
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => algorithm == A::ES256,
            EllipticCurve::P384 => algorithm == A::ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => {
            key.curve == EllipticCurve::Ed25519 && algorithm == A::EdDSA
        }
        // A secret is nothing to verify by: whoever verifies could sign.
        _ => false,
    }
}

fn algorithm_of(told: TokenAlgorithm) -> Algorithm {
    match told {
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Rs384 => Algorithm::RS384,
        TokenAlgorithm::Rs512 => Algorithm::RS512,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::Ps384 => Algorithm::PS384,
        TokenAlgorithm::Ps512 => Algorithm::PS512,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

//! An OpenID provider: where it is, what it says of itself, and with which keys it signs.
//!
//! It is asked again and again for what it says of itself until it answers, and now and then from there on; while it
//! does not, what was known goes on to hold. Usher starts without it, and its button says so.

use super::exchange::short;
use super::web::{Web, WebError};
use arc_swap::ArcSwap;
use config::Protocol;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, DiscoveryError, IssuerUrl, ProviderMetadata};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The first wait after a failure; each further failure doubles it.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How often it is asked although all is well: keys are rotated.
const ANEW: Duration = Duration::from_hours(1);
/// How often at most it is asked because of a key that is not known: whoever sends tokens could make Usher ask.
const KEYS_AGAIN: Duration = Duration::from_secs(30);

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3).
pub(crate) type Metadata = ProviderMetadata<
    More,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// What later documents added to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct More {
    /// Where a person logs out (OpenID Connect RP-Initiated Logout 1.0 §2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_session_endpoint: Option<String>,
    /// Whether it names itself beside each code (RFC 9207 §3).
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for More {}

/// What is known of a provider.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It was not heard yet.
    Nothing,
    /// It does not answer, or not as one of the kind does; why.
    Fails(Arc<str>),
    /// What it said last, which holds until it says something else.
    Metadata(Arc<Metadata>),
}

/// A provider that is followed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) told: Arc<config::Provider>,
    pub(crate) web: Web,
    known: Arc<ArcSwap<Known>>,
    changed: watch::Receiver<()>,
    wanted: Arc<Notify>,
    /// Whether it answered when it was last asked.
    answers: Arc<AtomicBool>,
}

impl Provider {
    /// One that nothing is known of yet; what [`Provider::ask_again_and_again`] tells of it.
    pub(crate) fn new(told: Arc<config::Provider>, web: Web) -> (Self, watch::Sender<()>) {
        let known = Arc::new(ArcSwap::from_pointee(Known::Nothing));
        let (changes, changed) = watch::channel(());
        let wanted = Arc::new(Notify::new());
        let provider = Self { told, web, known, changed, wanted, answers: Arc::new(AtomicBool::new(true)) };
        (provider, changes)
    }

    /// Whether somebody can log in by it just now, as far as is known.
    pub(crate) fn is_there(&self) -> bool {
        matches!((&self.told.protocol, self.known()), (Protocol::GitHub(_), _) | (_, Known::Metadata(_)))
    }

    /// What is known of it.
    pub(super) fn known(&self) -> Known {
        Known::clone(&self.known.load())
    }

    /// Whether it answered when it was last asked: if not, nobody is to wait for it.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Relaxed)
    }

    /// It was asked, and answered or not.
    pub(crate) fn answered(&self, answered: bool) {
        self.answers.store(answered, Relaxed);
    }

    /// Asks for its keys, since one is not known; waits up to `patience` for what it says. More than one question in
    /// [`KEYS_AGAIN`] is not asked.
    pub(crate) async fn renewed(&self, patience: Duration) {
        let mut changed = self.changed.clone();
        changed.mark_unchanged();
        self.wanted.notify_one();
        // Whether it came in time or not: what is known then is what there is.
        drop(tokio::time::timeout(patience, changed.changed()).await);
    }

    /// Follows it, for ever.
    pub(crate) async fn ask_again_and_again(self, changes: watch::Sender<()>) {
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            let wait = match self.discover().await {
                Ok(metadata) => {
                    if failures > 0 || !matches!(self.known(), Known::Metadata(_)) {
                        tracing::info!(login.provider = %self.told.name, "the identity provider answers");
                    }
                    failures = 0;
                    self.known.store(Arc::new(Known::Metadata(Arc::new(metadata))));
                    ANEW
                }
                Err(why) => {
                    if failures == 0 {
                        tracing::warn!(login.provider = %self.told.name, why, "the identity provider cannot be used");
                    }
                    let wait = AGAIN_FIRST.saturating_mul(1 << failures.min(10)).min(AGAIN_MAX);
                    failures += 1;
                    if !matches!(self.known(), Known::Metadata(_)) {
                        self.known.store(Arc::new(Known::Fails(why.into())));
                    }
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

    async fn discover(&self) -> Result<Metadata, String> {
        let issuer = IssuerUrl::new(self.told.protocol.issuer().to_string())
            .map_err(|error| format!("its issuer is no address: {error}"))?;
        Metadata::discover_async(issuer, &self.web).await.map_err(|error| short(&said(&error)))
    }
}

/// What is wrong, for an operator.
fn said(error: &DiscoveryError<WebError>) -> String {
    match error {
        DiscoveryError::Request(error) => error.to_string(),
        DiscoveryError::Response(status, _, why) => {
            format!("its /.well-known/openid-configuration or its keys are answered with {status}: {why}")
        }
        DiscoveryError::Parse(error) => {
            format!("what it says of itself is not what OpenID Connect Discovery asks for: {error}")
        }
        DiscoveryError::Validation(reason) => format!("it is another one than `issuer` says: {reason}"),
        error => error.to_string(),
    }
}

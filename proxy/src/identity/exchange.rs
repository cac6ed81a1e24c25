//! The code flow with a provider: where a login begins, and what its code is worth.

use super::claims::{self, BadClaims};
use super::client_key::ClientKey;
use super::github;
use super::provider::{Known, Metadata, Provider};
use super::web::WebError;
use config::{Authentication, Protocol, Subject};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreIdToken, CoreJwsSigningAlgorithm,
    CoreRequestTokenError, CoreTokenResponse,
};
use openidconnect::{
    AccessToken, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RefreshToken, Scope, SignatureVerificationError, TokenResponse,
};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a login waits for keys that a provider has just begun to use.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// How long a provider that has given new tokens may take to say whom they are about: less than a whole question takes.
const TOLD: Duration = Duration::from_secs(8);
/// The longest token that is looked at, in bytes.
const TOKEN: usize = 64 * 1024;
/// Errors about the person, of those that RFC 6749 §5.2 does not know (§4.1.2.1 there; OpenID Connect Core 1.0 §3.1.2.6).
const PERSONAL: [&str; 5] = [
    "access_denied",
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
];
/// How much of what a provider says of a failure is told on, in characters.
const SAID: usize = 256;

/// What an id token may be signed with: by keys that only the provider has.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 8] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
];

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Why a provider let nobody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It does not answer, or was never heard: later may be better.
    #[error("{0}")]
    Away(String),
    /// It does not accept the code or the refresh token any more.
    #[error("the provider says {0}")]
    Refused(String),
    /// What it says is not to be believed, or cannot be understood.
    #[error("{0}")]
    Wrong(String),
    /// It does not know Usher, or not by this proof.
    #[error(
        "the provider does not accept Usher as its client: {0}; look at client_id, at the secret or key, at `authentication`, and at the provider's own list of redirect addresses"
    )]
    Client(String),
}

/// Why it is not known who somebody is now, and by what to ask the next time: a provider may have taken a refresh token and
/// given another before it failed.
pub(crate) struct Unheard {
    pub(crate) failure: Failure,
    pub(crate) next: Option<String>,
}

impl From<Failure> for Unheard {
    fn from(failure: Failure) -> Self {
        Self { failure, next: None }
    }
}

/// What only the browser's own try knows.
#[derive(Clone)]
pub(crate) struct Secrets {
    /// Stands in the id token (OpenID Connect Core 1.0 §3.1.2.1).
    pub(crate) nonce: String,
    /// Proves that the code is redeemed by whoever asked for it (RFC 7636).
    pub(crate) verifier: String,
}

impl Secrets {
    /// New ones, for one try.
    pub(crate) fn new() -> Self {
        let (_, verifier) = PkceCodeChallenge::new_random_sha256();
        Self { nonce: Nonce::new_random().secret().clone(), verifier: verifier.into_secret() }
    }
}

/// What a provider handed out. It has secrets in it: nothing prints it.
pub(crate) struct Handed {
    /// Who it is about; their groups are not asked yet.
    pub(crate) subject: Subject,
    /// The provider's name of its own session.
    pub(crate) sid: Option<String>,
    /// For a later look; none = it gives none.
    pub(crate) refresh: Option<String>,
    /// How long what it said holds, if it says so.
    pub(crate) lasts: Option<Duration>,
}

impl Provider {
    /// The address at which somebody logs in; as `another` than the provider may still know them as.
    ///
    /// # Errors
    /// The provider was never heard.
    pub(crate) fn begin(
        &self,
        redirect: &str,
        state: &str,
        secrets: &Secrets,
        another: bool,
    ) -> Result<String, Failure> {
        if let Protocol::GitHub(_) = self.told.protocol {
            return Ok(github::begin(self, redirect, state, secrets, another));
        }
        let metadata = self.metadata()?;
        let client = self.client(&metadata, Some(redirect))?;
        let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let (state, nonce) = (CsrfToken::new(state.to_owned()), Nonce::new(secrets.nonce.clone()));
        let told = &self.told;
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce)
            .set_pkce_challenge(challenge);
        for scope in told.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        for (name, value) in &told.parameters {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        if let Some(domain) = &told.hosted_domain {
            request = request.add_extra_param("hd", domain.clone());
        }
        if another && !told.parameters.contains_key("prompt") {
            request = request.add_extra_param("prompt", told.prompt_another);
        }
        let (address, _, _) = request.url();
        Ok(address.into())
    }

    /// Whether an answer that names its sender comes from this provider (RFC 9207 §2.4).
    ///
    /// # Errors
    /// It does not, or should say so and does not.
    pub(crate) fn is_sender(&self, iss: Option<&str>) -> Result<(), Failure> {
        if let Protocol::GitHub(_) = self.told.protocol {
            return Ok(());
        }
        let must = self.metadata()?.additional_metadata().authorization_response_iss_parameter_supported;
        match iss {
            Some(iss) if iss == self.told.protocol.issuer().as_str() => Ok(()),
            Some(_) => Err(Failure::Wrong("the answer comes from another provider".to_owned())),
            None if must => {
                Err(Failure::Wrong("the answer does not say which provider it comes from".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// Redeems a code.
    ///
    /// # Errors
    /// It is worth nothing, or what it is worth cannot be told.
    pub(crate) async fn redeem(
        &self,
        code: &str,
        redirect: &str,
        secrets: Secrets,
    ) -> Result<Handed, Failure> {
        if let Protocol::GitHub(_) = self.told.protocol {
            return github::redeem(self, code, redirect, &secrets).await;
        }
        let metadata = self.metadata()?;
        let client = self.client(&metadata, Some(redirect))?;
        let mut request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| Failure::Wrong("the provider has no token endpoint".to_owned()))?
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier));
        for (name, value) in self.proof(&metadata)? {
            request = request.add_extra_param(name, value);
        }
        let tokens = request.request_async(&self.web).await.map_err(|error| failure(&error))?;
        let Some(token) = tokens.id_token() else {
            return Err(Failure::Wrong("the provider sends no id token".to_owned()));
        };
        let claims = self.verified(token, Some(&Nonce::new(secrets.nonce))).await?;
        let info = self.user_info(&metadata, tokens.access_token(), &claims).await?;
        self.handed(&tokens, claims, info)
    }

    /// Asks anew who somebody is. Where it sends no id token its user info counts, and without that what it said `before`.
    ///
    /// # Errors
    /// They are nobody any more, or it cannot be told.
    pub(crate) async fn refresh(&self, refresh: &str, before: Map<String, Value>) -> Result<Handed, Unheard> {
        if let Protocol::GitHub(_) = self.told.protocol {
            return github::refresh(self, refresh).await;
        }
        let metadata = self.metadata()?;
        let client = self.client(&metadata, None)?;
        let refresh = RefreshToken::new(refresh.to_owned());
        let mut request = client
            .exchange_refresh_token(&refresh)
            .map_err(|_| Failure::Wrong("the provider has no token endpoint".to_owned()))?;
        for (name, value) in self.proof(&metadata)? {
            request = request.add_extra_param(name, value);
        }
        let tokens = request.request_async(&self.web).await.map_err(|error| failure(&error))?;
        let told = tokio::time::timeout(TOLD, self.told_anew(&metadata, &tokens, before)).await;
        let told = told.unwrap_or_else(|_| Err(Failure::Away("the user info does not come".to_owned())));
        let next = tokens.refresh_token().map(|token| token.secret().clone());
        told.map_err(|failure| Unheard { failure, next })
    }

    async fn told_anew(
        &self,
        metadata: &Metadata,
        tokens: &CoreTokenResponse,
        before: Map<String, Value>,
    ) -> Result<Handed, Failure> {
        let signed = match tokens.id_token() {
            // No nonce: it belongs to the login (OpenID Connect Core 1.0 §12.2).
            Some(token) => Some(self.verified(token, None).await?),
            None => None,
        };
        let info =
            self.user_info(metadata, tokens.access_token(), signed.as_ref().unwrap_or(&before)).await?;
        let claims = match signed {
            Some(signed) => signed,
            None if info.is_empty() => before,
            // What was said before would hide what is not said any more, as a group.
            None => Map::new(),
        };
        self.handed(tokens, claims, info)
    }

    fn handed(
        &self,
        tokens: &CoreTokenResponse,
        claims: Map<String, Value>,
        info: Map<String, Value>,
    ) -> Result<Handed, Failure> {
        let sid = claims.get("sid").and_then(Value::as_str).map(str::to_owned);
        let subject = claims::subject(&self.told, claims, info).map_err(|error| wrong(&error))?;
        let refresh = tokens.refresh_token().map(|token| token.secret().clone());
        Ok(Handed { subject, sid, refresh, lasts: tokens.expires_in() })
    }

    /// The claims of an id token, if it is to be believed; asks for the keys anew where one is not known.
    async fn verified(
        &self,
        token: &CoreIdToken,
        nonce: Option<&Nonce>,
    ) -> Result<Map<String, Value>, Failure> {
        let check = |metadata: &Metadata| -> Result<(), ClaimsVerificationError> {
            let client = self
                .client(metadata, None)
                .map_err(|error| ClaimsVerificationError::Other(error.to_string()))?;
            let said = metadata.id_token_signing_alg_values_supported();
            let verifier = client
                .id_token_verifier()
                .set_allowed_algs(ALGORITHMS.into_iter().filter(|one| said.contains(one)));
            match nonce {
                Some(nonce) => token.claims(&verifier, nonce).map(drop),
                None => token.claims(&verifier, |_: Option<&Nonce>| Ok(())).map(drop),
            }
        };
        let unknown_key = |error: &ClaimsVerificationError| {
            matches!(
                error,
                ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)
            )
        };
        let mut checked = check(&*self.metadata()?);
        if checked.as_ref().is_err_and(unknown_key) {
            self.renewed(KEYS_PATIENCE).await;
            checked = check(&*self.metadata()?);
        }
        checked.map_err(|error| {
            Failure::Wrong(short(&format!("the id token is not to be believed: {error}")))
        })?;
        let text = token.to_string();
        if text.len() > TOKEN {
            return Err(Failure::Wrong(format!("the id token is longer than {TOKEN} bytes")));
        }
        let claims = claims::of_token(&text).map_err(|error| wrong(&error))?;
        if claims::is_of_the_future(&claims, SystemTime::now()) {
            return Err(Failure::Wrong("the id token is not yet valid: look at both clocks".to_owned()));
        }
        if claims.get("azp").is_some_and(|party| party != &self.told.client_id) {
            return Err(Failure::Wrong("the id token was given to another party".to_owned()));
        }
        Ok(claims)
    }

    async fn user_info(
        &self,
        metadata: &Metadata,
        token: &AccessToken,
        claims: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Failure> {
        let endpoint = metadata.userinfo_endpoint().filter(|_| self.told.user_info);
        let Some(endpoint) = endpoint else { return Ok(Map::new()) };
        let request = http::Request::get(endpoint.as_str())
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::AUTHORIZATION, format!("Bearer {}", token.secret()))
            .body(Vec::new())
            .map_err(|error| Failure::Wrong(format!("the user info cannot be asked for: {error}")))?;
        let answer = self.web.ask(request).await.map_err(|error| away(&error))?;
        if !answer.status().is_success() {
            return Err(Failure::Away(format!("the user info is answered with {}", answer.status())));
        }
        let info = claims::parse(answer.body()).map_err(|error| wrong(&error))?;
        // Else it may be about somebody else (OpenID Connect Core 1.0 §5.3.2).
        if info.get("sub") != claims.get("sub") {
            return Err(Failure::Wrong("the user info is about another account".to_owned()));
        }
        Ok(info)
    }

    pub(super) fn metadata(&self) -> Result<Arc<Metadata>, Failure> {
        match self.known() {
            Known::Metadata(metadata) => Ok(metadata),
            Known::Nothing => Err(Failure::Away("the provider was not heard yet".to_owned())),
            Known::Fails(why) => Err(Failure::Away(why.to_string())),
        }
    }

    fn client(&self, metadata: &Metadata, redirect: Option<&str>) -> Result<Client, Failure> {
        let (secret, way) = match &self.told.authentication {
            Authentication::Basic(secret) => (Some(secret), AuthType::BasicAuth),
            Authentication::Post(secret) => (Some(secret), AuthType::RequestBody),
            Authentication::PrivateKey(_) => (None, AuthType::RequestBody),
        };
        let id = ClientId::new(self.told.client_id.clone());
        let secret = secret.map(|secret| ClientSecret::new(secret.reveal().to_owned()));
        let client = Client::from_provider_metadata(metadata.clone(), id, secret).set_auth_type(way);
        Ok(match redirect {
            Some(address) => {
                let address = RedirectUrl::new(address.to_owned());
                client.set_redirect_uri(address.map_err(|error| Failure::Wrong(error.to_string()))?)
            }
            None => client,
        })
    }

    /// What proves at the token endpoint that Usher is the client, where no secret does (RFC 7523 §2.2).
    fn proof(&self, metadata: &Metadata) -> Result<Vec<(&'static str, String)>, Failure> {
        let Authentication::PrivateKey(key) = &self.told.authentication else { return Ok(Vec::new()) };
        let audience =
            metadata.token_endpoint().map_or_else(|| metadata.issuer().to_string(), |url| url.to_string());
        let assertion = ClientKey::parse(key)
            .and_then(|key| key.assertion(&self.told.client_id, &audience))
            .map_err(|error| Failure::Client(error.to_string()))?;
        Ok(vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
            ("client_assertion", assertion),
        ])
    }
}

/// What a provider says, for logs and pages: not all that it likes.
pub(crate) fn short(said: &str) -> String {
    said.chars().filter(|said| !said.is_control()).take(SAID).collect()
}

fn away(error: &WebError) -> Failure {
    Failure::Away(error.to_string())
}

fn wrong(error: &BadClaims) -> Failure {
    Failure::Wrong(error.to_string())
}

/// What a failed question at the token endpoint means (RFC 6749 §5.2).
fn failure(error: &CoreRequestTokenError<WebError>) -> Failure {
    match error {
        CoreRequestTokenError::Request(error) => away(error),
        CoreRequestTokenError::ServerResponse(said) => {
            let text = short(&said.to_string());
            match said.error() {
                // The second is what Authlib says of an account that is locked.
                CoreErrorResponseType::InvalidGrant | CoreErrorResponseType::InvalidRequest => {
                    Failure::Refused(text)
                }
                CoreErrorResponseType::Extension(error) if PERSONAL.contains(&error.as_str()) => {
                    Failure::Refused(text)
                }
                CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient => {
                    Failure::Client(text)
                }
                _ => Failure::Away(text),
            }
        }
        CoreRequestTokenError::Parse(error, _) => {
            Failure::Wrong(short(&format!("the token endpoint's answer cannot be understood: {error}")))
        }
        CoreRequestTokenError::Other(text) => Failure::Away(short(text)),
    }
}

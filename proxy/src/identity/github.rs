//! GitHub, which speaks OAuth 2 and not OpenID Connect: who somebody is tells its API.
//!
//! Groups are the organisations (`acme`) and teams (`acme/platform`) that it tells of, the first hundred of each. An OAuth App
//! gets an access token that lasts until somebody takes it back: it is what is kept, and the API is asked with it again. A
//! GitHub App whose tokens expire gets a refresh token like everywhere else.

use super::claims;
use super::exchange::{Failure, Handed, Secrets, Unheard, short};
use super::provider::Provider;
use config::{Authentication, Issuer};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, StatusCode};
use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Before an access token and before a refresh token, where they are kept.
const KEPT: (&str, &str) = ("access ", "refresh ");

/// What the token endpoint answers, for good or ill, with status 200.
#[derive(Deserialize)]
struct Tokens {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Deserialize)]
struct Organisation {
    login: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Organisation,
}

/// The address at which somebody logs in.
pub(super) fn begin(
    provider: &Provider,
    redirect: &str,
    state: &str,
    secrets: &Secrets,
    another: bool,
) -> String {
    let told = &provider.told;
    let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("client_id", &told.client_id).append_pair("redirect_uri", redirect);
    query.append_pair("scope", &told.scopes.join(" ")).append_pair("state", state);
    query.append_pair("code_challenge", challenge.as_str()).append_pair("code_challenge_method", "S256");
    query.extend_pairs(&told.parameters);
    if another && !told.parameters.contains_key("prompt") {
        query.append_pair("prompt", told.prompt_another);
    }
    format!("{}/login/oauth/authorize?{}", base(provider), query.finish())
}

/// Redeems a code.
///
/// # Errors
/// It is worth nothing, or what it is worth cannot be told.
pub(super) async fn redeem(
    provider: &Provider,
    code: &str,
    redirect: &str,
    secrets: &Secrets,
) -> Result<Handed, Failure> {
    let grant = [("code", code), ("redirect_uri", redirect), ("code_verifier", &secrets.verifier)];
    handed(provider, tokens(provider, &grant).await?).await
}

/// Asks anew who somebody is.
///
/// # Errors
/// They are nobody any more, or it cannot be told.
pub(super) async fn refresh(provider: &Provider, kept: &str) -> Result<Handed, Unheard> {
    if let Some(token) = kept.strip_prefix(KEPT.1) {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let granted = tokens(provider, &grant).await?;
        let next = granted.refresh.as_ref().map(|token| format!("{}{token}", KEPT.1));
        return handed(provider, granted).await.map_err(|failure| Unheard { failure, next });
    }
    let access = kept.strip_prefix(KEPT.0).unwrap_or_default().to_owned();
    Ok(handed(provider, Granted { access, refresh: None, lasts: None }).await?)
}

struct Granted {
    access: String,
    refresh: Option<String>,
    lasts: Option<Duration>,
}

async fn tokens(provider: &Provider, grant: &[(&str, &str)]) -> Result<Granted, Failure> {
    let told = &provider.told;
    let (Authentication::Basic(secret) | Authentication::Post(secret)) = &told.authentication else {
        return Err(Failure::Client("GitHub takes a client_secret and no key".to_owned()));
    };
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("client_id", told.client_id.as_str()), ("client_secret", secret.reveal())])
        .extend_pairs(grant)
        .finish();
    let request = Request::post(format!("{}/login/oauth/access_token", base(provider)))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body.into_bytes());
    let tokens: Tokens = ask(provider, request).await?;
    let said = short(tokens.error_description.as_ref().or(tokens.error.as_ref()).map_or("", String::as_str));
    match (tokens.access_token, tokens.error.as_deref()) {
        (Some(access), None) => {
            let lasts = tokens.expires_in.map(Duration::from_secs);
            Ok(Granted { access, refresh: tokens.refresh_token, lasts })
        }
        (_, Some("incorrect_client_credentials" | "redirect_uri_mismatch")) => Err(Failure::Client(said)),
        (_, Some(_)) => Err(Failure::Refused(said)),
        (None, None) => Err(Failure::Wrong("GitHub's answer has no access token".to_owned())),
    }
}

async fn handed(provider: &Provider, granted: Granted) -> Result<Handed, Failure> {
    let user: User = about(provider, &granted.access, "/user").await?.ok_or_else(|| refused("its user"))?;
    let emails: Vec<Email> = about(provider, &granted.access, "/user/emails").await?.unwrap_or_default();
    let organisations: Vec<Organisation> =
        about(provider, &granted.access, "/user/orgs?per_page=100").await?.unwrap_or_default();
    let teams: Vec<Team> =
        about(provider, &granted.access, "/user/teams?per_page=100").await?.unwrap_or_default();
    let teams = teams.into_iter().map(|team| format!("{}/{}", team.organization.login, team.slug));
    let groups: Vec<String> = organisations.into_iter().map(|one| one.login).chain(teams).collect();
    let mut said = Map::from_iter([
        ("sub".to_owned(), json!(user.id.to_string())),
        ("preferred_username".to_owned(), json!(user.login)),
        ("name".to_owned(), json!(user.name.unwrap_or_else(|| user.login.clone()))),
        ("groups".to_owned(), json!(groups)),
    ]);
    if let Some(email) = emails.into_iter().find(|email| email.primary) {
        said.insert("email".to_owned(), Value::String(email.email));
        said.insert("email_verified".to_owned(), Value::Bool(email.verified));
    }
    let subject = claims::subject(&provider.told, said, Map::new());
    let subject = subject.map_err(|error| Failure::Wrong(error.to_string()))?;
    let refresh = match granted.refresh {
        Some(token) => format!("{}{token}", KEPT.1),
        None => format!("{}{}", KEPT.0, granted.access),
    };
    Ok(Handed { subject, sid: None, refresh: Some(refresh), lasts: granted.lasts })
}

/// What the API says; none = it does not let this token see that.
async fn about<T: DeserializeOwned>(
    provider: &Provider,
    token: &str,
    path: &str,
) -> Result<Option<T>, Failure> {
    let request = Request::get(format!("{}{path}", api(provider.told.protocol.issuer())))
        .header(ACCEPT, "application/vnd.github+json")
        .header(USER_AGENT, "usher")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Vec::new());
    let request = request.map_err(|error| Failure::Wrong(error.to_string()))?;
    let answer = provider.web.ask(request).await.map_err(|error| Failure::Away(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => parse(answer.body()).map(Some),
        StatusCode::UNAUTHORIZED => Err(refused("its token")),
        // A scope that was not asked for, or not granted.
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND if !is_limited(&answer) => Ok(None),
        status => Err(Failure::Away(format!("GitHub's API answers {status}"))),
    }
}

/// Whether a 403 means that too much was asked.
fn is_limited<T>(answer: &http::Response<T>) -> bool {
    let left = answer.headers().get("x-ratelimit-remaining");
    left.is_some_and(|left| left == "0") || answer.headers().contains_key("retry-after")
}

async fn ask<T: DeserializeOwned>(
    provider: &Provider,
    request: Result<Request<Vec<u8>>, http::Error>,
) -> Result<T, Failure> {
    let request = request.map_err(|error| Failure::Wrong(error.to_string()))?;
    let answer = provider.web.ask(request).await.map_err(|error| Failure::Away(error.to_string()))?;
    if answer.status().is_server_error() {
        return Err(Failure::Away(format!("GitHub answers {}", answer.status())));
    }
    parse(answer.body())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    // Where, and not what: it is about a person.
    let place =
        |error: serde_json::Error| format!("{:?} error in column {}", error.classify(), error.column());
    serde_json::from_slice(body)
        .map_err(|error| Failure::Wrong(format!("GitHub's answer cannot be understood: {}", place(error))))
}

fn refused(what: &str) -> Failure {
    Failure::Refused(format!("GitHub does not know {what} any more"))
}

fn base(provider: &Provider) -> String {
    provider.told.protocol.issuer().as_str().trim_end_matches('/').to_owned()
}

/// Where the API is: beside GitHub, and within a GitHub Enterprise Server.
fn api(issuer: &Issuer) -> String {
    match issuer.as_str().trim_end_matches('/') {
        "https://github.com" => "https://api.github.com".to_owned(),
        server => format!("{server}/api/v3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_stands_beside_github_and_within_a_server_of_ones_own() {
        for (issuer, expected) in [
            ("https://github.com", "https://api.github.com"),
            ("https://git.example.org", "https://git.example.org/api/v3"),
        ] {
            assert_eq!(api(&Issuer::parse(issuer).unwrap()), expected);
        }
    }
}

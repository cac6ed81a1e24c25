//! `/cli`: a person lets a command line act for them, and `/api/v1/cli/…`: what `usher login` asks for with that.
//!
//! It is the code flow of RFC 8252 with PKCE (RFC 7636): the person's browser leads the consent to a port of their own machine,
//! and whoever shows it must know what only the program knows that asked. The code is good once and for a minute.

use super::{answer, fields};
use crate::audit::{By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::identity;
use crate::keys::Purpose;
use crate::limits::PerUser;
use crate::machines::{access, form};
use crate::own::Asked;
use crate::page::{Page, Reach, common_headers, escape};
use crate::refusal::{Code, Refusal};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::TokenScopes;
use control::{MakeError, NewToken, RecordError, RefreshSecret, Rotated, SessionId, Token};
use http::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a code is good: a program waits for it.
const CODE: Duration = Duration::from_secs(60);
/// The longest name of a machine, in characters.
const NAME: usize = 64;

/// What a command line asks a person for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    /// Where it listens on the person's machine.
    port: u16,
    /// By which it knows its own try.
    state: String,
    /// Of what it alone knows (RFC 7636 §4.2).
    challenge: String,
    /// What its machine calls itself.
    name: String,
    scopes: TokenScopes,
}

/// What a code says, for ourselves alone.
#[derive(Serialize, Deserialize)]
struct Consent {
    session: [u8; 16],
    challenge: String,
    name: String,
    scopes: String,
    /// In milliseconds since 1970.
    ends: u64,
}

impl Ask {
    fn parse(fields: &HashMap<String, String>) -> Option<Self> {
        let text = |key: &str| fields.get(key).map(String::as_str);
        let opaque = |key: &str| {
            let is_opaque = |text: &&str| {
                text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            text(key).filter(is_opaque).map(str::to_owned)
        };
        let name = text("name")?.trim();
        let is_name = (1..=NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        Some(Self {
            port: text("port")?.parse().ok().filter(|port| *port >= 1024)?,
            state: opaque("state")?,
            challenge: opaque("challenge")?,
            name: is_name.then(|| name.to_owned())?,
            scopes: TokenScopes::parse(text("scopes")?).filter(|scopes| !scopes.is_empty())?,
        })
    }

    fn of_query(query: &[u8]) -> Option<Self> {
        Self::parse(&form_urlencoded::parse(query).into_owned().collect())
    }

    /// What program and page show, so that the person sees that they belong together.
    fn words(&self) -> String {
        words(&self.challenge)
    }

    fn hidden(&self) -> String {
        let (port, scopes) = (self.port.to_string(), self.scopes.to_string());
        let fields = [
            ("port", port.as_str()),
            ("state", &self.state),
            ("challenge", &self.challenge),
            ("name", &self.name),
            ("scopes", &scopes),
        ];
        let field =
            |(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
        fields.map(field).concat()
    }
}

/// Eight characters of a hash: what a person can compare.
pub(crate) fn words(challenge: &str) -> String {
    const SIGNS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let hash = digest(&SHA256, format!("usher login {challenge}").as_bytes());
    let sign = |byte: &u8| char::from(SIGNS[usize::from(byte % 32)]);
    let signs: String = hash.as_ref().iter().take(8).map(sign).collect();
    format!("{}-{}", &signs[..4], &signs[4..])
}

/// `GET /cli`: asks the person.
pub(super) async fn ask(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    uri: Uri,
) -> Response {
    let query = uri.query().unwrap_or_default();
    let Some(ask) = Ask::of_query(query.as_bytes()) else { return not_understood(&asked) };
    let Some(caller) = &asked.own.caller else {
        let here = asked.connection.listener.origin(asked.host.as_str());
        let back = format!("{here}/cli?{query}");
        return handoff::redirect(&handoff::with_query("/login", &[("return", &back)]), []);
    };
    let csrf = fields::token(&edge.keys, &asked, &caller.id);
    let scopes: String =
        ask.scopes.iter().map(|scope| format!("<li>{}</li>", escape(scope.meaning()))).collect();
    let body = format!(
        "<h1>Let a command line in?</h1><p class=\"lead\"><code>usher login</code> on <strong>{}</strong> wants to act as \
         <strong>{}</strong>:</p><ul>{scopes}</ul><p>Go on only if you have just started it yourself, and it shows \
         <strong id=\"words\">{}</strong>.</p>\
         <form id=\"consent\" method=\"post\" action=\"/cli\">{}<input type=\"hidden\" name=\"csrf\" value=\"{csrf}\">\
         <p class=\"actions\"><button>Let it in</button> <a class=\"button second\" href=\"/\">No</a></p></form>",
        escape(&ask.name),
        escape(caller.session.label.as_str()),
        ask.words(),
        ask.hidden(),
    );
    let page = Page { title: "Let a command line in?", body: &body, ..Page::default() };
    let forms = format!("http://127.0.0.1:{}", ask.port);
    page.response(StatusCode::OK, Reach { forms: &forms, ..Reach::default() }).map(Body::from)
}

/// `POST /cli`: the person lets it in.
pub(super) async fn consent(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    if let Err(refusal) = fields::of_change(&edge.keys, &asked, caller, &headers, &body) {
        return answer::refuse(&asked, &refusal);
    }
    let Some(ask) = Ask::of_query(&body) else { return not_understood(&asked) };
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + CODE;
    let consent = Consent {
        session: caller.id.0,
        challenge: ask.challenge,
        name: ask.name,
        scopes: ask.scopes.to_string(),
        ends: u64::try_from(ends.as_millis()).unwrap_or(0),
    };
    let sealed = serde_json::to_vec(&consent).expect("texts and numbers are JSON");
    let code = edge.keys.seal(Purpose::Consent, asked.host.as_str(), &sealed);
    let back = format!("http://127.0.0.1:{}/", ask.port);
    handoff::redirect(&handoff::with_query(&back, &[("code", &code), ("state", &ask.state)]), [])
}

fn not_understood(asked: &Asked) -> Response {
    let text = "Start `usher login` again: this address is not one that it makes.";
    answer::say(asked, StatusCode::BAD_REQUEST, "That is not understood", text, ("/", "To your workspaces"))
}

/// Why a program gets no token (RFC 6749 §5.2).
enum NoToken {
    /// What it shows is worth nothing.
    Grant(&'static str),
    /// What it sends cannot be understood.
    Request,
    Records(RecordError),
    /// Its owner asks for too much.
    Refused(Refusal),
}

impl From<RecordError> for NoToken {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

impl From<MakeError> for NoToken {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Records(error) => Self::Records(error),
            MakeError::SessionOver | MakeError::TooMany(_) => {
                Self::Grant("the session of who gave the code has ended")
            }
        }
    }
}

/// `POST /api/v1/cli/token`: a code, or the secret that was given last, for an access token and the next secret.
pub(super) async fn token(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers.contains_key(ORIGIN) {
        // It is for programs: no page has what is asked for here.
        return answer::refuse(&asked, &Refusal::new(Code::CrossOrigin));
    }
    let fields: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let text = |key: &str| fields.get(key).map(String::as_str).ok_or(NoToken::Request);
    let now = SystemTime::now();
    let given = match text("grant_type") {
        Ok("authorization_code") => match (text("code"), text("code_verifier")) {
            (Ok(code), Ok(verifier)) => by_code(&edge, &asked, code, verifier, now).await,
            _ => Err(NoToken::Request),
        },
        Ok("refresh_token") => match text("refresh_token") {
            Ok(secret) => by_secret(&edge, &asked, secret, now).await,
            Err(error) => Err(error),
        },
        _ => Err(NoToken::Request),
    };
    match given {
        Ok((secret, token)) => {
            let portal = asked.connection.listener.origin(asked.config.portal.as_str());
            told(
                StatusCode::OK,
                &json!({
                    "access_token": edge.machines.access.issue(&token, &portal, now),
                    "token_type": "Bearer",
                    "expires_in": access::LIFETIME.as_secs(),
                    "refresh_token": form::refresh_token(&secret),
                    "scope": token.scopes.to_string(),
                    "user": token.session.label.as_str(),
                }),
            )
        }
        Err(why) => refuse(&edge, &asked, why).await,
    }
}

async fn by_code(
    edge: &Edge,
    asked: &Asked,
    code: &str,
    verifier: &str,
    now: SystemTime,
) -> Result<(RefreshSecret, Arc<Token>), NoToken> {
    let bad = NoToken::Grant;
    let opened = edge.keys.open(Purpose::Consent, asked.host.as_str(), code.as_bytes());
    let consent = opened.ok().and_then(|sealed| serde_json::from_slice::<Consent>(&sealed).ok());
    let consent = consent.ok_or(bad("the code is not one of ours"))?;
    let ends = UNIX_EPOCH + Duration::from_millis(consent.ends);
    let left = ends.duration_since(now).map_err(|_| bad("the code has expired"))?;
    // Spent by whoever shows it first: a stolen one dies where it is tried.
    if !edge.tickets.redeem(code.as_bytes(), left).await? {
        return Err(bad("the code was used before"));
    }
    if URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) != consent.challenge {
        return Err(bad("another program asked for the code"));
    }
    let session = edge.sessions.lookup(&SessionId(consent.session));
    let session = session.filter(|session| identity::is_served(&asked.config, &session.login));
    let session = session.ok_or(bad("the session of who gave the code has ended"))?;
    let scopes = TokenScopes::parse(&consent.scopes).unwrap_or_default();
    let lifetime = asked.config.machines.login_lifetime;
    let new = NewToken { name: consent.name, scopes, lifetime, now };
    let by = SessionId(consent.session).reference();
    let (secret, token) = edge.tokens.begin_login(&session, by, new).await?;
    let entry = Entry::done(Event::TokenMade).because(Reason::CommandLine).asked(asked).by_token(&token);
    edge.audit.record(entry.session(by));
    let excess = edge.tokens.end_excess(&session.identity).await;
    edge.audit.revoked(&excess, &Entry::done(Event::TokenRevoked).because(Reason::TooMany).by(By::Usher));
    if let Err(error) = excess.result() {
        // The new login stands all the same; the next one ends those.
        tracing::warn!(%error, "the oldest logins of command lines of somebody with too many could not be ended");
    }
    Ok((secret, token))
}

async fn by_secret(
    edge: &Edge,
    asked: &Asked,
    secret: &str,
    now: SystemTime,
) -> Result<(RefreshSecret, Arc<Token>), NoToken> {
    let secret = form::read_refresh_token(secret).ok_or(NoToken::Grant("the token is not one of ours"))?;
    let known = edge.tokens.find(secret.reference(), now);
    if known.as_ref().is_some_and(|token| !identity::is_served(&asked.config, &token.session.login)) {
        return Err(NoToken::Grant("nobody logs in by this way any more: log in again"));
    }
    if let Some(token) = &known {
        let counted = edge.limits.user(PerUser::Requests, &asked.config, &token.session);
        counted.map_err(NoToken::Refused)?;
    }
    let config::Machines { login_lifetime, token_lifetime, .. } = asked.config.machines;
    match edge.tokens.rotate(&secret, now, login_lifetime, token_lifetime).await? {
        Rotated::Next(next, token) => Ok((next, token)),
        Rotated::Reused(revoking) => {
            let entry = Entry::done(Event::TokenRevoked).because(Reason::Replayed).asked(asked).by(By::Usher);
            edge.audit.revoked(&revoking, &entry);
            revoking.result()?;
            Err(NoToken::Grant("the token was used before: the login has ended"))
        }
        Rotated::Unknown => Err(NoToken::Grant("the login has ended: log in again")),
    }
}

/// `POST /api/v1/cli/logout` (RFC 7009): ends the login whose secret is shown.
pub(super) async fn end(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    body: Bytes,
) -> Response {
    let mut fields = form_urlencoded::parse(&body);
    let shown = fields.find(|(key, _)| key == "token");
    let Some(secret) = shown.and_then(|(_, token)| form::read_refresh_token(&token)) else {
        return refuse(&edge, &asked, NoToken::Grant("the token is not one of ours")).await;
    };
    let known = edge.tokens.find(secret.reference(), SystemTime::now());
    match known {
        None => told(StatusCode::OK, &json!({})),
        Some(token) => {
            let revoking = edge.tokens.revoke(token.reference).await;
            edge.audit
                .revoked(&revoking, &Entry::done(Event::TokenRevoked).because(Reason::Logout).asked(&asked));
            match revoking.result() {
                Ok(_) => told(StatusCode::OK, &json!({})),
                Err(error) => refuse(&edge, &asked, error.into()).await,
            }
        }
    }
}

/// An error for a program. One that shows what is worth nothing counts as a bad token of its address.
async fn refuse(edge: &Edge, asked: &Asked, why: NoToken) -> Response {
    let (error, what) = match why {
        NoToken::Request => ("invalid_request", "the form does not have what it must"),
        NoToken::Grant(what) => ("invalid_grant", what),
        NoToken::Records(error) => {
            tracing::error!(%error, "a login of a command line could not be written down");
            return handoff::unavailable();
        }
        NoToken::Refused(refusal) => return answer::refuse(asked, &refusal),
    };
    let client = asked.connection.client.ip();
    tracing::info!(client.ip = %client, token.problem = what, "a command line was not let in");
    let held = match edge.limits.bad_token(&asked.config, client) {
        Ok(()) => edge.limits.hold_failure(client).await,
        Err(refusal) => Err(refusal),
    };
    match held {
        Ok(()) => told(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": what })),
        Err(refusal) => answer::refuse(asked, &refusal),
    }
}

fn told(status: StatusCode, document: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    *response.status_mut() = status;
    *response.headers_mut() = common_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_asks_for_is_checked_before_anybody_is_asked() {
        let opaque = "A".repeat(43);
        let query = |port: &str, state: &str, name: &str, scopes: &str| {
            let fields = [
                ("port", port),
                ("state", state),
                ("challenge", &opaque),
                ("name", name),
                ("scopes", scopes),
            ];
            form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
        };
        let ask = Ask::of_query(query("4000", &opaque, " laptop ", "sessions").as_bytes()).unwrap();
        assert_eq!(
            (ask.port, ask.name.as_str(), ask.scopes.to_string()),
            (4000, "laptop", "sessions".to_owned())
        );
        let long = "x".repeat(65);
        for (port, state, name, scopes) in [
            ("80", opaque.as_str(), "laptop", "sessions"),
            ("99999", &opaque, "laptop", "sessions"),
            ("4000@evil.example", &opaque, "laptop", "sessions"),
            ("4000", "", "laptop", "sessions"),
            ("4000", "A&x=1", "laptop", "sessions"),
            ("4000", &opaque, "", "sessions"),
            ("4000", &opaque, "a\nb", "sessions"),
            ("4000", &opaque, &long, "sessions"),
            ("4000", &opaque, "laptop", ""),
            ("4000", &opaque, "laptop", "everything"),
        ] {
            assert_eq!(
                Ask::of_query(query(port, state, name, scopes).as_bytes()),
                None,
                "{port} {state} {name} {scopes}"
            );
        }
    }

    #[test]
    fn the_words_are_eight_signs_of_what_only_one_try_has() {
        let (one, other) = (words("a"), words("b"));
        assert_eq!((one.len(), &one[4..5]), (9, "-"));
        assert_ne!(one, other);
        assert_eq!(words("a"), one);
    }
}

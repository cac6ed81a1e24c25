//! `usher login`, `usher token` and `usher logout`: a person's own side, on any machine that reaches the portal.
//!
//! The browser of that machine leads the person's consent back to a port of 127.0.0.1 (RFC 8252 §7.3). What is kept is one
//! secret that is good once: whoever asks for a token holds a lock on the file, so that two never show the same.

mod callback;
mod credentials;

use crate::identity::{self, Web, WebError};
use crate::machines::pkce;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callback::Callback;
use config::TokenScopes;
use credentials::{Credentials, Kept};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use url::Url;

/// What `usher login` asks for, unless it is told something else.
pub const SCOPES: &str = "workspaces:read workspaces:start workspaces:stop workspaces:access sessions";
/// How long an access token must still be good to be given out.
const LEFT: Duration = Duration::from_secs(60);
/// Where the system tells what this machine is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Why there is no login, or no token.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    /// The portal's address cannot be used.
    #[error("{0:?} is not the address of a portal, such as https://lab.example.org")]
    Portal(String),
    /// It is not known which portal is meant.
    #[error(
        "there is no login here, or there are several: name the portal by --portal, or run `usher login --portal ADDRESS`"
    )]
    NoPortal,
    /// The scopes are not known.
    #[error("{0:?} are no scopes; there are: {all}", all = TokenScopes::from_iter(config::TokenScope::ALL))]
    Scopes(String),
    /// What is kept cannot be read or written, or others may read it.
    #[error("{} cannot be used: {problem}", file.display())]
    Credentials {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// There is no port, or the browser did not come back.
    #[error("no browser came back with an answer")]
    NoAnswer(#[source] io::Error),
    /// The portal cannot be asked.
    #[error(transparent)]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("{portal} says: {said}; run `usher login --portal {portal}`")]
    Refused {
        /// Its address.
        portal: String,
        /// Its own words.
        said: String,
    },
}

impl From<WebError> for CommandLineError {
    fn from(error: WebError) -> Self {
        Self::Unreachable(Box::new(error))
    }
}

impl From<certs::NoRoots> for CommandLineError {
    fn from(error: certs::NoRoots) -> Self {
        Self::Unreachable(Box::new(error))
    }
}

/// What the portal gives for a code or a secret.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: u64,
    refresh_token: String,
    user: String,
}

/// What the portal says in place of it (RFC 6749 §5.2).
#[derive(Deserialize)]
struct NotGiven {
    error_description: String,
}

/// `usher login`: what to say when it is done.
///
/// # Errors
/// Nobody let it in, or the portal cannot be reached.
pub async fn login(portal: Option<String>, scopes: &str, browser: bool) -> Result<String, CommandLineError> {
    let folder = credentials::folder()?;
    let portal = match portal {
        Some(portal) => origin(&portal)?,
        None => Credentials::open(&folder)?.only()?,
    };
    let known = TokenScopes::parse(scopes).filter(|scopes| !scopes.is_empty());
    let scopes = known.ok_or_else(|| CommandLineError::Scopes(scopes.to_owned()))?;
    let (verifier, state) = (random(), random());
    let challenge = pkce::challenge(&verifier);
    let callback = Callback::bind().await.map_err(CommandLineError::NoAnswer)?;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("port", &callback.port().to_string())
        .append_pair("state", &state)
        .append_pair("challenge", &challenge)
        .append_pair("name", &machine())
        .append_pair("scopes", &scopes.to_string())
        .finish();
    let address = format!("{portal}/cli?{query}");
    if !(browser && opens(&address)) {
        eprintln!("Open this address in a browser of this machine:\n\n  {address}\n");
    }
    eprintln!("The page must show {}. Waiting for it …", pkce::words(&challenge));
    let code = callback.code(&state).await.map_err(CommandLineError::NoAnswer)?;
    let fields = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", &verifier)];
    let given = ask(&portal, "token", &fields).await?;
    let user = given.user.clone();
    // Held while it is written alone: the person may take their time.
    let mut credentials = Credentials::open(&folder)?;
    credentials.put(&portal, kept(given));
    credentials.write()?;
    Ok(format!("Logged in to {portal} as {}.\n", identity::short(&user)))
}

/// `usher token`: an access token that is good for a minute at least.
///
/// # Errors
/// There is no login, or it has ended.
pub async fn token(portal: Option<String>) -> Result<String, CommandLineError> {
    let mut credentials = Credentials::open(&credentials::folder()?)?;
    let portal = which(&credentials, portal)?;
    let Some(mut login) = credentials.get(&portal).cloned() else { return Err(CommandLineError::NoPortal) };
    if login.expires_at < SystemTime::now() + LEFT {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", login.refresh_token.as_str())];
        match ask(&portal, "token", &fields).await {
            Ok(given) => login = kept(given),
            Err(error) => {
                if matches!(error, CommandLineError::Refused { .. }) {
                    credentials.remove(&portal);
                    credentials.write()?;
                }
                return Err(error);
            }
        }
        credentials.put(&portal, login.clone());
        credentials.write()?;
    }
    Ok(format!("{}\n", login.access_token.replace(char::is_control, "")))
}

/// `usher logout`: ends the login, here and there.
///
/// # Errors
/// There is none, or the portal cannot be told; it is kept then.
pub async fn logout(portal: Option<String>) -> Result<String, CommandLineError> {
    let mut credentials = Credentials::open(&credentials::folder()?)?;
    let portal = which(&credentials, portal)?;
    let Some(login) = credentials.get(&portal) else { return Err(CommandLineError::NoPortal) };
    let (status, _) = post(&portal, "logout", &[("token", &login.refresh_token)]).await?;
    // A login that the portal does not know is over as well.
    if !matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST) {
        let said = format!("{portal} answers with {status}: the login may go on, try again");
        return Err(CommandLineError::Unreachable(said.into()));
    }
    credentials.remove(&portal);
    credentials.write()?;
    Ok(format!("Logged out of {portal}.\n"))
}

fn which(credentials: &Credentials, portal: Option<String>) -> Result<String, CommandLineError> {
    portal.map_or_else(|| credentials.only(), |portal| origin(&portal))
}

fn kept(given: Given) -> Kept {
    Kept {
        user: given.user,
        access_token: given.access_token,
        expires_at: SystemTime::now() + Duration::from_secs(given.expires_in.min(3600)),
        refresh_token: given.refresh_token,
    }
}

async fn ask(portal: &str, what: &str, fields: &[(&str, &str)]) -> Result<Given, CommandLineError> {
    let (status, body) = post(portal, what, fields).await?;
    if status == StatusCode::OK
        && let Ok(given) = serde_json::from_slice(&body)
    {
        return Ok(given);
    }
    match serde_json::from_slice(&body) {
        Ok(NotGiven { error_description: said }) if status == StatusCode::BAD_REQUEST => {
            Err(CommandLineError::Refused { portal: portal.to_owned(), said: identity::short(&said) })
        }
        _ => Err(CommandLineError::Unreachable(
            format!("{portal} answers with {status}, and not as the portal of an Usher").into(),
        )),
    }
}

async fn post(
    portal: &str,
    what: &str,
    fields: &[(&str, &str)],
) -> Result<(StatusCode, Vec<u8>), CommandLineError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = Request::new(body.into_bytes());
    *request.method_mut() = Method::POST;
    let address = format!("{portal}/api/v1/cli/{what}");
    *request.uri_mut() = Uri::try_from(address).map_err(|_| CommandLineError::Portal(portal.to_owned()))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let answer = Web::new(None)?.ask(request).await?;
    Ok((answer.status(), answer.into_body()))
}

/// The portal's origin, of whatever address somebody has copied.
fn origin(portal: &str) -> Result<String, CommandLineError> {
    let bad = || CommandLineError::Portal(portal.to_owned());
    let url = Url::parse(portal).map_err(|_| bad())?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_web { Ok(url.origin().ascii_serialization()) } else { Err(bad()) }
}

/// Whether a browser was started with this address.
fn opens(address: &str) -> bool {
    let browser = std::env::var("BROWSER").unwrap_or_else(|_| "xdg-open".to_owned());
    let mut command = Command::new(browser);
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}

fn machine() -> String {
    let name = std::fs::read_to_string(Path::new(HOST_NAME)).unwrap_or_default();
    let name: String = name.trim().chars().take(64).collect();
    if name.is_empty() { "this machine".to_owned() } else { name }
}

/// 256 bits as text.
fn random() -> String {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_is_named_by_any_of_its_addresses() {
        for (given, portal) in [
            ("https://lab.example.org", Some("https://lab.example.org")),
            ("https://lab.example.org/sessions?x#y", Some("https://lab.example.org")),
            ("http://lab.localhost:8080/", Some("http://lab.localhost:8080")),
            ("https://LAB.example.org:443/", Some("https://lab.example.org")),
            ("lab.example.org", None),
            ("ftp://lab.example.org", None),
            ("", None),
        ] {
            assert_eq!(origin(given).ok().as_deref(), portal, "{given}");
        }
    }

    #[test]
    fn what_is_asked_for_by_itself_are_scopes() {
        assert!(TokenScopes::parse(SCOPES).is_some());
    }
}

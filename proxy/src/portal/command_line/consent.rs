//! What a person is asked, and how what they say gets to the program.

use super::Consent;
use crate::edge::Edge;
use crate::handoff;
use crate::machines::pkce;
use crate::own::Asked;
use crate::page::{Page, Reach, escape};
use crate::portal::{answer, fields};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::response::Response;
use config::TokenScopes;
use http::{HeaderMap, StatusCode, Uri};
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
        pkce::words(&self.challenge)
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

/// `GET /cli`: asks the person.
pub(in crate::portal) async fn ask(
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
pub(in crate::portal) async fn consent(
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
    let code = consent.seal(&edge.keys, &asked.host);
    let back = format!("http://127.0.0.1:{}/", ask.port);
    handoff::redirect(&handoff::with_query(&back, &[("code", &code), ("state", &ask.state)]), [])
}

fn not_understood(asked: &Asked) -> Response {
    let text = "Start `usher login` again: this address is not one that it makes.";
    answer::say(asked, StatusCode::BAD_REQUEST, "That is not understood", text, ("/", "To your workspaces"))
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
}

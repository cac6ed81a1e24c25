//! The login for development, which believes whatever name is typed.

use super::entering::Entering;
use super::{Begun, NotIn, attempted, impossible, refused, stale, store_failed};
use crate::audit::Reason;
use crate::connection::ConnectionFacts;
use crate::edge::Edge;
use crate::handoff::{self, Kind};
use crate::keys::Keys;
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::portal::answer;
use crate::portal::fields::{Fields, is_from_here};
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::Response;
use config::Config;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::SystemTime;

/// The longest name that is believed, in characters.
const NAME_MAX: usize = 64;

/// Whether the development login is served to whoever comes by this connection: people on this machine, and nobody for whom a
/// trusted proxy on this machine speaks.
pub(super) fn is_development_served(config: &Config, connection: &ConnectionFacts) -> bool {
    let is_here = || connection.listener.loopback && connection.client.ip().to_canonical().is_loopback();
    config.login.development && (config.login.development_from_anywhere_unsafe || is_here())
}

/// `POST /login`: a name was typed.
pub(in crate::portal) async fn submit(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !is_development_served(&asked.config, &asked.connection) {
        return impossible(&edge, &asked)
            .unwrap_or_else(|| answer::refuse(&asked, &Refusal::new(Code::MethodNotAllowed)));
    }
    attempted(&edge, &asked, None, log_in(&edge, &asked, &headers, &body, SystemTime::now())).await
}

async fn log_in(
    edge: &Edge,
    asked: &Asked,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Response, NotIn> {
    let listener = &asked.connection.listener;
    if !is_from_here(asked, headers) {
        let page = answer::refuse(asked, &Refusal::new(Code::CrossOrigin));
        return Err(refused(Reason::ForeignPage, page));
    }
    let fields = Fields::parse(headers, body).unwrap_or_default();
    let begun = fields.one("state").and_then(|state| Begun::open(&edge.keys, asked, state));
    let begun = begun.filter(|begun| begun.provider.is_none());
    let begun = begun.ok_or_else(|| refused(Reason::BadState, stale(asked, "/login")))?;
    let back = begun.onward.login(listener);
    let left = begun.left(now).ok_or_else(|| refused(Reason::Expired, stale(asked, &back)))?;
    if !begun.attempt.is_of(Kind::Login, headers) {
        return Err(refused(Reason::OtherBrowser, handoff::cookie_dropped(asked, &back)));
    }
    let typed = fields.one("name").unwrap_or_default();
    let Some(name) = believable(typed) else {
        let problem = "Type a name of 1 to 64 characters.";
        return Err(refused(Reason::BadName, page(&begun, &edge.keys, asked, typed, problem)));
    };
    // Asked before the form is used up, which leaves a record: who may not enter leaves none, however often they try.
    // They could send the form again, and it would still log in one time at most.
    let entering = Entering::by_name(asked, headers, name)?;
    match edge.tickets.redeem(&begun.attempt.to_bytes(), left).await {
        Ok(true) => {}
        // The second of two clicks: the first one's session may be there already.
        Ok(false) => return Err(refused(Reason::Replayed, handoff::redirect(&back, []))),
        Err(error) => return Err(store_failed(&error)),
    }
    let mut cookies = vec![begun.attempt.end(Kind::Login)];
    if let Some(entering) = entering {
        cookies.push(entering.enter(edge, asked, now).await?);
    }
    // By way of the login, which makes tickets of the session that this browser then really holds: tabs that
    // log in side by side overwrite each other's cookie.
    Ok(handoff::redirect(&back, cookies))
}

/// The page that asks for a name again, and says what was wrong with the one that was typed.
fn page(begun: &Begun, keys: &Keys, asked: &Asked, typed: &str, problem: &str) -> Response {
    let body = format!(
        "<h1>Who are you?</h1><p class=\"lead\">{}</p>{}",
        begun.onward.purpose(),
        form(begun, keys, asked, typed, Some(problem)),
    );
    let page = Page { title: "Log in", body: &body, scripts: &["/assets/login.js"], ..Page::default() };
    answer::page(asked, StatusCode::UNPROCESSABLE_ENTITY, page)
}

/// The form that asks for a name. `problem`: what was wrong with the one that was typed.
pub(super) fn form(begun: &Begun, keys: &Keys, asked: &Asked, typed: &str, problem: Option<&str>) -> String {
    format!(
        "{WARNING}<form id=\"login\" method=\"post\" action=\"/login\"><label for=\"name\">Name</label>{}\
         <input type=\"hidden\" name=\"state\" value=\"{}\">\
         <p class=\"actions\"><button>Log in</button></p></form>",
        name_field(typed, problem),
        begun.seal(keys, asked),
    )
}

const WARNING: &str = "<p class=\"alarm\" role=\"alert\"><strong>Development login: not safe.</strong> Whatever \
    name is typed here is believed, without a password. Whoever reaches this page can be anybody.</p>";

fn name_field(typed: &str, problem: Option<&str>) -> String {
    let (invalid, problem) = match problem {
        Some(problem) => (
            " aria-invalid=\"true\" aria-describedby=\"problem\"",
            format!("<p id=\"problem\" class=\"alarm\" role=\"alert\">{}</p>", escape(problem)),
        ),
        None => ("", String::new()),
    };
    format!(
        "<input id=\"name\" name=\"name\" value=\"{}\" required maxlength=\"64\" autofocus \
         autocomplete=\"username\" autocapitalize=\"none\" spellcheck=\"false\"{invalid}>{problem}",
        escape(typed)
    )
}

/// A name as it was typed, without the space around it.
fn believable(typed: &str) -> Option<&str> {
    let name = typed.trim();
    let length = name.chars().count();
    ((1..=NAME_MAX).contains(&length) && !name.chars().any(char::is_control)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ListenerFacts;

    #[test]
    fn a_name_is_believed_if_it_is_one_short_line() {
        let long = "x".repeat(NAME_MAX);
        for (typed, name) in [
            ("alice", Some("alice")),
            ("  Ada Lovelace ", Some("Ada Lovelace")),
            ("\u{5d0}\u{5d1}", Some("\u{5d0}\u{5d1}")),
            (&long, Some(long.as_str())),
            (&format!("{long}x"), None),
            ("", None),
            ("   ", None),
            ("a\nb", None),
            ("a\u{0}b", None),
        ] {
            assert_eq!(believable(typed), name, "{typed:?}");
        }
    }

    #[test]
    fn who_comes_by_a_proxy_on_this_machine_is_not_on_it() {
        let config = |more: &str| {
            let text = format!(
                "domain = 'lab.localhost'\nlisteners = [{{ address = '127.0.0.1:8080' }}]\n\
                 login = {{ development = true{more} }}\naccess = {{ allow = 'true', template = \"'demo'\" }}\n\
                 [templates.demo]\ncommand = ['demo', '{{socket}}']\nconnect = 'socket'\n"
            );
            Config::parse("test.toml", &text, &|_| None).unwrap()
        };
        let anywhere = ", development_from_anywhere_unsafe = true";
        for (more, loopback, client, served) in [
            ("", true, "127.0.0.1:1", true),
            ("", true, "[::ffff:127.0.0.1]:1", true),
            ("", true, "198.51.100.1:1", false),
            ("", false, "127.0.0.1:1", false),
            (anywhere, true, "198.51.100.1:1", true),
            (anywhere, false, "198.51.100.1:1", true),
        ] {
            let listener =
                Arc::new(ListenerFacts { tls: false, public_port: 8080, loopback, redirects: false });
            let connection = ConnectionFacts {
                listener,
                client: client.parse().unwrap(),
                server_name: None,
                transport_security: None,
            };
            assert_eq!(
                is_development_served(&config(more), &connection),
                served,
                "{more} {loopback} {client}"
            );
        }
    }
}

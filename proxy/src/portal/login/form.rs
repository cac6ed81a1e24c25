//! The login's form and the sealed state in it: one try, bound to one browser, for ten minutes.

use crate::handoff::{Attempt, Kind};
use crate::keys::{Keys, Purpose};
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::portal::answer;
use crate::portal::onward::Onward;
use axum::response::Response;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One try at a login.
#[derive(Debug)]
pub(super) struct Form {
    /// Whose cookie the browser must hold.
    pub(super) attempt: Attempt,
    /// Where it leads.
    pub(super) onward: Onward,
    /// When it ends, in milliseconds since 1970.
    ends: u64,
    /// What to set with the page.
    cookies: Vec<HeaderValue>,
}

impl Form {
    /// Begins a try.
    pub(super) fn begin(onward: Onward, headers: &HeaderMap, now: SystemTime) -> Self {
        let (attempt, cookies) = Attempt::begin(Kind::Login, headers, now);
        let ends = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Attempt::LIFETIME;
        let ends = u64::try_from(ends.as_millis()).unwrap_or(0);
        Self { attempt, onward, ends, cookies }
    }

    /// Opens the state that came back with a form, ended or not.
    pub(super) fn open(keys: &Keys, asked: &Asked, state: &str) -> Option<Self> {
        let bytes = keys.open(Purpose::Login, asked.host.as_str(), state.as_bytes()).ok()?;
        let (attempt, rest) = bytes.split_first_chunk()?;
        let (ends, query) = rest.split_first_chunk()?;
        let query = std::str::from_utf8(query).ok()?;
        Some(Self {
            attempt: Attempt::from_bytes(attempt)?,
            onward: Onward::parse(&asked.config, &asked.connection.listener, query),
            ends: u64::from_be_bytes(*ends),
            cookies: vec![],
        })
    }

    /// How long it may still be sent.
    pub(super) fn left(&self, now: SystemTime) -> Option<Duration> {
        let ends = UNIX_EPOCH.checked_add(Duration::from_millis(self.ends))?;
        ends.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// The page that asks for a name. `problem`: what was wrong with the one that was typed.
    pub(super) fn page(self, keys: &Keys, asked: &Asked, typed: &str, problem: Option<&str>) -> Response {
        let body = format!(
            "<h1>Who are you?</h1><p class=\"lead\">{}</p>{WARNING}\
             <form id=\"login\" method=\"post\" action=\"/login\"><label for=\"name\">Name</label>{}\
             <input type=\"hidden\" name=\"state\" value=\"{}\">\
             <p class=\"actions\"><button>Log in</button></p></form>",
            match self.onward.host() {
                Some(host) => format!("Log in to go to <code>{}</code>.", escape(host)),
                None => "Log in to reach your workspaces.".to_owned(),
            },
            name_field(typed, problem),
            self.seal(keys, asked),
        );
        let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let page = Page { title: "Log in", body: &body, scripts: &["/assets/login.js"], ..Page::default() };
        let mut response = answer::page(asked, status, page);
        response.headers_mut().extend(self.cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
        response
    }

    fn seal(&self, keys: &Keys, asked: &Asked) -> String {
        let mut state = self.attempt.to_bytes().to_vec();
        state.extend_from_slice(&self.ends.to_be_bytes());
        state.extend_from_slice(self.onward.query(&asked.connection.listener).as_bytes());
        keys.seal(Purpose::Login, asked.host.as_str(), &state)
    }
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

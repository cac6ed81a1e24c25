//! Who comes to a lab: a browser, and what it sees.

use super::Lab;
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use std::collections::BTreeMap;
use url::Url;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    /// The value of the page's hidden field.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let before = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&before).nth(1).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Where a navigation ended, and by which addresses.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) answer: Answer,
    pub(crate) url: String,
    pub(crate) by: Vec<String>,
}

/// A browser: keeps cookies by host, follows redirects, says what kind of request it makes.
#[derive(Clone)]
pub(crate) struct Browser<'a> {
    pub(super) lab: &'a Lab,
    /// By host and name.
    pub(crate) jar: BTreeMap<(String, String), String>,
}

/// What a tab sends with a navigation.
pub(crate) const NAVIGATION: [(&str, &str); 4] = [
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("accept", "text/html"),
];

impl Browser<'_> {
    /// One request with this browser's cookies, followed nowhere.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let url = Url::parse(url).unwrap();
        let host = url.host_str().unwrap().to_owned();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        head.insert_header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort]).unwrap();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            head.append_header(name, HeaderValue::try_from(*value).unwrap()).unwrap();
        }
        let cookies = self.jar.iter().filter(|((of, _), _)| *of == host);
        let cookies: Vec<_> = cookies.map(|((_, name), value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            head.insert_header(COOKIE, cookies.join("; ")).unwrap();
        }
        let answer = self.lab.answer(&head, body.to_owned()).await;
        for set in answer.headers.get_all(SET_COOKIE) {
            self.keep(&host, set.to_str().unwrap());
        }
        answer
    }

    fn keep(&mut self, host: &str, set: &str) {
        let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
        let key = (host.to_owned(), name.to_owned());
        if set.contains("Max-Age=0") {
            self.jar.remove(&key);
        } else {
            self.jar.insert(key, value.to_owned());
        }
    }

    /// Goes to an address in a tab, over all redirects.
    pub(crate) async fn go(&mut self, url: &str) -> Visit {
        let answer = self.send(Method::GET, url, &NAVIGATION, "").await;
        self.follow(url.to_owned(), answer).await
    }

    /// Sends a form of a page of the portal, over all redirects.
    pub(crate) async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Visit {
        let answer = self.post(url, "http://lab.localhost:8080", fields).await;
        self.follow(url.to_owned(), answer).await
    }

    /// Sends a form of a page of some origin.
    pub(crate) async fn post(&mut self, url: &str, origin: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.extend_pairs(fields).finish();
        let mut headers = NAVIGATION.to_vec();
        headers[0].1 = "same-origin";
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        if !origin.is_empty() {
            headers.push(("origin", origin));
        }
        self.send(Method::POST, url, &headers, &form).await
    }

    async fn follow(&mut self, mut url: String, mut answer: Answer) -> Visit {
        let mut by = vec![url.clone()];
        while let Some(location) = answer.headers.get(LOCATION) {
            assert!(by.len() < 12, "a loop: {by:#?}");
            url = Url::parse(&url).unwrap().join(location.to_str().unwrap()).unwrap().into();
            by.push(url.clone());
            answer = self.send(Method::GET, &url, &NAVIGATION, "").await;
        }
        Visit { answer, url, by }
    }

    /// Goes to an address, types a name into the login that comes, and goes on.
    pub(crate) async fn log_in(&mut self, name: &str, url: &str) -> Visit {
        let form = self.go(url).await.answer;
        let state = form.hidden("state");
        self.submit("http://lab.localhost:8080/login", &[("name", name), ("state", &state)]).await
    }

    pub(crate) fn cookie(&self, host: &str, name: &str) -> Option<&String> {
        self.jar.get(&(host.to_owned(), name.to_owned()))
    }
}

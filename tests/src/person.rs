//! Somebody with a browser: a cookie jar, redirects followed, the development login walked through.

use crate::html;
use crate::http_client::{Answer, Ask, Client};
use crate::socket::Socket;
use crate::usher::{DOMAIN, Usher};
use crate::wait::{SOON, STARTED, wait_for, wait_instead_of};
use http::{HeaderMap, Method};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use url::Url;

/// The cookie of a session on a workspace's host.
const SESSION: &str = "__Host-usher-ws";
/// What everybody types where a provider asks for a password.
const PASSWORD: &str = "password";
/// Where providers ask whether somebody wants to log out.
const LEAVES: [&str; 2] = ["/session/", "/oauth/end_session"];

/// Cookies by host, name and path. All of them host-only, which is what a `__Host-` cookie is.
#[derive(Debug, Clone, Default)]
pub struct Jar {
    hosts: BTreeMap<String, BTreeMap<(String, String), String>>,
}

impl Jar {
    /// The Cookie field for all of a host; none when there is nothing to send.
    pub fn field(&self, host: &str) -> Option<String> {
        self.field_at(host, "/")
    }

    /// The Cookie field for a path of a host (RFC 6265 §5.1.4).
    fn field_at(&self, host: &str, path: &str) -> Option<String> {
        let fits = |of: &str| {
            path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || of == "/" || rest.starts_with('/'))
        };
        let cookies = self.hosts.get(host)?.iter().filter(|((_, of), _)| fits(of));
        let pairs: Vec<String> = cookies.map(|((name, _), value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// One cookie's value.
    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        self.hosts.get(host)?.get(&(name.to_owned(), "/".to_owned())).map(String::as_str)
    }

    /// Takes the cookies that an answer sets, and drops those that it ends.
    pub fn take(&mut self, host: &str, headers: &HeaderMap) {
        let cookies = self.hosts.entry(host.to_owned()).or_default();
        for field in headers.get_all("set-cookie") {
            let field = String::from_utf8_lossy(field.as_bytes()).into_owned();
            let mut parts = field.split(';').map(str::trim);
            let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).unwrap_or((&field, ""));
            let attributes: Vec<(String, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect();
            let attribute = |name| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
            let key = (name.to_owned(), attribute("path").unwrap_or("/").to_owned());
            let is_past = attribute("expires").is_some_and(|time| time.starts_with("Thu, 01 Jan 1970"));
            if is_past || attribute("max-age") == Some("0") {
                cookies.remove(&key);
            } else {
                cookies.insert(key, value.to_owned());
            }
        }
    }

    /// Forgets everything of a host.
    pub fn forget(&mut self, host: &str) {
        self.hosts.remove(host);
    }
}

/// Somebody with a browser.
#[derive(Clone)]
pub struct Person {
    /// The name typed at the login.
    pub name: String,
    /// What their browser keeps.
    pub jar: Jar,
    /// Every address that they came by.
    pub trail: Vec<Url>,
    client: Client,
    /// The label of the host that they mean, where it is not their own.
    elsewhere: Option<String>,
}

impl Person {
    /// Somebody who has never been here.
    pub fn new(usher: &Usher, name: &str) -> Self {
        Self::before(usher.client(), name)
    }

    /// Somebody who has never been at this listener.
    pub fn before(client: Client, name: &str) -> Self {
        Self { name: name.to_owned(), jar: Jar::default(), trail: Vec::new(), client, elsewhere: None }
    }

    /// Somebody who has logged in and come to their own workspace's host.
    pub async fn logged_in(usher: &Usher, name: &str) -> Self {
        Self::new(usher, name).log_in().await
    }

    /// Logs in and comes to their own workspace's host.
    pub async fn log_in(mut self) -> Self {
        let (url, answer) = self.visit("/").await;
        assert_eq!(
            url.host_str(),
            Some(self.host().as_str()),
            "not at home after the login: {}",
            answer.text()
        );
        self
    }

    /// Somebody who has logged in and was let in at their own workspace's host, and has not looked at it yet.
    pub async fn at_the_door(usher: &Usher, name: &str) -> Self {
        let mut person = Self::new(usher, name);
        let start = person.home("/");
        person.follow_until(start, |person| person.jar.cookie(&person.host(), SESSION).is_some()).await;
        person
    }

    /// Somebody whose workspace is ready.
    pub async fn at_work(usher: &Usher, name: &str) -> Self {
        let person = Self::logged_in(usher, name).await;
        person.await_phase("ready").await;
        person
    }

    /// The same by another way: what they ask goes as this client sends it.
    #[must_use]
    pub fn by(mut self, client: &Client) -> Self {
        self.client = client.clone();
        self
    }

    /// Goes on with another usher on the same state: the cookies stay.
    pub fn moved_to(&mut self, usher: &Usher) {
        self.client = usher.client();
    }

    /// The same with another host in mind than that of their own workspace: all that is said of their own below is
    /// then of that one.
    #[must_use]
    pub fn at(mut self, label: &str) -> Self {
        self.elsewhere = Some(label.to_owned());
        self
    }

    /// The host of their own workspace.
    pub fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.elsewhere.as_deref().unwrap_or(&self.name))
    }

    /// A request to their own workspace with their cookies, as its own pages send it.
    pub fn fetch(&self, method: Method, path: &str) -> Ask {
        let origin = self.client.origin(&self.host());
        let safe = method == Method::GET || method == Method::HEAD;
        let ask =
            self.with_cookies(self.client.ask(method, &self.host(), path), &self.host()).fetch("same-origin");
        if safe { ask } else { ask.with("origin", &origin) }
    }

    /// What asks the listener that they come to.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends the form with this id of a page that they look at, with more fields, and goes where it leads.
    pub async fn send(&mut self, at: &Url, page: &Answer, id: &str, more: &[(&str, &str)]) -> (Url, Answer) {
        let form =
            html::form_named(&page.text(), id).unwrap_or_else(|| panic!("no form {id}: {}", page.text()));
        let mut fields = form.hidden;
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let to = at.join(&form.action).expect("a form's action is a URL");
        self.begin(to, Some(fields)).await
    }

    /// Asks for something to be changed, as a page of the portal does.
    pub async fn change(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token =
            self.portal("/api/v1/workspaces").await.json()["csrf"].as_str().unwrap_or_default().to_owned();
        let mut fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fields.push(("csrf".to_owned(), token));
        let ask = self.with_cookies(self.client.post(DOMAIN, path), DOMAIN).fetch("same-origin");
        ask.with("origin", &self.client.origin(DOMAIN)).form(&fields).send().await
    }

    /// What a path of the portal answers to its own pages.
    pub async fn portal(&self, path: &str) -> Answer {
        self.with_cookies(self.client.get(DOMAIN, path), DOMAIN).fetch("same-origin").send().await
    }

    /// A request with their cookies for its host, and nothing else.
    pub fn with_cookies(&self, ask: Ask, host: &str) -> Ask {
        match self.jar.field(host) {
            Some(field) => ask.with("cookie", &field),
            None => ask,
        }
    }

    /// What `/.usher/status` says of their workspace.
    pub async fn status(&self) -> serde_json::Value {
        self.fetch(Method::GET, "/.usher/status").send().await.json()
    }

    /// Waits for a phase; the status that says so.
    pub async fn await_phase(&self, phase: &str) -> serde_json::Value {
        wait_for(&format!("{} to be {phase}", self.name), SOON * 2, async || {
            let status = self.status().await;
            assert!(phase == "failed" || status["phase"] != "failed", "{} failed: {status}", self.name);
            (status["phase"] == phase).then_some(status)
        })
        .await
    }

    /// As [`Person::await_phase`], where the cluster may do much, and fail at times, before.
    pub async fn reaches(&self, phase: &str) -> serde_json::Value {
        // Of two Ushers that saw it become ready one after the other the later may take back a mark of the other, and
        // the next is written a minute later.
        self.reaches_within(STARTED * 2, phase).await
    }

    /// As [`Person::reaches`], within so long.
    pub async fn reaches_within(&self, deadline: Duration, phase: &str) -> serde_json::Value {
        wait_instead_of(&format!("{} to be {phase}", self.name), deadline, async || self.is_in(phase).await)
            .await
    }

    /// The status when it tells of this phase; else what it tells instead, as the error.
    pub async fn is_in(&self, phase: &str) -> Result<serde_json::Value, serde_json::Value> {
        let status = self.status().await;
        if status["phase"] == phase { Ok(status) } else { Err(status) }
    }

    /// Somebody whose workspace has come up in a cluster.
    pub async fn at_work_in_cluster(usher: &Usher, name: &str) -> Self {
        let person = Self::logged_in(usher, name).await;
        person.reaches("ready").await;
        person
    }

    /// Asks for their own workspace to be started, stopped or extended, as a button on its pages does.
    pub async fn press(&self, what: &str) -> Answer {
        self.fetch(Method::POST, &format!("/.usher/{what}")).send().await
    }

    /// Presses *Try again* on their waiting page.
    pub async fn try_again(&self) -> Answer {
        let retry = [("retry".to_owned(), "true".to_owned())];
        self.fetch(Method::POST, "/.usher/start").form(&retry).send().await
    }

    /// Deletes a workspace of theirs on the portal, its name typed in.
    pub async fn delete(&self, id: &str, files: bool) -> Answer {
        let ask = |method, path: &str| {
            self.with_cookies(self.client.ask(method, DOMAIN, path), DOMAIN).fetch("same-origin")
        };
        let list = ask(Method::GET, "/api/v1/workspaces").send().await.json();
        let token = list["csrf"].as_str().expect("the list has a token");
        let files = if files { "delete" } else { "" };
        let fields = [("csrf", token), ("confirm", id), ("files", files)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let delete = ask(Method::POST, &format!("/api/v1/workspaces/{id}/delete"));
        delete.with("origin", &self.client.origin(DOMAIN)).form(&fields).send().await
    }

    /// A WebSocket to a path of their own workspace, opened by its own page.
    pub async fn socket(&self, path: &str) -> Result<Socket, Box<Answer>> {
        let (host, origin) = (self.host(), self.client.origin(&self.host()));
        let cookie = self.jar.field(&host).unwrap_or_default();
        Socket::open(&self.client, &host, path, &[("origin", &origin), ("cookie", &cookie)]).await
    }

    /// A WebSocket to their own host, once it has been open for so long that it bears witness for its workspace if the API
    /// server falls silent now: silence is noticed after 10 s, and looked for each second.
    pub async fn witness(&self, path: &str) -> Socket {
        let socket = self.socket(path).await.expect("the workspace runs");
        let opened = Instant::now();
        let old = async || (opened.elapsed() > Duration::from_secs(12)).then_some(());
        wait_for("a connection that is old enough to bear witness", STARTED, old).await;
        socket
    }

    /// Types an address of their own host, follows redirects, logs in where asked; where they end, and what is there.
    pub async fn visit(&mut self, path: &str) -> (Url, Answer) {
        self.follow(self.home(path)).await
    }

    /// An address of their own host.
    pub fn home(&self, path: &str) -> Url {
        let address = format!("{}{path}", self.client.origin(&self.host()));
        Url::parse(&address).expect("a test's path is valid")
    }

    /// Types an address of their own host, where the answer may be cut off.
    pub async fn try_visit(&self, path: &str) {
        let ask = self.with_cookies(self.client.get(&self.host(), path), &self.host());
        let _cut = ask.navigate("none").try_send().await;
    }

    /// As [`Person::visit`], to any address.
    pub async fn follow(&mut self, url: Url) -> (Url, Answer) {
        self.follow_until(url, |_| false).await
    }

    /// As [`Person::follow`], until they have been at an address whose path begins so; where that was, and what was there.
    pub async fn follow_to(&mut self, url: Url, path: &str) -> (Url, Answer) {
        self.follow_until(url, |person| person.trail.last().is_some_and(|url| url.path().starts_with(path)))
            .await
    }

    /// Comes to their own host up to the one-time ticket; the address that would show it.
    pub async fn follow_to_ticket(&mut self) -> Url {
        let is_ticket = |url: &Url| url.query().is_some_and(|query| query.starts_with("ticket="));
        let mut url = self.home("/");
        loop {
            let (at, answer) = self.follow_until(url, |_| true).await;
            url = match html::link(&answer.text(), "on") {
                Some(on) => at.join(&on).expect("a link is a URL"),
                None if answer.status.is_redirection() => {
                    at.join(answer.field("location")).expect("Location is a URL")
                }
                None => {
                    let (action, fields) = self.fill_in(&answer);
                    let to = at.join(&action).expect("a form's action is a URL");
                    let (at, answer) = self.navigate(to, Some(fields), |_| true).await;
                    at.join(answer.field("location")).expect("Location is a URL")
                }
            };
            if is_ticket(&url) {
                return url;
            }
        }
    }

    /// Shows a ticket; whether they were let in by it.
    pub async fn show(&mut self, ticket: Url) -> bool {
        let host = self.host();
        self.jar.hosts.entry(host.clone()).or_default().remove(&(SESSION.to_owned(), "/".to_owned()));
        self.step(&ticket, "same-site", None).await;
        self.jar.cookie(&host, SESSION).is_some()
    }

    /// As [`Person::follow`], until they have what they came for.
    async fn follow_until(&mut self, url: Url, done: impl Fn(&Self) -> bool) -> (Url, Answer) {
        self.navigate(url, None, done).await
    }

    /// As [`Person::follow`], by a form's fields.
    async fn begin(&mut self, url: Url, form: Option<Vec<(String, String)>>) -> (Url, Answer) {
        self.navigate(url, form, |_| false).await
    }

    async fn navigate(
        &mut self,
        mut url: Url,
        mut form: Option<Vec<(String, String)>>,
        done: impl Fn(&Self) -> bool,
    ) -> (Url, Answer) {
        let mut site = if form.is_some() { "same-origin" } else { "none" };
        for _ in 0..24 {
            self.trail.push(url.clone());
            let answer = self.step(&url, site, form.take()).await;
            if done(self) {
                return (url, answer);
            }
            let from = url.clone();
            // What logs out asks first, and is pressed by the test that wants it.
            let leaves = LEAVES.iter().any(|path| url.path().starts_with(path));
            let asks = url.path() == "/login" || !(self.is_of_usher(&url) || leaves);
            if answer.status.is_redirection() {
                url = url.join(answer.field("location")).expect("Location is a URL");
            } else if let Some(on) = html::link(&answer.text(), "on") {
                url = url.join(&on).expect("a link is a URL");
            } else if asks && answer.status.is_success() && html::form(&answer.text()).is_some() {
                let (action, fields) = self.fill_in(&answer);
                url = url.join(&action).expect("a form's action is a URL");
                form = Some(fields);
            } else {
                return (url, answer);
            }
            let here = self.is_of_usher(&from) == self.is_of_usher(&url);
            site = match (here, form.is_some(), site) {
                (false, _, _) | (true, false, "cross-site") => "cross-site",
                (true, true, _) => "same-origin",
                (true, false, _) => "same-site",
            };
        }
        panic!("{} was redirected 24 times, last to {url}", self.name)
    }

    /// Whether an address is Usher's, and not an identity provider's.
    fn is_of_usher(&self, url: &Url) -> bool {
        url.port_or_known_default() == Some(self.client.address.port())
    }

    /// What asks the server of an address.
    fn client_of(&self, url: &Url) -> Client {
        if self.is_of_usher(url) {
            return self.client.clone();
        }
        let port = url.port_or_known_default().expect("a web address has a port");
        Client::at(SocketAddr::from(([127, 0, 0, 1], port)), None)
    }

    /// One request of a navigation: a POST when there is a form to send.
    async fn step(&mut self, url: &Url, site: &str, form: Option<Vec<(String, String)>>) -> Answer {
        let host = url.host_str().expect("a web address has a host").to_owned();
        let path = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let client = self.client_of(url);
        let ask = match form {
            None => client.get(&host, &path),
            Some(fields) => client.post(&host, &path).with("origin", &client.origin(&host)).form(&fields),
        };
        let ask = match self.jar.field_at(&host, url.path()) {
            Some(field) => ask.with("cookie", &field),
            None => ask,
        };
        let answer = ask.navigate(site).send().await;
        self.jar.take(&host, &answer.headers);
        answer
    }

    /// The login's form, with their name and password typed in where it asks for them.
    fn fill_in(&self, page: &Answer) -> (String, Vec<(String, String)>) {
        let form =
            html::form(&page.text()).unwrap_or_else(|| panic!("no form in the login: {}", page.text()));
        let mut fields = form.hidden;
        // One without goes on by itself: a provider's answer by a form.
        fields.extend(form.text.map(|name| (name, self.name.clone())));
        fields.extend(form.password.map(|name| (name, PASSWORD.to_owned())));
        (form.action, fields)
    }
}

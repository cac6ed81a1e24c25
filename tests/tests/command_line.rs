//! `usher login`: a person lets a command line in, which then has short tokens and a secret that is good once.

use http::StatusCode;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tests::{Client, Closed, DOMAIN, IdentityProvider, Person, SOON, Socket, Usher, html, wait_for};
use url::Url;

/// A machine with the program and a folder of its own.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Usher::binary());
        command.args(arguments).env("XDG_CONFIG_HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    fn credentials(&self) -> PathBuf {
        self.folder.path().join("usher/credentials.json")
    }

    fn kept(&self) -> Value {
        let text = std::fs::read(self.credentials()).expect("there are credentials");
        serde_json::from_slice(&text).expect("they are JSON")
    }

    /// Begins a login; the address that it prints, and the words beside it.
    fn begins(&self, portal: &str) -> (Child, Url, String) {
        let mut command = self.command(&["login", "--portal", portal, "--no-browser"]);
        let mut login = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("usher starts");
        let mut lines =
            BufReader::new(login.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = lines.find(|line| line.trim().starts_with("http")).expect("it prints an address");
        let words = lines.find(|line| line.contains("must show")).expect("it prints what to compare");
        (login, Url::parse(address.trim()).expect("a URL"), words)
    }

    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(arguments);
        let run = tokio::task::spawn_blocking(move || command.output().expect("usher starts"));
        told(&run.await.expect("it does not panic"))
    }

    /// Makes its access token one that has expired.
    fn forgets_its_access_token(&self) {
        let mut kept = self.kept();
        for login in kept.as_object_mut().expect("an object").values_mut() {
            login["expires_at"] = 0.into();
        }
        std::fs::write(self.credentials(), kept.to_string()).expect("it can be written");
    }
}

fn told(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The person lets a program in that waits on this machine.
async fn lets_in(person: &mut Person, login: Child, address: Url, words: &str) -> (bool, String) {
    let (at, page) = person.follow(address).await;
    let shown = page.text();
    let code =
        shown.split("id=\"words\">").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
    assert!(code.len() == 9 && words.contains(code), "{words} and {shown}");
    let form = html::form_named(&shown, "consent").expect("a form to let it in");
    assert_eq!(at.path(), "/cli");
    let fields: Vec<(String, String)> = form.hidden;
    let ask = person.with_cookies(person.client().post(DOMAIN, "/cli"), DOMAIN).navigate("same-origin");
    let answer = ask.with("origin", &person.client().origin(DOMAIN)).form(&fields).send().await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    let back = Url::parse(answer.field("location")).expect("a URL");
    assert_eq!((back.scheme(), back.host_str()), ("http", Some("127.0.0.1")));
    let port = back.port().expect("the program's");
    let here = Client::at(([127, 0, 0, 1], port).into(), None);
    let target = format!("/?{}", back.query().expect("a code"));
    assert_eq!(here.get("127.0.0.1", "/?code=x&state=y").send().await.status, StatusCode::NOT_FOUND);
    assert_eq!(here.get("127.0.0.1", &target).send().await.status, StatusCode::OK);
    let done = tokio::task::spawn_blocking(|| login.wait_with_output().expect("it ends"));
    told(&done.await.expect("it does not panic"))
}

/// Somebody who has logged in at a command line.
async fn logged_in(usher: &Usher, name: &str) -> (Person, Machine) {
    let mut person = Person::at_the_door(usher, name).await;
    let machine = Machine::new();
    let (login, address, words) = machine.begins(&usher.client().origin(DOMAIN));
    let (done, said) = lets_in(&mut person, login, address, &words).await;
    assert!(done && said.contains(&format!("as {name}")), "{said}");
    (person, machine)
}

async fn workspaces(usher: &Usher, token: &str) -> StatusCode {
    let ask = usher.client().get(DOMAIN, "/api/v1/workspaces");
    ask.with("authorization", &format!("Bearer {}", token.trim())).send().await.status
}

async fn refreshed(usher: &Usher, secret: &str) -> (StatusCode, Value) {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", secret)];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = usher.client().post(DOMAIN, "/api/v1/cli/token").form(&fields).send().await;
    (answer.status, answer.json())
}

/// What a machine keeps of its one login.
fn login_of(machine: &Machine) -> Value {
    let kept = machine.kept();
    kept.as_object().and_then(|all| all.values().next()).cloned().expect("one login")
}

fn mode(file: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("it is there").permissions()) & 0o777
}

#[tokio::test]
async fn a_command_line_that_was_let_in_has_tokens_until_its_person_ends_it() {
    let usher = Usher::start("").await;
    let (alice, machine) = logged_in(&usher, "alice").await;
    assert_eq!(mode(&machine.credentials()), 0o600);
    let (done, token) = machine.run(&["token"]).await;
    assert!(done, "{token}");
    assert_eq!(workspaces(&usher, &token).await, StatusCode::OK);
    assert_eq!(machine.run(&["token"]).await.1, token, "it is good for a while");
    machine.forgets_its_access_token();
    let (done, next) = machine.run(&["token"]).await;
    assert!(done && next != token, "{next}");
    assert_eq!(workspaces(&usher, &next).await, StatusCode::OK);
    let page = alice.portal("/tokens").await.text();
    assert!(page.contains("usher login on"), "{page}");
    let listed = alice.portal("/api/v1/tokens").await.json();
    let id = listed["tokens"][0]["id"].as_str().expect("her login is listed").to_owned();
    assert_eq!(alice.change(&format!("/api/v1/tokens/{id}/revoke"), &[]).await.status, StatusCode::OK);
    assert_eq!(workspaces(&usher, &next).await, StatusCode::UNAUTHORIZED);
    machine.forgets_its_access_token();
    let (done, said) = machine.run(&["token"]).await;
    assert!(!done && said.contains("log in again"), "{said}");
}

#[tokio::test]
async fn a_logout_ends_it_here_and_there() {
    let usher = Usher::start("").await;
    let (alice, machine) = logged_in(&usher, "alice").await;
    let (_, token) = machine.run(&["token"]).await;
    let (done, said) = machine.run(&["logout"]).await;
    assert!(done, "{said}");
    assert_eq!(workspaces(&usher, &token).await, StatusCode::UNAUTHORIZED);
    assert!(!machine.run(&["token"]).await.0);
    let (alices, other) = (alice, logged_in(&usher, "alice").await.1);
    let (_, token) = other.run(&["token"]).await;
    assert_eq!(alices.change("/logout", &[("everywhere", "yes")]).await.status, StatusCode::OK);
    assert_eq!(workspaces(&usher, &token).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_account_that_its_provider_ends_has_no_login_at_any_command_line() {
    let person = |name: &str| json!({ "name": name, "preferred_username": name });
    let provider = IdentityProvider::start(json!({ "alice": person("alice"), "bob": person("bob") })).await;
    let usher = provider.setup("", "").start().await;
    // It names the account, and none of its sessions.
    provider.knows_as(&usher, json!({ "backchannel_logout_session_required": false })).await;
    let (mut alice, machine) = logged_in(&usher, "alice").await;
    let (_bob, bobs) = logged_in(&usher, "bob").await;
    alice.follow(alice.home("/")).await;
    alice.await_phase("ready").await;
    let (_, token) = machine.run(&["token"]).await;
    let (_, kept) = bobs.run(&["token"]).await;
    let bearer = format!("Bearer {}", token.trim());
    let fields = [("authorization", bearer.as_str())];
    let mut socket = Socket::open(&usher.client(), &alice.host(), "/ws", &fields).await.expect("it runs");
    socket.echoes("before").await;
    let exit = Url::parse(&format!("{}/session/end", provider.issuer())).expect("a URL");
    let (at_provider, asks) = alice.follow(exit).await;
    alice.send(&at_provider, &asks, "op.logoutForm", &[("logout", "yes")]).await;
    let closed = tokio::time::timeout(Duration::from_secs(2), socket.closed()).await;
    assert_eq!(closed.expect("within two seconds"), Closed::Frame(4401, "the session has ended".to_owned()));
    assert_eq!(workspaces(&usher, &token).await, StatusCode::UNAUTHORIZED);
    let secret = login_of(&machine)["refresh_token"].as_str().expect("a secret").to_owned();
    let (status, said) = refreshed(&usher, &secret).await;
    assert_eq!((status, &said["error"]), (StatusCode::BAD_REQUEST, &"invalid_grant".into()));
    assert_eq!(workspaces(&usher, &kept).await, StatusCode::OK, "bob's stays");
}

#[tokio::test]
async fn a_secret_that_comes_twice_ends_the_login_also_after_a_restart() {
    let usher = Usher::start("").await;
    let (_alice, machine) = logged_in(&usher, "alice").await;
    let stolen = login_of(&machine)["refresh_token"].as_str().expect("a secret").to_owned();
    let next = async |usher: &Usher, secret: &str| {
        let (status, given) = refreshed(usher, secret).await;
        assert_eq!(status, StatusCode::OK, "{given}");
        let text = |key: &str| given[key].as_str().expect("a token").to_owned();
        (text("refresh_token"), text("access_token"))
    };
    let (second, _) = next(&usher, &stolen).await;
    let usher = usher.kill_and_restart().await;
    let (third, token) = next(&usher, &second).await;
    assert_eq!(workspaces(&usher, &token).await, StatusCode::OK);
    let (status, said) = refreshed(&usher, &stolen).await;
    assert_eq!((status, &said["error"]), (StatusCode::BAD_REQUEST, &"invalid_grant".into()));
    assert_eq!(workspaces(&usher, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(refreshed(&usher, &third).await.0, StatusCode::BAD_REQUEST);
    let told = wait_for("the trail to tell of it", SOON, async || {
        usher.logs.events("audit").into_iter().find(|event| event["event"] == "token_revoked")
    })
    .await;
    assert_eq!((&told["reason"], &told["subject.label"]), (&"replayed".into(), &"alice".into()));
}

#[tokio::test]
async fn two_who_want_a_token_at_once_both_get_one() {
    let usher = Usher::start("").await;
    let (_alice, machine) = logged_in(&usher, "alice").await;
    for _ in 0..3 {
        machine.forgets_its_access_token();
        let (one, other) = tokio::join!(machine.run(&["token"]), machine.run(&["token"]));
        assert!(one.0 && other.0, "{one:?} {other:?}");
        assert_eq!(one.1, other.1, "the second finds what the first was given");
    }
    assert_eq!(workspaces(&usher, &machine.run(&["token"]).await.1).await, StatusCode::OK);
}

#[tokio::test]
async fn a_code_is_good_once_and_for_the_program_that_asked() {
    let usher = Usher::start("").await;
    let alice = Person::at_the_door(&usher, "alice").await;
    let opaque = "A".repeat(43);
    let fields =
        [("port", "4000"), ("state", &opaque), ("challenge", &opaque), ("name", "x"), ("scopes", "sessions")];
    let foreign = alice.with_cookies(alice.client().post(DOMAIN, "/cli"), DOMAIN).fetch("same-origin");
    let bare = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(foreign.form(&bare).send().await.status, StatusCode::FORBIDDEN, "no page of the portal");
    let answer = alice.change("/cli", &fields).await;
    let back = Url::parse(answer.field("location")).expect("a URL");
    let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
    for said in ["another program", "used before"] {
        let fields = [("grant_type", "authorization_code"), ("code", &code), ("code_verifier", "guessed")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = usher.client().post(DOMAIN, "/api/v1/cli/token").form(&fields).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    let page = alice.portal("/cli?port=80").await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text());
    for path in ["/api/v1/cli/token", "/api/v1/cli/logout"] {
        let junk = [("token".to_owned(), "junk".to_owned())];
        let page = usher.client().post(DOMAIN, path).with("origin", "https://elsewhere.test").form(&junk);
        assert_eq!(page.send().await.status, StatusCode::FORBIDDEN, "no page sends this: {path}");
    }
}

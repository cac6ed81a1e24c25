//! API tokens: made by a person, shown once, good for what their scopes say, and gone everywhere when they are revoked.

use http::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tests::{Answer, Ask, Closed, DOMAIN, Person, Setup, Socket, Usher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A token of this person, with these scopes.
async fn made(person: &Person, scopes: &str) -> Value {
    let answer = person.change("/api/v1/tokens", &[("name", "ci"), ("scopes", scopes), ("days", "7")]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

fn secret(token: &Value) -> String {
    token["token"].as_str().expect("the answer shows the token").to_owned()
}

/// A request as `curl -H "Authorization: Bearer …"` sends it.
fn curl(usher: &Usher, method: Method, host: &str, path: &str, token: &str) -> Ask {
    usher.client().ask(method, host, path).with("authorization", &format!("Bearer {token}"))
}

async fn status(ask: Ask) -> (u16, String) {
    let answer: Answer = ask.send().await;
    let code = answer.headers.get("usher-error").map_or("", |code| code.to_str().unwrap_or_default());
    (answer.status.as_u16(), code.to_owned())
}

const ALL: &str = "workspaces:read workspaces:start workspaces:stop workspaces:access sessions";

#[tokio::test]
async fn a_program_starts_uses_and_stops_its_owners_workspace_by_a_token() {
    let usher = Usher::start("").await;
    let alice = Person::at_the_door(&usher, "alice").await;
    let token = secret(&made(&alice, ALL).await);
    assert!(token.starts_with("usher_pat_"));
    let (host, as_alice) =
        (alice.host(), |method, host: &str, path: &str| curl(&usher, method, host, path, &token));
    // It is held until the workspace is ready.
    let answer = as_alice(Method::GET, &host, "/headers").send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(!answer.text().contains("usher_pat_"), "the workspace is shown it: {}", answer.text());
    assert!(!answer.text().to_lowercase().contains("\"authorization\""), "{}", answer.text());
    let list = as_alice(Method::GET, DOMAIN, "/api/v1/workspaces").send().await.json();
    assert_eq!(list["workspaces"][0]["phase"], "ready", "{list}");
    assert_eq!(as_alice(Method::GET, &host, "/.usher/status").send().await.json()["phase"], "ready");
    let stopped = as_alice(Method::POST, DOMAIN, "/api/v1/workspaces/alice/stop").send().await;
    assert_eq!(stopped.status, StatusCode::OK, "{}", stopped.text());
    alice.await_phase("stopped").await;
    let started = as_alice(Method::POST, &host, "/.usher/start").send().await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text());
    alice.await_phase("ready").await;
}

/// The lines of the README's section *Machines* that a person would type.
fn curls() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let section = readme.split("### Machines").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines = section.expect("the README has a section about machines").lines();
    lines.filter(|line| line.starts_with("curl ")).collect()
}

#[tokio::test]
async fn what_the_readme_says_to_type_is_answered() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let token = secret(&made(&alice, ALL).await);
    let lines = curls();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let address = line.rsplit(' ').next().and_then(|address| url::Url::parse(address).ok());
        let address = address.unwrap_or_else(|| panic!("no address ends {line}"));
        let host = address.host_str().expect("a host").replace("lab.example.org", DOMAIN);
        let method = if line.contains(" -X POST ") { Method::POST } else { Method::GET };
        let answer = curl(&usher, method, &host, address.path(), &token).send().await;
        assert!(!answer.headers.contains_key("usher-error"), "{line}: {}", answer.text());
    }
}

#[tokio::test]
async fn beside_a_token_no_cookie_counts_and_no_page_is_asked_about() {
    let usher = Usher::start("").await;
    let (alice, bob) = tokio::join!(Person::at_work(&usher, "alice"), Person::at_the_door(&usher, "bob"));
    let token = secret(&made(&bob, ALL).await);
    // Bob's token with alice's cookies is bob: her workspace is not his.
    let both = alice.fetch(Method::GET, "/headers").with("authorization", &format!("Bearer {token}"));
    assert_eq!(status(both).await, (404, "not_found".to_owned()));
    // A page elsewhere that has a token of its own is no danger to whoever looks at it, and reads no answer.
    let ask = curl(&usher, Method::POST, DOMAIN, "/api/v1/workspaces/bob/start", &token);
    let foreign = ask.fetch("cross-site").with("origin", "http://evil.localhost");
    let answer = bob.with_cookies(foreign, DOMAIN).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn who_may_not_enter_any_more_has_no_tokens_either() {
    let rules = "[access]\nallow = \"user.name != 'alice'\"\ntemplate = \"'demo'\"\n";
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let token = secret(&made(&alice, ALL).await);
    let ask = |usher: &Usher| status(curl(usher, Method::GET, DOMAIN, "/api/v1/workspaces", &token));
    assert_eq!(ask(&usher).await.0, 200);
    let usher = usher.replaced_by(Setup::new(rules)).await;
    assert_eq!(ask(&usher).await, (403, "not_allowed".to_owned()));
}

#[tokio::test]
async fn a_token_is_made_shown_once_and_revoked_on_the_page() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_the_door(&usher, "alice").await;
    let at = url::Url::parse(&format!("{}/tokens", usher.client().origin(DOMAIN))).expect("a URL");
    let (at, page) = alice.follow(at).await;
    let fields = [("name", "my <b>laptop</b>"), ("workspaces:read", "true"), ("days", "7")];
    let (_, shown) = alice.send(&at, &page, "new-token", &fields).await;
    let text = shown.text();
    let token = text.split("id=\"token\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a token");
    let ask = || status(curl(&usher, Method::GET, DOMAIN, "/api/v1/workspaces", token));
    assert_eq!(ask().await.0, 200);
    let (_, page) = alice.follow(at.clone()).await;
    assert!(page.text().contains("my &lt;b&gt;laptop") && !page.text().contains(token), "{}", page.text());
    let list = alice.portal("/api/v1/tokens").await.json();
    let id = list["tokens"][0]["id"].as_str().expect("an id");
    let bob = Person::at_the_door(&usher, "bob").await;
    let revoke = format!("/api/v1/tokens/{id}/revoke");
    assert_eq!(bob.change(&revoke, &[]).await.status, StatusCode::NOT_FOUND, "not bob's");
    let foreign = alice.with_cookies(alice.client().post(DOMAIN, &revoke), DOMAIN).fetch("same-origin");
    assert_eq!(foreign.send().await.status, StatusCode::FORBIDDEN, "no page of the portal");
    assert_eq!(alice.change(&revoke, &[]).await.status, StatusCode::OK);
    assert_eq!(ask().await, (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_for_its_owner_and_nothing_else() {
    let usher = Usher::start("").await;
    let (alice, bob) = tokio::join!(Person::at_work(&usher, "alice"), Person::at_the_door(&usher, "bob"));
    let token = secret(&made(&alice, "workspaces:read").await);
    let ask = |method, host: &str, path: &str| status(curl(&usher, method, host, path, &token));
    assert_eq!(ask(Method::GET, DOMAIN, "/api/v1/workspaces").await.0, 200);
    let lacks = (403, "insufficient_scope".to_owned());
    for (method, host, path) in [
        (Method::POST, DOMAIN, "/api/v1/workspaces/alice/stop"),
        (Method::POST, DOMAIN, "/api/v1/workspaces/alice/delete"),
        (Method::GET, DOMAIN, "/api/v1/sessions"),
        (Method::GET, DOMAIN, "/api/v1/tokens"),
        (Method::POST, DOMAIN, "/api/v1/tokens"),
        (Method::GET, DOMAIN, "/"),
        (Method::GET, DOMAIN, "/login"),
        (Method::POST, DOMAIN, "/api/v1/people/bob/sign-out"),
        (Method::GET, &alice.host(), "/headers"),
        (Method::POST, &alice.host(), "/.usher/stop"),
        (Method::GET, &alice.host(), "/.usher/enter"),
    ] {
        assert_eq!(ask(method, host, path).await, lacks, "{host}{path}");
    }
    assert_eq!(ask(Method::GET, &bob.host(), "/.usher/status").await, (404, "not_found".to_owned()));
    let admin = secret(&made(&bob, "admin").await);
    let out = status(curl(&usher, Method::POST, DOMAIN, "/api/v1/people/alice/sign-out", &admin)).await;
    assert_eq!(out, (403, "not_allowed".to_owned()), "bob is no admin, and so is no token of his");
}

#[tokio::test]
async fn a_bad_token_is_never_made_good_by_a_cookie() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let token = secret(&made(&alice, ALL).await);
    let last = if token.ends_with('x') { 'y' } else { 'x' };
    let mistyped = format!("{}{last}", &token[..token.len() - 1]);
    let unknown = "usher_pat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for bad in [mistyped.as_str(), unknown, "usher_", "usher_prt_x"] {
        let answer =
            alice.fetch(Method::GET, "/headers").with("authorization", &format!("Bearer {bad}")).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bad}");
        assert_eq!(answer.field("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    let twice =
        curl(&usher, Method::GET, &alice.host(), "/headers", &token).with("authorization", "Basic eA==");
    assert_eq!(status(twice).await, (400, "bad_request".to_owned()));
    // What is not ours is the application's own.
    for theirs in ["token abc", "Basic eDp5", "Bearer abc", "Bearer a.b.c"] {
        let answer = alice.fetch(Method::GET, "/headers").with("authorization", theirs).send().await;
        let headers = answer.json();
        let mut fields = headers.as_array().expect("a list of fields").iter();
        let came = fields.find(|field| field[0] == "authorization").map(|field| field[1].clone());
        assert_eq!(came, Some(theirs.into()), "{headers}");
    }
    let alone = usher.client().get(&alice.host(), "/headers").with("authorization", "Bearer abc");
    assert_eq!(status(alone).await.0, 401);
    let in_query = usher.client().get(&alice.host(), &format!("/headers?access_token={token}"));
    assert_eq!(status(in_query).await.0, 401);
}

#[tokio::test]
async fn nobody_makes_a_token_with_a_request_that_was_begun_before_they_were_signed_out() {
    let usher = Usher::start("").await;
    let alice = Person::at_the_door(&usher, "alice").await;
    let csrf = alice.portal("/api/v1/tokens").await.json()["csrf"].as_str().unwrap().to_owned();
    let body = format!("name=ci&scopes=workspaces%3Aread&days=7&csrf={}", csrf.replace('+', "%2B"));
    let origin = usher.client().origin(DOMAIN);
    let head = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nSec-Fetch-Site: same-origin\r\n\
         Cookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        origin.trim_start_matches("http://"),
        alice.jar.field(DOMAIN).unwrap(),
        body.len()
    );
    let (all, last) = body.split_at(body.len() - 1);
    let mut stream = TcpStream::connect(usher.client().address).await.unwrap();
    stream.write_all(format!("{head}{all}").as_bytes()).await.unwrap();
    // Taken in before the sign-out: the next request on another connection is answered after it.
    assert_eq!(alice.portal("/api/v1/sessions").await.status, StatusCode::OK);
    assert!(usher.command(&["sign-out", "alice"]).0);
    stream.write_all(last.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 401");
    let alice = Person::at_the_door(&usher, "alice").await;
    assert_eq!(alice.portal("/api/v1/tokens").await.json()["tokens"], serde_json::json!([]));
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_and_its_socket_is_closed() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let token = made(&alice, ALL).await;
    let bearer = format!("Bearer {}", secret(&token));
    let open =
        || async { Socket::open(&usher.client(), &alice.host(), "/ws", &[("authorization", &bearer)]).await };
    let mut socket = open().await.expect("no Origin is asked of who comes by a token");
    socket.echoes("still here").await;
    let listed = alice.portal("/api/v1/tokens").await.json();
    assert_eq!(listed["tokens"][0]["name"], "ci");
    assert!(!listed.to_string().contains(&secret(&token)), "it is shown once");
    let id = token["id"].as_str().expect("a token has an id");
    let revoked = alice.change(&format!("/api/v1/tokens/{id}/revoke"), &[]).await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.text());
    let closed = tokio::time::timeout(Duration::from_secs(2), socket.closed()).await;
    assert_eq!(closed.expect("within two seconds"), Closed::Frame(4401, "the session has ended".to_owned()));
    assert_eq!(open().await.err().map(|answer| answer.status), Some(StatusCode::UNAUTHORIZED));
    assert_eq!(alice.portal("/api/v1/tokens").await.json()["tokens"], serde_json::json!([]));
    // Her session goes on.
    assert_eq!(alice.fetch(Method::GET, "/headers").send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_stays_over_a_logout_and_a_restart_and_ends_with_the_sign_out_of_its_owner() {
    let usher = Setup::new("").start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let token = secret(&made(&alice, ALL).await);
    let out = alice.change("/logout", &[("everywhere", "yes")]).await;
    assert_eq!(out.status, StatusCode::OK, "{}", out.text());
    let ask = |usher: &Usher| status(curl(usher, Method::GET, DOMAIN, "/api/v1/workspaces", &token));
    assert_eq!(ask(&usher).await.0, 200);
    let usher = usher.kill_and_restart().await;
    assert_eq!(ask(&usher).await.0, 200);
    let (done, said) = usher.command(&["sign-out", "alice"]);
    assert!(done, "{said}");
    assert_eq!(ask(&usher).await, (401, "invalid_token".to_owned()));
}

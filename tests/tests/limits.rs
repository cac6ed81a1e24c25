//! How much one address and one user may ask for, and from where: who asks for more is told so, and nothing is done.

use http::{Method, StatusCode};
use std::time::{Duration, Instant};
use tests::{Answer, Client, Closed, DOMAIN, Person, SOON, Setup, Usher, wait_for};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// Everybody comes by way of a proxy that says where they are.
fn behind_a_proxy(rest: &str) -> Setup {
    let root = "trusted_proxies = [\"127.0.0.0/8\"]\nclient_address = \"x-forwarded-for\"\n";
    Setup::new(rest).root(root)
}

/// What somebody at this address asks with.
fn from(usher: &Usher, address: &str) -> Client {
    usher.client().adding("x-forwarded-for", address)
}

/// Limits of which no test takes notice but for what it names.
fn limits(keys: &str) -> String {
    let mut text = "[limits]\n".to_owned();
    for key in [
        "requests_per_address = 1000000",
        "logins_per_address = 1000000",
        "bad_tokens_per_address = 1000000",
        "requests_per_user = \"1000000\"",
        "spawns_per_user = \"1000000\"",
        "messages_per_user = \"1000000\"",
    ] {
        let name = key.split(' ').next().expect("a key has a name");
        if !keys.contains(name) {
            text.push_str(&format!("{key}\n"));
        }
    }
    format!("{text}{keys}\n")
}

/// Whether it is the refusal of a limit, with what its client needs.
fn is_limited(answer: &Answer) -> bool {
    if answer.status != StatusCode::TOO_MANY_REQUESTS {
        return false;
    }
    assert_eq!(answer.error_code(), "rate_limited", "{}", answer.text());
    let seconds: u32 = answer.field("retry-after").parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    true
}

/// Asks until a limit answers; how often something else did.
async fn until_limited(ask: impl AsyncFn() -> Answer) -> usize {
    for passed in 0..200 {
        if is_limited(&ask().await) {
            return passed;
        }
    }
    panic!("no limit after 200 requests")
}

#[tokio::test]
async fn a_program_and_a_person_are_told_when_to_come_again() {
    let usher = behind_a_proxy(&limits("requests_per_address = 20")).start().await;
    let client = from(&usher, "192.0.2.1");
    let passed = until_limited(async || client.get(DOMAIN, "/login").send().await).await;
    assert!((20..23).contains(&passed), "{passed}");

    let problem = client.get(DOMAIN, "/login").send().await;
    assert_eq!(problem.field("content-type"), "application/problem+json");
    let (code, detail) = (&problem.json()["code"], problem.json()["detail"].to_string());
    assert_eq!(code, "rate_limited");
    assert!(detail.contains("limits.requests_per_address"), "{detail}");

    let page = client.get(&format!("alice.{DOMAIN}"), "/").navigate("none").send().await;
    assert!(is_limited(&page) && page.field("content-type").starts_with("text/html"), "{:?}", page.headers);
    assert!(page.text().contains("Please try again in"), "{}", page.text());

    let other = from(&usher, "192.0.2.2").get(DOMAIN, "/login").send().await;
    assert_eq!(other.status, StatusCode::OK, "another address has asked for nothing yet");
    let counted = usher.metric("usher_limited_total{limit=\"requests_per_address\"}").await;
    assert_eq!(counted, Some(3.0));
    assert_eq!(usher.metric("usher_limit_entries{cache=\"requests\"}").await, Some(2.0));
}

#[tokio::test]
async fn all_addresses_of_a_64_count_as_one() {
    let usher = behind_a_proxy(&limits("requests_per_address = 10")).start().await;
    let ask = async |address: String| from(&usher, &address).get(DOMAIN, "/login").send().await;
    let mut passed = 0;
    while !is_limited(&ask(format!("2001:db8:0:1::{passed:x}")).await) {
        passed += 1;
        assert!(passed < 20, "each counts alone");
    }
    assert!(!is_limited(&ask("2001:db8:0:2::1".to_owned()).await));
    assert!(!is_limited(&ask("::ffff:192.0.2.1".to_owned()).await));
}

#[tokio::test]
async fn a_user_is_limited_from_wherever_they_ask_and_nobody_else_is() {
    let usher =
        behind_a_proxy(&limits("requests_per_user = \"user.name == 'alice' ? 60 : 1000000\"")).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let addresses = (1..).map(|n| format!("192.0.2.{n}"));
    let mut limited = None;
    for (passed, address) in addresses.take(100).enumerate() {
        let answer = alice.clone().by(&from(&usher, &address)).fetch(Method::GET, "/headers").send().await;
        if is_limited(&answer) {
            limited = Some((passed, answer));
            break;
        }
    }
    let (passed, answer) = limited.expect("a limit");
    assert!(passed < 60 && answer.text().contains("limits.requests_per_user"), "{passed} {}", answer.text());
    let bob = Person::at_work(&usher, "bob").await;
    assert_eq!(bob.fetch(Method::GET, "/headers").send().await.status, StatusCode::OK);
    assert_eq!(
        usher.client().get(DOMAIN, "/login").send().await.status,
        StatusCode::OK,
        "nobody in particular"
    );
}

#[tokio::test]
async fn a_tier_is_asked_once_and_decides_for_all_limits_of_a_user() {
    let access =
        "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\ntier = \"user.name == 'robot' ? 'slow' : ''\"\n";
    let rule = "requests_per_user = \"user.tier == 'slow' ? 40 : 1000000\"";
    let usher = Setup::new(&format!("{access}{}", limits(rule))).start().await;
    let (robot, alice) = (Person::at_work(&usher, "robot").await, Person::at_work(&usher, "alice").await);
    let ask = async |person: &Person| person.fetch(Method::GET, "/headers").send().await;
    assert!(until_limited(async || ask(&robot).await).await < 40);
    for _ in 0..40 {
        assert_eq!(ask(&alice).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_rule_without_an_answer_for_somebody_denies() {
    let usher = Setup::new(&limits("requests_per_user = \"claims.requests\"")).start().await;
    let (_, answer) = Person::new(&usher, "alice").visit("/").await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (StatusCode::FORBIDDEN, "not_allowed"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("limits.requests_per_user"), "{}", answer.text());
    let told = wait_for("the rule to be told of", SOON, async || {
        Some(usher.logs.events("a rule gave no answer and denies")).filter(|told| !told.is_empty())
    });
    assert_eq!(told.await.len(), 1, "once, and not for each request");
}

/// Sends a login's form that no page of ours has made.
async fn bad_login(client: &Client) -> Answer {
    let ask = client.post(DOMAIN, "/login").navigate("same-origin").with("origin", &client.origin(DOMAIN));
    ask.form(&[("name".to_owned(), "alice".to_owned()), ("state".to_owned(), "AAAA".to_owned())]).send().await
}

#[tokio::test]
async fn an_address_that_tries_to_log_in_too_often_waits() {
    let usher = behind_a_proxy(&limits("logins_per_address = 3")).start().await;
    let client = from(&usher, "192.0.2.1");
    for _ in 0..3 {
        assert_eq!(bad_login(&client).await.status, StatusCode::BAD_REQUEST);
    }
    let refused = bad_login(&client).await;
    assert!(
        is_limited(&refused) && refused.text().contains("limits.logins_per_address"),
        "{}",
        refused.text()
    );
    assert_eq!(client.get(DOMAIN, "/login").send().await.status, StatusCode::OK, "to look is no try");
    Person::before(from(&usher, "192.0.2.2"), "alice").log_in().await;
    assert_eq!(usher.metric("usher_limited_total{limit=\"logins_per_address\"}").await, Some(1.0));
}

#[tokio::test]
async fn a_program_with_an_old_token_keeps_nobody_out_who_comes_from_its_address() {
    let usher = behind_a_proxy(&limits("logins_per_address = 3\nbad_tokens_per_address = 3")).start().await;
    let client = from(&usher, "192.0.2.1");
    let ask = |token: &str| {
        let ask = client.get(DOMAIN, "/api/v1/workspaces");
        ask.with("authorization", &format!("Bearer {token}")).send()
    };
    let old = "usher_pat_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for _ in 0..3 {
        assert_eq!(ask(old).await.status, StatusCode::UNAUTHORIZED);
    }
    let refused = ask(old).await;
    let detail = refused.text();
    assert!(is_limited(&refused) && detail.contains("limits.bad_tokens_per_address"), "{detail}");
    let alice = Person::before(client.clone(), "alice").log_in().await;
    let fields = [("name", "ci"), ("scopes", "workspaces:read"), ("days", "7")];
    let made = alice.change("/api/v1/tokens", &fields).await.json();
    let good = ask(made["token"].as_str().expect("a token")).await;
    assert_eq!(good.status, StatusCode::OK, "a good one is not counted: {}", good.text());
    assert_eq!(usher.metric("usher_limited_total{limit=\"bad_tokens_per_address\"}").await, Some(1.0));
}

#[tokio::test]
async fn each_failed_login_of_an_address_is_answered_later_than_the_last() {
    let usher = behind_a_proxy(&limits("")).start().await;
    let client = from(&usher, "192.0.2.1");
    for millis in [250, 500, 1000] {
        let begun = Instant::now();
        bad_login(&client).await;
        assert!(begun.elapsed() >= Duration::from_millis(millis), "{:?}", begun.elapsed());
    }
    Person::before(client, "alice").log_in().await;
}

#[tokio::test]
async fn a_start_too_many_is_refused_and_nothing_starts() {
    let usher = Setup::new(&limits("spawns_per_user = \"2\"")).start().await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let stop = async |alice: &Person| {
        alice.press("stop").await;
        alice.await_phase("stopped").await;
    };
    stop(&alice).await;
    assert!(alice.press("start").await.status.is_success());
    alice.await_phase("ready").await;
    stop(&alice).await;
    assert!(is_limited(&alice.press("start").await));
    let (_, page) = alice.visit("/").await;
    assert!(is_limited(&page) && page.text().contains("limits.spawns_per_user"), "{}", page.text());
    assert_eq!(alice.status().await["phase"], "stopped");
    assert_eq!(usher.workspace_processes(), []);
    assert_eq!(usher.metric("usher_spawns_total{result=\"ready\"}").await, Some(2.0));
}

#[tokio::test]
async fn what_is_held_while_its_workspace_starts_counts_once() {
    let slow = "[templates.demo]\nconnect = \"socket\"\n\
        command = [\"{usher}\", \"demo\", \"--socket\", \"{socket}\", \"--start-delay\", \"500\"]\n";
    let usher = Setup::new(&format!("{}{slow}", limits("requests_per_user = \"20\""))).start().await;
    let left = async |name: &str, comes: bool| {
        let person = Person::at_the_door(&usher, name).await;
        if comes {
            let script = person.with_cookies(usher.client().get(&person.host(), "/headers"), &person.host());
            let answer = script.send().await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        until_limited(async || person.fetch(Method::GET, "/headers").send().await).await
    };
    let (held, none) = (left("alice", true).await, left("bob", false).await);
    // Its phases are asked three times and more.
    assert!(held + 2 >= none, "{held} {none}");
}

#[tokio::test]
async fn a_page_that_waits_gets_on_again_after_a_limit() {
    let usher = Setup::new(&limits("requests_per_user = \"60\"")).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let ask = async || alice.fetch(Method::GET, "/.usher/status").send().await;
    until_limited(ask).await;
    // As its script does: by and by it asks again.
    wait_for("the next answer", SOON, async || (ask().await.status == StatusCode::OK).then_some(())).await;
}

#[tokio::test]
async fn a_socket_with_too_many_messages_is_closed_with_1008_and_so_is_none_of_others() {
    let usher =
        Setup::new(&limits("messages_per_user = \"user.name == 'alice' ? 30 : 1000000\"")).start().await;
    let (alice, bob) = (Person::at_work(&usher, "alice").await, Person::at_work(&usher, "bob").await);
    let (mut first, mut second) = (alice.socket("/ws").await.unwrap(), alice.socket("/ws").await.unwrap());
    for _ in 0..14 {
        first.echoes("one of many").await;
        second.echoes("one of many").await;
    }
    // Together they have sent 28.
    for _ in 0..30 {
        if first.try_send(Message::text("one too many")).await.is_err() {
            break;
        }
    }
    let closed = timeout(SOON, first.closed()).await.expect("it ends");
    assert_eq!(closed, Closed::Frame(1008, "too many messages".to_owned()));
    assert_eq!(usher.metric("usher_limited_total{limit=\"messages_per_user\"}").await, Some(1.0));
    let ended =
        async || usher.metric("usher_tunnels_total{end=\"violation\"}").await.filter(|ended| *ended == 1.0);
    wait_for("the tunnel to have ended", SOON, ended).await;
    let mut socket = bob.socket("/ws").await.unwrap();
    for _ in 0..40 {
        socket.echoes("hello").await;
    }
}

#[tokio::test]
async fn an_address_that_is_shut_out_reaches_nothing() {
    let access = "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n\
        allow_addresses = [\"192.0.2.0/24\", \"127.0.0.0/8\"]\ndeny_addresses = [\"192.0.2.128/25\"]\n";
    let usher = behind_a_proxy(access).start().await;
    let alice = Person::before(from(&usher, "192.0.2.1"), "alice").log_in().await;
    alice.await_phase("ready").await;
    for address in ["192.0.2.129", "198.51.100.1", "2001:db8::1"] {
        let client = from(&usher, address);
        for (host, path) in [(DOMAIN, "/login"), (&*alice.host(), "/"), (&*alice.host(), "/.usher/status")] {
            let answer = client.get(host, path).send().await;
            let refused = (StatusCode::FORBIDDEN, "address_not_allowed");
            assert_eq!((answer.status, answer.error_code()), refused, "{address} {host}{path}");
        }
        // A stolen cookie is worth nothing there, and no session is used by it.
        let there = alice.clone().by(&client);
        assert_eq!(there.fetch(Method::GET, "/headers").send().await.error_code(), "address_not_allowed");
        let refused = there.socket("/ws").await.err().expect("no socket");
        assert_eq!(refused.error_code(), "address_not_allowed");
    }
}

#[tokio::test]
async fn a_workspace_is_reached_and_started_only_from_where_its_template_says() {
    let templates = "[named_workspaces.lab]\ntemplate = \"'inside'\"\n\
        [templates.inside]\ncommand = [\"{usher}\", \"demo\", \"--socket\", \"{socket}\"]\nconnect = \"socket\"\n\
        allow_addresses = [\"192.0.2.0/24\"]\n";
    let usher = behind_a_proxy(templates).start().await;
    let outside = Person::before(from(&usher, "198.51.100.1"), "alice").log_in().await;
    outside.await_phase("ready").await;
    let inside = outside.clone().by(&from(&usher, "192.0.2.1"));

    // It was never started: who may not come in may not start it either.
    let mut lab = outside.clone().at("lab--alice");
    let (_, answer) = lab.visit("/").await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::FORBIDDEN, "address_not_allowed"));
    assert_eq!(usher.workspace_processes().len(), 1, "only the first one runs");

    let mut there = inside.clone().at("lab--alice");
    there.visit("/").await;
    there.await_phase("ready").await;
    assert_eq!(there.fetch(Method::GET, "/headers").send().await.status, StatusCode::OK);
    for ask in [
        there.clone().by(&from(&usher, "198.51.100.1")).fetch(Method::GET, "/headers"),
        there.clone().by(&from(&usher, "198.51.100.1")).fetch(Method::GET, "/.usher/status"),
        there.clone().by(&from(&usher, "198.51.100.1")).fetch(Method::POST, "/.usher/stop"),
    ] {
        let answer = ask.send().await;
        assert_eq!((answer.status, answer.error_code()), (StatusCode::FORBIDDEN, "address_not_allowed"));
    }
    there.await_phase("ready").await;
}

//! The trail: each thing that is promised to be told is told once, as the schema says, in the file and in the log, and
//! never with a secret.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tempfile::TempDir;
use tests::{DOMAIN, IdentityProvider, Person, SOON, Setup, Usher, wait_for, wait_instead_of};
use url::Url;

const RULES: &str =
    "[access]\nallow = \"!('outside' in groups)\"\nadmin = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";
/// What tracing adds to an event in the log.
const OF_THE_LOG: [&str; 4] = ["timestamp", "level", "message", "target"];

/// An audit file of a test's own.
struct Trail {
    folder: TempDir,
}

impl Trail {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// The table that has Usher write it.
    fn table(&self) -> String {
        format!("[audit]\nfile = \"{}\"\n", self.path().display())
    }

    /// All lines, each as the schema says.
    fn lines(&self) -> Vec<Value> {
        let judge = jsonschema::draft202012::new(&proxy::audit::schema()).expect("the schema is one");
        let text = std::fs::read_to_string(self.path()).expect("Usher made it");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            judge.validate(&value).unwrap_or_else(|error| panic!("{error}: {line}"));
            value
        };
        whole.lines().map(line).collect()
    }

    fn with(&self, fields: &Value) -> Vec<Value> {
        let fields = fields.as_object().expect("an object");
        let fits = |line: &Value| fields.iter().all(|(name, value)| line.get(name) == Some(value));
        self.lines().into_iter().filter(fits).collect()
    }

    /// The one line with these fields, once it is there; a second one is a mistake.
    async fn tells(&self, fields: Value) -> Value {
        let mut lines = wait_instead_of("a line of the trail", SOON, async || {
            let lines = self.with(&fields);
            if lines.is_empty() { Err(format!("{fields} in {:#?}", self.lines())) } else { Ok(lines) }
        })
        .await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.remove(0)
    }
}

fn accounts() -> Value {
    json!({
        "alice": { "name": "Ada", "preferred_username": "alice", "groups": ["staff"] },
        "bob": { "name": "Bob", "preferred_username": "bob" },
        "carol": { "name": "Carol", "preferred_username": "carol" },
        "mallory": { "name": "Mallory", "preferred_username": "mallory", "groups": ["outside"] },
    })
}

async fn lab(trail: &Trail) -> (IdentityProvider, Usher) {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = provider.setup("", &format!("{RULES}{}", trail.table())).start().await;
    provider.knows(&usher).await;
    (provider, usher)
}

fn portal(usher: &Usher, path: &str) -> Url {
    Url::parse(&format!("{}{path}", usher.client().origin(DOMAIN))).expect("a path is valid")
}

/// What nobody else may know: what is in somebody's jar, and what stood in the addresses that they came by.
fn secrets(person: &Person) -> BTreeSet<String> {
    let hosts = [DOMAIN.to_owned(), person.host()];
    let cookies = hosts.iter().filter_map(|host| person.jar.field(host));
    let mut found: BTreeSet<String> = cookies
        .flat_map(|field| field.split("; ").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pair| pair.split_once('=').map(|(_, value)| value.to_owned()))
        .collect();
    let values = person.trail.iter().flat_map(|url| url.query_pairs().into_owned().collect::<Vec<_>>());
    found.extend(values.filter(|(name, _)| name != "iss").map(|(_, value)| value));
    found.retain(|value| value.len() >= 12);
    found
}

#[tokio::test]
async fn a_login_a_visit_and_a_logout_are_told_with_who_and_where_and_which_session() {
    let trail = Trail::new();
    let (provider, usher) = lab(&trail).await;
    let alice = Person::at_work(&usher, "alice").await;
    let login = trail.tells(json!({ "event": "login" })).await;
    let session = login["session"].as_str().unwrap();
    let expected = json!({
        "schema": 1, "event": "login", "outcome": "done", "by": "person", "actor.iss": provider.issuer(),
        "actor.sub": "alice", "actor.label": "alice", "session": session, "address": "127.0.0.1", "provider": "lab",
        "time": login["time"], "request_id": login["request_id"], "agent": login["agent"],
    });
    assert_eq!(login, expected);
    let of_alice = |event: &str| {
        json!({
            "event": event, "outcome": "done", "actor.sub": "alice", "actor.label": "alice", "session": session,
            "address": "127.0.0.1", "workspace": "alice", "by": "person",
        })
    };
    trail.tells(of_alice("workspace_entered")).await;
    let start = trail.tells(of_alice("workspace_start")).await;
    wait_for("the request's event, with the same id", SOON, async || {
        let requests = usher.logs.values("request", "request.id");
        requests.iter().any(|id| start["request_id"] == **id).then_some(())
    })
    .await;
    assert_eq!(alice.press("stop").await.status, StatusCode::ACCEPTED);
    alice.press("stop").await;
    let stop = trail.tells(of_alice("workspace_stop")).await;
    assert_eq!(stop["reason"], "asked");
    alice.await_phase("stopped").await;
    assert_eq!(alice.delete("alice", false).await.status, StatusCode::OK);
    assert_eq!(trail.tells(of_alice("workspace_delete")).await["reason"], "files_kept");
    assert_eq!(alice.change("/logout", &[]).await.status, StatusCode::OK);
    trail
        .tells(json!({
            "event": "session_ended", "outcome": "done", "by": "person", "reason": "logout", "session": session,
            "actor.label": "alice", "subject.label": "alice", "subject.sub": "alice", "address": "127.0.0.1",
            "provider": "lab",
        }))
        .await;
    assert_eq!(trail.lines().len(), 6, "{:#?}", trail.lines());
}

#[tokio::test]
async fn every_way_out_is_told_once_by_its_own_name() {
    let trail = Trail::new();
    let (provider, usher) = lab(&trail).await;
    let ended = |reason: &str, by: &str, label: &str| json!({ "event": "session_ended", "outcome": "done", "reason": reason, "by": by, "subject.label": label });
    let alice = Person::logged_in(&usher, "alice").await;
    let _lost = Person::logged_in(&usher, "alice").await;
    let list = alice.portal("/api/v1/sessions").await.json();
    let that = list["sessions"].as_array().unwrap().iter().find(|session| session["this"] == false);
    let end = format!("/api/v1/sessions/{}/end", that.unwrap()["id"].as_str().unwrap());
    alice.change(&end, &[]).await;
    trail.tells(ended("chosen_from_list", "person", "alice")).await;

    let bob = Person::logged_in(&usher, "bob").await;
    assert_eq!(bob.change("/api/v1/people/alice/sign-out", &[]).await.status, StatusCode::FORBIDDEN);
    let sign_out = |outcome: &str, by: &str, label: &str| json!({ "event": "sign_out", "outcome": outcome, "by": by, "subject.label": label });
    let refused = trail.tells(sign_out("refused", "admin", "alice")).await;
    assert_eq!((&refused["reason"], &refused["actor.label"]), (&json!("not_admitted"), &json!("bob")));
    alice.change("/api/v1/people/bob/sign-out", &[]).await;
    let done = trail.tells(sign_out("done", "admin", "bob")).await;
    assert_eq!((&done["actor.label"], &done["subject.sub"]), (&json!("alice"), &json!("bob")));
    trail.tells(ended("sign_out", "admin", "bob")).await;

    let _bob = Person::logged_in(&usher, "bob").await;
    assert!(usher.command(&["sign-out", "bob"]).0);
    trail.tells(sign_out("done", "operator", "bob")).await;
    trail.tells(ended("sign_out", "operator", "bob")).await;
    assert!(!usher.command(&["sign-out", "bob"]).0);
    assert_eq!(trail.tells(sign_out("refused", "operator", "bob")).await["reason"], "unknown");

    let mut bob = Person::logged_in(&usher, "bob").await;
    let exit = Url::parse(&format!("{}/session/end", provider.issuer())).unwrap();
    let (at_provider, asks) = bob.follow(exit).await;
    bob.send(&at_provider, &asks, "op.logoutForm", &[("logout", "yes")]).await;
    let told = trail.tells(ended("back_channel", "provider", "bob")).await;
    assert_eq!((&told["provider"], told.get("actor.sub")), (&json!("lab"), None));

    let _carol = Person::logged_in(&usher, "carol").await;
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("iss", provider.issuer()), ("sid", provider.sid("carol").await)])
        .finish();
    let frame = usher.client().get(DOMAIN, &format!("/auth/lab/frontchannel-logout?{query}"));
    let frame = frame.with("sec-fetch-site", "cross-site").with("sec-fetch-mode", "navigate");
    assert_eq!(frame.with("sec-fetch-dest", "iframe").send().await.status, StatusCode::OK);
    trail.tells(ended("front_channel", "provider", "carol")).await;

    assert_eq!(alice.change("/logout", &[("everywhere", "yes")]).await.status, StatusCode::OK);
    trail.tells(ended("logout_everywhere", "person", "alice")).await;
}

#[tokio::test]
async fn what_is_refused_at_the_door_is_told_with_why() {
    let trail = Trail::new();
    let (_provider, usher) = lab(&trail).await;
    let refused =
        |event: &str, reason: &str| json!({ "event": event, "outcome": "refused", "reason": reason });
    let mut mallory = Person::new(&usher, "mallory");
    mallory.follow(portal(&usher, "/login")).await;
    let told = trail.tells(refused("login", "not_admitted")).await;
    assert_eq!((&told["actor.sub"], told.get("actor.label")), (&json!("mallory"), None));
    mallory.follow(portal(&usher, "/auth/lab/callback?code=made-up-code&state=made-up-state")).await;
    trail.tells(refused("login", "bad_state")).await;

    let mut alice = Person::new(&usher, "alice");
    let ticket = alice.follow_to_ticket().await;
    let back = alice.trail.iter().find(|url| url.path() == "/auth/lab/callback").unwrap().clone();
    let mut thief = Person::new(&usher, "alice");
    assert!(!thief.show(ticket.clone()).await);
    let told = trail.tells(refused("ticket", "other_browser")).await;
    assert_eq!((&told["workspace"], &told["session"]), (&json!("alice"), &session_of(&trail).await));
    assert!(!alice.show(ticket.clone()).await, "it is spent");
    trail.tells(refused("ticket", "replayed")).await;
    let mut junk = ticket;
    junk.set_query(Some("ticket=made-up-ticket"));
    assert!(!alice.show(junk).await);
    trail.tells(refused("ticket", "bad_ticket")).await;
    thief.follow_to(back, "/auth/lab/callback").await;
    trail.tells(refused("login", "other_browser")).await;

    let token = [("logout_token".to_owned(), "made.up.token".to_owned())];
    let logout = usher.client().post(DOMAIN, "/auth/lab/backchannel-logout").form(&token).send().await;
    assert_eq!(logout.status, StatusCode::BAD_REQUEST);
    let told = trail.tells(refused("provider_logout", "bad_token")).await;
    assert_eq!((&told["by"], &told["provider"]), (&json!("provider"), &json!("lab")));
}

#[tokio::test]
async fn a_logout_that_goes_on_to_the_provider_and_an_address_that_it_is_shut_to_are_told() {
    let trail = Trail::new();
    let provider = IdentityProvider::start(accounts()).await;
    let rest = format!("{RULES}{}", trail.table());
    let usher = provider.setup("logout = \"always\"", &rest).start().await;
    provider.knows(&usher).await;
    let alice = Person::logged_in(&usher, "alice").await;
    assert_eq!(alice.change("/logout", &[]).await.status, StatusCode::OK);
    trail.tells(json!({ "event": "session_ended", "reason": "logout_with_provider", "by": "person" })).await;

    let shut = provider.setup("allow_addresses = [\"192.0.2.0/24\"]", &rest).start().await;
    let (_, refusal) = Person::new(&shut, "alice").follow(portal(&shut, "/auth/lab/login")).await;
    assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    let told = trail.tells(json!({ "event": "login", "reason": "address_not_allowed" })).await;
    assert_eq!((&told["outcome"], &told["address"]), (&json!("refused"), &json!("127.0.0.1")));
}

/// Of the only login.
#[tokio::test]
async fn a_token_is_told_of_when_it_is_made_first_used_not_believed_and_revoked() {
    let trail = Trail::new();
    let (_provider, usher) = lab(&trail).await;
    let alice = Person::logged_in(&usher, "alice").await;
    let make = async |person: &Person| {
        let scopes = "workspaces:read workspaces:start workspaces:stop";
        let fields = [("name", "ci"), ("scopes", scopes), ("days", "7")];
        let made = person.change("/api/v1/tokens", &fields).await.json();
        let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("id"), text("token"))
    };
    let ask = async |method: Method, path: &str, token: &str| {
        let ask = usher.client().ask(method, DOMAIN, path).with("authorization", &format!("Bearer {token}"));
        ask.send().await.status
    };
    let (id, token) = make(&alice).await;
    let of = |event: &str, reason: &str, id: &str| json!({ "event": event, "outcome": "done", "reason": reason, "token": id });
    let told = trail.tells(of("token_made", "api_token", &id)).await;
    assert_eq!((&told["actor.label"], told.get("session").is_some()), (&json!("alice"), true));
    for _ in 0..3 {
        assert_eq!(ask(Method::GET, "/api/v1/workspaces", &token).await, StatusCode::OK);
    }
    let told = trail.tells(json!({ "event": "token_used", "outcome": "done", "token": id })).await;
    assert_eq!((&told["actor.label"], told.get("session")), (&json!("alice"), None));
    assert!(ask(Method::POST, "/api/v1/workspaces/alice/stop", &token).await.is_success());
    let stop =
        json!({ "event": "workspace_stop", "workspace": "alice", "token": id, "actor.label": "alice" });
    trail.tells(stop).await;
    alice.change(&format!("/api/v1/tokens/{id}/revoke"), &[]).await;
    let told = trail.tells(of("token_revoked", "asked", &id)).await;
    assert_eq!((&told["subject.label"], &told["actor.label"]), (&json!("alice"), &json!("alice")));
    assert_eq!(ask(Method::GET, "/api/v1/workspaces", &token).await, StatusCode::UNAUTHORIZED);
    let refused = trail.tells(json!({ "event": "token_used", "outcome": "refused" })).await;
    assert_eq!((&refused["reason"], refused.get("address").is_some()), (&json!("bad_token"), true));
    let bob = Person::logged_in(&usher, "bob").await;
    let (id, token) = make(&bob).await;
    assert!(usher.command(&["sign-out", "bob"]).0);
    assert_eq!(trail.tells(of("token_revoked", "sign_out", &id)).await["by"], "operator");
    let text = std::fs::read_to_string(trail.path()).unwrap();
    assert!(!text.contains(&token) && !text.contains("usher_pat_"));
}

async fn session_of(trail: &Trail) -> Value {
    trail.tells(json!({ "event": "login", "outcome": "done" })).await["session"].clone()
}

#[tokio::test]
async fn no_line_has_a_secret_and_the_log_has_the_same_lines() {
    let trail = Trail::new();
    let (_provider, usher) = lab(&trail).await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let other = Person::logged_in(&usher, "alice").await;
    let mut known = &secrets(&alice) | &secrets(&other);
    known.insert("between Usher and the provider".to_owned());
    assert!(known.len() > 12, "cookies, codes, states, tickets: {known:?}");
    alice.follow(portal(&usher, "/auth/lab/callback?code=made-up-code&state=made-up-state")).await;
    alice.change("/logout", &[("everywhere", "yes")]).await;
    known.extend(secrets(&alice));
    let logged_out = json!({ "event": "session_ended", "reason": "logout_everywhere" });
    wait_for("both sessions to be told", SOON, async || (trail.with(&logged_out).len() == 2).then_some(()))
        .await;

    let text = std::fs::read_to_string(trail.path()).unwrap();
    for secret in &known {
        assert!(!text.contains(secret.as_str()), "{secret} stands in {text}");
    }
    assert!(!text.contains("eyJ"), "no JWT: {text}");

    let mut events = wait_for("the log to have as many lines", SOON, async || {
        let events = usher.logs.events("audit");
        (events.len() >= trail.lines().len()).then_some(events)
    })
    .await;
    for event in &mut events {
        assert_eq!(event["target"], "usher::audit");
        let event = event.as_object_mut().unwrap();
        OF_THE_LOG.iter().for_each(|name| drop(event.remove(*name)));
    }
    assert_eq!(events, trail.lines());
    assert_eq!(usher.metric("usher_audit_lost_total").await, Some(0.0));
    let counted = usher.metric("usher_audit_events_total{event=\"session_ended\",outcome=\"done\"}").await;
    assert_eq!(counted, Some(2.0));
}

#[tokio::test]
async fn a_refresh_that_comes_to_nothing_and_one_that_ends_a_session_are_told() {
    let trail = Trail::new();
    let provider = IdentityProvider::start_with(json!({ "accounts": accounts(), "accessTtl": 2 })).await;
    let usher = provider.setup("", &format!("{RULES}{}", trail.table())).start().await;
    provider.knows(&usher).await;
    let until_out = async |person: &Person| {
        wait_for("the session to end", SOON, async || {
            let answer = person.fetch(Method::GET, "/").send().await;
            (answer.status == StatusCode::UNAUTHORIZED).then_some(())
        })
        .await;
    };
    let ended = |reason: &str, label: &str| json!({ "event": "session_ended", "reason": reason, "by": "usher", "subject.label": label });
    let alice = Person::logged_in(&usher, "alice").await;
    provider.remove("alice").await;
    until_out(&alice).await;
    trail.tells(ended("provider_refused", "alice")).await;

    let bob = Person::logged_in(&usher, "bob").await;
    provider.account("bob", json!({ "preferred_username": "bob", "groups": ["outside"] })).await;
    until_out(&bob).await;
    trail.tells(ended("not_admitted", "bob")).await;

    provider.account("bob", json!({ "preferred_username": "bob" })).await;
    let bob = Person::logged_in(&usher, "bob").await;
    drop(provider);
    let in_vain =
        json!({ "event": "session_refresh", "outcome": "failed", "reason": "provider_unreachable" });
    let lines = wait_for("a refresh in vain", SOON, async || {
        assert_ne!(bob.fetch(Method::GET, "/").send().await.status, StatusCode::UNAUTHORIZED);
        let lines = trail.with(&in_vain);
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!((&lines[0]["subject.label"], &lines[0]["provider"]), (&json!("bob"), &json!("lab")));
}

#[tokio::test]
async fn what_usher_does_by_itself_is_told() {
    let trail = Trail::new();
    let rest = format!(
        "[sessions]\nidle_after = \"3s\"\nper_user = 1\n[workspaces]\nwarn_before = \"0s\"\nidle_after = \"1s\"\n\
         [access]\nallow = \"true\"\ntemplate = \"user.name == 'dora' ? 'broken' : 'demo'\"\n\
         [templates.broken]\ncommand = [\"/no/such/program\", \"{{socket}}\"]\nconnect = \"socket\"\n{}",
        trail.table()
    );
    let usher = Setup::new(&rest).start().await;
    let by_usher = |event: &str, reason: &str| json!({ "event": event, "reason": reason, "by": "usher" });
    let _first = Person::logged_in(&usher, "alice").await;
    let first = session_of(&trail).await;
    // Not as far as the workspace: bytes that somebody took put its stop off for a minute.
    let _second = Person::at_the_door(&usher, "alice").await;
    let told = trail.tells(by_usher("session_ended", "too_many")).await;
    assert_eq!((&told["session"], &told["provider"]), (&first, &json!("development")));
    trail.tells(by_usher("workspace_stop", "unused")).await;
    let told = trail.tells(by_usher("session_ended", "unused")).await;
    assert_ne!(told["session"], first);

    let mut dora = Person::new(&usher, "dora");
    dora.visit("/").await;
    let failed = json!({ "event": "workspace_start", "outcome": "failed", "by": "usher" });
    let told = trail.tells(failed).await;
    let expected = [&json!("start_failed"), &json!("program_not_found"), &json!("dora"), &json!("dora")];
    assert_eq!(["reason", "cause", "workspace", "subject.sub"].map(|name| &told[name]), expected);
}

#[tokio::test]
async fn a_kill_leaves_whole_lines_and_a_disk_without_room_holds_nobody_up() {
    let trail = Trail::new();
    let usher = Setup::new(&trail.table()).start().await;
    let mut alice = Person::at_work(&usher, "alice").await;
    trail.tells(json!({ "event": "workspace_entered" })).await;
    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    alice.await_phase("ready").await;
    let _bob = Person::logged_in(&usher, "bob").await;
    trail.tells(json!({ "event": "workspace_entered", "actor.label": "bob" })).await;
    assert!(usher.command(&["stop", &alice.name]).0);
    trail.tells(json!({ "event": "workspace_stop", "by": "operator", "workspace": "alice" })).await;

    let full = Setup::new("[audit]\nfile = \"/dev/full\"\n").start().await;
    Person::logged_in(&full, "alice").await;
    wait_for("the lines to be counted", SOON, async || {
        full.metric("usher_audit_lost_total").await.filter(|lost| *lost >= 3.0)
    })
    .await;
    let logged = wait_for("the log to have them", SOON, async || {
        Some(full.logs.events("audit")).filter(|events| events.len() >= 3)
    })
    .await;
    assert_eq!(logged[0]["event"], "login");
    assert_eq!(full.logs.events("audit lines are missing in the file: they stand in the log alone").len(), 1);
}

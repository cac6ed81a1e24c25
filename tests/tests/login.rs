//! Logins by a real identity provider: who comes in, as whom, and who does not.

use http::StatusCode;
use serde_json::{Value, json};
use tests::{DOMAIN, IdentityProvider, Person, SOON, Setup, Usher, html, wait_for};
use url::Url;

/// The provider's accounts, as a lab has them.
fn accounts() -> Value {
    json!({
        "alice": {
            "name": "Ada Lovelace", "preferred_username": "alice", "groups": ["staff"],
            "email": "alice@example.org", "email_verified": true,
        },
        "bob": { "name": "Bob", "preferred_username": "bob", "email": "bob@example.org", "email_verified": false },
    })
}

/// Who is in `staff`.
const STAFF: &str = "[access]\nallow = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";
/// Who has an address of this domain.
const EMAIL: &str = "[access]\nallow = \"claims.email.endsWith('@example.org')\"\ntemplate = \"'demo'\"\n";

/// An Usher with this provider as its only login.
async fn usher(provider: &IdentityProvider, more: &str, rest: &str) -> Usher {
    let usher = provider.setup(more, rest).start().await;
    provider.knows(&usher).await;
    usher
}

fn portal(usher: &Usher, path: &str) -> Url {
    Url::parse(&format!("{}{path}", usher.client().origin(DOMAIN))).expect("a path is valid")
}

#[tokio::test]
async fn a_person_logs_in_at_their_provider_and_comes_to_the_page_that_they_asked_for() {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = usher(&provider, "", STAFF).await;
    let mut alice = Person::new(&usher, "alice");
    let (url, answer) = alice.visit("/deep/link?x=1&y=%2F").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "the waiting page: {}", answer.text());
    assert_eq!(url.as_str(), format!("{}/deep/link?x=1&y=%2F", usher.client().origin(&alice.host())));
    alice.await_phase("ready").await;
    let dashboard = alice.follow(portal(&usher, "/")).await.1.text();
    assert!(dashboard.contains("Ada Lovelace") && dashboard.contains("<code>alice</code>"), "{dashboard}");
    assert_eq!(usher.metric("usher_logins_total{result=\"accepted\"}").await, Some(1.0));
}

#[tokio::test]
async fn who_is_in_no_group_that_may_enter_is_told_so_and_gets_no_session() {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = usher(&provider, "", STAFF).await;
    let mut bob = Person::new(&usher, "bob");
    let (url, answer) = bob.visit("/").await;
    assert_eq!((url.path(), answer.status), ("/auth/lab/callback", StatusCode::FORBIDDEN));
    assert!(answer.text().contains("You may not enter") && answer.text().contains("Log in as somebody else"));
    assert_eq!(bob.jar.cookie(DOMAIN, "__Host-usher"), None);
    assert_eq!(usher.metric("usher_sessions").await, Some(0.0));
    // Who then wants to be somebody else is asked anew, although the provider still knows them.
    let mut as_another = bob.clone();
    as_another.name = "alice".to_owned();
    let (_, answer) = as_another.follow(portal(&usher, "/login?as=another")).await;
    assert!(answer.text().contains("Ada Lovelace"), "{}", answer.text());
    assert!(
        as_another.trail.iter().any(|url| url.query().is_some_and(|query| query.contains("prompt=login")))
    );
}

#[tokio::test]
async fn an_address_that_the_provider_has_not_verified_lets_nobody_in() {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = usher(&provider, "", EMAIL).await;
    assert_eq!(Person::new(&usher, "bob").visit("/").await.1.status, StatusCode::FORBIDDEN);
    Person::logged_in(&usher, "alice").await;
    let vouched = provider.setup("emails_verified = true", EMAIL).start().await;
    provider.knows(&vouched).await;
    Person::logged_in(&vouched, "bob").await;
}

#[tokio::test]
async fn usher_proves_who_it_is_in_each_of_the_three_ways_and_takes_an_answer_by_a_form() {
    let provider = IdentityProvider::start(accounts()).await;
    for way in ["client_secret_basic", "client_secret_post"] {
        let more = format!("authentication = \"{way}\"\nparameters = {{ response_mode = \"form_post\" }}");
        let usher = provider.setup(&more, STAFF).start().await;
        provider.knows_as(&usher, json!({ "token_endpoint_auth_method": way })).await;
        let alice = Person::logged_in(&usher, "alice").await;
        let answers = alice.trail.iter().filter(|url| url.path() == "/auth/lab/callback");
        assert_eq!(answers.count(), 2, "by POST, then by GET");
    }
    for key in ["rsa", "ec"] {
        let (usher, public) = provider.setup_with_key(key, STAFF).await;
        let way = json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [public] } });
        provider.knows_as(&usher, way).await;
        Person::logged_in(&usher, "alice").await;
    }
    let usher = usher(&provider, "", STAFF).await;
    provider.knows_as(&usher, json!({ "client_secret": "another" })).await;
    let (_, answer) = Person::new(&usher, "alice").visit("/").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.text().contains("The Lab does not know this installation"), "{}", answer.text());
    usher.logs.tell("does not accept Usher as its client").await;
}

#[tokio::test]
async fn github_lets_in_by_organisation_and_team_and_an_account_that_is_taken_away_is_out() {
    let github = IdentityProvider::github(json!({
        "user": { "id": 4711, "login": "alice", "name": "Ada", "email": "public@example.org" },
        "emails": [{ "email": "alice@example.org", "primary": true, "verified": true }],
        "orgs": [{ "login": "acme" }],
        "teams": [{ "slug": "platform", "organization": { "login": "acme" } }],
    }))
    .await;
    let rules = "[access]\nallow = \"'acme/platform' in groups && claims.email == 'alice@example.org'\"\n\
                 template = \"'demo'\"\n[sessions]\nrefresh_after = \"1s\"\n";
    let usher = github.setup("preset = \"github\"", rules).start().await;
    let alice = Person::logged_in(&usher, "alice").await;
    let fetch = || alice.fetch(http::Method::GET, "/.usher/status").send();
    assert_eq!(fetch().await.status, StatusCode::OK);
    github.now_says(json!({ "teams": [] })).await;
    wait_for("the session to end", SOON * 2, async || {
        alice.press("start").await;
        (fetch().await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    let (_, answer) = Person::new(&usher, "alice").visit("/").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
}

#[tokio::test]
async fn ten_tabs_log_in_side_by_side_and_finish_in_any_order() {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = usher(&provider, "", STAFF).await;
    let mut alice = Person::new(&usher, "alice");
    let mut tabs = Vec::new();
    for tab in 0..10 {
        let (at_provider, _) = alice.follow_to(alice.home(&format!("/tab/{tab}")), "/interaction/").await;
        tabs.push((tab, at_provider));
    }
    for order in [7, 2, 9, 0, 4, 1, 8, 3, 6, 5] {
        let (tab, at_provider) = &tabs[order];
        let (url, answer) = alice.follow(at_provider.clone()).await;
        assert_eq!(url.path(), format!("/tab/{tab}"), "{}", answer.text());
    }
    assert_eq!(usher.metric("usher_sessions").await, Some(1.0), "one browser, one account, one session");
}

#[tokio::test]
async fn several_providers_are_offered_and_one_that_is_away_says_so_until_it_comes() {
    let (here, later) = (IdentityProvider::start(accounts()).await, IdentityProvider::free_port());
    let away = format!(
        "[login.providers.away]\nissuer = \"http://127.0.0.1:{later}\"\ntitle = \"The <Annex>\"\n\
         client_id = \"usher\"\nclient_secret = {{ from_env = \"LAB_SECRET\" }}\n"
    );
    let usher = usher(&here, "", &format!("{away}{STAFF}")).await;
    let mut alice = Person::new(&usher, "alice");
    let (url, page) = alice.follow(portal(&usher, "/login")).await;
    let text = page.text();
    assert_eq!((url.path(), page.status), ("/login", StatusCode::OK));
    assert!(text.contains("Log in with The Lab") && text.contains("Log in with The &lt;Annex&gt;"), "{text}");
    assert_eq!(text.matches("It does not answer at the moment.").count(), 1, "{text}");
    let (_, refused) = alice.follow(portal(&usher, "/auth/away/login")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    let _annex = IdentityProvider::start_with(json!({ "accounts": accounts(), "port": later })).await;
    wait_for("the annex to be heard", SOON * 3, async || {
        let (_, page) = alice.follow(portal(&usher, "/login")).await;
        (!page.text().contains("It does not answer")).then_some(())
    })
    .await;
    let (_, dashboard) = alice.follow(portal(&usher, "/auth/lab/login")).await;
    assert!(dashboard.text().contains("Ada Lovelace"), "{}", dashboard.text());
}

#[tokio::test]
async fn an_answer_is_worth_something_once_and_in_its_own_browser() {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = usher(&provider, "", STAFF).await;
    let mut alice = Person::new(&usher, "alice");
    let before = {
        let (at_provider, _) = alice.follow_to(alice.home("/"), "/interaction/").await;
        alice.follow_to(at_provider, "/auth/lab/callback").await;
        alice.clone()
    };
    let callback = before.trail.last().unwrap().clone();
    assert_eq!(callback.path(), "/auth/lab/callback");
    let mut mallory = Person::new(&usher, "mallory");
    let (_, stolen) = mallory.follow(callback.clone()).await;
    assert!(stolen.text().contains("Your browser dropped our cookie"), "{}", stolen.text());
    assert_eq!(mallory.jar.cookie(DOMAIN, "__Host-usher"), None);
    assert_eq!(usher.metric("usher_sessions").await, Some(1.0));
    // Back and again: who is logged in goes on, and nothing is redeemed twice.
    let asked = provider.asked("/token").await;
    let (_, again) = alice.follow(callback).await;
    assert!(again.status.is_success() || again.status == StatusCode::SERVICE_UNAVAILABLE, "{}", again.text());
    assert_eq!(provider.asked("/token").await, asked);
    assert_eq!(usher.metric("usher_sessions").await, Some(1.0));
}

#[tokio::test]
async fn a_cookie_is_small_whatever_the_provider_says_of_somebody() {
    let groups: Vec<_> = (0..200).map(|group| format!("department-{group}-of-the-faculty")).collect();
    let claims = json!({ "alice": { "name": "Ada", "preferred_username": "alice", "groups": groups } });
    let provider = IdentityProvider::start(claims).await;
    let rules = "[access]\nallow = \"'department-199-of-the-faculty' in groups\"\ntemplate = \"'demo'\"\n";
    let usher = usher(&provider, "", rules).await;
    let alice = Person::logged_in(&usher, "alice").await;
    for host in [DOMAIN, &alice.host()] {
        let field = alice.jar.field(host).unwrap();
        assert!(field.len() < 1024, "{host}: {} bytes", field.len());
    }
}

#[tokio::test]
async fn without_a_provider_and_without_the_development_login_a_page_says_so() {
    let usher = Setup::new("").without_development().start().await;
    let (_, page) = Person::new(&usher, "alice").visit("/").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().contains("No login is configured") && html::form(&page.text()).is_none());
    usher.logs.tell("no login is enabled").await;
}

//! Certificates for each host: for hosts that are known, as many as the budget has, and never for a stranger's words.

use super::{
    BY_HTTP, GETTING, SITE, asked, await_certificate, before_a_false_one, failures, listed, names, renew,
    shown, tables,
};
use http::{Method, StatusCode};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tests::{
    Answer, Certificate, CertificateAuthority, Client, DOMAIN, FalseAuthority, Fault, IdentityProvider, Kind,
    Person, SOON, Setup, Terms, Usher, wait_for,
};
use url::{Position, Url};

/// Somebody who logs in at the portal by https.
async fn somebody(usher: &Usher, authority: &CertificateAuthority, name: &str) -> Person {
    let key = rcgen::KeyPair::generate().expect("random numbers").serialize_pem();
    let trusting = Certificate::issued(authority.root(), &key, authority.root());
    let client = Client::at(usher.listeners()[0], Some(trusting));
    let portal = Url::parse(&format!("{}/", client.origin(DOMAIN))).expect("it is an address");
    let mut person = Person::before(client, name);
    let (_, answer) = person.follow(portal).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    person
}

/// An Usher with these tables that the people of this provider log in at, with a certificate for its portal.
async fn usher_for_people_of(
    provider: &IdentityProvider,
    authority: &CertificateAuthority,
    tables: &str,
) -> Usher {
    let usher = provider.setup("", tables).https().start().await;
    asked(authority, &usher);
    let back = format!("https://{}/auth/lab/callback", usher.client().authority(DOMAIN));
    provider.knows_as(&usher, json!({ "redirect_uris": [back] })).await;
    await_certificate(&usher, DOMAIN).await;
    usher
}

#[tokio::test]
async fn a_portal_below_the_domain_gets_its_certificate_before_anybody_comes() {
    let authority = CertificateAuthority::start().await;
    let tables = tables(&authority.directory(), &authority, BY_HTTP);
    let portal = format!("auth.{DOMAIN}");
    let usher = Setup::new(&tables).root(&format!("portal = \"{portal}\"\n")).https().start().await;
    asked(&authority, &usher);
    assert_eq!(names(&await_certificate(&usher, &portal).await), [portal]);
}

#[tokio::test]
async fn whoever_logs_in_first_gets_a_certificate_until_the_budget_is_used_up() {
    const WAITS: &str =
        "a host gets no certificate yet: new_per_week hosts have got their first one within seven days";
    let authority = CertificateAuthority::start().await;
    let people =
        json!({ "alice": { "preferred_username": "alice" }, "bob": { "preferred_username": "bob" } });
    let provider = IdentityProvider::start(people).await;
    let keys = format!("{BY_HTTP}new_per_week = 2\n");
    let tables = tables(&authority.directory(), &authority, &keys);
    let usher = usher_for_people_of(&provider, &authority, &tables).await;
    let alice = somebody(&usher, &authority, "alice").await;
    let certificate = await_certificate(&usher, &alice.host()).await;
    assert_eq!(names(&certificate), [alice.host()]);
    assert!(usher.logs.events(WAITS).is_empty());

    let mut bob = somebody(&usher, &authority, "bob").await;
    let id = format!("site--{}", bob.host());
    let waits = wait_for("somebody to wait", GETTING, async || {
        usher.logs.values(WAITS, "certificate.id").first().cloned()
    });
    assert_eq!(waits.await, id);
    let told = wait_for("the list to say so", GETTING, async || {
        let (_, text) = usher.command(&["certs", "list"]);
        text.contains("new_per_week: 2 hosts").then_some(text)
    });
    assert!(told.await.contains(&id));
    assert!(shown(usher.listeners()[0], &bob.host()).await.is_none());
    let (_, page) = open(&mut bob, "bob").await;
    assert!(page.text().contains("It is tried again in 6 d"), "{}", page.text());

    // The budget is kept over restarts; what was got is served.
    let usher = usher.kill_and_restart().await;
    asked(&authority, &usher);
    await_certificate(&usher, &alice.host()).await;
    wait_for("somebody to wait", GETTING, async || {
        usher.logs.values(WAITS, "certificate.id").contains(&id).then_some(())
    })
    .await;
    assert!(shown(usher.listeners()[0], &bob.host()).await.is_none());
}

/// What the portal's page says at its link to somebody's workspace, and where that link leads.
async fn open(person: &mut Person, id: &str) -> (Url, Answer) {
    let portal = Url::parse(&format!("{}/", person.client().origin(DOMAIN))).expect("it is an address");
    let (at, page) = person.follow(portal).await;
    let text = page.text();
    let section = text.split(&format!("data-workspace=\"{id}\"")).nth(1).expect("it is listed");
    let link = section.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("it opens");
    person.follow(at.join(&link.replace("&amp;", "&")).expect("a link is a URL")).await
}

#[tokio::test]
async fn the_portal_leads_to_a_host_once_that_has_its_certificate_and_says_what_is_missing_before() {
    let authority = CertificateAuthority::start_with(Terms { bad_nonces: 0, ..Terms::default() }).await;
    let faulty = FalseAuthority::before(&authority).await;
    let provider = IdentityProvider::start(json!({ "alice": { "preferred_username": "alice" } })).await;
    let named = "[named_workspaces.gpu]\ntemplate = \"'demo'\"\n[templates.demo]\nports = [8888]\n\
                 command = [\"{usher}\", \"demo\", \"--socket\", \"{socket}\"]\nconnect = \"socket\"\n";
    let tables = tables(&faulty.directory(), &authority, BY_HTTP);
    let usher = usher_for_people_of(&provider, &authority, &format!("{tables}{named}")).await;

    faulty.fails(Kind::NewOrder, Fault::problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", None));
    let mut alice = somebody(&usher, &authority, "alice").await;
    failures(&usher, 1).await;
    let id = format!("site--{}", alice.host());
    wait_for("the list to say so", SOON, async || {
        let told = listed(&usher, &id);
        let has_failed = told["failures"].as_array().is_some_and(|failures| !failures.is_empty());
        (has_failed && told["next"] != "under_way").then_some(())
    })
    .await;
    let (at, page) = open(&mut alice, "alice").await;
    assert_eq!((at.host_str(), page.status), (Some(DOMAIN), StatusCode::SERVICE_UNAVAILABLE));
    for said in [
        "could not be had so far",
        "goes on by itself",
        "<script src=\"/assets/await.js\"",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.text().contains(said), "{said}: {}", page.text());
    }
    let looks = async |alice: &Person| {
        let path = &at[Position::BeforePath..Position::AfterQuery];
        let ask = alice.with_cookies(alice.client().get(DOMAIN, path), DOMAIN);
        ask.fetch("same-origin").replacing("accept", "text/html").send().await.status
    };
    assert_eq!(looks(&alice).await, StatusCode::SERVICE_UNAVAILABLE, "as its script looks");
    let long_ago = at.as_str().split("since=").next().map(|before| format!("{before}since=1000")).unwrap();
    let (_, patient) = alice.follow(Url::parse(&long_ago).unwrap()).await;
    assert!(
        !patient.text().contains("await.js") && patient.text().contains("Look again"),
        "it ends some day"
    );

    let (_, gpu) = open(&mut alice, "gpu--alice").await;
    assert!(gpu.text().contains("Start it first"), "{}", gpu.text());
    let port = format!(
        "{}/login?return={}/",
        alice.client().origin(DOMAIN),
        alice.client().origin(&format!("8888--{}", alice.host()))
    );
    let (_, port) = alice.follow(Url::parse(&port).unwrap()).await;
    assert!(port.text().contains("its ports have none"), "{}", port.text());

    faulty.mends();
    renew(&usher, &id);
    await_certificate(&usher, &alice.host()).await;
    assert_eq!(looks(&alice).await, StatusCode::SEE_OTHER, "which loads the page again now");
    let (home, _) = alice.follow(at.clone()).await;
    assert_eq!(home.host_str(), Some(&*alice.host()));
    assert_eq!(alice.fetch(Method::GET, "/.usher/status").send().await.status, StatusCode::OK);

    let started = alice.change("/api/v1/workspaces/gpu--alice/start", &[]).await;
    assert!(started.status.is_redirection() || started.status.is_success(), "{}", started.text());
    await_certificate(&usher, &format!("gpu--{}", alice.host())).await;
    let (gpu, _) = open(&mut alice, "gpu--alice").await;
    assert_eq!(gpu.host_str(), Some(&*format!("gpu--{}", alice.host())));
}

/// Handshakes for hosts of which nobody has heard.
async fn random_hosts(address: SocketAddr, many: usize) {
    for number in 0..many {
        let name: String = (0..1 + number % 20).map(|_| fastrand::lowercase()).collect();
        let host = format!("{name}{number}.{}", if number % 2 == 0 { DOMAIN } else { "elsewhere.test" });
        assert!(shown(address, &host).await.is_none(), "{host}");
    }
}

fn documents(usher: &Usher) -> BTreeSet<String> {
    let folder = std::fs::read_dir(usher.state_dir().join("certificates")).expect("it is there");
    folder.map(|entry| entry.expect("it is read").file_name().to_string_lossy().into_owned()).collect()
}

async fn strangers_cause_nothing(many: usize) {
    let (_real, faulty, usher) = before_a_false_one().await;
    await_certificate(&usher, DOMAIN).await;
    wait_for("it to be done with", GETTING, async || {
        (listed(&usher, SITE)["next"] != "under_way").then_some(())
    })
    .await;
    let address = usher.listeners()[0];
    random_hosts(address, 200).await;
    let (before, memory) = (documents(&usher), usher.memory("Anonymous"));
    random_hosts(address, many).await;
    assert_eq!(documents(&usher), before);
    assert_eq!(faulty.orders().len(), 1);
    let grown = usher.memory("Anonymous").saturating_sub(memory);
    assert!(grown < 4096, "{grown} KiB more after {many} handshakes");
    println!("{grown} KiB more after {many} handshakes");
}

#[tokio::test]
async fn hundreds_of_strange_names_cause_no_order() {
    strangers_cause_nothing(500).await;
}

#[tokio::test]
#[ignore = "long: for `make soak`"]
async fn ten_thousand_strange_names_cause_no_order() {
    strangers_cause_nothing(10_000).await;
}

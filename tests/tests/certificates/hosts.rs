//! Certificates for each host: for hosts that are known, as many as the budget has, and never for a stranger's words.

use super::{
    BY_HTTP, GETTING, SITE, asked, await_certificate, before_a_false_one, listed, names, shown, tables,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tests::{Certificate, CertificateAuthority, Client, DOMAIN, IdentityProvider, Person, Usher, wait_for};
use url::Url;

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

#[tokio::test]
async fn whoever_logs_in_first_gets_a_certificate_until_the_budget_is_used_up() {
    const WAITS: &str =
        "a host gets no certificate yet: new_per_week hosts have got their first one within seven days";
    let authority = CertificateAuthority::start().await;
    let people =
        json!({ "alice": { "preferred_username": "alice" }, "bob": { "preferred_username": "bob" } });
    let provider = IdentityProvider::start(people).await;
    let keys = format!("{BY_HTTP}new_per_week = 2\n");
    let setup = provider.setup("", &tables(&authority.directory(), &authority, &keys)).https();
    let usher = setup.start().await;
    asked(&authority, &usher);
    let back = format!("https://{}/auth/lab/callback", usher.client().authority(DOMAIN));
    provider.knows_as(&usher, json!({ "redirect_uris": [back] })).await;
    await_certificate(&usher, DOMAIN).await;
    let alice = somebody(&usher, &authority, "alice").await;
    let certificate = await_certificate(&usher, &alice.host()).await;
    assert_eq!(names(&certificate), [alice.host()]);
    assert!(usher.logs.events(WAITS).is_empty());

    let bob = somebody(&usher, &authority, "bob").await;
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

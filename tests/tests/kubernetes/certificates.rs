//! Certificates in a cluster: from a Secret that somebody else keeps, and by ACME for three Ushers at once.

use rustix::process::Signal;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, version};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::{
    Certificate, CertificateAuthority, Cluster, DOMAIN, FalseAuthority, Fault, Kind, Realm, SOON, STARTED,
    Terms, Usher, wait_for,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The Secret that the tests' certificate comes from.
const SECRET: &str = "site";
const FROM_SECRET: &str = "[certificates.site]\nsource = \"secret\"\nsecret = \"site\"\n";

/// Keeps this as cert-manager would.
async fn keep(realm: &Realm, chain: &str, key: &str) {
    realm
        .cluster()
        .apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": SECRET, "namespace": realm.records },
            "stringData": { "tls.crt": chain, "tls.key": key },
        }))
        .await;
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).expect("the fixture wrote it")
}

/// Whether who trusts this certificate's root alone is served.
async fn is_shown(certificate: &Certificate, address: SocketAddr, host: &str) -> bool {
    certificate.connect(address, host, "http/1.1").await.is_ok()
}

async fn await_shown(certificate: &Certificate, address: SocketAddr, host: &str) {
    wait_for("the certificate to be shown", STARTED, async || {
        is_shown(certificate, address, host).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_is_shown_as_it_is_now_and_one_that_breaks_or_goes_leaves_what_was() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let [first, second] = [(); 2].map(|()| Certificate::for_names(&[DOMAIN]));
    keep(&realm, &text(&first.certificate()), &text(&first.private_key())).await;
    let usher = realm.setup(FROM_SECRET).await.https().start().await;
    let address = usher.listeners()[0];
    assert!(is_shown(&first, address, DOMAIN).await, "it is there before Usher listens");

    keep(&realm, &text(&second.certificate()), &text(&second.private_key())).await;
    await_shown(&second, address, DOMAIN).await;
    assert!(!is_shown(&first, address, DOMAIN).await);

    let told = async |words: &str| {
        wait_for("it to be told", SOON, async || {
            usher.logs.events(words).iter().any(|event| event.to_string().contains(SECRET)).then_some(())
        })
        .await;
    };
    // The API server looks whether the keys are there, and at nothing else.
    keep(&realm, "no certificate", "no key").await;
    told("a Secret's certificate cannot be used").await;
    assert!(is_shown(&second, address, DOMAIN).await, "what cannot be used leaves what was");
    keep(&realm, &text(&first.certificate()), &text(&first.private_key())).await;
    await_shown(&first, address, DOMAIN).await;

    cluster.kubectl(&["delete", "secret", SECRET, "--namespace", &realm.records]).await;
    told("there is no such Secret of type kubernetes.io/tls").await;
    assert!(is_shown(&first, address, DOMAIN).await, "what is gone leaves what was");
    for certificate in [&first, &second] {
        let key = text(&certificate.private_key());
        let secret = key.lines().nth(1).expect("PEM has lines");
        assert!(!usher.logs.all().contains(secret), "a private key is in the log");
    }
}

#[tokio::test]
async fn a_secret_of_ushers_own_that_is_deleted_is_written_again_as_it_was() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let _usher = realm.setup("[certificates.site]\nsource = \"self-signed\"\n").await.https().start().await;
    let own = ["get", "secrets", "--field-selector=type=usher.dev/certificate", "--output=name"];
    let own = cluster.kubectl(&[&own[..], &["--namespace", &realm.records]].concat()).await;
    let name = own.lines().find(|name| name.contains("certificate-site")).expect("it was made at the start");
    let place = [name, "--namespace", &realm.records];
    let data = [&["get", "--output=jsonpath={.data}"], &place[..]].concat();
    let before = cluster.kubectl(&data).await;
    cluster.kubectl(&[&["delete"], &place[..]].concat()).await;
    wait_for("it to be written again", SOON, async || {
        cluster.try_kubectl(&data).await.ok().filter(|again| *again == before)
    })
    .await;
}

/// Three Ushers that get a certificate for each user's host from Pebble, which asks them in turn.
struct Three {
    ushers: Vec<Usher>,
    authority: CertificateAuthority,
    /// Before Pebble: it counts, and fails as it is told.
    before: FalseAuthority,
    /// The portal's, which is there from the start.
    portal: Certificate,
}

impl Three {
    async fn start(realm: &Realm, challenge: &str) -> Self {
        // What is refused for its nonce is asked again, and would be counted.
        let terms = Terms { bad_nonces: 0, ..Terms::default() };
        let authority = CertificateAuthority::start_with(terms).await;
        let before = FalseAuthority::before(&authority).await;
        let portal = Certificate::for_names(&[DOMAIN]);
        let tables = format!(
            "[acme.pebble]\ndirectory = \"{}\"\nterms_of_service_agreed = true\ncertificate_authority = {:?}\n\n\
             [certificates.people]\nsource = \"acme\"\nnames = [\"*.{DOMAIN}\"]\nper_host = true\n\
             challenge = \"{challenge}\"\n",
            before.directory(),
            authority.certificate().certificate(),
        );
        let setup = realm.setup(&tables).await.certificate(&portal).https();
        let mut ushers = Vec::new();
        for _ in 0..3 {
            ushers.push(setup.clone().start().await);
        }
        let listeners = |at: usize| ushers.iter().map(|usher| usher.listeners()[at]).collect::<Vec<_>>();
        authority.asks_by_tls(&listeners(0));
        authority.asks_by_http(&listeners(1));
        let three = Self { ushers, authority, before, portal };
        three.know_each_other(realm).await;
        three
    }

    /// Waits until one leads and each has told that it is there.
    async fn know_each_other(&self, realm: &Realm) {
        let arguments = ["secrets", "--field-selector=type=usher.dev/use", "--namespace", &realm.records];
        wait_for("three that know each other", SOON, async || {
            let uses = realm.cluster().object(&arguments).await;
            (uses["items"].as_array()?.len() == 3).then_some(())
        })
        .await;
        wait_for("one that leads", STARTED, async || self.leader().await).await;
    }

    async fn leader(&self) -> Option<usize> {
        for (at, usher) in self.ushers.iter().enumerate() {
            if usher.metric("usher_kubernetes_leads").await == Some(1.0) {
                return Some(at);
            }
        }
        None
    }

    /// Stops one that does not lead, and tells which.
    async fn pause_one(&self) -> usize {
        let paused = (self.leader().await.expect("one leads") + 1) % self.ushers.len();
        self.ushers[paused].signal(Signal::STOP);
        paused
    }

    /// What trusts Pebble.
    fn trusting(&self) -> Certificate {
        let (root, key) = (self.authority.root(), text(&self.portal.private_key()));
        Certificate::issued(root, &key, root)
    }

    async fn all_show(&self, hosts: &[String]) {
        let trusting = self.trusting();
        for usher in &self.ushers {
            for host in hosts {
                await_shown(&trusting, usher.listeners()[0], host).await;
            }
        }
    }
}

/// Somebody has a label, as after their first login with a provider; tells their host. Those of the development login
/// are not known here.
async fn is_known(realm: &Realm, label: &str) -> String {
    let name = format!("label-{label}");
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "usher.dev/label",
        "metadata": { "name": name, "namespace": realm.records }, "stringData": { "value": "{}" },
    });
    realm.cluster().apply(&object).await;
    format!("{label}.{DOMAIN}")
}

/// One order for each name, although three could make it, and whomever Pebble asks answers.
async fn each_name_is_ordered_once(challenge: &str) {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let three = Three::start(&realm, challenge).await;
    let mut hosts = Vec::new();
    for name in ["alice", "bob", "carol"] {
        hosts.push(is_known(&realm, name).await);
    }
    three.all_show(&hosts).await;
    assert_eq!(three.before.asked(Kind::NewOrder), 3);
    assert_eq!(three.before.asked(Kind::NewAccount), 1);
    for usher in &three.ushers {
        let failures = usher.logs.events("a certificate could not be got; what there is is served on");
        assert!(failures.is_empty(), "{failures:?}");
    }
}

#[tokio::test]
async fn each_of_three_answers_http_01_and_each_name_is_ordered_once() {
    each_name_is_ordered_once("http-01").await;
}

#[tokio::test]
async fn each_of_three_answers_tls_alpn_01_and_each_name_is_ordered_once() {
    each_name_is_ordered_once("tls-alpn-01").await;
}

#[tokio::test]
async fn another_goes_on_with_the_order_of_a_leader_that_is_killed() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let mut three = Three::start(&realm, "http-01").await;
    three.before.fails(Kind::Finalize, Fault::Silence);
    let host = is_known(&realm, "alice").await;
    wait_for("the order to be ready", STARTED, async || {
        (three.before.asked(Kind::Finalize) > 0).then_some(())
    })
    .await;
    let leader = three.leader().await.expect("one leads");
    drop(three.ushers.remove(leader));
    three.before.mends();
    three.all_show(&[host]).await;
    assert_eq!(three.before.asked(Kind::NewOrder), 1);
}

/// Waits until so many have said that they answer a challenge.
async fn answered_by(realm: &Realm, count: usize) {
    let arguments = ["secrets", "--field-selector=type=usher.dev/certificate", "--namespace", &realm.records];
    wait_for("the others to answer", STARTED, async || {
        let kept = realm.cluster().object(&arguments).await;
        let kept = kept["items"].as_array()?.iter();
        // An empty list is `[]`, which is `W10=`.
        let answers = |secret: &&Value| {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            name.starts_with("certificate-seen-") && secret["data"]["value"] != "W10="
        };
        (kept.filter(answers).count() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_authority_is_told_ready_only_when_a_paused_usher_answers_as_well() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let three = Three::start(&realm, "http-01").await;
    let paused = three.pause_one().await;
    let host = is_known(&realm, "alice").await;
    answered_by(&realm, 2).await;
    // A second is a hundred times what the leader takes to hear of it.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..3 {
        ticks.tick().await;
        assert_eq!(three.before.asked(Kind::Challenge), 0, "it is told before all can answer");
    }
    three.ushers[paused].signal(Signal::CONT);
    three.all_show(&[host]).await;
    assert_eq!(three.before.asked(Kind::NewOrder), 1);
}

/// The whole of what a killed Usher costs: it is waited for until it has been missed for five minutes.
#[tokio::test]
#[ignore = "it takes five minutes"]
async fn an_usher_that_is_silent_for_five_minutes_is_waited_for_no_longer() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let mut three = Three::start(&realm, "http-01").await;
    let paused = three.pause_one().await;
    let begun = Instant::now();
    let host = is_known(&realm, "alice").await;
    answered_by(&realm, 2).await;
    wait_for("it to be missed", Duration::from_mins(7), async || {
        (three.before.asked(Kind::Challenge) > 0).then_some(())
    })
    .await;
    let took = begun.elapsed();
    println!("told ready {took:?} after one had stopped");
    assert!(took > Duration::from_mins(4), "{took:?}");
    // Who is missed is asked no more: that is for the load balancer to see, as it is for every request.
    drop(three.ushers.remove(paused));
    let listeners: Vec<_> = three.ushers.iter().map(|usher| usher.listeners()[1]).collect();
    three.authority.asks_by_http(&listeners);
    three.all_show(&[host]).await;
}

/// How a client and this Usher shake hands. One request long, so that tickets come, too.
async fn visit(usher: &Usher, client: &Arc<ClientConfig>) -> HandshakeKind {
    let name = ServerName::try_from(DOMAIN).expect("it is a host name");
    let tcp = TcpStream::connect(usher.listeners()[0]).await.expect("usher listens");
    let mut stream = TlsConnector::from(client.clone()).connect(name, tcp).await.expect("it is trusted");
    let request = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("usher reads");
    stream.read_to_end(&mut Vec::new()).await.expect("usher answers and closes");
    stream.get_ref().1.handshake_kind().expect("they have shaken hands")
}

#[tokio::test]
async fn who_was_at_one_resumes_at_another() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let certificate = Certificate::for_names(&[DOMAIN]);
    keep(&realm, &text(&certificate.certificate()), &text(&certificate.private_key())).await;
    let setup = realm.setup(FROM_SECRET).await.https();
    let (one, another) = (setup.clone().start().await, setup.start().await);
    for version in [&version::TLS12, &version::TLS13] {
        let mut client = certificate.client(version, &["http/1.1"]);
        client.resumption = Resumption::in_memory_sessions(64);
        let client = Arc::new(client);
        assert_eq!(visit(&one, &client).await, HandshakeKind::Full, "{version:?}");
        assert_eq!(visit(&another, &client).await, HandshakeKind::Resumed, "{version:?}");
    }
}

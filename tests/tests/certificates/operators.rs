//! `usher certs` and `usher ca`: what an operator sees.

use super::{BY_HTTP, SITE, await_another, await_certificate, import, listed, shown, usher};
use tests::{Certificate, CertificateAuthority, Client, DOMAIN, Setup, wait_for};

#[tokio::test]
async fn an_operator_lists_renews_and_imports_certificates() {
    let authority = CertificateAuthority::start().await;
    let usher = usher(&authority, BY_HTTP).await;
    let first = await_certificate(&usher, DOMAIN).await;
    let (done, text) = usher.command(&["certs", "list"]);
    assert!(done && text.starts_with("CERTIFICATE") && text.contains(SITE), "{text}");
    let one = wait_for("it to be done with", super::GETTING, async || {
        Some(listed(&usher, SITE)).filter(|one| one["next"] != "under_way")
    })
    .await;
    assert_eq!((&one["source"], &one["names"]), (&"acme".into(), &serde_json::json!([DOMAIN])));
    assert_eq!(one["served"]["origin"], "pebble");

    // By the certificate's name as well as by the host's.
    let (done, text) = usher.command(&["certs", "renew", "site"]);
    assert!(done && text.contains("will be renewed"), "{text}");
    let second = await_another(&usher, DOMAIN, &first).await;

    let unfit = Certificate::by_an_authority(&["elsewhere.test"]);
    let (done, text) = import(&usher, SITE, &unfit);
    assert!(!done && text.contains("cannot be served") && text.contains(DOMAIN), "{text}");
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&second));

    let bought = Certificate::by_an_authority(&[DOMAIN]);
    let (done, text) = import(&usher, SITE, &bought);
    assert!(done && text.contains("was taken in"), "{text}");
    await_another(&usher, DOMAIN, &second).await;
    bought.connect(usher.listeners()[0], DOMAIN, "http/1.1").await.expect("it is the one that was bought");
    assert_eq!(listed(&usher, SITE)["served"]["origin"], "imported");

    for (arguments, expected) in [
        (&["certs", "renew", "nobody"][..], "there is no certificate nobody"),
        (&["certs", "renew", "../x y"], "there is no certificate"),
        (&["ca"], "usher has no authority of its own"),
    ] {
        let (done, text) = usher.command(arguments);
        assert!(!done && text.contains(expected), "{arguments:?}: {text}");
    }
    let (done, text) = import(&usher, "nobody", &bought);
    assert!(!done && text.contains("there is no certificate nobody"), "{text}");
}

#[tokio::test]
async fn the_certificate_of_files_is_not_ushers_to_renew_or_replace() {
    let own = Certificate::for_names(&[DOMAIN]);
    let usher = Setup::new("").certificate(&own).start().await;
    let files = [own.certificate(), own.private_key()].map(|file| file.display().to_string());
    for arguments in [
        &["certs", "renew", "files"][..],
        &["certs", "import", "files", "--certificate", &files[0], "--private-key", &files[1]],
    ] {
        let (done, text) = usher.command(arguments);
        assert!(!done && text.contains("whoever keeps it there renews it"), "{text}");
    }
    let one = listed(&usher, "files");
    assert_eq!((&one["source"], &one["next"]), (&"files".into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn whoever_trusts_ushers_own_authority_is_served_on_every_host() {
    let usher = Setup::new("[certificates.site]\nsource = \"self-signed\"\n").https().start().await;
    let (done, root) = usher.command(&["ca"]);
    assert!(done && root.starts_with("-----BEGIN CERTIFICATE-----"), "{root}");
    let key = rcgen::KeyPair::generate().expect("random numbers").serialize_pem();
    let client = Client::at(usher.listeners()[0], Some(Certificate::issued(&root, &key, &root)));
    let answer = client.get(DOMAIN, "/login").navigate("none").send().await;
    assert!(answer.status.is_success() || answer.status.is_redirection(), "{}", answer.text());
    for host in [&format!("alice.{DOMAIN}"), DOMAIN] {
        client.connect(host).await.unwrap_or_else(|error| panic!("{host}: {error}"));
    }

    let before = shown(usher.listeners()[0], DOMAIN).await.expect("there is one");
    let (done, text) = usher.command(&["certs", "renew", "site"]);
    assert!(done, "{text}");
    await_another(&usher, DOMAIN, &before).await;
    let (_, again) = usher.command(&["ca"]);
    assert_eq!(again, root, "the authority stays");
    // The same authority after a restart, and no tables of others are needed.
    let usher = usher.kill_and_restart().await;
    assert_eq!(usher.command(&["ca"]).1, root);
    assert!(!usher.logs.all().contains("PRIVATE KEY"));
}

//! What those see who look at Usher's TLS for a living, testssl.sh and sslyze; they talk to loopback alone.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use tests::{Certificate, DOMAIN, Setup, Usher};

/// What testssl.sh finds and stays, each with its reason.
const ALLOWED: [&str; 1] = [
    "cipher_order", // every cipher there is has AEAD and forward secrecy: the client knows what its processor does best
];

/// Its words for findings; `OK` and `INFO` are none, `WARN` is about itself.
const FINDINGS: [&str; 4] = ["LOW", "MEDIUM", "HIGH", "CRITICAL"];

async fn secure_usher() -> (Usher, Certificate) {
    let certificate = Certificate::by_an_authority(&[DOMAIN, &format!("*.{DOMAIN}")]);
    (Setup::new("[tls]\nhsts_max_age = \"365d\"\n").certificate(&certificate).start().await, certificate)
}

/// Runs a program to its end, while the test goes on to read what Usher logs.
async fn run(mut program: Command) -> Output {
    let done = tokio::task::spawn_blocking(move || program.output());
    done.await.expect("waiting does not panic").expect("the program is there: see .ci/provision.sh")
}

#[tokio::test]
async fn testssl_finds_no_more_than_is_allowed() {
    let (usher, certificate) = secure_usher().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("findings.json");
    let mut testssl = Command::new("testssl");
    testssl.args(["--warnings", "off", "--color", "0", "--nodns", "none", "--ip", "127.0.0.1"]);
    // Protocols, ciphers, forward secrecy, preferences, defaults, headers, vulnerabilities.
    testssl.args(["-p", "-s", "-f", "-P", "-S", "-h", "-U", "--openssl", "/usr/bin/openssl"]);
    testssl.arg("--add-ca").arg(certificate.root()).arg("--jsonfile").arg(&file);
    testssl.arg(usher.client().origin(DOMAIN));
    let output = run(testssl).await;
    let said = String::from_utf8_lossy(&output.stdout);

    let findings: Vec<Value> = serde_json::from_slice(&std::fs::read(file).expect(&said)).expect(&said);
    let named = |is: &dyn Fn(&str) -> bool| -> BTreeSet<&str> {
        let named = findings.iter().filter(|finding| finding["severity"].as_str().is_some_and(is));
        named.filter_map(|finding| finding["id"].as_str()).collect()
    };
    let seen = named(&|_| true);
    for looked_at in ["TLS1_3", "cert_trust", "HSTS_time", "LUCKY13", "scanTime"] {
        assert!(seen.contains(looked_at), "{looked_at} is not among {seen:?}:\n{said}");
    }
    let found = named(&|severity| FINDINGS.contains(&severity));
    assert_eq!(found, ALLOWED.into(), "{said}");
}

#[tokio::test]
async fn sslyze_finds_what_mozilla_recommends() {
    let (usher, certificate) = secure_usher().await;
    let folder = std::env::var("TLSSCAN")
        .expect("TLSSCAN is the folder of sslyze: run `make test`, or see .ci/provision.sh");
    let mut sslyze = Command::new(Path::new(&folder).join("sslyze"));
    sslyze.args(["--mozilla_config=intermediate", "--early_data", "--sni", DOMAIN, "--certinfo_ca_file"]);
    sslyze.arg(certificate.root()).arg(usher.client().address.to_string());
    let output = run(sslyze).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("OK - Compliant."), "{said}");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("TLS 1.3 Early Data: Not Supported"), "{said}");
}

//! What the chart takes, refuses and says.

use super::{HOME, by_acme, least, render, toml, variants, with};
use serde_json::{Value, json};
use std::process::Command;
use tests::{CHART, Rendered, Usher, helm, helm_command};

#[test]
fn helm_finds_nothing_to_improve() {
    for (name, values) in variants() {
        let mut command = helm_command();
        command.args(["lint", "--strict", "--quiet", CHART, "--values=-"]);
        let said = helm(command, &values).unwrap_or_else(|said| panic!("{name}: {said}"));
        assert_eq!(said.trim(), "", "{name}");
    }
}

#[test]
fn values_that_are_wrong_are_refused_and_named() {
    let table = [
        (json!({ "replica": 3 }), "replica"),
        (json!({ "image": { "registry": "example.org" } }), "registry"),
        (json!({ "image": { "repository": "" } }), "/image/repository"),
        (json!({ "replicas": 0 }), "/replicas"),
        (json!({ "replicas": "3" }), "/replicas"),
        (json!({ "domain": "" }), "/domain"),
        (json!({ "domain": "*.lab.example.org" }), "/domain"),
        (json!({ "config": "" }), "/config"),
        (json!({ "existingConfig": { "secret": "mine" } }), "/config"),
        (json!({ "config": "", "existingConfig": { "secret": "a", "configMap": "b" } }), "/existingConfig"),
        (json!({ "tls": { "certificate": "-----BEGIN" } }), "certificate"),
        (json!({ "acme": { "directory": "http://acme.example.org" } }), "/acme/directory"),
        (json!({ "acme": { "challenge": "dns" } }), "/acme/challenge"),
        (
            json!({ "tls": { "secret": "site" }, "acme": { "directory": "https://acme.example.org" } }),
            "leave one of them out",
        ),
        (json!({ "service": { "port": 70_000 } }), "/service/port"),
        (json!({ "service": { "type": "ExternalName" } }), "/service/type"),
        (json!({ "drain": { "delay": "10s" } }), "/drain/delay"),
        (json!({ "proxyProtocol": "v2" }), "/proxyProtocol"),
        (json!({ "workspaces": { "namespaces": [] } }), "/workspaces/namespaces"),
        (json!({ "workspaces": { "namespaces": ["desks", "desks"] } }), "/workspaces/namespaces"),
        (json!({ "workspaces": { "namespaces": ["Desks"] } }), "/workspaces/namespaces/0"),
        (json!({ "workspaces": { "podSecurity": "none" } }), "/workspaces/podSecurity"),
        (json!({ "networkPolicies": { "workspaces": { "never": ["the metadata"] } } }), "/never/0"),
        (json!({ "routes": [{ "namespace": "docs" }] }), "/routes/0"),
        (json!({ "routes": [{ "namespace": "docs", "deployments": [] }] }), "/routes/0"),
        (
            json!({ "routes": [{ "namespace": HOME, "deployments": ["wiki"] }] }),
            "the release's own namespace",
        ),
        (json!({ "networkPolicies": { "enable": false } }), "enable"),
        (json!({ "prepull": { "image": "one" } }), "image"),
        (json!({ "resources": { "limit": {} } }), "limit"),
        (json!({ "workspaces": { "namespaces": ["desks", HOME] } }), "the release's own namespace"),
    ];
    for (values, named) in table {
        let said = Rendered::new(HOME, &with(&values)).err().unwrap_or_else(|| panic!("{values} is taken"));
        assert!(said.contains(named), "{values}: {named:?} is not in {said}");
    }
}

#[test]
fn usher_accepts_the_configuration_that_the_chart_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("usher.toml");
    for (name, values) in variants().into_iter().filter(|(name, _)| !name.ends_with("has all")) {
        std::fs::write(&file, toml(&render(&values))).unwrap();
        let output = Command::new(Usher::binary()).arg("check").arg(&file).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_operators_words_come_where_toml_wants_them() {
    let config =
        "portal = \"other.example.org\" # a root key\n[access]\nallow = \"true\"\ntemplate = \"'a'\"\n";
    let written = toml(&render(&with(&json!({ "config": config }))));
    assert!(written.contains(config.trim_end()), "{written}");
    assert!(written.find("portal").unwrap() < written.find('[').unwrap(), "{written}");
    assert!(written.contains("namespace = \"desks\""), "{written}");
}

#[test]
fn https_is_a_secret_that_is_watched_or_an_authority_that_is_asked() {
    let written = |more: &Value| toml(&render(&with(more)));
    let secret = written(&json!({ "tls": { "secret": "wildcard" } }));
    assert!(secret.contains("source = \"secret\"\nsecret = \"wildcard\"\n"), "{secret}");
    assert!(!secret.contains("\"redirect\""), "{secret}");
    let http = written(&by_acme("http-01"));
    assert!(
        http.contains("address = [\"0.0.0.0:8080\", \"[::]:8080\"]\nprotocol = \"redirect\"\n"),
        "{http}"
    );
    assert!(http.contains("challenge = \"http-01\"\nper_host = true\n"), "{http}");
    let dns = written(&by_acme("dns-01"));
    assert!(dns.contains("challenge = \"dns-01\"\nper_host = false\n"), "{dns}");
    let refused = |more: &Value| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("usher.toml");
        std::fs::write(&file, written(more)).unwrap();
        let output = Command::new(Usher::binary()).arg("check").arg(&file).output().unwrap();
        assert!(!output.status.success(), "{more} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut unasked = by_acme("http-01");
    unasked["acme"]["termsOfServiceAgreed"] = json!(false);
    assert!(refused(&unasked).contains("terms_of_service_agreed"));
}

#[test]
fn two_releases_and_a_long_name_keep_their_objects_apart() {
    let names = |release: &str| {
        let mut command = helm_command();
        command.args([
            "template",
            release,
            CHART,
            "--namespace",
            HOME,
            "--values=-",
            "--show-only",
            "templates/service.yaml",
        ]);
        let yaml = helm(command, &least()).unwrap();
        let service: Value = serde_saphyr::from_str(&yaml).unwrap();
        service["metadata"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(names("usher"), "usher");
    assert_eq!(names("blue"), "blue-usher");
    assert!(names(&"a".repeat(53)).len() <= 52);
}

/// What helm tells whoever installs it.
fn notes(more: &Value) -> String {
    let mut command = helm_command();
    command.args(["install", "usher", CHART, "--namespace", HOME, "--values=-", "--dry-run=client"]);
    let said = helm(command, &with(more)).unwrap_or_else(|said| panic!("{said}"));
    said.split_once("NOTES:").expect("there are notes").1.to_owned()
}

#[test]
fn the_notes_say_what_to_open_and_what_is_dangerous() {
    let login = "[login]\ndevelopment = true\ndevelopment_from_anywhere_unsafe = true\n";
    let unsafe_login = format!("{login}{}", least()["config"].as_str().unwrap());
    let tls = json!({ "tls": { "secret": "wildcard" } });
    for (more, has, has_not) in [
        (
            json!({}),
            vec!["http://lab.example.org/", "*.lab.example.org must", "WARNING: without tls.secret"],
            vec!["port-forward"],
        ),
        (
            tls.clone(),
            vec!["https://lab.example.org/", "https://<name>.lab.example.org/"],
            vec!["WARNING", "port-forward"],
        ),
        (
            json!({ "domain": "lab.localhost", "service": { "port": 8080 } }),
            vec!["http://lab.localhost:8080/", "8080:8080"],
            vec!["WARNING"],
        ),
        (
            json!({ "portal": "auth.example.org", "tls": { "secret": "a" }, "publicPort": 8443 }),
            vec!["https://auth.example.org:8443/"],
            vec![],
        ),
        (by_acme("http-01"), vec!["https://lab.example.org/", "usher certs list"], vec!["WARNING"]),
        (json!({ "config": unsafe_login }), vec!["WARNING: the login believes"], vec![]),
        (
            json!({ "networkPolicies": { "enabled": false } }),
            vec!["WARNING: there are no NetworkPolicies"],
            vec![],
        ),
        (
            json!({ "networkPolicies": { "workspaces": { "internet": true } } }),
            vec!["networkPolicies.workspaces.never", "workspaces.podNetworks", "over IPv4 only"],
            vec![],
        ),
        (
            json!({
                "workspaces": { "podNetworks": ["2001:db8::/32"] },
                "networkPolicies": { "workspaces": { "internet": true } },
            }),
            vec!["networkPolicies.workspaces.never"],
            vec!["over IPv4 only"],
        ),
        (json!({ "workspaces": { "create": false } }), vec!["label namespace desks"], vec![]),
        (json!({ "workspaces": { "create": true } }), vec![], vec!["label namespace"]),
    ] {
        let notes = notes(&more);
        for text in has {
            assert!(notes.contains(text), "{more}: {text:?} is not in {notes}");
        }
        for text in has_not {
            assert!(!notes.contains(text), "{more}: {text:?} is in {notes}");
        }
    }
}

#[test]
fn the_example_renders_as_it_stands() {
    let example = std::fs::read_to_string(format!("{CHART}/examples/try.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&example).unwrap();
    let written = toml(&render(&values));
    assert!(written.contains("development_from_anywhere_unsafe = true"), "{written}");
}

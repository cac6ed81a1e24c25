//! The files that are shipped load, and the example is complete both ways.

use config::{
    Config, Connect, DriverName, KeyDefault, KeyDoc, ProcessTemplate, Runs, Template, Value, reference,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const QUICKSTART: &str = include_str!("../quickstart.toml");
/// Each driver's own example.
const EXAMPLES: [(DriverName, &str); 2] = [
    (DriverName::Process, include_str!("../usher.example.toml")),
    (DriverName::Kubernetes, include_str!("../usher.kubernetes.example.toml")),
];

fn environment(name: &str) -> Option<String> {
    [
        "ACME_DNS_PASSWORD",
        "API_TOKEN",
        "CLOUDFLARE_TOKEN",
        "EAB_KEY",
        "LAB_CLIENT_SECRET",
        "PARTNERS_KEY",
        "TSIG_KEY",
    ]
    .contains(&name)
    .then(|| "s3cretly".to_owned())
}

/// What a template tells the driver `process`.
fn process(template: &Template) -> &ProcessTemplate {
    let Runs::Process(process) = &template.runs else { panic!("{template:?}") };
    process
}

/// An example with its commented-out keys: prose has a blank after the `#`, keys have none.
fn everything(example: &str) -> String {
    let is_key = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '"' || c == '[');
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(key) if is_key(key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    example.lines().map(uncommented).collect()
}

/// All values of a text by their paths in the schema.
fn values(text: &str) -> BTreeMap<String, toml::Value> {
    let mut found = BTreeMap::new();
    let table: toml::Table = text.parse().expect("the file is TOML");
    for (key, value) in table {
        flatten(&key, value, &mut found);
    }
    found
}

fn flatten(path: &str, value: toml::Value, found: &mut BTreeMap<String, toml::Value>) {
    const BY_NAME: [&str; 19] = [
        "certificates",
        "acme",
        "dns_providers",
        "machines.issuers",
        "templates.NAME.headers",
        "routes.NAME.headers",
        "login.providers",
        "login.providers.NAME.parameters",
        "quotas",
        "quotas.NAME.each",
        "quotas.NAME.all",
        "named_workspaces",
        "routes",
        "templates",
        "templates.NAME.environment",
        "templates.NAME.resources",
        "templates.NAME.resources.requests",
        "templates.NAME.resources.limits",
        "templates.NAME.node_selector",
    ];
    const VERBATIM: [&str; 4] = [
        "templates.NAME.tolerations",
        "templates.NAME.init_containers",
        "templates.NAME.sidecars",
        "templates.NAME.pod",
    ];
    match value {
        // In Kubernetes' own words.
        _ if VERBATIM.contains(&path) => {}
        toml::Value::Table(table) => {
            for (key, value) in table {
                let is_fixed =
                    !BY_NAME.contains(&path) || ["requests", "limits", "workspaces"].contains(&key.as_str());
                let key = if is_fixed { &key } else { "NAME" };
                flatten(&format!("{path}.{key}"), value, found);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            items.into_iter().for_each(|item| flatten(path, item, found));
        }
        value => drop(found.insert(path.to_owned(), value)),
    }
}

/// The keys of a driver that are values, not tables or lists of further keys.
fn leaves(driver: DriverName) -> impl Iterator<Item = &'static KeyDoc> {
    let of_driver = move |key: &&KeyDoc| key.driver.is_none_or(|of| of == driver);
    reference().iter().filter(|key| key.kind != "table" && key.kind != "list of tables").filter(of_driver)
}

#[test]
fn the_quickstart_loads() {
    let config = Config::parse("quickstart.toml", QUICKSTART, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((config.domain.as_str(), config.portal.as_str()), ("lab.localhost", "lab.localhost"));
    assert_eq!(config.listeners[0].addresses.len(), 2);
    assert!(
        config.listeners[0]
            .addresses
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 8080)
    );
    assert!(config.login.development && !config.login.development_from_anywhere_unsafe);
    assert_eq!(config.admin.socket.to_str(), Some("usher-state/admin.sock"));
    let names: Vec<&str> = config.named_workspaces.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["app", "lab"]);
    let templates: Vec<&str> = config.templates.keys().map(|name| name.as_str()).collect();
    assert_eq!(templates, ["demo", "jupyterlab", "streamlit"]);
    for template in config.templates.values() {
        assert!(template.notice, "{}", template.name);
        assert_eq!(template.idle.idle_after, Some(Duration::from_mins(20)));
        assert_eq!(template.idle.warn_before, Duration::from_mins(2));
    }
}

#[test]
fn the_quickstarts_jupyterlab_is_asked_whether_it_computes_and_its_polling_is_no_use() {
    let config = Config::parse("quickstart.toml", QUICKSTART, &|_| None).expect("it loads");
    let (_, jupyterlab) =
        config.templates.iter().find(|(name, _)| name.as_str() == "jupyterlab").expect("shipped");
    assert_eq!(process(jupyterlab).connect, Connect::Socket);
    let is_background =
        |method: &str, path: &str| jupyterlab.idle.background.iter().any(|b| b.matches(method, path));
    for path in ["/api/kernels", "/api/kernels/1/channels", "/api/kernelspecs", "/api/terminals", "/api/me"] {
        assert!(is_background("GET", path), "{path}");
    }
    assert!(is_background("PUT", "/lab/api/workspaces/default"));
    assert!(!is_background("POST", "/api/kernels") && !is_background("PUT", "/api/contents/a.ipynb"));
    let probe = jupyterlab.idle.busy.as_ref().expect("it is asked");
    let busy = |state: &str| {
        let kernels = serde_json::json!([{ "id": "1", "execution_state": state }]);
        probe.expression.evaluate_json(&kernels, std::time::SystemTime::UNIX_EPOCH)
    };
    assert_eq!((busy("busy"), busy("idle")), (Ok(true), Ok(false)));
}

#[test]
fn each_example_loads_as_it_is() {
    for (driver, example) in EXAMPLES {
        let config = Config::parse("example", example, &|_| None).unwrap_or_else(|e| panic!("{driver}: {e}"));
        assert_eq!(config.templates.len(), 1);
    }
}

#[test]
fn every_key_of_the_examples_is_known_to_the_reader() {
    for (driver, example) in EXAMPLES {
        let all = everything(example).replacen("protocol = \"http\"", "protocol = \"https\"", 1);
        let read = Config::parse("all", &all, &environment);
        let findings = read.err().map(|findings| findings.0).unwrap_or_default();
        let keys: Vec<&str> = findings.iter().map(|finding| finding.key.as_str()).collect();
        // The files of some secrets are absent, and a program.
        let mut expected = vec![
            "acme.corporate.external_account.hmac_key.from_file",
            "dns_providers.bind.tsig.secret.from_file",
            "dns_providers.delegated.password.from_file",
            "dns_providers.own.command",
            "dns_providers.cloudflare.token.from_file",
            "login.providers.google.client_secret.from_file",
            "login.providers.keycloak.private_key.from_file",
        ];
        if driver == DriverName::Process {
            expected.push("templates.jupyterlab.environment.PASSWORD.from_file");
        }
        assert_eq!(keys, expected, "{findings:?}");
    }
}

#[test]
fn each_example_holds_exactly_the_documented_keys_of_its_driver() {
    for (driver, example) in EXAMPLES {
        let shown: BTreeSet<String> = values(&everything(example)).into_keys().collect();
        let documented: BTreeSet<String> = leaves(driver).map(|key| key.path.to_owned()).collect();
        assert_eq!(shown, documented);
    }
}

#[test]
fn the_examples_show_the_defaults_and_set_nothing_else() {
    for (driver, example) in EXAMPLES {
        let (set, all) = (values(example), values(&everything(example)));
        for key in leaves(driver) {
            shows_its_default(driver, key, &set, &all);
        }
    }
}

fn is_shown_only(path: &str) -> bool {
    ["acme.", "certificates.", "dns_providers.", "login.providers.", "machines.issuers.", "routes."]
        .iter()
        .any(|table| path.starts_with(table))
}

fn shows_its_default(
    driver: DriverName,
    key: &KeyDoc,
    set: &BTreeMap<String, toml::Value>,
    all: &BTreeMap<String, toml::Value>,
) {
    // Without amounts a template is refused, though none of them is required by name.
    let is_needed = key.path == "templates.NAME.resources.NAME";
    // What is required in a table that may be left out.
    let table = key.path.rsplit_once('.').map_or("", |(table, _)| table);
    let is_left_out = !table.is_empty() && !set.keys().any(|other| other.starts_with(&format!("{table}.")));
    match key.default {
        KeyDefault::Required if is_left_out => {}
        // Routes and providers are shown, and none is set.
        KeyDefault::Value(default) if is_left_out && is_shown_only(key.path) => {
            let default = values(&format!("it = {default}")).remove("it");
            let is_shown = all.get(key.path) == default.as_ref();
            // Several are shown, each with a preset of its own.
            assert!(is_shown || key.path == "login.providers.NAME.preset", "{}", key.path);
        }
        KeyDefault::Required => assert!(set.contains_key(key.path), "{} is required", key.path),
        KeyDefault::Value(_) if key.path == "driver" => {
            assert_eq!(set.get(key.path).and_then(toml::Value::as_str), Some(driver.to_string().as_str()));
        }
        KeyDefault::Value(default) => {
            let default = values(&format!("it = {default}")).remove("it");
            assert_eq!(set.get(key.path), default.as_ref(), "{}", key.path);
        }
        KeyDefault::Otherwise(_) if is_needed => assert!(set.contains_key(key.path)),
        KeyDefault::Otherwise(text) => {
            assert!(!set.contains_key(key.path), "{} is commented out", key.path);
            if text == "as in [workspaces]" {
                let shared =
                    key.path.replace("templates.NAME", "workspaces").replace("routes.NAME", "workspaces");
                assert_eq!(all.get(key.path), all.get(&shared), "{}", key.path);
            }
        }
    }
}

#[test]
fn every_key_of_the_examples_has_a_comment() {
    for (_, example) in EXAMPLES {
        let mut before = "";
        for line in example.lines() {
            let is_key = line.split_once(" = ").is_some_and(|(key, _)| {
                !key.starts_with("# ") && !key.starts_with(' ') && !key.contains(": ")
            });
            assert!(!is_key || line.contains(" # ") || before.starts_with("# "), "{line}");
            before = line;
        }
    }
}

#[test]
fn a_secret_of_the_environment_arrives_and_is_not_shown() {
    let text = EXAMPLES[0].1.replace("#TOKEN", "TOKEN");
    let config = Config::parse("all", &text, &environment).unwrap_or_else(|e| panic!("{e}"));
    let template = config.templates.values().next().expect("one template");
    let Some(Value::Secret(token)) = process(template).environment.get("TOKEN") else {
        panic!("{template:?}")
    };
    assert_eq!(token.reveal(), "s3cretly");
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let absent = Config::load(&folder.path().join("usher.toml")).expect_err("there is none").to_string();
    assert!(absent.contains("usher.toml: the configuration cannot be read"), "{absent}");
    assert!(absent.contains("--config FILE") && absent.contains("usher.example.toml"), "{absent}");
    let path = folder.path().join("bytes.toml");
    std::fs::write(&path, b"domain = \"\xff\"").expect("written");
    assert!(Config::load(&path).is_err());
    std::fs::write(&path, QUICKSTART).expect("written");
    assert!(Config::load(&path).is_ok());
}

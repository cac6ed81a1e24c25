//! The files that are shipped load, and the example is complete both ways.

use config::{Config, Connect, KeyDefault, KeyDoc, Value, reference};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const QUICKSTART: &str = include_str!("../quickstart.toml");
const EXAMPLE: &str = include_str!("../usher.example.toml");

fn environment(name: &str) -> Option<String> {
    (name == "API_TOKEN").then(|| "s3cret".to_owned())
}

/// The example with its commented-out keys: prose has a blank after the `#`, keys have none.
fn everything() -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_alphabetic()) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(uncommented).collect()
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
    const BY_NAME: [&str; 3] = ["named_workspaces", "templates", "templates.NAME.environment"];
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if BY_NAME.contains(&path) { "NAME" } else { &key };
                flatten(&format!("{path}.{key}"), value, found);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            items.into_iter().for_each(|item| flatten(path, item, found));
        }
        value => drop(found.insert(path.to_owned(), value)),
    }
}

/// The keys that are not tables of further keys.
fn leaves() -> impl Iterator<Item = &'static KeyDoc> {
    reference().iter().filter(|key| key.kind != "table")
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
    assert_eq!(jupyterlab.connect, Connect::Socket);
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
fn the_example_loads_as_it_is() {
    let config = Config::parse("usher.example.toml", EXAMPLE, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.templates.len(), 1);
}

#[test]
fn every_key_of_the_example_is_known_to_the_reader() {
    let findings =
        Config::parse("all", &everything(), &environment).expect_err("the secret's file is absent");
    let keys: Vec<&str> = findings.0.iter().map(|finding| finding.key.as_str()).collect();
    assert_eq!(keys, ["templates.jupyterlab.environment.PASSWORD.from_file"], "{findings}");
}

#[test]
fn the_example_holds_exactly_the_documented_keys() {
    let shown: BTreeSet<String> = values(&everything()).into_keys().collect();
    let documented: BTreeSet<String> = leaves().map(|key| key.path.to_owned()).collect();
    assert_eq!(shown, documented);
}

#[test]
fn the_example_shows_the_defaults_and_sets_nothing_else() {
    let (set, all) = (values(EXAMPLE), values(&everything()));
    for key in leaves() {
        match key.default {
            KeyDefault::Required => assert!(set.contains_key(key.path), "{} is required", key.path),
            KeyDefault::Value(default) => {
                let default = values(&format!("it = {default}")).remove("it");
                assert_eq!(set.get(key.path), default.as_ref(), "{}", key.path);
            }
            KeyDefault::Otherwise(text) => {
                assert!(!set.contains_key(key.path), "{} is commented out", key.path);
                if text == "as in [workspaces]" {
                    let shared = key.path.replace("templates.NAME", "workspaces");
                    assert_eq!(all.get(key.path), all.get(&shared), "{}", key.path);
                }
            }
        }
    }
}

#[test]
fn every_key_of_the_example_has_a_comment() {
    let mut before = "";
    for line in EXAMPLE.lines() {
        let is_key =
            line.split_once(" = ").is_some_and(|(key, _)| !key.starts_with("# ") && !key.starts_with(' '));
        assert!(!is_key || line.contains(" # ") || before.starts_with("# "), "{line}");
        before = line;
    }
}

#[test]
fn a_secret_of_the_environment_arrives_and_is_not_shown() {
    let text = EXAMPLE.replace("#TOKEN", "TOKEN");
    let config = Config::parse("all", &text, &environment).unwrap_or_else(|e| panic!("{e}"));
    let template = config.templates.values().next().expect("one template");
    let Some(Value::Secret(token)) = template.environment.get("TOKEN") else { panic!("{template:?}") };
    assert_eq!(token.reveal(), "s3cret");
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

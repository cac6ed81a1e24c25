//! Findings, by example: each with its line, column, key, what is wrong and what would be accepted.

mod certificates;
mod client;
mod kubernetes;
mod routes;

use crate::{Config, Connect, ProcessTemplate, Runs, Template, Value};
use proptest::prelude::*;
use std::time::Duration;

const GOOD: &str = r#"domain = "lab.example.org"
[[listeners]]
address = "127.0.0.1:8080"
[access]
allow = "true"
template = "'demo'"
[templates.demo]
command = ["demo", "{socket}"]
connect = "socket"
"#;

fn parse(text: &str) -> Result<Config, crate::Findings> {
    Config::parse("f", text, &|name| (name == "TOKEN").then(|| "s3cretly".to_owned()))
}

/// What a template tells the driver `process`.
fn process(template: &Template) -> &ProcessTemplate {
    let Runs::Process(process) = &template.runs else { panic!("{template:?}") };
    process
}

/// The findings of [`GOOD`] with one text in place of another.
fn with(good: &str, bad: &str) -> String {
    assert!(GOOD.contains(good), "{good}");
    findings(&GOOD.replacen(good, bad, 1))
}

fn findings(text: &str) -> String {
    parse(text).map_or_else(|findings| findings.to_string(), |_| String::new())
}

#[test]
fn tls_of_the_admin_address_takes_a_pair_and_perhaps_an_authority() {
    let with = |keys: &str| parse(&format!("{GOOD}[admin]\n{keys}\n"));
    let pair = "certificate = '/c.pem'\nprivate_key = '/k.pem'\n";
    assert_eq!(with("").unwrap().admin.tls, None);
    for (keys, authority) in [("", None), ("client_authority = '/ca.pem'", Some("/ca.pem"))] {
        let tls = with(&format!("{pair}{keys}")).unwrap().admin.tls.unwrap();
        assert_eq!((tls.certificate.to_str(), tls.private_key.to_str()), (Some("/c.pem"), Some("/k.pem")));
        assert_eq!(tls.client_authority.as_deref().and_then(std::path::Path::to_str), authority);
    }
    for key in ["certificate", "private_key", "client_authority"] {
        let told = with(&format!("{key} = '/x.pem'")).unwrap_err().to_string();
        assert!(told.contains(&format!("admin.{key}: needs certificate and private_key")), "{told}");
    }
}

#[test]
fn the_smallest_configuration_has_secure_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.portal, config.domain);
    assert_eq!(config.state_dir.to_str(), Some("/var/lib/usher"));
    assert_eq!(config.admin.socket.to_str(), Some("/var/lib/usher/admin.sock"));
    assert!(config.admin.address.ip().is_loopback());
    assert!(!config.login.development && !config.login.development_from_anywhere_unsafe);
    let demo = config.templates.values().next().unwrap();
    assert_eq!((process(demo).connect, demo.notice, demo.service_workers), (Connect::Socket, false, false));
    assert!(demo.ports.is_empty() && process(demo).environment.is_empty() && demo.ready.is_none());
    assert_eq!(demo.idle.idle_after, Some(Duration::from_mins(30)));
    assert_eq!((demo.idle.max_age, process(demo).log_size), (None, 1 << 20));
    assert!(
        !demo.idle.count_open_sockets && !demo.idle.count_workspace_frames && !demo.idle.count_open_responses
    );
}

#[test]
fn a_template_overrides_the_defaults_of_workspaces() {
    let text = format!(
        "{GOOD}idle_after = 'never'\nstop_grace = '0s'\n[workspaces]\nidle_after = '1h'\nstop_grace = '1m'\nmax_age = '8h'\n"
    );
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let demo = config.templates.values().next().unwrap();
    assert_eq!((demo.idle.idle_after, demo.stop_grace), (None, Duration::ZERO));
    assert_eq!(demo.idle.max_age, Some(Duration::from_hours(8)));
}

#[test]
fn all_mistakes_of_a_file_are_told_in_one_run_in_its_order() {
    let text = r#"domian = "lab.example.org"
spawn = 5
[[listeners]]
address = ["127.0.0.1:8080", "here"]
public_port = 70000
[access]
allow = "usr.name == 'é' || tru"
template = "'dmo'"
[workspaces]
idle_after = "half an hour"
[templates.demo]
comand = ["x"]
connect = "pipe"
"#;
    let findings = parse(text).unwrap_err();
    let told: Vec<String> =
        findings.0.iter().map(|f| format!("{}:{} {}: {}", f.line, f.column, f.key, f.problem)).collect();
    assert_eq!(
        told,
        [
            "1:1 domain: is missing",
            "1:1 domian: unknown key; did you mean `domain`?",
            "2:9 spawn: `5` is not a table",
            "4:30 listeners[0].address[1]: `\"here\"` is not an address",
            "5:15 listeners[0].public_port: `70000` is not a number in range",
            "7:10 access.allow: unknown variable `usr`; did you mean `user`?",
            "7:29 access.allow: unknown variable `tru`",
            "8:13 access.template: there is no template `dmo`; did you mean `demo`?",
            "10:14 workspaces.idle_after: `\"half an hour\"` is not a duration",
            "11:1 templates.demo.command: is missing",
            "12:1 templates.demo.comand: unknown key; did you mean `command`?",
            "13:11 templates.demo.connect: `\"pipe\"` is not a way to connect",
        ]
    );
    assert!(findings.0.iter().all(|finding| !finding.accepted.is_empty()), "{findings}");
}

#[test]
fn what_stands_under_a_bad_name_is_read_too() {
    let told = with("[templates.demo]\n", "[templates.1]\nnotice = 5\n");
    for expected in
        ["7:12: templates.1: \"1\" is not a template name", "8:10: templates.1.notice: `5` is not a bool"]
    {
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_finding_says_what_would_be_accepted() {
    assert_eq!(
        with("address = \"127.0.0.1:8080\"", "address = 8080"),
        "f:3:11: listeners[0].address: `8080` is not a list (accepted: a list in brackets, such as [\"a\", \"b\"])"
    );
    assert_eq!(
        with("\"true\"", "\"user.name\""),
        "f:5:10: access.allow: the expression gives string (accepted: an expression that gives bool)"
    );
    assert_eq!(
        findings(&format!("{GOOD}idle_afer = '1h'\n"))
            .split(" (accepted: `allow_addresses`, `background`, `busy`, `command`")
            .next(),
        Some("f:10:1: templates.demo.idle_afer: unknown key; did you mean `idle_after`?")
    );
}

/// Each change of [`GOOD`] is told once, at the key at fault.
fn each_is_told(changes: &[(&str, &str, &str)]) {
    for (good, bad, expected) in changes {
        let told = with(good, bad);
        assert!(told.starts_with(expected), "{expected}\n{told}");
        let others = told.lines().filter(|line| !line.contains("not told where")).count();
        assert!(others <= 1, "{told}");
    }
}

#[test]
fn listeners_and_sessions_that_do_not_fit_together_are_told_at_the_key_at_fault() {
    each_is_told(&[
        ("[[listeners]]", "portal = \"alice.lab.example.org\"\n[[listeners]]", "f:2:10: portal: `alice.lab"),
        ("[[listeners]]", "portal = \"a.b.lab.example.org\"\n[[listeners]]", "f:2:10: portal: `a.b.lab"),
        ("127.0.0.1:8080\"", "127.0.0.1:9090\"", "f:1:1: admin.address: `127.0.0.1:9090` is taken"),
        (
            "\"127.0.0.1:8080\"",
            "[\"0.0.0.0:80\", \"127.0.0.1:80\"]",
            "f:3:26: listeners[0].address[1]: `127.0.0.1:80` is taken",
        ),
        (
            "[access]",
            "[[listeners]]\naddress = '127.0.0.1:8080'\n[access]",
            "f:5:11: listeners[1].address: `127.0.0.1:8080` is taken",
        ),
        (
            "\"127.0.0.1:8080\"",
            "[\"[::]:80\"]\n[login]\ndevelopment = true\n",
            "f:3:12: listeners[0].address[0]: the development login",
        ),
        (
            "[access]",
            "protocol = 'redirect'\n[access]",
            "f:3:11: listeners[0].address: there is no listener to lead to",
        ),
        ("[access]", "protocol = 'https'\n[access]", "f:1:1: certificates: there is none for the portal"),
        (
            "[access]",
            "[sessions]\nidle_after = '25h'\n[access]",
            "f:5:14: sessions.idle_after: idle_after is longer",
        ),
        (
            "[access]",
            "[sessions]\nmax_age = '10m'\n[access]",
            "f:5:11: sessions.max_age: idle_after is longer",
        ),
    ]);
}

#[test]
fn workspaces_and_templates_that_do_not_fit_together_are_told_at_the_key_at_fault() {
    each_is_told(&[
        (
            "[access]",
            "[workspaces]\nwarn_before = '30m'\n[access]",
            "f:5:15: workspaces.warn_before: warn_before",
        ),
        ("[access]", "[workspaces]\nmax_age = '1m'\n[access]", "f:5:11: workspaces.max_age: warn_before"),
        ("connect", "idle_after = '1m'\nconnect", "f:9:14: templates.demo.idle_after: warn_before"),
        (
            "\"'demo'\"",
            "\"user.name == 'a' ? 'demo' : 'big'\"",
            "f:6:41: access.template: there is no template `big`",
        ),
        (
            "[templates",
            "[named_workspaces.gpu]\ntemplate = \"'big'\"\n[templates",
            "f:8:13: named_workspaces.gpu.template: there is no",
        ),
        (
            "[templates",
            "[named_workspaces.Gpu]\ntemplate = \"'demo'\"\n[templates",
            "f:7:19: named_workspaces.Gpu: \"Gpu\" is not a workspace name",
        ),
        (
            "[templates",
            "[named_workspaces.xn]\ntemplate = \"'demo'\"\n[templates",
            "f:7:19: named_workspaces.xn: \"xn\" is not",
        ),
        (
            "{socket}",
            "{sokcet}",
            "f:8:21: templates.demo.command[1]: unknown placeholder `{sokcet}`; did you mean `{socket}`?",
        ),
        (
            "\"{socket}\"",
            "\"a\"",
            "f:9:11: templates.demo.connect: the workspace is not told where to listen",
        ),
        ("\"{socket}\"", "\"é{socket}{port}\"", "f:8:30: templates.demo.command[1]: there is no `{port}`"),
        ("[\"demo\", \"{socket}\"]", "[]", "f:8:11: templates.demo.command: names no program"),
        (
            "connect",
            "busy = { path = '/', expression = 'json.x', every = '30m' }\nconnect",
            "f:9:53: templates.demo.busy.every:",
        ),
        (
            "\"lab.example.org\"",
            "\"10.0.0.1\"",
            "f:1:10: domain: `\"10.0.0.1\"` is not a host name but an address",
        ),
    ]);
}

#[test]
fn what_fits_together_is_accepted() {
    for (good, fine) in [
        ("[[listeners]]", "portal = \"auth.lab.example.org\"\n[[listeners]]"),
        ("[[listeners]]", "portal = \"login.example.com\"\n[[listeners]]"),
        ("[[listeners]]", "portal = \"mylab.example.org\"\n[[listeners]]"),
        ("\"127.0.0.1:8080\"", "\"127.0.0.1:8080\"\n[login]\ndevelopment = true"),
        (
            "\"127.0.0.1:8080\"",
            "\"0.0.0.0:80\"\n[login]\ndevelopment = true\ndevelopment_from_anywhere_unsafe = true",
        ),
        ("\"127.0.0.1:8080\"", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]"),
        ("[access]", "protocol = 'https'\n[certificates.site]\nsource = 'self-signed'\n[access]"),
        ("[access]", "[workspaces]\nidle_after = 'never'\nwarn_before = '2h'\n[access]"),
        ("\"'demo'\"", "\"claims.template\""),
        ("\"{socket}\"]", "'{\"a\": {}}', '${HOME}']\nenvironment = { SOCKET = '{socket}' }"),
        (
            "\"{socket}\"]\nconnect = \"socket\"",
            "\"{port}\", \"{usher} {home} {label} {name} {host}\"]\nconnect = \"port\"",
        ),
        (
            "[templates.demo]",
            "[templates.spare]\ncommand = ['a{port}']\nconnect = 'port'\nports = [1, 65535]\n[templates.demo]",
        ),
    ] {
        assert_eq!(with(good, fine), "", "{fine}");
    }
}

#[test]
fn sections_of_the_wrong_kind_and_missing_ones_are_told() {
    assert!(
        findings("")
            .starts_with("f:1:1: access.allow: is missing (accepted: expression: bool: who may enter")
    );
    let missing: Vec<String> = parse("").unwrap_err().0.into_iter().map(|finding| finding.key).collect();
    assert_eq!(missing, ["access.allow", "access.template", "domain", "listeners", "templates"]);
    let told = with("[[listeners]]", "[listeners]");
    assert!(told.starts_with("f:2:1: listeners: is not a list of tables"), "{told}");
    assert!(
        with("[[listeners]]\naddress = \"127.0.0.1:8080\"", "listeners = []").contains("listeners: is empty")
    );
    assert!(
        with("[[listeners]]\naddress = \"127.0.0.1:8080\"", "listeners = [5]")
            .contains("listeners[0]: `5` is not a table")
    );
    assert!(
        with("[templates.demo]", "[templates]\ndemo = 5\n[x]").contains("templates.demo: `5` is not a table")
    );
}

#[test]
fn a_secret_comes_from_one_source_and_is_never_shown() {
    let told = |environment: &str| findings(&format!("{GOOD}environment = {{ A = {environment} }}\n"));
    assert_eq!(told("{ from_env = 'TOKEN' }"), "");
    for (environment, expected) in [
        ("{ from_env = 'ABSENT' }", "A.from_env: the environment variable `ABSENT` is not set"),
        ("{ from_env = 'hunter2!' }", "A.from_env: the environment variable (name not shown) is not set"),
        ("{ from_file = '/absent/hunter2' }", "A.from_file: the file cannot be read: No such file"),
        ("{ from_env = 'TOKEN', from_file = 'hunter2' }", "A: is not one source of a secret"),
        ("{ value = 'hunter2' }", "A.value: unknown key (accepted: `from_env` or `from_file`)"),
        ("['hunter2']", "A: the value (not shown) is not a string"),
        ("{ from_env = ['hunter2'] }", "A.from_env: the value (not shown) is not a string"),
        ("\"hunter2\\u0000\"", "A: the value (not shown) holds a NUL"),
    ] {
        let told = told(environment);
        assert!(told.contains(&format!("templates.demo.environment.{expected}")), "{expected}\n{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert!(findings(&format!("{GOOD}environment = {{ USHER_X = 'a' }}\n")).contains("Usher's own"));
}

#[test]
fn a_plain_value_of_the_environment_is_kept() {
    let config =
        parse(&format!("{GOOD}environment = {{ A = 'b', T = {{ from_env = 'TOKEN' }} }}\n")).unwrap();
    let demo = config.templates.values().next().unwrap();
    assert!(matches!(&process(demo).environment["A"], Value::Plain(text) if text == "b"));
    assert!(
        matches!(&process(demo).environment["T"], Value::Secret(secret) if secret.reveal() == "s3cretly")
    );
}

#[test]
fn every_default_is_read_by_its_own_reader() {
    // The reader's `expect`s about the schema: a text with every table, and none of its optional keys.
    let tables = "[admin]\n[login]\n[sessions]\n[audit]\n[spawn]\n[drain]\n[workspaces]\n\
        [templates.other]\ncommand = ['{port}']\nconnect = 'port'\nbusy = { path = '/', expression = 'json.x' }\nready = { path = '/' }\n";
    assert_eq!(findings(&format!("{GOOD}{tables}")), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = findings(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..30_usize, piece()), 1..6),
    ) {
        let mut text = format!("{GOOD}{}", include_str!("../../quickstart.toml").replace("domain =", "#"));
        for (at, cut, piece) in changes {
            let mut start = at.index(text.len() + 1);
            while !text.is_char_boundary(start) { start -= 1; }
            let mut end = (start + cut).min(text.len());
            while !text.is_char_boundary(end) { end += 1; }
            text.replace_range(start..end, &piece);
        }
        let _ = findings(&text);
    }
}

/// What a slip, a paste or malice puts into a file.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "",
            "\n",
            "\r\n",
            "[",
            "]",
            "[[",
            "{",
            "}",
            "=",
            ".",
            "\"",
            "'",
            "'''",
            "#",
            "0",
            "-1",
            "1e9",
            "inf",
            "1979-05-27",
            "\u{0}",
            "é",
            "\u{feff}",
            "[x]\n",
            "[[templates]]\n",
            "a.b.c = 1\n",
            "{ from_env = 1 }",
            "\\u00e9",
            "\\",
            "never",
            "[templates.demo]\n",
            "[\"\"]\n",
            "[listeners]\n",
            "templates = []\n",
            "environment = 1\n",
            "99999999999999999999d",
        ])
        .prop_map(str::to_owned),
    ]
}

#[test]
fn a_template_has_times_at_which_its_workspaces_start() {
    let rule = |keys: &str| format!("{GOOD}[[templates.demo.prestart]]\n{keys}\n");
    let config = parse(&rule("at = '07:50'")).unwrap_or_else(|e| panic!("{e}"));
    let template = config.templates.values().next().unwrap();
    let expected = crate::Prestart { days: [true; 7], minute: 470, zone: "UTC".to_owned(), groups: vec![] };
    assert_eq!(template.prestart, [expected]);
    let all = rule("days = 'mon-fri'\nat = '00:00'\nzone = 'Europe/Berlin'\ngroups = ['a', 'b']");
    let config = parse(&all).unwrap_or_else(|e| panic!("{e}"));
    let rule_read = &config.templates.values().next().unwrap().prestart[0];
    assert_eq!(
        (rule_read.zone.as_str(), rule_read.groups.len(), rule_read.days[5]),
        ("Europe/Berlin", 2, false)
    );
    for (bad, key) in [
        ("days = 'mon'", "prestart[0].at"),
        ("at = '25:00'", "prestart[0].at"),
        ("at = '07:50'\ndays = 'fri-mon'", "prestart[0].days"),
    ] {
        let told = findings(&rule(bad));
        assert!(told.contains(key), "{bad}: {told}");
    }
}

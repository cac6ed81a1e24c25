//! The driver `kubernetes`: its keys, and those of the other driver.

use super::{GOOD, findings, parse};
use crate::{
    Amount, Config, Driver, PodTemplate, PodVariable, RequestFacts, Runs, Subject, Text, VolumeAccess,
};

/// The smallest configuration for pods.
const PODS: &str = r#"domain = "lab.example.org"
driver = "kubernetes"
[[listeners]]
address = "127.0.0.1:8080"
[access]
allow = "true"
template = "'demo'"
[kubernetes]
namespace = "workspaces"
[templates.demo]
image = "demo:1"
port = 8888
volume = { size = "1Gi" }
resources = { memory = "1Gi", cpu = 1 }
"#;

/// The findings of [`PODS`] with one text in place of another.
fn with(good: &str, other: &str) -> String {
    assert!(PODS.contains(good), "{good}");
    findings(&PODS.replacen(good, other, 1))
}

fn pod(config: &Config) -> &PodTemplate {
    let Some(Runs::Kubernetes(pod)) = config.templates.values().next().map(|template| &template.runs) else {
        panic!("{config:?}")
    };
    pod
}

#[test]
fn the_smallest_configuration_of_pods_has_secure_defaults() {
    let config = parse(PODS).unwrap_or_else(|e| panic!("{e}"));
    let Driver::Kubernetes(kubernetes) = &config.driver else { panic!("{config:?}") };
    assert_eq!((kubernetes.namespace.as_str(), &kubernetes.records_namespace), ("workspaces", &None));
    assert!(kubernetes.cluster.is_none());
    for (address, may) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("fd00::1", true),
        ("192.0.2.1", false),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("::1", false),
        ("fe80::1", false),
        ("::ffff:127.0.0.1", false),
    ] {
        assert_eq!(kubernetes.may_dial(address.parse().unwrap()), may, "{address}");
    }
    let pod = pod(&config);
    assert_eq!((pod.run_as.uid, pod.run_as.gid, pod.run_as.fs_group), (1000, 1000, 1000));
    assert!(!pod.allow_privileged && pod.command.is_empty() && pod.service_account.is_none());
    let volume = pod.volume.as_ref().expect("it is given");
    assert_eq!((volume.mount.as_str(), volume.access), ("/home/workspace", VolumeAccess::ReadWriteOnce));
}

#[test]
fn wide_networks_reach_no_further_than_pods() {
    let wide = PODS.replacen("[templates", "pod_networks = ['0.0.0.0/0', '::/0']\n[templates", 1);
    let config = parse(&wide).unwrap_or_else(|e| panic!("{e}"));
    let Driver::Kubernetes(kubernetes) = &config.driver else { panic!("{config:?}") };
    let may = |address: &str| kubernetes.may_dial(address.parse().unwrap());
    assert!(may("192.0.2.1") && may("2001:db8::1"));
    assert!(!may("127.0.0.1") && !may("169.254.169.254") && !may("fe80::1") && !may("0.0.0.0"));
}

#[test]
fn a_key_of_the_other_driver_is_told_as_such() {
    for (key, path) in [
        ("connect = 'port'", "templates.demo.connect"),
        ("log_size = '1MiB'", "templates.demo.log_size"),
        ("[workspaces]\nlog_size = '1MiB'", "workspaces.log_size"),
    ] {
        let told = findings(&format!("{PODS}{key}\n"));
        let expected = format!("{path}: belongs to the driver `process`, which is not the one chosen");
        assert!(told.contains(&expected) && told.lines().count() == 1, "{told}");
    }
    for (key, path) in [
        ("image = 'x'", "templates.demo.image"),
        ("volume = 'none'", "templates.demo.volume"),
        ("pod = { hostname = 'a' }", "templates.demo.pod"),
        (
            "environment = { A = { from_secret = { name = 's', key = 'k' } } }",
            "templates.demo.environment.A.from_secret",
        ),
        ("[kubernetes]\nnamespace = 'w'", "kubernetes"),
    ] {
        let told = findings(&format!("{GOOD}{key}\n"));
        let expected = format!("{path}: belongs to the driver `kubernetes`, which is not the one chosen");
        assert!(told.contains(&expected), "{told}");
    }
}

/// Each change of [`PODS`] is told at the key at fault.
fn each_is_told(changes: &[(&str, &str, &str)]) {
    for (good, bad, expected) in changes {
        let told = with(good, bad);
        assert!(told.lines().any(|line| line.starts_with(expected)), "{bad}: {expected}\n{told}");
    }
}

#[test]
fn settings_that_do_not_fit_are_told_at_the_key_at_fault() {
    each_is_told(&[
        (
            "\"kubernetes\"",
            "\"docker\"",
            "f:2:10: driver: `\"docker\"` is not a driver (accepted: \"process\" or",
        ),
        ("namespace = \"workspaces\"", "", "f:8:1: kubernetes.namespace: is missing"),
        (
            "\"workspaces\"",
            "\"Work\"",
            "f:9:13: kubernetes.namespace: `\"Work\"` is not the name of a namespace",
        ),
        (
            "[templates",
            "records_namespace = 'workspaces'\n[templates",
            "f:10:21: kubernetes.records_namespace: is the workspaces' namespace",
        ),
        (
            "[templates",
            "context = 'lab'\n[templates",
            "f:8:1: kubernetes.records_namespace: is missing: outside of the cluster",
        ),
        ("[templates", "pod_networks = []\n[templates", "f:10:16: kubernetes.pod_networks: is empty"),
        (
            "[templates",
            "pod_networks = ['10.0.0.0/8', '127.0.0.0/16']\n[templates",
            "f:10:31: kubernetes.pod_networks[1]: `127.0.0.0/16` is the machine's own",
        ),
    ]);
}

#[test]
fn amounts_that_do_not_fit_are_told_at_the_key_at_fault() {
    each_is_told(&[
        ("image = \"demo:1\"\n", "", "f:10:1: templates.demo.image: is missing"),
        ("port = 8888\n", "", "f:10:1: templates.demo.port: is missing"),
        ("volume = { size = \"1Gi\" }\n", "", "f:10:1: templates.demo.volume: is missing"),
        ("{ size = \"1Gi\" }", "\"some\"", "f:13:10: templates.demo.volume: `\"some\"` is not a volume"),
        (
            "\"1Gi\" }",
            "\"1GiB\" }",
            "f:13:19: templates.demo.volume.size: `\"1GiB\"` is not a quantity; did you mean `1Gi`?",
        ),
        ("memory = \"1Gi\", ", "", "f:14:13: templates.demo.resources: memory has no limit"),
        (", cpu = 1", "", "f:14:13: templates.demo.resources: cpu has neither request nor limit"),
        ("cpu = 1", "cpu = 1, limits = { cpu = 2 }", "f:14:37: templates.demo.resources.cpu: is given twice"),
        (
            "cpu = 1",
            "cpu = 1, 'a b' = 1",
            "f:14:40: templates.demo.resources.\"a b\": is not a qualified name",
        ),
    ]);
}

#[test]
fn rules_that_do_not_fit_are_told_at_the_key_at_fault() {
    each_is_told(&[
        (
            "\"demo:1\"",
            "{ expression = \"groups[0] == 'a' ? 'x' : 'y z'\" }",
            "f:11:50: templates.demo.image.expression: `y z` is not an image",
        ),
        (
            "\"demo:1\"",
            "{ expression = '1' }",
            "f:11:25: templates.demo.image.expression: the expression gives int",
        ),
        ("\"demo:1\"", "{ rule = '1' }", "f:11:9: templates.demo.image.expression: is missing"),
    ]);
}

#[test]
fn parts_of_a_pod_that_do_not_fit_are_told_at_the_key_at_fault() {
    each_is_told(&[
        (
            "[templates.demo]",
            "[templates.demo-]",
            "f:10:1: templates.demo-: the template's name is the value of a label",
        ),
        (
            "port = 8888",
            "port = 8888\ncommand = ['{socket}']",
            "f:13:13: templates.demo.command[0]: there is no `{socket}` in a pod",
        ),
        (
            "port = 8888",
            "port = 8888\nrun_as = { uid = 0 }",
            "f:13:18: templates.demo.run_as.uid: `0` is not a number in range",
        ),
        (
            "port = 8888",
            "port = 8888\nmounts = [{ path = '/a' }]",
            "f:13:11: templates.demo.mounts[0]: has not one source",
        ),
        (
            "port = 8888",
            "port = 8888\nmounts = [{ path = '/a', secret = 's', sub_path = '../b' }]",
            "f:13:51: templates.demo.mounts[0].sub_path: leads out of",
        ),
        ("port = 8888", "port = 8888\npod = 5", "f:13:7: templates.demo.pod: is not a table"),
        (
            "port = 8888",
            "port = 8888\nservice_account = 'A'",
            "f:13:19: templates.demo.service_account: `'A'` is not a name",
        ),
    ]);
}

#[test]
fn a_secret_of_ushers_own_is_refused_with_the_way_out() {
    for source in ["from_env = 'TOKEN'", "from_file = '/absent'"] {
        let told = findings(&format!("{PODS}environment = {{ A = {{ {source} }} }}\n"));
        assert!(told.contains("would stand in the workspace's StatefulSet"), "{told}");
        assert!(told.contains("from_secret = {") && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn variables_are_texts_rules_or_secrets_of_the_cluster() {
    let config = parse(&format!(
        "{PODS}environment = {{ A = 'a', B = {{ expression = 'user.name' }}, C = {{ from_secret = {{ name = 's', key = 'k' }} }} }}\n"
    ))
    .unwrap_or_else(|e| panic!("{e}"));
    let pod = pod(&config);
    assert!(matches!(&pod.environment["A"], PodVariable::Text(Text::Plain(text)) if text == "a"));
    assert!(
        matches!(&pod.environment["C"], PodVariable::FromSecret { name, key } if name == "s" && key == "k")
    );
    let alice = Subject { name: "alice".to_owned(), ..Subject::default() };
    let values = pod.evaluate(&alice, &RequestFacts::default()).unwrap();
    assert_eq!(values.0.into_iter().collect::<Vec<_>>(), [("environment.B".to_owned(), "alice".to_owned())]);
}

#[test]
fn every_default_of_pods_is_read_by_its_own_reader() {
    let tables = "[templates.other]\nimage = 'i'\nport = 1\nvolume = { size = 1 }\nrun_as = {}\n\
        resources = { limits = { memory = 1 }, requests = { cpu = '100m' } }\nmounts = [{ path = '/a', empty_dir = 1 }]\n";
    assert_eq!(findings(&format!("{PODS}{tables}")), "");
}

#[test]
fn a_quota_limits_workspaces_and_what_they_request() {
    let quota = "[quotas.astro]\napplies_to = \"'astro' in groups\"\neach = { workspaces = 2, memory = \"8Gi\" }\n\
                 [quotas.astro.all]\n\"nvidia.com/gpu\" = 4\n";
    let config = parse(&format!("{PODS}{quota}")).unwrap_or_else(|e| panic!("{e}"));
    let (name, quota) = config.quotas.first_key_value().unwrap();
    let subject = Subject { groups: vec!["astro".to_owned()], ..Subject::default() };
    assert_eq!(name.as_str(), "astro");
    assert_eq!(quota.applies_to.evaluate(&subject, &RequestFacts::default()), Ok(true));
    assert_eq!((quota.each.workspaces, quota.all.workspaces), (Some(2), None));
    assert_eq!(quota.each.resources["memory"], Amount::parse("8192Mi").unwrap());
    assert_eq!(quota.all.resources["nvidia.com/gpu"], Amount::of(4));
}

#[test]
fn quotas_that_do_not_fit_are_told_at_the_key_at_fault() {
    let told = |keys: &str| findings(&format!("{PODS}[quotas.q]\n{keys}\n"));
    for (keys, expected) in [
        ("applies_to = 'true'", "quotas.q: limits nothing"),
        ("applies_to = 'true'\neach = {}", "quotas.q.each: limits nothing"),
        ("each = { workspaces = 1 }", "quotas.q.applies_to: is missing"),
        ("applies_to = 'user.nam'\neach = { workspaces = 1 }", "quotas.q.applies_to: "),
        (
            "applies_to = 'true'\neach = { memory = '2GiB' }",
            "quotas.q.each.memory: `'2GiB'` is not a quantity",
        ),
        ("applies_to = 'true'\nall = { workspaces = -1 }", "quotas.q.all.workspaces: "),
        ("applies_to = 'true'\nall = { 'a b' = 1 }", "quotas.q.all.\"a b\": is not a qualified name"),
        ("applies_to = 'true'\nal = { workspaces = 1 }", "quotas.q.al: unknown key; did you mean `all`?"),
    ] {
        assert!(told(keys).contains(expected), "{keys}: {}", told(keys));
    }
    let process =
        findings(&format!("{GOOD}[quotas.q]\napplies_to = 'true'\neach = {{ workspaces = 1, cpu = 1 }}\n"));
    assert!(process.contains("quotas.q.each.cpu: unknown key"), "{process}");
}

#[test]
fn a_warm_pod_has_nothing_of_a_user() {
    let warm = "volume = 'none'\nwarm = { ready = 3 }";
    let volume = "volume = { size = \"1Gi\" }";
    // With a volume it has an empty one, which becomes its user's.
    assert!(parse(&PODS.replacen(volume, &format!("{volume}\nwarm = {{ ready = 1 }}"), 1)).is_ok());
    let config = parse(&PODS.replacen(volume, warm, 1)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(pod(&config).warm.ready, 3);
    assert_eq!(pod(&parse(PODS).unwrap()).warm.ready, 0);
    for (other, problem) in [
        (
            "volume = { size = { expression = '\"1Gi\"' } }\nwarm = { ready = 1 }".to_owned(),
            "`volume.size` is made for each user",
        ),
        (
            format!("{warm}\nservice_account = {{ expression = 'user.name' }}"),
            "`service_account` is made for each user",
        ),
        (
            format!("{warm}\nenvironment.A = {{ expression = 'user.name' }}"),
            "`environment.A` is made for each user",
        ),
        (format!("{warm}\nenvironment.A = 'at {{host}}'"), "`{host}` is of a user"),
        (format!("{warm}\ncommand = ['a', '{{label}}']"), "`{label}` is of a user"),
        ("volume = 'none'\nwarm = { ready = 1001 }".to_owned(), "templates.demo.warm.ready"),
    ] {
        let told = with(volume, &other);
        assert!(told.contains("templates.demo.warm") && told.contains(problem), "{other}: {told}");
    }
    // What the pod itself has is known before.
    let known = format!("{warm}\ncommand = ['a', '{{port}}{{home}}']");
    assert!(parse(&PODS.replacen(volume, &known, 1)).is_ok());
    // With none, nothing hinders.
    assert!(parse(&PODS.replacen(volume, &format!("{volume}\nwarm = {{ ready = 0 }}"), 1)).is_ok());
}

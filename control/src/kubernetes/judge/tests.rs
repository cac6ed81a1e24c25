//! Templates that are no good, each told with line, column, key and what would be accepted.

use super::*;

const GOOD: &str = r#"domain = "lab.example.org"
driver = "kubernetes"
listeners = [{ address = "127.0.0.1:8080" }]
access = { allow = "true", template = "'t'" }
kubernetes = { namespace = "w" }
[templates.t]
image = "i"
port = 80
volume = { size = "1Gi" }
resources = { memory = "1Gi", cpu = 1 }
"#;

/// The findings of a template with more keys, which begin in line 11.
fn told(more: &str) -> Vec<String> {
    let config = Config::parse("f", &format!("{GOOD}{more}"), &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let findings = config.judge(judge(&config)).err().map(|findings| findings.0).unwrap_or_default();
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_template_that_fits_is_accepted() {
    for fine in [
        "",
        "pod = { priorityClassName = 'p', imagePullSecrets = [{ name = 's' }] }",
        "pod.containers = [{ name = 'workspace', env = [{ name = 'A', value = 'b' }] }]",
        "pod.containers = [{ name = 'workspace', volumeMounts = [{ mountPath = '/home/workspace', readOnly = true }] }]",
        "pod.containers = [{ name = 'log', image = 'l' }]",
        "pod.containers = [{ name = 'workspace', resources = { limits = { '$patch' = 'delete' } } }]",
        "sidecars = [{ name = 'log', image = 'l' }]\ninit_containers = [{ name = 'files', image = 'b', command = ['true'] }]",
        "tolerations = [{ key = 'gpu', operator = 'Exists' }]",
        "service_account = 'notebook'\npod.automountServiceAccountToken = false",
        "pod.volumes = [{ name = 'c', projected = { sources = [{ configMap = { name = 'c' } }] } }]",
        "pod.securityContext.runAsUser = 0\npod.hostNetwork = true\nallow_privileged = true",
        "sidecars = [{ name = 's', securityContext = { privileged = true } }]\nallow_privileged = true",
        "service_account = { expression = \"'sa-' + user.name\" }\nnode_selector = { disk = { expression = \"claims.disk\" } }",
    ] {
        assert_eq!(told(fine), [""; 0], "{fine}");
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    for (more, expected) in [
        (
            "[[templates.t.pod.containers]]\nname = 'workspace'\nimagee = 'x'",
            "f:13:1: templates.t.pod.containers[0].imagee: unknown key: PodSpec has no such field",
        ),
        (
            "pod.hostNetwork = 'yes'",
            "f:11:19: templates.t.pod.hostNetwork: does not fit PodSpec (accepted: a boolean)",
        ),
        ("pod.containers = {}", "f:11:18: templates.t.pod.containers: does not fit PodSpec"),
        (
            "sidecars = [{ name = 'a' }, { name = 'b', imagee = 'x' }]",
            "f:11:43: templates.t.sidecars[1].imagee: unknown key: Container has no such field",
        ),
        ("init_containers = [5]", "f:11:20: templates.t.init_containers[0]: does not fit Container"),
        (
            "tolerations = [{ keyy = 'a' }]",
            "f:11:18: templates.t.tolerations[0].keyy: unknown key: Toleration",
        ),
        ("sidecars = [{ image = 'a' }]", "f:11:13: templates.t.sidecars[0]: has no `name`"),
        (
            "pod.containers = [{ image = 'a' }]",
            "f:11:19: templates.t.pod.containers[0]: has no `name`, by which",
        ),
        (
            "pod.volumes = [{ name = 'a', emptyDir = {} }, { name = 'a', emptyDir = {} }]",
            "f:11:56: templates.t.pod.volumes[1].name: has the `name` of another item above",
        ),
        (
            "pod.nodeSelector.'$patch' = 'remove'",
            "f:11:29: templates.t.pod.nodeSelector.\"$patch\": is no directive",
        ),
        ("pod.activeDeadlineSeconds = 5", "f:11:5: templates.t.pod.activeDeadlineSeconds: has no place"),
        ("pod.restartPolicy = 'Never'", "f:11:21: templates.t.pod.restartPolicy: a StatefulSet runs"),
    ] {
        let told = told(more);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{expected}\n{told:#?}");
    }
}

#[test]
fn a_pod_that_is_no_workspace_any_more_is_refused() {
    for (more, expected) in [
        (
            "pod.containers = [{ name = 'workspace', '$patch' = 'delete' }]",
            "f:11:18: templates.t.pod.containers: takes away the container `workspace`",
        ),
        (
            "pod.containers = [{ '$patch' = 'replace' }, { name = 'other' }]",
            "f:11:18: templates.t.pod.containers: takes away the container `workspace`",
        ),
        (
            "sidecars = [{ name = 'workspace' }]",
            "f:11:22: templates.t.sidecars[0].name: is the name of another",
        ),
        (
            "pod.initContainers = [{ name = 'workspace' }]",
            "f:11:32: templates.t.pod.initContainers[0].name: is the name of another",
        ),
        ("pod.volumes = [{ name = 'a' }]", "f:11:16: templates.t.pod.volumes[0]: has not one source"),
        (
            "mounts = [{ path = '/a', secret = 's' }]\npod.volumes = [{ name = 'mount-0', emptyDir = {} }]",
            "f:12:16: templates.t.pod.volumes[0]: has not one source",
        ),
        (
            "pod.volumes = [{ name = 'home', emptyDir = {} }]",
            "f:11:16: templates.t.pod.volumes[0]: `home` is the user's volume",
        ),
    ] {
        let told = told(more);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{expected}\n{told:#?}");
    }
}

#[test]
fn what_leaves_the_restricted_profile_is_told_where_it_was_written() {
    for (more, expected) in [
        (
            "pod.hostNetwork = true",
            "f:11:19: templates.t.pod.hostNetwork: puts the pod into the host's network",
        ),
        (
            "pod.containers = [{ name = 'x' }, { name = 'workspace', securityContext = { privileged = true } }]",
            "f:11:90: templates.t.pod.containers[1].securityContext.privileged: gives it all",
        ),
        (
            "sidecars = [{ name = 's', securityContext = { capabilities = { drop = [] } } }]",
            "f:11:71: templates.t.sidecars[0].securityContext.capabilities.drop: keeps capabilities",
        ),
        (
            "init_containers = [{ name = 's', securityContext = { runAsUser = 0 } }]",
            "f:11:66: templates.t.init_containers[0].securityContext.runAsUser: is root",
        ),
        (
            "pod.volumes = [{ name = 'host', hostPath = { path = '/' } }]",
            "f:11:16: templates.t.pod.volumes[0]: is a volume of a kind that is not allowed",
        ),
        (
            "pod.automountServiceAccountToken = true",
            "f:11:36: templates.t.pod.automountServiceAccountToken: puts the token of the service account",
        ),
        (
            "service_account = 'notebook'\npod.automountServiceAccountToken = true",
            "f:12:36: templates.t.pod.automountServiceAccountToken: puts the token of the service account",
        ),
        // Kubernetes mounts one unless it is told not to.
        (
            "[templates.t.pod]\n'$patch' = 'replace'\ncontainers = [{ name = 'workspace', image = 'i' }]",
            "f:11:14: templates.t.pod.automountServiceAccountToken: puts the token of the service account",
        ),
        (
            "pod.volumes = [{ name = 'c', configMap = { name = 'c' } }, { name = 't', projected = { sources = [\
             { configMap = { name = 'c' } }, { serviceAccountToken = { path = 'token' } }] } }]",
            "f:11:98: templates.t.pod.volumes[1].projected.sources: puts a token of the service account",
        ),
    ] {
        let told = told(more);
        assert!(told.iter().any(|finding| finding.starts_with(expected)), "{expected}\n{told:#?}");
        assert!(told.iter().all(|finding| finding.contains("allow_privileged = true")), "{told:#?}");
        assert_eq!(self::told(&format!("allow_privileged = true\n{more}")), [""; 0], "{more}");
    }
}

#[test]
fn a_value_that_may_be_secret_is_not_shown() {
    let told =
        told("pod.containers = [{ name = 'workspace', env = [{ name = 'hunter1', value = ['hunter2'] }] }]");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("env[0].value") && !told[0].contains("hunter"), "{told:?}");
}

#[test]
fn processes_have_nothing_to_be_judged_here() {
    let text = include_str!("../../../../config/quickstart.toml");
    assert_eq!(judge(&Config::parse("quickstart.toml", text, &|_| None).unwrap()), []);
}

#[test]
fn the_example_is_accepted_with_everything_in_it() {
    let text = include_str!("../../../../config/usher.kubernetes.example.toml");
    let is_key = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '"' || c == '[');
    let whole: String = text
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix('#').filter(|key| is_key(key)).unwrap_or(line)))
        .collect();
    // The files of its secrets, and its program, are on nobody's machine.
    let whole = whole.replace("{ from_file =", "{ from_env =").replace("/etc/usher/dns.sh", "/bin/true");
    // Its certificates are to be shown.
    let whole = whole.replacen("protocol = \"http\"", "protocol = \"https\"", 1);
    for text in [text, &whole] {
        // Keys are base64.
        let environment = |_: &str| Some("s3cretly".to_owned());
        let config = Config::parse("example", text, &environment).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(judge(&config), []);
    }
}

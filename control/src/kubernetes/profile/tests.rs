//! One pod that keeps the standard, and every way to break it.

use super::*;
use serde_json::json;

/// A pod that keeps the standard.
fn good() -> Value {
    json!({
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        "initContainers": [{ "name": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
    })
}

/// The good pod with a value at a place.
fn with(place: &str, value: Value) -> Vec<Violation> {
    let mut pod = good();
    let mut at = &mut pod;
    for step in place.split('.') {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    *at = value;
    violations(&serde_json::from_value(pod).unwrap())
}

#[test]
fn a_pod_that_keeps_the_standard_has_no_violation() {
    assert_eq!(violations(&serde_json::from_value(good()).unwrap()), []);
    for (place, fine) in [
        ("hostNetwork", json!(false)),
        ("securityContext.runAsUser", json!(1000)),
        ("securityContext.sysctls", json!([{ "name": "net.ipv4.tcp_syncookies", "value": "1" }])),
        ("securityContext.seLinuxOptions", json!({ "type": "container_t", "level": "s0:c1" })),
        ("containers.0.securityContext.capabilities.add", json!(["NET_BIND_SERVICE"])),
        ("containers.0.securityContext.procMount", json!("Default")),
        (
            "containers.0.securityContext.seccompProfile",
            json!({ "type": "Localhost", "localhostProfile": "a" }),
        ),
        ("containers.0.ports", json!([{ "containerPort": 80 }])),
        ("containers.0.readinessProbe", json!({ "httpGet": { "port": 80 } })),
        (
            "volumes",
            json!([{ "name": "v", "emptyDir": {} }, { "name": "w", "secret": { "secretName": "s" } }]),
        ),
    ] {
        assert_eq!(with(place, fine), [], "{place}");
    }
}

#[test]
fn every_control_of_the_standard_is_checked() {
    for (place, bad, field) in [
        ("hostNetwork", json!(true), "hostNetwork"),
        ("hostPID", json!(true), "hostPID"),
        ("hostIPC", json!(true), "hostIPC"),
        ("securityContext.runAsUser", json!(0), "securityContext.runAsUser"),
        ("securityContext.seccompProfile", json!({ "type": "Unconfined" }), "securityContext.seccompProfile"),
        (
            "securityContext.appArmorProfile",
            json!({ "type": "Unconfined" }),
            "securityContext.appArmorProfile",
        ),
        ("securityContext.seLinuxOptions", json!({ "type": "spc_t" }), "securityContext.seLinuxOptions"),
        ("securityContext.seLinuxOptions", json!({ "user": "u" }), "securityContext.seLinuxOptions"),
        (
            "securityContext.sysctls",
            json!([{ "name": "kernel.msgmax", "value": "1" }]),
            "securityContext.sysctls",
        ),
        (
            "securityContext.windowsOptions",
            json!({ "hostProcess": true }),
            "securityContext.windowsOptions.hostProcess",
        ),
    ] {
        let found = with(place, bad);
        assert!(found.iter().any(|v| v.part == Part::Pod && v.field == field), "{place}: {found:?}");
    }
}

#[test]
fn every_container_is_checked() {
    for (list, name) in [("containers", "c"), ("initContainers", "i")] {
        for (place, bad, field) in [
            ("securityContext.privileged", json!(true), "securityContext.privileged"),
            (
                "securityContext.allowPrivilegeEscalation",
                json!(true),
                "securityContext.allowPrivilegeEscalation",
            ),
            (
                "securityContext.allowPrivilegeEscalation",
                json!(null),
                "securityContext.allowPrivilegeEscalation",
            ),
            ("securityContext.capabilities.drop", json!(["NET_RAW"]), "securityContext.capabilities.drop"),
            ("securityContext.capabilities.add", json!(["SYS_ADMIN"]), "securityContext.capabilities.add"),
            ("securityContext.procMount", json!("Unmasked"), "securityContext.procMount"),
            ("securityContext.runAsUser", json!(0), "securityContext.runAsUser"),
            ("securityContext.runAsNonRoot", json!(false), "securityContext.runAsNonRoot"),
            (
                "securityContext.seccompProfile",
                json!({ "type": "Unconfined" }),
                "securityContext.seccompProfile",
            ),
            (
                "securityContext.appArmorProfile",
                json!({ "type": "Unconfined" }),
                "securityContext.appArmorProfile",
            ),
            ("securityContext.seLinuxOptions", json!({ "role": "r" }), "securityContext.seLinuxOptions"),
            ("ports", json!([{ "containerPort": 80, "hostPort": 80 }]), "ports"),
            (
                "livenessProbe",
                json!({ "httpGet": { "port": 80, "host": "169.254.169.254" } }),
                "livenessProbe",
            ),
            ("startupProbe", json!({ "tcpSocket": { "port": 80, "host": "10.0.0.1" } }), "startupProbe"),
            ("lifecycle", json!({ "preStop": { "httpGet": { "port": 80, "host": "a" } } }), "lifecycle"),
        ] {
            let found = with(&format!("{list}.0.{place}"), bad);
            let part = Part::Container(list, name.to_owned());
            assert!(found.iter().any(|v| v.part == part && v.field == field), "{list} {place}: {found:?}");
        }
    }
}

#[test]
fn what_is_not_said_is_not_confined() {
    for (place, field) in [
        ("seccompProfile", "securityContext.seccompProfile"),
        ("runAsNonRoot", "securityContext.runAsNonRoot"),
    ] {
        let found = with(&format!("securityContext.{place}"), Value::Null);
        assert_eq!(found.iter().filter(|violation| violation.field == field).count(), 2, "{found:?}");
    }
}

#[test]
fn volumes_of_the_host_and_of_drivers_are_refused() {
    for source in [
        json!({ "hostPath": { "path": "/" } }),
        json!({ "nfs": { "path": "/", "server": "s" } }),
        json!({ "image": { "reference": "i" } }),
        json!({ "emptyDir": {}, "hostPath": { "path": "/" } }),
    ] {
        let mut volume = source.clone();
        volume["name"] = json!("v");
        let found = with("volumes", json!([volume]));
        assert_eq!(found.len(), 1, "{source}");
        assert_eq!(found[0].part, Part::Volume("v".to_owned()));
    }
}

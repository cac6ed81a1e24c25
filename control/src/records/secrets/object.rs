//! A record as a Secret, and back. Pure.

use crate::{Kind, Record, Version};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of a record whose object's name is a hash.
const NAME: &str = "usher.dev/name";
/// The last write: a random number by which a writer whose answer was lost knows its own.
const WRITE: &str = "usher.dev/write";
/// The key of the value in the Secret's data.
const VALUE: &str = "value";
/// The longest name that is an object's as it is (RFC 1123); a hash has 64 characters, so none is both.
const LABEL: usize = 63;

/// Which Secrets are records of a kind: their `type`, which is immutable and can be selected.
pub(super) fn type_of(kind: Kind) -> String {
    format!("usher.dev/{}", kind.as_str())
}

/// The object's name: the record's where it is a DNS label, else its hash, after the kind.
pub(super) fn name_of(kind: Kind, name: &str) -> String {
    let kind = kind.as_str();
    if is_label(name) { format!("{kind}-{name}") } else { format!("{kind}-{}", hash(name)) }
}

/// The record's name, if the object's alone tells it.
pub(super) fn plain_name(kind: Kind, object: &str) -> Option<&str> {
    object.strip_prefix(kind.as_str())?.strip_prefix('-').filter(|name| is_label(name))
}

/// The whole object, for a creation.
pub(super) fn whole(kind: Kind, name: &str, value: Vec<u8>, write: &str) -> Secret {
    let mut annotations = BTreeMap::from([(WRITE.to_owned(), write.to_owned())]);
    if !is_label(name) {
        annotations.insert(NAME.to_owned(), name.to_owned());
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(name_of(kind, name)),
            annotations: Some(annotations),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "usher".to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(type_of(kind)),
        data: Some(BTreeMap::from([(VALUE.to_owned(), ByteString(value))])),
        ..Secret::default()
    }
}

/// The merge patch that replaces the value of one version.
pub(super) fn replacement(version: Version, value: Vec<u8>, write: &str) -> Value {
    json!({
        "metadata": {"resourceVersion": version.0.to_string(), "annotations": {WRITE: write}},
        "data": {VALUE: ByteString(value)},
    })
}

/// Whether this write is the last one.
pub(super) fn is_of(secret: &Secret, write: &str) -> bool {
    annotation(secret, WRITE) == Some(write)
}

/// The record that an object is, or what is wrong with it.
pub(super) fn record(kind: Kind, secret: Secret) -> Result<Record, String> {
    let object = secret.metadata.name.clone().unwrap_or_default();
    let wrong =
        |what: &str| format!("the Secret {object} is no record of the kind {}: {what}", kind.as_str());
    if secret.type_.as_deref() != Some(&type_of(kind)) {
        return Err(wrong("its type is another"));
    }
    let name = match plain_name(kind, &object) {
        Some(name) => name,
        None => annotation(&secret, NAME).ok_or_else(|| wrong("it does not say its name"))?,
    };
    if name_of(kind, name) != object {
        return Err(wrong("its name is not that of the record that it says it is"));
    }
    let (name, version) = (name.to_owned(), version(&secret).map_err(|what| wrong(&what))?);
    let value =
        secret.data.and_then(|mut data| data.remove(VALUE)).ok_or_else(|| wrong("it has no value"))?;
    Ok(Record { name, version, value: value.0 })
}

/// The object's version. Numbers that grow: Kubernetes 1.35 promises it, and the stores before it kept to it.
pub(super) fn version(secret: &Secret) -> Result<Version, String> {
    let text = secret.metadata.resource_version.as_deref().unwrap_or_default();
    text.parse().map(Version).map_err(|_| format!("its resourceVersion {text:?} is no number"))
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    Some(secret.metadata.annotations.as_ref()?.get(key)?.as_str())
}

fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn hash(name: &str) -> String {
    digest(&SHA256, name.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: [&str; 9] = ["", "-", "a-", "A", "a_b", "a.b", "a/b", "ä", "s3Ss10n_of-BASE64"];

    fn stands(mut secret: Secret) -> Secret {
        secret.metadata.resource_version = Some("7".to_owned());
        secret
    }

    #[test]
    fn a_name_that_is_a_label_is_kept_and_any_other_is_hashed() {
        for name in ["a", "alice", "gpu--alice", "8888--alice", &"x".repeat(63)] {
            assert_eq!(name_of(Kind::Label, name), format!("label-{name}"));
        }
        let long = "x".repeat(64);
        for name in ODD.into_iter().chain([long.as_str()]) {
            let object = name_of(Kind::Session, name);
            assert_eq!(object.len(), "session-".len() + 64, "{name:?}");
            assert_eq!(plain_name(Kind::Session, &object), None);
            // Whoever takes the hash of a name for a name has another record.
            assert_ne!(name_of(Kind::Session, &object["session-".len()..]), object);
        }
    }

    #[test]
    fn a_record_reads_back_whatever_its_name() {
        for name in ODD.into_iter().chain(["alice"]) {
            for kind in Kind::ALL {
                let secret = stands(whole(kind, name, b"\x00v\xff".to_vec(), "w"));
                assert!(is_of(&secret, "w") && !is_of(&secret, "x"));
                let expected =
                    Record { name: name.to_owned(), version: Version(7), value: b"\x00v\xff".to_vec() };
                assert_eq!(record(kind, secret), Ok(expected));
            }
        }
    }

    #[test]
    fn what_is_no_record_says_why() {
        let good = || stands(whole(Kind::User, "A", Vec::new(), "w"));
        let with = |change: &dyn Fn(&mut Secret)| {
            let mut secret = good();
            change(&mut secret);
            record(Kind::User, secret).unwrap_err()
        };
        assert!(with(&|secret| secret.type_ = Some("Opaque".to_owned())).contains("type"));
        assert!(with(&|secret| secret.metadata.annotations = None).contains("say its name"));
        assert!(with(&|secret| secret.data = None).contains("no value"));
        assert!(
            with(&|secret| secret.metadata.resource_version = Some("x".to_owned())).contains("no number")
        );
        let renamed = with(&|secret| {
            secret.metadata.annotations = Some(BTreeMap::from([(NAME.to_owned(), "B".to_owned())]));
        });
        assert!(renamed.contains("its name is not"), "{renamed}");
    }

    #[test]
    fn a_replacement_always_carries_its_version() {
        let patch = replacement(Version(7), b"v".to_vec(), "w");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["data"]["value"], "dg==");
    }
}

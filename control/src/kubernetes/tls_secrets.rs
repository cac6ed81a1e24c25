//! Secrets of type `kubernetes.io/tls`, which somebody else keeps: cert-manager, or whoever has a certificate.

use super::{Client, Seen, Selection, watch};
use futures_util::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use std::collections::{BTreeMap, BTreeSet};

/// What the API server is asked for: nobody else's Secrets come. A type never changes.
const TYPE: &str = "type=kubernetes.io/tls";

/// What is in such a Secret, as it stands there. It has no `Debug`: one of the two is a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsSecret {
    /// `tls.crt`.
    pub chain: Vec<u8>,
    /// `tls.key`.
    pub key: Vec<u8>,
}

/// Tells of those with these names, all that there are, at first and whenever one of them has changed, for ever.
///
/// Nothing is told before all are known, and nothing anew while the API server is not heard.
pub fn tls_secrets(
    client: &Client,
    namespace: &str,
    names: BTreeSet<String>,
) -> BoxStream<'static, BTreeMap<String, TlsSecret>> {
    let fields = Some(TYPE.to_owned());
    let selection = Selection { namespace: namespace.to_owned(), fields, labels: None };
    let told =
        Told { seen: watch(&client.patient(), selection), names, standing: BTreeMap::new(), whole: false };
    stream::unfold(told, async |mut told| {
        let all = told.next().await?;
        Some((all, told))
    })
    .boxed()
}

struct Told {
    seen: BoxStream<'static, Seen<Secret>>,
    names: BTreeSet<String>,
    standing: BTreeMap<String, TlsSecret>,
    /// Whether all of the first list is known.
    whole: bool,
}

impl Told {
    async fn next(&mut self) -> Option<BTreeMap<String, TlsSecret>> {
        loop {
            let is_news = match self.seen.next().await? {
                Seen::Put(secret) | Seen::Listed(secret) => self.put(secret),
                Seen::Deleted(name) => self.standing.remove(&name).is_some(),
                Seen::Synced => !std::mem::replace(&mut self.whole, true),
                Seen::Blind => false,
            };
            if is_news && self.whole {
                return Some(self.standing.clone());
            }
        }
    }

    /// Whether it is another than before.
    fn put(&mut self, secret: Secret) -> bool {
        let Some(name) = secret.metadata.name.filter(|name| self.names.contains(name)) else { return false };
        let mut data = secret.data.unwrap_or_default();
        let mut part = |key| data.remove(key).unwrap_or_default().0;
        let pair = TlsSecret { chain: part("tls.crt"), key: part("tls.key") };
        self.standing.insert(name, pair.clone()) != Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Reply, Server};
    use serde_json::{Value, json};

    fn event(kind: &str, name: &str, version: u64, chain: &str) -> Value {
        json!({ "type": kind, "object": {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": { "name": name, "resourceVersion": version.to_string() },
            "data": { "tls.crt": chain, "tls.key": "AAAA" },
        }})
    }

    fn end_of_list(version: u64) -> Value {
        let metadata = json!({
            "resourceVersion": version.to_string(), "annotations": { "k8s.io/initial-events-end": "true" },
        });
        json!({ "type": "BOOKMARK", "object": { "apiVersion": "v1", "kind": "Secret", "metadata": metadata } })
    }

    #[tokio::test]
    async fn only_named_secrets_are_told_of_all_at_first_and_then_what_changes() {
        let server = Server::script([Reply::stream()
            .line(&event("ADDED", "site", 1, "AAAA"))
            .line(&event("ADDED", "another's", 2, "AAAA"))
            .line(&end_of_list(2))
            .line(&event("MODIFIED", "another's", 3, "BBBB"))
            .line(&event("MODIFIED", "site", 4, "AAAA"))
            .line(&event("MODIFIED", "site", 5, "BBBB"))
            .line(&event("DELETED", "site", 6, "BBBB"))
            .hang()]);
        let names = ["site".to_owned(), "missing".to_owned()].into();
        let told = tls_secrets(&server.in_memory(), "usher", names).take(3).collect::<Vec<_>>().await;
        let chains: Vec<Vec<(&str, &[u8])>> = told
            .iter()
            .map(|all| all.iter().map(|(name, pair)| (name.as_str(), pair.chain.as_slice())).collect())
            .collect();
        assert_eq!(chains, [vec![("site", &[0, 0, 0][..])], vec![("site", &[4, 16, 65][..])], vec![]]);
        assert!(
            server.asked()[0].contains("fieldSelector=type%3Dkubernetes.io%2Ftls"),
            "{:?}",
            server.asked()
        );
    }
}

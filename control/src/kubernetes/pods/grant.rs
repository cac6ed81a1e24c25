//! A grant as it stands beside a workspace's StatefulSet, so that any Usher can start it. Pure.

use super::json;
use crate::Grant;
use crate::kubernetes::names;
use config::{QuotaName, Values};
use std::collections::BTreeMap;

/// The annotations of a grant; without a value = there must be none, whatever an earlier start left.
pub(crate) fn annotations(grant: &Grant) -> [(&'static str, Option<String>); 2] {
    let quotas: Vec<&str> = grant.quotas.iter().map(QuotaName::as_str).collect();
    [
        (names::VALUES, (!grant.values.0.is_empty()).then(|| json(&grant.values.0))),
        (names::QUOTAS, (!quotas.is_empty()).then(|| json(&quotas))),
    ]
}

/// The grant that annotations tell.
///
/// What another hand has broken is left out: a start without a value that its template needs says which it is.
pub(crate) fn granted(annotations: &BTreeMap<String, String>) -> Grant {
    let values = annotations.get(names::VALUES).and_then(|text| serde_json::from_str(text).ok());
    let quotas: Option<Vec<String>> =
        annotations.get(names::QUOTAS).and_then(|text| serde_json::from_str(text).ok());
    let quotas = quotas.unwrap_or_default();
    Grant {
        values: Values(values.unwrap_or_default()),
        quotas: quotas.iter().filter_map(|name| QuotaName::parse(name).ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(grant: &Grant) -> BTreeMap<String, String> {
        let given = annotations(grant).into_iter();
        given.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    #[test]
    fn a_grant_is_read_as_it_was_written_and_one_of_nothing_leaves_no_trace() {
        let grant = Grant {
            values: Values([("resources.memory".to_owned(), "8Gi".to_owned())].into()),
            quotas: ["astro", "all"].map(|name| QuotaName::parse(name).unwrap()).into(),
        };
        let annotations = written(&grant);
        assert_eq!(annotations[names::VALUES], r#"{"resources.memory":"8Gi"}"#);
        assert_eq!(annotations[names::QUOTAS], r#"["all","astro"]"#);
        assert_eq!(granted(&annotations), grant);
        assert!(written(&Grant::default()).is_empty());
        assert_eq!(granted(&BTreeMap::new()), Grant::default());
    }

    #[test]
    fn what_another_hand_broke_is_left_out() {
        let broken = |values: &str, quotas: &str| {
            let pairs = [(names::VALUES, values), (names::QUOTAS, quotas)];
            granted(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        };
        assert_eq!(broken("[1]", "{"), Grant::default());
        let kept = broken(r#"{"image":"a"}"#, r#"["a b","all"]"#);
        assert_eq!((kept.values.0.len(), kept.quotas.len()), (1, 1));
    }
}

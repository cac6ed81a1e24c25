//! What a start takes of a workspace whose files a warm set has.

use super::super::claim::tests::{alice, by_alice, handle, own_with, warm, warm_set};
use super::*;
use crate::kubernetes::fold::News;
use crate::kubernetes::watch::Seen;
use std::time::Instant;

/// What comes next for alice, whose own set names its warm one in these annotations.
fn next_of(named: &[&'static str], set: Option<Value>, stale: bool, raised: bool) -> Next {
    let (spec, mut fold) = alice();
    own_with(&mut fold, 0, "s", named.iter().map(|key| (*key, warm(1))).collect());
    if let Some(set) = set {
        fold.take(News::Set(Seen::Put(serde_json::from_value(set).unwrap())), Instant::now());
    }
    let known = fold.look(&spec.id).unwrap();
    assert_eq!(known.keeper(), Some(warm(1).as_str()));
    next(&fold, &known, &warm(1), stale, raised)
}

#[test]
fn the_warm_set_runs_first_and_then_its_workspace_says_so() {
    let rests = &[names::FILES][..];
    let runs = &[names::FILES, names::CLAIMS][..];
    let hers = |replicas| Some(warm_set(1, replicas, by_alice("own")));
    for (named, set, stale, expected) in [
        (rests, hers(0), false, Next::Raise(Some(handle(1)))),
        (rests, hers(1), false, Next::Name),
        (runs, hers(1), false, Next::Done),
        (runs, hers(1), true, Next::Raise(Some(handle(1)))),
        // Scaled to 0 by hand.
        (runs, hers(0), false, Next::Raise(Some(handle(1)))),
        // Removed by hand: it is made again, and gets its claim.
        (rests, None, false, Next::Raise(None)),
        // Her workspace was deleted, and made anew with its files.
        (rests, Some(warm_set(1, 1, by_alice("earlier"))), false, Next::Raise(Some(handle(1)))),
    ] {
        assert_eq!(next_of(named, set.clone(), stale, false), expected, "{named:?} {set:?}");
    }
    // Mended there, which her own set does not say yet: or it would be mended again and again.
    assert_eq!(next_of(runs, hers(1), true, true), Next::Name);
}

#[test]
fn no_warm_set_is_taken_that_is_not_known_to_be_hers() {
    let bob = claimed_by(&WorkspaceId::parse("bob").unwrap(), "own");
    for claimed in [None, Some(bob), Some("nonsense".to_owned())] {
        assert_eq!(next_of(&[names::FILES], Some(warm_set(1, 1, claimed)), false, false), Next::Refuse);
    }
    let mut others = warm_set(1, 1, by_alice("own"));
    others["metadata"]["annotations"][names::OWNER] = json!(r#"{"iss":"i","sub":"another"}"#);
    assert_eq!(next_of(&[names::FILES], Some(others), false, false), Next::Refuse);
    let mut ends = warm_set(1, 1, by_alice("own"));
    ends["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z");
    assert_eq!(next_of(&[names::FILES], Some(ends), false, false), Next::Wait(handle(1)));
}

#[test]
fn a_claim_of_nobodys_files_is_a_stray_once_its_set_is_gone() {
    let claim = |labels: &Value| {
        let name = names::claim_of(&warm(1));
        let metadata = json!({ "name": name, "uid": "c", "resourceVersion": "7", "labels": labels });
        News::Claim(Seen::Put(serde_json::from_value(json!({ "metadata": metadata })).unwrap()))
    };
    let nobodys = json!({ names::WARM: warm(1), names::MANAGED_BY: names::USHER });
    let mut hers = nobodys.clone();
    hers[names::WORKSPACE] = json!("alice");
    let of_an_own_set = json!({ names::WORKSPACE: "alice", names::MANAGED_BY: names::USHER });
    for (labels, with_set, stray) in
        [(&nobodys, false, 1), (&nobodys, true, 0), (&hers, false, 0), (&of_an_own_set, false, 0)]
    {
        let (_, mut fold) = alice();
        if with_set {
            let set = serde_json::from_value(warm_set(1, 1, None)).unwrap();
            fold.take(News::Set(Seen::Put(set)), Instant::now());
        }
        fold.take(claim(labels), Instant::now());
        assert_eq!(fold.stray().len(), stray, "{labels} {with_set}");
        fold.take(News::Claim(Seen::Deleted(names::claim_of(&warm(1)))), Instant::now());
        assert_eq!(fold.stray().len(), 0, "{labels} {with_set}");
    }
    // Usher may not write on claims: then her own set alone says whose the files are.
    for key in [names::FILES, names::CLAIMS] {
        let (_, mut fold) = alice();
        fold.take(claim(&nobodys), Instant::now());
        own_with(&mut fold, 0, "s", vec![(key, warm(1))]);
        assert_eq!(fold.stray().len(), 0, "{key}");
    }
}

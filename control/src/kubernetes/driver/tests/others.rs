//! What other installations, and others altogether, have made under the name of a workspace.

use super::*;
use crate::kubernetes::names::RECORDS;

/// Has an object say that the installation with its records in this namespace made it.
fn stamp(object: &mut Value, records: Option<&str>) {
    merge(object, json!({ "metadata": { "annotations": { RECORDS: records } } }));
}

/// alice's set, stopped, as this installation made it.
fn stand(api: &Api, records: Option<&str>) {
    api.put(Is::Stopped, "u");
    stamp(api.0.lock().unwrap().object.as_mut().unwrap(), records);
}

fn claims(api: &Api) -> usize {
    api.0.lock().unwrap().claims.len()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_made_says_which_installation_made_it() {
    let spec = start_spec_with_files();
    let own = pods::stateful_set(&spec, "w", 0).unwrap();
    let warm = pods::warm_set("warm---t-a", &spec.template, "w").unwrap();
    for set in [own, warm] {
        let (driver, _) = knowing(&Api::default());
        let made = driver.make(None, set).await.unwrap();
        let claims = made.spec.unwrap().volume_claim_templates.unwrap();
        let all: Vec<_> = claims.iter().map(|claim| &claim.metadata).chain([&made.metadata]).collect();
        assert_eq!(all.len(), 2);
        for meta in all {
            assert_eq!(notes::text(meta, RECORDS), Some("usher"), "{meta:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn files_of_another_installation_are_neither_deleted_nor_found() {
    const OURS: Option<&str> = Some("usher");
    const THEIRS: Option<&str> = Some("production");
    // Who made the set of that name, if there is one, and the claim; what becomes of it when it is to be deleted.
    let table = [
        (None, OURS, Ok(true)),
        // From before claims said so.
        (None, None, Ok(true)),
        (None, THEIRS, Ok(false)),
        (Some(THEIRS), THEIRS, Ok(false)),
        (Some(THEIRS), None, Err("another installation")),
        (Some(THEIRS), OURS, Err("another installation")),
    ];
    for (set, made_by, expected) in table {
        for asks in [None, Some(start_spec("i").owner)] {
            for kept in [true, false] {
                let api = Api::default();
                if let Some(records) = set {
                    stand(&api, records);
                }
                let mut claim = claim(Some("7"));
                stamp(&mut claim, made_by);
                api.0.lock().unwrap().claims = vec![claim];
                let (driver, _) = knowing(&api);
                let StartSpec { id, owner, .. } = start_spec("i");
                let found = driver.keeps_files(&id, &owner).await.unwrap();
                let case = format!("{set:?} {made_by:?} {asks:?} {kept}");
                assert_eq!(found, made_by != THEIRS, "{case}");
                let done = if kept {
                    driver.remove_kept_files(&id, asks.as_ref()).await
                } else {
                    let deleted = driver.act(Action::Delete { id, volume: true, owner: asks.clone() }).await;
                    deleted.map(|()| claims(&api) == 0)
                };
                assert_eq!(claims(&api), usize::from(expected != Ok(true)), "{case}");
                match (done, expected) {
                    (Ok(deleted), expected) => assert_eq!(Ok(deleted), expected, "{case}"),
                    (Err(cause), Ok(_)) => panic!("{case}: {cause:?}"),
                    (Err(cause), Err(hint)) => {
                        assert_eq!(cause.code, CauseCode::NotTheOwner, "{case}");
                        assert!(cause.hint.contains(hint), "{case}: {}", cause.hint);
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn files_of_another_installation_are_not_taken_for_a_new_workspace() {
    let api = Api::default();
    let mut claim = claim(Some("7"));
    stamp(&mut claim, Some("production"));
    api.0.lock().unwrap().claims = vec![claim];
    let (driver, server) = knowing(&api);
    let cause = driver.act(Action::Want(start_spec_with_files())).await.unwrap_err();
    assert_eq!(cause.code, CauseCode::NotTheOwner);
    assert!(cause.hint.contains("is of another installation of Usher"), "{}", cause.hint);
    assert!(server.asked().iter().all(|line| line.starts_with("GET ")), "{:?}", server.asked());
}

#[tokio::test(start_paused = true)]
async fn files_brought_back_from_a_backup_are_found_and_deleted_as_their_owners() {
    // Whose it is as it says; who deletes, and whether it is deleted.
    let table = [
        (Some("7"), Some("7"), Ok(true)),
        (Some("7"), None, Ok(true)),
        (Some("8"), Some("7"), Err(CauseCode::NotTheOwner)),
        (Some("8"), None, Ok(true)),
        // Nothing says that it is anybody's files.
        (None, Some("7"), Ok(false)),
        (None, None, Ok(false)),
    ];
    for (files_of, asks, expected) in table {
        let mut claim = claim(files_of);
        claim["metadata"].as_object_mut().unwrap().remove("labels");
        let api = Api::default();
        api.0.lock().unwrap().claims = vec![claim];
        let (driver, _) = knowing(&api);
        let StartSpec { id, owner, .. } = start_spec("i");
        let case = format!("files of {files_of:?}, {asks:?} deletes");
        assert_eq!(driver.keeps_files(&id, &owner).await, Ok(files_of == Some("7")), "{case}");
        let owner = asks.map(|asks| Identity { subject: asks.to_owned(), ..owner });
        let done = driver.remove_kept_files(&id, owner.as_ref()).await;
        assert_eq!(done.map_err(|cause| cause.code), expected, "{case}");
        assert_eq!(claims(&api), usize::from(expected != Ok(true)), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_others_hold_is_told_to_be_taken() {
    let table = [
        (Some("production"), names::USHER, "of another installation of Usher"),
        (None, "somebody", "that usher did not make"),
    ];
    for (records, manager, hint) in table {
        for known in [Is::Absent, Is::Running] {
            let api = Api::default();
            api.put(known, "u");
            let (driver, _) = knowing(&api);
            // Nothing is told of it, nor of what became of ours.
            api.put(Is::Stopped, "x");
            let mut other = serde_json::to_value(api.object()).unwrap();
            stamp(&mut other, records);
            merge(&mut other, json!({ "metadata": { "labels": { names::MANAGED_BY: manager } } }));
            api.0.lock().unwrap().object = Some(other.clone());
            let cause = driver.act(Action::Want(start_spec("i"))).await.unwrap_err();
            assert_eq!(cause.code, CauseCode::NotTheOwner, "{known:?} {}", cause.hint);
            assert!(cause.hint.contains(hint), "{}", cause.hint);
            assert_eq!(api.0.lock().unwrap().object, Some(other), "it is let alone");
        }
    }
}

//! Accounts of several Ushers with one authority.

use super::*;
use crate::document_kind::DocumentKind;
use crate::lab::{GenerousAuthority, Memory, Said, certificates, unit, worker};
use crate::run::Work;
use crate::state;
use config::CertificateSource;
use futures_util::future::join_all;

async fn lab(more: &str) -> (GenerousAuthority, Arc<Authority>, Arc<Memory>) {
    let generous = GenerousAuthority::start().await;
    let certificates = certificates(&generous, more);
    let declared = certificates.values().next().expect("there is one");
    let CertificateSource::Acme(source) = &declared.source else { panic!("it is by ACME") };
    let authority = source.authorities[0].clone();
    (generous, authority, Arc::default())
}

#[tokio::test]
async fn several_that_make_an_account_at_a_time_have_one() {
    for _ in 0..20 {
        let (_generous, authority, store) = lab("").await;
        let all: Vec<Accounts> = (0..4).map(|_| Accounts::new(store.clone())).collect();
        let opened = join_all(all.iter().map(|accounts| accounts.open(&authority))).await;
        let ids: Vec<String> = opened.into_iter().map(|account| account.unwrap().id().to_owned()).collect();
        let kept = &store.value("account-generous").unwrap()["credentials"]["id"];
        assert!(ids.iter().all(|id| kept == id), "{kept} {ids:?}");
    }
}

#[tokio::test]
async fn an_account_that_could_not_be_written_down_is_not_made_a_second_time() {
    let (generous, authority, store) = lab("").await;
    let accounts = Accounts::new(store.clone());
    store.loses_the_next("account-");
    assert!(accounts.open(&authority).await.is_err());
    let account = accounts.open(&authority).await.unwrap();
    assert_eq!(store.value("account-generous").unwrap()["credentials"]["id"], account.id());
    assert_eq!(generous.accounts(), 1);
}

#[tokio::test]
async fn an_account_that_is_refused_is_made_anew_once_an_hour() {
    let generous = GenerousAuthority::start().await;
    let certificates = certificates(&generous, "");
    let store = Arc::default();
    let (usher, _) = worker(&certificates, &store, None);
    let units = ["a", "b", "c", "d"].map(|name| unit(&certificates, &format!("{name}.lab.test")));
    let [a, b, c, d] = &units;
    assert!(usher.work(Work::Get, a, None).await);
    generous.forgets_accounts();
    let mut account = store.value("account-generous").unwrap();
    // Too new to be replaced.
    assert!(usher.work(Work::Get, b, None).await);
    assert_eq!((generous.accounts(), generous.asked("order")), (1, 2));
    account["made"] = 0.into();
    state::put(&*store, "account-generous", account.to_string().as_bytes()).await.unwrap();
    assert!(usher.work(Work::Get, c, None).await);
    assert_eq!((generous.accounts(), generous.asked("order")), (2, 4));
    assert!(store.value(&DocumentKind::Certificate.name(&c.id)).is_some());
    // And so for another one who has the old one in hand, and not in a circle.
    generous.forgets_accounts();
    assert!(usher.work(Work::Get, d, None).await);
    assert_eq!((generous.accounts(), generous.asked("order")), (2, 5));
}

#[tokio::test]
async fn an_account_is_not_given_up_for_what_is_refused_to_it() {
    let generous = GenerousAuthority::start().await;
    let certificates = certificates(&generous, "");
    let store = Arc::default();
    let (usher, _) = worker(&certificates, &store, None);
    let [a, b] = ["a", "b"].map(|name| unit(&certificates, &format!("{name}.lab.test")));
    assert!(usher.work(Work::Get, &a, None).await);
    let mut account = store.value("account-generous").unwrap();
    account["made"] = 0.into();
    state::put(&*store, "account-generous", account.to_string().as_bytes()).await.unwrap();
    generous.says(
        "order",
        Said { status: 403, problem: "unauthorized", detail: "not your domain", retry_after: None },
    );
    assert!(usher.work(Work::Get, &b, None).await);
    assert_eq!((generous.accounts(), store.value("account-generous").unwrap()), (1, account));
}

#[tokio::test]
async fn another_usher_takes_the_account_that_replaced_its_own() {
    let (generous, authority, store) = lab("").await;
    let [one, other] = [(); 2].map(|()| Accounts::new(store.clone()));
    let old = one.open(&authority).await.unwrap();
    assert_eq!(other.open(&authority).await.unwrap().id(), old.id());
    let mut account = store.value("account-generous").unwrap();
    account["made"] = 0.into();
    state::put(&*store, "account-generous", account.to_string().as_bytes()).await.unwrap();
    generous.forgets_accounts();
    let new = one.replace(&authority, old.id()).await.unwrap().unwrap();
    assert_ne!(new.id(), old.id());
    assert_eq!(other.replace(&authority, old.id()).await.unwrap().unwrap().id(), new.id());
    assert_eq!(generous.accounts(), 2);
}

#[tokio::test]
async fn an_account_that_is_anothers_or_cannot_be_read_is_replaced() {
    let (generous, authority, store) = lab("").await;
    Accounts::new(store.clone()).open(&authority).await.unwrap();
    let mut elsewhere = store.value("account-generous").unwrap();
    elsewhere["directory"] = "https://elsewhere.test/directory".into();
    for value in [elsewhere.to_string(), "{".to_owned(), "{}".to_owned()] {
        state::put(&*store, "account-generous", value.as_bytes()).await.unwrap();
        let before = generous.accounts();
        let account = Accounts::new(store.clone()).open(&authority).await.unwrap();
        assert_eq!(generous.accounts(), before + 1);
        assert_eq!(store.value("account-generous").unwrap()["credentials"]["id"], account.id());
    }
}

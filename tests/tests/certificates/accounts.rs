//! Accounts with an authority.

use super::{BY_HTTP, asked, await_certificate, failures, started, tables};
use std::fs;
use tempfile::TempDir;
use tests::{CertificateAuthority, DOMAIN};

#[tokio::test]
async fn an_operators_own_key_has_the_same_account_whatever_becomes_of_the_store() {
    const USED: &str = "the account of the account_key is used";
    let authority = CertificateAuthority::start().await;
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("account.pem");
    let key = rcgen::KeyPair::generate().expect("random numbers").serialize_pem();
    fs::write(&file, &key).expect("the folder is ours");
    let tables = tables(&authority.directory(), &authority, BY_HTTP);
    let tables = tables.replace("terms_of", &format!("account_key = {file:?}\nterms_of"));

    let usher = started(&authority, &tables).await;
    await_certificate(&usher, DOMAIN).await;
    let accounts = usher.logs.values(USED, "account.url");
    let store = usher.state_dir().join("certificates");
    let gone = || fs::remove_dir_all(&store).expect("it is there");
    let usher = usher.killed_and_restarted_after(gone).await;
    asked(&authority, &usher);
    await_certificate(&usher, DOMAIN).await;
    let again = usher.logs.values(USED, "account.url");
    assert_eq!((accounts.len(), accounts.last()), (1, again.last()), "{accounts:?} {again:?}");
    let secret = key.lines().nth(1).expect("PEM has lines");
    for entry in fs::read_dir(&store).expect("it is there") {
        let path = entry.expect("it is read").path();
        assert!(!fs::read_to_string(&path).expect("it is text").contains(secret), "{}", path.display());
    }
    assert!(!usher.logs.all().contains(secret));

    fs::write(&file, "no key").expect("the folder is ours");
    let usher = usher.killed_and_restarted_after(gone).await;
    let cause = failures(&usher, 1).await;
    assert!(cause.contains(file.to_str().expect("it is text")) && cause.contains("P-256"), "{cause}");
}

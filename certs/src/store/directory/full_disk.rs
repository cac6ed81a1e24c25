//! What a full disk does to documents: nothing.

use super::*;
use std::process::Command;

/// Runs a test of this program where the file system has 64 KiB.
#[test]
fn on_a_full_disk_a_write_fails_and_the_old_document_stays_whole() {
    let place = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64k,mode=700 none \"$USHER_STORE\" && exec \"$@\"";
    // Who is not root becomes it there.
    let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let run = Command::new("unshare")
        .args([namespaces, "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "store::directory::full_disk::fills_its_disk"])
        .env("USHER_STORE", place.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
#[ignore = "needs a small disk of its own; the test above runs it"]
async fn fills_its_disk() {
    let folder = PathBuf::from(std::env::var_os("USHER_STORE").expect("only run by the test above"));
    let store = DirectoryStore::open(&folder).unwrap();
    let version = store.create("old", vec![b'o'; 9000]).await.unwrap();
    let mut made = 0;
    let error = loop {
        match store.create(&format!("more-{made}"), vec![b'm'; 3000]).await {
            Ok(_) => made += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(made > 3 && error.contains("No space left on device"), "{made}: {error}");
    let before = store.list().await.unwrap();
    assert_eq!(before.len(), made + 1);
    for _again in 0..3 {
        let refused = store.replace("old", version, vec![b'n'; 9000]).await;
        assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
        assert_eq!(store.list().await.unwrap(), before);
        assert!(!folder.join(".new").exists());
    }
    // It can be opened, and used as soon as there is room.
    let store = DirectoryStore::open(&folder).unwrap();
    assert_eq!(store.list().await.unwrap(), before);
    for number in 0..made {
        assert!(store.delete(&format!("more-{number}")).await.unwrap());
    }
    store.replace("old", version, vec![b'n'; 9000]).await.unwrap();
    assert_eq!(store.get("old").await.unwrap().unwrap().value, vec![b'n'; 9000]);
}

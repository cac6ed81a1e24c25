use super::*;
use crate::store::{NAME_MAX, VALUE_MAX};
use futures_util::StreamExt;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use tempfile::TempDir;

fn fresh() -> (TempDir, PathBuf, DirectoryStore) {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("certificates");
    let store = DirectoryStore::open(&path).expect("it is new");
    (place, path, store)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// What a watch tells next; it must be soon.
async fn next(watch: &mut BoxStream<'static, Change>) -> Option<Change> {
    let soon = std::time::Duration::from_secs(10);
    tokio::time::timeout(soon, watch.next()).await.expect("a watch tells at once")
}

/// As this store's writer makes files, but of any content.
fn put_file(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("it can be written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
}

#[tokio::test]
async fn documents_are_made_replaced_deleted_and_there_after_a_restart() {
    let (_place, path, store) = fresh();
    let first = store.create("a", b"1".into()).await.unwrap();
    assert!(matches!(store.create("a", b"2".into()).await, Err(StoreError::Exists(name)) if name == "a"));
    let second = store.replace("a", first, b"2".into()).await.unwrap();
    assert!(second > first);
    for stale in [first, Version(second.0 + 1)] {
        let refused = store.replace("a", stale, b"3".into()).await;
        assert!(matches!(refused, Err(StoreError::Conflict(name)) if name == "a"));
    }
    let gone = store.replace("b", first, b"3".into()).await;
    assert!(matches!(gone, Err(StoreError::Conflict(name)) if name == "b"));
    // Any bytes are a value.
    let bytes: Vec<u8> = (0..=255).collect();
    let third = store.create("no-text.1", bytes.clone()).await.unwrap();
    drop(store);

    let store = DirectoryStore::open(&path).unwrap();
    let document =
        |name: &str, version, value: &[u8]| Document { name: name.into(), version, value: value.into() };
    let expected = [document("a", second, b"2"), document("no-text.1", third, &bytes)];
    assert_eq!(store.list().await.unwrap(), expected);
    assert_eq!(store.get("a").await.unwrap().as_ref(), expected.first());
    assert_eq!(store.get("b").await.unwrap(), None);
    assert!(store.delete("a").await.unwrap());
    assert!(!store.delete("a").await.unwrap());
    assert_eq!(store.list().await.unwrap(), expected[1..]);
}

#[tokio::test]
async fn versions_grow_though_the_newest_document_was_deleted_before_a_restart() {
    let (_place, path, store) = fresh();
    let mut last = Version(0);
    let mut store = Some(store);
    for _restart in 0..3 {
        let open = store.take().unwrap_or_else(|| DirectoryStore::open(&path).expect("it is sound"));
        // More than are reserved at once.
        for _ in 0..folder::RESERVED / 2 + 1 {
            let version = open.create("a", b"1".into()).await.unwrap();
            assert!(version > last, "{version:?} after {last:?}");
            last = version;
            open.delete("a").await.unwrap();
        }
    }
    // Without the number that is kept, what documents there are tell it.
    let open = DirectoryStore::open(&path).unwrap();
    last = open.create("a", b"1".into()).await.unwrap();
    drop(open);
    for damaged in [&b"many"[..], b"", b"99999999999999999999", &[0xff; 100]] {
        put_file(&path.join(".versions"), damaged);
        let open = DirectoryStore::open(&path).unwrap();
        let version = open.replace("a", last, b"2".into()).await.unwrap();
        assert!(version > last, "{version:?} after {last:?}");
        last = version;
    }
}

#[tokio::test]
async fn of_many_who_create_or_replace_at_once_one_wins() {
    let (_place, _path, store) = fresh();
    let store = Arc::new(store);
    let race = async |version: Option<Version>| {
        let racers = (0..16u8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                match version {
                    None => store.create("a", vec![number]).await,
                    Some(version) => store.replace("a", version, vec![number]).await,
                }
            })
        });
        let results = futures_util::future::join_all(racers).await;
        let won: Vec<_> = results.into_iter().flatten().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        won.into_iter().next()
    };
    let made = race(None).await;
    race(made).await;
}

#[tokio::test]
async fn a_watch_tells_everything_and_then_each_change_of_this_store_and_no_other() {
    let (_place, path, store) = fresh();
    let first = store.create("a", b"1".into()).await.unwrap();
    let mut watch = store.watch();
    let put = |name: &str, version, value: &[u8]| {
        Some(Change::Put(Document { name: name.into(), version, value: value.into() }))
    };
    assert_eq!(next(&mut watch).await, put("a", first, b"1"));
    let second = store.create("b", b"2".into()).await.unwrap();
    put_file(&path.join("c.json"), b"{\"version\":1,\"value\":\"by hand\"}");
    let refused = store.replace("a", second, b"3".into()).await;
    assert!(refused.is_err());
    let third = store.replace("a", first, b"3".into()).await.unwrap();
    store.delete("b").await.unwrap();
    assert!(!store.delete("b").await.unwrap());
    assert_eq!(next(&mut watch).await, put("b", second, b"2"));
    assert_eq!(next(&mut watch).await, put("a", third, b"3"));
    assert_eq!(next(&mut watch).await, Some(Change::Deleted("b".to_owned())));
    drop(store);
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn a_watcher_that_fell_behind_is_told_what_was_deleted_meanwhile() {
    let (_place, _path, store) = fresh();
    let mut version = store.create("a", b"0".into()).await.unwrap();
    store.create("b", b"0".into()).await.unwrap();
    let mut watch = store.watch();
    for expected in ["a", "b"] {
        assert!(matches!(next(&mut watch).await, Some(Change::Put(document)) if document.name == expected));
    }
    store.delete("b").await.unwrap();
    for number in 0..200u8 {
        version = store.replace("a", version, vec![b'0' + number % 10]).await.unwrap();
    }
    assert_eq!(next(&mut watch).await, Some(Change::Deleted("b".to_owned())));
    assert!(matches!(next(&mut watch).await, Some(Change::Put(document)) if document.version == version));
}

#[tokio::test]
async fn names_and_values_are_bounded_and_no_path_is_made_of_a_name() {
    let (place, path, store) = fresh();
    for bad in
        ["", ".", "..", "../a", "a/b", "/etc/passwd", "A", "1a", "-a", ".new", "a b", "a\0b", "ä", "a_b"]
    {
        for result in [
            store.create(bad, b"1".into()).await.map(|_| ()),
            store.replace(bad, Version(1), b"1".into()).await.map(|_| ()),
            store.get(bad).await.map(|_| ()),
            store.delete(bad).await.map(|_| ()),
        ] {
            assert!(matches!(result, Err(StoreError::Unusable(_))), "{bad:?}: {result:?}");
        }
    }
    let longest = "a".repeat(NAME_MAX);
    assert!(store.create(&(longest.clone() + "a"), b"1".into()).await.is_err());
    // The worst to write as JSON, and then too long by one.
    let version = store.create(&longest, vec![0; VALUE_MAX]).await.unwrap();
    assert_eq!(store.get(&longest).await.unwrap().unwrap().value, vec![0; VALUE_MAX]);
    assert!(store.replace(&longest, version, vec![0; VALUE_MAX + 1]).await.is_err());
    put_file(&path.join(format!("{longest}.json")), b"broken");
    store.create(&longest, b"1".into()).await.unwrap();
    assert_eq!(names(place.path()), ["certificates"]);
}

#[tokio::test]
async fn folder_and_files_are_their_owners_alone_whatever_the_umask() {
    for umask in ["000", "022", "277"] {
        let place = tempfile::tempdir().unwrap();
        let made = Command::new("sh")
            .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "store::directory::tests::a_store_of_one_document"])
            .env("USHER_STORE", place.path().join("deep/folder"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let folder = place.path().join("deep/folder");
        assert_eq!(mode(&folder), 0o700, "{umask}");
        assert_eq!(names(&folder), [".versions", "a.json"]);
        for name in names(&folder) {
            assert_eq!(mode(&folder.join(&name)), 0o600, "{umask} {name}");
        }
    }
}

#[tokio::test]
#[ignore = "a process with an umask of its own; the test above runs it"]
async fn a_store_of_one_document() {
    let folder = std::env::var_os("USHER_STORE").expect("only run by the test above");
    DirectoryStore::open(Path::new(&folder)).unwrap().create("a", b"1".into()).await.unwrap();
}

/// What opening says, with the reasons of the reasons.
fn refusal(path: &Path) -> String {
    let error = DirectoryStore::open(path).err().expect("it is refused");
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[tokio::test]
async fn what_others_may_use_or_is_no_file_is_refused_by_name_with_the_way_out() {
    let (_place, path, store) = fresh();
    store.create("a", b"1".into()).await.unwrap();
    drop(store);
    let (file, shown) = (path.join("a.json"), path.display().to_string());
    for wide in [0o640, 0o604, 0o620, 0o660, 0o644] {
        fs::set_permissions(&file, Permissions::from_mode(wide)).unwrap();
        let told = refusal(&path);
        assert!(
            told.contains(&format!("mode {wide:o}"))
                && told.ends_with(&format!("`chmod 600 {shown}/a.json`")),
            "{told}"
        );
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    for wide in [0o750, 0o705, 0o755] {
        fs::set_permissions(&path, Permissions::from_mode(wide)).unwrap();
        let told = refusal(&path);
        assert!(
            told.contains(&format!("mode {wide:o}")) && told.ends_with(&format!("`chmod 700 {shown}`")),
            "{told}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    let elsewhere = path.join("elsewhere");
    put_file(&elsewhere, b"{\"version\":1,\"value\":\"1\"}");
    for name in ["link.json", "dangling.json", "folder.json", "pipe.json", "a.json.broken", ".versions"] {
        let odd = path.join(name);
        let _missing = fs::remove_file(&odd);
        match name {
            "dangling.json" => symlink("/nowhere", &odd).unwrap(),
            "folder.json" => fs::create_dir(&odd).unwrap(),
            "pipe.json" => assert!(Command::new("mkfifo").arg(&odd).status().unwrap().success()),
            _ => symlink(&elsewhere, &odd).unwrap(),
        }
        assert_eq!(refusal(&path), format!("{shown}/{name} is no ordinary file: move it away"));
        if name == "folder.json" { fs::remove_dir(&odd).unwrap() } else { fs::remove_file(&odd).unwrap() }
    }
    DirectoryStore::open(&path).unwrap();
    assert!(refusal(&elsewhere).contains("cannot be used as the folder of certificates: not a directory"));
}

#[tokio::test]
async fn what_is_somebody_elses_is_refused_by_name_with_the_way_out() {
    assert!(rustix::process::geteuid().is_root(), "only root can give files away: run this test as root");
    let (_place, path, store) = fresh();
    store.create("a", b"1".into()).await.unwrap();
    drop(store);
    for given in [path.join("a.json"), path.clone()] {
        std::os::unix::fs::chown(&given, Some(12345), None).unwrap();
        let shown = given.display();
        let expected =
            format!("{shown} belongs to user 12345, and Usher runs as user 0: run `chown 0 {shown}`");
        assert_eq!(refusal(&path), expected);
        std::os::unix::fs::chown(&given, Some(0), None).unwrap();
    }
}

#[tokio::test]
async fn leftovers_of_a_write_are_removed_and_what_is_not_ours_is_left_alone() {
    let (_place, path, store) = fresh();
    drop(store);
    put_file(&path.join(".new"), b"{\"version\":1,\"val");
    for (foreign, mode) in [("README", 0o644), ("UPPER.json", 0o644), ("a.json~", 0o644), (".hidden", 0o600)]
    {
        fs::write(path.join(foreign), b"?").unwrap();
        fs::set_permissions(path.join(foreign), Permissions::from_mode(mode)).unwrap();
    }
    symlink("/nowhere", path.join("link")).unwrap();
    let store = DirectoryStore::open(&path).unwrap();
    assert_eq!(store.list().await.unwrap(), []);
    assert_eq!(names(&path), [".hidden", "README", "UPPER.json", "a.json~", "link"]);
    store.create("a", b"1".into()).await.unwrap();
    // A link under the name of what is being written is not followed.
    symlink(path.join("README"), path.join(".new")).unwrap();
    store.create("b", b"1".into()).await.unwrap();
    assert_eq!(fs::read(path.join("README")).unwrap(), b"?");
}

#[tokio::test]
async fn a_broken_document_is_passed_over_and_can_be_made_anew() {
    let mut broken: Vec<(String, Vec<u8>)> = [
        ("empty", &b""[..]),
        ("cut off", b"{\"version\":1,\"value\":\"abc"),
        ("no JSON", b"-----BEGIN CERTIFICATE-----"),
        ("another JSON", b"[1]"),
        ("no version", b"{\"value\":\"1\"}"),
        ("no value", b"{\"version\":1}"),
        ("two values", b"{\"version\":1,\"value\":\"1\",\"base64\":\"MQ==\"}"),
        ("something more", b"{\"version\":1,\"value\":\"1\",\"mode\":1}"),
        ("a negative version", b"{\"version\":-1,\"value\":\"1\"}"),
        ("the last version of all", b"{\"version\":18446744073709551615,\"value\":\"1\"}"),
        ("no base64", b"{\"version\":1,\"base64\":\"?\"}"),
        ("two documents", b"{\"version\":1,\"value\":\"1\"}{\"version\":1,\"value\":\"1\"}"),
        ("a mark of the byte order", b"\xef\xbb\xbf{\"version\":1,\"value\":\"1\"}"),
        ("no UTF-8", b"{\"version\":1,\"value\":\"\xff\"}"),
        ("NULs", &[0; 4096]),
        ("brackets", &[b'['; 100_000]),
    ]
    .map(|(what, text)| (what.to_owned(), text.to_vec()))
    .into();
    broken.push(("too long".to_owned(), vec![b'A'; 8 << 20]));
    let long = format!("{{\"version\":1,\"value\":\"{}\"}}", "a".repeat(VALUE_MAX + 1));
    broken.push(("a value that is too long".to_owned(), long.into_bytes()));
    broken.extend(crate::broken::cases().into_iter().map(|case| (case.name.to_owned(), case.chain)));

    let (_place, path, store) = fresh();
    let good = store.create("good", b"1".into()).await.unwrap();
    let mut last = good;
    for (what, text) in broken {
        let file = path.join("a.json");
        put_file(&file, &text);
        // Both for the one that is running, and for the next.
        let restarted = DirectoryStore::open(&path).unwrap();
        for store in [&store, &restarted] {
            let listed = store.list().await.unwrap();
            assert_eq!(listed.iter().map(|document| &*document.name).collect::<Vec<_>>(), ["good"], "{what}");
            assert_eq!(store.get("a").await.unwrap(), None, "{what}");
            let told = next(&mut store.watch()).await;
            assert!(matches!(told, Some(Change::Put(document)) if document.name == "good"), "{what}");
        }
        let refused = store.replace("a", Version(1), b"2".into()).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{what}: {refused:?}");
        let version = store.create("a", b"2".into()).await.unwrap();
        assert!(version > last, "{what}");
        last = version;
        assert_eq!(store.get("a").await.unwrap().unwrap().value, b"2", "{what}");
        assert_eq!(fs::read(path.join("a.json.broken")).unwrap(), text, "{what}");
        assert_eq!(names(&path), [".versions", "a.json", "a.json.broken", "good.json"], "{what}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_never_waited_for_and_no_link_is_followed() {
    for kind in ["link", "pipe", "folder"] {
        let (place, path, store) = fresh();
        let (file, elsewhere) = (path.join("a.json"), place.path().join("elsewhere"));
        put_file(&elsewhere, b"{\"version\":1,\"value\":\"1\"}");
        match kind {
            "link" => symlink(&elsewhere, &file).unwrap(),
            "pipe" => assert!(Command::new("mkfifo").arg(&file).status().unwrap().success()),
            _ => fs::create_dir(&file).unwrap(),
        }
        assert_eq!(store.list().await.unwrap(), [], "{kind}");
        assert_eq!(store.get("a").await.unwrap(), None, "{kind}");
        store.create("a", b"2".into()).await.unwrap();
        assert_eq!(store.get("a").await.unwrap().unwrap().value, b"2", "{kind}");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"{\"version\":1,\"value\":\"1\"}");
    }
}

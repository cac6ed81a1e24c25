//! What holds of the file alone; what every store promises stands in the package of the tests.

use super::*;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn fresh() -> (TempDir, PathBuf, RedbRecords) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let records = RedbRecords::open(&path).unwrap();
    (dir, path, records)
}

fn write_private(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

async fn put(records: &RedbRecords, name: &str, value: &str) -> Version {
    records.create(Kind::Session, name, value.into()).await.unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_versions_go_on() {
    let (_dir, path, records) = fresh();
    let first = put(&records, "a", "1").await;
    drop(records);
    let records = RedbRecords::open(&path).unwrap();
    assert_eq!(records.get(Kind::Session, "a").await.unwrap().unwrap().version, first);
    assert!(put(&records, "b", "2").await > first);
}

/// Another process that holds the file's lock, for as long as the rest of its command runs.
fn holder(path: &Path, then: &str) -> std::process::Child {
    let mut holder = std::process::Command::new("flock")
        .arg(path)
        .args(["sh", "-c", &format!("echo; exec {then}")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
    holder
}

#[test]
fn a_second_opener_is_told_which_process_has_the_file() {
    let (_dir, path, records) = fresh();
    drop(records);
    let mut other = holder(&path, "sleep 600");
    let error = RedbRecords::open_within(&path, Duration::from_millis(50)).err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("another usher"), "{error}");
    let named = format!("process {} (flock)", other.id());
    // `flock` waits for its command, which has the file open, too.
    assert!(error.contains(&named) && error.contains("(sleep)"), "{named} is missing in: {error}");
    let descendants = error.split("process ").skip(1).filter_map(|text| text.split(' ').next());
    for pid in descendants.filter_map(|pid| pid.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    other.wait().unwrap();
}

#[test]
fn a_file_that_is_held_by_what_is_ending_is_waited_for() {
    let (_dir, path, records) = fresh();
    drop(records);
    let mut ending = holder(&path, "sleep 0.2");
    RedbRecords::open(&path).unwrap();
    ending.wait().unwrap();
}

#[test]
fn a_file_that_is_no_file_of_records_is_refused_by_name_and_left_as_it_is() {
    for content in [b"not a database at all".to_vec(), vec![0; 8192], vec![0xff; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        write_private(&path, &content);
        let error = RedbRecords::open(&path).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let (dir, path, records) = fresh();
    drop(records);
    let whole = fs::read(&path).unwrap();
    for length in [1, 100, 4096, whole.len() / 2] {
        let cut = dir.path().join(format!("cut-{length}"));
        write_private(&cut, &whole[..length]);
        assert!(RedbRecords::open(&cut).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let (_dir, path, records) = fresh();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(records);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(RedbRecords::open(&path), Err(StoreOpenError::TooOpen { mode: 0o644, .. })));
}

#[tokio::test]
async fn a_watcher_that_fell_behind_ends_up_with_the_truth() {
    let (_dir, _path, records) = fresh();
    put(&records, "deleted meanwhile", "").await;
    let mut watch = records.watch(Kind::Session);
    watch.next().await.unwrap();
    records.delete(Kind::Session, "deleted meanwhile").await.unwrap();
    let names: Vec<_> = (0..1500).map(|i| i.to_string()).collect();
    let writes = names.iter().map(|name| records.create(Kind::Session, name, Vec::new()));
    futures_util::future::try_join_all(writes).await.unwrap();
    let mut known = BTreeSet::from(["deleted meanwhile".to_owned()]);
    while known.len() < 1500 || known.contains("deleted meanwhile") {
        let change = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        match change.expect("a watcher learns the truth").unwrap() {
            Change::Put(record) => known.insert(record.name),
            Change::Deleted(name) => known.remove(&name),
        };
    }
    assert_eq!(known, names.into_iter().collect());
}

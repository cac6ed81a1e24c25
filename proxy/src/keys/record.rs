//! The ring as a record that all replicas share: made by whoever comes first, followed by all.

use super::document::{fresh, parse};
use super::ring::Ring;
use super::{Keys, KeysError};
use control::{Change, Kind, Record, RecordError, Records};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::SystemTime;

/// The record's name: there is one ring.
const NAME: &str = "ring";

/// The ring of the record; of two who find none, one makes it and both read the same.
pub(super) async fn read_or_make(records: &dyn Records) -> Result<Ring, KeysError> {
    if let Some(record) = records.get(Kind::Key, NAME).await? {
        return ring(&record);
    }
    let text = fresh(SystemTime::now());
    let made = parse(&text).map_err(|reason| KeysError::MalformedRecord { name: NAME, reason })?;
    match records.create(Kind::Key, NAME, text).await {
        Ok(_) => {
            tracing::info!("a ring of keys was made");
            Ok(Ring::new(&made))
        }
        Err(RecordError::Exists(_)) => {
            // Made by another in between; that it is gone again already is somebody's hand.
            let record = records.get(Kind::Key, NAME).await?;
            ring(&record.ok_or(RecordError::Conflict(NAME.to_owned()))?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes up every later ring of the record, for as long as the store tells.
///
/// A ring that cannot be read, or that is taken away, changes nothing here: sessions live on, and the log says what
/// to do before the next start, which would fail or make another.
pub(super) async fn follow(keys: Keys, records: Arc<dyn Records>) -> KeysError {
    let mut changes = records.watch(Kind::Key);
    while let Some(change) = changes.next().await {
        match change {
            Change::Put(record) if record.name == NAME => match ring(&record) {
                Ok(ring) => keys.take(ring),
                Err(error) => tracing::error!(%error, "the ring of keys stays as it was"),
            },
            Change::Deleted(name) if name == NAME => tracing::error!(
                "the record of the ring of keys was deleted: this usher goes on with the keys that it holds, and \
                 the next one to start makes others; restart all of them at once, and everybody logs in anew"
            ),
            Change::Put(_) | Change::Deleted(_) => {}
        }
    }
    KeysError::Unwatched
}

fn ring(record: &Record) -> Result<Ring, KeysError> {
    let listed = parse(&record.value).map_err(|reason| KeysError::MalformedRecord { name: NAME, reason })?;
    Ok(Ring::new(&listed))
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;
    use crate::assertion::Assertions;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use control::{RedbRecords, Version};
    use serde_json::json;
    use std::time::{Duration, UNIX_EPOCH};

    fn store() -> (tempfile::TempDir, Arc<dyn Records>) {
        let folder = tempfile::tempdir().unwrap();
        let records = RedbRecords::open(&folder.path().join("state.redb")).unwrap();
        (folder, Arc::new(records))
    }

    async fn open(records: &Arc<dyn Records>) -> Keys {
        Keys::open_record(&**records).await.unwrap()
    }

    /// A document of these keys, newest first, each with the seconds from now at which it begins to seal.
    fn text(keys: &[(u8, i64)]) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let keys = keys.iter().map(|(key, since)| {
            json!({ "secret": URL_SAFE_NO_PAD.encode([*key; 32]), "since": now.strict_add_signed(*since) })
        });
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string().into_bytes()
    }

    fn opens(keys: &Keys, sealed: &str) -> bool {
        keys.open(Purpose::PortalSession, "h", sealed.as_bytes()).is_ok()
    }

    fn seal(keys: &Keys) -> String {
        keys.seal(Purpose::PortalSession, "h", b"v")
    }

    async fn until(what: impl Fn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.expect("the change is taken up");
    }

    #[tokio::test]
    async fn of_many_who_come_first_one_makes_the_ring_and_all_hold_it() {
        let (_folder, records) = store();
        let coming = (0..20).map(|_| open(&records));
        let rings = futures_util::future::join_all(coming).await;
        for sealed in rings.iter().map(seal) {
            assert!(rings.iter().all(|keys| opens(keys, &sealed)));
        }
        assert_eq!(records.list(Kind::Key).await.unwrap().len(), 1);
        assert!(opens(&open(&records).await, &seal(&rings[0])), "who comes later reads it");
    }

    #[tokio::test]
    async fn a_damaged_record_is_refused_by_name_and_left_as_it_is() {
        let (_folder, records) = store();
        let damaged = br#"{"keys":[{"secret":"c2VjcmV0","since":1}]}"#.to_vec();
        records.create(Kind::Key, NAME, damaged.clone()).await.unwrap();
        let error = Keys::open_record(&*records).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, KeysError::MalformedRecord { .. }), "{told}");
        assert!(told.contains("Secret key-ring") && told.contains("delete it"), "{told}");
        assert!(!told.contains("c2VjcmV0") && !format!("{error:?}").contains("c2VjcmV0"), "{told}");
        assert_eq!(records.get(Kind::Key, NAME).await.unwrap().unwrap().value, damaged);
    }

    #[tokio::test]
    async fn a_key_that_is_added_opens_at_once_and_seals_when_its_time_comes() {
        let (_folder, records) = store();
        let version = records.create(Kind::Key, NAME, text(&[(1, -60)])).await.unwrap();
        let (one, other) = (open(&records).await, open(&records).await);
        let followed = tokio::spawn(follow(one.clone(), records.clone()));
        let old = seal(&other);
        let assertions = Assertions::new(&one);
        let told = || assertions.jwks(SystemTime::now())["keys"].as_array().unwrap().len();
        assert_eq!(told(), 1);
        let newest = |text: Vec<u8>| Keys::of(&parse(&text).unwrap());
        let new = seal(&newest(text(&[(2, -60)])));

        let version = records.replace(Kind::Key, NAME, version, text(&[(2, 3600), (1, -60)])).await.unwrap();
        until(|| opens(&one, &new)).await;
        assert!(opens(&one, &old) && opens(&other, &seal(&one)), "it still seals with what all hold");
        assert_eq!(told(), 2, "applications know the key before it signs");

        let version = records.replace(Kind::Key, NAME, version, text(&[(2, -1), (1, -60)])).await.unwrap();
        until(|| !opens(&other, &seal(&one))).await;
        assert!(opens(&newest(text(&[(2, -60)])), &seal(&one)) && opens(&one, &old));

        records.replace(Kind::Key, NAME, version, b"{}".to_vec()).await.unwrap();
        records.delete(Kind::Key, NAME).await.unwrap();
        let third = records.create(Kind::Key, NAME, text(&[(3, -1), (2, -60)])).await.unwrap();
        until(|| opens(&one, &seal(&newest(text(&[(3, -60)]))))).await;
        assert!(opens(&one, &new) && third > Version(0), "what was wrong in between changed nothing");
        followed.abort();
    }
}

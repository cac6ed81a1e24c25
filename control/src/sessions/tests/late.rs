//! A replica whose watch is behind ends what it has not heard of yet.

use super::*;
use crate::Change;
use crate::records::Record;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

/// Records whose watch tells nothing for as long as it is held back.
struct Late {
    inner: Arc<RedbRecords>,
    is_told: watch::Receiver<bool>,
}

#[async_trait::async_trait]
impl Records for Late {
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError> {
        self.inner.list(kind).await
    }
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        self.inner.get(kind, name).await
    }
    async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
        self.inner.create(kind, name, value).await
    }
    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError> {
        self.inner.replace(kind, name, version, value).await
    }
    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError> {
        self.inner.delete(kind, name).await
    }
    fn watch(&self, kind: Kind) -> BoxStream<'static, Change> {
        let is_told = self.is_told.clone();
        let told = self.inner.watch(kind).then(move |change| {
            let mut is_told = is_told.clone();
            async move {
                is_told.wait_for(|is_told| *is_told).await.unwrap();
                change
            }
        });
        told.boxed()
    }
}

#[tokio::test]
async fn a_session_that_another_has_just_made_is_ended_with_all_of_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let (tell, is_told) = watch::channel(false);
    let late = Arc::new(Late { inner: records.clone(), is_told });
    let (here, _here) = over(late, HashMap::new(), Acts::untold()).await;
    let (there, _there) = over(records.clone(), HashMap::new(), Acts::untold()).await;
    let (id, session) = there.create(new("alice")).await.unwrap();
    assert_eq!(here.count(), 0, "it has not heard of her");
    let identity = new("alice").identity;
    let (ending, ()) = tokio::join!(here.end_all(identity.as_ref()), async {
        tell.send_replace(true);
    });
    assert_eq!(ending.result().unwrap(), 1);
    assert!(here.lookup(&id).is_none());
    tokio::time::timeout(secs(5), session.ended().token().cancelled_owned()).await.unwrap();
    assert_eq!(records.list(Kind::Session).await.unwrap(), [], "no marker is left");
}

#[tokio::test]
async fn who_cannot_hear_of_all_says_so_and_ends_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let (there, _there) = over(records.clone(), HashMap::new(), Acts::untold()).await;
    there.create(new("alice")).await.unwrap();
    let (_tell, is_told) = watch::channel(false);
    let late = Arc::new(Late { inner: records.clone(), is_told });
    let (here, _here) = over(late, HashMap::new(), Acts::untold()).await;
    assert_eq!(here.count(), 1, "she was there at the start");
    let identity = new("alice").identity;
    let ending = here.end_all(identity.as_ref()).await;
    assert_eq!((ending.ended.len(), ending.failed.is_some()), (1, true));
    assert_eq!(records.list(Kind::Session).await.unwrap(), [], "her session is gone, and no marker is left");
}

#[tokio::test]
async fn a_marker_of_one_who_died_is_cleared_away_at_a_start_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let stranger = "a-name-of-another-version";
    for name in ["marker-1", stranger] {
        records.create(Kind::Session, name, b"{}".to_vec()).await.unwrap();
    }
    let (_sessions, _shutdown) = over(records.clone(), HashMap::new(), Acts::untold()).await;
    let left: Vec<String> =
        records.list(Kind::Session).await.unwrap().into_iter().map(|record| record.name).collect();
    assert_eq!(left, [stranger]);
}

//! Where a workspace is.

use super::*;
use crate::RedbRecords;
use std::path::Path;

fn places(folder: &Path) -> Places {
    Places::new(Arc::new(RedbRecords::open(&folder.join("state.redb")).unwrap()))
}

#[tokio::test]
async fn the_first_choice_holds_until_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let (alice, bob) = (crate::testing::id("alice"), crate::testing::id("gpu--bob"));
    assert_eq!(places.choose(&alice, "desks").await.unwrap(), "desks");
    assert_eq!(places.choose(&alice, "labs").await.unwrap(), "desks", "its files may be there");
    assert_eq!(places.choose(&bob, "labs").await.unwrap(), "labs");
    places.forget(&alice).await;
    assert_eq!(places.choose(&alice, "labs").await.unwrap(), "labs");
}

//! Workers of several Ushers, before an authority that counts.

use super::*;
use crate::lab::{GenerousAuthority, Memory, certificates, unit, worker};
use futures_util::future::join_all;

/// Both believe that they lead, and begin at one moment.
#[tokio::test]
async fn two_that_lead_at_a_time_make_one_order() {
    let authority = GenerousAuthority::start().await;
    let certificates = certificates(&authority, "");
    let store = Arc::new(Memory::default());
    let [(a, _), (b, _)] = ["a", "b"].map(|name| worker(&certificates, &store, Some(name)));
    let units: Vec<Unit> =
        (0..100).map(|number| unit(&certificates, &format!("host{number}.lab.test"))).collect();
    let both = units.iter().map(async |unit| {
        let (one, other) = tokio::join!(a.work(Work::Order, unit, None), b.work(Work::Order, unit, None));
        assert!(one || other, "{}", unit.id);
        assert!(store.value(&kept::document(&unit.id)).is_some(), "{}", unit.id);
    });
    join_all(both).await;
    assert_eq!(authority.asked("order"), units.len());
    // Whoever rested finds it there.
    for unit in &units {
        assert!(a.work(Work::Order, unit, None).await && b.work(Work::Order, unit, None).await);
    }
    assert_eq!(authority.asked("order"), units.len());
}

//! One-time tickets: redeeming one is the creation of a record named by its hash.

use crate::{RecordError, Records};
use std::sync::Arc;
use std::time::Duration;

/// The redeemed tickets. Cheap to clone.
#[derive(Clone)]
pub struct Tickets {
    records: Arc<dyn Records>,
}

impl Tickets {
    /// Over these records.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }
    /// Redeems a ticket: `true` for exactly one caller, on all replicas together. `lifetime` is how long
    /// the ticket could still be shown: its record is kept for that long.
    ///
    /// # Errors
    /// The store fails.
    pub async fn redeem(&self, _ticket: &[u8], _lifetime: Duration) -> Result<bool, RecordError> {
        let _ = &self.records;
        todo!()
    }
}

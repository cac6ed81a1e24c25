//! x
/// x
pub struct Lease;
/// x
pub struct LeaseSettings;

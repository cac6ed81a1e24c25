//! `[quotas.NAME]`: how much may run at a time.

use crate::amount::Amount;
use crate::expression::Expression;
use std::collections::BTreeMap;

/// `[quotas.NAME]`.
#[derive(Debug)]
pub struct Quota {
    /// `applies_to`: bool; whose workspaces count against it.
    pub applies_to: Expression<bool>,
    /// `each`: what each of these users may have running.
    pub each: QuotaLimits,
    /// `all`: what all of them together may.
    pub all: QuotaLimits,
}

/// What may run at a time; what is not named is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// `workspaces`: how many.
    pub workspaces: Option<u64>,
    /// `NAME`: how much of a resource they may request, by its name.
    pub resources: BTreeMap<String, Amount>,
}

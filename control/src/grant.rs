//! What was decided about a start when it was admitted.

use config::{QuotaName, Values};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a start was admitted with: made of who asked, and of the rules as they were then.
///
/// It is written down with the want and told again by [`crate::Driver::observe`], so that any Usher can start the
/// workspace, and knows what it counts against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// What the template's rules gave for its owner.
    pub values: Values,
    /// The quotas that it counts against.
    pub quotas: BTreeSet<QuotaName>,
}

/// A grant as it is written down beside a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GrantDocument {
    values: BTreeMap<String, String>,
    quotas: Vec<String>,
}

impl From<&Grant> for GrantDocument {
    fn from(grant: &Grant) -> Self {
        Self {
            values: grant.values.0.clone(),
            quotas: grant.quotas.iter().map(QuotaName::to_string).collect(),
        }
    }
}

/// What is no name of a quota is left out: it names none that could be counted.
impl From<GrantDocument> for Grant {
    fn from(document: GrantDocument) -> Self {
        let quotas = document.quotas.iter().filter_map(|name| QuotaName::parse(name).ok());
        Self { values: Values(document.values), quotas: quotas.collect() }
    }
}

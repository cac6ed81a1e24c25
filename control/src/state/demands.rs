//! What workspaces request, computed once for all that are alike.

use crate::kubernetes::demand::{Demand, demand};
use config::{Template, TemplateName, Values};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Remembered results of a pure function. Those of one configuration: another has its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands(Arc<Mutex<HashMap<Key, Arc<Demand>>>>);

/// The template, and of the values those that decide amounts.
type Key = (TemplateName, Vec<(String, String)>);

/// How many are remembered: far more than rules tell apart by groups.
const MOST: usize = 4096;

impl Demands {
    /// What a workspace of this template and these values requests.
    pub(crate) fn of(&self, template: &Arc<Template>, values: &Values) -> Arc<Demand> {
        let deciding = values.0.iter().filter(|(key, _)| key.starts_with("resources."));
        let key =
            (template.name.clone(), deciding.map(|(key, value)| (key.clone(), value.clone())).collect());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.entry(key).or_insert_with(|| Arc::new(demand(template, values))).clone()
    }
}

//! What operators are shown of the loop.

use super::Loop;
use super::tasks::Due;
use crate::listed::{Listed, Next};
use crate::schedule::{FAILED_VALIDATIONS, may_fail_at};
use crate::state;
use crate::units::{Giver, Unit};
use config::CertificateSource;
use std::time::SystemTime;

impl Loop {
    /// All certificates, as they are now.
    pub(super) fn list(&self) -> Vec<Listed> {
        let now = SystemTime::now();
        let given = self.settings.certificates.values().filter(|declared| {
            matches!(declared.source, CertificateSource::Files { .. } | CertificateSource::Secret(_))
        });
        let given = given.map(|declared| {
            Listed::given(declared, self.inventory.given(&declared.name), self.refused.get(&declared.name))
        });
        let got = self.units.values().map(|unit| {
            let state = self.states.get(&unit.id);
            let due = self.due(unit, now);
            let next = match self.tasks.gets(&unit.id) {
                true => Next::UnderWay,
                false => Next::At(state::unix(due.get_at)),
            };
            let mut listed = Listed::got(unit, self.inventory.current(&unit.id), next, (state, now));
            listed.failures.extend(self.why_it_waits(unit, due, now));
            listed
        });
        given.chain(got).collect()
    }

    /// Why one that is due is not begun, where nothing that failed is to blame.
    fn why_it_waits(&self, unit: &Unit, due: Due, now: SystemTime) -> Vec<String> {
        let Giver::Acme(source) = &unit.giver else { return Vec::new() };
        if due.get_at <= now {
            return Vec::new();
        }
        let state = self.states.get(&unit.id);
        let names = source.authorities.iter().map(|authority| authority.name.as_str());
        let said = names.filter_map(|name| Some((name, self.retry_after.get(name)?)));
        let said = said.filter(|(name, said)| {
            said.ends(now) >= due.get_at && state.is_none_or(|state| !state.authorities.contains_key(*name))
        });
        let mut why: Vec<String> = said.map(|(name, said)| format!("{name}: {}", said.cause)).collect();
        why.extend(self.is_over_budget(unit, due.work, now).map(|many| {
            format!("new_per_week: {many} hosts have got their first certificate within seven days")
        }));
        if state.is_some_and(|state| may_fail_at(&state.failed_validations, now) > now) {
            why.push(format!(
                "{FAILED_VALIDATIONS} validations have failed within an hour, and another may fail only later"
            ));
        }
        why
    }
}

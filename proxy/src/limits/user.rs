//! What one user may ask for, by the operator's rules.

use super::{MINUTE, Meter};
use crate::access::authorise::rule_failed;
use crate::metrics::Limit;
use crate::refusal::Refusal;
use config::{Config, Expression, Subject};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// What is limited per user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerUser {
    /// Requests.
    Requests,
    /// Starts that they ask for.
    Spawns,
    /// Data frames that they send.
    Messages,
}

impl PerUser {
    /// Its name in the metrics.
    pub(super) fn limit(self) -> Limit {
        match self {
            Self::Requests => Limit::RequestsPerUser,
            Self::Spawns => Limit::SpawnsPerUser,
            Self::Messages => Limit::MessagesPerUser,
        }
    }
}

/// One user's cells, in the order of [`PerUser`]; a refusal in place of one whose rule gives no answer.
#[derive(Debug)]
pub(super) struct Allowance {
    meters: [Result<Arc<Meter>, Refusal>; 3],
    judged: Instant,
    /// Whether somebody is asking the rules again.
    claimed: AtomicBool,
}

impl Allowance {
    /// Asks the rules. What they say as `before` goes on in the same cell.
    pub(super) fn judge(config: &Config, subject: &Subject, before: Option<&Self>, now: Instant) -> Self {
        let rules = [
            ("limits.requests_per_user", &config.limits.requests_per_user),
            ("limits.spawns_per_user", &config.limits.spawns_per_user),
            ("limits.messages_per_user", &config.limits.messages_per_user),
        ];
        let tier = config.access.tier.evaluate_being(subject, None);
        let tier = tier.map_err(|error| rule_failed("access.tier", &error));
        let mut kept = before.map(|before| before.meters.iter()).into_iter().flatten();
        let meters = rules.map(|(key, rule)| {
            let kept = kept.next().and_then(|meter| meter.as_ref().ok());
            let rate = rate(key, rule, subject, tier.as_deref().map_err(Refusal::clone)?)?;
            let same = kept.filter(|meter| meter.rate() == rate).cloned();
            Ok(same.unwrap_or_else(|| Arc::new(Meter::per_minute(rate))))
        });
        Self { meters, judged: now, claimed: AtomicBool::new(false) }
    }

    /// Whether the rules should be asked again: true for one of those who ask, a minute after the last time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.judged) >= MINUTE && !self.claimed.swap(true, Relaxed)
    }

    pub(super) fn meter(&self, what: PerUser) -> Result<Arc<Meter>, Refusal> {
        self.meters[what as usize].clone()
    }
}

/// What a rule says. A negative number allows as little as 0 does.
fn rate(key: &str, rule: &Expression<i64>, subject: &Subject, tier: &str) -> Result<u32, Refusal> {
    let rate = rule.evaluate_being(subject, Some(tier)).map_err(|error| rule_failed(key, &error))?;
    Ok(u32::try_from(rate.max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;
    use std::time::Duration;

    fn config(rules: &str) -> Config {
        let text =
            crate::lab::CONFIG.replace("label = \"user.name\"", "tier = \"'staff' in groups ? 'gold' : ''\"");
        Config::parse("test", &format!("{text}[limits]\n{rules}"), &|_| None)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    fn somebody(group: &str) -> Subject {
        Subject { groups: vec![group.to_owned()], ..Subject::default() }
    }

    fn rate_of(allowance: &Allowance, what: PerUser) -> Result<u32, Code> {
        allowance.meter(what).map(|meter| meter.rate()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_tier_decides_and_a_rule_without_an_answer_denies_what_it_is_about() {
        let config = config(
            "requests_per_user = \"user.tier == 'gold' ? 9000000000 : 5\"\nspawns_per_user = '-1'\n\
             messages_per_user = 'claims.messages'\n",
        );
        for (group, requests) in [("staff", u32::MAX), ("guests", 5)] {
            let allowance = Allowance::judge(&config, &somebody(group), None, Instant::now());
            assert_eq!(rate_of(&allowance, PerUser::Requests), Ok(requests), "{group}");
            assert_eq!(rate_of(&allowance, PerUser::Spawns), Ok(0));
            assert_eq!(rate_of(&allowance, PerUser::Messages), Err(Code::NotAllowed));
        }
    }

    #[test]
    fn the_rules_are_asked_again_after_a_minute_by_one_alone() {
        let (config, now) = (config(""), Instant::now());
        let allowance = Allowance::judge(&config, &somebody("staff"), None, now);
        let later = now + MINUTE;
        assert!(!allowance.is_due(later - Duration::from_millis(1)));
        assert!(allowance.is_due(later) && !allowance.is_due(later));
    }

    #[test]
    fn who_may_ask_for_as_much_as_before_goes_on_in_the_same_cell() {
        let config = config("requests_per_user = '2'\nspawns_per_user = \"user.tier == 'gold' ? 9 : 1\"\n");
        let (staff, guest, now) = (somebody("staff"), somebody("guests"), Instant::now());
        let before = Allowance::judge(&config, &staff, None, now);
        let meter = |allowance: &Allowance, what| allowance.meter(what).unwrap();
        let after = Allowance::judge(&config, &guest, Some(&before), now);
        assert!(Arc::ptr_eq(&meter(&before, PerUser::Requests), &meter(&after, PerUser::Requests)));
        assert_eq!(rate_of(&after, PerUser::Spawns), Ok(1));
    }
}

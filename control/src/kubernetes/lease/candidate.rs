//! Who may hold a lease, judged by this machine's monotonic time alone. Pure.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::{Duration, Instant};

/// For how long a lease that nobody renews is its holder's. This and the next two are the numbers of Kubernetes' own
/// components (client-go's leader election).
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// For how long after the last renewal was begun its holder leads: shorter than [`DURATION`] by what another's
/// observation may be early, so that two never lead at once however late their answers come.
pub(super) const LEADS: Duration = Duration::from_secs(10);
/// How often a holder renews and another looks.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// The longest duration that is believed: a lease that a stranger wrote must end.
const BELIEVED: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Make it: it is not there.
    Create(Lease),
    /// Write this over the version that it carries.
    Update(Lease),
    /// It is another's.
    Wait,
}

/// One who wants to hold a lease.
#[derive(Debug)]
pub(super) struct Candidate {
    me: String,
    /// The lease as it was seen last, and since when it has stood so.
    seen: Option<(Lease, Instant)>,
    leads_until: Option<Instant>,
}

impl Candidate {
    /// `me` is nobody else's, not even an earlier self's.
    pub(super) fn new(me: String) -> Self {
        Self { me, seen: None, leads_until: None }
    }

    /// Takes note of the lease as it stands; `None` = there is none.
    pub(super) fn see(&mut self, lease: Option<Lease>, now: Instant) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        self.seen = lease.map(|lease| match &self.seen {
            Some((seen, since)) if version(seen) == version(&lease) => (lease, *since),
            _ => (lease, now),
        });
    }

    /// Takes note of a write that was begun at `begun` and done.
    pub(super) fn wrote(&mut self, lease: Lease, begun: Instant) {
        self.seen = Some((lease, begun));
        self.leads_until = Some(begun + LEADS);
    }

    /// Until when it leads, if it does.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.leads_until.filter(|until| now < *until)
    }

    /// Whether it must look before it writes.
    pub(super) fn must_look(&self, now: Instant) -> bool {
        self.leads_until(now).is_none() || !self.holds()
    }

    /// What to do with the lease as it was seen last. `stamp` is for people to read, nobody judges by it.
    pub(super) fn next(&self, now: Instant, stamp: MicroTime) -> Act {
        let Some((lease, since)) = &self.seen else { return Act::Create(self.mine(None, stamp)) };
        let spec = lease.spec.clone().unwrap_or_default();
        let free = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        if free || self.holds() || now >= *since + duration(&spec) {
            Act::Update(Lease { metadata: lease.metadata.clone(), ..self.mine(Some(&spec), stamp) })
        } else {
            Act::Wait
        }
    }

    /// What gives it back, if it is held: nobody has to wait for its end.
    pub(super) fn release(&mut self, stamp: MicroTime) -> Option<Lease> {
        let held = self.holds() && self.leads_until.take().is_some();
        let (lease, _) = self.seen.clone().filter(|_| held)?;
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            renew_time: Some(stamp),
            ..lease.spec.clone().unwrap_or_default()
        };
        Some(Lease { metadata: lease.metadata, spec: Some(spec) })
    }

    fn holds(&self) -> bool {
        let holder =
            self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref()?.holder_identity.as_deref());
        holder == Some(&self.me)
    }

    /// The lease in my hands.
    fn mine(&self, before: Option<&LeaseSpec>, stamp: MicroTime) -> Lease {
        let (acquired, transitions) = match before {
            Some(before) if self.holds() => (before.acquire_time.clone(), before.lease_transitions),
            Some(before) => (None, Some(before.lease_transitions.unwrap_or(0).saturating_add(1))),
            None => (None, Some(0)),
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: acquired.or_else(|| Some(stamp.clone())),
            renew_time: Some(stamp),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }
}

fn duration(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    Duration::from_secs(seconds).clamp(DURATION, BELIEVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn stamp() -> MicroTime {
        MicroTime(Timestamp::UNIX_EPOCH)
    }

    fn lease(version: &str, holder: &str, seconds: i32) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some(version.to_owned());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        });
        lease
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn word(act: &Act) -> &'static str {
        match act {
            Act::Create(_) => "create",
            Act::Update(_) => "update",
            Act::Wait => "wait",
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_was_not_renewed_for_as_long_as_it_lasts() {
        let t = Instant::now();
        for (what, seen, after, expected) in [
            ("none", None, 0, "create"),
            ("released", Some(lease("1", "", 15)), 0, "update"),
            ("mine", Some(lease("1", "me", 15)), 0, "update"),
            ("another's, just seen", Some(lease("1", "you", 15)), 0, "wait"),
            ("another's, not yet over", Some(lease("1", "you", 15)), 14, "wait"),
            ("another's, over", Some(lease("1", "you", 15)), 15, "update"),
            ("another's that lasts longer", Some(lease("1", "you", 40)), 39, "wait"),
            ("another's that lasts for ever", Some(lease("1", "you", i32::MAX)), 60, "update"),
            ("another's that says nonsense", Some(lease("1", "you", -1)), 14, "wait"),
        ] {
            let mut candidate = Candidate::new("me".to_owned());
            candidate.see(seen.clone(), t);
            candidate.see(seen, t + secs(after));
            assert_eq!(word(&candidate.next(t + secs(after), stamp())), expected, "{what}");
        }
    }

    #[test]
    fn a_renewal_is_seen_by_the_version_whatever_the_clocks_say() {
        let t = Instant::now();
        let mut candidate = Candidate::new("me".to_owned());
        candidate.see(Some(lease("1", "you", 15)), t);
        candidate.see(Some(lease("2", "you", 15)), t + secs(14));
        assert_eq!(candidate.next(t + secs(20), stamp()), Act::Wait);
        assert_eq!(word(&candidate.next(t + secs(29), stamp())), "update");
    }

    #[test]
    fn a_write_is_over_the_version_that_was_seen() {
        let mut candidate = Candidate::new("me".to_owned());
        candidate.see(Some(lease("7", "", 15)), Instant::now());
        let Act::Update(lease) = candidate.next(Instant::now(), stamp()) else { panic!("it is free") };
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("7"));
        let spec = lease.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(1)));
    }

    #[test]
    fn a_holder_that_cannot_renew_stops_leading_before_another_may_begin() {
        let t = Instant::now();
        let (mut holder, mut other) = (Candidate::new("me".to_owned()), Candidate::new("you".to_owned()));
        holder.wrote(lease("1", "me", 15), t);
        // The earliest at which anybody can have seen it.
        other.see(Some(lease("1", "me", 15)), t);
        for second in 0..60 {
            let now = t + secs(second);
            let leads = holder.leads_until(now).is_some();
            let taken = other.next(now, stamp()) != Act::Wait;
            assert!(!(leads && taken), "both at {second} s");
            assert_eq!((leads, taken), (second < 10, second >= 15));
        }
    }

    #[test]
    fn what_is_released_is_free_at_once_and_only_by_its_holder() {
        let t = Instant::now();
        let mut holder = Candidate::new("me".to_owned());
        holder.wrote(lease("1", "me", 15), t);
        let released = holder.release(stamp()).unwrap();
        assert_eq!(released.metadata.resource_version.as_deref(), Some("1"));
        assert_eq!(holder.leads_until(t), None);
        let mut other = Candidate::new("you".to_owned());
        other.see(Some(released), t);
        assert_eq!(word(&other.next(t, stamp())), "update");
        let mut another = Candidate::new("you".to_owned());
        another.see(Some(lease("1", "me", 15)), t);
        assert_eq!(another.release(stamp()), None);
    }
}

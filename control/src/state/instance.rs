//! A running instance, of one or of several members.

use crate::usage::Fingerprint;
use crate::{Address, Generation, Member, Part, Proof};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// A running instance.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) generation: Generation,
    pub(crate) started: Instant,
    /// Ends all traffic to it, that of its members included.
    pub(crate) ended: CancellationToken,
    /// What it proves of its address by itself, where it has no members.
    pub(crate) proof: Arc<Proof>,
    /// Its members, where it has several.
    members: Vec<Known>,
}

/// A member that was told of.
#[derive(Debug, Clone)]
struct Known {
    member: Member,
    /// Ends its traffic.
    ended: CancellationToken,
    proof: Arc<Proof>,
}

impl Known {
    fn is(&self, member: &Member) -> bool {
        // One that has moved to another address is not the one that was dialled.
        self.member.generation == member.generation && self.member.address == member.address
    }
}

impl Instance {
    pub(super) fn new(generation: Generation, members: Vec<Member>, now: Instant) -> Self {
        let (ended, proof) = (CancellationToken::new(), Arc::default());
        let mut instance = Self { generation, started: now, ended, proof, members: Vec::new() };
        instance.see(members);
        instance
    }

    pub(super) fn is(&self, generation: Fingerprint) -> bool {
        self.generation.fingerprint() == generation
    }

    /// Whether it is made of members, none of which is the instance itself.
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Takes in which members there are; gives what ends the traffic to those that are gone.
    pub(super) fn see(&mut self, members: Vec<Member>) -> Vec<CancellationToken> {
        let mut before = std::mem::take(&mut self.members);
        for member in members {
            let known = before.iter().position(|known| known.is(&member)).map(|at| before.swap_remove(at));
            let (ended, proof) = match known {
                Some(known) => (known.ended, known.proof),
                None => (self.ended.child_token(), Arc::default()),
            };
            self.members.push(Known { member, ended, proof });
        }
        before.into_iter().map(|known| known.ended).collect()
    }

    /// Begins anew with the same members; gives what ends all traffic until now.
    pub(super) fn renew(&mut self) -> CancellationToken {
        let ended = std::mem::take(&mut self.ended);
        self.proof = Arc::default();
        for known in &mut self.members {
            known.ended = self.ended.child_token();
            known.proof = Arc::default();
        }
        ended
    }

    /// What ends the traffic to this address of it.
    pub(super) fn ends_at(&self, address: &Address) -> CancellationToken {
        let known = self.members.iter().find(|known| known.member.address == *address);
        known.map_or(&self.ended, |known| &known.ended).clone()
    }

    /// The members that take new traffic.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.members.iter().filter(|known| known.member.serves).map(|known| Part {
            generation: known.member.generation.clone(),
            address: known.member.address.clone(),
            ended: known.ended.clone(),
            proof: known.proof.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::reconcile;
    use crate::state::{Effect, Outcome, State};
    use crate::testing::{generation, id, idle, seen, settings, state};
    use crate::{Event, Observed, ObservedPhase, Phase, Route, Scope};

    fn address(n: u64) -> Address {
        Address::Tcp(([10, 0, 0, u8::try_from(n).unwrap()], 80).into())
    }

    fn member(n: u64, serves: bool) -> Member {
        Member { generation: generation(n), address: address(n), serves }
    }

    fn parts(instance: &Instance) -> Vec<Generation> {
        instance.parts().map(|part| part.generation).collect()
    }

    #[test]
    fn traffic_ends_with_its_member_and_with_the_whole() {
        let mut instance =
            Instance::new(generation(9), vec![member(1, true), member(2, true)], Instant::now());
        let (first, second) = (instance.ends_at(&address(1)), instance.ends_at(&address(2)));
        // One is not ready for a while, and another has come: nobody loses anything.
        assert!(instance.see(vec![member(3, true), member(2, false), member(1, true)]).is_empty());
        assert_eq!(parts(&instance), [generation(3), generation(1)]);
        for ended in instance.see(vec![member(2, true), member(3, true)]) {
            ended.cancel();
        }
        assert!(first.is_cancelled() && !second.is_cancelled());
        let moved = Member { address: address(7), ..member(2, true) };
        assert_eq!(instance.see(vec![moved, member(3, true)]).len(), 1, "another may be at its address");
        instance.renew().cancel();
        assert!(second.is_cancelled() && !instance.ends_at(&address(3)).is_cancelled());
        let third = instance.ends_at(&address(3));
        instance.ended.cancel();
        assert!(third.is_cancelled());
    }
    fn scope() -> Scope {
        Scope::Route(id("route:docs").route().unwrap().clone())
    }

    /// What is told of a route: its members, of which those serve that say so.
    fn told(members: &[(u64, bool)]) -> Event {
        let members: Vec<_> = members.iter().map(|(n, serves)| member(*n, *serves)).collect();
        let address = members.iter().find(|member| member.serves).map(|member| member.address.clone());
        let phase = ObservedPhase::started(generation(9), address);
        let Event::Seen(observed) = seen(&id("route:docs"), phase) else { unreachable!("it is one") };
        Event::Seen(Observed { members, scope: scope(), ..observed })
    }

    /// The route as it is published.
    fn published(state: &State) -> Option<Route> {
        match state.entry(&id("route:docs"))?.phase {
            Phase::Ready(route) => Some(route),
            _ => None,
        }
    }

    fn reach(state: &mut State, now: Instant) {
        let _effects = state.settle(now);
        state.conclude(Outcome::Reached { id: id("route:docs"), generation: generation(9) }, now);
        let _effects = state.settle(now);
    }

    #[test]
    fn members_come_and_go_and_only_the_traffic_of_who_is_gone_ends() {
        let now = Instant::now();
        let mut state = state(settings(8, 8, idle()), now);
        state.fold(told(&[]), now);
        let _effects = state.settle(now);
        assert!(published(&state).is_none(), "no pod runs yet");
        state.fold(told(&[(1, false)]), now);
        assert_eq!(reconcile(&state, now), [], "it runs and is not ready");
        state.fold(told(&[(1, true)]), now);
        reach(&mut state, now);
        let first = published(&state).unwrap();
        assert_eq!((first.parts.len(), first.parts[0].generation.clone()), (1, generation(1)));

        // An update: another joins, the first is not ready any more, then it is gone.
        state.fold(told(&[(1, true), (2, true)]), now);
        assert_eq!(published(&state).unwrap().parts.len(), 2);
        state.fold(told(&[(1, false), (2, true)]), now);
        let route = published(&state).unwrap();
        assert_eq!((route.parts.len(), route.parts[0].generation.clone()), (1, generation(2)));
        assert!(state.news.ended.is_empty(), "whoever has a socket keeps it");
        state.fold(told(&[(2, true)]), now);
        for ended in std::mem::take(&mut state.news.ended) {
            ended.cancel();
        }
        assert!(first.parts[0].ended.is_cancelled() && !route.parts[0].ended.is_cancelled());
        assert_eq!(published(&state).unwrap().generation, generation(9), "it is the same all the while");
    }

    #[test]
    fn a_route_that_is_out_of_sight_stays_as_it_was_and_says_so() {
        let now = Instant::now();
        let mut state = state(settings(8, 8, idle()), now);
        state.fold(told(&[(1, true)]), now);
        reach(&mut state, now);
        let open = published(&state).unwrap().parts[0].ended.clone();
        let seen = |state: &State| state.entry(&id("route:docs")).unwrap().seen;
        let other = Scope::Route(id("route:wiki").route().unwrap().clone());
        for (scope, sighted, shown) in [
            (scope(), false, false),
            (other.clone(), false, false),
            (Scope::default(), false, false),
            (scope(), true, true),
            (other, true, true),
        ] {
            state.fold(Event::Sighted(scope.clone(), sighted), now);
            state.fold(told(&[(1, true)]), now);
            let _effects = state.settle(now);
            assert_eq!(seen(&state), shown, "{scope:?} {sighted}");
            assert!(published(&state).unwrap().leads_to(&generation(1), &address(1)));
        }
        assert!(state.news.ended.is_empty() && !open.is_cancelled());
    }

    #[test]
    fn a_start_that_is_out_of_sight_is_not_asked_and_who_has_a_socket_keeps_it() {
        let now = Instant::now();
        let mut state = state(settings(8, 8, idle()), now);
        state.fold(told(&[(1, true)]), now);
        reach(&mut state, now);
        let open = published(&state).unwrap().parts[0].ended.clone();
        state.fold(told(&[(1, false)]), now);
        state.fold(told(&[(1, true)]), now);
        let (effects, _) = state.settle(now);
        let [Effect::Probe { ended: asked, .. }] = &*effects else { panic!("{effects:?}") };
        state.fold(Event::Sighted(scope(), false), now);
        for ended in std::mem::take(&mut state.news.ended) {
            ended.cancel();
        }
        assert!(asked.is_cancelled() && !open.is_cancelled());
        assert!(state.settle(now).0.is_empty());
        state.fold(Event::Sighted(scope(), true), now);
        let (effects, _) = state.settle(now);
        assert!(matches!(&*effects, [Effect::Probe { ended, .. }] if !ended.is_cancelled()), "{effects:?}");
    }

    #[test]
    fn while_no_member_serves_nobody_is_sent_there_and_who_is_there_stays() {
        let now = Instant::now();
        let mut state = state(settings(8, 8, idle()), now);
        state.fold(told(&[(1, true)]), now);
        reach(&mut state, now);
        let open = published(&state).unwrap().parts[0].ended.clone();
        state.fold(told(&[(1, false)]), now);
        let _effects = state.settle(now);
        assert!(published(&state).is_none());
        state.fold(told(&[(1, true)]), now);
        reach(&mut state, now);
        assert!(published(&state).is_some() && state.news.ended.is_empty() && !open.is_cancelled());
        let stopped = seen(&id("route:docs"), ObservedPhase::Stopped);
        state.fold(stopped, now);
        for ended in std::mem::take(&mut state.news.ended) {
            ended.cancel();
        }
        assert!(open.is_cancelled(), "it is scaled to 0");
    }
}

//! The way to a ready workspace, and for whom it leads where.

use crate::{Address, Generation, IdentityRef, Proof, Sight};
use config::Template;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The way to a ready workspace.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which instance; upstream connections are pooled under it.
    pub generation: Generation,
    /// Where.
    pub address: Address,
    /// The template that this instance was started from.
    pub template: Arc<Template>,
    /// Cancelled when this instance takes no more traffic: tunnels close with 4503.
    pub ended: CancellationToken,
    /// What this instance itself proves of its address.
    pub proof: Arc<Proof>,
    /// Until when what the table tells of it was surely true.
    pub sight: Sight,
    /// Its parts that take new traffic, where it has parts: then every person goes to one of them.
    pub parts: Arc<[Part]>,
}

/// One of several that many persons share.
#[derive(Debug, Clone)]
pub struct Part {
    /// Which; connections are pooled under it.
    pub generation: Generation,
    /// Where.
    pub address: Address,
    /// Cancelled when it takes no more traffic, the others as they may.
    pub ended: CancellationToken,
    /// What it itself proves of its address.
    pub proof: Arc<Proof>,
}

impl Route {
    /// Whether it leads to this instance, or to a part of that name that takes new traffic, at this address, whatever
    /// the port. One that has moved has left its address to others.
    pub fn leads_to(&self, generation: &Generation, address: &Address) -> bool {
        let leads = |there: &Generation, at: &Address| there == generation && at.is_on_host_of(address);
        if self.parts.is_empty() {
            return leads(&self.generation, &self.address);
        }
        self.parts.iter().any(|part| leads(&part.generation, &part.address))
    }

    /// Whether all that it leads to has proved lately that it has its address still.
    pub fn is_proved(&self, now: Instant) -> bool {
        match &*self.parts {
            [] => self.proof.holds(now),
            parts => parts.iter().all(|part| part.proof.holds(now)),
        }
    }

    /// The way for this person: to one part, as long as it takes traffic, whatever other parts come and go.
    ///
    /// What a person does in one tab and in the next often meets in the memory of one process. All Ushers of one
    /// version choose alike (rendezvous hashing: of all parts the one whose hash with the person is the highest), so a
    /// part that leaves moves its own persons and nobody else.
    #[must_use]
    pub fn towards(&self, person: IdentityRef<'_>) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let Some(part) = self.parts.iter().max_by_key(|part| hasher.hash_one((person, &part.generation)))
        else {
            return self.clone();
        };
        let Part { generation, address, ended, proof } = part.clone();
        let (template, sight) = (self.template.clone(), self.sight.clone());
        Self { generation, address, ended, proof, sight, template, parts: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use crate::testing::{generation, owner};
    use std::collections::BTreeMap;

    fn address(n: u64) -> Address {
        Address::Tcp(([10, 0, 0, u8::try_from(n).unwrap()], 80).into())
    }

    fn route(parts: impl IntoIterator<Item = u64>) -> Route {
        let part = |n| Part {
            generation: generation(n),
            address: address(n),
            ended: CancellationToken::new(),
            proof: Arc::default(),
        };
        Route {
            generation: generation(99),
            address: address(99),
            template: crate::testing::template("demo", crate::testing::idle()),
            ended: CancellationToken::new(),
            proof: Arc::default(),
            sight: Sight::default(),
            parts: parts.into_iter().map(part).collect(),
        }
    }

    fn person(n: u64) -> Identity {
        Identity { subject: n.to_string(), ..owner(&crate::testing::id("alice")) }
    }

    #[test]
    fn a_route_without_parts_is_the_same_for_all() {
        let route = route([]);
        assert_eq!(route.towards(person(1).as_ref()).generation, generation(99));
        assert!(
            route.leads_to(&generation(99), &address(99)) && !route.leads_to(&generation(1), &address(99))
        );
        let other_port = Address::Tcp(([10, 0, 0, 99], 9).into());
        assert!(
            route.leads_to(&generation(99), &other_port) && !route.leads_to(&generation(99), &address(1))
        );
    }

    #[test]
    fn a_person_stays_with_a_part_while_it_is_there_and_persons_are_spread() {
        let all = route(0..4);
        assert!(
            all.leads_to(&generation(3), &address(3))
                && !all.leads_to(&generation(3), &address(2))
                && !all.leads_to(&generation(4), &address(4))
                && !all.leads_to(&generation(99), &address(99))
        );
        let chosen: BTreeMap<u64, Generation> =
            (0..400).map(|n| (n, all.towards(person(n).as_ref()).generation)).collect();
        for part in 0..4 {
            let share = chosen.values().filter(|chosen| **chosen == generation(part)).count();
            assert!((50..150).contains(&share), "{part}: {share}");
        }
        // Another order, one more, and one less.
        for (others, stay) in [(vec![3, 1, 0, 2], None), (vec![0, 1, 2], Some(3))] {
            let route = route(others);
            for (n, before) in &chosen {
                if Some(before) != stay.map(generation).as_ref() {
                    assert_eq!(route.towards(person(*n).as_ref()).generation, *before, "{n}");
                }
            }
        }
        let joined = route(0..5);
        for (n, before) in &chosen {
            let after = joined.towards(person(*n).as_ref()).generation;
            assert!(after == *before || after == generation(4), "{n}");
        }
    }
}

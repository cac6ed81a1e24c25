use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;

/// Sources as their handshakes are counted: addresses, and /64 of some networks of IPv6.
struct Sources {
    own: Vec<Arc<AtomicUsize>>,
    networks: Vec<Arc<AtomicUsize>>,
}

const ADDRESSES: usize = 8;
const NETWORKS: usize = 3;
const ALL: usize = ADDRESSES + 8;

impl Sources {
    fn new() -> Self {
        let counters = |many| std::iter::repeat_with(Arc::default).take(many).collect();
        Self { own: counters(ALL), networks: counters(NETWORKS) }
    }

    fn weighed(&self, source: usize) -> Weighed {
        let network = network(source).map(|network| self.networks[network].clone());
        Weighed::new(self.own[source].clone(), network)
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.own.iter().chain(&self.networks).map(|counter| counter.load(Relaxed))
    }
}

/// Of which network of IPv6 a source is.
fn network(source: usize) -> Option<usize> {
    source.checked_sub(ADDRESSES).map(|number| number % NETWORKS)
}

fn are_beside(one: usize, other: usize) -> bool {
    network(one).is_some_and(|it| network(other) == Some(it))
}

fn is_ended(under_way: &UnderWay) -> bool {
    under_way.ended().now_or_never().is_some()
}

/// What is under way as somebody sees it who counts by hand; the oldest first.
#[derive(Default)]
struct Model(Vec<(usize, UnderWay)>);

impl Model {
    fn of_own(&self, source: usize) -> usize {
        self.0.iter().filter(|(other, _)| *other == source).count()
    }

    fn of_group(&self, source: usize) -> usize {
        self.0.iter().filter(|(other, _)| *other == source || are_beside(*other, source)).count()
    }

    /// Whether this one may end for one of this source, and is the right one.
    fn may_end(&self, at: usize, source: usize) -> bool {
        let gone = self.0[at].0;
        let is_oldest = self.0[..at].iter().all(|(other, _)| *other != gone);
        let most = self.0.iter().map(|(other, _)| self.of_group(*other)).max();
        let has_more = match are_beside(gone, source) {
            true => self.of_own(gone) > self.of_own(source),
            false => self.of_group(gone) > self.of_group(source) && Some(self.of_group(gone)) == most,
        };
        is_oldest && has_more
    }

    /// Whether one of this source has to be turned away.
    fn is_turned_away(&self, source: usize, share: usize, why: &NoPlace) -> bool {
        let mut others = self.0.iter().map(|(other, _)| *other);
        let own = self.of_own(source);
        let has_more_beside = others.clone().any(|it| are_beside(it, source) && self.of_own(it) > own);
        let has_more = others.any(|it| self.of_group(it) > self.of_group(source));
        let is_of_share = *why == NoPlace::OfShare;
        !has_more_beside && is_of_share == (self.of_group(source) >= share) && (is_of_share || !has_more)
    }

    /// What [`Places::take`] has done is what it promises.
    fn follow(&mut self, source: usize, (many, share): (usize, usize), taken: Result<UnderWay, NoPlace>) {
        let ended: Vec<usize> = (0..self.0.len()).filter(|at| is_ended(&self.0[*at].1)).collect();
        match taken {
            Ok(under_way) => {
                let is_needed = self.0.len() == many || self.of_group(source) >= share;
                assert_eq!(ended.len(), usize::from(is_needed), "for {source}");
                assert!(ended.iter().all(|at| self.may_end(*at, source)), "{ended:?} for {source}");
                ended.into_iter().for_each(|at| drop(self.0.remove(at)));
                self.0.push((source, under_way));
            }
            Err(why) => {
                assert!(ended.is_empty() && self.is_turned_away(source, share, &why), "{source}: {why:?}");
            }
        }
        assert!(self.0.len() <= many && self.of_group(source) <= share);
    }
}

proptest! {
    #[test]
    fn nobody_ends_for_somebody_who_has_more_and_there_are_never_too_many(
        many in 1..40_usize,
        share in 1..40_usize,
        steps in prop::collection::vec((0..ALL, 0..4_usize, any::<prop::sample::Index>()), 1..400),
    ) {
        let (sources, places) = (Sources::new(), Arc::new(Places::new(many)));
        let mut model = Model::default();
        for (source, kind, which) in steps {
            if kind == 0 && !model.0.is_empty() {
                drop(model.0.remove(which.index(model.0.len())));
                continue;
            }
            // Some come often.
            let source = if kind == 1 { ADDRESSES + source % 4 } else { source };
            model.follow(source, (many, share), places.take(Some(sources.weighed(source)), share));
            prop_assert!((0..ALL).all(|source| sources.own[source].load(Relaxed) == model.of_own(source)));
        }
        drop(model);
        prop_assert!(sources.all().all(|count| count == 0));
        prop_assert!(places.places.iter().all(|place| place.load().is_none()));
    }
}

#[test]
fn of_more_places_than_are_looked_at_one_of_whoever_has_most_is_found() {
    let (sources, places) = (Sources::new(), Arc::new(Places::new(16 * LOOKED_AT)));
    let take = |source: usize| places.take(Some(sources.weighed(source)), usize::MAX);
    let lonely = take(0).unwrap();
    // Of the last free ones, some are not found by who looks at a part of all.
    let silent: Vec<_> = (0..32 * LOOKED_AT).filter_map(|_| take(1).ok()).collect();
    assert!(silent.len() > 15 * LOOKED_AT, "{}", silent.len());
    let newcomers: Vec<_> = (2..ALL).map(|source| take(source).unwrap()).collect();
    assert!(!is_ended(&lonely) && newcomers.iter().all(|newcomer| !is_ended(newcomer)));
}

#[test]
fn cores_that_take_places_at_the_same_moment_leave_none_taken() {
    let (sources, places) = (Sources::new(), Arc::new(Places::new(16)));
    let core = |core: usize| {
        for round in 0..20_000 {
            let source = (core * 5 + round % 7) % ALL;
            drop([0; 3].map(|_| places.take(Some(sources.weighed(source)), 12)));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|number| drop(scope.spawn(move || core(number)))));
    assert!(sources.all().all(|count| count == 0));
    assert!(places.places.iter().all(|place| place.load().is_none()));
}

#[test]
fn what_comes_for_many_is_never_ended() {
    let (sources, places) = (Sources::new(), Arc::new(Places::new(2)));
    let for_many = [places.take(None, 2).unwrap(), places.take(None, 2).unwrap()];
    assert_eq!(places.take(Some(sources.weighed(0)), 2).err(), Some(NoPlace::AtAll));
    drop(for_many);
    let one = places.take(Some(sources.weighed(0)), 2).unwrap();
    let both = [places.take(None, 2).unwrap(), places.take(None, 2).unwrap()];
    assert!(is_ended(&one) && places.take(None, 2).is_err());
    drop(both);
}

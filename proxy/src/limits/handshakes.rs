//! TLS handshakes: how many an address may begin, and how many may be under way.

mod places;

pub use places::UnderWay;

use super::source::Source;
use super::{ADDRESSES_MAX, IDLE, Meter, cache, count};
use crate::metrics::Limit;
use arc_swap::ArcSwap;
use moka::sync::Cache;
use places::{NoPlace, Places, Weighed};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The part of all handshakes under way that one address may have, or one /48 of IPv6: the first burst of a single one
/// that never answers must not have others ended.
const SHARE: usize = 4;

/// What handshakes are counted in.
pub(super) struct Handshakes {
    cells: Cache<Source, Arc<Cell>>,
    places: ArcSwap<Places>,
}

/// Those of one address, or of one network. Of a /48 only what is under way is counted: many may live there.
struct Cell {
    begun: Meter,
    under_way: Arc<AtomicUsize>,
}

impl Handshakes {
    /// Begins one, unless too many are begun or under way. Without a client it is for many.
    ///
    /// Where all places are taken it gets that of another, if somebody has more than this client: see [`Places`].
    pub(super) fn begin(&self, limits: &config::Limits, client: Option<IpAddr>) -> Result<UnderWay, Limit> {
        let source = client.map(Source::of);
        let weighed = source.map(|source| {
            let own = self.cell(limits.handshakes_per_address, source);
            own.begun.take(1).map_err(|_| Limit::HandshakesPerAddress)?;
            let network = source.network().map(|network| self.cell(limits.handshakes_per_address, network));
            Ok(Weighed::new(own.under_way.clone(), network.map(|network| network.under_way.clone())))
        });
        let places = self.places(limits.handshakes);
        let share = limits.handshakes.div_ceil(SHARE);
        places.take(weighed.transpose()?, share).map_err(|none| match none {
            NoPlace::OfShare => Limit::HandshakesPerAddress,
            NoPlace::AtAll => Limit::Handshakes,
        })
    }

    /// So many places. Where the configuration says another number by now, those of before are left to who has them.
    fn places(&self, many: usize) -> Arc<Places> {
        let places = self.places.load();
        if places.len() == many {
            return places.clone();
        }
        let places = Arc::new(Places::new(many));
        self.places.store(places.clone());
        places
    }

    fn cell(&self, rate: u32, source: Source) -> Arc<Cell> {
        let new = || Arc::new(Cell { begun: Meter::per_minute(rate), under_way: Arc::default() });
        let cell = self.cells.get_with(source, new);
        if cell.begun.rate() == rate {
            return cell;
        }
        // The configuration is another one by now.
        let cell = new();
        self.cells.insert(source, cell.clone());
        cell
    }

    /// How many addresses are counted.
    pub(super) fn entries(&self) -> u64 {
        count(&self.cells)
    }
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { cells: cache(ADDRESSES_MAX, IDLE), places: ArcSwap::from_pointee(Places::new(0)) }
    }
}

//! TLS handshakes: how many an address may begin, and how many may be under way.

use super::source::Source;
use super::{ADDRESSES_MAX, IDLE, Meter, cache, count};
use crate::metrics::Limit;
use moka::sync::Cache;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The part of all handshakes under way that one address may have: the first burst of a single one that never answers
/// must not keep all others out.
const SHARE: usize = 4;

/// What handshakes are counted in.
pub(super) struct Handshakes {
    cells: Cache<Source, Arc<Cell>>,
    under_way: Arc<AtomicUsize>,
}

/// Those of one address.
struct Cell {
    begun: Meter,
    under_way: AtomicUsize,
}

/// A handshake that is under way as long as this lives.
pub struct UnderWay {
    all: Arc<AtomicUsize>,
    cell: Option<Arc<Cell>>,
}

impl Handshakes {
    /// Begins one, unless too many are begun or under way. Without a client it is for many.
    pub(super) fn begin(&self, limits: &config::Limits, client: Option<IpAddr>) -> Result<UnderWay, Limit> {
        let cell = client.map(|client| self.cell(limits.handshakes_per_address, Source::of(client)));
        let begun = cell.as_ref().is_none_or(|cell| cell.begun.take(1).is_ok());
        // Taken first and looked at then: two that begin at once may both be turned away, and never are both let in.
        let all = self.under_way.fetch_add(1, Relaxed);
        let of_cell = cell.as_ref().map_or(0, |cell| cell.under_way.fetch_add(1, Relaxed));
        let under_way = UnderWay { all: self.under_way.clone(), cell };
        if !begun || of_cell >= limits.handshakes.div_ceil(SHARE) {
            Err(Limit::HandshakesPerAddress)
        } else if all >= limits.handshakes {
            Err(Limit::Handshakes)
        } else {
            Ok(under_way)
        }
    }

    fn cell(&self, rate: u32, source: Source) -> Arc<Cell> {
        let new = || Arc::new(Cell { begun: Meter::per_minute(rate), under_way: AtomicUsize::new(0) });
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
        Self { cells: cache(ADDRESSES_MAX, IDLE), under_way: Arc::default() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
        if let Some(cell) = &self.cell {
            cell.under_way.fetch_sub(1, Relaxed);
        }
    }
}

//! Chance that can be repeated: one number from which a run draws all that its tests leave open.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// What a test leaves to chance, drawn from `USHER_SEED` or, without it, from a number of this run's own.
///
/// Says which it is, so that whoever sees a test fail can repeat it.
pub fn chance() -> fastrand::Rng {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| match std::env::var("USHER_SEED") {
        Ok(seed) => seed.parse().expect("USHER_SEED is a number"),
        Err(_) => RandomState::new().hash_one(std::process::id()),
    });
    eprintln!("seed {seed}; USHER_SEED={seed} repeats this run");
    fastrand::Rng::with_seed(seed)
}

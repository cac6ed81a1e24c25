//! The ring as it is written down, in a file or in a record: JSON.

use super::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A key of the ring as it is kept.
pub(super) struct ListedKey {
    pub(super) secret: [u8; SECRET_LEN],
    /// When it begins to seal.
    pub(super) since: SystemTime,
}

pub(super) const SECRET_LEN: usize = 32;
/// Far more than a ring of any sense needs; a larger text is not ours.
pub(super) const TEXT_MAX: usize = 64 * 1024;
/// Some thirty thousand years on: later times are no times, and would overflow when a day is added.
const SINCE_MAX: u64 = 1 << 40;

#[derive(Serialize, Deserialize)]
struct Ring {
    /// Newest first.
    keys: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// 32 bytes, URL-safe base64 without padding.
    secret: String,
    /// Seconds since 1970.
    since: u64,
}

/// The keys of a text, newest first and at least one.
///
/// # Errors
/// What is wrong with it; never a part of the content.
pub(super) fn parse(text: &[u8]) -> Result<Vec<ListedKey>, &'static str> {
    if text.len() > TEXT_MAX {
        return Err("it is too long");
    }
    let ring: Ring = serde_json::from_slice(text).map_err(|_| "it does not parse")?;
    if ring.keys.is_empty() {
        return Err("it lists no key");
    }
    if !ring.keys.is_sorted_by(|newer, older| newer.since >= older.since) {
        return Err("its keys are not in order, newest first");
    }
    let listed = ring.keys.iter().map(|kept| {
        let secret = URL_SAFE_NO_PAD.decode(&kept.secret).ok()?.try_into().ok()?;
        (kept.since < SINCE_MAX)
            .then(|| ListedKey { secret, since: UNIX_EPOCH + Duration::from_secs(kept.since) })
    });
    listed.collect::<Option<_>>().ok_or("one of its keys is not 32 bytes of base64 with a time")
}

/// The text of a ring of one key that nobody else has, which seals from now on.
pub(super) fn fresh(now: SystemTime) -> Vec<u8> {
    let secret = URL_SAFE_NO_PAD.encode(random::<SECRET_LEN>());
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    serde_json::to_vec_pretty(&Ring { keys: vec![Kept { secret, since }] })
        .expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_ring_is_refused_and_nothing_of_it_is_told() {
        let key = |secret: &str, since: u64| format!(r#"{{"secret":"{secret}","since":{since}}}"#);
        let good = URL_SAFE_NO_PAD.encode([1; SECRET_LEN]);
        let ring = |keys: &str| format!(r#"{{"keys":[{keys}]}}"#);
        for (text, reason) in [
            (String::new(), "it does not parse"),
            (ring(""), "it lists no key"),
            (ring(&key("c2hvcnQ", 1)), "one of its keys is not 32 bytes of base64 with a time"),
            (ring(&key(&good, 1 << 40)), "one of its keys is not 32 bytes of base64 with a time"),
            (
                ring(&format!("{},{}", key(&good, 1), key(&good, 2))),
                "its keys are not in order, newest first",
            ),
            (ring(&format!("{}{}", key(&good, 1), " ".repeat(TEXT_MAX))), "it is too long"),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), Some(reason));
        }
    }

    #[test]
    fn no_two_fresh_rings_are_the_same() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (one, other) = (parse(&fresh(now)).unwrap(), parse(&fresh(now)).unwrap());
        assert_eq!((one.len(), one[0].since), (1, now));
        assert_ne!(one[0].secret, other[0].secret);
    }
}

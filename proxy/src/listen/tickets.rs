//! Session tickets (RFC 5077, RFC 8446 §4.6.1): what a client comes again with, so that its next handshake is short.
//!
//! The state of a session travels sealed with the client, and nothing of it is kept here. The ring that seals is the
//! same at every replica and after a restart, so a client resumes at any of them.

use crate::keys::{Keys, Purpose};
use rustls::server::ProducesTickets;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a client may keep a ticket; also how long one derived key seals.
///
/// Who leaves in the evening begins anew in the morning, and over a day's work nobody does. A key seals for as long and
/// then opens for as long again, so a ticket is good for 12 to 24 hours by whichever moment it was made at.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Seals tickets with the ring of keys.
#[derive(Debug)]
pub(super) struct Tickets(Keys);

/// The number of a time of [`LIFETIME`]; a key is derived for each.
type Period = u32;

impl Tickets {
    pub(super) fn new(keys: Keys) -> Self {
        Self(keys)
    }

    fn seal(&self, state: &[u8], now: SystemTime) -> Vec<u8> {
        let period = period(now);
        let sealed = self.0.seal_bytes(Purpose::TlsTicket, &period.to_string(), state);
        [&period.to_be_bytes()[..], &sealed].concat()
    }

    /// What a ticket holds; none where it is not ours, or too old. The client gets a full handshake then.
    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (sealed_in, sealed) = ticket.split_first_chunk()?;
        let sealed_in = Period::from_be_bytes(*sealed_in);
        // The clock of another replica may be in the next one already.
        if sealed_in.abs_diff(period(now)) > 1 {
            return None;
        }
        self.0.open_bytes(Purpose::TlsTicket, &sealed_in.to_string(), sealed.to_vec()).ok()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        Some(self.seal(plain, SystemTime::now()))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, SystemTime::now())
    }
}

fn period(now: SystemTime) -> Period {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Period::try_from(since.as_secs() / LIFETIME.as_secs()).unwrap_or(Period::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [u8; 32] = [1; 32];
    const SECOND: [u8; 32] = [2; 32];

    #[test]
    fn a_ticket_is_good_at_every_replica_for_its_lifetime_and_not_for_two() {
        let (here, there) = (Keys::of_secrets(&[(FIRST, None)]), Keys::of_secrets(&[(FIRST, None)]));
        let now = UNIX_EPOCH + LIFETIME * 40_000 + Duration::from_secs(1);
        let ticket = Tickets::new(here).seal(b"state", now);
        let there = Tickets::new(there);
        let after = |age: Duration| there.open(&ticket, now + age);
        assert_eq!(after(Duration::ZERO), Some(b"state".to_vec()));
        assert_eq!(after(LIFETIME), Some(b"state".to_vec()));
        assert_eq!(after(LIFETIME * 2), None);
        // A replica whose clock is behind.
        assert_eq!(there.open(&ticket, now - Duration::from_secs(60)), Some(b"state".to_vec()));
        assert_eq!(there.open(&ticket, now - LIFETIME * 2), None);
    }

    #[test]
    fn tickets_follow_the_ring() {
        let now = SystemTime::now();
        let keys = Keys::of_secrets(&[(FIRST, None)]);
        let tickets = Tickets::new(keys.clone());
        let old = tickets.seal(b"state", now);
        keys.take_that_of(&Keys::of_secrets(&[(SECOND, None), (FIRST, Some(now + LIFETIME))]));
        assert_eq!(tickets.open(&old, now), Some(b"state".to_vec()), "the key before still opens");
        let fresh = tickets.seal(b"state", now);
        keys.take_that_of(&Keys::of_secrets(&[(SECOND, None)]));
        assert_eq!(tickets.open(&old, now), None, "its key is gone");
        assert_eq!(tickets.open(&fresh, now), Some(b"state".to_vec()));
    }

    #[test]
    fn what_is_no_ticket_is_none() {
        let tickets = Tickets::new(Keys::of_secrets(&[(FIRST, None)]));
        let now = SystemTime::now();
        let ticket = tickets.seal(b"state", now);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.open(&changed, now), None, "byte {at}");
            assert_eq!(tickets.open(&ticket[..at], now), None, "cut at {at}");
        }
        assert_eq!(tickets.open(&[0xff; 4096], now), None);
    }
}

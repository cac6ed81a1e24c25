//! A one-time ticket: what the portal says to a workspace's host, through the browser.

use super::Attempt;
use crate::keys::{Keys, NotOurs, Purpose, random};
use config::HostName;
use control::SessionId;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a ticket may be on its way: some redirects, no person in between.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// What a ticket says. Sealed for one host, it opens there alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Which ticket; redeemed once.
    pub id: [u8; ID_LEN],
    /// The session that it hands on.
    pub session: SessionId,
    /// The try whose cookie the browser must hold.
    pub attempt: Attempt,
    /// When it is worth nothing any more, in whole milliseconds.
    pub expires: SystemTime,
    /// Whether this hand-off has been begun anew once already.
    pub again: bool,
    /// Path and query to go to.
    pub page: String,
}

const ID_LEN: usize = 16;

impl Ticket {
    /// A fresh ticket.
    pub fn new(session: SessionId, attempt: Attempt, page: String, again: bool, now: SystemTime) -> Self {
        Self { id: random(), session, attempt, expires: now + LIFETIME, again, page }
    }

    /// Seals it for a host.
    pub fn seal(&self, keys: &Keys, host: &HostName) -> String {
        let expires = self.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut bytes = Vec::with_capacity(128 + self.page.len());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.session.0);
        bytes.extend_from_slice(&self.attempt.to_bytes());
        bytes.extend_from_slice(&u64::try_from(expires).unwrap_or(0).to_be_bytes());
        bytes.push(u8::from(self.again));
        bytes.extend_from_slice(self.page.as_bytes());
        keys.seal(Purpose::Ticket, host.as_str(), &bytes)
    }

    /// Opens a ticket that was sealed for this host, expired or not.
    ///
    /// # Errors
    /// It was not.
    pub fn open(keys: &Keys, host: &HostName, sealed: &[u8]) -> Result<Self, NotOurs> {
        Self::read(&keys.open(Purpose::Ticket, host.as_str(), sealed)?).ok_or(NotOurs)
    }

    /// How long it may still be redeemed.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.expires.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (again, page) = rest.split_first()?;
        Some(Self {
            id: *id,
            session: SessionId(*session),
            attempt: Attempt::from_bytes(attempt)?,
            expires: UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_be_bytes(*expires)))?,
            again: *again != 0,
            page: String::from_utf8(page.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use http::HeaderMap;

    fn ticket() -> Ticket {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let (attempt, _) = Attempt::begin(Kind::Enter, &HeaderMap::new(), now);
        Ticket::new(SessionId([7; 16]), attempt, "/lab?x=1".to_owned(), true, now)
    }

    #[test]
    fn a_ticket_opens_on_its_host_as_it_was_sealed_and_on_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open_dir(folder.path()).unwrap();
        let host = |name| HostName::parse(name).unwrap();
        let ticket = ticket();
        let sealed = ticket.seal(&keys, &host("alice.lab.localhost"));
        let open = |name| Ticket::open(&keys, &host(name), sealed.as_bytes());
        assert_eq!(open("alice.lab.localhost"), Ok(ticket));
        for other in ["bob.lab.localhost", "gpu--alice.lab.localhost", "8888--alice.lab.localhost"] {
            assert_eq!(open(other), Err(NotOurs), "{other}");
        }
    }

    #[test]
    fn a_ticket_lives_for_thirty_seconds() {
        let ticket = ticket();
        let left = |millis: u64| ticket.left(UNIX_EPOCH + Duration::from_millis(1_000_000 + millis));
        assert_eq!(left(0), Some(LIFETIME));
        assert_eq!(left(29_999), Some(Duration::from_millis(1)));
        assert_eq!(left(30_000), None);
        assert_eq!(left(90_000), None);
    }
}

//! The session's cookie, on the portal and on each workspace's host: sealed, and worth nothing on another host.

use crate::access::route::Place;
use crate::cookies::{self, Found};
use crate::keys::{Keys, Purpose};
use config::HostName;
use control::SessionId;
use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a validly sealed cookie says; whether the session lives is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// The session.
    pub id: SessionId,
    /// When the cookie was made, in whole milliseconds.
    pub issued: SystemTime,
}

impl Presented {
    /// Whether the cookie was made less than `limit` ago. Clocks of replicas differ: one that was made
    /// so little in the future is as young.
    pub fn younger_than(&self, limit: Duration, now: SystemTime) -> bool {
        let apart = now.duration_since(self.issued).or_else(|_| self.issued.duration_since(now));
        apart.is_ok_and(|apart| apart < limit)
    }
}

/// The cookie for a session, for this host alone. It has no age: the session's own limits end it, and the
/// browser's end does.
pub fn issue(keys: &Keys, place: &Place, host: &HostName, id: SessionId, now: SystemTime) -> HeaderValue {
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut value = [0; LEN];
    value[..ID_LEN].copy_from_slice(&id.0);
    value[ID_LEN..].copy_from_slice(&u64::try_from(issued).unwrap_or(0).to_be_bytes());
    let (name, purpose) = kind(place);
    cookies::set(name, &keys.seal(purpose, host.as_str(), &value), None)
}

/// The cookie of this place, as it came.
pub fn find<'a>(place: &Place, headers: &'a HeaderMap) -> Found<'a> {
    cookies::find(headers, kind(place).0)
}

/// What a cookie says, if it was sealed for this place and host.
pub fn open(keys: &Keys, place: &Place, host: &HostName, sealed: &[u8]) -> Option<Presented> {
    // Longer than any of ours: not worth the decoding.
    if sealed.len() > SEALED_MAX {
        return None;
    }
    let value: [u8; LEN] = keys.open(kind(place).1, host.as_str(), sealed).ok()?.try_into().ok()?;
    let (id, issued) = value.split_first_chunk()?;
    let issued = Duration::from_millis(u64::from_be_bytes(issued.try_into().ok()?));
    Some(Presented { id: SessionId(*id), issued: UNIX_EPOCH.checked_add(issued)? })
}

/// What takes the cookie away.
pub fn clear(place: &Place) -> HeaderValue {
    cookies::clear(kind(place).0)
}

const ID_LEN: usize = 16;
/// The session's id, and milliseconds since 1970.
const LEN: usize = ID_LEN + 8;
const SEALED_MAX: usize = 256;

fn kind(place: &Place) -> (&'static str, Purpose) {
    match place {
        Place::Portal => (cookies::PORTAL, Purpose::PortalSession),
        Place::Workspace { .. } => (cookies::WORKSPACE, Purpose::WorkspaceSession),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::WorkspaceId;
    use http::header::COOKIE;

    const ID: SessionId = SessionId([9; 16]);

    fn keys() -> Keys {
        Keys::open_dir(tempfile::tempdir().unwrap().path()).unwrap()
    }
    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }
    fn workspace() -> Place {
        Place::Workspace { id: WorkspaceId::parse("alice").unwrap(), port: None }
    }
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_800_000_000_123)
    }
    fn presented(keys: &Keys, place: &Place, host: &HostName, headers: &HeaderMap) -> Option<Presented> {
        let Found::One(sealed) = find(place, headers) else { return None };
        open(keys, place, host, sealed)
    }
    fn sent(pairs: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(pairs).unwrap())])
    }
    fn pair(set: &HeaderValue) -> String {
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    #[test]
    fn the_cookie_is_host_bound_secure_hidden_from_scripts_and_small() {
        for (place, name) in [(Place::Portal, "__Host-usher="), (workspace(), "__Host-usher-ws=")] {
            let set = issue(&keys(), &place, &host("alice.lab.localhost"), ID, now());
            let text = set.to_str().unwrap();
            assert!(text.starts_with(name), "{text}");
            let attributes: Vec<_> = text.split(';').skip(1).map(str::trim).collect();
            for wanted in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
                assert!(attributes.contains(&wanted), "{wanted} in {text}");
            }
            assert_eq!(attributes.len(), 4, "{text}");
            assert!(text.len() < 256, "{} bytes", text.len());
        }
    }

    #[test]
    fn a_cookie_is_read_on_its_own_host_and_is_worth_nothing_on_another() {
        let (keys, alice) = (keys(), host("alice.lab.localhost"));
        let headers = sent(&format!("app=1; {}", pair(&issue(&keys, &workspace(), &alice, ID, now()))));
        let read = |place: &Place, host: &HostName| presented(&keys, place, host, &headers);
        assert_eq!(read(&workspace(), &alice), Some(Presented { id: ID, issued: now() }));
        assert_eq!(read(&workspace(), &host("bob.lab.localhost")), None);
        assert_eq!(read(&workspace(), &host("8888--alice.lab.localhost")), None);
        assert_eq!(read(&Place::Portal, &alice), None);
        let renamed = pair(&issue(&keys, &workspace(), &alice, ID, now())).replace("usher-ws", "usher");
        assert_eq!(presented(&keys, &Place::Portal, &alice, &sent(&renamed)), None);
    }

    #[test]
    fn two_cookies_of_one_name_count_as_none() {
        let (keys, portal) = (keys(), host("lab.localhost"));
        let one = pair(&issue(&keys, &Place::Portal, &portal, ID, now()));
        assert!(presented(&keys, &Place::Portal, &portal, &sent(&one)).is_some());
        assert_eq!(presented(&keys, &Place::Portal, &portal, &sent(&format!("{one}; {one}"))), None);
        assert_eq!(presented(&keys, &Place::Portal, &portal, &sent(&format!("{one}; __Host-usher=x"))), None);
    }

    #[test]
    fn a_cookie_is_young_for_its_first_seconds_also_by_a_clock_that_lags() {
        let cookie = Presented { id: ID, issued: now() };
        let limit = Duration::from_secs(10);
        for (seconds, young) in [(0, true), (9, true), (10, false), (3600, false)] {
            let apart = Duration::from_secs(seconds);
            assert_eq!(cookie.younger_than(limit, now() + apart), young, "{seconds} s later");
            assert_eq!(cookie.younger_than(limit, now() - apart), young, "{seconds} s before");
        }
    }
}

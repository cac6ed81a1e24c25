//! One try at a login or at a hand-off, remembered by a cookie of its own name.
//!
//! Its own, because tabs log in side by side: under one shared name nine of ten parallel tabs fail.

use crate::cookies::{self, Found};
use crate::keys::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use ring::digest::{SHA256, digest};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A login, on the portal.
    Login,
    /// A hand-off, on a workspace's host.
    Enter,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Login => cookies::LOGIN_PREFIX,
            Self::Enter => cookies::ENTER_PREFIX,
        }
    }
}

/// A try as everybody may know it: its name, and the hash of the secret that its cookie holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    name: [u8; NAME_LEN],
    proof: [u8; PROOF_LEN],
}

/// How many tries of a kind a browser's jar keeps; the oldest leave first.
const KEPT: usize = 16;
/// How many cookies one answer clears at most: each costs a header field.
const CLEARED: usize = 32;

const NAME_LEN: usize = 6;
const PROOF_LEN: usize = 32;

impl Attempt {
    /// How long a try may take.
    pub const LIFETIME: Duration = Duration::from_secs(600);
    /// How many bytes [`Attempt::to_bytes`] gives.
    pub(crate) const LEN: usize = NAME_LEN + PROOF_LEN;

    /// Begins a try; the cookies to set with it: its own, and what removes the oldest beyond 16.
    pub fn begin(kind: Kind, headers: &HeaderMap, now: SystemTime) -> (Self, Vec<HeaderValue>) {
        let name: [u8; NAME_LEN] = random();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let value = format!("{seconds}.{}", URL_SAFE_NO_PAD.encode(random::<16>()));
        let attempt = Self { name, proof: proof(value.as_bytes()) };
        let mut set = vec![cookies::set(&attempt.cookie(kind), &value, Some(Self::LIFETIME))];
        set.extend(beyond(KEPT - 1, kind, headers).iter().take(CLEARED).map(|name| cookies::clear(name)));
        (attempt, set)
    }

    /// Whether the browser that sends these headers began this try.
    pub fn is_of(&self, kind: Kind, headers: &HeaderMap) -> bool {
        let Found::One(value) = cookies::find(headers, &self.cookie(kind)) else { return false };
        // Not in constant time: the proof is no secret, and what is compared with it is a hash.
        proof(value) == self.proof
    }

    /// The cookie that ends this try.
    pub fn end(&self, kind: Kind) -> HeaderValue {
        cookies::clear(&self.cookie(kind))
    }

    /// Its name, which stands in its cookies' names.
    pub fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.name)
    }

    /// Whether the browser keeps the fragment of the address that this try leads back to, as the script of its page
    /// says in a cookie; what removes that cookie.
    pub fn kept_fragment(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let name = format!("{}{}", cookies::FRAGMENT_PREFIX, self.name());
        matches!(cookies::find(headers, &name), Found::One(_)).then(|| cookies::clear(&name))
    }

    /// The try as it stands in an address.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.to_bytes())
    }
    /// Reads what [`Attempt::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..NAME_LEN].copy_from_slice(&self.name);
        bytes[NAME_LEN..].copy_from_slice(&self.proof);
        bytes
    }
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (name, proof) = bytes.split_first_chunk()?;
        Some(Self { name: *name, proof: proof.try_into().ok()? })
    }

    fn cookie(&self, kind: Kind) -> String {
        format!("{}{}", kind.prefix(), self.name())
    }
}

/// Nobody who sees only the proof (it stands in addresses) can make the cookie.
fn proof(value: &[u8]) -> [u8; PROOF_LEN] {
    digest(&SHA256, value).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The cookies of a browser's tries of this kind but for the newest `kept`, oldest first. The time in a value is
/// only believed for this order: its browser may write there what it likes.
fn beyond(kept: usize, kind: Kind, headers: &HeaderMap) -> Vec<String> {
    let began = |value: &[u8]| -> u64 {
        let seconds = value.split(|byte| *byte == b'.').next();
        seconds.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0)
    };
    let mut tries: Vec<(u64, &str)> = cookies::find_all(headers, kind.prefix())
        .filter_map(|(name, value)| Some((began(value), std::str::from_utf8(name).ok()?)))
        // A name that is none of ours is no name that we may set; the browser ages it out.
        .filter(|(_, name)| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
        .collect();
    tries.sort_unstable();
    let surplus = tries.len().saturating_sub(kept);
    tries.iter().take(surplus).map(|(_, name)| format!("{}{name}", kind.prefix())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::COOKIE;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// What a browser sends back of what was set.
    fn jar(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(pair).unwrap())])
    }

    #[test]
    fn a_try_belongs_to_the_browser_that_holds_its_cookie_and_to_no_other() {
        let (mine, set) = Attempt::begin(Kind::Enter, &HeaderMap::new(), at(100));
        let (other, other_set) = Attempt::begin(Kind::Enter, &HeaderMap::new(), at(100));
        assert!(mine.is_of(Kind::Enter, &jar(&set[0])));
        assert!(!mine.is_of(Kind::Login, &jar(&set[0])));
        assert!(!mine.is_of(Kind::Enter, &HeaderMap::new()));
        assert!(!mine.is_of(Kind::Enter, &jar(&other_set[0])));
        let forged = Attempt { name: mine.name, proof: other.proof };
        assert!(!forged.is_of(Kind::Enter, &jar(&set[0])));
        let mut twice = jar(&set[0]);
        twice.append(COOKIE, twice[COOKIE].clone());
        assert!(!mine.is_of(Kind::Enter, &twice), "two cookies of one name count as none");
    }

    #[test]
    fn a_try_reads_as_it_was_written_and_nothing_else_reads() {
        let (attempt, _) = Attempt::begin(Kind::Login, &HeaderMap::new(), at(0));
        assert_eq!(Attempt::parse(&attempt.to_text()), Some(attempt));
        for bad in ["", "AAAA", "=", &format!("{}A", attempt.to_text()), "\u{e9}"] {
            assert_eq!(Attempt::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_jar_keeps_sixteen_tries_of_a_kind_and_the_oldest_leave() {
        let held: Vec<String> = (0..20).map(|n| format!("__Host-usher-enter-t{n}={}.x", 1000 + n)).collect();
        let line = format!("app=1; {}; __Host-usher-login-x=1.x", held.join("; "));
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(line).unwrap())]);
        let (_, set) = Attempt::begin(Kind::Enter, &headers, at(5000));
        let cleared: Vec<_> =
            set[1..].iter().map(|value| value.to_str().unwrap().split('=').next().unwrap()).collect();
        let oldest: Vec<_> = (0..5).map(|n| format!("__Host-usher-enter-t{n}")).collect();
        assert_eq!(cleared, oldest);
    }
}

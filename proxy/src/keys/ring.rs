//! The keys that are held, and what is derived from each.

use super::document::{ListedKey, SECRET_LEN};
use super::{OPENS_FOR, Purpose};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf;
use std::time::SystemTime;

/// What names a key.
pub(super) type KeyId = [u8; ID_LEN];

pub(super) const ID_LEN: usize = 4;

/// Keys, newest first and at least one.
pub(super) struct Ring(Vec<RingKey>);

/// One of them.
pub(super) struct RingKey {
    pub(super) id: KeyId,
    secret: hkdf::Prk,
    /// When it begins to seal.
    pub(super) since: SystemTime,
    /// When it stops to open; the newest never does.
    pub(super) opens_until: Option<SystemTime>,
}

impl Ring {
    /// A ring as it was written down.
    pub(super) fn new(listed: &[ListedKey]) -> Self {
        let mut newer_since = None;
        let keys = listed.iter().map(|key| {
            let opens_until = newer_since.map(|since: SystemTime| since + OPENS_FOR);
            newer_since = Some(key.since);
            RingKey::new(&key.secret, key.since, opens_until)
        });
        Self(keys.collect())
    }

    #[cfg(test)]
    pub(super) fn of(keys: Vec<RingKey>) -> Self {
        Self(keys)
    }

    /// All keys, newest first.
    pub(super) fn keys(&self) -> &[RingKey] {
        &self.0
    }

    /// The key that seals now: the newest whose time has come. One that was added ahead of its time only opens, so
    /// that every Usher holds it before anything is sealed with it.
    pub(super) fn sealing(&self, now: SystemTime) -> &RingKey {
        let come = self.0.iter().find(|key| key.since <= now);
        // A ring of one key seals, whatever its maker's clock said.
        come.or(self.0.last()).expect("a ring has at least one key")
    }

    /// The key of this id, if it opens; the clock is read only for a key that will stop to.
    pub(super) fn find(&self, id: KeyId, now: impl Fn() -> SystemTime) -> Option<&RingKey> {
        let key = self.0.iter().find(|key| key.id == id)?;
        key.opens_until.is_none_or(|until| now() < until).then_some(key)
    }
}

impl RingKey {
    pub(super) fn new(secret: &[u8; SECRET_LEN], since: SystemTime, opens_until: Option<SystemTime>) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"usher key ring 1").extract(secret);
        let mut id = [0; ID_LEN];
        secret
            .expand(&[b"key id"], IdLen)
            .and_then(|okm| okm.fill(&mut id))
            .expect("four bytes are within HKDF's limit");
        Self { id, secret, since, opens_until }
    }

    /// The key that seals for a purpose and a host.
    pub(super) fn derive(&self, purpose: Purpose, host: &str) -> LessSafeKey {
        let info = info(purpose, host);
        let derived = self.secret.expand(&info, &AES_256_GCM).expect("an AES key is within HKDF's limit");
        LessSafeKey::new(UnboundKey::from(derived))
    }

    /// As good as random. Of no host: what is made of it stands for the whole installation.
    pub(super) fn seed(&self, purpose: Purpose) -> [u8; SECRET_LEN] {
        let mut seed = [0; SECRET_LEN];
        self.secret
            .expand(&info(purpose, ""), hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut seed))
            .expect("a SHA-256 block is within HKDF's limit");
        seed
    }
}

/// Neither a purpose nor a host contains a NUL, so no two pairs make the same text; and "key id" has none.
fn info(purpose: Purpose, host: &str) -> [&[u8]; 3] {
    [purpose.label(), b"\0", host.as_bytes()]
}

struct IdLen;

impl hkdf::KeyType for IdLen {
    fn len(&self) -> usize {
        ID_LEN
    }
}

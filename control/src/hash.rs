//! Names of records that must not tell what they are of, and secrets.

use crate::RecordError;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};

/// SHA-256 over parts, each with its length before it, so that no two lists of parts hash alike.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let length = u64::try_from(part.len()).expect("no part is longer than the memory");
        context.update(&length.to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The first half of [`digest`], for a name of something random: there may be many such, and it is shorter everywhere.
pub(crate) fn short(parts: &[&[u8]]) -> [u8; 16] {
    digest(parts)[..16].try_into().expect("32 bytes have so many")
}

/// In lower-case hexadecimal: a name that a store in a cluster takes as it is.
pub(crate) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// The other way round.
pub(crate) fn unhex(text: &str) -> Option<[u8; 16]> {
    let bytes = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    (hex(bytes) == text).then_some(bytes)
}

/// What nobody can guess.
///
/// # Errors
/// The system gives none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], RecordError> {
    let mut bytes = [0; N];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| RecordError::Store("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}

/// URL-safe base64 without padding.
pub(crate) fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The other way round.
pub(crate) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_confused_with_one_another() {
        let lists: [&[&[u8]]; 5] =
            [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[b"", b"abc"]];
        for (i, one) in lists.iter().enumerate() {
            for (j, other) in lists.iter().enumerate() {
                assert_eq!(digest(one) == digest(other), i == j, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_name_reads_back() {
        let digest = digest(&[b"x"]);
        assert_eq!(bytes(&text(&digest)), Some(digest));
        assert_eq!(bytes::<32>("too short"), None);
        let half = short(&[b"x"]);
        assert_eq!((unhex(&hex(half)), &half[..]), (Some(half), &digest[..16]));
        for wrong in ["", "0", &hex(half).to_uppercase(), &format!("+{}", &hex(half)[1..]), &"0".repeat(33)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}

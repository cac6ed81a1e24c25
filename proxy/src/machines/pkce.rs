//! What binds a person's consent to the program that asks for it: known to both sides of `usher login`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// Of what a program alone knows (RFC 7636 §4.2).
pub(crate) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Eight characters of a hash: by what program and page show, a person sees that they belong together.
pub(crate) fn words(challenge: &str) -> String {
    const SIGNS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let hash = digest(&SHA256, format!("usher login {challenge}").as_bytes());
    let sign = |byte: &u8| char::from(SIGNS[usize::from(byte % 32)]);
    let signs: String = hash.as_ref().iter().take(8).map(sign).collect();
    format!("{}-{}", &signs[..4], &signs[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_hash_of_the_verifier() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn the_words_are_eight_signs_of_what_only_one_try_has() {
        let (one, other) = (words("a"), words("b"));
        assert_eq!((one.len(), &one[4..5]), (9, "-"));
        assert_ne!(one, other);
        assert_eq!(words("a"), one);
    }
}

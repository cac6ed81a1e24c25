//! What the secrets look like that Usher gives to machines: a word that secret scanners find, the secret, and a checksum.
//!
//! `usher_pat_` is an API token, `usher_prt_` what `usher login` keeps to come again. By the checksum a mistyped or cut one is
//! told without a look at any record.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// What all of them begin with.
pub(crate) const OURS: &str = "usher_";
const API: &str = "usher_pat_";
const REFRESH: &str = "usher_prt_";
/// How many characters the checksum has: one in 2³⁶ mistyped tokens passes, and is then unknown.
const CHECKSUM: usize = 6;
const FAMILY: usize = 16;

/// An API token as its owner is shown it, once.
pub(crate) fn api_token(secret: &control::TokenSecret) -> String {
    print(API, &secret.0)
}

/// The secret of an API token; none if it is mistyped.
pub(crate) fn read_api_token(text: &str) -> Option<control::TokenSecret> {
    parse(API, text)?.try_into().ok().map(control::TokenSecret)
}

/// A refresh token as `usher login` keeps it.
pub(crate) fn refresh_token(secret: &control::RefreshSecret) -> String {
    print(REFRESH, &[&secret.family[..], &secret.secret].concat())
}

/// The secret of a refresh token; none if it is mistyped.
pub(crate) fn read_refresh_token(text: &str) -> Option<control::RefreshSecret> {
    let bytes = parse(REFRESH, text)?;
    let (family, secret) = bytes.split_at_checked(FAMILY)?;
    Some(control::RefreshSecret { family: family.try_into().ok()?, secret: secret.try_into().ok()? })
}

fn print(word: &str, secret: &[u8]) -> String {
    let body = URL_SAFE_NO_PAD.encode(secret);
    let checksum = checksum(word, &body);
    format!("{word}{body}{checksum}")
}

fn parse(word: &str, text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(word)?;
    let (body, sum) = rest.split_at_checked(rest.len().checked_sub(CHECKSUM)?)?;
    (checksum(word, body) == sum).then(|| URL_SAFE_NO_PAD.decode(body).ok())?
}

fn checksum(word: &str, body: &str) -> String {
    let mut sum = URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{word}{body}").as_bytes()));
    sum.truncate(CHECKSUM);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{RefreshSecret, TokenSecret};

    #[test]
    fn a_secret_reads_back_and_every_slip_is_told() {
        let secret = TokenSecret([0xa5; 32]);
        let token = api_token(&secret);
        assert_eq!((token.len(), &token[..10]), (59, "usher_pat_"));
        assert!(read_api_token(&token) == Some(secret));
        for at in 0..token.len() {
            let mut mistyped = token.clone().into_bytes();
            mistyped[at] = if mistyped[at] == b'x' { b'y' } else { b'x' };
            assert!(read_api_token(&String::from_utf8(mistyped).unwrap()).is_none(), "at {at}");
            assert!(read_api_token(&token[..at]).is_none(), "cut at {at}");
        }
        assert!(read_api_token(&format!("{token} ")).is_none() && read_api_token("usher_pat_é").is_none());
        let refresh = RefreshSecret { family: [1; 16], secret: [2; 32] };
        let token = refresh_token(&refresh);
        assert!(read_refresh_token(&token) == Some(refresh));
        assert!(read_api_token(&token).is_none(), "one is no other");
        assert!(read_refresh_token(&api_token(&secret)).is_none());
    }
}

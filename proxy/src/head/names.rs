//! Header names by what they may say: who the client is, and what belongs to the edge.

/// Beginnings of names by which a proxy tells an application who asks and from where.
const IDENTITY_PREFIXES: &[&str] = &[
    "x-usher",
    "usher-",
    "x-forwarded",
    "x-real-ip",
    "x-auth-",
    "remote-",
    "x-remote-",
    "x-original-",
    "x-client-cert",
];

/// Names that `Connection` may not name: what they say must reach everyone who decides by it.
const KEPT: &[&str] = &[
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "origin",
    "purpose",
    "referer",
    "service-worker",
    "transfer-encoding",
];

/// Hop-by-hop headers (RFC 9110 §7.6.1), `Connection` and `Transfer-Encoding` apart: the first also names
/// others, the second belongs to whoever frames the body.
pub(super) const HOP_BY_HOP: &[&str] = &[
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
];

/// Whether a name tells who the client is, in any case and with `_` for `-`: a client may not say it.
pub fn is_identity(name: &str) -> bool {
    is(name, "forwarded") || IDENTITY_PREFIXES.iter().any(|prefix| begins(name, prefix))
}

/// Whether `Connection` may not name it.
pub fn is_reserved(name: &str) -> bool {
    begins(name, "sec-") || KEPT.iter().any(|kept| is(name, kept)) || is_identity(name)
}

/// Whether it is one of ours in an answer.
pub(super) fn is_ours(name: &str) -> bool {
    begins(name, "usher-") || begins(name, "x-usher-")
}

/// Whether two names are one, in any case and with `_` for `-`.
pub(super) fn is(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// Folds without a copy: every header of every request and answer is looked at.
fn begins(name: &str, prefix: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(came, wanted)| fold(came) == wanted)
}

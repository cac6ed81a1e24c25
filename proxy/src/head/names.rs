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
    let folded = fold(name);
    folded == "forwarded" || IDENTITY_PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
}

/// Whether `Connection` may not name it.
pub fn is_reserved(name: &str) -> bool {
    let folded = fold(name);
    folded.starts_with("sec-") || KEPT.contains(&folded.as_str()) || is_identity(&folded)
}

/// Whether it is one of ours in an answer.
pub(super) fn is_ours(name: &str) -> bool {
    let folded = fold(name);
    folded.starts_with("usher-") || folded.starts_with("x-usher-")
}

fn fold(name: &str) -> String {
    name.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

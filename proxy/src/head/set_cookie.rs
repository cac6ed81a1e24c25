//! Which cookies a workspace may set.

use config::HostName;

/// Whether a `Set-Cookie` of a workspace may reach the browser: not with a name of ours in any spelling that
/// some browser or parser takes for it, not for a `Domain` at or above the base, not for one that cannot be read.
pub(super) fn may_pass(value: &[u8], base: &HostName) -> bool {
    let mut parts = value.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    !claims_our_name(pair) && parts.all(|attribute| domain_may_pass(attribute, base))
}

/// A nameless cookie is sent back as its value alone: then the value is what counts, so the whole pair is read.
fn claims_our_name(pair: &[u8]) -> bool {
    const OURS: &[&str] = &["__host-usher", "__secure-usher", "__http-usher", "__host-http-usher"];
    let start =
        pair.iter().position(|byte| *byte != b'=' && !byte.is_ascii_whitespace()).unwrap_or(pair.len());
    let end = pair[start..].iter().position(|byte| *byte == b'=').map_or(pair.len(), |at| start + at);
    let name = plain(&pair[start..end]);
    OURS.iter().any(|ours| name.starts_with(ours))
}

/// The letters of a name that a lenient reader sees: `%2d` decoded, everything that is no token left out.
fn plain(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name).to_ascii_lowercase().replace("%2d", "-").replace("%5f", "_");
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn domain_may_pass(attribute: &[u8], base: &HostName) -> bool {
    let mut sides = attribute.splitn(2, |byte| *byte == b'=');
    let name = sides.next().unwrap_or_default().trim_ascii();
    if !name.eq_ignore_ascii_case(b"domain") {
        return true;
    }
    let Some(domain) = std::str::from_utf8(sides.next().unwrap_or_default().trim_ascii()).ok() else {
        return false;
    };
    if domain.is_empty() {
        // RFC 6265 §5.2.3: no domain at all.
        return true;
    }
    // Browsers decode and fold more than we want to know: only plain names are judged.
    let Ok(domain) = HostName::parse(domain.trim_start_matches('.')) else { return false };
    let base = base.as_str();
    let covers =
        base.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !covers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(value: &str) -> bool {
        may_pass(value.as_bytes(), &HostName::parse("lab.example.org").unwrap())
    }

    #[test]
    fn a_workspace_sets_no_cookie_of_our_name_in_any_spelling() {
        for value in [
            "__Host-usher=x; Path=/; Secure",
            "__Host-usher-ws=x",
            "__HOST-USHER-ws=x",
            "__Host-usher-login-a1=x",
            "__Secure-usher=x",
            "__Host-Http-usher=x",
            " \t__Host-usher=x",
            "\u{a0}__Host-usher=x",
            "__Host%2dusher=x",
            "%5f%5fHost-usher=x",
            "=__Host-usher=x",
            "__Host-usher",
            "\"__Host-usher\"=x",
        ] {
            assert!(!passes(value), "{value}");
        }
        for value in ["_xsrf=2|abc", "usher=x", "__Host-other=x", "x=__Host-usher", "", "=x"] {
            assert!(passes(value), "{value}");
        }
    }

    #[test]
    fn a_workspace_sets_no_cookie_for_its_siblings() {
        for value in [
            "a=b; Domain=lab.example.org",
            "a=b; domain = .LAB.example.org ",
            "a=b; Domain=lab.example.org.",
            "a=b; Path=/; DOMAIN=example.org",
            "a=b; Domain=org",
            "a=b; Domain=..lab.example.org",
            "a=b; Domain=lab%2eexample.org",
            "a=b; Domain=l\u{e4}b.example.org",
            "a=b; Domain=alice.lab.example.org; Domain=lab.example.org",
            "a=b; Domain=lab.example.org; Domain=alice.lab.example.org",
        ] {
            assert!(!passes(value), "{value}");
        }
        for value in [
            "a=b",
            "a=b; Domain=",
            "a=b; Domain",
            "a=b; Domain=alice.lab.example.org",
            "a=b; Domain=other.org",
            "a=b; Domain=ab.example.org",
            "a=Domain=lab.example.org",
        ] {
            assert!(passes(value), "{value}");
        }
    }
}

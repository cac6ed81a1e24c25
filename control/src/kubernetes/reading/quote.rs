//! Words of others in our sentences: bounded, on one line, and without what could be a password.
//!
//! The node, the scheduler, policies and the workspace's own program write these texts. A pull that fails
//! names addresses, and an address may carry a password or a signature.

use crate::text::{clean_line, last_lines};

/// How much of somebody else's message stands in a sentence, in bytes.
pub(super) const WORDS: usize = 256;
/// How much of a name does: no name of Kubernetes is longer (RFC 1123), an image with its digest may be.
pub(super) const NAME: usize = 253;
/// How many of a program's last lines are quoted; [`last_output`] has more.
const LINES: usize = 5;
/// See [`LINES`], in bytes.
const LINES_BYTES: usize = 768;
/// How much of a text is looked at: a node cuts a container's last words at 4 KiB, an event's text is 1 KiB.
const LOOKED_AT: usize = 8 << 10;

/// A message on one line, at most [`WORDS`] bytes.
pub(super) fn words(message: &str) -> String {
    within(message, WORDS)
}

/// A name, at most [`NAME`] bytes.
pub(super) fn name(name: &str) -> String {
    within(name, NAME)
}

/// The last lines of a program, for a sentence.
pub(super) fn lines(output: &str) -> String {
    last_lines(redacted(end_of(output.trim_end(), LOOKED_AT)).trim_end(), LINES, LINES_BYTES)
}

/// The last lines of a program, as [`crate::Driver::log_tail`] gives them.
pub(super) fn last_output(output: &str) -> String {
    last_lines(redacted(end_of(output.trim_end(), LOOKED_AT)).trim_end(), 64, LOOKED_AT)
}

/// What stands between the first `open` and the next `close` after it.
pub(super) fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

fn within(text: &str, most: usize) -> String {
    let cleaned: Vec<String> = start_of(text, LOOKED_AT).lines().map(clean_line).collect();
    let whole = redacted(&cleaned.join(" "));
    let whole = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    if whole.len() <= most {
        return whole;
    }
    const CUT: &str = "…";
    format!("{}{CUT}", start_of(&whole, most - CUT.len()).trim_end())
}

fn start_of(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn end_of(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// The text without user names and passwords in addresses, without their queries, and without what follows
/// `Bearer` and `Basic`.
fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut secret_next = false;
    for piece in text.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word);
        if word.is_empty() {
            shown.push_str(piece);
            continue;
        }
        if secret_next {
            shown.push_str(HIDDEN);
        } else {
            push_word(&mut shown, word);
        }
        secret_next = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        shown.push_str(&piece[word.len()..]);
    }
    shown
}

/// What stands for something that is not shown.
const HIDDEN: &str = "***";

fn ends_word(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '{' | '}' | ',' | ';')
}

fn push_word(shown: &mut String, word: &str) {
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let start = authority.rfind('@').map_or(0, |at| at + 1);
        let query = rest.find('?').unwrap_or(rest.len());
        shown.push_str(scheme);
        shown.push_str("://");
        shown.push_str(if start > 0 { "***@" } else { "" });
        shown.push_str(&rest[start..query.max(start)]);
        shown.push_str(if query < rest.len() { "?…" } else { "" });
    } else if let Some((user, host)) = word.rsplit_once('@')
        && user.contains(':')
        // `image:tag@sha256:…` is no user with a password.
        && !host.starts_with("sha")
    {
        shown.push_str(HIDDEN);
        shown.push('@');
        shown.push_str(host);
    } else {
        shown.push_str(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_password_comes_through() {
        let table = [
            (
                r#"Head "https://bob:pw@registry.example/v2/": no"#,
                r#"Head "https://***@registry.example/v2/": no"#,
            ),
            ("https://registry/x?sig=abc&y failed", "https://registry/x?… failed"),
            ("https://token@registry", "https://***@registry"),
            ("https://h/p?a=b@c", "https://h/p?…"),
            ("Authorization: Bearer abc.def, then", "Authorization: Bearer ***, then"),
            ("authorization: basic Ym9iOnB3", "authorization: basic ***"),
            ("bob:pw@registry.example/x", "***@registry.example/x"),
            ("registry/x:1@sha256:0123", "registry/x:1@sha256:0123"),
            ("bob@example.org", "bob@example.org"),
        ];
        for (text, shown) in table {
            assert_eq!(words(text), shown);
        }
        assert_eq!(lines("open http://localhost:8888/lab?token=abc\n"), "open http://localhost:8888/lab?…");
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        assert_eq!(words("a\u{1b}[31m b\r\n\n  c\u{0}\u{202e}d "), "a b cd");
        let long = words(&"ä".repeat(400));
        assert!(long.ends_with('…') && long.len() <= WORDS && long.len() > WORDS - 3, "{}", long.len());
    }

    #[test]
    fn the_last_lines_are_those_that_tell() {
        assert_eq!(lines("1\n2\n3\n4\n5\n6\n\n"), "2\n3\n4\n5\n6");
        assert_eq!(lines(""), "");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded_and_has_no_control_characters(text in "\\PC*|.*|[a-z:@/?\\n\"]{0,600}") {
            let shown = words(&text);
            prop_assert!(shown.len() <= WORDS && !shown.contains(char::is_control));
            let quoted = lines(&text);
            prop_assert!(quoted.len() <= LINES_BYTES);
            prop_assert!(!quoted.contains(|c: char| c.is_control() && c != '\n'));
        }
    }
}

//! The entries of a list (RFC 9110 §5.6.1), the last one first.

/// The entries of one field from right to left, trimmed, without empty ones.
///
/// A comma in quotes parts nothing. Quotes are told apart from the right, too: what a client left open on the left
/// does not swallow what a proxy has put behind it.
pub(super) fn from_the_right(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let (before, last) = split_last(rest?);
        rest = before;
        Some(last.trim_ascii())
    })
    .filter(|entry| !entry.is_empty())
}

/// What stands behind the last comma that is not in quotes, and what stands before it.
fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for at in (0..list.len()).rev() {
        match list[at] {
            b'"' if !is_escaped(list, at) => quoted = !quoted,
            b',' if !quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// Whether a backslash that is not itself escaped stands before this byte.
fn is_escaped(list: &[u8], at: usize) -> bool {
    list[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_from_the_right_and_quotes_hold_commas() {
        for (field, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a, b,,c ", &["c", "b", "a"]),
            ("for=\"a,b\", for=c", &["for=c", "for=\"a,b\""]),
            ("for=\"a\\\",b\", c", &["c", "for=\"a\\\",b\""]),
            // The client's quote is open, and takes nothing from what comes behind it.
            ("for=\"a, for=b", &["for=b", "for=\"a"]),
            ("for=\"a\\\", for=b", &["for=b", "for=\"a\\\""]),
            // A proxy's last entry is open: nobody can tell what belongs to it.
            ("a, b, for=c\"", &["a, b, for=c\""]),
        ] {
            let entries: Vec<_> = from_the_right(field.as_bytes()).map(String::from_utf8_lossy).collect();
            assert_eq!(entries, expected, "{field}");
        }
    }
}

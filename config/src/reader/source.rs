//! The text that is read, and places in it.

use crate::finding::Finding;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A file's name and text.
pub(crate) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    /// Of a text already read.
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// A finding at a byte of the text.
    pub(crate) fn finding(&self, offset: usize, key: &str, problem: String, accepted: String) -> Finding {
        let (line, column) = self.position(offset);
        Finding { file: self.file.to_owned(), line, column, key: key.to_owned(), problem, accepted }
    }

    /// A value as it is written, on one line and cut.
    pub(crate) fn excerpt(&self, span: Range<usize>) -> String {
        const LONGEST: usize = 60;
        let written = self.text.get(span).unwrap_or_default();
        let mut line = written.lines().next().unwrap_or_default().chars();
        let head: String = line.by_ref().take(LONGEST).filter(|c| !c.is_control()).collect();
        if line.next().is_some() || written.contains('\n') { format!("{head}…") } else { head }
    }

    /// The place in the file of a byte within the value of the TOML string at `span`; the string's own place
    /// if its value is not written out there byte by byte.
    pub(crate) fn inside(&self, span: Range<usize>, offset: usize) -> usize {
        let written = self.text.get(span.clone()).unwrap_or_default();
        span.start + written_offset(written, offset).unwrap_or(0)
    }

    /// Line and column of many bytes, in one walk over the text.
    pub(super) fn positions(&self, offsets: &BTreeSet<usize>) -> BTreeMap<usize, (usize, usize)> {
        let (mut line, mut column, mut at) = (1, 1, 0);
        let position = |offset: &usize| {
            let walked = self.text.get(at..*offset).unwrap_or_default();
            line += walked.matches('\n').count();
            column = match walked.rfind('\n') {
                Some(end) => walked[end + 1..].chars().count() + 1,
                None => column + walked.chars().count(),
            };
            at = *offset;
            (*offset, (line, column))
        };
        offsets.iter().map(position).collect()
    }

    /// Line and column of a byte, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Where the byte `offset` of a string's value stands in the string as written, quotes included.
fn written_offset(written: &str, offset: usize) -> Option<usize> {
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| written.starts_with(quotes))?;
    let mut at = quotes.len();
    if quotes.len() == 3 {
        // A line break straight after the opening quotes is not part of the value.
        at += written[at..].strip_prefix("\r\n").map_or(0, |_| 2);
        at += written[at..].strip_prefix('\n').map_or(0, |_| 1);
    }
    let escapes = quotes.starts_with('"');
    let mut value = 0;
    while value < offset {
        let rest = written.get(at..)?;
        let first = rest.chars().next()?;
        if first != '\\' || !escapes {
            (at, value) = (at + first.len_utf8(), value + first.len_utf8());
            continue;
        }
        let digits = match rest[1..].chars().next()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'b' | 't' | 'n' | 'f' | 'r' | 'e' | '"' | '\\' => 0,
            _ => return None,
        };
        let code = rest.get(2..2 + digits)?;
        let meant = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
        (at, value) = (at + 2 + digits, value + meant.map_or(1, char::len_utf8));
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_lines_and_characters() {
        let source = Source::new("f", "a\r\n\u{e9}\u{e9}=1\n");
        for (offset, expected) in
            [(0, (1, 1)), (1, (1, 2)), (3, (2, 1)), (7, (2, 3)), (10, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(source.position(offset), expected, "{offset}");
        }
        let offsets = BTreeSet::from([0, 1, 3, 7, 10]);
        for (offset, position) in source.positions(&offsets) {
            assert_eq!(position, source.position(offset), "{offset}");
        }
    }

    #[test]
    fn a_place_within_a_string_is_found_past_escapes() {
        for (written, offset, expected) in [
            ("'abc'", 1, 2),
            ("\"abc\"", 3, 4),
            ("'''\nabc'''", 1, 5),
            ("'''\r\nabc'''", 1, 6),
            ("\"\"\"abc\"\"\"", 0, 3),
            (r#""\"a\u00e9b""#, 4, 10),
            (r#"'\"a'"#, 2, 3),
            ("'é=x'", 3, 4),
            ("\"\"\"a\\\n  b\"\"\"", 1, 4),
            ("\"\"\"a\\\n  b\"\"\"", 2, 0),
            ("5", 1, 0),
            ("'a'", 50, 0),
        ] {
            assert_eq!(Source::new("f", written).inside(0..written.len(), offset), expected, "{written}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        let excerpt = |text: &str| Source::new("f", text).excerpt(0..text.len());
        assert_eq!(excerpt("'abc'"), "'abc'");
        assert_eq!(excerpt("'''\nabc'''"), "'''…");
        assert_eq!(excerpt(&"x".repeat(80)), format!("{}…", "x".repeat(60)));
    }
}

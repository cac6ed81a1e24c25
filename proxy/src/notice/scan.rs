//! Finds the end of a document's `<head …>` tag, byte by byte, as far as the HTML tokenizer's rules matter.

/// What a byte leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Look at the next one.
    On,
    /// The byte was the `>` of the head's start tag.
    Here,
    /// Something else than white space, comments, a doctype and `<html …>` came before a `<head …>`.
    Odd,
}

/// The state between two bytes.
#[derive(Debug, Default)]
pub(super) struct Scan {
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// At the first bytes, where a byte order mark may stand: how many of it were seen.
    #[default]
    Start,
    Mark(u8),
    /// Between tags.
    Between,
    /// After `<`.
    Open,
    /// After `<!`, and how many hyphens.
    Declaration {
        hyphens: u8,
    },
    /// In `<!-- … -->`, and how many hyphens in a row; `fresh` straight after `<!--`.
    Comment {
        hyphens: u8,
        fresh: bool,
    },
    /// In `<!doctype … >`.
    Doctype,
    /// In a start tag's name, which is so far the first `len` letters of both or one of the two.
    Name {
        len: usize,
        head: bool,
        html: bool,
    },
    /// Among a tag's attributes.
    Attributes {
        head: bool,
        at: At,
    },
    /// In a quoted value.
    Quoted {
        head: bool,
        quote: u8,
    },
    /// In a value without quotes.
    Unquoted {
        head: bool,
    },
}

/// Where among a tag's attributes.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Before a name.
    Between,
    /// In or after a name: a `=` may follow.
    Name,
    /// After `=`: a value follows.
    Value,
}

const HEAD: &[u8] = b"head";
const HTML: &[u8] = b"html";
const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl Scan {
    /// Takes one byte.
    pub(super) fn next(&mut self, byte: u8) -> Step {
        match self.state.after(byte) {
            Ok(state) => {
                self.state = state;
                Step::On
            }
            Err(step) => step,
        }
    }
}

impl State {
    fn after(self, byte: u8) -> Result<Self, Step> {
        match self {
            Self::Start if byte == BYTE_ORDER_MARK[0] => Ok(Self::Mark(1)),
            Self::Start | Self::Between => between(byte),
            Self::Mark(seen) => after_mark(seen, byte),
            Self::Open => open(byte),
            Self::Declaration { hyphens } => declaration(hyphens, byte),
            Self::Comment { hyphens, fresh } => comment(hyphens, fresh, byte),
            Self::Doctype => Ok(if byte == b'>' { Self::Between } else { Self::Doctype }),
            Self::Name { len, head, html } => name(len, head, html, byte),
            Self::Attributes { head, at } => attributes(head, at, byte),
            Self::Quoted { head, quote } if byte == quote => Ok(Self::Attributes { head, at: At::Between }),
            Self::Quoted { .. } => Ok(self),
            Self::Unquoted { head } => match byte {
                b'>' => end_of_tag(head),
                _ if byte.is_ascii_whitespace() => Ok(Self::Attributes { head, at: At::Between }),
                _ => Ok(self),
            },
        }
    }
}

fn after_mark(seen: u8, byte: u8) -> Result<State, Step> {
    match BYTE_ORDER_MARK.get(usize::from(seen)) {
        Some(expected) if *expected == byte && seen == 2 => Ok(State::Between),
        Some(expected) if *expected == byte => Ok(State::Mark(seen + 1)),
        _ => Err(Step::Odd),
    }
}

fn between(byte: u8) -> Result<State, Step> {
    match byte {
        b'<' => Ok(State::Open),
        _ if byte.is_ascii_whitespace() => Ok(State::Between),
        _ => Err(Step::Odd),
    }
}

fn open(byte: u8) -> Result<State, Step> {
    match byte {
        b'!' => Ok(State::Declaration { hyphens: 0 }),
        _ if byte.is_ascii_alphabetic() => name(0, true, true, byte),
        _ => Err(Step::Odd),
    }
}

fn declaration(hyphens: u8, byte: u8) -> Result<State, Step> {
    match (hyphens, byte) {
        (0, b'-') => Ok(State::Declaration { hyphens: 1 }),
        (1, b'-') => Ok(State::Comment { hyphens: 0, fresh: true }),
        (0, b'd' | b'D') => Ok(State::Doctype),
        _ => Err(Step::Odd),
    }
}

/// `-->` ends a comment and so do `--!>`, `<!-->` and `<!--->`: the latter are too odd to go on behind.
fn comment(hyphens: u8, fresh: bool, byte: u8) -> Result<State, Step> {
    match (hyphens, byte) {
        (2, b'>') => Ok(State::Between),
        (_, b'>') if fresh => Err(Step::Odd),
        (2, b'!') => Err(Step::Odd),
        (_, b'-') => Ok(State::Comment { hyphens: (hyphens + 1).min(2), fresh: fresh && hyphens == 0 }),
        _ => Ok(State::Comment { hyphens: 0, fresh: false }),
    }
}

fn name(len: usize, head: bool, html: bool, byte: u8) -> Result<State, Step> {
    let whole = |wanted: &[u8]| len == wanted.len();
    if byte == b'>' || byte == b'/' || byte.is_ascii_whitespace() {
        let head = head && whole(HEAD);
        return match (head || (html && whole(HTML)), byte) {
            (false, _) => Err(Step::Odd),
            (true, b'>') => end_of_tag(head),
            (true, _) => Ok(State::Attributes { head, at: At::Between }),
        };
    }
    let fits = |wanted: &[u8]| wanted.get(len) == Some(&byte.to_ascii_lowercase());
    let (head, html) = (head && fits(HEAD), html && fits(HTML));
    if head || html { Ok(State::Name { len: len + 1, head, html }) } else { Err(Step::Odd) }
}

/// A stray `=` or quote is where browsers and this scanner could differ: odd.
fn attributes(head: bool, at: At, byte: u8) -> Result<State, Step> {
    let on = |at| Ok(State::Attributes { head, at });
    match (at, byte) {
        (_, b'>') => end_of_tag(head),
        (At::Value, b'"' | b'\'') => Ok(State::Quoted { head, quote: byte }),
        (At::Name, b'=') => on(At::Value),
        (_, b'=' | b'"' | b'\'') => Err(Step::Odd),
        (At::Between | At::Name, b'/') => on(At::Between),
        (_, byte) if byte.is_ascii_whitespace() => on(at),
        (At::Value, _) => Ok(State::Unquoted { head }),
        (At::Between | At::Name, _) => on(At::Name),
    }
}

fn end_of_tag(head: bool) -> Result<State, Step> {
    if head { Err(Step::Here) } else { Ok(State::Between) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tag would go, or `None`.
    fn place(document: &[u8]) -> Option<usize> {
        let mut scan = Scan::default();
        for (index, byte) in document.iter().enumerate() {
            match scan.next(*byte) {
                Step::On => {}
                Step::Here => return Some(index + 1),
                Step::Odd => return None,
            }
        }
        None
    }

    #[test]
    fn the_place_is_behind_the_head_tag_and_nowhere_else() {
        for (document, before) in [
            ("<head>", "<head>"),
            (
                "<!DOCTYPE html>\n<html lang=en>\n<HEAD\tdata-x='>' >x",
                "<!DOCTYPE html>\n<html lang=en>\n<HEAD\tdata-x='>' >",
            ),
            ("\u{feff}<!doctype html><head >", "\u{feff}<!doctype html><head >"),
            ("<!-- <head> --><head>", "<!-- <head> --><head>"),
            ("<!--a-->--><head>", ""),
            ("<!-- x - -- --- --><head>", "<!-- x - -- --- --><head>"),
            ("<html data-a=\"<head>\"><head>", "<html data-a=\"<head>\"><head>"),
            ("<html a='x' b=c><head prefix=\"og: x>y\">", "<html a='x' b=c><head prefix=\"og: x>y\">"),
            ("<html a=<head><head>", "<html a=<head><head>"),
            ("<head/>", "<head/>"),
        ] {
            let wanted = (!before.is_empty()).then_some(before.len());
            assert_eq!(place(document.as_bytes()), wanted, "{document}");
        }
    }

    #[test]
    fn a_header_element_is_no_head() {
        for document in ["<header>", "<html><header><head>", "<heading>", "<hea>", "<htm><head>"] {
            assert_eq!(place(document.as_bytes()), None, "{document}");
        }
    }

    #[test]
    fn whatever_is_odd_before_the_head_leaves_the_document_alone() {
        for document in [
            "text<head>",
            "<title>x</title><head>",
            "<script>'<head>'</script>",
            "</p><head>",
            "<?xml version='1.0'?><head>",
            "<![CDATA[<head>]]>",
            "<!--><head>",
            "<!---><head>",
            "<!-- --!><head>",
            "\u{feff}\u{feff}<head>",
            "<head =\"x>y\">",
            "<head \"x>y\">",
            "<\0h\0e\0a\0d\0>",
            "{\"head\": \"<head>\"}",
            "",
        ] {
            assert_eq!(place(document.as_bytes()), None, "{document:?}");
        }
    }
}

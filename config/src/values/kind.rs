//! The kinds of text that Kubernetes takes, each with its rule.

use crate::reader::Wrong;

/// What a text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A container image.
    Image,
    /// An amount: `500m`, `2Gi`.
    Quantity,
    /// The name of an object: RFC 1123 subdomain.
    Name,
    /// The name of a namespace: RFC 1123 label.
    Namespace,
    /// The value of a label.
    LabelValue,
    /// The key of a label, or the name of a resource.
    QualifiedName,
    /// The value of a variable.
    Environment,
}

const IMAGES: &str = "an image, such as \"quay.io/jupyter/base-notebook:2026-11-16\"";
const QUANTITIES: &str = "a quantity of Kubernetes, such as \"500m\", \"2\", \"512Mi\" or \"2Gi\"";
const NAMES: &str =
    "1–253 lower-case letters, digits, `-` and `.`; a letter or digit at both ends of each part";
const NAMESPACES: &str = "1–63 lower-case letters, digits and `-`; a letter or digit at both ends";
const LABEL_VALUES: &str =
    "nothing, or up to 63 letters, digits, `-`, `_` and `.`; a letter or digit at both ends";
const QUALIFIED: &str = "a name such as \"disktype\" or \"nvidia.com/gpu\"";

impl Kind {
    /// Whether a text is one.
    pub(crate) fn judge(self, text: &str) -> Result<(), Wrong> {
        let (fits, what, accepted) = match self {
            Self::Image => (is_image(text), "an image", IMAGES),
            Self::Quantity => return quantity(text),
            Self::Name => (is_subdomain(text), "a name of Kubernetes", NAMES),
            Self::Namespace => (is_label(text), "the name of a namespace", NAMESPACES),
            Self::LabelValue => (text.is_empty() || is_word(text), "the value of a label", LABEL_VALUES),
            Self::QualifiedName => (is_qualified(text), "a qualified name of Kubernetes", QUALIFIED),
            Self::Environment => (!text.contains('\0'), "free of NUL", "a string without NUL"),
        };
        if fits { Ok(()) } else { Err(Wrong::new(format!("is not {what}"), accepted)) }
    }

    /// One of them.
    pub(crate) fn sample(self) -> &'static str {
        match self {
            Self::Quantity => "1",
            _ => "sample",
        }
    }
}

fn quantity(text: &str) -> Result<(), Wrong> {
    if is_quantity(text) {
        return Ok(());
    }
    // `2GiB` is how Usher's own sizes are written.
    let meant = text.strip_suffix('B').filter(|rest| is_quantity(rest) && !rest.ends_with(char::is_numeric));
    let hint = meant.map(|meant| format!("; did you mean `{meant}`?"));
    Err(Wrong::new(format!("is not a quantity{}", hint.unwrap_or_default()), QUANTITIES))
}

/// `<number><suffix>` as `resource.Quantity` says, without a sign: none of what Usher asks for can be negative.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 16] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let number = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = text.split_at(number);
    let is_number = number.bytes().any(|b| b.is_ascii_digit())
        && number.bytes().filter(|b| *b == b'.').count() <= 1
        && number.len() <= 20;
    is_number && (SUFFIXES.contains(&suffix) || is_exponent(suffix))
}

/// `e3`, `E-3`.
fn is_exponent(suffix: &str) -> bool {
    let digits = suffix.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
    digits.is_some_and(|digits| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Only what would never be an image; whether it can be pulled is told when it is.
fn is_image(text: &str) -> bool {
    (1..=512).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// One part of a name (RFC 1123), in lower case.
fn is_label(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let (first, last) = (text.bytes().next(), text.bytes().last());
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && [first, last].iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_word(name),
        None => is_word(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_its_own_and_nothing_else() {
        let long = "a".repeat(64);
        let table: [(Kind, &[&str], &[&str]); 7] = [
            (Kind::Image, &["demo", "a.b:5000/c/d:1.2", "a/b@sha256:0f"], &["", " a", "a b", "-a", "é"]),
            (
                Kind::Quantity,
                &["0", "1", "500m", "1.5", ".5", "2.", "2Gi", "1e3", "1E-3", "12E"],
                &["", ".", "Gi", "2GiB", "2gb", "-1", "+1", "1.2.3", "1 Gi", "2KI", "1e", "1e999", "١"],
            ),
            (Kind::Name, &["a", "a.b-c", "1"], &["", "A", "a_b", "-a", "a.", "a..b", &long]),
            (Kind::Namespace, &["a", "a-1"], &["", "a.b", "A", "a-", &long]),
            (Kind::LabelValue, &["", "a", "A_b.c-1"], &["-a", "a-", "a b", "a/b", &long]),
            (
                Kind::QualifiedName,
                &["cpu", "nvidia.com/gpu", "a_B"],
                &["", "/gpu", "a/", "a/b/c", "A.b/c", "a b"],
            ),
            (Kind::Environment, &["", "anything é"], &["a\0"]),
        ];
        for (kind, good, bad) in table {
            assert!(kind.judge(kind.sample()).is_ok(), "{kind:?}");
            good.iter().for_each(|text| assert!(kind.judge(text).is_ok(), "{kind:?} {text:?}"));
            bad.iter().for_each(|text| assert!(kind.judge(text).is_err(), "{kind:?} {text:?}"));
        }
    }

    #[test]
    fn a_size_of_ours_in_place_of_a_quantity_is_mended() {
        let problem = |text| Kind::Quantity.judge(text).unwrap_err().problem;
        assert_eq!(problem("2GiB"), "is not a quantity; did you mean `2Gi`?");
        assert_eq!(problem("2B"), "is not a quantity");
    }
}

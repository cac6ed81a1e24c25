//! PEM (RFC 7468) as operators and authorities write it: text before, between and after the blocks is passed over.

use super::unfit::{Part, Unfit};
use super::{CHAIN_MAX, TEXT_MAX};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Begins a block; what follows is its label and five hyphens.
const BEGIN: &[u8] = b"-----BEGIN ";
/// What editors of some systems write before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Longer than any label that there is, so that an error quotes nothing long.
const LABEL_MAX: usize = 40;

/// All certificates of a text, of which there is one at least.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let blocks = Blocks::read(Part::Certificate, text)?;
    let found: Vec<_> =
        blocks.known.into_iter().filter_map(|(kind, der)| CertificateDer::from_pem(kind, der)).collect();
    match found.len() {
        0 => Err(nothing(Part::Certificate, text, blocks.labels)),
        1..=CHAIN_MAX => Ok(found),
        _ => Err(Unfit::TooMany),
    }
}

/// The one private key of a text.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Unfit> {
    if is_encrypted(text) {
        return Err(Unfit::Encrypted);
    }
    let blocks = Blocks::read(Part::PrivateKey, text)?;
    let mut found: Vec<_> =
        blocks.known.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der)).collect();
    match found.len() {
        0 | 1 => found.pop().ok_or_else(|| nothing(Part::PrivateKey, text, blocks.labels)),
        found => Err(Unfit::ManyKeys { found }),
    }
}

/// A block of this label, in lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

/// What a text consists of.
struct Blocks {
    labels: Vec<String>,
    known: Vec<(SectionKind, Vec<u8>)>,
}

impl Blocks {
    fn read(part: Part, text: &[u8]) -> Result<Self, Unfit> {
        if text.len() > TEXT_MAX {
            return Err(Unfit::TooLong(part));
        }
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let labels = labels(text).ok_or(Unfit::Damaged(part))?;
        let known = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
        let known = known.collect::<Result<Vec<_>, _>>().map_err(|_| Unfit::Damaged(part))?;
        // A block that does not end would pass its lines to the next one, or vanish.
        let expected = labels.iter().filter(|label| SectionKind::try_from(label.as_bytes()).is_ok()).count();
        if known.len() == expected { Ok(Self { labels, known }) } else { Err(Unfit::Damaged(part)) }
    }
}

/// The labels of all blocks; `None` if one does not begin as it must.
fn labels(text: &[u8]) -> Option<Vec<String>> {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let begins = lines.filter(|line| line.windows(BEGIN.len()).any(|window| window == BEGIN));
    begins
        .map(|line| {
            let label = line.strip_prefix(BEGIN)?.trim_ascii_end().strip_suffix(b"-----")?;
            let label = str::from_utf8(label).ok()?;
            let plain = label.bytes().all(|byte| byte == b' ' || byte.is_ascii_alphanumeric());
            (plain && label.len() <= LABEL_MAX).then(|| label.to_owned())
        })
        .collect()
}

/// By its label (RFC 5958), or by a header within (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let has = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    text.len() <= TEXT_MAX
        && (has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED"))
}

/// Says what there is where something else should be.
fn nothing(part: Part, text: &[u8], labels: Vec<String>) -> Unfit {
    match labels.into_iter().next() {
        Some(label) => Unfit::Other { part, label },
        // How every certificate and every key begins in DER: a sequence whose length takes one or two bytes.
        None if matches!(text, [0x30, 0x2e | 0x81 | 0x82, ..]) => Unfit::Der(part),
        None => Unfit::Absent(part),
    }
}

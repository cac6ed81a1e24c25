//! Where keys stand in the text.

use crate::places::KeyPath;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::DeValue;

/// The bytes at which the names and values of a key, and of all below it, begin.
pub(super) fn of(key: &str, at: usize, value: &Spanned<DeValue<'_>>) -> BTreeMap<KeyPath, (usize, usize)> {
    let mut found = BTreeMap::new();
    collect(KeyPath::default().key(key), at, value, &mut found);
    found
}

fn collect(
    path: KeyPath,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    found: &mut BTreeMap<KeyPath, (usize, usize)>,
) {
    match value.get_ref() {
        DeValue::Table(entries) => entries
            .iter()
            .for_each(|(name, value)| collect(path.key(&**name.get_ref()), name.span().start, value, found)),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| collect(path.index(index), value.span().start, value, found)),
        _ => {}
    }
    found.insert(path, (at, value.span().start));
}

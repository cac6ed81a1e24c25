//! `volume`: the user's files.

use super::required_text;
use crate::model::{Volume, VolumeAccess};
use crate::reader::{Table, Wrong, value};
use crate::values::Kind;
use toml::de::DeValue;

/// Reads `volume`; `"none"` is none.
pub(super) fn volume(table: &mut Table<'_>) -> Option<Option<Volume>> {
    match table.field("volume") {
        Some(field) if field.is_table() => field.table()?.read(|table| {
            let size = required_text(table, "size", Kind::Quantity);
            let class = table.maybe("class", |value| value::of_kind(value, Kind::Name));
            let mount = table.value("mount", value::absolute_path);
            let access = table.value("access", value::word(ACCESSES, "a way of access"));
            Some(Some(Volume { size: size?, class: class?, mount: mount?, access: access? }))
        }),
        Some(field) => field.parse(none).map(|()| None),
        // It has no default: whether files are kept is said outright.
        None => table.value("volume", none).map(|()| None),
    }
}

const ACCESSES: &[(&str, VolumeAccess)] = &[
    ("ReadWriteOnce", VolumeAccess::ReadWriteOnce),
    ("ReadWriteOncePod", VolumeAccess::ReadWriteOncePod),
    ("ReadWriteMany", VolumeAccess::ReadWriteMany),
];

fn none(value: &DeValue<'_>) -> Result<(), Wrong> {
    const VOLUMES: &str = "a table with `size`; or \"none\": files end with the pod";
    match value {
        DeValue::String(text) if text == "none" => Ok(()),
        _ => Err(Wrong::new("is not a volume", VOLUMES)),
    }
}

//! `mounts`: what a workspace sees besides its volume.

use crate::model::{Mount, MountSource};
use crate::reader::{Table, value};
use crate::values::Kind;
use std::path::Path;

/// Where usher's own files are.
const OWN: &str = "/run/usher";

/// Reads `[[mounts]]`, of which there may be none.
pub(super) fn mounts(table: &mut Table<'_>) -> Option<Vec<Mount>> {
    if table.field("mounts").is_none() {
        return Some(Vec::new());
    }
    table.tables("mounts", mount)
}

fn mount(table: &mut Table<'_>) -> Option<Mount> {
    let path = table.value("path", value::absolute_path);
    let source = source(table);
    if path.as_deref().is_some_and(|path| Path::new(path).starts_with(OWN)) {
        table.fault("path", "is where usher tells a workspace whose it is", "another path");
    }
    let sub_path = table.maybe("sub_path", value::string);
    let read_only = table.maybe("read_only", value::boolean);
    let (source, sub_path) = (source?, sub_path?);
    if sub_path
        .as_deref()
        .is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        table.fault("sub_path", "leads out of what is mounted", "a relative path without `..`");
        return None;
    }
    let is_written = matches!(source, MountSource::EmptyDir(_));
    Some(Mount { path: path?, source, sub_path, read_only: read_only?.unwrap_or(!is_written) })
}

fn source(table: &mut Table<'_>) -> Option<MountSource> {
    let mut name = |key| table.maybe(key, |value| value::of_kind(value, Kind::Name));
    let (config_map, secret, claim) = (name("config_map"), name("secret"), name("claim"));
    let empty_dir = table.maybe("empty_dir", |value| value::of_kind(value, Kind::Quantity));
    let given: Vec<MountSource> = [
        config_map?.map(MountSource::ConfigMap),
        secret?.map(MountSource::Secret),
        claim?.map(MountSource::Claim),
        empty_dir?.map(MountSource::EmptyDir),
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[MountSource; 1]>::try_from(given) {
        Ok([source]) => Some(source),
        Err(_) => {
            table.fault("", "has not one source", "one of config_map, secret, claim and empty_dir");
            None
        }
    }
}

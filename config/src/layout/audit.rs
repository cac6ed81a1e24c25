//! `[audit]`: where the trail is kept.

use crate::model::Audit;
use crate::reader::{Table, value};
use std::ops::RangeInclusive;

/// Sizes of one file, in bytes: at least some hundred lines, at most what tools still open.
const FILE_SIZES: RangeInclusive<u64> = (64 << 10)..=(64 << 30);
/// How many older files may stay: each is renamed whenever a new one is begun.
const FILES_KEPT: RangeInclusive<usize> = 0..=1_000;

/// Reads `[audit]`.
pub(super) fn audit(table: &mut Table<'_>) -> Option<Audit> {
    let file = table.maybe("file", value::path);
    let file_size = table.value("file_size", value::size(FILE_SIZES));
    let files_kept = table.value("files_kept", value::integer(FILES_KEPT));
    Some(Audit { file: file?, file_size: file_size?, files_kept: files_kept? })
}

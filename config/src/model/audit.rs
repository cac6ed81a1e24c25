//! `[audit]`: where the trail of what people and operators do is kept.

use std::path::PathBuf;

/// `[audit]`.
#[derive(Debug, Clone)]
pub struct Audit {
    /// `file`: where each event is written, as a line of JSON; none = to the log alone.
    pub file: Option<PathBuf>,
    /// `file_size`: how many bytes it gets before a new one is begun.
    pub file_size: u64,
    /// `files_kept`: how many older ones stay beside it.
    pub files_kept: usize,
}

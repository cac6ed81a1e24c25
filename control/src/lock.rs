//! Files that one Usher at a time has: how long one that is ending may still hold them, and who holds them.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a lock may be held by what is ending: a killed Usher has it until the last of its threads is gone,
/// and so has a child of it between `fork` and `exec`, where its descriptors close.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Who else has this file open, in words: `process 4711 (usher)`.
pub(crate) fn holders(path: &Path) -> String {
    let Ok(file) = fs::metadata(path) else { return UNSEEN.to_owned() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holders: Vec<String> =
        pids.filter(|pid| *pid != std::process::id() && has_open(*pid, &file)).map(described).collect();
    if holders.is_empty() { UNSEEN.to_owned() } else { holders.join(", ") }
}

const UNSEEN: &str = "a process that cannot be seen from here";

/// Whether a process has a file open; one of another user's, of which nothing is told, has not.
fn has_open(pid: u32, file: &Metadata) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut opened = descriptors.filter_map(|entry| fs::metadata(entry.path()).ok());
    opened.any(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
}

fn described(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim().escape_default())
}

//! The processes of workspaces, as the kernel shows them.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// The processes that carry `USHER_WORKSPACE` and live in this state folder.
pub fn of_workspaces(state_dir: &Path) -> Vec<Pid> {
    let state_dir = state_dir.to_string_lossy().into_owned();
    let all = std::fs::read_dir("/proc").expect("/proc is mounted");
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            // Empty for zombies and unreadable for processes that end just now: both are no workspace's any more.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            environment.split('\0').any(|entry| entry.starts_with("USHER_WORKSPACE="))
                && environment.contains(&state_dir)
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Ends a process at once. One that is gone already is as good.
pub fn kill(pid: Pid) {
    let _gone = kill_process(pid, Signal::KILL);
}

//! Which processes belong to a workspace: read from `/proc`, held by pidfd, never by a bare pid.
//!
//! A workspace's processes carry its mark in their environment; so do all that they start, in whatever
//! session, for ever. Programs that write their title over their environment are found as members of the main
//! process's session and as children of a member. What escapes all of it has hidden on purpose: a process is no
//! security boundary.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// The variable that marks a workspace's processes: `<installation>/<workspace>`.
pub(super) const MARK: &str = "USHER_WORKSPACE";

/// Linux bounds arguments and environment together to 6 MiB.
const ENVIRON_MAX: u64 = 8 << 20;

/// One process and no other: pids are used again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: i32,
    /// In clock ticks since the boot.
    pub started: u64,
}

/// A process as one look at `/proc` showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub process: ProcessId,
    pub parent: i32,
    pub session: i32,
    /// Dead, but not yet waited for by its parent.
    pub zombie: bool,
    /// What its environment says that it belongs to.
    pub mark: Option<String>,
}

/// Whose processes are looked for.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    /// The value of [`MARK`].
    pub mark: String,
    /// The main process, leader of the session, dead or alive; if it is known.
    pub main: Option<ProcessId>,
}

/// A process that is held: its pidfd cannot come to mean another.
pub(super) struct Held(AsyncFd<OwnedFd>);

impl Held {
    /// Holds a process; `None` if it has ended.
    pub fn open(process: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the pidfd was opened: if the process is still the one that was meant, so is the pidfd.
        if !lives(process) {
            return Ok(None);
        }
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe; an owned descriptor cannot be misused so"
        )]
        let ended = AsyncFd::new(fd)?;
        Ok(Some(Self(ended)))
    }

    /// Sends a signal; a process that has ended does not mind. `false` = this process may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match pidfd_send_signal(self.0.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(true),
            Err(rustix::io::Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended. Cancel-safe.
    pub async fn ended(&self) {
        // An error here means that the runtime is being shut down, and with it whoever waits.
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The identity of this boot of the machine.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The process that has this pid now.
pub(super) fn process_of(pid: i32) -> Option<ProcessId> {
    look(pid).map(|seen| seen.process)
}

/// Whether this process has not ended.
pub(super) fn lives(process: ProcessId) -> bool {
    look(process.pid).is_some_and(|now| now.process == process && !now.zombie)
}

/// All processes that there are; of those of other users without their mark. Blocks.
pub(super) fn scan() -> io::Result<Vec<Seen>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(mut seen) = look(pid) else { continue };
        if !seen.zombie {
            seen.mark = mark_of(pid);
        }
        found.push(seen);
    }
    Ok(found)
}

/// The living processes of a workspace among all that were seen. Never `usher` itself, its own pid.
pub(super) fn members(seen: &[Seen], whose: &Whose, usher: i32) -> Vec<ProcessId> {
    let belongs = |one: &Seen| match &one.mark {
        Some(mark) => Some(*mark == whose.mark),
        None => in_session(one, seen, whose.main).then_some(true),
    };
    let mut pids: HashSet<i32> = HashSet::new();
    let mut children: HashMap<i32, Vec<&Seen>> = HashMap::new();
    let mut next: Vec<i32> = Vec::new();
    for one in seen.iter().filter(|one| one.process.pid != usher) {
        match belongs(one) {
            Some(true) => next.push(one.process.pid),
            // Marked as somebody else's: neither it nor what it starts is this workspace's.
            Some(false) => {}
            None => children.entry(one.parent).or_default().push(one),
        }
    }
    while let Some(pid) = next.pop() {
        if pids.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten().map(|child| child.process.pid));
        }
    }
    seen.iter().filter(|one| !one.zombie && pids.contains(&one.process.pid)).map(|one| one.process).collect()
}

/// Whether a process is in the session that the main process leads or led.
///
/// While a session has members its number is not given to a new process; so if there is a process of that pid
/// that is not the main one, the session is another, too.
fn in_session(one: &Seen, seen: &[Seen], main: Option<ProcessId>) -> bool {
    main.is_some_and(|main| {
        one.session == main.pid
            && one.process.started >= main.started
            && seen.iter().all(|other| other.process.pid != main.pid || other.process == main)
    })
}

/// Everything about a process but its mark.
fn look(pid: i32) -> Option<Seen> {
    // The name may hold any bytes.
    parse_stat(pid, &String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Reads `/proc/<pid>/stat` (proc_pid_stat(5)). The name in it may hold spaces and parentheses.
fn parse_stat(pid: i32, stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    // Counted from field 3, the state.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Seen {
        process: ProcessId { pid, started: field(22)?.parse().ok()? },
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        zombie: matches!(field(3)?, "Z" | "X"),
        mark: None,
    })
}

fn mark_of(pid: i32) -> Option<String> {
    let mut environ = Vec::new();
    File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRON_MAX).read_to_end(&mut environ).ok()?;
    environ.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32, parent: i32, session: i32, mark: &str) -> Seen {
        Seen {
            process: ProcessId { pid, started: 1000 + pid as u64 },
            parent,
            session,
            zombie: false,
            mark: (!mark.is_empty()).then(|| mark.into()),
        }
    }

    fn pids(seen: &[Seen], main: Option<i32>) -> Vec<i32> {
        let main = main.map(|pid| ProcessId { pid, started: 1000 + pid as u64 });
        let whose = Whose { mark: "i/alice".into(), main };
        members(seen, &whose, 1).iter().map(|process| process.pid).collect()
    }

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let rest = "S 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10";
        let read = parse_stat(42, &format!("42 (a) b (c) {rest}")).unwrap();
        assert_eq!(read.process, ProcessId { pid: 42, started: 123_456 });
        assert_eq!((read.parent, read.session, read.zombie), (7, 40, false));
        assert!(parse_stat(42, "42 (sh) Z 7 42 40 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 1").unwrap().zombie);
        for broken in
            ["", "42", "42 (sh)", "42 (sh) S 1 2 3", "42 (sh) S x 42 40 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 1"]
        {
            assert_eq!(parse_stat(42, broken), None, "{broken}");
        }
    }

    #[test]
    fn marked_processes_belong_wherever_they_are() {
        let all = [seen(10, 1, 10, "i/alice"), seen(11, 0, 11, "i/alice"), seen(12, 10, 12, "i/bob")];
        assert_eq!(pids(&all, None), [10, 11]);
    }

    #[test]
    fn processes_that_hid_their_environment_are_found_by_session_and_parent() {
        let all = [
            seen(10, 1, 10, "i/alice"),
            seen(11, 0, 10, ""),  // in the session
            seen(12, 10, 12, ""), // a child in its own session
            seen(13, 12, 13, ""), // and its child
            seen(14, 0, 14, ""),  // nobody's
        ];
        assert_eq!(pids(&all, Some(10)), [10, 11, 12, 13]);
        assert_eq!(pids(&all[1..], Some(10)), [11], "also when the leader is gone");
    }

    #[test]
    fn another_session_that_took_the_number_is_left_alone() {
        let mut all = [seen(10, 1, 10, ""), seen(11, 10, 10, "")];
        all[0].process.started = 5000;
        all[1].process.started = 5001;
        assert_eq!(pids(&all, Some(10)), [0; 0]);
    }

    #[test]
    fn what_is_marked_as_another_installations_ends_the_search() {
        let all = [seen(10, 1, 10, "i/alice"), seen(11, 10, 10, "j/alice"), seen(12, 11, 12, "")];
        assert_eq!(pids(&all, Some(10)), [10]);
    }

    #[test]
    fn usher_and_the_dead_are_never_members() {
        let mut all =
            [seen(1, 0, 1, "i/alice"), seen(2, 1, 2, ""), seen(3, 1, 3, "i/alice"), seen(4, 3, 3, "")];
        all[2].zombie = true;
        assert_eq!(pids(&all, None), [4]);
    }
}

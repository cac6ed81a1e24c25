//! Why a workspace does not run, in words: from errors of the system and from how a process ended.

use super::command::BadCommand;
use super::log::tail_of;
use crate::{Cause, CauseCode};
use config::TemplateName;
use rustix::io::Errno;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How much of the output a cause quotes; the whole tail is shown beside it.
const QUOTED_LINES: usize = 3;
/// See [`QUOTED_LINES`].
const QUOTED_BYTES: usize = 400;

/// How a main process ended: none = it is not this Usher's child, so nobody knows.
pub(super) fn ended(status: Option<ExitStatus>, log: &str) -> Cause {
    let (how, hint) = match status {
        None => (
            "The workspace ended; how is not known, because Usher was restarted since it began.".to_owned(),
            "read the workspace's log; the exit code of a process goes to the Usher that started it",
        ),
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => (
                "The workspace ended by itself, with exit code 0.".to_owned(),
                "the command of the template must stay in the foreground; perhaps the user quit the application",
            ),
            (Some(code @ (126 | 127)), _) => (
                format!("The workspace's program failed with exit code {code}."),
                "a shell ends like this when a program that it should run is not there, or may not be executed: is \
                 it installed, and in the PATH of Usher?",
            ),
            (Some(code), _) => (
                format!("The workspace's program failed with exit code {code}."),
                "read the workspace's log; if its port was taken in between, the next start takes another",
            ),
            (None, Some(9)) => (
                "The workspace's program was killed by signal 9 (SIGKILL).".to_owned(),
                "often the machine ran out of memory: look for the OOM killer in the kernel's log",
            ),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                let name = signal_name(signal);
                (
                    format!("The workspace's program was ended by signal {signal}{name}."),
                    "read the workspace's log; Usher sends SIGTERM and SIGKILL only to stop a workspace",
                )
            }
        },
    };
    let quoted = tail_of(log.trim_end().as_bytes(), QUOTED_LINES, QUOTED_BYTES);
    let detail = if quoted.is_empty() { how } else { format!("{how} Its last output: {quoted}") };
    Cause { code: CauseCode::Crashed, detail, hint: hint.to_owned() }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// The program could not be started. `program` is as the template has it, its placeholders filled.
pub(super) fn not_spawned(program: &str, error: &io::Error) -> Cause {
    if lacks_resources(error) {
        return no_resources("start a process", error);
    }
    let detail = match error.kind() {
        io::ErrorKind::NotFound => format!("The program {program:?} of this workspace was not found."),
        io::ErrorKind::PermissionDenied => {
            format!("The program {program:?} of this workspace may not be executed.")
        }
        _ => format!("The program {program:?} of this workspace cannot be executed: {error}."),
    };
    let hint = "look at the template's command: is it installed, executable and in the PATH of Usher, \
                and is the interpreter of a script there?";
    Cause { code: CauseCode::ProgramNotFound, detail, hint: hint.to_owned() }
}

/// The template is of another driver, which a validated configuration never has.
pub(super) fn not_for_processes(template: &TemplateName) -> Cause {
    Cause {
        code: CauseCode::TemplateGone,
        detail: format!("The template {template} of this workspace is not one of processes."),
        hint: "the templates of a configuration are those of its `driver`".to_owned(),
    }
}

/// The template makes no command line.
pub(super) fn bad_command(bad: &BadCommand) -> Cause {
    match bad {
        BadCommand::Empty => Cause {
            code: CauseCode::ProgramNotFound,
            detail: "The template of this workspace has no command.".to_owned(),
            hint: "set the template's command".to_owned(),
        },
        BadCommand::NoSecret(variable) => Cause {
            code: CauseCode::SecretMissing,
            detail: format!("The secret for {variable} that this workspace needs is empty."),
            hint: "look at the environment variable or the file that the template's environment names"
                .to_owned(),
        },
    }
}

/// Something that the workspace needs on the machine cannot be had: `what` follows "Usher could not".
pub(super) fn no_resources(what: &str, error: &io::Error) -> Cause {
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => "raise the limit of open files of Usher (ulimit -n)",
        Some(Errno::NFILE) => "the machine is out of open files (fs.file-max)",
        Some(Errno::AGAIN) => "raise the limit of processes of Usher's account (ulimit -u, pids.max)",
        Some(Errno::NOMEM) => "the machine is out of memory",
        Some(Errno::NOSPC | Errno::DQUOT) => "the disk of the state folder is full",
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            "Usher's account must own and be able to write the state folder"
        }
        _ => "look at the state folder and the limits of Usher's account",
    };
    Cause {
        code: CauseCode::NoResources,
        detail: format!("Usher could not {what}: {error}."),
        hint: hint.to_owned(),
    }
}

/// The record of the workspace could not be written.
pub(super) fn state_unwritable(error: &crate::RecordError) -> Cause {
    Cause {
        code: CauseCode::StateUnwritable,
        detail: format!("Usher could not record the workspace: {error}."),
        hint: "is the disk of the state folder full, or the folder not writable?".to_owned(),
    }
}

/// More was asked of one workspace than is done at a time.
pub(super) fn too_many_orders() -> Cause {
    Cause {
        code: CauseCode::NoResources,
        detail: "Too many starts and stops of this workspace are waiting.".to_owned(),
        hint: "a process of the workspace cannot be ended; Usher's log names it".to_owned(),
    }
}

fn lacks_resources(error: &io::Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOSPC, Errno::DQUOT]
        .map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| lacking.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_told_in_words() {
        // As wait(2) encodes it: the exit code in the second byte, else the signal in the first.
        let table = [
            (Some(0), "The workspace ended by itself, with exit code 0."),
            (Some(3 << 8), "The workspace's program failed with exit code 3."),
            (Some(9), "The workspace's program was killed by signal 9 (SIGKILL)."),
            (Some(11), "The workspace's program was ended by signal 11 (SIGSEGV)."),
            (Some(42), "The workspace's program was ended by signal 42."),
            (None, "The workspace ended; how is not known, because Usher was restarted since it began."),
        ];
        for (status, detail) in table {
            let cause = ended(status.map(ExitStatus::from_raw), "");
            assert_eq!((cause.code, cause.detail.as_str()), (CauseCode::Crashed, detail));
        }
    }

    #[test]
    fn a_shell_that_finds_no_program_leads_to_the_path_and_not_to_the_port() {
        let hint = |code: i32| ended(Some(ExitStatus::from_raw(code << 8)), "").hint;
        assert!(hint(127).contains("PATH") && hint(126).contains("PATH"));
        assert!(hint(1).contains("port") && !hint(127).contains("port"));
    }

    #[test]
    fn the_last_lines_are_quoted_and_bounded() {
        let cause = ended(Some(ExitStatus::from_raw(1 << 8)), "1\n2\n3\n4\n\n");
        assert_eq!(cause.detail, "The workspace's program failed with exit code 1. Its last output: 2\n3\n4");
        let long = ended(Some(ExitStatus::from_raw(0)), &"x".repeat(100_000)).detail;
        assert!(long.len() < 500, "{}", long.len());
    }

    #[test]
    fn a_program_that_does_not_start_is_told_from_a_machine_that_cannot() {
        let cause = |errno: Errno| not_spawned("jupyter", &errno.into());
        assert_eq!(cause(Errno::NOENT).code, CauseCode::ProgramNotFound);
        assert_eq!(cause(Errno::NOENT).detail, "The program \"jupyter\" of this workspace was not found.");
        assert_eq!(
            cause(Errno::ACCESS).detail,
            "The program \"jupyter\" of this workspace may not be executed."
        );
        assert_eq!(cause(Errno::NOEXEC).code, CauseCode::ProgramNotFound);
        for (errno, hint) in
            [(Errno::MFILE, "ulimit -n"), (Errno::AGAIN, "ulimit -u"), (Errno::NOMEM, "memory")]
        {
            assert_eq!(cause(errno).code, CauseCode::NoResources);
            assert!(cause(errno).hint.contains(hint), "{errno}");
        }
    }
}

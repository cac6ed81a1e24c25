//! A program of the operator writes the records.

use super::Change;
use super::error::DnsError;
use config::DnsProviderName;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How much of the end of its output is kept, for the error.
const OUTPUT_MAX: usize = 768;
/// What it gets of the environment: what programs need to run at all, and to find their own files. Nothing else, since
/// secrets of Usher's configuration come by the environment, too.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// How long what it started may keep its output open after it has failed.
const OUTPUT_AFTER: Duration = Duration::from_millis(500);

/// A program, with its first arguments.
pub(super) struct Program {
    provider: DnsProviderName,
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

/// A running child with all that it started; killed when dropped before it was seen to end.
///
/// As long as its end was not waited for, its id is nobody else's.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Program {
    /// # Errors
    /// There is no program in the command.
    pub(super) fn new(
        provider: DnsProviderName,
        command: &[String],
        timeout: Duration,
    ) -> Result<Self, DnsError> {
        let Some((program, arguments)) = command.split_first() else {
            let reason = "it names no program".to_owned();
            return Err(DnsError::Unusable { provider, key: "command", reason });
        };
        Ok(Self { provider, program: program.clone(), arguments: arguments.to_vec(), timeout })
    }

    /// Runs it to its end. Killed with all that it started when it takes too long, or when this is dropped.
    ///
    /// # Errors
    /// It does not start, takes too long, or ends with another code than 0.
    pub(super) async fn run(&self, change: Change, name: &str, text: &str) -> Result<(), DnsError> {
        let not_started = |source| DnsError::NotStarted {
            provider: self.provider.clone(),
            program: self.program.clone(),
            name: name.to_owned(),
            source,
        };
        let (mut child, mut output) = self.start(change, name, text).map_err(not_started)?;
        let mut kept = Vec::new();
        let ended = timeout(self.timeout, async {
            tokio::select! {
                ended = child.0.wait() => ended,
                // It ends only with the pipe, which something that it started may hold open; then the first one wins.
                () = keep(&mut output, &mut kept) => child.0.wait().await,
            }
        });
        let Ok(ended) = ended.await else {
            drop(child);
            return Err(DnsError::Killed {
                provider: self.provider.clone(),
                program: self.program.clone(),
                name: name.to_owned(),
                waited: self.timeout,
                output: said(&kept),
            });
        };
        let status = ended.map_err(not_started)?;
        if status.success() {
            return Ok(());
        }
        // What is in the pipe already; whoever else holds it open is not waited for.
        let _rest = timeout(OUTPUT_AFTER, keep(&mut output, &mut kept)).await;
        Err(self.failed(name, status, &kept))
    }

    fn start(&self, change: Change, name: &str, text: &str) -> io::Result<(Group, Receiver)> {
        let (output, input) = io::pipe()?;
        let mut command = Command::new(&self.program);
        let environment: Vec<(&str, OsString)> =
            ENVIRONMENT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
        command.args(&self.arguments).args([change.word(), name, text]);
        command.env_clear().envs(environment);
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        // So that what it starts can be killed with it.
        command.process_group(0).kill_on_drop(true);
        let output = Receiver::from_owned_fd(output.into())?;
        Ok((Group(command.spawn()?), output))
    }

    fn failed(&self, name: &str, status: ExitStatus, kept: &[u8]) -> DnsError {
        DnsError::Failed {
            provider: self.provider.clone(),
            program: self.program.clone(),
            name: name.to_owned(),
            status,
            output: said(kept),
        }
    }
}

/// Reads to the end, and keeps the last [`OUTPUT_MAX`] bytes. What was kept stays when it is dropped.
async fn keep(output: &mut Receiver, kept: &mut Vec<u8>) {
    let mut piece = [0; OUTPUT_MAX];
    while let Ok(length @ 1..) = output.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(OUTPUT_MAX));
    }
}

/// The output as one line for a log.
fn said(kept: &[u8]) -> String {
    let text = String::from_utf8_lossy(kept);
    let lines = text.split(char::is_control).map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" | ");
    if line.is_empty() { "it said nothing".to_owned() } else { line }
}

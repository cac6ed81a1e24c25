//! Starts a workspace's main process, and holds it or one that an earlier Usher started.

use super::causes;
use super::command::{CommandLine, command_line};
use super::folders::utf8;
use super::proc::{Held, ProcessId, process_of};
use super::recorded::{Place, Run};
use super::{Shared, mark};
use crate::placeholders::Placeholders;
use crate::{Address, Cause, StartSpec};
use config::ProcessTemplate;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;

/// The main process of a workspace.
pub(super) enum Main {
    /// A child of this Usher.
    Own(Box<dyn ChildWrapper>),
    /// One that an earlier Usher started.
    Adopted(Held),
}

impl Main {
    /// Waits for its end; the status of an adopted one nobody knows. Cancel-safe.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Own(child) => child.wait().await.ok(),
            Self::Adopted(held) => {
                held.ended().await;
                None
            }
        }
    }
}

/// A TCP port of loopback that is free now.
///
/// Somebody may take it before the workspace binds it: then the workspace fails, and is started again with
/// another port.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Where a start accepts connections.
pub(super) fn address(shared: &Shared, run: &Run) -> Address {
    match run.place {
        Place::Socket => Address::Unix(shared.folders.socket(&run.generation)),
        Place::Port(port) => Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    }
}

/// Starts the main process in a session of its own. Blocks until it executes.
pub(super) fn launch(
    shared: &Shared,
    spec: &StartSpec,
    template: &ProcessTemplate,
    run: &Run,
) -> Result<(Main, ProcessId), Cause> {
    let line = fill(shared, spec, template, run)?;
    let resources = |what: &'static str| move |error| causes::no_resources(what, &error);
    shared.folders.make_home(&spec.id).map_err(resources("make the workspace's home"))?;
    let output = shared
        .folders
        .log(&spec.id)
        .begin(&run.generation)
        .map_err(resources("write the workspace's log"))?;
    let errors = output.try_clone().map_err(resources("write the workspace's log"))?;
    let mut command = Command::new(&line.program);
    command
        .args(&line.arguments)
        .env_clear()
        .envs(&line.environment)
        .current_dir(shared.folders.home(&spec.id))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let spawned = CommandWrap::from(command).wrap(ProcessSession).spawn();
    let wrapped = spawned.map_err(|error| causes::not_spawned(&line.program, &error))?;
    // The child itself: the wrapper's wait goes on to others of its group.
    let child = wrapped.into_inner();
    // Not waited for yet, so it has its pid for itself, even if it has ended.
    let process = child.id().and_then(|pid| process_of(pid.try_into().ok()?));
    match process {
        Some(process) => {
            limit_open_files(process, shared.open_files);
            Ok((Main::Own(child), process))
        }
        None => Err(causes::no_resources("read the process's start time", &io::ErrorKind::NotFound.into())),
    }
}

/// Takes Usher's own raised limit of open files from a child: programs that loop over all descriptors they may
/// have, or size tables by them, take that many for granted.
///
/// Done from outside, microseconds after it began to execute: std has no way to do it between fork and exec that
/// is not `unsafe`. What it starts has the limit in any case. The hard limit stays, so whoever needs more may
/// take it.
fn limit_open_files(process: ProcessId, most: Option<u64>) {
    let limit = Rlimit { current: most, maximum: getrlimit(Resource::Nofile).maximum };
    match prlimit(Pid::from_raw(process.pid), Resource::Nofile, limit) {
        Ok(_) | Err(Errno::SRCH) => {}
        Err(error) => {
            tracing::warn!(pid = process.pid, %error, "a workspace keeps Usher's limit of open files")
        }
    }
}

fn fill(
    shared: &Shared,
    spec: &StartSpec,
    template: &ProcessTemplate,
    run: &Run,
) -> Result<CommandLine, Cause> {
    let (home, socket) = (shared.folders.home(&spec.id), shared.folders.socket(&run.generation));
    let port = match run.place {
        Place::Port(port) => Some(port),
        Place::Socket => None,
    };
    let placeholders = Placeholders {
        socket: Some(utf8(&socket).expect("the state folder is UTF-8")),
        port,
        host: &spec.host,
        home: utf8(&home).expect("the state folder is UTF-8"),
        label: spec.id.label().map_or("", |label| label.as_str()),
        name: spec.id.name().map_or("", |name| name.as_str()),
        usher: Some(&shared.usher),
    };
    let mark = mark(&shared.folders.installation, &spec.id.to_string());
    command_line(template, &placeholders, &mark, &run.generation, |name| std::env::var_os(name))
        .map_err(|bad| causes::bad_command(&bad))
}

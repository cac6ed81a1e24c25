//! The `usher` binary: reads the command line and hands it to the library.

use anyhow::Context;
use clap::Parser;
use proxy::cli::{Certs, Cli, Command, Demo};
use proxy::remote::certificates as remote_certificates;
use proxy::{command_line, configuration, demo, remote, serve, warnings};
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Gives the memory of closed connections back; glibc's keeps it for ever (measured November 2026).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing has installed a crypto provider before the first line of main");
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<config::Findings>() => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("usher: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(file) => {
            let config = configuration::load(&file.config)?;
            start_log();
            Ok(serve::serve(config)?)
        }
        Command::Check { file } => {
            let config = configuration::load(&file)?;
            let warnings: String =
                warnings::of(&config).iter().map(|warning| format!("warning: {warning}\n")).collect();
            print(&format!("{warnings}{}: ok\n", file.display()))
        }
        Command::Status { running, json } => print(&wait_for(remote::status(&running.socket()?, json))??),
        Command::Stop { name, running } => print(&wait_for(remote::stop(&running.socket()?, &name))??),
        Command::Delete { name, with_volume, running } => {
            print(&wait_for(remote::delete(&running.socket()?, &name, with_volume))??)
        }
        Command::SignOut { label, running } => {
            print(&wait_for(remote::sign_out(&running.socket()?, &label))??)
        }
        Command::Certs { command } => certs(command),
        Command::Ca(running) => {
            print(&wait_for(remote_certificates::authority(&running.socket()?))??)?;
            if std::io::stdout().is_terminal() {
                print(&format!("\n{}", remote_certificates::TRUST))
            } else {
                Ok(())
            }
        }
        Command::Login { at, scopes, no_browser } => {
            print(&wait_for(command_line::login(at.portal, &scopes, !no_browser))??)
        }
        Command::Token(at) => print(&wait_for(command_line::token(at.portal))??),
        Command::Logout(at) => print(&wait_for(command_line::logout(at.portal))??),
        Command::Demo(options) => run_demo(&options),
        Command::Version => print(concat!("usher ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn certs(command: Certs) -> anyhow::Result<()> {
    match command {
        Certs::List { running, json } => {
            print(&wait_for(remote_certificates::list(&running.socket()?, json))??)
        }
        Certs::Renew { name, running } => {
            print(&wait_for(remote_certificates::renew(&running.socket()?, &name))??)
        }
        Certs::Import { name, certificate, private_key, running } => {
            let socket = running.socket()?;
            print(&wait_for(remote_certificates::import(&socket, &name, &certificate, &private_key))??)
        }
    }
}

/// Writes to standard output. A reader that has seen enough (`usher status | head -1`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write the answer"),
        _ => Ok(()),
    }
}

fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no runtime: too many open files?")?;
    Ok(runtime.block_on(work))
}

fn run_demo(options: &Demo) -> anyhow::Result<()> {
    let home = std::env::current_dir().context("the working directory, where the note is kept, is gone")?;
    Ok(wait_for(demo::run(options, home))??)
}

/// What is logged unless `RUST_LOG` says otherwise. What Pingora calls an error is mostly a client that broke off;
/// what matters of it stands in our own events.
const LOGGED: &str = "info,pingora=off";

/// One event a line: JSON where a machine reads, plain where a person does.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}

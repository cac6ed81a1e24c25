//! The commands of the binary, and the help that teaches them.

use clap::{Args, Parser, Subcommand};
use config::WorkspaceId;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Shows each user to their own workspace.
///
/// Usher stands at the edge: it knows who asks, starts their workspace on the first visit, carries HTTP and
/// WebSockets to it on a host of its own, and stops it when nobody uses it.
#[derive(Debug, Parser)]
#[command(
    name = "usher",
    version,
    after_help = "Try it: usher serve --config config/quickstart.toml, then open http://alice.lab.localhost:8080/\n\
                  Exit codes: 0 done, 1 failed, 2 wrong use or bad configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the edge until SIGTERM (drains) or a second one (drains now).
    #[command(
        after_help = "Logs are JSON lines on standard error, or plain lines on a terminal; RUST_LOG sets their level."
    )]
    Serve(ConfigFile),
    /// Read a configuration and tell every mistake in it, each with line, column, key and what would be accepted.
    #[command(after_help = "Example: usher check usher.toml && systemctl restart usher")]
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Tell what runs, why it is alive, since when, and when it stops.
    Status {
        /// The running usher.
        #[command(flatten)]
        running: Running,
        /// The answer of `/status`, as it came.
        #[arg(long)]
        json: bool,
    },
    /// Stop a workspace, used or not; its files stay, and the next visit starts it again.
    #[command(after_help = "Example: usher stop gpu--alice")]
    Stop {
        /// The workspace as `usher status` names it: `alice` or `gpu--alice`.
        #[arg(value_parser = workspace)]
        name: WorkspaceId,
        /// The running usher.
        #[command(flatten)]
        running: Running,
    },
    /// Stop a workspace and forget it; its files stay unless --with-volume.
    #[command(after_help = "Example: usher delete alice --with-volume   (the files are gone for ever)")]
    Delete {
        /// The workspace as `usher status` names it: `alice` or `gpu--alice`.
        #[arg(value_parser = workspace)]
        name: WorkspaceId,
        /// Delete the user's files, too: they cannot be brought back.
        #[arg(long)]
        with_volume: bool,
        /// The running usher.
        #[command(flatten)]
        running: Running,
    },
    /// End all sessions of somebody, on every replica and with their open sockets, and revoke their tokens; they can log in again.
    #[command(after_help = "Example: usher sign-out alice")]
    SignOut {
        /// Their label, as in the host of their workspace.
        label: String,
        /// The running usher.
        #[command(flatten)]
        running: Running,
    },
    /// List, renew or import certificates.
    Certs {
        /// What is to be done.
        #[command(subcommand)]
        command: Certs,
    },
    /// Print the certificate of usher's own authority (`source = "self-signed"`), and how to trust it.
    #[command(
        after_help = "Example: usher ca > usher-ca.crt; curl --cacert usher-ca.crt https://lab.localhost:8443/\n\
                      On a terminal it tells how systems and browsers are told to trust it."
    )]
    Ca(Running),
    /// Log in at a portal from this machine, by a browser: for `usher token`, and for what uses it.
    #[command(after_help = "Example: usher login --portal https://lab.example.org\n\
                      It is kept in $XDG_CONFIG_HOME/usher/credentials.json, for you alone.")]
    Login {
        /// The portal.
        #[command(flatten)]
        at: Portal,
        /// What it may be used for, with spaces between: a portal's page of tokens tells what there is.
        #[arg(long, default_value = crate::command_line::SCOPES)]
        scopes: String,
        /// Print the address in place of starting a browser.
        #[arg(long)]
        no_browser: bool,
    },
    /// Print a token that is good for some minutes, by the login of `usher login`.
    #[command(
        after_help = "Example: curl -H \"Authorization: Bearer $(usher token)\" https://lab.example.org/api/v1/workspaces"
    )]
    Token(Portal),
    /// End the login of `usher login`, here and at the portal.
    Logout(Portal),
    /// The small application of the quickstart: a clock and an echo over WebSockets, who am I, a note.
    Demo(Demo),
    /// Tell the version.
    Version,
}

/// What is to be done with certificates.
#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Tell all certificates: until when they are good, when they are renewed, and what failed.
    List {
        /// The running usher.
        #[command(flatten)]
        running: Running,
        /// The answer as it came, with times in UNIX seconds.
        #[arg(long)]
        json: bool,
    },
    /// Renew a certificate now, as soon as its authority lets us; the old one is served until then.
    #[command(after_help = "Example: usher certs renew site")]
    Renew {
        /// Its name, as `usher certs list` tells it.
        name: String,
        /// The running usher.
        #[command(flatten)]
        running: Running,
    },
    /// Serve a certificate that was got elsewhere, until it is due to be renewed.
    #[command(
        after_help = "Example: usher certs import site --certificate fullchain.pem --private-key privkey.pem"
    )]
    Import {
        /// Its name, as `usher certs list` tells it.
        name: String,
        /// The chain, PEM, leaf first.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its key, PEM.
        #[arg(long, value_name = "FILE")]
        private_key: PathBuf,
        /// The running usher.
        #[command(flatten)]
        running: Running,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "usher.toml")]
    pub config: PathBuf,
}

/// Which portal.
#[derive(Debug, Args)]
pub struct Portal {
    /// Its address; where there is one login, it need not be named.
    #[arg(long, value_name = "ADDRESS")]
    pub portal: Option<String>,
}

/// How to reach the usher that runs: its admin socket.
#[derive(Debug, Args)]
pub struct Running {
    /// The configuration that it runs with, to find its admin socket.
    #[arg(long, value_name = "FILE", default_value = "usher.toml", conflicts_with = "socket")]
    pub config: PathBuf,
    /// Its admin socket.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Running {
    /// The admin socket, from the configuration unless it is named.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn socket(self) -> Result<PathBuf, config::Findings> {
        match self.socket {
            Some(path) => Ok(path),
            None => Ok(config::Config::load(&self.config)?.admin.socket),
        }
    }
}

/// Where the demo listens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct DemoListen {
    /// A Unix socket to make.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A port of 127.0.0.1.
    #[arg(long)]
    pub port: Option<u16>,
    /// An address and a port, as 0.0.0.0:8888 in a container: whoever reaches it may use it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Option<SocketAddr>,
}

/// The demo workspace.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where it listens.
    #[command(flatten)]
    pub listen: DemoListen,
    /// Wait this many milliseconds before listening, to show the waiting page.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub start_delay: u64,
}

fn workspace(text: &str) -> Result<WorkspaceId, config::BadName> {
    WorkspaceId::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_explains_itself() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }
}

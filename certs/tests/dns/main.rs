//! The records of `dns-01` at real DNS servers (BIND), by real programs, and at stand-ins of APIs that are not to be had
//! here. `.ci/provision.sh dns` installs what is needed.

mod apis;
mod programs;
mod propagation;
mod relay;
mod servers;
mod updates;

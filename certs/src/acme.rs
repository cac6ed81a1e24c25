//! Certificates by ACME (RFC 8555): one order, from its making to a chain that can be served.

mod account;
mod failure;
mod order;
mod transport;

pub(crate) use account::Accounts;
pub(crate) use failure::Failure;
pub(crate) use order::{Desk, Unit};

//! Certificates by ACME (RFC 8555): one order, from its making to a chain that can be served.

/// How often a call is made again whose nonce was refused: authorities may refuse each second one (RFC 8555 §6.5), and
/// the client itself tries three times.
const NONCES: usize = 8;

/// What a call comes to, made again for as long as its nonce is refused. A macro, since a closure that lends what it has
/// makes futures that cannot be sent.
macro_rules! persist {
    ($call:expr) => {{
        let mut left = $crate::acme::NONCES;
        loop {
            match $call.await {
                Err(error) if $crate::acme::order::is_bad_nonce(&error) && left > 0 => left -= 1,
                done => break done,
            }
        }
    }};
}

mod account;
mod failure;
mod leftovers;
mod order;
mod transport;

pub(crate) use account::Accounts;
pub(crate) use failure::{Failure, Wait};
pub(crate) use order::{AcmeClient, Getting};

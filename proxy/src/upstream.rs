//! The way to a workspace, as Pingora wants it told.

use crate::access::Forward;
use crate::dial::Dial;
use control::{Address, Route};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How often a request is tried before its workspace counts as unreachable: as long as one connect takes to be
/// refused, and [`back_off`] between, that is 0.8 s.
pub const TRIES: u32 = 5;
/// How long an unused connection is kept: below the keep-alive of the servers that applications come with
/// (Node.js and uvicorn: 5 s), or a POST may meet one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The wait before the second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Where a request goes: the workspace's own address, or another port of it.
pub fn address(own: &Address, port: Option<u16>) -> Address {
    match (port, own) {
        (None, own) => own.clone(),
        (Some(port), Address::Tcp(own)) => Address::Tcp(SocketAddr::new(own.ip(), port)),
        // A process behind a socket has its other ports on loopback.
        (Some(port), Address::Unix(_)) => Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    }
}

/// How long to wait before this try, from 0: the first is made at once, without the cost of a timer.
pub fn back_off(tries: u32) -> Option<Duration> {
    let before = tries.checked_sub(1)?;
    Some(FIRST_WAIT * 2_u32.saturating_pow(before))
}

/// The peer for a request. Its connections are pooled under the workspace's instance, never across. What the pool
/// lacks is opened by the dial, which has its own idea of how long that may take.
///
/// # Errors
/// The path of a Unix socket that is too long or not UTF-8.
pub(crate) fn peer(forward: &Forward, dial: Dial) -> pingora::Result<HttpPeer> {
    let mut peer = peer_of(&forward.route, forward.port)?;
    peer.options.custom_l4 = Some(Arc::new(dial));
    Ok(peer)
}

fn peer_of(route: &Route, port: Option<u16>) -> pingora::Result<HttpPeer> {
    let mut peer = match address(&route.address, port) {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => {
            let path = path
                .to_str()
                .ok_or_else(|| Error::explain(ErrorType::SocketError, "the socket's path is not UTF-8"))?;
            HttpPeer::new_uds(path, false, String::new())?
        }
    };
    peer.group_key = BuildHasherDefault::<DefaultHasher>::default().hash_one(&route.generation);
    peer.options.idle_timeout = Some(IDLE_TIMEOUT);
    // WebSockets have left Pingora before; no other protocol is switched to.
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    Ok(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::upstreams::peer::Peer;

    fn socket() -> Address {
        Address::Unix("/run/usher/alice.sock".into())
    }

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    #[test]
    fn another_port_is_dialled_on_the_same_host() {
        for (own, port, goes) in [
            (socket(), None, socket()),
            (socket(), Some(8888), tcp("127.0.0.1:8888")),
            (tcp("10.1.2.3:80"), None, tcp("10.1.2.3:80")),
            (tcp("10.1.2.3:80"), Some(8888), tcp("10.1.2.3:8888")),
        ] {
            assert_eq!(address(&own, port), goes);
        }
    }

    #[test]
    fn an_address_that_comes_back_with_another_instance_shares_no_connection() {
        let old = peer_of(&fixture::route(tcp("127.0.0.1:80"), "1"), None).unwrap();
        let new = peer_of(&fixture::route(tcp("127.0.0.1:80"), "2"), None).unwrap();
        assert_ne!(old.reuse_hash(), new.reuse_hash());
        let again = peer_of(&fixture::route(tcp("127.0.0.1:80"), "1"), None).unwrap();
        assert_eq!(old.reuse_hash(), again.reuse_hash());
    }

    #[test]
    fn all_waits_together_stay_below_a_second() {
        assert_eq!(back_off(0), None, "a timer for nothing");
        let all: Duration = (0..TRIES).filter_map(back_off).sum();
        assert!(all < Duration::from_secs(1), "{all:?}");
    }

    mod fixture {
        use super::*;
        use config::{Connect, Idle, ProcessTemplate, Runs, Template};
        use control::Generation;
        use tokio_util::sync::CancellationToken;

        pub fn route(address: Address, generation: &str) -> Route {
            Route {
                generation: Generation(generation.into()),
                address,
                template: Arc::new(template()),
                ended: CancellationToken::new(),
                proof: Arc::default(),
                sight: Default::default(),
                parts: Arc::default(),
            }
        }

        fn template() -> Template {
            Template {
                name: config::TemplateName::parse("demo").unwrap(),
                runs: Runs::Process(ProcessTemplate {
                    command: Vec::new(),
                    environment: Default::default(),
                    connect: Connect::Port,
                    log_size: 1,
                }),
                ready: None,
                ports: Vec::new(),
                notice: false,
                service_workers: false,
                headers: Default::default(),
                addresses: config::AddressLists::default(),
                prestart: Vec::new(),
                start_timeout: Duration::from_secs(1),
                stop_grace: Duration::from_secs(1),
                idle: Idle {
                    idle_after: None,
                    warn_before: Duration::ZERO,
                    max_age: None,
                    keep_until_max: Duration::ZERO,
                    count_open_sockets: false,
                    count_workspace_frames: false,
                    count_open_responses: false,
                    background: Vec::new(),
                    busy: None,
                },
            }
        }
    }
}

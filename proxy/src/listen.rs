//! The sockets that the edge listens on: bound once and alone, then once more for each core.
//!
//! The first bind of an address is without `SO_REUSEPORT`, so that a second instance fails instead of taking half
//! of the connections. Linux lets the option be set on the bound socket afterwards; the further sockets, one per
//! core, join it, and the kernel spreads connections over them.

mod tickets;
pub mod tls;

use crate::edge::{ListenerFacts, Origins};
use config::{Listener, ListenerProtocol};
use rustix::io::Errno;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

/// How many connections may wait to be accepted, per socket.
const BACKLOG: i32 = 1024;

/// Why the listeners cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "the address {0} is taken: end the process that listens there (`ss -ltnp` names it; it may be another \
         usher), or change `address` in `[[listeners]]`"
    )]
    Taken(SocketAddr),
    /// A port below 1024 without the right to it.
    #[error(
        "the address {0} needs a privilege: `sysctl net.ipv4.ip_unprivileged_port_start=80` (in /etc/sysctl.d to \
         last), or take a port from 1024 up and `public_port`"
    )]
    NotPermitted(SocketAddr),
    /// Anything else.
    #[error("the address {address} cannot be listened on")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// All addresses of a listener are IPv6 and this machine has none.
    #[error("no address of the listener {0:?} can be bound: this machine has no IPv6")]
    NoAddress(Vec<SocketAddr>),
}

/// All listeners, bound. Connections wait in the kernel from now on.
#[derive(Debug)]
pub struct Bound {
    pub(crate) doors: Vec<Door>,
    cores: usize,
}

/// One bound address.
pub(crate) struct Door {
    pub(crate) facts: Arc<ListenerFacts>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// One per core.
    pub(crate) sockets: Vec<TcpListener>,
}

impl Bound {
    /// The addresses, with the ports that were chosen for port 0; in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.iter().map(|door| door.address).collect()
    }

    /// The origins that these listeners serve. Those that lead to others serve none.
    pub fn origins(&self) -> Origins {
        let mut facts: Vec<ListenerFacts> = Vec::new();
        for door in self.doors.iter().filter(|door| !door.facts.redirects) {
            if !facts.contains(&door.facts) {
                facts.push(ListenerFacts::clone(&door.facts));
            }
        }
        Origins(facts)
    }

    /// For how many cores they were bound.
    pub fn cores(&self) -> usize {
        self.cores
    }
}

/// Binds all addresses of all listeners, for so many cores; those with `https` shake hands as `tls` says.
///
/// Without IPv6 on this machine its addresses are left out, with a warning.
///
/// # Errors
/// The first address that cannot be used; nothing stays bound.
pub fn bind(listeners: &[Listener], tls: &Arc<ServerConfig>, cores: usize) -> Result<Bound, ListenError> {
    let mut taken = Vec::new();
    for listener in listeners {
        let before = taken.len();
        for address in &listener.addresses {
            taken.extend(take(*address, listener, cores)?);
        }
        if taken.len() == before {
            return Err(ListenError::NoAddress(listener.addresses.clone()));
        }
    }
    // Only now the port is known that redirects lead to.
    let https =
        taken.iter().find(|place| place.listener.protocol == ListenerProtocol::Https).map(Taken::public_port);
    let doors = taken.into_iter().map(|place| place.door(https, tls)).collect();
    Ok(Bound { doors, cores })
}

/// An address of a listener, bound.
struct Taken<'a> {
    listener: &'a Listener,
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Taken<'_> {
    fn public_port(&self) -> u16 {
        self.listener.public_port.unwrap_or(self.address.port())
    }

    /// `https`: where browsers find the first listener that speaks it.
    fn door(self, https: Option<u16>, tls: &Arc<ServerConfig>) -> Door {
        let redirects = self.listener.protocol == ListenerProtocol::Redirect;
        let facts = ListenerFacts {
            tls: self.listener.protocol != ListenerProtocol::Http,
            public_port: https.filter(|_| redirects).unwrap_or(self.public_port()),
            loopback: self.address.ip().is_loopback(),
            redirects,
        };
        Door {
            facts: Arc::new(facts),
            address: self.address,
            tls: (self.listener.protocol == ListenerProtocol::Https).then(|| tls.clone()),
            proxy_protocol: self.listener.proxy_protocol,
            sockets: self.sockets,
        }
    }
}

/// Binds one address; `None` where it is IPv6 and the machine has none.
fn take(asked: SocketAddr, listener: &Listener, cores: usize) -> Result<Option<Taken<'_>>, ListenError> {
    let first = match open(asked, false) {
        Ok(socket) => socket,
        Err(error) if is_without_ipv6(asked, &error) => {
            tracing::warn!(listener.address = %asked, "this machine has no IPv6: the address is left out");
            return Ok(None);
        }
        Err(error) => return Err(explain(asked, error)),
    };
    let (sockets, address) = spread(first, cores).map_err(|error| explain(asked, error))?;
    Ok(Some(Taken { listener, address, sockets }))
}

/// One listening socket per core from the first one, and the address that they share.
fn spread(first: Socket, cores: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    first.set_reuse_port(true)?;
    let first = TcpListener::from(first);
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        sockets.push(open(address, true)?.into());
    }
    Ok((sockets, address))
}

/// A listening socket. Listening is part of the claim: two sockets with `SO_REUSEADDR` may both bind.
fn open(address: SocketAddr, join: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without it a restart fails while connections of the last run are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(join)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether an address could not be had because this machine has no IPv6 at all.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let IpAddr::V6(ip) = address.ip() else { return false };
    match Errno::from_io_error(error) {
        Some(Errno::AFNOSUPPORT) => true,
        // A missing address of one's own is a mistake; a missing loopback is a machine without IPv6.
        Some(Errno::ADDRNOTAVAIL) => ip.is_loopback() || ip.is_unspecified(),
        _ => false,
    }
}

fn explain(address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        io::ErrorKind::PermissionDenied => ListenError::NotPermitted(address),
        _ => ListenError::Socket { address, source },
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("address", &self.address)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use certs::Resolver;
    use std::collections::HashSet;
    use std::net::TcpStream;

    fn bound(listeners: &[Listener], cores: usize) -> Result<Bound, ListenError> {
        let keys = Keys::of_secrets(&[([1; 32], None)]);
        bind(listeners, &tls::server_config(Resolver::of_none(), &tls::tests::TLS, &keys), cores)
    }

    fn loopback(addresses: &[&str]) -> Listener {
        Listener {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            public_port: None,
            protocol: ListenerProtocol::Http,
            proxy_protocol: false,
        }
    }

    #[test]
    fn a_second_instance_fails_and_names_the_address() {
        let first = bound(&[loopback(&["127.0.0.1:0"])], 2).unwrap();
        let taken = first.addresses()[0];
        let error = bound(&[loopback(&[&taken.to_string()])], 2).unwrap_err();
        assert!(matches!(error, ListenError::Taken(address) if address == taken), "{error}");
    }

    #[test]
    fn a_taken_address_among_others_leaves_none_bound() {
        let first = bound(&[loopback(&["127.0.0.1:0"])], 1).unwrap();
        let free = bound(&[loopback(&["127.0.0.1:0"])], 1).unwrap().addresses()[0];
        bound(&[loopback(&[&free.to_string(), &first.addresses()[0].to_string()])], 1).unwrap_err();
        bound(&[loopback(&[&free.to_string()])], 1).unwrap();
    }

    #[test]
    fn every_core_has_a_socket_of_its_own_and_connections_reach_all() {
        let bound = bound(&[loopback(&["127.0.0.1:0"])], 2).unwrap();
        let door = &bound.doors[0];
        assert_eq!(door.sockets.len(), 2);
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(door.address).unwrap()).collect();
        let accepted: Vec<usize> =
            door.sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[test]
    fn port_0_is_reported_as_bound_and_is_the_public_port() {
        let bound = bound(&[loopback(&["127.0.0.1:0", "127.0.0.2:0"])], 2).unwrap();
        let ports: HashSet<u16> = bound.addresses().iter().map(SocketAddr::port).collect();
        assert!(!ports.contains(&0));
        let public: HashSet<u16> = bound.origins().0.iter().map(|facts| facts.public_port).collect();
        assert_eq!(public, ports);
        assert!(bound.origins().0.iter().all(|facts| facts.loopback && !facts.tls));
    }

    #[test]
    fn a_configured_public_port_wins_over_the_bound_one() {
        let listener = Listener { public_port: Some(443), ..loopback(&["127.0.0.1:0"]) };
        assert_eq!(bound(&[listener], 1).unwrap().origins().0[0].public_port, 443);
    }

    #[test]
    fn what_leads_on_leads_to_the_first_port_with_https_and_serves_nothing() {
        let redirect = Listener { protocol: ListenerProtocol::Redirect, ..loopback(&["127.0.0.1:0"]) };
        let https = |public_port| Listener {
            protocol: ListenerProtocol::Https,
            public_port,
            ..loopback(&["127.0.0.1:0"])
        };
        let bound = bound(&[redirect, https(Some(443)), https(None), loopback(&["127.0.0.1:0"])], 1).unwrap();
        let leads = &bound.doors[0];
        assert!(leads.tls.is_none(), "it is cleartext itself");
        assert_eq!(leads.facts.origin("lab.test"), "https://lab.test");
        let served: Vec<_> = bound.origins().0.iter().map(|facts| (facts.tls, facts.redirects)).collect();
        assert_eq!(served, [(true, false), (true, false), (false, false)]);
        assert_eq!(bound.doors.iter().filter(|door| door.tls.is_some()).count(), 2);
    }

    #[test]
    fn only_a_machine_without_ipv6_may_go_on_without_an_address() {
        let missing = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for (address, errno, goes_on) in [
            ("[::1]:80", Errno::AFNOSUPPORT, true),
            ("[::1]:80", Errno::ADDRNOTAVAIL, true),
            ("[::]:80", Errno::ADDRNOTAVAIL, true),
            ("[2001:db8::1]:80", Errno::AFNOSUPPORT, true),
            ("[2001:db8::1]:80", Errno::ADDRNOTAVAIL, false),
            ("127.0.0.1:80", Errno::ADDRNOTAVAIL, false),
            ("[::1]:80", Errno::ADDRINUSE, false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(is_without_ipv6(address, &missing(errno)), goes_on, "{address} {errno}");
        }
    }
}

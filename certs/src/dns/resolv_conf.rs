//! The resolvers of the system: `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};

const FILE: &str = "/etc/resolv.conf";
/// MAXNS of resolv.h: what the system itself reads.
const SERVERS_MAX: usize = 3;
const PORT: u16 = 53;

/// Whom the system asks. Read each time: it changes with the network.
///
/// # Errors
/// The file cannot be read, or names nobody; the reason.
pub(super) async fn servers() -> Result<Vec<SocketAddr>, String> {
    let text = tokio::fs::read_to_string(FILE).await.map_err(|error| error.to_string())?;
    let servers = parse(&text);
    if servers.is_empty() { Err("there is no `nameserver` with an address".to_owned()) } else { Ok(servers) }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT))
    });
    servers.take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_servers_with_an_address_are_asked() {
        let text = "# nameserver 1.1.1.1\nsearch lab.test\n  nameserver 10.0.0.1 # ours\nnameserver\tfd00::1\n\
            nameserver\nnameserver dns.test\nnameservers 10.0.0.9\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]);
        assert_eq!(parse(""), []);
    }
}

//! Opens WebSockets, says so, and holds them until it is killed: a peer to be dropped.
//!
//! `abandon ADDRESS HOST COOKIES COUNT`

use std::net::SocketAddr;
use tests::{Client, Socket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, host, cookies, count] = arguments.as_slice() else {
        anyhow::bail!("usage: abandon ADDRESS HOST COOKIES COUNT");
    };
    let client = Client::at(address.parse::<SocketAddr>()?, None);
    let origin = client.origin(host);
    let mut held = Vec::new();
    for _ in 0..count.parse::<usize>()? {
        let opened = Socket::open(&client, host, "/ws", &[("origin", &origin), ("cookie", cookies)]).await;
        held.push(opened.map_err(|answer| anyhow::anyhow!("{}: {}", answer.status, answer.text()))?);
    }
    println!("open");
    std::future::pending().await
}

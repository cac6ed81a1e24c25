//! An address of its own for a server that takes none but 127.0.0.1: BIND listens only where an interface is.

use super::PATIENCE;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Carries UDP and TCP that come to an address on to a server, until the test ends; port 0 = a free one.
pub async fn start(address: SocketAddr, server: SocketAddr) -> std::io::Result<SocketAddr> {
    let tcp = TcpListener::bind(address).await?;
    let address = tcp.local_addr()?;
    let udp = Arc::new(UdpSocket::bind(address).await?);
    tokio::spawn(carry_packets(udp, server));
    tokio::spawn(carry_streams(tcp, server));
    Ok(address)
}

async fn carry_packets(socket: Arc<UdpSocket>, server: SocketAddr) {
    let mut packet = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        let (socket, question) = (socket.clone(), packet[..length].to_vec());
        tokio::spawn(async move {
            let ahead = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
            ahead.connect(server).await?;
            ahead.send(&question).await?;
            let mut answer = [0; 4096];
            if let Ok(length) = timeout(PATIENCE, ahead.recv(&mut answer)).await {
                socket.send_to(&answer[..length?], from).await?;
            }
            std::io::Result::Ok(())
        });
    }
}

async fn carry_streams(listener: TcpListener, server: SocketAddr) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut ahead = TcpStream::connect(server).await?;
            tokio::io::copy_bidirectional(&mut near, &mut ahead).await
        });
    }
}

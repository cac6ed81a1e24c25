//! A port that leads on to servers of which only their addresses are not known yet.

use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::{JoinHandle, JoinSet};

/// A listener whose connections wait until it leads somewhere. Dropped, it is gone with all of them.
pub(crate) struct Relay {
    leads_to: Sender<Vec<SocketAddr>>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Listens.
    ///
    /// # Errors
    /// The address is taken.
    pub(crate) async fn at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (leads_to, towards) = watch::channel(Vec::new());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut turn = 0;
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(lead_on(stream, towards.clone(), turn));
                turn += 1;
            }
        });
        Ok(Self { leads_to, serving })
    }

    /// Leads to these from now on, in turn.
    pub(crate) fn leads_to(&self, addresses: &[SocketAddr]) {
        self.leads_to.send_replace(addresses.to_vec());
    }
}

async fn lead_on(
    mut stream: TcpStream,
    mut towards: Receiver<Vec<SocketAddr>>,
    turn: usize,
) -> Option<(u64, u64)> {
    let addresses = towards.wait_for(|addresses| !addresses.is_empty()).await.ok()?.clone();
    let mut server = TcpStream::connect(addresses[turn % addresses.len()]).await.ok()?;
    copy_bidirectional(&mut stream, &mut server).await.ok()
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

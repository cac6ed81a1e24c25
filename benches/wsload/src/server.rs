use crate::Res;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

pub fn ws_config() -> WebSocketConfig {
    // Small buffers, so that thousands of idle sockets fit on the client's and the backend's side.
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0)
}

struct Answers {
    none: Vec<u8>,
    small: Vec<u8>,
    k64: Vec<u8>,
    m1: Vec<u8>,
}

fn answer(size: usize) -> Vec<u8> {
    let mut v =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    v.extend(std::iter::repeat_n(b'x', size));
    v
}

fn answers() -> Arc<Answers> {
    Arc::new(Answers {
        none: b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        small: answer(13),
        k64: answer(64 << 10),
        m1: answer(1 << 20),
    })
}

fn listen(addr: &str) -> Res<TcpListener> {
    let addr = addr.parse()?;
    let sock = TcpSocket::new_v4()?;
    sock.set_reuseaddr(true)?;
    sock.bind(addr)?;
    Ok(sock.listen(4096)?)
}

pub async fn backend(addr: &str) -> Res<()> {
    let (l, a) = (listen(addr)?, answers());
    loop {
        let (s, _) = l.accept().await?;
        s.set_nodelay(true)?;
        let a = a.clone();
        tokio::spawn(async move { serve(s, a).await.ok() });
    }
}

pub async fn tls_direct(addr: &str, cfg: Arc<ServerConfig>) -> Res<()> {
    let (l, a, tls) = (listen(addr)?, answers(), TlsAcceptor::from(cfg));
    loop {
        let (s, _) = l.accept().await?;
        s.set_nodelay(true)?;
        let (a, tls) = (a.clone(), tls.clone());
        tokio::spawn(async move {
            if let Ok(s) = tls.accept(s).await {
                serve(s, a).await.ok();
            }
        });
    }
}

pub async fn tls_pipe(addr: &str, upstream: String, cfg: Arc<ServerConfig>) -> Res<()> {
    let (l, tls) = (listen(addr)?, TlsAcceptor::from(cfg));
    loop {
        let (s, _) = l.accept().await?;
        s.set_nodelay(true)?;
        let (tls, upstream) = (tls.clone(), upstream.clone());
        tokio::spawn(async move {
            let mut down = tls.accept(s).await?;
            let mut up = TcpStream::connect(&upstream).await?;
            up.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut down, &mut up, 16 << 10, 16 << 10).await
        });
    }
}

/// One HTTP/1.1 keep-alive connection; no request bodies, which the benchmark never sends.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut s: S, a: Arc<Answers>) -> Res<()> {
    let mut buf = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(p) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
                break p + 4;
            }
            if s.read_buf(&mut buf).await? == 0 {
                return Ok(());
            }
        };
        let path = buf[..end].split(|b| *b == b' ').nth(1).unwrap_or(b"/");
        let out = if path.starts_with(b"/ws") {
            let head = String::from_utf8_lossy(&buf[..end]).into_owned();
            return echo(s, &head).await;
        } else if path == b"/auth" {
            &a.none
        } else if path == b"/64k" {
            &a.k64
        } else if path == b"/1m" {
            &a.m1
        } else {
            &a.small
        };
        // Both names of the same thing: HTTP/1.1 close, as wrk or a proxy may ask for it.
        let close = buf[..end].windows(17).any(|w| w.eq_ignore_ascii_case(b"connection: close"));
        s.write_all(out).await?;
        s.flush().await?;
        if close {
            s.shutdown().await?;
            return Ok(());
        }
        buf.drain(..end);
    }
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut s: S, head: &str) -> Res<()> {
    let key = head
        .lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(k, _)| k.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, v)| v.trim())
        .ok_or("no websocket key")?;
    let accept = derive_accept_key(key.as_bytes());
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    s.write_all(reply.as_bytes()).await?;
    s.flush().await?;
    let mut ws = WebSocketStream::from_raw_socket(s, Role::Server, Some(ws_config())).await;
    while let Some(msg) = ws.next().await {
        let msg = msg?;
        if msg.is_binary() || msg.is_text() {
            ws.send(msg).await?;
        }
    }
    Ok(())
}

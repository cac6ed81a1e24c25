//! A workspace that breaks the rules of the WebSocket handshake, each in the way that its path names.
//!
//! `rude SOCKET` listens on a Unix socket. Whatever it must not be able to say to a client contains `LEAK`; what
//! clients say to it after a handshake's head, `/received` tells.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

type Received = Arc<Mutex<Vec<u8>>>;

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: rude SOCKET"))?;
    let listener = UnixListener::bind(path)?;
    let received = Received::default();
    for stream in listener.incoming() {
        let (stream, received) = (stream?, Arc::clone(&received));
        std::thread::spawn(move || answer(stream, &received));
    }
    Ok(())
}

/// One answer; the connection ends with it, so that nothing is left of it but what came through.
fn answer(mut stream: UnixStream, received: &Received) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let path = read_head(&mut reader)?;
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    // RFC 6455 §1.3: what belongs to the key of `handshake`.
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let text = match path.as_str() {
        "/received" => {
            let received = received.lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8_lossy(&received).into_owned();
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        }
        "/refused" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nnoLEAK".to_owned(),
        "/other-upgrade" => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ssh\r\n\r\nLEAK".to_owned()
        }
        "/wrong-key" => format!("{upgraded}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\nLEAK"),
        "/no-key" => format!("{upgraded}\r\nLEAK"),
        "/extension" => format!("{upgraded}{accept}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\nLEAK"),
        "/subprotocol" => format!("{upgraded}{accept}Sec-WebSocket-Protocol: never.offered\r\n\r\nLEAK"),
        "/unasked" => format!("{upgraded}{accept}\r\nLEAK"),
        "/early" => format!("LEAK\r\n{upgraded}{accept}\r\nLEAK"),
        "/endless" => format!("{upgraded}X-Long: {}\r\n\r\nLEAK", "LEAK".repeat(16 * 1024)),
        "/interim" => format!(
            "{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nLEAK",
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(64)
        ),
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_owned(),
    };
    stream.write_all(text.as_bytes())?;
    let mut rest = Vec::new();
    let _ended = reader.read_to_end(&mut rest);
    received.lock().unwrap_or_else(PoisonError::into_inner).extend(rest);
    Ok(())
}

/// Reads a request's head; its path.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut path = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok(path);
        }
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        }
    }
}

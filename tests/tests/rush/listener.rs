//! What answers for all simulated pods of a port: whoever asks is told which host they asked for.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Begins to listen, in the network that this thread is in; the port.
pub async fn begin() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("some port is free");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    port
}

/// Answers until the other side has had enough.
async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut host = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            // As the person's own: without the listener's port.
            host = value.trim().split(':').next().unwrap_or_default().to_owned();
        }
        if line == "\r\n" {
            let said = format!("for {host}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", said.len());
            stream.write_all(format!("{head}{said}").as_bytes()).await?;
        }
    }
}

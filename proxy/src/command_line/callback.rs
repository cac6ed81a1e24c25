//! The port of this machine to which the browser leads the consent.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// The longest head that is read, in bytes.
const HEAD: usize = 16 * 1024;

const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\
    Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\r\nThe command line goes on. You can close this page.\n";
const NOT_THIS: &str = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A port that waits for one answer.
pub(super) struct Callback(TcpListener, u16);

impl Callback {
    pub(super) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self(listener, port))
    }

    pub(super) fn port(&self) -> u16 {
        self.1
    }

    /// The code of the try with this state; other requests are answered with 404.
    pub(super) async fn code(self, state: &str) -> io::Result<String> {
        let waited = async {
            loop {
                let (mut stream, _) = self.0.accept().await?;
                // One that is silent or broken is not the browser that is waited for.
                let code = timeout(REQUEST, answer(&mut stream, state)).await;
                if let Ok(Ok(Some(code))) = code {
                    return Ok(code);
                }
            }
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "nobody answered in ten minutes");
        timeout(PATIENCE, waited).await.unwrap_or_else(|_| Err(late()))
    }
}

async fn answer(stream: &mut TcpStream, state: &str) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let code = code(&head, state);
    let text = if code.is_some() { DONE } else { NOT_THIS };
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(code)
}

/// The code in a request's first line, if it is of this try.
fn code(head: &[u8], state: &str) -> Option<String> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let target = std::str::from_utf8(line).ok()?.strip_prefix("GET /?")?.split(' ').next()?;
    let mut fields: std::collections::HashMap<_, _> =
        form_urlencoded::parse(target.as_bytes()).into_owned().collect();
    (fields.get("state").map(String::as_str) == Some(state)).then(|| fields.remove("code"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_try_has_a_code() {
        for (head, expected) in [
            ("GET /?code=a%2Bb&state=s HTTP/1.1\r\n", Some("a+b")),
            ("GET /?state=s&code=x HTTP/1.1\r\n", Some("x")),
            ("GET /?code=x&state=other HTTP/1.1\r\n", None),
            ("GET /?code=x HTTP/1.1\r\n", None),
            ("GET /?state=s HTTP/1.1\r\n", None),
            ("GET /favicon.ico HTTP/1.1\r\n", None),
            ("POST /?code=x&state=s HTTP/1.1\r\n", None),
            ("", None),
        ] {
            assert_eq!(code(head.as_bytes(), "s").as_deref(), expected, "{head}");
        }
    }
}

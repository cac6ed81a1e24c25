use super::*;
use std::net::Ipv4Addr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb";

/// A client, and the connection at its other end.
async fn pair() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    (client, server, peer)
}

/// What comes of these bytes, sent in two parts, and what is left for the next reader.
async fn heard(sent: &[u8], first: usize) -> (Result<String, Option<BadProxyHeader>>, Vec<u8>) {
    let (mut client, mut server, peer) = pair().await;
    let (first, second) = sent.split_at(first.min(sent.len()));
    client.write_all(first).await.unwrap();
    let reading = read(&mut server, peer);
    let sending = async {
        tokio::task::yield_now().await;
        client.write_all(second).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(reading, sending);
    let mut left = Vec::new();
    // What a refused connection still has in it is nobody's.
    let _ = server.read_to_end(&mut left).await;
    let told = read.map(|client| if client == peer { "peer".to_owned() } else { client.to_string() });
    (told, left)
}

#[tokio::test]
async fn not_one_byte_behind_the_header_is_taken_however_it_is_cut() {
    for header in [LINE, HEADER] {
        let sent = [header, b"\x16\x03\x01\nnext\n"].concat();
        for first in 1..sent.len() {
            let (told, left) = heard(&sent, first).await;
            assert_eq!(told, Ok("192.0.2.1:56324".to_owned()), "{first}");
            assert_eq!(left, b"\x16\x03\x01\nnext\n", "{first}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_the_client() {
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"] {
        assert_eq!(heard(&[header, b"next"].concat(), 1).await, (Ok("peer".to_owned()), b"next".to_vec()));
    }
}

#[tokio::test]
async fn what_is_no_header_is_told_apart() {
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; V1_MAX], b"\r\n".to_vec()].concat();
    let large = [SIGNATURE, &b"\x21\x11\xff\xff"[..], &[0; 64]].concat();
    let unreadable = Err(Some(BadProxyHeader::Unreadable));
    for (sent, expected) in [
        (&b""[..], Err(None)),
        (b"GET / HTTP/1.1\r\nHost: lab.localhost\r\n\r\n", unreadable.clone()),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", unreadable.clone()),
        (b"PROXY", unreadable.clone()),
        (&LINE[..20], unreadable.clone()),
        (&HEADER[..20], unreadable.clone()),
        (&long, Err(Some(BadProxyHeader::TooLong))),
        (&large, Err(Some(BadProxyHeader::TooLong))),
    ] {
        assert_eq!(heard(sent, 3).await.0, expected, "{sent:?}");
    }
}

#[tokio::test]
async fn a_header_that_drips_is_given_up() {
    let (mut client, mut server, peer) = pair().await;
    client.write_all(&LINE[..14]).await.unwrap();
    tokio::time::pause();
    assert_eq!(read(&mut server, peer).await, Err(Some(BadProxyHeader::TooSlow)));
}

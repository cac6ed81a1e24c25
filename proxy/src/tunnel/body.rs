//! The body of an answer that is no 101: framed, bounded, read whole.

use crate::request::single;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest body that is passed on: an error page, not a download.
pub(super) const BODY_MAX: usize = 64 * 1024;
/// The longest line before a chunk.
const CHUNK_LINE_MAX: usize = 1024;

/// Why a body cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// More than [`BODY_MAX`].
    TooLarge,
    /// It ended before its end, or its framing says two things.
    Broken,
}

impl Unusable {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::TooLarge => "The workspace's answer to the upgrade is too large.",
            Self::Broken => "The workspace's answer to the upgrade is broken.",
        }
    }
}

/// Reads the body behind a head; `buffer` is what came with the head.
pub(super) async fn read<S>(stream: &mut S, head: &ResponseHeader, buffer: Vec<u8>) -> Result<Bytes, Unusable>
where
    S: AsyncRead + Unpin,
{
    let mut source = Source { stream, buffer, at: 0 };
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Bytes::new());
    }
    let encoded = head.headers.contains_key(TRANSFER_ENCODING);
    let length = head.headers.contains_key(CONTENT_LENGTH);
    match (encoded, length) {
        (true, true) => Err(Unusable::Broken),
        (true, false) => {
            let encoding = single(&head.headers, &TRANSFER_ENCODING).unwrap_or_default();
            if encoding.eq_ignore_ascii_case(b"chunked") {
                source.chunks().await
            } else {
                Err(Unusable::Broken)
            }
        }
        (false, true) => {
            let text = single(&head.headers, &CONTENT_LENGTH).and_then(|text| std::str::from_utf8(text).ok());
            let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            source.exactly(digits.and_then(|text| text.parse().ok()).ok_or(Unusable::Broken)?).await
        }
        (false, false) => source.until_end().await,
    }
}

struct Source<'a, S> {
    stream: &'a mut S,
    /// What was read; `buffer[at..]` is not used yet.
    buffer: Vec<u8>,
    at: usize,
}

impl<S: AsyncRead + Unpin> Source<'_, S> {
    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Reads more; `false` = there is no more.
    async fn more(&mut self) -> Result<bool, Unusable> {
        // Chunked framing at its worst is as long again as what it frames; beyond that nothing is meant to be read.
        if self.buffer.len() > 4 * BODY_MAX {
            return Err(Unusable::TooLarge);
        }
        self.stream.read_buf(&mut self.buffer).await.map(|read| read > 0).map_err(|_| Unusable::Broken)
    }

    async fn take(&mut self, length: usize) -> Result<&[u8], Unusable> {
        while self.rest().len() < length {
            if !self.more().await? {
                return Err(Unusable::Broken);
            }
        }
        self.at += length;
        Ok(&self.buffer[self.at - length..self.at])
    }

    async fn exactly(&mut self, length: u64) -> Result<Bytes, Unusable> {
        let length = usize::try_from(length).ok().filter(|length| *length <= BODY_MAX);
        Ok(Bytes::copy_from_slice(self.take(length.ok_or(Unusable::TooLarge)?).await?))
    }

    async fn until_end(&mut self) -> Result<Bytes, Unusable> {
        while self.rest().len() <= BODY_MAX {
            if !self.more().await? {
                return Ok(Bytes::copy_from_slice(self.rest()));
            }
        }
        Err(Unusable::TooLarge)
    }

    /// Trailers are not read: the connection ends here.
    async fn chunks(&mut self) -> Result<Bytes, Unusable> {
        let mut body = Vec::new();
        loop {
            let length = self.chunk_length().await?;
            if length == 0 {
                return Ok(body.into());
            }
            let length = usize::try_from(length).map_err(|_| Unusable::TooLarge)?;
            if length > BODY_MAX - body.len() {
                return Err(Unusable::TooLarge);
            }
            body.extend_from_slice(self.take(length).await?);
            if self.take(2).await? != b"\r\n" {
                return Err(Unusable::Broken);
            }
        }
    }

    async fn chunk_length(&mut self) -> Result<u64, Unusable> {
        loop {
            match httparse::parse_chunk_size(self.rest()) {
                Ok(httparse::Status::Complete((used, length))) => {
                    self.at += used;
                    return Ok(length);
                }
                Ok(httparse::Status::Partial) if self.rest().len() < CHUNK_LINE_MAX => {
                    if !self.more().await? {
                        return Err(Unusable::Broken);
                    }
                }
                Ok(httparse::Status::Partial) | Err(_) => return Err(Unusable::Broken),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(headers: &[(&'static str, &str)], came: &[u8]) -> Result<Bytes, Unusable> {
        let mut head = ResponseHeader::build(403, None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        // All but the first byte comes later.
        let (first, mut later) = came.split_at(came.len().min(1));
        read(&mut later, &head, first.to_vec()).await
    }

    #[tokio::test]
    async fn a_body_is_read_to_the_end_that_its_head_names() {
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(body(&[("content-length", "3")], b"abcdef").await.unwrap(), "abc");
        assert_eq!(body(&chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").await.unwrap(), "abcde");
        assert_eq!(body(&[], b"to the end").await.unwrap(), "to the end");
        assert_eq!(body(&[("content-length", "0")], b"").await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_that_is_framed_badly_is_not_used() {
        let chunked = [("transfer-encoding", "chunked")];
        let both = [("transfer-encoding", "chunked"), ("content-length", "3")];
        for (headers, came) in [
            (&both[..], &b"3\r\nabc\r\n0\r\n\r\n"[..]),
            (&chunked, b"3\r\nabcXX0\r\n\r\n"),
            (&chunked, b"zz\r\n"),
            (&chunked, b"3\r\nab"),
            (&chunked, b"3\r\nabc\r\n"),
            (&[("transfer-encoding", "gzip, chunked")], b"x"),
            (&[("content-length", "5")], b"abc"),
            (&[("content-length", "-5")], b"abc"),
            (&[("content-length", "3, 3")], b"abc"),
        ] {
            assert_eq!(body(headers, came).await, Err(Unusable::Broken), "{}", came.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_body_without_bounds_is_cut_off() {
        let endless = vec![b'x'; BODY_MAX + 1];
        assert_eq!(body(&[], &endless).await, Err(Unusable::TooLarge));
        assert_eq!(body(&[("content-length", "65537")], &endless).await, Err(Unusable::TooLarge));
        let chunk = [&b"10001\r\n"[..], &endless].concat();
        assert_eq!(body(&[("transfer-encoding", "chunked")], &chunk).await, Err(Unusable::TooLarge));
        let crumbs = b"1\r\nx\r\n".repeat(BODY_MAX + 1);
        assert_eq!(body(&[("transfer-encoding", "chunked")], &crumbs).await, Err(Unusable::TooLarge));
    }
}

//! The lines of an answer that goes on: each whole, none longer than can be right.

use super::Trouble;
use crate::kubernetes::CallError;
use http_body_util::BodyExt;
use kube::client::Body;

/// The longest line, in bytes: the API server takes no request above 3 MiB, and adds little to an object.
pub(super) const LINE: usize = 4 << 20;

/// Splits an answer into lines as it comes. Nothing is lost when waiting for a line is given up.
pub(super) struct Lines {
    body: Body,
    /// What came and was not given out yet.
    buffer: Vec<u8>,
    /// Where in it the next line begins, and up to where no end of it was found.
    begin: usize,
    sought: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), begin: 0, sought: 0 }
    }

    /// The next line; `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke, the answer ended within a line, or a line is too long.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Trouble> {
        while !self.find_end() {
            match self.body.frame().await {
                Some(Ok(frame)) => self.take(frame.data_ref().map_or(&[], |data| data))?,
                Some(Err(error)) => return Err(Trouble::Broken(CallError::from(error).to_string())),
                None if self.begin < self.buffer.len() => return Err(Trouble::Truncated),
                None => return Ok(None),
            }
        }
        let line = &self.buffer[self.begin..self.sought];
        self.begin = self.sought + 1;
        self.sought = self.begin;
        Ok(Some(line))
    }

    /// Moves `sought` to the end of the next line, if it has come.
    fn find_end(&mut self) -> bool {
        match self.buffer[self.sought..].iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                self.sought += length;
                true
            }
            None => {
                self.sought = self.buffer.len();
                false
            }
        }
    }

    /// Adds what came to the beginning of a line that is there.
    fn take(&mut self, data: &[u8]) -> Result<(), Trouble> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let rest = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        if self.buffer.len() + rest > LINE {
            return Err(Trouble::TooLong);
        }
        self.sought = self.buffer.len();
        self.buffer.extend_from_slice(data);
        Ok(())
    }
}

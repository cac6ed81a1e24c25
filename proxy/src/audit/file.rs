//! The file: lines are appended, each by one write; at its size it is renamed and a new one begun.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The audit file, and the older ones beside it.
#[derive(Debug)]
pub(super) struct Trail {
    path: PathBuf,
    file: File,
    /// Device and inode: whoever moved the file away left another one, or none.
    id: (u64, u64),
    size: u64,
    /// At which size the next one is begun: later than configured after that was tried in vain.
    full: u64,
    file_size: u64,
    files_kept: usize,
    /// The last line is not whole: a disk was full, or a process was killed.
    torn: bool,
}

impl Trail {
    /// Opens the file, or makes it for its owner alone.
    pub(super) fn open(path: &Path, file_size: u64, files_kept: usize) -> io::Result<Self> {
        let (file, id, size, torn) = open(path)?;
        Ok(Self { path: path.to_owned(), file, id, size, full: file_size, file_size, files_kept, torn })
    }

    /// Appends a line; `line` ends with its end.
    ///
    /// # Errors
    /// The file does not have it, or not all of it; a later line begins a line of its own.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.follow()?;
        if self.size > 0 && self.size + line.len() as u64 > self.full {
            self.begin_anew()?;
        }
        let whole = if self.torn { [b"\n", line].concat() } else { line.to_vec() };
        let written = loop {
            match self.file.write(&whole) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        self.size += written as u64;
        self.torn = written < whole.len();
        if self.torn { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Goes on in the file that has the name, if somebody moved this one away.
    fn follow(&mut self) -> io::Result<()> {
        let is_there = fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.id);
        if is_there { Ok(()) } else { self.reopen() }
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.id, self.size, self.torn) = open(&self.path)?;
        self.full = self.file_size;
        Ok(())
    }

    /// Renames this file and those before it, the oldest first, so that nothing is overwritten whatever fails on the way.
    fn begin_anew(&mut self) -> io::Result<()> {
        let renamed = (0..self.files_kept).rev().try_for_each(|nth| {
            match fs::rename(self.nth(nth), self.nth(nth + 1)) {
                Err(error) if nth > 0 && error.kind() == ErrorKind::NotFound => Ok(()),
                renamed => renamed,
            }
        });
        let moved = if self.files_kept == 0 { fs::remove_file(&self.path) } else { renamed };
        match moved {
            Ok(()) => self.reopen(),
            Err(error) => {
                self.full = self.size + self.file_size;
                tracing::warn!(audit.file = %self.path.display(), %error, "the audit file is full and cannot be renamed: it grows");
                Ok(())
            }
        }
    }

    /// The file itself, or one of the older ones.
    fn nth(&self, nth: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        if nth > 0 {
            name.push(format!(".{nth}"));
        }
        name.into()
    }
}

type Opened = (File, (u64, u64), u64, bool);

fn open(path: &Path) -> io::Result<Opened> {
    // Opened for both, a pipe without a reader holds nobody up.
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let facts = file.metadata()?;
    if facts.file_type().is_fifo() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a pipe, which holds its writer up"));
    }
    let torn = facts.is_file() && facts.len() > 0 && {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    Ok((file, (facts.dev(), facts.ino()), facts.len(), torn))
}

#[cfg(test)]
mod tests;

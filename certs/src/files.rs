//! Certificates in files that somebody else keeps: looked at again and again, read when something changed.

use crate::certificate::{Certificate, TEXT_MAX, Unfit};
use ring::digest::{Context, SHA256};
use rustix::fs::OFlags;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a pair that changes all the time may be no certificate before that is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a pair of files is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    /// Nothing is there, or a link leads nowhere.
    #[error("there is no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a pipe or the like.
    #[error("{} is a {kind}, not a file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Usher may not read it, or the disk fails.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Both were read, and do not make a certificate.
    #[error("{} and {} do not make a certificate", certificate.display(), private_key.display())]
    Unfit {
        /// The file of the chain.
        certificate: PathBuf,
        /// The file of the key.
        private_key: PathBuf,
        /// What is wrong.
        source: Unfit,
    },
}

/// What [`FilePair::look`] found.
#[derive(Debug)]
pub(crate) enum Look {
    /// What was told last still holds, or it is too early to tell.
    Unchanged,
    /// A new certificate, or a new reason why there is none.
    Changed(Result<Certificate, FileError>),
}

/// Two PEM files: a chain and its key.
///
/// Links are followed, so that the swaps of Kubernetes (`..data`) and of certbot are seen. A good pair is told at once;
/// a bad one, and a leaf alone where a chain was, only if the next look finds the same: it may have been caught while one
/// of the two was replaced or half written.
#[derive(Debug)]
pub(crate) struct FilePair {
    certificate: PathBuf,
    private_key: PathBuf,
    key_is_open: bool,
    watch: Watch,
}

impl FilePair {
    /// Nothing is read before the first look.
    pub(crate) fn new(certificate: PathBuf, private_key: PathBuf) -> Self {
        Self { certificate, private_key, key_is_open: false, watch: Watch::default() }
    }

    /// The same of which nothing was read yet.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.certificate.clone(), self.private_key.clone())
    }

    /// Looks whether something changed since the last time. Blocks on the disk, never on a pipe.
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let stamps = [Stamp::of(&self.certificate), Stamp::of(&self.private_key)];
        if self.watch.is_settled(&stamps) {
            return Look::Unchanged;
        }
        let (found, certificate) = match self.read() {
            Ok((digest, certificate)) => {
                (Found::Good { digest, is_alone: certificate.is_alone() }, Some(certificate))
            }
            Err(error) => (Found::Bad(error), None),
        };
        if !self.watch.see(stamps, found.clone(), now) {
            return Look::Unchanged;
        }
        match (found, certificate) {
            (Found::Bad(error), _) => Look::Changed(Err(error)),
            (Found::Good { .. }, Some(certificate)) => Look::Changed(Ok(certificate)),
            (Found::Good { .. }, None) => Look::Unchanged,
        }
    }

    /// Whether others than its owner and a group could read or write the file of the key when it was read last.
    pub(crate) fn key_is_open(&self) -> bool {
        self.key_is_open
    }

    fn read(&mut self) -> Result<([u8; 32], Certificate), FileError> {
        let (chain, _) = read(&self.certificate)?;
        let (key, mode) = read(&self.private_key)?;
        self.key_is_open = mode & 0o006 != 0;
        let unfit = |source| FileError::Unfit {
            certificate: self.certificate.clone(),
            private_key: self.private_key.clone(),
            source,
        };
        let certificate = Certificate::parse(&chain, &key).map_err(unfit)?;
        Ok((digest(&chain, &key), certificate))
    }
}

/// What tells two states of a file apart without reading it; `None` where there is none that can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<[i128; 6]>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let stamp = |metadata: Metadata| {
            let nanoseconds =
                |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
            [
                metadata.dev().into(),
                metadata.ino().into(),
                metadata.mode().into(),
                metadata.size().into(),
                nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            ]
        };
        Self(fs::metadata(path).ok().map(stamp))
    }
}

/// What reading came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// A certificate, by a digest of both texts; with whoever signed it, or alone.
    Good {
        digest: [u8; 32],
        is_alone: bool,
    },
    Bad(FileError),
}

/// What was seen and what was told of it.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<([Stamp; 2], Found)>,
    /// Two looks found the same: it will not change unless the stamps do.
    settled: bool,
    told: Option<Found>,
    /// Since when there is something doubtful that was not told.
    doubted: Option<Instant>,
}

impl Watch {
    /// Whether there is no need to read. What was read within the very tick of a change looks as it did before, so one
    /// look more is taken; and what the system refused may be granted without a trace.
    fn is_settled(&self, stamps: &[Stamp; 2]) -> bool {
        let refused = matches!(self.told, Some(Found::Bad(FileError::Unreadable { .. })));
        self.settled && !refused && self.seen.as_ref().is_some_and(|(seen, _)| seen == stamps)
    }

    /// Takes in what reading came to. Whether it is to be told.
    fn see(&mut self, stamps: [Stamp; 2], found: Found, now: Instant) -> bool {
        let again = self.seen.replace((stamps, found.clone()));
        self.settled = again.is_some_and(|(seen, before)| seen == stamps && before == found);
        if self.told.as_ref() == Some(&found) {
            self.doubted = None;
            return false;
        }
        let is_whole = |found: &Found| matches!(found, Found::Good { is_alone: false, .. });
        let is_cut =
            matches!(found, Found::Good { is_alone: true, .. }) && self.told.as_ref().is_some_and(is_whole);
        if is_cut || matches!(found, Found::Bad(_)) {
            let doubted = *self.doubted.get_or_insert(now);
            if !self.settled && now.saturating_duration_since(doubted) < PATIENCE {
                return false;
            }
        }
        self.doubted = None;
        self.told = Some(found);
        true
    }
}

/// The text of a file and its mode; longer ones are cut where they are too long in any case.
fn read(path: &Path) -> Result<(Vec<u8>, u32), FileError> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => FileError::Missing { path: path.to_owned() },
        _ => FileError::Unreadable { path: path.to_owned(), reason: error.to_string() },
    };
    // Before it is opened as well, because opening is enough to disturb some devices.
    check_kind(path, &fs::metadata(path).map_err(failed)?)?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags of open are a C int");
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check_kind(path, &metadata)?;
    let mut text = Vec::new();
    file.take(TEXT_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    Ok((text, metadata.mode()))
}

fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "folder",
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_socket() => "socket",
        _ => "device",
    };
    Err(FileError::NotAFile { path: path.to_owned(), kind })
}

fn digest(chain: &[u8], key: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // So that no end of the one is taken for a beginning of the other.
    context.update(&(chain.len() as u64).to_be_bytes());
    context.update(chain);
    context.update(key);
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;

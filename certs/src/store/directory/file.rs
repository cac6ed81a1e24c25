//! One document as a file: JSON that people can read, with the version beside the value.

use super::super::{Document, VALUE_MAX, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How long a file may be: a character of a value takes six at most (`\u0000`).
const FILE_MAX: u64 = 6 * VALUE_MAX as u64 + 1024;

/// No store lives to write so often; other readers of JSON know numbers exactly up to here.
pub(super) const VERSION_MAX: u64 = 1 << 53;

/// What stands in a file. One of the two values is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u64,
    /// A text as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// What there is under the name of a document.
pub(super) enum Found {
    Whole(Document),
    /// A file that is no document; why.
    Broken(String),
    Nothing,
}

/// What is written into the file of a document.
pub(super) fn encode(version: Version, value: Vec<u8>) -> Vec<u8> {
    let (value, base64) = match String::from_utf8(value) {
        Ok(text) => (Some(text), None),
        Err(other) => (None, Some(BASE64_STANDARD.encode(other.as_bytes()))),
    };
    let envelope = Envelope { version: version.0, value, base64 };
    let mut text = serde_json::to_vec(&envelope).expect("numbers and texts are JSON");
    text.push(b'\n');
    text
}

fn decode(text: &[u8]) -> Result<(Version, Vec<u8>), String> {
    let no_document = |error: serde_json::Error| {
        // Of what serde says only where: it may quote a key.
        format!("it is no document (line {}, column {})", error.line(), error.column())
    };
    let envelope: Envelope = serde_json::from_slice(text).map_err(no_document)?;
    if envelope.version > VERSION_MAX {
        return Err("its version is too large".to_owned());
    }
    let value = match (envelope.value, envelope.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => BASE64_STANDARD.decode(base64).map_err(|_| "it is not base64".to_owned())?,
        _ => return Err("it has no value, or two".to_owned()),
    };
    if value.len() > VALUE_MAX { Err(too_long()) } else { Ok((Version(envelope.version), value)) }
}

fn too_long() -> String {
    "it is too long".to_owned()
}

/// Reads the file of a document; never waits for what is not a file, and follows no link.
///
/// # Errors
/// The system cannot open or read files now, whatever is in this one.
pub(super) fn read(path: &Path, name: &str) -> io::Result<Found> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if is_of_the_file(&error) => return Ok(Found::Broken(error.to_string())),
        Err(error) => return Err(error),
    };
    Ok(match text.ok_or_else(too_long).and_then(|text| decode(&text)) {
        Ok((version, value)) => Found::Whole(Document { name: name.to_owned(), version, value }),
        Err(reason) => Found::Broken(reason),
    })
}

/// `None` where it is longer than any document.
fn read_text(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("flags of open are a C int");
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Errno::ISDIR.into());
    }
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= FILE_MAX).then_some(text))
}

/// Whether an error speaks of this file, so that the others can be used; running out of descriptors does not.
fn is_of_the_file(error: &io::Error) -> bool {
    let of_files = [Errno::LOOP, Errno::ISDIR, Errno::ACCESS, Errno::PERM, Errno::NXIO, Errno::IO];
    Errno::from_io_error(error).is_some_and(|errno| of_files.contains(&errno))
}

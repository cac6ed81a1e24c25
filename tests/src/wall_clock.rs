//! A wall clock that a test sets: of one process, while it runs.
//!
//! The binary has no seam for its clock, and gets none: a small library stands between it and the C library.

use crate::usher::Setup;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The wall clock of whoever is started by [`WallClock::of`]; it is right at first.
pub struct WallClock {
    folder: TempDir,
}

impl WallClock {
    /// Makes one, with the C compiler that the build needs anyway.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wall_clock.c");
        let library = folder.path().join("wall_clock.so");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
        let built = built.expect("there is a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let clock = Self { folder };
        clock.is_ahead(0);
        clock
    }

    /// An Usher that goes by this clock.
    pub fn of(&self, setup: Setup) -> Setup {
        let path = |path: PathBuf| path.to_str().expect("temporary folders have plain names").to_owned();
        let library = path(self.folder.path().join("wall_clock.so"));
        setup.environment("LD_PRELOAD", &library).environment("USHER_TEST_CLOCK", &path(self.file()))
    }

    /// From now on it shows so many seconds more than it is, or less.
    pub fn is_ahead(&self, seconds: i64) {
        // A number of a fixed length at one stroke, over what is there: whoever reads gets one or the other.
        let file = File::options().create(true).truncate(false).write(true).open(self.file());
        let written = file.and_then(|file| file.write_all_at(format!("{seconds:<24}\n").as_bytes(), 0));
        written.expect("the folder is ours");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_process_that_goes_by_it_is_as_far_ahead_as_it_is_told() {
        let clock = WallClock::new();
        let seconds = || {
            let mut date = Command::new("date");
            date.arg("+%s").env("LD_PRELOAD", clock.folder.path().join("wall_clock.so"));
            let shown = date.env("USHER_TEST_CLOCK", clock.file()).output().unwrap().stdout;
            String::from_utf8(shown).unwrap().trim().parse::<i64>().unwrap()
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        for ahead in [0, -300, 300] {
            clock.is_ahead(ahead);
            assert!((ahead..ahead + 60).contains(&(seconds() - now)));
        }
    }
}

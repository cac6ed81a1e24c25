//! The note: one small file that survives restarts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs;
use tokio::sync::Mutex;

/// The largest note that is saved.
pub(super) const MAX: usize = 64 * 1024;

/// The note of one home. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Note {
    file: Arc<PathBuf>,
    /// Held while writing: two writers share one temporary file.
    writing: Arc<Mutex<()>>,
}

impl Note {
    pub(super) fn in_home(home: &Path) -> Self {
        Self { file: Arc::new(home.join("note.txt")), writing: Arc::default() }
    }

    /// The text as it was last saved; empty before that.
    pub(super) async fn read(&self) -> io::Result<String> {
        match fs::read(&*self.file).await {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Saves a text: whoever reads sees all of the old one or all of the new one, also after a crash.
    pub(super) async fn save(&self, text: String) -> io::Result<()> {
        let _alone = self.writing.lock().await;
        let file = self.file.clone();
        let new = file.with_extension("txt.new");
        fs::write(&new, text).await?;
        fs::File::open(&new).await?.sync_all().await?;
        fs::rename(&new, &*file).await
    }
}

//! The one task that writes lines.

use super::Entry;
use super::file::Trail;
use super::losses::Losses;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, block_in_place};
use tokio_util::sync::CancellationToken;

/// How many lines are written in one go.
const BATCH: usize = 256;

/// Writes lines to the log and to the file.
pub struct Writer {
    inbox: mpsc::Receiver<Entry>,
    trail: Option<Trail>,
    losses: Arc<Losses>,
}

/// The task that writes.
pub struct Auditing {
    told: CancellationToken,
    task: JoinHandle<()>,
}

impl Auditing {
    /// Completes when it has ended, which it does not by itself.
    ///
    /// # Errors
    /// It panicked.
    pub async fn ended(&mut self) -> Result<(), JoinError> {
        (&mut self.task).await
    }

    /// Ends it, once all that was told until now is written.
    ///
    /// # Errors
    /// It panicked.
    pub async fn end(mut self) -> Result<(), JoinError> {
        self.told.cancel();
        self.ended().await
    }
}

impl Writer {
    /// Writes from now on.
    pub fn begin(self) -> Auditing {
        let told = CancellationToken::new();
        let task = tokio::spawn(self.run(told.clone()));
        Auditing { told, task }
    }

    pub(super) fn new(inbox: mpsc::Receiver<Entry>, trail: Option<Trail>, losses: Arc<Losses>) -> Self {
        Self { inbox, trail, losses }
    }

    /// Writes until told to end, and then what is there still. It needs a runtime of several threads.
    async fn run(mut self, ended: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let told = tokio::select! {
                biased;
                () = ended.cancelled() => break,
                told = self.inbox.recv_many(&mut batch, BATCH) => told,
            };
            if told == 0 {
                return;
            }
            self.write(&mut batch);
        }
        self.inbox.close();
        while self.inbox.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch);
        }
    }

    fn write(&mut self, batch: &mut Vec<Entry>) {
        // A disk or a sink of the log that hangs holds this task up and nobody else.
        block_in_place(|| {
            for entry in batch.drain(..) {
                entry.log();
                if let Some(trail) = &mut self.trail {
                    let mut line = serde_json::to_vec(&entry).expect("texts and numbers are JSON");
                    line.push(b'\n');
                    if let Err(error) = trail.append(&line) {
                        self.losses.one(&error);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::{Audit, Entry, Event};
    use crate::metrics::Metrics;
    use std::path::PathBuf;

    fn config(file: PathBuf) -> config::Audit {
        config::Audit { file: Some(file), file_size: 1 << 20, files_kept: 1 }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_that_was_told_before_the_end_is_written_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let metrics = Metrics::new().unwrap().audit;
        let (audit, writer) = Audit::open(&config(path.clone()), &metrics).unwrap();
        for nth in 0..1000 {
            audit.record(Entry::done(Event::WorkspaceEntered).at([127, 0, 0, 1].into(), &nth.to_string()));
        }
        writer.begin().end().await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let ids = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let ids: Vec<_> = ids.map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, (0..1000).map(|nth| nth.to_string()).collect::<Vec<_>>());
        assert_eq!(metrics.lost_so_far(), 0);
        audit.record(Entry::done(Event::WorkspaceEntered));
        assert_eq!(metrics.lost_so_far(), 1, "what comes after the end is counted");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_full_disk_or_a_slow_one_costs_is_counted_and_holds_nobody_up() {
        let metrics = Metrics::new().unwrap().audit;
        let (audit, writer) = Audit::open(&config("/dev/full".into()), &metrics).unwrap();
        for _ in 0..super::super::WAITING + 10 {
            audit.record(Entry::done(Event::WorkspaceEntered));
        }
        assert_eq!(metrics.lost_so_far(), 10, "nobody reads, and nobody waits");
        writer.begin().end().await.unwrap();
        assert_eq!(metrics.lost_so_far(), super::super::WAITING as u64 + 10);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_at_once_with_its_name_and_key() {
        let metrics = Metrics::new().unwrap().audit;
        let error = Audit::open(&config("/nowhere/audit.jsonl".into()), &metrics).err().unwrap().to_string();
        assert!(error.contains("/nowhere/audit.jsonl") && error.contains("[audit] file"), "{error}");
    }
}

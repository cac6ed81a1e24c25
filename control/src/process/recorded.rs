//! What is recorded of a workspace, so that another run of Usher knows what this one started.
//!
//! The intent is written before the deed: a start before the fork, a stop before the first signal, a deletion
//! before the first file goes. So whatever a `kill -9` leaves is either finished or taken back by the next run.

use super::proc::ProcessId;
use crate::grant::GrantDocument;
use crate::{Identity, Kind, RecordError, Records, Version};
use config::Connect;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The record of one workspace, [`Kind::Workspace`], named by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub owner: Identity,
    /// The template of the last start.
    pub template: String,
    /// What the last start was admitted with; an earlier version recorded none.
    #[serde(default)]
    pub grant: GrantDocument,
    pub wanted: Wanted,
    /// The last start, until all its processes are known to have ended.
    pub run: Option<Run>,
}

/// What is to become of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wanted {
    Running,
    Stopped,
    Deleted { volume: bool },
}

/// One start of a workspace: all that another run of Usher needs to carry on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub generation: String,
    pub place: Place,
    pub stop_grace_ms: u64,
    pub log_size: u64,
    /// The main process; none = perhaps not forked yet.
    pub process: Option<RecordedProcess>,
}

/// A process, told apart from one of the same numbers before a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedProcess {
    #[serde(flatten)]
    pub id: ProcessId,
    pub boot: String,
}

/// Where a start listens. A socket is named by its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Socket,
    Port(u16),
}

impl Run {
    pub fn stop_grace(&self) -> Duration {
        Duration::from_millis(self.stop_grace_ms)
    }
}

impl Place {
    /// The one that a template asks for, `port` if it is a port.
    pub fn new(connect: Connect, port: impl FnOnce() -> std::io::Result<u16>) -> std::io::Result<Self> {
        match connect {
            Connect::Socket => Ok(Self::Socket),
            Connect::Port => port().map(Self::Port),
        }
    }
}

/// One workspace's record and the version that was seen last. Its keeper is the only writer.
pub(super) struct Ledger {
    records: Arc<dyn Records>,
    name: String,
    version: Option<Version>,
}

impl Ledger {
    /// Of a workspace without a record.
    pub fn new(records: Arc<dyn Records>, name: String) -> Self {
        Self { records, name, version: None }
    }

    /// All records that there are.
    pub async fn all(
        records: &Arc<dyn Records>,
    ) -> Result<Vec<(Self, Result<Recorded, serde_json::Error>)>, RecordError> {
        let list = records.list(Kind::Workspace).await?;
        let open = |record: crate::Record| {
            let recorded = serde_json::from_slice(&record.value);
            (Self { records: records.clone(), name: record.name, version: Some(record.version) }, recorded)
        };
        Ok(list.into_iter().map(open).collect())
    }

    /// The record's name: the workspace's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the record; durable when it returns.
    pub async fn write(&mut self, recorded: &Recorded) -> Result<(), RecordError> {
        let value = serde_json::to_vec(recorded).expect("a record holds nothing that JSON cannot");
        let kind = Kind::Workspace;
        self.version = Some(match self.version {
            Some(version) => self.records.replace(kind, &self.name, version, value).await?,
            None => self.records.create(kind, &self.name, value).await?,
        });
        Ok(())
    }

    /// Removes the record.
    pub async fn remove(&mut self) -> Result<(), RecordError> {
        self.records.delete(Kind::Workspace, &self.name).await?;
        self.version = None;
        Ok(())
    }
}

//! Records as Secrets in a namespace of Usher's own: one each, of a `type` per kind.
//!
//! The API server gives what the seam asks for: a creation is a claim, a patch with a `resourceVersion` is a
//! compare-and-swap, a watch tells of both. What it cannot give is an answer that always arrives; so every write
//! carries a random number, and a writer that does not know whether it was heard tries again and knows its own
//! write by it. The value would not do: two who redeem one ticket write the same.
//!
//! A watch is of one kind: the server selects by `type`, so that nobody is sent the records of other kinds, nor what
//! else lies in the namespace (a chart's releases are large); seven idle watches cost less than one call a second.
//!
//! Versions are `resourceVersion`s as numbers. Kubernetes promises that they are such and grow from 1.35 on; the
//! stores before it (etcd, kine) kept to it.

mod object;
#[cfg(test)]
mod tests;

use super::{Change, Kind, Record, RecordError, Records, Version};
use crate::kubernetes::{CallError, Client, Seen, Selection, pause, watch};
use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::params::{DeleteParams, ListParams};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The largest value, in bytes. The API server takes 1 MiB of data; the largest record, the use of 5,000 workspaces,
/// has some 0.5 MB, and each watcher is sent all of it at each write.
const VALUE: usize = 768 << 10;
/// The longest name, in bytes. Those in use have at most 63.
const NAME: usize = 1024;
/// For how long a call that may pass is tried again: whoever logs in waits for it, and an API server that restarts
/// answers again after some 1.2 s.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many records a page of a list has: 0.5 MB, 11 ms.
const PAGE: u32 = 500;

/// [`Records`] as Secrets of one namespace, which should hold nothing else of anybody's.
#[derive(Clone)]
pub struct SecretRecords {
    client: Client,
    namespace: String,
}

impl SecretRecords {
    /// In this namespace.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { client: client.patient(), namespace: namespace.to_owned() }
    }

    async fn standing(&self, object: &str) -> Result<Option<Secret>, RecordError> {
        persist(|| self.client.get::<Secret>(&self.namespace, object))
            .await
            .map_err(failed)
            .map(|(secret, _)| secret)
    }

    /// What a write came to that was told that another stands there. One whose answer was lost before may have
    /// met itself.
    async fn own(&self, object: &str, write: &str, lost: bool) -> Result<Option<Version>, RecordError> {
        if !lost {
            return Ok(None);
        }
        match self.standing(object).await? {
            Some(secret) if object::is_of(&secret, write) => {
                object::version(&secret).map(Some).map_err(RecordError::Store)
            }
            _ => Ok(None),
        }
    }
}

#[async_trait::async_trait]
impl Records for SecretRecords {
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError> {
        let fields = Some(format!("type={}", object::type_of(kind)));
        let mut params = ListParams { field_selector: fields, limit: Some(PAGE), ..ListParams::default() };
        let mut records = Vec::new();
        loop {
            let page = persist(|| self.client.page::<Secret>(&self.namespace, &params)).await;
            let (page, _) = page.map_err(failed)?;
            records.extend(page.items.into_iter().filter_map(|secret| readable(kind, secret)));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(records),
            }
        }
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        let Some(secret) = self.standing(&object::name_of(kind, name)).await? else { return Ok(None) };
        let record = object::record(kind, secret).map_err(RecordError::Store)?;
        Ok(Some(record).filter(|record| record.name == name))
    }

    async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
        check(name, &value)?;
        let write = random();
        let secret = object::whole(kind, name, value, &write);
        match persist(|| self.client.create(&self.namespace, &secret)).await {
            Ok((created, _)) => object::version(&created.object).map_err(RecordError::Store),
            Err((error, lost)) if error.code() == Some(409) => {
                let own = self.own(&object::name_of(kind, name), &write, lost).await?;
                own.ok_or_else(|| RecordError::Exists(name.to_owned()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError> {
        check(name, &value)?;
        if version == Version(0) {
            // No record has it, and to the API server it means any version.
            return Err(RecordError::Conflict(name.to_owned()));
        }
        let (write, object) = (random(), object::name_of(kind, name));
        let patch = object::replacement(version, value, &write);
        match persist(|| self.client.patch::<Secret>(&self.namespace, &object, &patch)).await {
            Ok((secret, _)) => object::version(&secret).map_err(RecordError::Store),
            Err((error, lost)) if matches!(error.code(), Some(404 | 409)) => {
                let own = self.own(&object, &write, lost).await?;
                own.ok_or_else(|| RecordError::Conflict(name.to_owned()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError> {
        let object = object::name_of(kind, name);
        let params = DeleteParams::default();
        let deleted = persist(|| self.client.delete::<Secret>(&self.namespace, &object, &params)).await;
        deleted.map(|(was_there, lost)| was_there || lost).map_err(failed)
    }

    fn watch(&self, kind: Kind) -> BoxStream<'static, Change> {
        let fields = Some(format!("type={}", object::type_of(kind)));
        let selection = Selection { namespace: self.namespace.clone(), fields, labels: None };
        let mut names = Names { kind, hashed: HashMap::new() };
        watch(&self.client, selection).filter_map(move |seen| ready(names.change(seen))).boxed()
    }
}

/// The names of records whose objects' names do not tell them.
struct Names {
    kind: Kind,
    hashed: HashMap<String, String>,
}

impl Names {
    /// What a record's watcher is told. While the watch is blind, nothing: the records that it knows are still the
    /// best that is known.
    fn change(&mut self, seen: Seen<Secret>) -> Option<Change> {
        match seen {
            Seen::Put(secret) | Seen::Listed(secret) => {
                let object = secret.metadata.name.clone().unwrap_or_default();
                let record = readable(self.kind, secret)?;
                if object::plain_name(self.kind, &object).is_none() {
                    self.hashed.insert(object, record.name.clone());
                }
                Some(Change::Put(record))
            }
            Seen::Deleted(object) => {
                let hashed = self.hashed.remove(&object);
                let name = hashed.or_else(|| object::plain_name(self.kind, &object).map(str::to_owned));
                name.map(Change::Deleted)
            }
            Seen::Synced | Seen::Blind => None,
        }
    }
}

/// The record, unless somebody else's hand made the object.
fn readable(kind: Kind, secret: Secret) -> Option<Record> {
    match object::record(kind, secret) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(error, "a Secret of a record's type cannot be read and is ignored");
            None
        }
    }
}

/// Calls until it works, is refused for good, or took too long. With the result whether an answer before it was lost,
/// so that the call may have been carried out then.
async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<(T, bool), (CallError, bool)>
where
    F: Future<Output = Result<T, CallError>>,
{
    let begun = Instant::now();
    let mut lost = false;
    for nth in 0.. {
        let error = match call().await {
            Ok(done) => return Ok((done, lost)),
            Err(error) => error,
        };
        let pause = pause::after(nth);
        if !error.may_pass() || begun.elapsed() + pause > PATIENCE {
            return Err((error, lost));
        }
        lost |= error.may_be_done();
        sleep(pause).await;
    }
    unreachable!("tries end by time long before their number does")
}

fn failed((error, _): (CallError, bool)) -> RecordError {
    RecordError::Store(format!("{error}; {}", error.hint()))
}

fn check(name: &str, value: &[u8]) -> Result<(), RecordError> {
    if name.len() > NAME {
        return Err(RecordError::Store(format!(
            "a record's name has {} bytes, more than {NAME}",
            name.len()
        )));
    }
    if value.len() > VALUE {
        let length = value.len();
        return Err(RecordError::Store(format!(
            "the value of the record {name} has {length} bytes, more than {VALUE}"
        )));
    }
    Ok(())
}

fn random() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    crate::hash::text(&bytes)
}

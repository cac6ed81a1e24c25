//! By how much an Usher's memory grows with its sessions.

use anyhow::{Context, ensure};
use config::{Config, Label, ProviderName, Subject, WorkspaceId};
use control::kubernetes::{Client, ClientMetrics, ClientSettings};
use control::{
    Action, Acts, Cause, Control, Device, Driver, Event, Identity, Kept, Kind, Login, NewSession, Records,
    RedbRecords, SecretRecords, SessionId,
};
use futures_util::stream::{self, BoxStream, StreamExt};
use prometheus::Registry;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"
domain = "lab.localhost"
state_dir = "/nonexistent"
[[listeners]]
address = "127.0.0.1:0"
[login]
development = true
[access]
allow = "true"
template = "'bench'"
[templates.bench]
command = ["true", "{port}"]
connect = "port"
"#;
/// How many writes are under way.
const AT_ONCE: usize = 64;
/// How long the memory may go on to change after everything is known.
const QUIET: Duration = Duration::from_secs(5);

/// One that runs nothing.
struct Idle;

#[async_trait::async_trait]
impl Driver for Idle {
    fn observe(&self) -> BoxStream<'static, Event> {
        stream::iter([Event::Synced]).chain(stream::pending()).boxed()
    }

    async fn act(&self, _: Action) -> Result<(), Cause> {
        Ok(())
    }

    async fn log_tail(&self, _: &WorkspaceId) -> String {
        String::new()
    }
}

/// The control of an Usher over a store.
pub(crate) async fn control(records: Arc<dyn Records>) -> anyhow::Result<(Control, CancellationToken)> {
    let config = Config::parse("bench", CONFIG, &|_| None).context("the configuration of the bench")?;
    let (_, config) = watch::channel(Arc::new(config));
    let shutdown = CancellationToken::new();
    let control =
        Control::start(config, Arc::new(Idle), records, &Registry::new(), Acts::untold(), shutdown.clone())
            .await?;
    Ok((control, shutdown))
}

/// Somebody as a university's provider tells of them.
fn somebody(groups: usize) -> anyhow::Result<NewSession> {
    let (n, label) = (0, "user0".to_owned());
    let (issuer, subject) = ("https://id.example.org/realms/lab", format!("5f0c1f4e-8a0e-4a53-b9a5-{n:012}"));
    let groups: Vec<_> = (0..groups).map(|group| format!("course-{group}-2026")).collect();
    let claims = json!({
        "sub": subject, "name": "Somebody Orother", "given_name": "Somebody", "family_name": "Orother",
        "preferred_username": label, "email": format!("{label}@example.org"), "email_verified": true, "groups": groups,
    });
    let Value::Object(claims) = claims else { anyhow::bail!("claims are an object") };
    let name = "Somebody Orother".to_owned();
    let now = SystemTime::now();
    Ok(NewSession {
        identity: Identity { issuer: issuer.to_owned(), subject: subject.clone() },
        label: Label::parse(&label)?,
        display_name: name.clone(),
        subject: Subject { issuer: issuer.to_owned(), subject, name, claims, groups },
        login: Login {
            at: now,
            provider: Some(ProviderName::parse("lab")?),
            sid: Some(format!("0b6f4f0e-8a0e-4a53-b9a5-{n:012}")),
            device: Device { agent: "Firefox on Linux".to_owned(), network: "192.0.2.0/24".to_owned() },
        },
        kept: Some(Kept { sealed: "r".repeat(1024), lasts: Duration::from_secs(300), at: now }),
    })
}

/// A session as a login made it, by whose example others are written: a login looks at all that there are.
pub(crate) struct Example {
    pub(crate) id: SessionId,
    text: String,
}

impl Example {
    /// Logs somebody in: the first in this store.
    pub(crate) async fn make(records: &Arc<dyn Records>, groups: usize) -> anyhow::Result<Self> {
        let (control, shutdown) = control(records.clone()).await?;
        let (id, _) = control.sessions.create(somebody(groups)?).await?;
        shutdown.cancel();
        control.running.await??;
        let first = records.list(Kind::Session).await?.pop().context("the session was recorded")?;
        Ok(Self { id, text: String::from_utf8(first.value)? })
    }

    /// Writes others, each of somebody else.
    pub(crate) async fn copy(&self, records: &Arc<dyn Records>, numbers: Range<usize>) -> anyhow::Result<()> {
        let writes = numbers.map(|n| {
            let records = records.clone();
            let value =
                self.text.replace("user0", &format!("user{n}")).replace("000000000000", &format!("{n:012}"));
            // As hashes do, they differ from the first place on.
            let mixed = u64::try_from(n).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let name = format!("{mixed:016x}{n:016x}");
            async move { records.create(Kind::Session, &name, value.into_bytes()).await }
        });
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }
}

/// Prints by how much the memory of an Usher grows that finds so many sessions: what each of the second half adds to the
/// first, and so without what is there once, such as the store's own cache.
pub(crate) async fn measure(
    count: usize,
    groups: usize,
    kubeconfig: Option<PathBuf>,
    namespace: Option<String>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let records = || open(folder.path(), kubeconfig.clone(), namespace.as_deref());
    let without = in_use(records().await?, 0).await?;
    let half = (count / 2).max(1);
    let example = Example::make(&records().await?, groups).await?;
    example.copy(&records().await?, 1..half).await?;
    let with_half = in_use(records().await?, half).await?;
    example.copy(&records().await?, half..count).await?;
    let with_all = in_use(records().await?, count).await?;
    let store = if kubeconfig.is_some() { "Secrets" } else { "redb" };
    println!(
        "\n## sessions memory: what an Usher that starts has allocated\n| store | sessions | groups of each | MiB without | MiB with half | MiB with all | bytes a session |\n|---|---|---|---|---|---|---|"
    );
    let each = with_all.saturating_sub(with_half) / (count - half).max(1);
    println!(
        "| {store} | {count} | {groups} | {:.1} | {:.1} | {:.1} | {each} |",
        mib(without),
        mib(with_half),
        mib(with_all)
    );
    Ok(())
}

async fn open(
    folder: &Path,
    kubeconfig: Option<PathBuf>,
    namespace: Option<&str>,
) -> anyhow::Result<Arc<dyn Records>> {
    let Some((kubeconfig, namespace)) = kubeconfig.zip(namespace) else {
        return Ok(Arc::new(RedbRecords::open(&folder.join("records.redb"))?));
    };
    let settings = ClientSettings { kubeconfig: Some(kubeconfig), context: None };
    let client = Client::new(&settings, ClientMetrics::new(&Registry::new())?).await?;
    Ok(Arc::new(SecretRecords::new(&client, namespace)))
}

/// What is allocated by an Usher that knows these sessions and rests.
async fn in_use(records: Arc<dyn Records>, count: usize) -> anyhow::Result<usize> {
    let (control, shutdown) = control(records).await?;
    ensure!(control.sessions.count() == count, "of {count} sessions {} are known", control.sessions.count());
    tokio::time::sleep(QUIET).await;
    tikv_jemalloc_ctl::epoch::advance()
        .map_err(|error| anyhow::anyhow!("no figures of jemalloc: {error}"))?;
    let allocated = tikv_jemalloc_ctl::stats::allocated::read()
        .map_err(|error| anyhow::anyhow!("no figures of jemalloc: {error}"))?;
    shutdown.cancel();
    control.running.await??;
    Ok(allocated)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

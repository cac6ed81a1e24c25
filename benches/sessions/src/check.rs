//! What each request does to know who asks: its cookie is found and opened, its session looked up.

use crate::memory::{self, Example};
use anyhow::ensure;
use config::HostName;
use control::{Records, RedbRecords};
use criterion::Criterion;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use proxy::access::route::Place;
use proxy::cookies::Found;
use proxy::keys::Keys;
use proxy::session_cookie;
use std::sync::Arc;
use std::time::SystemTime;

/// Measures a look among so many sessions.
pub(crate) async fn measure(count: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let records: Arc<dyn Records> = Arc::new(RedbRecords::open(&folder.path().join("records.redb"))?);
    let example = Example::make(&records, 3).await?;
    example.copy(&records, 1..count).await?;
    let (control, shutdown) = memory::control(records).await?;
    let keys = Keys::open_dir(folder.path())?;
    let (place, host) = (Place::Portal, HostName::parse("lab.localhost")?);
    let set = session_cookie::issue(&keys, &place, &host, example.id, SystemTime::now());
    let pair = set.to_str()?.split(';').next().unwrap_or_default();
    // Beside the cookies of an application.
    let field = format!("_xsrf=2|f1a2b3c4|0123456789abcdef|1800000000; {pair}; theme=dark");
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(field)?)]);
    let look = || {
        let Found::One(sealed) = session_cookie::find(&place, &headers) else { return None };
        let cookie = session_cookie::open(&keys, &place, &host, sealed)?;
        control.sessions.lookup(&cookie.id)
    };
    ensure!(look().is_some(), "the session is not known");
    let mut criterion = Criterion::default().output_directory(folder.path());
    criterion.bench_function(&format!("a session among {count} by its cookie"), |bench| bench.iter(look));
    shutdown.cancel();
    control.running.await??;
    Ok(())
}

//! The commands that ask a running usher, over its admin socket.

pub mod certificates;

use crate::admin::{Status, WorkspaceStatus};
use bytes::Bytes;
use config::WorkspaceId;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long a running usher may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a running usher could not be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody listens on the socket, or the connection broke.
    #[error("no usher answers at {}: does it run, with this configuration, as this user?", socket.display())]
    NoAnswer {
        /// The admin socket.
        socket: PathBuf,
        /// What the connection said.
        source: ConnectionError,
    },
    /// The socket is there, but silent.
    #[error("the usher at {} did not answer in {PATIENCE:?}", socket.display())]
    Silent {
        /// The admin socket.
        socket: PathBuf,
    },
    /// It said no; its own words.
    #[error("{0}")]
    Refused(String),
    /// Its answer is not what this version understands.
    #[error("the running usher is another version than this command: its answer cannot be read")]
    OtherVersion(#[from] serde_json::Error),
}

/// What broke on the way to a running usher.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The HTTP spoken on it.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// `usher status`: the text to print.
///
/// # Errors
/// No usher answers, or it answers with an error.
pub async fn status(socket: &Path, json: bool) -> Result<String, RemoteError> {
    let text = ask(socket, Method::GET, "/status").await?;
    if json { Ok(format!("{text}\n")) } else { Ok(table(&serde_json::from_str(&text)?)) }
}

/// `usher stop NAME`: what the running usher says to it.
///
/// # Errors
/// No usher answers, or there is nothing to stop.
pub async fn stop(socket: &Path, name: &WorkspaceId) -> Result<String, RemoteError> {
    ask(socket, Method::POST, &format!("/workspaces/{name}/stop")).await
}

/// `usher delete NAME`: what the running usher says to it.
///
/// # Errors
/// No usher answers, or it knows no such workspace.
pub async fn delete(socket: &Path, name: &WorkspaceId, with_volume: bool) -> Result<String, RemoteError> {
    ask(socket, Method::POST, &format!("/workspaces/{name}/delete?volume={with_volume}")).await
}

/// `usher sign-out LABEL`: what the running usher says to it.
///
/// # Errors
/// No usher answers, or nobody of that label is logged in.
pub async fn sign_out(socket: &Path, label: &str) -> Result<String, RemoteError> {
    let label: String = form_urlencoded::byte_serialize(label.as_bytes()).collect();
    ask(socket, Method::POST, &format!("/people/{label}/sign-out")).await
}

async fn ask(socket: &Path, method: Method, path: &str) -> Result<String, RemoteError> {
    ask_with(socket, method, path, None).await
}

/// The same with a body of JSON.
async fn ask_with(
    socket: &Path,
    method: Method,
    path: &str,
    json: Option<Vec<u8>>,
) -> Result<String, RemoteError> {
    let (status, text) = match tokio::time::timeout(PATIENCE, exchange(socket, method, path, json)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(RemoteError::NoAnswer { socket: socket.to_owned(), source }),
        Err(_) => return Err(RemoteError::Silent { socket: socket.to_owned() }),
    };
    if status == StatusCode::OK { Ok(text) } else { Err(RemoteError::Refused(text.trim_end().to_owned())) }
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    json: Option<Vec<u8>>,
) -> Result<(StatusCode, String), ConnectionError> {
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let is_json = json.is_some();
    let mut request = Request::new(Full::new(Bytes::from(json.unwrap_or_default())));
    *request.method_mut() = method;
    *request.uri_mut() =
        Uri::try_from(path).expect("what stands in the path is LDH or escaped, so it is a URI");
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    if is_json {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        ended = &mut connection => { ended?; exchange.await }
    }
}

/// The status as a person reads it.
fn table(status: &Status) -> String {
    let head = ["WORKSPACE", "OWNER", "TEMPLATE", "PHASE", "SINCE", "STOPS IN", "SOCKETS", "WHY"];
    let rows: Vec<[String; 8]> =
        std::iter::once(head.map(str::to_owned)).chain(status.workspaces.iter().map(row)).collect();
    let mut text = format!(
        "usher {}, {}; sessions: {}, workspaces: {}\n",
        status.version,
        if status.ready { "ready" } else { "not ready" },
        status.sessions,
        status.workspaces.len()
    );
    if !status.workspaces.is_empty() {
        text.push_str(&columns(&rows));
    }
    text
}

/// Rows of cells, each column as wide as its widest.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(workspace: &WorkspaceStatus) -> [String; 8] {
    let why = match (&workspace.why, workspace.why_since_s) {
        (Some(why), Some(since)) => format!("{why}, {} ago", span(since)),
        (Some(why), None) => why.clone(),
        (None, _) => "-".to_owned(),
    };
    [
        workspace.workspace.clone(),
        workspace.owner.clone(),
        workspace.template.clone(),
        workspace.phase.clone(),
        span(workspace.since_s),
        workspace.stops_in_s.map_or_else(|| "-".to_owned(), span),
        workspace.open_sockets.to_string(),
        // A failure quotes lines of output: here each workspace has one.
        why.lines().collect::<Vec<_>>().join(" | "),
    ]
}

/// Seconds as a person says them: `42s`, `12m`, `3h05m`, `2d04h`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        let told = [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h00m"), (93_600, "1d02h")];
        for (seconds, text) in told {
            assert_eq!(span(seconds), text);
        }
    }

    fn workspace() -> WorkspaceStatus {
        WorkspaceStatus {
            workspace: "gpu--alice".into(),
            owner: "alice".into(),
            issuer: "usher:development".into(),
            template: "demo".into(),
            phase: "ready".into(),
            since_s: 7200,
            why: Some("client_frame".into()),
            why_since_s: Some(90),
            stops_in_s: Some(1710),
            open_sockets: 2,
        }
    }

    #[test]
    fn the_status_names_the_reason_and_its_age() {
        let status = Status { version: "1".into(), ready: true, sessions: 3, workspaces: vec![workspace()] };
        assert_eq!(
            table(&status),
            "usher 1, ready; sessions: 3, workspaces: 1\n\
             WORKSPACE   OWNER  TEMPLATE  PHASE  SINCE  STOPS IN  SOCKETS  WHY\n\
             gpu--alice  alice  demo      ready  2h00m  28m       2        client_frame, 1m ago\n"
        );
    }

    #[test]
    fn a_failure_that_quotes_several_lines_of_output_stays_in_its_row() {
        let mut workspace = workspace();
        workspace.why = Some("crashed: Exit code 3. Its last output: one\ntwo".into());
        workspace.why_since_s = None;
        let status = Status { version: "1".into(), ready: true, sessions: 1, workspaces: vec![workspace] };
        let text = table(&status);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.ends_with("  crashed: Exit code 3. Its last output: one | two\n"), "{text}");
    }
}

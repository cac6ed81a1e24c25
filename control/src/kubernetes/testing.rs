//! An API server that does as it is told, over sockets or in memory: for faults that a real one cannot make on demand.

use super::existing::Existing;
use super::fold::Fold;
use super::{Client, ClientMetrics, ClientSettings, Inner, Space, WarmMetrics};
use crate::{Grant, Identity, StartSpec};
use bytes::Bytes;
use config::{Config, Kubernetes, WorkspaceId};
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use prometheus::Registry;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, service_fn};

/// A request as the server reads it: `GET /path?query` and its body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What the server does about a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// None = not even a head.
    status: Option<u16>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    Cut,
    Hang,
}

impl Reply {
    /// Never answers.
    pub(crate) fn silence() -> Self {
        Self { status: None, steps: vec![Step::Hang] }
    }
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status: Some(status), steps: vec![Step::Say(body.to_string().into_bytes())] }
    }
    pub(crate) fn refusal(code: u16, reason: &str) -> Self {
        let message = format!("the test says {code}");
        Self::json(
            code,
            &json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}),
        )
    }
    /// A watch's beginning.
    pub(crate) fn stream() -> Self {
        Self { status: Some(200), steps: Vec::new() }
    }
    pub(crate) fn line(self, line: &Value) -> Self {
        self.say(format!("{line}\n").as_bytes())
    }
    pub(crate) fn say(mut self, bytes: &[u8]) -> Self {
        self.steps.push(Step::Say(bytes.to_vec()));
        self
    }
    pub(crate) fn wait(mut self, pause: Duration) -> Self {
        self.steps.push(Step::Wait(pause));
        self
    }
    /// Closes the connection within the answer.
    pub(crate) fn cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }
    /// Neither goes on nor ends.
    pub(crate) fn hang(mut self) -> Self {
        self.steps.push(Step::Hang);
        self
    }
}

/// What is answered to a request.
type Answers = dyn FnMut(&Asked) -> Reply + Send;

/// Answers requests; remembers what was asked.
#[derive(Clone)]
pub(crate) struct Server {
    answer: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<String>>>,
    pub(crate) metrics: ClientMetrics,
    pub(crate) registry: Registry,
}

impl Server {
    pub(crate) fn new(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let registry = Registry::new();
        let metrics = ClientMetrics::new(&registry).unwrap();
        Self { answer: Arc::new(Mutex::new(answer)), asked: Arc::default(), metrics, registry }
    }

    /// Gives these answers in turn, and then none.
    pub(crate) fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<_> = replies.into_iter().collect();
        Self::new(move |_| replies.pop_front().unwrap_or_else(Reply::silence))
    }

    /// The lines of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The value of a counter or gauge with these label values.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let found = family.get_metric().iter().find(|metric| {
            let values: Vec<_> = metric.get_label().iter().map(|label| label.value()).collect();
            labels.iter().all(|label| values.contains(label))
        });
        found.map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
    }

    fn reply(&self, asked: &Asked) -> Reply {
        self.asked.lock().unwrap().push(asked.line.clone());
        (self.answer.lock().unwrap())(asked)
    }

    /// A client without sockets, for paused time.
    pub(crate) fn in_memory(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(BoxError::from)?.to_bytes().to_vec();
                let reply = server.reply(&Asked { line: format!("{} {}", parts.method, parts.uri), body });
                let Some(status) = reply.status else { return pending().await };
                let body = StreamBody::new(frames(reply.steps));
                Ok::<_, BoxError>(Response::builder().status(status).body(body).unwrap())
            }
        });
        Client::over(service, "http://memory", self.metrics.clone())
    }

    /// A client over sockets, and the server's end of them for as long as it is kept.
    pub(crate) async fn over_sockets(&self) -> (Client, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, kubeconfig(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
        let settings = ClientSettings { kubeconfig: Some(file), context: None };
        let client = Client::new(&settings, self.metrics.clone()).await.unwrap();
        let (server, mut tasks) = (self.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    // Ends with the client.
                    let _none = server.serve(socket).await;
                });
            }
        });
        (client, tasks)
    }

    async fn serve(&self, socket: TcpStream) -> Option<Infallible> {
        let mut socket = BufReader::new(socket);
        loop {
            let asked = read(&mut socket).await?;
            let reply = self.reply(&asked);
            let Some(status) = reply.status else { return pending().await };
            let head = format!("HTTP/1.1 {status} As told\r\nTransfer-Encoding: chunked\r\n\r\n");
            socket.write_all(head.as_bytes()).await.ok()?;
            for step in reply.steps {
                match step {
                    Step::Say(bytes) => {
                        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                        socket.write_all(&chunk).await.ok()?;
                    }
                    Step::Wait(pause) => sleep(pause).await,
                    Step::Cut => return None,
                    Step::Hang => return pending().await,
                }
            }
            socket.write_all(b"0\r\n\r\n").await.ok()?;
        }
    }
}

/// A kubeconfig of one cluster, in the context `x`.
pub(crate) fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: u, user: {{token: s3cret}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    )
}

/// A configuration with the template `t` of this image, which keeps no files.
pub(crate) fn config_of(image: &str) -> Config {
    config_with(image, "'none'")
}

/// As [`config_of`], with this volume.
fn config_with(image: &str, volume: &str) -> Config {
    let text = format!(
        "domain = 'lab.example.org'\ndriver = 'kubernetes'\nlisteners = [{{ address = '127.0.0.1:8080' }}]\n\
         access = {{ allow = 'true', template = \"'t'\" }}\nkubernetes = {{ namespace = 'w' }}\n\
         [templates.t]\nimage = '{image}'\nport = 80\nvolume = {volume}\nresources = {{ memory = '1Gi', cpu = 1 }}\n"
    );
    Config::parse("f", &text, &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

/// A start of alice's workspace, of the template `t` with this image.
pub(crate) fn start_spec(image: &str) -> StartSpec {
    spec_of(config_of(image))
}

/// As [`start_spec`], of a template that keeps files on a volume.
pub(crate) fn start_spec_with_files() -> StartSpec {
    spec_of(config_with("i", "{ size = '1Gi' }"))
}

fn spec_of(config: Config) -> StartSpec {
    StartSpec {
        id: WorkspaceId::parse("alice").unwrap(),
        owner: Identity { issuer: "https://id.example.org".to_owned(), subject: "7".to_owned() },
        template: config.templates.into_values().next().unwrap(),
        host: "alice.lab.example.org".to_owned(),
        grant: Grant::default(),
    }
}

/// A driver in one namespace, which was told nothing yet.
pub(super) fn space(client: Client, kubernetes: Kubernetes) -> Space {
    let inner = Inner {
        client,
        replica: "r".to_owned(),
        fold: Fold::new(kubernetes.clone()).into(),
        kubernetes,
        existing: Existing::default(),
        woken: Notify::new(),
        told: watch::Sender::new(0),
        leads: watch::channel(true).1,
        warm: WarmMetrics::new(&Registry::new()).unwrap(),
        broken: CancellationToken::new(),
    };
    Space { inner: Arc::new(inner) }
}

/// Merges a patch into what it is a patch of: a strategic merge patch without lists in what it merges (RFC 7396 §2,
/// and `$patch`).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(mut patch) = patch else {
        *target = patch;
        return;
    };
    if let Some(how) = patch.remove("$patch") {
        assert_eq!(how, "replace");
        *target = Value::Object(patch);
        return;
    }
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Goes on by itself, as a server does, whether it is read or not.
fn frames(steps: Vec<Step>) -> BoxStream<'static, Result<Frame<Bytes>, BoxError>> {
    let mut at = Instant::now();
    let timed = steps.into_iter().map(move |step| {
        if let Step::Wait(pause) = step {
            at += pause;
        }
        (step, at)
    });
    let frames = stream::iter(timed).filter_map(async |(step, at)| match step {
        Step::Say(bytes) => Some(Ok(Frame::data(Bytes::from(bytes)))),
        Step::Wait(_) => {
            sleep_until(at).await;
            None
        }
        Step::Cut => Some(Err("cut".into())),
        Step::Hang => pending().await,
    });
    frames.boxed()
}

/// A request's line and body; `None` when the client has gone.
async fn read(socket: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let length =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    socket.read_exact(&mut body).await.ok()?;
    let line = head.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, body })
}

//! A real identity provider, on a free port.

use crate::http_client::{Answer, Client};
use crate::logs::Logs;
use crate::usher::{DOMAIN, Setup, Usher};
use crate::wait::{STARTED, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The name of the table under `[login.providers]` that [`IdentityProvider::setup`] writes.
const NAME: &str = "lab";
const CLIENT: &str = "usher";
const SECRET: &str = "between Usher and the provider + & %";

/// A running identity provider. Dropped, it ends.
pub struct IdentityProvider {
    child: Child,
    _stdin: ChildStdin,
    /// What it says beside its address.
    says: Logs,
    /// Where it is asked.
    pub client: Client,
}

impl IdentityProvider {
    /// Starts one that knows these accounts: claims by `sub`.
    pub async fn start(accounts: Value) -> Self {
        Self::start_with(json!({ "accounts": accounts })).await
    }

    /// As [`IdentityProvider::start`], with settings of `tests/identity/provider.mjs`.
    pub async fn start_with(settings: Value) -> Self {
        Self::run("provider.mjs", settings).await
    }

    /// What stands for GitHub, with what `tests/identity/github.mjs` says; its client's secret is this one's.
    pub async fn github(mut says: Value) -> Self {
        says["secret"] = json!(SECRET);
        Self::run("github.mjs", says).await
    }

    /// One that others have written in another language, Canaille: groups by account, all else as
    /// `tests/identity/second.py` has it.
    pub async fn second(accounts: Value) -> Self {
        let folder = std::env::var("PROVIDER").expect(
            "PROVIDER is the folder of a Python with Canaille: run `make test`, or see .ci/provision.sh",
        );
        let argument = json!({ "accounts": accounts });
        Self::started(Command::new(Path::new(&folder).join("python")), "second.py", &argument).await
    }

    async fn run(script: &str, argument: Value) -> Self {
        let modules = std::env::var("NODE_MODULES").expect(
            "NODE_MODULES is set, and node in PATH new enough: run `make test`, or see .ci/provision.sh for both",
        );
        let mut node = Command::new("node");
        node.env("NODE_MODULES", modules);
        Self::started(node, script, &argument).await
    }

    async fn started(mut program: Command, script: &str, argument: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("identity").join(script);
        let mut child = program
            .arg(script)
            .arg(argument.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not the test's own: Node makes a pipe non-blocking, and whoever else writes to it then fails.
            .stderr(Stdio::piped())
            .spawn()
            .expect("a provider's program can be started");
        let says = Logs::default();
        says.follow(child.stderr.take().expect("stderr is piped"));
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let first = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = first.await.expect("reading does not panic").expect("a pipe can be read");
        let address = line.trim().strip_prefix("http://").and_then(|address| address.parse().ok());
        let address: SocketAddr =
            address.unwrap_or_else(|| panic!("the provider says {line:?}\n{}", says.all()));
        Self { child, _stdin: stdin, says, client: Client::at(address, None) }
    }

    /// A port of loopback on which nothing listens now, for one that is to come later.
    pub fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    }

    /// Its `iss`.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.client.address)
    }

    /// An Usher whose only login it is: more keys of its table, and the rest as for [`Setup::new`].
    pub fn setup(&self, more: &str, rest: &str) -> Setup {
        self.logs_in(Setup::new(rest), more)
    }

    /// This setup with it as the only login: more keys of its table.
    pub fn logs_in(&self, setup: Setup, more: &str) -> Setup {
        let table = self.table(&format!("client_secret = {{ from_env = \"LAB_SECRET\" }}\n{more}"));
        setup.more(&table).environment("LAB_SECRET", SECRET).without_development()
    }

    fn table(&self, more: &str) -> String {
        let issuer = self.issuer();
        format!(
            "[login.providers.{NAME}]\nissuer = \"{issuer}\"\ntitle = \"The Lab\"\nclient_id = \"{CLIENT}\"\n{more}\n"
        )
    }

    /// As [`IdentityProvider::setup`], started, where a new key (`rsa` or `ec`) and no secret proves who Usher is; and the
    /// public part of it.
    pub async fn setup_with_key(&self, kind: &str, rest: &str) -> (Usher, Value) {
        let script = "const { generateKeyPairSync } = require('node:crypto');
            const options = process.argv[1] === 'rsa' ? { modulusLength: 2048 } : { namedCurve: 'P-256' };
            const { privateKey, publicKey } = generateKeyPairSync(process.argv[1], options);
            const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
            console.log(JSON.stringify([key, publicKey.export({ format: 'jwk' })]));";
        let made = Command::new("node").args(["-e", script, kind]).output().expect("node can be started");
        let (key, public): (String, Value) = serde_json::from_slice(&made.stdout).expect("a key pair");
        let table = self.table("private_key = { from_env = \"LAB_KEY\" }");
        let setup =
            Setup::new(&format!("{table}\n{rest}")).environment("LAB_KEY", &key).without_development();
        (setup.start().await, public)
    }

    /// Tells it of an Usher, which is its client from then on.
    pub async fn knows(&self, usher: &Usher) {
        self.knows_as(usher, json!({})).await;
    }

    /// As [`IdentityProvider::knows`], of several that are one to it.
    pub async fn knows_all(&self, ushers: &[Usher]) {
        for usher in ushers {
            is_heard(usher).await;
        }
        let back = |usher: &Usher| format!("{}/auth/{NAME}/callback", usher.client().origin(DOMAIN));
        let back: Vec<_> = ushers.iter().map(back).collect();
        self.knows_as(&ushers[0], json!({ "redirect_uris": back })).await;
    }

    /// As [`IdentityProvider::knows`], with more metadata of the client.
    pub async fn knows_as(&self, usher: &Usher, more: Value) {
        let portal = usher.client().origin(DOMAIN);
        let mut client = json!({
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uris": [format!("{portal}/auth/{NAME}/callback")],
            "post_logout_redirect_uris": [format!("{portal}/logged-out")],
            "backchannel_logout_uri": format!("{portal}/auth/{NAME}/backchannel-logout"),
            "backchannel_logout_session_required": true,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        });
        let (Value::Object(client_keys), Value::Object(more)) = (&mut client, more) else {
            panic!("not objects")
        };
        client_keys.extend(more);
        self.control("client", client).await;
        is_heard(usher).await;
    }

    /// A token for a machine that it knows from then on, for this audience.
    pub async fn token_of_machine(&self, id: &str, audience: &str) -> String {
        let client = json!({
            "client_id": id,
            "client_secret": SECRET,
            "redirect_uris": [],
            "grant_types": ["client_credentials"],
            "response_types": [],
            "token_endpoint_auth_method": "client_secret_post",
        });
        self.control("client", client).await;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", SECRET),
            ("resource", audience),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = self.client.post("127.0.0.1", "/token").form(&fields).send().await;
        assert!(answer.status.is_success(), "the provider gives no token: {}", answer.text());
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// Gives an account these claims.
    pub async fn account(&self, id: &str, claims: Value) {
        self.control("account", json!({ "id": id, "claims": claims })).await;
    }

    /// Takes an account away.
    pub async fn remove(&self, id: &str) {
        self.control("account", json!({ "id": id })).await;
    }

    /// How often a path was asked for.
    pub async fn asked(&self, path: &str) -> u64 {
        self.control("asked", json!({})).await.json()[path].as_u64().unwrap_or(0)
    }

    /// Its name for the session that this account has at Usher.
    pub async fn sid(&self, id: &str) -> String {
        let said = self.control("sid", json!({ "id": id })).await.json();
        said.as_str().unwrap_or_else(|| panic!("{id} has no session: {said}")).to_owned()
    }

    /// Changes what stands for GitHub says.
    pub async fn now_says(&self, said: Value) {
        let answer = self.client.post("127.0.0.1", "/control").body(said.to_string()).send().await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }

    async fn control(&self, what: &str, said: Value) -> Answer {
        let ask = self.client.post("127.0.0.1", &format!("/control/{what}"));
        let answer = ask.body(said.to_string()).send().await;
        assert!(answer.status.is_success(), "the provider does not {what}: {}", answer.text());
        answer
    }
}

/// Waits until an Usher has heard its provider: before, nobody can log in there.
async fn is_heard(usher: &Usher) {
    wait_for("the provider to be heard", STARTED, async || {
        usher.logs.all().contains("the identity provider answers").then_some(())
    })
    .await;
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the provider said:\n{}", self.says.all());
        }
    }
}

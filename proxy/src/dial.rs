//! The way to a workspace: what may be dialled, and when. All connections to workspaces are opened here, those of
//! Pingora's pools and those of tunnels alike.
//!
//! An address is dialled only while it is known whose it is. The table knows, as long as its driver hears of the
//! cluster; while it does not, running workspaces serve on all the same: what arrived from an instance in the last 10 s
//! ([`control::Proof`] says what that proves, and how strictly) says it as well. A tunnel bears witness with whatever it
//! carries, an answer with its head: it was sent after its request. Without either, a dial waits, within bounds, until
//! the table or the instance tells something new.

use crate::access::Forward;
use crate::edge::Edge;
use crate::refusal::{Code, Refusal};
use crate::witness::{Witness, opened_now};
use async_trait::async_trait;
use config::{Config, Driver, WorkspaceId};
use control::{Address, DOUBTED, Entry, Generation, Phase, Proof, Sight};
use pingora::connectors::l4;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as PooledStream;
use pingora::{Error, ErrorType};
use socket2::{SockRef, TcpKeepalive};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

/// A connection to a workspace.
pub(crate) type Stream = Either<TcpStream, UnixStream>;

/// A connection that was just opened.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// The connection.
    pub(crate) stream: Stream,
    /// Itself as a witness; a Unix socket proves nothing that is in doubt.
    pub(crate) witness: Option<Witness>,
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// What the table says of addresses is not known to be true, and was not in time.
    #[error("the cluster is not seen")]
    Unseen,
    /// The table says otherwise by now.
    #[error("the instance that was admitted to is not there any more")]
    Ended,
    /// The address is none that a pod may have.
    #[error("the address is in none of kubernetes.pod_networks")]
    NotAPod,
    /// Nobody accepts there, or not in time.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// The right to open connections to one instance of a workspace, for as long as the table tells of it.
pub(crate) struct Dial {
    edge: Arc<Edge>,
    config: Arc<Config>,
    id: WorkspaceId,
    generation: Generation,
    proof: Arc<Proof>,
    sight: Sight,
    /// How long the table is waited for while it is blind. After a halt everybody waits until it is current: that passes by
    /// itself.
    patience: Duration,
}

/// How long a connect may take: the workspace is ready, so it accepts at once or is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When a silent peer is asked whether it is there, how often again and how many times; and how long bytes may
/// stay unacknowledged. A tunnel has no other way to notice a workspace that vanished without a word.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// When somebody should ask again who came while the cluster was not seen: a watch is taken up again every 8 s.
const ASK_AGAIN_UNSEEN: u32 = 10;
/// The mark of [`DialError::Unseen`] on its way through Pingora.
const UNSEEN: ErrorType = ErrorType::Custom("the cluster is not seen");

impl Dial {
    /// For an admitted request.
    pub(crate) fn of(edge: Arc<Edge>, config: Arc<Config>, forward: &Forward) -> Self {
        Self {
            edge,
            config,
            id: forward.permit.id().clone(),
            generation: forward.route.generation.clone(),
            proof: forward.route.proof.clone(),
            sight: forward.route.sight.clone(),
            patience: forward.patience,
        }
    }

    /// Connects, as soon as it is known whose the address is, and if the table still tells of this instance.
    ///
    /// # Errors
    /// The table is blind for too long and the instance silent, the table tells of another instance, the address is no pod's, or nobody accepts.
    pub(crate) async fn open(&self, address: &Address) -> Result<Dialled, DialError> {
        if !is_allowed(&self.config.driver, address) {
            tracing::error!(workspace.name = %self.id, "a workspace was not dialled: its address is no pod's");
            return Err(DialError::NotAPod);
        }
        let workspaces = &self.edge.workspaces;
        // However long that was, what is said next is of now.
        let _halted = timeout(DOUBTED, self.is_current()).await;
        timeout(self.patience, self.is_seen()).await.map_err(|_| DialError::Unseen)??;
        // Looked up after the table was found to be true: who was admitted before may know an older one.
        if !self.is_told_by(workspaces.lookup(&self.id).as_deref(), address) {
            return Err(DialError::Ended);
        }
        let connected = timeout(CONNECT_TIMEOUT, connect(address)).await;
        let stream =
            connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody accepted in time"))??;
        // The instance may have ended meanwhile, and whoever accepted be the next that has its address.
        if !self.is_told_by(workspaces.lookup(&self.id).as_deref(), address) {
            return Err(DialError::Ended);
        }
        Ok(self.dialled(stream))
    }

    /// Waits until the table is current, or the instance was heard just now.
    async fn is_current(&self) {
        let workspaces = &self.edge.workspaces;
        let mut changes = workspaces.changes();
        while !workspaces.is_current() && !self.proof.holds(now()) && changes.changed().await.is_ok() {}
    }

    /// Waits until it is known whose the address is, be it by the table or by the instance alone.
    async fn is_seen(&self) -> Result<(), DialError> {
        let workspaces = &self.edge.workspaces;
        let mut changes = workspaces.changes();
        loop {
            let news = self.proof.news();
            // What is not told of at all is found out about next.
            let is_told = || workspaces.lookup(&self.id).is_none_or(|entry| entry.seen);
            if (workspaces.is_current() && is_told()) || self.proof.holds(now()) {
                return Ok(());
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| DialError::Unseen)?,
                () = news => {}
            }
        }
    }

    /// A connection as it is from now on.
    fn dialled(&self, stream: Stream) -> Dialled {
        let witness = match &stream {
            Either::Left(stream) => Some(Witness::new(self.proof.clone(), self.sight.clone(), stream)),
            Either::Right(_) => None,
        };
        Dialled { stream, witness }
    }

    fn is_told_by(&self, entry: Option<&Entry>, address: &Address) -> bool {
        matches!(entry, Some(Entry { phase: Phase::Ready(route), .. }) if route.leads_to(&self.generation, address))
    }
}

impl DialError {
    /// What a client is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Unseen => unseen(),
            Self::Ended => Refusal::new(Code::WorkspaceStopped),
            Self::NotAPod | Self::Failed(_) => {
                Refusal::with(Code::BadUpstream, "The workspace cannot be reached.")
            }
        }
    }
}

/// What a client is told of a connect that failed within Pingora, where it is more than that.
pub(crate) fn refusal_of(error: &Error) -> Option<Refusal> {
    (*error.etype() == UNSEEN).then(unseen)
}

fn unseen() -> Refusal {
    Refusal { retry_after: Some(ASK_AGAIN_UNSEEN), ..Refusal::new(Code::Unseen) }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whether a driver's workspaces may be at an address.
fn is_allowed(driver: &Driver, address: &Address) -> bool {
    match (driver, address) {
        (Driver::Process, _) => true,
        (Driver::Kubernetes(kubernetes), Address::Tcp(address)) => kubernetes.may_dial(address.ip()),
        (Driver::Kubernetes(_), Address::Unix(_)) => false,
    }
}

/// Pingora asks for a connection when its pool has none.
#[async_trait]
impl l4::Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<PooledStream> {
        let address = match address {
            SocketAddr::Inet(address) => Address::Tcp(*address),
            SocketAddr::Unix(address) => {
                Address::Unix(address.as_pathname().unwrap_or("".as_ref()).to_owned())
            }
        };
        match self.open(&address).await.map(|dialled| dialled.stream) {
            Ok(stream) => {
                let mut stream: PooledStream = match stream {
                    Either::Left(stream) => stream.into(),
                    Either::Right(stream) => stream.into(),
                };
                stream.established_ts = opened_now();
                Ok(stream)
            }
            Err(DialError::Failed(error)) => {
                Err(Error::because(ErrorType::ConnectError, "no workspace", error))
            }
            Err(error @ DialError::Unseen) => Err(Error::because(UNSEEN, "no sight", error)),
            Err(error) => Err(Error::because(ErrorType::ConnectError, "no way", error)),
        }
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dial({} {})", self.id, self.generation)
    }
}

async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(KEEPALIVE_TIME)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_RETRIES),
            )?;
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            Ok(Either::Left(stream))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ListenerFacts;
    use crate::lab::{CONFIG, Lab, PODS};
    use control::{Event, Grant, Identity, Observed, ObservedPhase, Scope, Workspaces};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    fn alice() -> WorkspaceId {
        WorkspaceId::parse("alice").unwrap()
    }

    /// Has the driver tell that alice's instance of this number runs at an address.
    fn runs(lab: &Lab, number: u32, address: &Address) {
        let owner = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "alice".to_owned() };
        let template = config::TemplateName::parse("demo").unwrap();
        let phase = ObservedPhase::started(generation(number), Some(address.clone()));
        lab.tell(Event::Seen(Observed::alone(alice(), owner, template, Grant::default(), phase)));
    }

    /// Whether alice's instance of this number is ready.
    fn is_at(table: &Workspaces, number: u32) -> bool {
        let phase = table.lookup(&alice()).map(|entry| entry.phase.clone());
        matches!(phase, Some(Phase::Ready(route)) if route.generation == generation(number))
    }

    /// Whether what the table tells of alice is known to be true.
    fn is_seen(table: &Workspaces) -> bool {
        table.lookup(&alice()).is_some_and(|entry| entry.seen)
    }

    fn generation(number: u32) -> Generation {
        Generation(number.to_string().into())
    }

    /// The instance says something on a connection that is surely its own.
    fn speaks(proof: &Proof, at: Instant) {
        let (opened, sight) = (at - Duration::from_millis(20), Sight::default());
        sight.reaches(at - Duration::from_millis(10));
        proof.heard(at, opened, &sight);
    }

    async fn until(lab: &Lab, is_so: impl Fn(&Workspaces) -> bool) {
        let mut changes = lab.edge.workspaces.changes();
        while !is_so(&lab.edge.workspaces) {
            timeout(Duration::from_secs(20), changes.changed()).await.expect("it comes so").unwrap();
        }
    }

    fn dial(lab: &Lab, number: u32, patience: Duration) -> Dial {
        let (edge, config) = (lab.edge.clone(), lab.edge.config.load_full());
        let (proof, sight) = match lab.edge.workspaces.lookup(&alice()).map(|entry| entry.phase.clone()) {
            Some(Phase::Ready(route)) => (route.proof, route.sight),
            _ => (Arc::default(), Sight::default()),
        };
        Dial { edge, config, id: alice(), generation: generation(number), proof, sight, patience }
    }

    /// A lab whose alice runs behind a listener.
    async fn lab(config: &str) -> (Lab, TcpListener, Address) {
        let lab = Lab::with(
            config,
            ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false },
        )
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        runs(&lab, 1, &address);
        until(&lab, |table| {
            table.lookup(&alice()).is_some_and(|entry| matches!(entry.phase, Phase::Ready(_)))
        })
        .await;
        listener.accept().await.expect("the prober came");
        (lab, listener, address)
    }

    #[test]
    fn only_addresses_that_pods_may_have_are_dialled() {
        let config = |networks: &str| {
            let text = PODS.replace("namespace =", &format!("{networks} namespace ="));
            Config::parse("f", &text, &|_| None).unwrap()
        };
        let (default, named) = (config(""), config("pod_networks = ['0.0.0.0/0', '2001:db8::/32'],"));
        for (address, by_default, by_name) in [
            ("10.1.2.3:80", true, true),
            ("192.168.0.1:80", true, true),
            ("[::ffff:10.1.2.3]:80", true, true),
            ("[fd00::1]:80", true, false),
            ("[2001:db8::1]:80", false, true),
            ("203.0.113.1:80", false, true),
            ("127.0.0.1:80", false, false),
            ("[::1]:80", false, false),
            ("[::ffff:127.0.0.1]:80", false, false),
            ("169.254.169.254:80", false, false),
            ("[fe80::1]:80", false, false),
            ("0.0.0.0:80", false, false),
        ] {
            let address = Address::Tcp(address.parse().unwrap());
            assert_eq!(is_allowed(&default.driver, &address), by_default, "{address:?}");
            assert_eq!(is_allowed(&named.driver, &address), by_name, "{address:?}");
        }
        assert!(!is_allowed(&default.driver, &Address::Unix("/run/containerd/containerd.sock".into())));
        let process = Config::parse("f", CONFIG, &|_| None).unwrap();
        assert!(is_allowed(&process.driver, &Address::Tcp(([127, 0, 0, 1], 80).into())));
    }

    #[tokio::test]
    async fn a_pod_that_claims_an_address_of_the_node_is_not_dialled() {
        let (lab, listener, address) = lab(PODS).await;
        let refused = dial(&lab, 1, Duration::ZERO).open(&address).await;
        assert!(matches!(refused, Err(DialError::NotAPod)), "{refused:?}");
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
    }

    #[tokio::test]
    async fn while_the_table_is_blind_a_dial_waits_so_long_and_no_longer() {
        let (lab, listener, address) = lab(CONFIG).await;
        assert!(dial(&lab, 1, Duration::ZERO).open(&address).await.is_ok());
        listener.accept().await.unwrap();
        lab.tell(Event::Sighted(Scope::default(), false));
        until(&lab, |table| !is_seen(table)).await;
        for patience in [Duration::ZERO, Duration::from_millis(20)] {
            let refused = dial(&lab, 1, patience).open(&address).await.unwrap_err();
            let refusal = refused.refusal();
            assert_eq!((refusal.code, refusal.retry_after), (Code::Unseen, Some(10)), "{refused}");
        }
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
        let waiting = dial(&lab, 1, Duration::from_secs(60));
        let (opened, ()) =
            tokio::join!(waiting.open(&address), async { lab.tell(Event::Sighted(Scope::default(), true)) });
        assert!(opened.is_ok(), "{opened:?}");
    }

    #[tokio::test]
    async fn after_a_halt_everybody_waits_until_the_table_is_current_again() {
        let (lab, _listener, address) = lab(CONFIG).await;
        let dial = dial(&lab, 1, Duration::ZERO);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!lab.edge.workspaces.is_current());
        let (opened, ()) = tokio::join!(dial.open(&address), async {
            until(&lab, |table| table.is_current()).await;
            tokio::time::resume();
        });
        assert!(opened.is_ok(), "{opened:?}");
    }

    #[tokio::test]
    async fn while_the_table_is_blind_an_instance_is_dialled_that_was_just_heard() {
        let (lab, listener, address) = lab(CONFIG).await;
        lab.tell(Event::Sighted(Scope::default(), false));
        until(&lab, |table| !is_seen(table)).await;
        let waiting = dial(&lab, 1, Duration::from_secs(60));
        let (opened, ()) = tokio::join!(waiting.open(&address), async {
            tokio::task::yield_now().await;
            speaks(&waiting.proof, now());
        });
        assert!(opened.is_ok(), "{opened:?}");
        listener.accept().await.unwrap();
        assert!(dial(&lab, 1, Duration::ZERO).open(&address).await.is_ok(), "it is known already");
        // Another instance's proof is not this one's.
        runs(&lab, 2, &address);
        until(&lab, |table| !is_at(table, 1)).await;
        assert!(matches!(waiting.open(&address).await, Err(DialError::Ended)));
        assert!(matches!(dial(&lab, 2, Duration::ZERO).open(&address).await, Err(DialError::Unseen)));
    }

    #[tokio::test]
    async fn what_was_dialled_blindly_bears_no_witness_until_an_older_connection_has() {
        let (lab, listener, address) = lab(CONFIG).await;
        let sure = dial(&lab, 1, Duration::ZERO).open(&address).await.unwrap();
        listener.accept().await.unwrap();
        // Times are told apart by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
        dial(&lab, 1, Duration::ZERO).sight.reaches(now());
        tokio::time::sleep(Duration::from_millis(2)).await;
        lab.tell(Event::Sighted(Scope::default(), false));
        until(&lab, |table| !is_seen(table)).await;
        let dial = dial(&lab, 1, Duration::ZERO);
        sure.witness.as_ref().unwrap().carried(now());
        assert!(dial.proof.holds(now()), "the kernel has heard of it when it was opened");
        let blind = dial.open(&address).await.unwrap();
        let (mut pod, _) = listener.accept().await.unwrap();
        pod.write_all(b"hello").await.unwrap();
        let Either::Left(stream) = &blind.stream else { panic!("it is TCP") };
        stream.readable().await.unwrap();
        let (later, opened) = (Duration::from_secs(5), now());
        blind.witness.as_ref().unwrap().carried(now() + later);
        assert!(!dial.proof.is_newer_than(opened), "it vouched for itself");
        speaks(&dial.proof, opened + later);
        blind.witness.unwrap().carried(opened + later * 2);
        assert!(dial.proof.is_newer_than(opened + later), "it was the pod's own all the time");
    }

    #[tokio::test]
    async fn what_was_dialled_by_a_table_that_was_not_surely_true_any_more_bears_no_witness() {
        let (lab, listener, address) = lab(CONFIG).await;
        let dial = dial(&lab, 1, Duration::ZERO);
        // It is believed, and nothing was heard of the cluster since.
        let opened = dial.open(&address).await.unwrap();
        let (mut pod, _) = listener.accept().await.unwrap();
        lab.tell(Event::Sighted(Scope::default(), false));
        until(&lab, |table| !is_seen(table)).await;
        pod.write_all(b"hello").await.unwrap();
        let Either::Left(stream) = &opened.stream else { panic!("it is TCP") };
        stream.readable().await.unwrap();
        opened.witness.unwrap().carried(now());
        assert!(!dial.proof.holds(now()), "it vouched for itself");
    }

    #[tokio::test]
    async fn an_instance_that_is_gone_when_the_table_sees_again_is_not_dialled() {
        let (lab, listener, address) = lab(CONFIG).await;
        lab.tell(Event::Sighted(Scope::default(), false));
        until(&lab, |table| !is_seen(table)).await;
        let waiting = dial(&lab, 1, Duration::from_secs(60));
        // As a list tells that comes after the silence: what there is now, and then that it is all.
        let list = async {
            runs(&lab, 2, &Address::Tcp(([127, 0, 0, 1], 1).into()));
            lab.tell(Event::Sighted(Scope::default(), true));
        };
        let (opened, ()) = tokio::join!(waiting.open(&address), list);
        assert!(matches!(opened, Err(DialError::Ended)), "{opened:?}");
        assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none(), "another's by now");
    }
}

//! Asks providers anew about those who are logged in: who was removed there is out here, and their sockets are cut.

use super::exchange::{Failure, Handed, Unheard};
use super::judge;
use crate::audit::{self, By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::keys::{Keys, Purpose};
use config::{RequestFacts, Subject};
use control::{Claim, Due, Identity, Kept, RecordError, Session, SessionRef};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

/// How often it is looked for whom to ask about.
const LOOK: Duration = Duration::from_secs(1);
/// How many questions are under way at a time, for all providers together.
const AT_ONCE: usize = 64;
/// How long one question may take, all its requests together.
const ASK: Duration = Duration::from_secs(20);
/// How long an answer is tried to be written down. With [`ASK`] it is less than `control` takes a question to be lost.
const WRITE: Duration = Duration::from_secs(15);
/// The first wait after a provider gave no answer, and the longest; each further one doubles.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));
/// How many wishes may wait; a session whose wish does not fit is asked about at the next look.
const WISHES: usize = 1024;
/// What a provider holds true if it does not say how long.
const LASTS: Duration = Duration::from_hours(1);
/// The longest token that is kept, in bytes.
const TOKEN: usize = 16 * 1024;

/// Whom to ask about, although nobody used their session: requests that wait for it.
#[derive(Debug, Clone)]
pub struct Wishes {
    sessions: mpsc::Sender<SessionRef>,
    /// Whether the records could be written when one was last asked about.
    writes: Arc<AtomicBool>,
}

impl Wishes {
    /// What requests hold, and what [`run`] reads.
    pub fn new() -> (Self, mpsc::Receiver<SessionRef>) {
        let (sessions, receiver) = mpsc::channel(WISHES);
        (Self { sessions, writes: Arc::new(AtomicBool::new(true)) }, receiver)
    }

    /// Asks about one as soon as may be.
    pub(crate) fn ask(&self, session: SessionRef) {
        // A full queue is emptied within a look, and whoever waits asks again with the next request.
        let _asked = self.sessions.try_send(session);
    }

    /// Whether what is asked can be written down, as far as is known: if not, nobody is to wait for it.
    pub(crate) fn can_be_met(&self) -> bool {
        self.writes.load(Relaxed)
    }
}

/// Asks about all whose time has come, until `ended`; then it waits for the answers that are on their way, which nobody
/// else could get again.
pub async fn run(edge: Arc<Edge>, mut wishes: mpsc::Receiver<SessionRef>, ended: CancellationToken) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = Asking::default();
    loop {
        let wished = tokio::select! {
            () = ended.cancelled() => break,
            Some(done) = asking.under_way.join_next() => {
                asking.take_back(done);
                continue;
            }
            Some(wish) = wishes.recv() => Some(wish),
            _ = look.tick() => None,
        };
        asking.begin(&edge, wished, Instant::now());
    }
    while asking.under_way.join_next().await.is_some() {}
}

/// What one question came to.
enum Outcome {
    /// It is settled.
    Done,
    /// The provider gave no answer: later again.
    Later,
}

/// The questions that are under way, and those that wait for their next try.
#[derive(Default)]
struct Asking {
    under_way: JoinSet<(SessionRef, Outcome)>,
    busy: HashSet<SessionRef>,
    /// After how many failures, and not before when.
    failed: HashMap<SessionRef, (u32, Instant)>,
}

impl Asking {
    fn begin(&mut self, edge: &Arc<Edge>, wished: Option<SessionRef>, now: Instant) {
        let due = match wished {
            Some(wish) => edge.sessions.due_if(wish, now).into_iter().collect(),
            None => edge.sessions.due(now),
        };
        if wished.is_none() {
            let due: HashSet<_> = due.iter().map(Due::session).collect();
            self.failed.retain(|session, _| due.contains(session));
        }
        for due in due {
            let session = due.session();
            let waits = self.failed.get(&session).is_some_and(|(_, until)| now < *until);
            if self.under_way.len() < AT_ONCE && !waits && self.busy.insert(session) {
                let edge = edge.clone();
                self.under_way.spawn(async move { (session, settle(&edge, due).await) });
            }
        }
    }

    fn take_back(&mut self, done: Result<(SessionRef, Outcome), tokio::task::JoinError>) {
        // A panic would leave its session marked as busy here; another Usher ends it as lost.
        let Ok((session, outcome)) = done else { return };
        self.busy.remove(&session);
        match outcome {
            Outcome::Done => drop(self.failed.remove(&session)),
            Outcome::Later => {
                let (failures, until) = self.failed.entry(session).or_insert((0, Instant::now()));
                *until = Instant::now() + AGAIN.0.saturating_mul(1 << (*failures).min(8)).min(AGAIN.1);
                *failures += 1;
            }
        }
    }
}

async fn settle(edge: &Edge, due: Due) -> Outcome {
    let (Due::Ask(session, reference) | Due::Lost(session, reference)) = due.clone();
    let settled = match due {
        Due::Ask(session, reference) => ask(edge, &session, reference).await,
        Due::Lost(session, reference) => {
            let why = "whoever asked the provider about it ended over it";
            end(edge, &session, reference, Reason::RefreshLost, why).await
        }
    };
    edge.refresh.writes.store(settled.is_ok(), Relaxed);
    settled.unwrap_or_else(|error| {
        tracing::warn!(%error, "a session could not be refreshed");
        in_vain(edge, Entry::failed(Event::SessionRefresh, Reason::Records), &session, reference);
        Outcome::Later
    })
}

async fn ask(edge: &Edge, session: &Session, reference: SessionRef) -> Result<Outcome, RecordError> {
    let Some(claim) = edge.sessions.claim(reference).await? else { return Ok(Outcome::Done) };
    let provider = session.provider().and_then(|name| edge.providers.get(name));
    let Some(provider) = provider else {
        let why = "its provider is not configured any more";
        return end(edge, session, reference, Reason::ProviderGone, why).await;
    };
    let Some(token) = open(&edge.keys, &claim) else {
        let why = "what the provider gave for it cannot be opened any more";
        return end(edge, session, reference, Reason::TokenUnreadable, why).await;
    };
    let handed = timeout(ASK, provider.refresh(&token, claim.session.subject.claims.clone())).await;
    let late = || Failure::Away(format!("it did not answer within {ASK:?}")).into();
    let handed = handed.unwrap_or_else(|_| Err(late()));
    let (handed, next) = match handed {
        Ok(handed) => (Ok(handed), None),
        Err(Unheard { failure, next }) => (Err(failure), next),
    };
    // One that does not know Usher gives no answer about anybody either.
    provider.answered(!matches!(handed, Err(Failure::Away(_) | Failure::Client(_))));
    match handed {
        Ok(handed) => renew(edge, session, reference, &claim, &token, handed).await,
        Err(Failure::Refused(said)) => {
            let why = format!("its provider says: {said}");
            end(edge, session, reference, Reason::ProviderRefused, &why).await
        }
        Err(failure) => {
            let next = next.and_then(|next| keep(&edge.keys, &claim.session.subject, &next, None));
            edge.sessions.give_back(&claim, next.map(|kept| kept.sealed)).await?;
            let name = &provider.told.name;
            tracing::warn!(login.provider = %name, error = %failure, "an identity provider was asked in vain");
            in_vain(edge, audit::of_failure(Event::SessionRefresh, &failure), session, reference);
            if session.is_stale_for(edge.config.load().sessions.outage_grace, Instant::now()) {
                let why = "its provider gave no answer for too long";
                return end(edge, session, reference, Reason::ProviderUnreachable, why).await;
            }
            Ok(Outcome::Later)
        }
    }
}

/// Writes down what a provider said, or ends the session by it.
async fn renew(
    edge: &Edge,
    session: &Session,
    reference: SessionRef,
    claim: &Claim,
    token: &str,
    handed: Handed,
) -> Result<Outcome, RecordError> {
    let Handed { mut subject, sid, refresh, lasts } = handed;
    if subject.subject != session.identity().subject {
        let why = "its provider answered about another account";
        return end(edge, session, reference, Reason::OtherAccount, why).await;
    }
    let judged = judge(&edge.config.load(), &mut subject, &facts(edge, session));
    let kept = keep(&edge.keys, &subject, refresh.as_deref().unwrap_or(token), lasts);
    let until = Instant::now() + WRITE;
    loop {
        let written = async {
            // What is true of them now holds for their tokens as well, also where it keeps them out.
            edge.users.remember(session.identity(), &subject).await?;
            match judged {
                Ok(()) => edge.sessions.renew(claim, subject.clone(), sid.clone(), kept.clone()).await,
                Err(_) => Ok(()),
            }
        };
        match written.await {
            Ok(()) => break,
            // The provider's next token is in here and nowhere else.
            Err(error) if Instant::now() < until => {
                tracing::warn!(%error, "what an identity provider said could not be written down yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    }
    if judged.is_err() {
        let why = "the rules do not let its user in any more";
        return end(edge, session, reference, Reason::NotAdmitted, why).await;
    }
    Ok(Outcome::Done)
}

async fn end(
    edge: &Edge,
    session: &Session,
    reference: SessionRef,
    reason: Reason,
    why: &str,
) -> Result<Outcome, RecordError> {
    let ending = edge.sessions.end_one(reference).await;
    edge.audit.ended(&ending, &Entry::done(Event::SessionEnded).because(reason).by(By::Usher));
    ending.result()?;
    tracing::info!(user.label = %session.label, session.reason = why, "a session was ended");
    Ok(Outcome::Done)
}

/// Tells that somebody could not be asked about.
fn in_vain(edge: &Edge, entry: Entry, session: &Session, reference: SessionRef) {
    edge.audit.record(entry.by(By::Usher).to_session(reference, session));
}

/// What the rules see of a request that nobody sends: the portal's, from the network of the login.
fn facts(edge: &Edge, session: &Session) -> RequestFacts {
    let network = session.device().network;
    RequestFacts {
        host: edge.config.load().portal.to_string(),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        address: network.split('/').next().unwrap_or_default().to_owned(),
    }
}

/// What is kept to ask a provider anew; none where its token is too long for that.
pub(crate) fn keep(keys: &Keys, subject: &Subject, token: &str, lasts: Option<Duration>) -> Option<Kept> {
    if token.len() > TOKEN {
        tracing::warn!(
            token.bytes = token.len(),
            "a refresh token is too long to be kept: its session is not refreshed"
        );
        return None;
    }
    let sealed = keys.seal(Purpose::Refresh, &whose(&subject.issuer, &subject.subject), token.as_bytes());
    Some(Kept { sealed, lasts: lasts.unwrap_or(LASTS), at: SystemTime::now() })
}

fn open(keys: &Keys, claim: &Claim) -> Option<String> {
    let Identity { issuer, subject } = &claim.session.identity;
    let sealed = claim.session.kept.as_ref()?.sealed.as_bytes();
    String::from_utf8(keys.open(Purpose::Refresh, &whose(issuer, subject), sealed).ok()?).ok()
}

/// What a token is sealed for: in another account's record it does not open.
fn whose(issuer: &str, subject: &str) -> String {
    format!("{issuer} {subject}")
}

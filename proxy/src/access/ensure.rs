//! Phase 6: a ready workspace, or what to tell the client until there is one.

use crate::access::authenticate::Caller;
use crate::access::authorise::{self, Permit};
use crate::access::{Forward, Verdict, limit};
use crate::connection::ConnectionFacts;
use crate::edge::Edge;
use crate::refusal::{Code, Refusal, seconds};
use crate::request::{Intent, Request, is_speculative};
use config::{Config, Template, TokenScope};
use control::{Cause, Entry, IdentityRef, Phase, Wake, WakeRefused};
use std::time::{Duration, Instant};

/// A workspace that is not ready, and how this client is told.
#[derive(Debug)]
pub struct Waiting {
    /// Who may use it.
    pub permit: Permit,
    /// How the client waits.
    pub how: How,
    /// Whether this request woke it: the table may still call it stopped for a moment.
    pub woken: bool,
    /// Whether nobody had asked for its start before this request did.
    pub asked_first: bool,
}

/// How a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It gets the waiting page at once.
    Page,
    /// It is held up to `spawn.hold_timeout`, then 503.
    Hold,
}

/// When a client should ask again whose workspace is on its way.
pub const ASK_AGAIN: Duration = Duration::from_secs(2);

/// When a client should ask again that found the queue of starts full, or too many of its own running.
const ASK_AGAIN_FULL: Duration = Duration::from_secs(15);

/// Forwards to a ready workspace; else wakes it if this request may, and tells how to wait.
///
/// # Errors
/// 404 for another owner's workspace, 403 from an address that its template shuts out. 424 for a browser's background request to a workspace that does not run,
/// 503 while it starts; 503 with the cause for a script while a failure's back-off lasts; 503 for a full queue,
/// 429 for too many workspaces of one user.
pub async fn upstream(
    edge: &Edge,
    config: &Config,
    permit: Permit,
    request: &Request<'_>,
) -> Result<Verdict, Refusal> {
    let entry = edge.workspaces.lookup(permit.id());
    may_reach(config, permit.caller(), entry.as_deref(), request.connection)?;
    let facts = Facts {
        stands: Stands::of(entry.as_deref(), edge.workspaces.synced(), Instant::now()),
        intent: request.intent,
        another_port: permit.port().is_some(),
    };
    match decide(facts) {
        Step::Forward => match entry.as_deref() {
            Some(Entry { phase: Phase::Ready(route), activity, .. }) => Ok(Verdict::Forward(Forward {
                port: permit.port(),
                patience: patience(config, request),
                counts: counts(&route.template, request),
                arrival: request.arrival(),
                route: route.towards(permit.caller().session.identity()),
                activity: activity.clone(),
                permit,
            })),
            // `decide` forwards to what is ready only, and an entry is never changed in place.
            _ => Err(Refusal::new(Code::Internal)),
        },
        Step::Wait(how) => Ok(Verdict::Wait(Waiting { permit, how, woken: false, asked_first: false })),
        Step::Wake(how) => {
            permit.caller().may(TokenScope::WorkspacesStart)?;
            if !request.again {
                limit::spawn(edge, config, permit.caller())?;
            }
            let wake = wake(config, entry.as_deref(), &permit, request)?;
            match edge.workspaces.wake(wake).await {
                Ok(asked_first) => Ok(Verdict::Wait(Waiting { permit, how, woken: true, asked_first })),
                // It failed while we asked: the page tells why, as if we had seen it before.
                Err(WakeRefused::BackingOff(_)) if how == How::Page => {
                    Ok(Verdict::Wait(Waiting { permit, how, woken: false, asked_first: false }))
                }
                Err(refused) => Err(not_woken(refused)),
            }
        }
        Step::Refuse(refusal) => Err(refusal),
    }
}

/// Who is no browser's page waits while the cluster is not seen; a page has six connections, and is told at once. A WebSocket
/// takes none of these.
fn patience(config: &Config, request: &Request<'_>) -> Duration {
    let waits = request.websocket || request.intent == Intent::Script;
    if waits { config.spawn.hold_timeout } else { Duration::ZERO }
}

fn wake(
    config: &Config,
    entry: Option<&Entry>,
    permit: &Permit,
    request: &Request<'_>,
) -> Result<Wake, Refusal> {
    let facts =
        authorise::facts(&request.host, request.head.method.as_str(), request.path, request.connection);
    let wake = permit.wake(config, entry, &facts, false)?;
    limit::template(config, &wake.template, request.connection.client.ip())?;
    Ok(wake)
}

/// Lets in whose it is, from where its template lets them.
///
/// # Errors
/// 404 for another owner's workspace; 403 for their own from an address that is shut out.
pub(crate) fn may_reach(
    config: &Config,
    caller: &Caller,
    entry: Option<&Entry>,
    connection: &ConnectionFacts,
) -> Result<(), Refusal> {
    if !is_theirs(caller, entry) {
        return Err(Refusal::new(Code::NotFound));
    }
    limit::entry(config, entry, connection.client.ip())
}

/// Whether what stands in the table is the caller's own: labels are never handed on, but what a driver found may
/// have been made by hand.
pub(crate) fn is_theirs(caller: &Caller, entry: Option<&Entry>) -> bool {
    entry.is_none_or(|entry| is_of(caller.session.identity(), entry))
}

/// The same by identity. What a route leads to is nobody's own: whoever may enter asks for it, and gets it only from
/// what is surely the route's.
pub(crate) fn is_of(identity: IdentityRef<'_>, entry: &Entry) -> bool {
    match entry.id.route() {
        Some(route) => entry.owner.is_of_route(route),
        None => entry.owner.as_ref() == identity,
    }
}

/// What somebody is told who would stop what many share.
pub fn not_ones_own() -> Refusal {
    Refusal::with(
        Code::NotAllowed,
        "many share it: it stops when nobody uses it, or when an operator stops it",
    )
}

/// What a client is told when its wake did nothing.
pub fn not_woken(refused: WakeRefused) -> Refusal {
    let later =
        |code, detail| Refusal { retry_after: Some(seconds(ASK_AGAIN_FULL)), ..Refusal::with(code, detail) };
    match refused {
        WakeRefused::QueueFull { .. } => {
            Refusal { retry_after: Some(seconds(ASK_AGAIN_FULL)), ..Refusal::new(Code::QueueFull) }
        }
        WakeRefused::TooMany { running, limit } => later(
            Code::TooMany,
            format!(
                "{running} of your workspaces are running, and at most {limit} may: stop one of them first"
            ),
        ),
        WakeRefused::OverQuota(over) => later(Code::OverQuota, over.to_string()),
        WakeRefused::BackingOff(cause) => later(Code::WorkspaceFailed, cause.detail),
        WakeRefused::NoTemplate(name) => Refusal::with(
            Code::WorkspaceFailed,
            format!("its template {name} is not in the configuration any more; your files are kept"),
        ),
        WakeRefused::ShuttingDown => {
            Refusal { retry_after: Some(seconds(ASK_AGAIN)), ..Refusal::new(Code::Unavailable) }
        }
    }
}

/// Whether a request is use: neither the application's own polling nor a browser's guess at what comes next.
fn counts(template: &Template, request: &Request<'_>) -> bool {
    let method = request.head.method.as_str();
    !is_speculative(&request.head.headers)
        && !template.idle.background.iter().any(|polling| polling.matches(method, request.path))
}

/// All that the decision looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    stands: Stands,
    intent: Intent,
    another_port: bool,
}

/// Where a workspace stands, as far as the decision tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stands {
    Ready,
    Coming,
    /// Stopped, or failed and its back-off is over.
    Down,
    Stopping,
    /// The driver has not told all yet, so what the table lacks may be running.
    Unsure,
    BackingOff {
        cause: Cause,
        left: Duration,
    },
}

impl Stands {
    fn of(entry: Option<&Entry>, synced: bool, now: Instant) -> Self {
        match entry.map(|entry| &entry.phase) {
            Some(Phase::Ready(_)) => Self::Ready,
            Some(Phase::Queued { .. } | Phase::Starting { .. }) => Self::Coming,
            Some(Phase::Stopping { .. }) => Self::Stopping,
            Some(Phase::Failed { cause, retry_at }) if now < *retry_at => {
                Self::BackingOff { cause: cause.clone(), left: *retry_at - now }
            }
            None | Some(Phase::Stopped | Phase::Failed { .. }) if synced => Self::Down,
            None | Some(Phase::Stopped | Phase::Failed { .. }) => Self::Unsure,
        }
    }
}

/// What is done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Forward,
    Wake(How),
    Wait(How),
    Refuse(Refusal),
}

/// A tab or a script wakes what is down; a page that may not be in a tab, and another port, only look on; a
/// background request is never held and never wakes: applications retry for ever.
fn decide(Facts { stands, intent, another_port }: Facts) -> Step {
    let may_wake = !another_port && matches!(intent, Intent::Navigation | Intent::Script);
    let how = if intent == Intent::Script { How::Hold } else { How::Page };
    match (stands, intent) {
        (Stands::Ready, _) => Step::Forward,
        (Stands::Coming | Stands::Unsure, Intent::Background) => {
            Step::Refuse(Refusal { retry_after: Some(seconds(ASK_AGAIN)), ..Refusal::new(Code::Starting) })
        }
        (_, Intent::Background) => Step::Refuse(Refusal::new(Code::WorkspaceStopped)),
        (Stands::BackingOff { cause, left }, Intent::Script) => Step::Refuse(Refusal {
            retry_after: Some(seconds(left)),
            ..Refusal::with(Code::WorkspaceFailed, cause.detail)
        }),
        (Stands::Coming | Stands::BackingOff { .. }, _) => Step::Wait(how),
        (Stands::Down | Stands::Stopping | Stands::Unsure, _) if may_wake => Step::Wake(how),
        (Stands::Down | Stands::Stopping, Intent::Script) => {
            Step::Refuse(Refusal::new(Code::WorkspaceStopped))
        }
        (Stands::Down | Stands::Stopping | Stands::Unsure, _) => Step::Wait(how),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::CauseCode;

    const NAVIGATION: Intent = Intent::Navigation;

    fn cause() -> Cause {
        Cause { code: CauseCode::Crashed, detail: "it ended with code 1".into(), hint: "look".into() }
    }

    fn refused(code: Code, retry_after: Option<u32>) -> Step {
        Step::Refuse(Refusal { retry_after, ..Refusal::new(code) })
    }

    #[test]
    fn each_client_is_told_by_where_the_workspace_stands() {
        use How::{Hold, Page};
        let backing_off = || Stands::BackingOff { cause: cause(), left: Duration::from_millis(4100) };
        let failed = Step::Refuse(Refusal {
            retry_after: Some(5),
            ..Refusal::with(Code::WorkspaceFailed, "it ended with code 1")
        });
        let stopped = || refused(Code::WorkspaceStopped, None);
        let starting = || refused(Code::Starting, Some(2));
        let table = [
            (Stands::Ready, [Step::Forward, Step::Forward, Step::Forward, Step::Forward]),
            (Stands::Down, [Step::Wake(Page), Step::Wait(Page), Step::Wake(Hold), stopped()]),
            (Stands::Coming, [Step::Wait(Page), Step::Wait(Page), Step::Wait(Hold), starting()]),
            (Stands::Stopping, [Step::Wake(Page), Step::Wait(Page), Step::Wake(Hold), stopped()]),
            (Stands::Unsure, [Step::Wake(Page), Step::Wait(Page), Step::Wake(Hold), starting()]),
            (backing_off(), [Step::Wait(Page), Step::Wait(Page), failed, stopped()]),
        ];
        for (stands, steps) in table {
            let intents = [NAVIGATION, Intent::Page, Intent::Script, Intent::Background];
            for (intent, step) in intents.into_iter().zip(steps) {
                let facts = Facts { stands: stands.clone(), intent, another_port: false };
                assert_eq!(decide(facts), step, "{stands:?} {intent:?}");
            }
        }
    }

    #[test]
    fn another_port_is_reached_when_ready_and_never_wakes() {
        for stands in [Stands::Down, Stands::Coming, Stands::Stopping, Stands::Unsure] {
            for intent in [NAVIGATION, Intent::Page, Intent::Script, Intent::Background] {
                let step = decide(Facts { stands: stands.clone(), intent, another_port: true });
                assert!(!matches!(step, Step::Wake(_) | Step::Forward), "{stands:?} {intent:?} {step:?}");
            }
        }
        let ready = Facts { stands: Stands::Ready, intent: Intent::Background, another_port: true };
        assert_eq!(decide(ready), Step::Forward);
    }

    #[test]
    fn what_the_table_lacks_is_stopped_only_once_the_driver_has_told_all() {
        let now = Instant::now();
        assert_eq!(Stands::of(None, true, now), Stands::Down);
        assert_eq!(Stands::of(None, false, now), Stands::Unsure);
    }

    #[test]
    fn a_wake_that_did_nothing_says_why_and_when_to_ask_again() {
        let refusal = not_woken(WakeRefused::QueueFull { limit: 3 });
        assert_eq!((refusal.code, refusal.retry_after), (Code::QueueFull, Some(15)));
        let refusal = not_woken(WakeRefused::TooMany { running: 2, limit: 2 });
        assert_eq!((refusal.code, refusal.retry_after), (Code::TooMany, Some(15)));
        assert!(refusal.detail.contains("at most 2"), "{}", refusal.detail);
        let refusal = not_woken(WakeRefused::BackingOff(cause()));
        assert_eq!((refusal.code, refusal.detail.as_str()), (Code::WorkspaceFailed, "it ended with code 1"));
        assert_eq!(not_woken(WakeRefused::NoTemplate("gpu".into())).code, Code::WorkspaceFailed);
        assert_eq!(not_woken(WakeRefused::ShuttingDown).code, Code::Unavailable);
    }
}

//! Where a workspace stands, as `/.usher/status` and `/.usher/events` tell it and the waiting page shows it.

use config::WorkspaceId;
use control::{CauseCode, CauseWords, Entry, Phase, WhyAlive};
use jiff::Timestamp;
use serde::Serialize;
use std::time::{Duration, Instant};

/// One moment on both clocks: ages are monotonic, times for people are not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: Timestamp,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    fn age(self, then: Instant) -> Duration {
        self.instant.saturating_duration_since(then)
    }

    fn past(self, age: Duration) -> Timestamp {
        self.wall.checked_sub(age).unwrap_or(Timestamp::MIN)
    }

    fn ahead(self, left: Duration) -> Timestamp {
        self.wall.checked_add(left).unwrap_or(Timestamp::MAX)
    }
}

/// The document. Its field names are stable; what does not apply is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) workspace: String,
    /// `stopped`, `queued`, `starting`, `ready`, `stopping`, `failed`.
    pub(super) phase: &'static str,
    /// The place in the queue, from 1; only while queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<usize>,
    /// Since when it is in this phase (RFC 3339), and how many seconds ago that was: clocks differ, ages do not.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "whole_seconds")]
    pub(super) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    /// Why it is not running, or what hinders its start or its end; when ready, why nobody can be let in just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Cause>,
    /// Why Usher stopped it; only while stopping or stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<Stopped>,
    /// Only when ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why_alive: Option<Alive>,
    /// The last lines of its output, without control sequences; only while starting and when failed, and of no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
}

/// Why it failed, or what hinders its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cause {
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) hint: String,
    /// Set if nothing hinders it: it is only why it starts again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) notice: bool,
}

/// Why it was stopped: `idle`, `max_age`, `asked`, `by_hand` or `deleted`, and one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Stopped {
    pub(super) code: &'static str,
    pub(super) detail: &'static str,
}

/// Why it is not stopped, and when it will be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Alive {
    pub(super) reason: &'static str,
    #[serde(serialize_with = "whole_second")]
    pub(super) since: Timestamp,
    pub(super) since_s: u64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "whole_seconds")]
    pub(super) stops_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stops_in_s: Option<u64>,
    pub(super) warn: bool,
    pub(super) can_extend: bool,
}

impl Status {
    /// The document of a workspace; one that was never started is stopped. `log` is raw output.
    pub(super) fn of(id: &WorkspaceId, entry: Option<&Entry>, log: Option<&str>, now: Now) -> Self {
        let phase = entry.map(|entry| &entry.phase);
        let age = entry.map(|entry| now.age(entry.since));
        Self {
            workspace: id.to_string(),
            phase: phase.unwrap_or(&Phase::Stopped).as_str(),
            position: match phase {
                Some(Phase::Queued { position }) => Some(*position),
                _ => None,
            },
            since: age.map(|age| now.past(age)),
            since_s: age.map(|age| age.as_secs()),
            template: entry.map(|entry| entry.template.to_string()),
            cause: match phase {
                Some(
                    Phase::Failed { cause, .. }
                    | Phase::Starting { trouble: Some(cause), .. }
                    | Phase::Stopping { trouble: Some(cause) },
                ) => Some(Cause {
                    code: cause.code.as_str(),
                    detail: cause.detail.clone(),
                    hint: cause.hint.clone(),
                    notice: matches!(phase, Some(Phase::Starting { .. })) && cause.code.is_interruption(),
                }),
                _ => None,
            },
            stopped: entry
                .and_then(|entry| entry.stopped)
                .map(|reason| Stopped { code: reason.as_str(), detail: reason.sentence() }),
            why_alive: entry.and_then(|entry| entry.why_alive(now.instant)).map(|why| Alive::of(&why, now)),
            log: log.filter(|_| phase.is_some_and(|phase| shows_log(id, phase))).map(plain),
        }
    }

    /// The same, with what it means that the table is blind: what runs is let alone, and cannot be reached anew.
    pub(super) fn seen(self, sighted: bool) -> Self {
        if sighted || self.phase != "ready" {
            return self;
        }
        let CauseWords { name: code, detail, hint } = CauseCode::ClusterUnreachable.words();
        let cause = Cause { code, detail: detail.to_owned(), hint: hint.to_owned(), notice: false };
        Self { cause: Some(cause), ..self }
    }

    /// Whether it can be opened now.
    pub(super) fn opens(&self) -> bool {
        self.phase == "ready" && self.cause.is_none()
    }

    /// Whether this tells something that the other did not: passing time alone is no news.
    pub(super) fn is_news_after(&self, other: &Self) -> bool {
        let told = |status: &Self| {
            (status.phase, status.position, status.cause.clone(), status.log.clone(), status.template.clone())
        };
        told(self) != told(other)
    }

    /// Whether nothing more comes of what is under way: the one who waits can act.
    pub(super) fn is_final(&self) -> bool {
        self.opens() || self.phase == "failed"
    }
}

impl Alive {
    fn of(why: &WhyAlive, now: Now) -> Self {
        let left = why.stops_at.map(|at| at.saturating_duration_since(now.instant));
        Self {
            reason: why.reason,
            since: now.past(now.age(why.since)),
            since_s: now.age(why.since).as_secs(),
            stops_at: left.map(|left| now.ahead(left)),
            stops_in_s: left.map(|left| left.as_secs()),
            warn: why.warn,
            can_extend: why.can_extend,
        }
    }
}

/// Whether the tail of the output helps somebody who waits. A route's is shown to nobody: it is about all who use it.
pub(super) fn shows_log(id: &WorkspaceId, phase: &Phase) -> bool {
    id.route().is_none() && matches!(phase, Phase::Starting { .. } | Phase::Failed { .. })
}

fn whole_second<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

fn whole_seconds<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => whole_second(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Output as text: without what only a terminal understands (ECMA-48 sequences), carriage returns as lines.
fn plain(output: &str) -> String {
    let mut text = String::with_capacity(output.len());
    let mut characters = output.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => text.push('\n'),
            '\n' | '\t' => text.push(character),
            control if control.is_control() => {}
            other => text.push(other),
        }
    }
    text
}

/// Takes the rest of an escape sequence: `ESC [ … letter`, `ESC ] … BEL or ST`, or one more character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            let _ = characters.find(|character| ('\u{40}'..='\u{7e}').contains(character));
        }
        Some(']') => {
            while let Some(character) = characters.next() {
                match character {
                    '\u{7}' => return,
                    '\u{1b}' => {
                        characters.next_if_eq(&'\\');
                        return;
                    }
                    // A sequence that nobody ended does not swallow the next line.
                    _ if characters.peek() == Some(&'\n') => return,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use control::{Activity, CauseCode, Identity};
    use serde_json::json;
    use std::sync::Arc;

    pub(in super::super) fn entry(phase: Phase, since: Instant) -> Entry {
        Entry {
            id: WorkspaceId::parse("alice").unwrap(),
            owner: Identity { issuer: "i".into(), subject: "s".into() },
            template: config::TemplateName::parse("demo").unwrap(),
            phase,
            seen: true,
            since,
            activity: Arc::new(Activity::default()),
            terms: None,
            withheld: None,
            stopped: None,
        }
    }

    pub(in super::super) fn failed(retry_at: Instant) -> Phase {
        let cause = control::Cause {
            code: CauseCode::Crashed,
            detail: "It ended with <code> 1.".into(),
            hint: "Look at its output.".into(),
        };
        Phase::Failed { cause, retry_at }
    }

    fn now() -> Now {
        Now {
            instant: Instant::now() + Duration::from_secs(3600),
            wall: "2026-11-21T12:00:00.7Z".parse().unwrap(),
        }
    }

    fn ago(now: Now, seconds: u64) -> Instant {
        now.instant - Duration::from_secs(seconds)
    }

    fn document(entry: Option<&Entry>, log: Option<&str>, now: Now) -> serde_json::Value {
        serde_json::to_value(Status::of(&WorkspaceId::parse("alice").unwrap(), entry, log, now)).unwrap()
    }

    #[test]
    fn each_phase_tells_what_applies_and_nothing_else() {
        let now = now();
        assert_eq!(document(None, None, now), json!({"workspace": "alice", "phase": "stopped"}));
        let base = |phase: &str| json!({"workspace": "alice", "phase": phase, "template": "demo", "since": "2026-11-21T11:59:50Z", "since_s": 10});
        let since = ago(now, 10);
        for phase in [Phase::Stopped, Phase::stopping()] {
            let name = phase.as_str();
            assert_eq!(document(Some(&entry(phase, since)), Some("noise"), now), base(name));
        }
        let mut wanted = base("queued");
        wanted["position"] = json!(3);
        assert_eq!(document(Some(&entry(Phase::Queued { position: 3 }, since)), Some("noise"), now), wanted);
        let mut wanted = base("starting");
        wanted["log"] = json!("line");
        assert_eq!(
            document(Some(&entry(Phase::starting(control::Step::Asked), since)), Some("line"), now),
            wanted
        );
        let mut wanted = base("failed");
        wanted["log"] = json!("line");
        wanted["cause"] =
            json!({"code": "crashed", "detail": "It ended with <code> 1.", "hint": "Look at its output."});
        assert_eq!(document(Some(&entry(failed(since), since)), Some("line"), now), wanted);
    }

    #[test]
    fn why_alive_carries_times_and_what_is_left() {
        let now = now();
        let why = WhyAlive {
            reason: "request",
            since: ago(now, 60),
            stops_at: Some(now.instant + Duration::from_secs(240)),
            warn: true,
            can_extend: true,
        };
        let wanted = json!({
            "reason": "request", "since": "2026-11-21T11:59:00Z", "since_s": 60,
            "stops_at": "2026-11-21T12:04:00Z", "stops_in_s": 240, "warn": true, "can_extend": true,
        });
        assert_eq!(serde_json::to_value(Alive::of(&why, now)).unwrap(), wanted);
        let overdue = WhyAlive { stops_at: Some(ago(now, 5)), ..why.clone() };
        assert_eq!(Alive::of(&overdue, now).stops_in_s, Some(0));
        let never = WhyAlive { stops_at: None, reason: "never", ..why };
        let told = serde_json::to_value(Alive::of(&never, now)).unwrap();
        assert!(told.get("stops_at").is_none() && told.get("stops_in_s").is_none(), "{told}");
    }

    #[test]
    fn passing_time_is_no_news_and_a_line_of_output_is() {
        let id = WorkspaceId::parse("alice").unwrap();
        let first = now();
        let later = Now { instant: first.instant + Duration::from_secs(5), ..first };
        let starting = entry(Phase::starting(control::Step::Asked), ago(first, 10));
        let before = Status::of(&id, Some(&starting), Some("a"), first);
        assert!(!Status::of(&id, Some(&starting), Some("a"), later).is_news_after(&before));
        assert!(Status::of(&id, Some(&starting), Some("a\nb"), later).is_news_after(&before));
        let queued =
            |position| Status::of(&id, Some(&entry(Phase::Queued { position }, ago(first, 1))), None, first);
        assert!(queued(1).is_news_after(&queued(2)));
    }

    #[test]
    fn output_is_shown_without_what_only_a_terminal_understands() {
        for (output, text) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1b}[32m[I 12:00]\u{1b}[0m ready", "[I 12:00] ready"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never ended\nnext", "\nnext"),
            ("10 %\r20 %\r\ndone", "10 %\n20 %\ndone"),
            ("bell\u{7}\u{0}\u{9b}", "bell"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
        ] {
            assert_eq!(plain(output), text, "{output:?}");
        }
    }

    #[test]
    fn what_is_ready_and_not_seen_cannot_be_opened_and_says_why() {
        let id = WorkspaceId::parse("alice").unwrap();
        let of = |phase| Status::of(&id, Some(&entry(phase, Instant::now())), None, Now::read());
        let config = config::Config::parse("f", crate::lab::CONFIG, &|_| None).unwrap();
        let route = control::Route {
            generation: control::Generation("1".into()),
            address: control::Address::Unix("s".into()),
            template: config.templates.into_values().next().unwrap(),
            ended: tokio_util::sync::CancellationToken::new(),
            proof: Arc::default(),
            sight: Default::default(),
            parts: Arc::default(),
        };
        let ready = || of(Phase::Ready(route.clone()));
        assert!(ready().seen(true).opens() && ready().seen(true).is_final());
        let unseen = ready().seen(false);
        assert!(!unseen.opens() && !unseen.is_final() && unseen.is_news_after(&ready()));
        assert_eq!((unseen.phase, unseen.cause.unwrap().code), ("ready", "cluster_unreachable"));
        assert_eq!(of(Phase::Stopped).seen(false).cause, None);
    }
}

use super::*;
use crate::testing::{idle, secs, terms};

/// A judgement in seconds since the start: reason, since, stops_at, warn, can_extend.
type Verdict = (&'static str, u64, Option<u64>, bool, bool);

struct Case {
    name: &'static str,
    at: u64,
    seen: fn(&dyn Fn(u64) -> Option<Instant>) -> Use,
    rules: fn(&mut Idle),
    terms: fn(&mut Terms, &dyn Fn(u64) -> Option<Instant>),
    verdict: Verdict,
}

impl Case {
    const PLAIN: Self = Self {
        name: "nothing happened since it was ready",
        at: 100,
        seen: |_| Use::default(),
        rules: |_| {},
        terms: |_, _| {},
        verdict: ("started", 0, Some(600), false, true),
    };
}

fn judge(case: &Case) -> Verdict {
    let start = Instant::now();
    let at = |seconds: u64| Some(start + secs(seconds));
    let (mut rules, mut terms) = (idle(), terms(start));
    (case.rules)(&mut rules);
    (case.terms)(&mut terms, &at);
    let why = why_alive(&(case.seen)(&at), &rules, &terms, start + secs(case.at));
    let since = |time: Instant| time.saturating_duration_since(start).as_secs();
    (why.reason, since(why.since), why.stops_at.map(since), why.warn, why.can_extend)
}

fn check(cases: &[Case]) {
    for case in cases {
        assert_eq!(judge(case), case.verdict, "{}", case.name);
    }
}

#[test]
fn only_what_people_do_counts_as_use() {
    check(&[
        Case::PLAIN,
        Case {
            name: "a request counts",
            seen: |at| Use { request: at(50), ..Use::default() },
            verdict: ("request", 50, Some(650), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "a frame of the client counts, and the newest use gives the word",
            seen: |at| Use { request: at(50), client_frame: at(60), ..Use::default() },
            verdict: ("client_frame", 60, Some(660), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "an open silent socket, an open response and frames of the workspace do not",
            seen: |at| Use {
                workspace_frame: at(90),
                socket: at(80),
                response: at(80),
                open_sockets: 3,
                open_responses: 1,
                ..Use::default()
            },
            ..Case::PLAIN
        },
        Case {
            name: "a use that is marked while it is judged is not in the future",
            seen: |at| Use { request: at(101), ..Use::default() },
            verdict: ("request", 100, Some(700), false, true),
            ..Case::PLAIN
        },
    ]);
}

#[test]
fn a_template_may_let_sockets_responses_and_workspace_frames_count() {
    check(&[
        Case {
            name: "an open socket is used now",
            seen: |at| Use { socket: at(10), open_sockets: 1, ..Use::default() },
            rules: |rules| rules.count_open_sockets = true,
            verdict: ("open_socket", 100, Some(700), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "a closed one was used until it closed",
            seen: |at| Use { socket: at(70), ..Use::default() },
            rules: |rules| rules.count_open_sockets = true,
            verdict: ("open_socket", 70, Some(670), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "an open response is used now",
            seen: |at| Use { response: at(10), open_responses: 1, ..Use::default() },
            rules: |rules| rules.count_open_responses = true,
            verdict: ("open_response", 100, Some(700), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "a frame of the workspace",
            seen: |at| Use { workspace_frame: at(90), ..Use::default() },
            rules: |rules| rules.count_workspace_frames = true,
            verdict: ("workspace_frame", 90, Some(690), false, true),
            ..Case::PLAIN
        },
    ]);
}

#[test]
fn a_download_delays_a_stop_and_is_no_use() {
    check(&[
        Case {
            name: "while idleness is far away it does not matter",
            seen: |at| Use { bytes_taken: at(99), ..Use::default() },
            ..Case::PLAIN
        },
        Case {
            name: "then it puts the stop off by a minute at a time",
            at: 650,
            seen: |at| Use { bytes_taken: at(649), ..Use::default() },
            verdict: ("download", 0, Some(709), true, true),
            ..Case::PLAIN
        },
        Case {
            name: "a minute after its last byte it does so no more",
            at: 700,
            seen: |at| Use { bytes_taken: at(530), ..Use::default() },
            verdict: ("started", 0, Some(600), true, true),
            ..Case::PLAIN
        },
    ]);
}

#[test]
fn a_stop_is_put_off_by_hand_but_never_beyond_the_greatest_age() {
    check(&[
        Case {
            name: "extended",
            terms: |terms, at| terms.extended_until = at(900),
            verdict: ("extended", 0, Some(900), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "kept, for longer than extended",
            terms: |terms, at| (terms.extended_until, terms.kept_until) = (at(900), at(5000)),
            verdict: ("kept", 0, Some(5000), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "a use later than that has the word again",
            at: 950,
            seen: |at| Use { request: at(940), ..Use::default() },
            terms: |terms, at| terms.extended_until = at(900),
            verdict: ("request", 940, Some(1540), false, true),
            ..Case::PLAIN
        },
        Case {
            name: "the greatest age ends what is kept and used, and cannot be moved",
            at: 950,
            seen: |at| Use { request: at(940), ..Use::default() },
            rules: |rules| rules.max_age = Some(secs(1000)),
            terms: |terms, at| terms.kept_until = at(5000),
            verdict: ("kept", 940, Some(1000), true, false),
        },
        Case {
            name: "a computation counts",
            terms: |terms, at| terms.busy = at(95),
            verdict: ("busy", 95, Some(695), false, true),
            ..Case::PLAIN
        },
    ]);
}

#[test]
fn who_is_never_idle_has_no_end_but_the_greatest_age() {
    check(&[
        Case {
            name: "never",
            rules: |rules| rules.idle_after = None,
            verdict: ("never", 0, None, false, false),
            ..Case::PLAIN
        },
        Case {
            name: "never, and a greatest age",
            rules: |rules| (rules.idle_after, rules.max_age) = (None, Some(secs(1000))),
            verdict: ("never", 0, Some(1000), false, false),
            ..Case::PLAIN
        },
    ]);
}

#[test]
fn the_notice_comes_warn_before_the_stop() {
    for (at, warn) in [(539, false), (540, true), (600, true), (700, true)] {
        assert_eq!(judge(&Case { at, ..Case::PLAIN }).3, warn, "at {at}");
    }
}

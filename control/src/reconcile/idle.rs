//! The truth about use: when a ready workspace was last used, by what, and when it stops.

use crate::activity::Use;
use crate::{Terms, WhyAlive};
use config::Idle;
use std::time::{Duration, Instant};

/// How long after the client last took bytes of a response a stop waits: a download that goes on is not cut,
/// and one that stalls for longer than the edge's own write timeout is over anyway.
const DOWNLOAD: Duration = Duration::from_secs(60);

/// Becoming ready, where nothing was used since.
pub(crate) const STARTED: &str = "started";

/// Every word that [`Terms::last`] may be restored with from a record.
const WORDS: [&str; 7] =
    [STARTED, "request", "client_frame", "workspace_frame", "open_socket", "open_response", "busy"];

/// The word that was recorded; one that this version does not know becomes [`STARTED`].
pub(crate) fn word(text: &str) -> &'static str {
    WORDS.into_iter().find(|word| *word == text).unwrap_or(STARTED)
}

/// The newest thing that counts as use under these rules, and its word.
///
/// Something that is open and counts is used now. Times after `now` (marked while this was computed) are `now`.
pub(crate) fn last_use(seen: &Use, idle: &Idle, terms: &Terms, now: Instant) -> (Instant, &'static str) {
    let open = |count: u32, last: Option<Instant>| if count > 0 { Some(now) } else { last };
    let socket = open(seen.open_sockets, seen.socket).filter(|_| idle.count_open_sockets);
    let response = open(seen.open_responses, seen.response).filter(|_| idle.count_open_responses);
    // Of two at the same time the later in this list gives its word: what a person did before what is only open.
    let uses = [
        (response, "open_response"),
        (socket, "open_socket"),
        (seen.workspace_frame.filter(|_| idle.count_workspace_frames), "workspace_frame"),
        (terms.busy, "busy"),
        (seen.request, "request"),
        (seen.client_frame, "client_frame"),
    ];
    let known = terms.elsewhere.last.filter(|last| last.0 > terms.last.0).unwrap_or(terms.last);
    uses.into_iter()
        .filter_map(|(at, word)| Some((at?.min(now), word)))
        .fold(known, |newest, one| if one.0 >= newest.0 { one } else { newest })
}

/// Why a ready workspace is not stopped, and when it will be.
pub(crate) fn why_alive(seen: &Use, idle: &Idle, terms: &Terms, now: Instant) -> WhyAlive {
    let limit = idle.max_age.map(|age| terms.started + age);
    let (reason, since, by_idleness) = idle_stop(seen, idle, terms, now);
    let stops_at = match (by_idleness, limit) {
        (Some(idle), Some(limit)) => Some(idle.min(limit)),
        (idle, limit) => idle.or(limit),
    };
    WhyAlive {
        reason,
        since,
        stops_at,
        warn: stops_at.is_some_and(|at| at.saturating_duration_since(now) <= idle.warn_before),
        can_extend: by_idleness.is_some_and(|at| limit.is_none_or(|limit| at < limit)),
    }
}

/// When a ready workspace is stopped by idleness alone; `None` = never.
pub(crate) fn stops_at(seen: &Use, idle: &Idle, terms: &Terms, now: Instant) -> Option<Instant> {
    idle_stop(seen, idle, terms, now).2
}

/// The stop by idleness alone: what puts it off the furthest, since when, and until when.
fn idle_stop(
    seen: &Use,
    idle: &Idle,
    terms: &Terms,
    now: Instant,
) -> (&'static str, Instant, Option<Instant>) {
    let (used, word) = last_use(seen, idle, terms, now);
    let Some(idle_after) = idle.idle_after else { return ("never", used, None) };
    let downloading = seen.bytes_taken.map(|taken| taken.min(now) + DOWNLOAD);
    let floors = [
        (terms.extended_until.max(terms.elsewhere.extended_until), "extended"),
        (terms.kept_until.max(terms.elsewhere.kept_until), "kept"),
        (downloading, "download"),
    ];
    let (stops_at, reason) = floors
        .into_iter()
        .filter_map(|(until, word)| Some((until?, word)))
        .fold((used + idle_after, word), |last, floor| if floor.0 > last.0 { floor } else { last });
    (reason, used, Some(stops_at))
}

/// The time until which a ready workspace is kept when somebody asks for `time` more from now.
pub(crate) fn no_later_than_max_age(time: Duration, idle: &Idle, terms: &Terms, now: Instant) -> Instant {
    let limit = idle.max_age.map(|age| terms.started + age);
    limit.map_or(now + time, |limit| limit.min(now + time))
}

#[cfg(test)]
mod tests;

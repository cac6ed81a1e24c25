//! A request whose head never was a whole one: it gets an answer of ours and leaves an event like every other.

use super::ConnectionFacts;
use crate::answer;
use crate::exchange::new_id;
use crate::log::RequestEvent;
use crate::metrics::PlaceLabel;
use crate::refusal::{self, Code, Reader, Refusal};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// The answer, as it goes over the wire, and the event. What kind of client it is cannot be known: it gets a
/// problem document. `waited`: how long for the rest of the head.
pub(super) fn refuse(
    code: Code,
    facts: &ConnectionFacts,
    waited: Duration,
) -> (Vec<u8>, RequestEvent<'static>) {
    let id = new_id();
    let (head, body) = answer::last(refusal::answer(&Refusal::new(code), &Reader::program(&id)), facts);
    let wire = [answer::to_wire(&head), body.to_vec()].concat();
    let now = Instant::now();
    let event = RequestEvent {
        id,
        started: now.checked_sub(waited).unwrap_or(now),
        client: facts.client.ip(),
        method: Cow::default(),
        host: Cow::default(),
        path: Cow::default(),
        place: PlaceLabel::None,
        workspace: None,
        status: Some(head.status),
        refusal: Some(code),
        fault: None,
        bytes_sent: body.len() as u64,
        tunnel_end: None,
    };
    (wire, event)
}

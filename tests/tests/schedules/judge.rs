//! What was used and what the cluster did, and whether anything was stopped that was in use.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is unused for so long is stopped.
pub const IDLE_AFTER: Duration = Duration::from_secs(6);
/// Ages are told in whole seconds, and seen a moment later.
const ROUNDING: Duration = Duration::from_secs(2);
/// How long a replica that is not hindered needs to take a mark back.
const SLACK: Duration = Duration::from_secs(5);

/// Somebody used a workspace by way of a replica, in this life of it.
#[derive(Debug, Clone)]
pub struct Use {
    pub workspace: String,
    pub replica: usize,
    pub life: usize,
    pub at: Instant,
}

/// A workspace's object as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub workspace: String,
    pub at: Instant,
    pub runs: bool,
    pub marked: bool,
    pub stopped: Option<String>,
}

/// Why a replica could not do its part: from, to.
#[derive(Debug, Clone)]
pub struct Hindered {
    pub replica: usize,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Debug, Default)]
struct Book {
    uses: Vec<Use>,
    seen: Vec<Seen>,
    hindered: Vec<Hindered>,
}

/// All of it, for whoever writes and reads.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Book>>);

impl Log {
    pub fn used(&self, used: Use) {
        self.0.lock().unwrap().uses.push(used);
    }

    pub fn seen(&self, seen: Seen) {
        self.0.lock().unwrap().seen.push(seen);
    }

    pub fn hindered(&self, replica: usize, time: Duration) {
        let from = Instant::now();
        self.0.lock().unwrap().hindered.push(Hindered { replica, from, to: from + time + SLACK });
    }

    /// How many uses there were, and stops of what was unused.
    pub fn counts(&self) -> (usize, usize) {
        let book = self.0.lock().unwrap();
        (book.uses.len(), stops(&book).count())
    }

    /// Panics if something was stopped as unused of whose use one knew that lived and was free to say so.
    ///
    /// `lives` = how often each replica has begun.
    pub fn nothing_in_use_was_stopped(&self, lives: &[usize]) {
        let book = self.0.lock().unwrap();
        for (stopped, marked) in stops(&book) {
            let counts = |used: &&Use| {
                let mut hindered = book.hindered.iter().filter(|hindered| hindered.replica == used.replica);
                let free = hindered.all(|hindered| hindered.to < used.at || hindered.from > stopped.at);
                used.workspace == stopped.workspace
                    && used.at < stopped.at
                    && used.life == lives[used.replica]
                    && free
            };
            let wrong = book.uses.iter().filter(counts).find(|used| {
                let before_the_mark = used.at < marked && marked - used.at + ROUNDING < IDLE_AFTER;
                before_the_mark || (used.at >= marked && stopped.at - used.at > SLACK)
            });
            if let Some(used) = wrong {
                panic!("{stopped:?} was in use: {used:?}, marked {:?} before the stop", stopped.at - marked);
            }
        }
    }
}

/// The stops of what was unused, each with when its mark was seen.
fn stops(book: &Book) -> impl Iterator<Item = (&Seen, Instant)> {
    book.seen.iter().enumerate().filter_map(|(number, seen)| {
        let mut before = book.seen[..number].iter().rev().filter(|other| other.workspace == seen.workspace);
        let last = before.next()?;
        let unused = last.runs && !seen.runs && seen.stopped.as_deref() == Some("idle");
        let mut marks = std::iter::once(last).chain(before).take_while(|seen| seen.marked);
        let marked = marks.by_ref().last().map_or(seen.at, |first| first.at);
        unused.then_some((seen, marked))
    })
}

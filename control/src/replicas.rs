//! Which other Ushers there are, by what they write down of use.

use crate::peers::{DEAF, GONE};
use crate::records::Change;
use crate::usage::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The other Ushers: those that have written, did not say that it was their last, and were not silent for as long as it
/// takes to be given up. Their records stay for longer: others may not have read them.
#[derive(Debug)]
pub struct Replicas {
    own: String,
    own_heard: Option<Instant>,
    /// When each was heard last.
    heard: BTreeMap<String, Instant>,
}

impl Replicas {
    /// As the Usher of this name sees them.
    pub fn new(own: &str) -> Self {
        Self { own: own.to_owned(), own_heard: None, heard: BTreeMap::new() }
    }

    /// Takes in what became of a record of [`Kind::Use`](crate::Kind::Use), and tells the names of all that there are.
    ///
    /// Silence is judged when the own record is heard, which shows that the others' would be.
    pub fn hear(&mut self, change: &Change, now: Instant) -> BTreeSet<String> {
        match change {
            Change::Put(record) if record.name == self.own => {
                let before = self.own_heard.replace(now);
                if before.is_some_and(|before| now - before < DEAF) {
                    self.heard.retain(|_, heard| now - *heard < GONE);
                }
            }
            Change::Put(record) if Document::read(record).last => drop(self.heard.remove(&record.name)),
            Change::Put(record) => drop(self.heard.insert(record.name.clone(), now)),
            Change::Deleted(name) => drop(self.heard.remove(name)),
        }
        self.heard.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, Version};
    use std::time::Duration;

    fn put(name: &str, last: bool) -> Change {
        let mut document = Document::default();
        document.last = last;
        let value = document.to_json();
        Change::Put(Record { name: name.to_owned(), version: Version(1), value })
    }

    #[test]
    fn who_has_ended_or_is_silent_for_five_minutes_is_there_no_more_and_the_deaf_do_not_judge() {
        let begun = Instant::now();
        let told = |news: &[(u64, Change)]| {
            let mut replicas = Replicas::new("own");
            let told =
                news.iter().map(|(at, change)| replicas.hear(change, begun + Duration::from_secs(*at)));
            told.last().map(|names| names.into_iter().collect::<Vec<_>>().join(" ")).unwrap_or_default()
        };
        let (own, a, b) = (|| put("own", false), || put("a", false), || put("b", false));
        let minutes = |from: u64, to: u64| (from..=to).map(move |minute| (minute * 60, put("own", false)));
        let silent =
            |news: Vec<(u64, Change)>, to| told(&news.into_iter().chain(minutes(1, to)).collect::<Vec<_>>());
        assert_eq!(told(&[(0, own()), (0, a()), (0, b())]), "a b");
        assert_eq!(told(&[(0, a()), (0, b()), (1, put("b", true))]), "a");
        assert_eq!(told(&[(0, a()), (0, b()), (1, Change::Deleted("a".to_owned()))]), "b");
        assert_eq!(silent(vec![(0, own()), (0, a())], 4), "a");
        assert_eq!(silent(vec![(0, own()), (0, a())], 5), "");
        assert_eq!(told(&[(0, own()), (0, a()), (600, own())]), "a", "nobody was heard for ten minutes");
        assert_eq!(told(&[(0, own()), (0, a()), (600, own()), (660, own()), (661, a())]), "a");
    }
}

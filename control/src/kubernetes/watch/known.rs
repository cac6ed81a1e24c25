//! What a watch has told of the objects: enough to tell changes only. Pure.

use super::{Seen, Trouble};
use crate::kubernetes::Object;
use kube::core::WatchEvent;
use std::collections::{HashMap, VecDeque};

/// How many objects one watch may hold: an endless list must end somewhere. Twenty times the records that were
/// measured, and the events of more workspaces than a namespace holds.
const OBJECTS: usize = 200_000;

/// The annotation of the bookmark that ends a streaming list.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// Versions by name, and where a watch can be taken up.
#[derive(Debug, Default)]
pub(super) struct Known {
    objects: HashMap<Box<str>, Held>,
    /// The last `resourceVersion` up to which everything was told; `None` while that is not so.
    position: Option<u64>,
    /// Counts lists: what the last whole one did not name is gone.
    list: u32,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    version: u64,
    list: u32,
}

impl Known {
    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// The next watch is to begin with a list.
    pub(super) fn forget_position(&mut self) {
        self.position = None;
    }

    /// A list begins; all that is known stays known until it is whole.
    pub(super) fn begin_list(&mut self) {
        self.position = None;
        self.list = self.list.wrapping_add(1);
    }

    /// Takes in an event; `true` when it made a list whole.
    pub(super) fn event<K: Object>(
        &mut self,
        event: WatchEvent<K>,
        news: &mut VecDeque<Seen<K>>,
    ) -> Result<bool, Trouble> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let seen = if self.position.is_none() { Seen::Listed } else { Seen::Put };
                if self.advances(&object)? {
                    self.put(object, seen, news)?;
                }
            }
            WatchEvent::Deleted(object) => {
                if self.advances(&object)? {
                    self.delete(&object, news)?;
                }
            }
            WatchEvent::Bookmark(bookmark) => {
                let at = number(Some(&bookmark.metadata.resource_version))?;
                if bookmark.metadata.annotations.get(END_OF_LIST).is_some_and(|end| end == "true") {
                    let listing = self.position.is_none();
                    self.complete(at, news);
                    return Ok(listing);
                }
                self.position = self.position.map(|position| position.max(at));
            }
            WatchEvent::Error(status) if status.code == 410 => return Err(Trouble::Expired),
            WatchEvent::Error(status) => return Err(Trouble::Told(status.message)),
        }
        Ok(false)
    }

    /// Takes in an object of a page of a list.
    pub(super) fn listed<K: Object>(
        &mut self,
        object: K,
        news: &mut VecDeque<Seen<K>>,
    ) -> Result<(), Trouble> {
        self.put(object, Seen::Listed, news)
    }

    fn put<K: Object>(
        &mut self,
        object: K,
        seen: fn(K) -> Seen<K>,
        news: &mut VecDeque<Seen<K>>,
    ) -> Result<(), Trouble> {
        let (name, version) = identified(&object)?;
        let held = Held { version, list: self.list };
        let full = self.objects.len() >= OBJECTS;
        match self.objects.get_mut(name) {
            Some(known) if known.version == version => known.list = self.list,
            // Within one list a lower version is an older one. From list to list it need not be: a restored
            // store counts from an earlier number.
            Some(known) if known.list == self.list && known.version > version => {}
            Some(known) => {
                *known = held;
                news.push_back(seen(object));
            }
            None if full => return Err(Trouble::TooMany(OBJECTS)),
            None => {
                self.objects.insert(name.into(), held);
                news.push_back(seen(object));
            }
        }
        Ok(())
    }

    /// The list that began last is whole: what it did not name was deleted.
    pub(super) fn complete<K>(&mut self, at: u64, news: &mut VecDeque<Seen<K>>) {
        let gone = self.objects.extract_if(|_, held| held.list != self.list);
        news.extend(gone.map(|(name, _)| Seen::Deleted(name.into())));
        self.position = Some(at);
    }

    fn delete<K: Object>(&mut self, object: &K, news: &mut VecDeque<Seen<K>>) -> Result<(), Trouble> {
        let (name, version) = identified(object)?;
        let standing = self.objects.get(name).is_some_and(|known| {
            // Before a list is whole, an object may have been listed newer than this.
            known.list != self.list || known.version <= version
        });
        if standing {
            self.objects.remove(name);
            news.push_back(Seen::Deleted(name.to_owned()));
        }
        Ok(())
    }

    /// Whether an event is news. Events come in the order of their versions, so one that is not beyond the
    /// position is told again or late; during a list there is no order yet.
    fn advances<K: Object>(&mut self, object: &K) -> Result<bool, Trouble> {
        let (_, version) = identified(object)?;
        match &mut self.position {
            Some(position) if version <= *position => Ok(false),
            Some(position) => {
                *position = version;
                Ok(true)
            }
            None => Ok(true),
        }
    }
}

/// `resourceVersion` as the number that it is: Kubernetes 1.35 promises it, and the stores before it kept to it.
pub(super) fn number(version: Option<&str>) -> Result<u64, Trouble> {
    let version = version.unwrap_or_default();
    version.parse().map_err(|_| Trouble::Unreadable(format!("the resourceVersion {version:?} is no number")))
}

fn identified<K: Object>(object: &K) -> Result<(&str, u64), Trouble> {
    let meta = object.meta();
    let name =
        meta.name.as_deref().ok_or_else(|| Trouble::Unreadable("an object without a name".to_owned()))?;
    Ok((name, number(meta.resource_version.as_deref())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;
    use serde_json::{Value, json};

    /// A word of a story: `+a5` = ADDED a at 5, `~a6`, `-a7`, `|8` = the end of a list, `.9` = a bookmark, `[` = a list begins.
    fn told(known: &mut Known, story: &str) -> Vec<String> {
        let mut news = VecDeque::new();
        for word in story.split(' ') {
            let (kind, rest) = word.split_at(1);
            let event = match kind {
                "[" => {
                    known.begin_list();
                    continue;
                }
                "|" => json!({"type": "BOOKMARK", "object": bookmark(rest, json!({END_OF_LIST: "true"}))}),
                "." => json!({"type": "BOOKMARK", "object": bookmark(rest, json!({}))}),
                _ => {
                    json!({"type": kind_of(kind), "object": {"metadata": {"name": rest[..1], "resourceVersion": rest[1..]}}})
                }
            };
            let event: WatchEvent<ConfigMap> = serde_json::from_value(event).unwrap();
            if known.event(event, &mut news).unwrap() {
                news.push_back(Seen::Synced);
            }
        }
        news.into_iter().map(word).collect()
    }

    fn kind_of(sign: &str) -> &'static str {
        match sign {
            "+" => "ADDED",
            "~" => "MODIFIED",
            _ => "DELETED",
        }
    }

    fn bookmark(version: &str, annotations: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": version, "annotations": annotations}})
    }

    fn word(seen: Seen<ConfigMap>) -> String {
        match seen {
            Seen::Put(object) | Seen::Listed(object) => {
                format!("{}{}", object.metadata.name.unwrap(), object.metadata.resource_version.unwrap())
            }
            Seen::Deleted(name) => format!("-{name}"),
            Seen::Synced => "synced".to_owned(),
            Seen::Blind => "blind".to_owned(),
        }
    }

    #[test]
    fn the_consumer_gets_changes_only() {
        for (what, story, expected) in [
            ("a list", "[ +a1 +b2 |3", "a1 b2 synced"),
            ("events", "[ |3 +a4 ~a5 -a6", "synced a4 a5 -a"),
            ("what is told twice", "[ +a1 |3 ~a4 ~a4 +a4", "a1 synced a4"),
            ("what is told late", "[ +a1 |3 ~a5 ~a4 -a2", "a1 synced a5"),
            ("a dead object does not come back", "[ +a1 |3 -a5 ~a4", "a1 synced -a"),
            ("unless it is made again", "[ +a1 |3 -a5 +a6", "a1 synced -a a6"),
            ("the deletion of the unknown", "[ |3 -a5", "synced"),
            ("a bookmark moves the position", "[ +a1 |3 .9 ~a8 ~a10", "a1 synced a10"),
            ("a list anew, all the same", "[ +a1 +b2 |3 [ +a1 +b2 |9", "a1 b2 synced synced"),
            ("a list anew, one changed", "[ +a1 +b2 |3 [ +a7 +b2 |9", "a1 b2 synced a7 synced"),
            ("a list anew, one gone", "[ +a1 +b2 |3 [ +b2 |9", "a1 b2 synced -a synced"),
            ("a list anew, one made again", "[ +a1 |3 [ +a7 |9 ~a8", "a1 synced a7 synced"),
            ("a list anew of a restored store", "[ +a7 |9 [ +a5 |6 ~a7", "a7 synced a5 synced a7"),
            ("a list that broke leaves all known", "[ +a1 +b2 |3 [ +a1 [ +a1 +b2 |9", "a1 b2 synced synced"),
            ("an event within a list", "[ +a1 +b2 ~a4 -b5 |6", "a1 b2 a4 -b synced"),
            ("an older event within a list", "[ +a4 ~a3 -a2 |6", "a4 synced"),
            ("deleted within a list anew", "[ +a4 |5 [ -a6 |7", "a4 synced -a synced"),
        ] {
            assert_eq!(told(&mut Known::default(), story).join(" "), expected, "{what}: {story}");
        }
    }

    #[test]
    fn the_position_is_known_between_lists_only() {
        let mut known = Known::default();
        told(&mut known, "[ +a1");
        assert_eq!(known.position(), None);
        told(&mut known, "|3");
        assert_eq!(known.position(), Some(3));
        told(&mut known, "~a5 .7 .6");
        assert_eq!(known.position(), Some(7));
        told(&mut known, "[");
        assert_eq!(known.position(), None);
    }

    #[test]
    fn an_error_of_the_server_ends_the_stream() {
        let mut known = Known::default();
        told(&mut known, "[ +a1 |3");
        let error =
            |code| WatchEvent::<ConfigMap>::Error(Status::failure("old", "Expired").with_code(code).boxed());
        let news = &mut VecDeque::new();
        assert!(matches!(known.event(error(410), news), Err(Trouble::Expired)));
        assert!(matches!(known.event(error(500), news), Err(Trouble::Told(_))));
        assert!(news.is_empty());
    }

    #[test]
    fn what_has_no_name_or_no_number_is_no_object() {
        for meta in [
            json!({"resourceVersion": "1"}),
            json!({"name": "a"}),
            json!({"name": "a", "resourceVersion": "x"}),
        ] {
            let object: ConfigMap = serde_json::from_value(json!({"metadata": meta})).unwrap();
            let put = Known::default().listed(object, &mut VecDeque::new());
            assert!(matches!(put, Err(Trouble::Unreadable(_))), "{meta}");
        }
    }
}

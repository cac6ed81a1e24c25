//! Which versions of a document were taken in, by the two ways in which the store tells of one.

use crate::store::Version;

/// What is known of one document.
///
/// A task that is done tells what the store has now, and the store's own changes come later, one after the other, with
/// older versions first: those are passed over. A store that was set back (a cluster restored from a backup) tells of
/// older versions, too, but of none that leads to the one that is known: what it tells then is the truth.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The last that the store told of itself.
    told: Version,
    /// The one that was looked up, if that is newer; else zero.
    looked_up: Version,
}

impl Known {
    /// The store tells of it; whether it is to be taken in.
    pub(super) fn told(&mut self, version: Version) -> bool {
        let is_on_its_way = self.told < version && version < self.looked_up;
        self.told = version;
        if !is_on_its_way {
            self.looked_up = Version::default();
        }
        !is_on_its_way
    }

    /// It was looked up; whether it is to be taken in. The store may have told of a later one since, such as a wish that was
    /// written down meanwhile.
    pub(super) fn looked_up(&mut self, version: Version) -> bool {
        let is_news = version > self.told;
        if is_news {
            self.looked_up = version;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_up_before_the_store_told_of_something_later_is_of_the_past() {
        let mut known = Known::default();
        assert!(known.looked_up(Version(3)));
        assert!(!known.told(Version(2)) && known.told(Version(3)) && known.told(Version(4)));
        assert!(!known.looked_up(Version(3)) && !known.looked_up(Version(4)));
        assert!(known.told(Version(5)) && known.looked_up(Version(7)) && !known.told(Version(6)));
    }

    #[test]
    fn the_store_may_be_late_but_what_it_says_after_it_was_set_back_is_true() {
        for (what, told, looked_up, then) in [
            ("nothing is known", &[][..], 0, &[(5, true)][..]),
            ("in order", &[3, 4], 0, &[(5, true)]),
            ("told again of all", &[4], 0, &[(4, true)]),
            ("late", &[3], 6, &[(4, false), (5, false), (6, true), (7, true)]),
            ("late, and then told of what is newer only", &[3], 6, &[(7, true)]),
            ("set back", &[30], 60, &[(20, true), (21, true)]),
            ("late, and then set back", &[30], 60, &[(40, false), (20, true), (21, true)]),
            ("set back before it was looked up", &[60], 20, &[(21, true)]),
        ] {
            let mut known = Known::default();
            for version in told {
                known.told(Version(*version));
            }
            known.looked_up(Version(looked_up));
            for (version, expected) in then {
                assert_eq!(known.told(Version(*version)), *expected, "{what}: {version}");
            }
        }
    }
}

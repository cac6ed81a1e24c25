//! Where each key stands in the file, for findings that another package makes.

use crate::Finding;
use std::collections::BTreeMap;
use std::fmt;

/// The path of a key: `templates.jupyter.pod.containers[0].image`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Index(usize),
}

/// A finding about a key of a configuration that has been read: where it stands, the configuration knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFinding {
    /// The key; where it is not in the file, the finding stands at the nearest one above it that is.
    pub key: KeyPath,
    /// What is wrong, without values that may be secret.
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
    /// Whether the key's name is at fault, not its value.
    pub of_name: bool,
}

/// Where the keys of a file stand.
#[derive(Debug, Default)]
pub(crate) struct Places {
    file: String,
    keys: BTreeMap<KeyPath, Place>,
}

/// Line and column of a key's name and of its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Of the name; of an item of a list, of the item.
    pub(crate) name: (usize, usize),
    /// Of the value.
    pub(crate) value: (usize, usize),
}

impl KeyPath {
    /// The key of this name below it.
    #[must_use]
    pub fn key(&self, name: impl Into<String>) -> Self {
        self.with(Step::Key(name.into()))
    }

    /// The item of this index, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// It and all above it, itself first.
    fn upwards(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len()).rev().map(|length| Self(self.0[..length].to_vec()))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(name) if at == 0 => f.write_str(&written(name))?,
                Step::Key(name) => write!(f, ".{}", written(name))?,
            }
        }
        Ok(())
    }
}

/// A key as it is shown: quoted and cut if it is not a bare one.
pub(crate) fn written(key: &str) -> String {
    let is_bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { key.to_owned() } else { format!("{:?}", key.chars().take(40).collect::<String>()) }
}

impl Places {
    /// Of the keys of a file.
    pub(crate) fn new(file: String, keys: BTreeMap<KeyPath, Place>) -> Self {
        Self { file, keys }
    }

    /// The place of the value of a key as it is shown, `file:line:column`; of the file, where it has no such key.
    pub(crate) fn of(&self, key: &str) -> String {
        let known = self.keys.iter().find(|(path, _)| path.to_string() == key);
        let place = known.map(|(_, place)| format!(":{}:{}", place.value.0, place.value.1));
        format!("{}{}", self.file, place.unwrap_or_default())
    }

    /// The finding with its place.
    pub(crate) fn locate(&self, finding: KeyFinding) -> Finding {
        let KeyFinding { key, problem, accepted, of_name } = finding;
        let exact = self.keys.get(&key).map(|place| if of_name { place.name } else { place.value });
        let above = || key.upwards().find_map(|above| self.keys.get(&above)).map(|place| place.name);
        let (line, column) = exact.or_else(above).unwrap_or((1, 1));
        Finding { file: self.file.clone(), line, column, key: key.to_string(), problem, accepted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_stands_at_its_key_or_at_the_nearest_above() {
        let root = KeyPath::default().key("templates").key("a b");
        let place = |line| Place { name: (line, 1), value: (line, 9) };
        let keys = [(root.clone(), place(2)), (root.key("list").index(1), place(5))];
        let places = Places::new("f".to_owned(), keys.into_iter().collect());
        let told = |key: KeyPath, of_name| {
            let finding = KeyFinding { key, problem: "p".into(), accepted: String::new(), of_name };
            places.locate(finding).to_string()
        };
        assert_eq!(told(root.key("list").index(1), false), r#"f:5:9: templates."a b".list[1]: p"#);
        assert_eq!(told(root.key("list").index(1), true), r#"f:5:1: templates."a b".list[1]: p"#);
        assert_eq!(told(root.key("list").index(0), false), r#"f:2:1: templates."a b".list[0]: p"#);
        assert_eq!(told(KeyPath::default().key("x"), false), "f:1:1: x: p");
        assert_eq!(places.of(r#"templates."a b".list[1]"#), "f:5:9");
        assert_eq!(places.of("x"), "f");
    }
}

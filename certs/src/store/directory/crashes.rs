//! A process is killed while it writes, and what the next one finds is what was acknowledged, whole.
//!
//! `USHER_KILLS` sets how often within a write; `USHER_SEED` repeats a run.

use super::*;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "USHER_STORE";
const SEED: &str = "USHER_SEED";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test]
async fn a_kill_at_any_moment_leaves_every_document_whole_and_nothing_acknowledged_is_lost() {
    kills(std::env::var("USHER_KILLS").map_or(30, |text| text.parse().expect("USHER_KILLS is a number")))
        .await;
}

#[tokio::test]
#[ignore = "takes half a minute and more"]
async fn a_thousand_kills() {
    kills(1000).await;
}

async fn kills(count: u32) {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("USHER_SEED is a number"),
        Err(_) => RandomState::new().hash_one(std::process::id()),
    };
    eprintln!("seed {seed}; USHER_SEED={seed} repeats this run");
    let mut random = fastrand::Rng::with_seed(seed);
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("store");
    let mut known = Known::default();
    let mut kills = 0;
    while known.within < count {
        known.hear(&killed(&folder, &mut random));
        known.look(&folder, kills).await;
        kills += 1;
        // Else they fall between the writes, and little is tried.
        assert!(kills <= count * 10, "of {kills} kills {} were within a write", known.within);
    }
    println!("{count} of {kills} kills were within a write");
}

/// Runs the victim until some of its writes are done, and kills it within the next, at a moment that chance says. What
/// it told.
fn killed(folder: &Path, random: &mut fastrand::Rng) -> Vec<String> {
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "--nocapture", "store::directory::crashes::victim"])
        .envs([(FOLDER, folder.as_os_str()), (SEED, random.u64(..).to_string().as_ref())])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can run again");
    let mut lines = BufReader::new(victim.stdout.take().expect("it is piped")).lines();
    let mut told = Vec::new();
    let mut writes = random.usize(2..10);
    let mut began = Instant::now();
    let mut lasts = Duration::ZERO;
    while writes > 0 || lasts.is_zero() {
        let line: String = lines.next().expect("it writes until it is killed").expect("UTF-8");
        if line.starts_with("try") {
            began = Instant::now();
        } else if line.starts_with("did") {
            lasts = began.elapsed();
            writes = writes.saturating_sub(1);
        }
        told.push(line);
    }
    told.push(lines.next().expect("it writes until it is killed").expect("UTF-8"));
    // Not to wait for anything: the kill shall hit any part of a write.
    std::thread::sleep(lasts.mul_f64(random.f64()));
    victim.kill().expect("it is a child");
    assert_eq!(victim.wait().expect("it is a child").signal(), Some(9));
    told.extend(lines.map(|line| line.expect("UTF-8")));
    told
}

/// What must be in the folder.
#[derive(Default)]
struct Known {
    /// What was acknowledged, by name: version and number.
    documents: BTreeMap<String, (u64, u64)>,
    /// What was asked for and not acknowledged: a name, and the number that it would have; none = deleted.
    asked: Option<(String, Option<u64>)>,
    last: u64,
    /// How many kills left a write that was not acknowledged.
    within: u32,
}

impl Known {
    /// `try NAME NUMBER` or `try NAME gone`, then `did VERSION` or `did gone`.
    fn hear(&mut self, told: &[String]) {
        for line in told {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["try", name, number] => self.asked = Some((name.to_owned(), number.parse().ok())),
                ["did", version] => {
                    let (name, number) = self.asked.take().expect("it was asked for");
                    if let Some(number) = number {
                        self.is_newer(version.parse().expect("a version"));
                        self.documents.insert(name, (self.last, number));
                    } else {
                        self.documents.remove(&name);
                    }
                }
                // What the frame of the test says.
                _ => {}
            }
        }
    }

    fn is_newer(&mut self, version: u64) {
        assert!(version > self.last, "version {version} after {}", self.last);
        self.last = version;
    }

    /// Opens the folder as the next process does; from then on what it finds is what is known.
    async fn look(&mut self, folder: &Path, kill: u32) {
        let store = DirectoryStore::open(folder).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        self.within += u32::from(self.asked.is_some());
        let mut found = BTreeMap::new();
        for document in store.list().await.expect("it can be read") {
            let number =
                number(&document.value).unwrap_or_else(|| panic!("kill {kill}: {document:?} is not whole"));
            found.insert(document.name, (document.version.0, number));
        }
        if found != self.documents {
            let (name, number) = self.asked.take().expect("what was acknowledged is there");
            let new = found.get(&name).copied();
            assert_eq!(new.map(|(_, number)| number), number, "kill {kill}: {name}");
            match new {
                Some(new) => {
                    self.is_newer(new.0);
                    self.documents.insert(name, new);
                }
                None => drop(self.documents.remove(&name)),
            }
            assert_eq!(found, self.documents, "kill {kill}");
        }
        self.asked = None;
        let files = std::fs::read_dir(folder).expect("it is a folder");
        let names = files.map(|file| file.expect("readable").file_name().into_string().expect("UTF-8"));
        let strange: Vec<_> = names.filter(|name| name != ".versions" && !name.ends_with(".json")).collect();
        assert_eq!(strange, [""; 0], "kill {kill}");
    }
}

/// A value of this number: it says which it is, and its length and every byte follow from it.
fn value(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let piece: Vec<u8> = (0..random.usize(1..4000)).map(|_| random.alphanumeric() as u8).collect();
    let value = piece.repeat(random.usize(1..100));
    format!("{number} ").into_bytes().into_iter().chain(value).collect()
}

/// The number of a value that is whole.
fn number(found: &[u8]) -> Option<u64> {
    let number = str::from_utf8(found).ok()?.split_once(' ')?.0.parse().ok()?;
    (value(number) == found).then_some(number)
}

/// Makes, replaces and deletes documents, and tells of each before and after, until it is killed.
#[tokio::test]
#[ignore = "the process that is killed; the test above runs it"]
async fn victim() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("only run by the test above"));
    let seed = std::env::var(SEED).expect("only run by the test above").parse().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let store = DirectoryStore::open(&folder).unwrap();
    let tell = |line: String| io::stdout().write_all(line.as_bytes()).expect("the test listens");
    tell("\n".to_owned());
    loop {
        let name = *random.choice(NAMES.iter()).expect("there are some");
        let there = store.get(name).await.unwrap().map(|document| document.version);
        if there.is_some() && random.u8(..4) == 0 {
            tell(format!("try {name} gone\n"));
            store.delete(name).await.unwrap();
            tell("did gone\n".to_owned());
            continue;
        }
        let number = random.u64(..);
        let value = value(number);
        tell(format!("try {name} {number}\n"));
        let version = match there {
            Some(version) => store.replace(name, version, value).await.unwrap(),
            None => store.create(name, value).await.unwrap(),
        };
        tell(format!("did {}\n", version.0));
    }
}

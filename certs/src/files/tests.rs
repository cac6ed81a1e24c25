use super::*;
use crate::broken::{Pki, cases, now, wanted};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use tempfile::TempDir;

/// A folder with a pair of files.
struct Place {
    folder: TempDir,
    pair: FilePair,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = FilePair::new(folder.path().join("chain.pem"), folder.path().join("key.pem"));
        Self { folder, pair }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, chain: &[u8], key: &[u8]) {
        fs::write(self.path("chain.pem"), chain).expect("it can be written");
        fs::write(self.path("key.pem"), key).expect("it can be written");
    }

    /// What two looks say: the second one is sure.
    fn told(&mut self) -> Result<Certificate, FileError> {
        let now = Instant::now();
        match (self.pair.look(now), self.pair.look(now)) {
            (Look::Changed(told @ Ok(_)), Look::Unchanged)
            | (Look::Unchanged, Look::Changed(told @ Err(_))) => told,
            other => panic!("{other:?}"),
        }
    }

    fn is_quiet(&mut self) {
        for _ in 0..3 {
            let look = self.pair.look(Instant::now());
            assert!(matches!(look, Look::Unchanged), "{look:?}");
        }
    }
}

fn texts(pki: &Pki) -> (Vec<u8>, Vec<u8>) {
    let pair = pki.good();
    (pki.chain(&pair).into_bytes(), pair.key.serialize_pem().into_bytes())
}

#[test]
fn of_all_kinds_of_broken_files_each_is_called_what_it_is_and_can_be_mended() {
    let good = texts(&Pki::new());
    for case in cases() {
        let mut place = Place::new();
        place.write(&case.chain, &case.key);
        let told = match place.told() {
            Ok(certificate) => certificate.check(&wanted(), now()),
            Err(FileError::Unfit { certificate, private_key, source }) => {
                assert_eq!((certificate, private_key), (place.path("chain.pem"), place.path("key.pem")));
                Err(source)
            }
            Err(other) => panic!("{}: {other}", case.name),
        };
        assert_eq!(told, case.expected, "{}", case.name);
        place.is_quiet();
        place.write(&good.0, &good.1);
        assert!(place.told().is_ok(), "{}", case.name);
        place.is_quiet();
    }
}

#[test]
fn what_is_no_file_is_called_what_it_is_and_never_waited_for() {
    let good = texts(&Pki::new());
    let not_a_file = |path: &Path, kind| FileError::NotAFile { path: path.to_owned(), kind };
    for name in ["chain.pem", "key.pem"] {
        for what in ["missing", "folder", "pipe", "socket", "device", "dangling", "loop"] {
            let mut place = Place::new();
            place.write(&good.0, &good.1);
            let path = place.path(name);
            fs::remove_file(&path).unwrap();
            let mut socket = None;
            let expected = match what {
                "folder" => fs::create_dir(&path).map(|()| not_a_file(&path, "folder")).unwrap(),
                "pipe" => {
                    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
                    not_a_file(&path, "pipe")
                }
                "socket" => {
                    socket = Some(std::os::unix::net::UnixListener::bind(&path).unwrap());
                    not_a_file(&path, "socket")
                }
                "device" => symlink("/dev/zero", &path).map(|()| not_a_file(&path, "device")).unwrap(),
                "dangling" => {
                    symlink("/nowhere", &path).map(|()| FileError::Missing { path: path.clone() }).unwrap()
                }
                "loop" => {
                    symlink(&path, &path).unwrap();
                    let reason = io::Error::from(rustix::io::Errno::LOOP).to_string();
                    FileError::Unreadable { path: path.clone(), reason }
                }
                _ => FileError::Missing { path: path.clone() },
            };
            assert_eq!(place.told().unwrap_err(), expected, "{what}");
            place.is_quiet();
            drop(socket);
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_told_and_read_as_soon_as_it_may() {
    let good = texts(&Pki::new());
    let mut place = Place::new();
    place.write(&good.0, &good.1);
    fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(place.path("key.pem")).is_ok() {
        return without_roots_rights("a_file_that_may_not_be_read_is_told_and_read_as_soon_as_it_may");
    }
    let expected = FileError::Unreadable {
        path: place.path("key.pem"),
        reason: io::Error::from(rustix::io::Errno::ACCESS).to_string(),
    };
    assert_eq!(place.told().unwrap_err(), expected);
    place.is_quiet();
    fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(place.told().is_ok());
}

/// Runs a test of this file in a process that, though root's, may read only what it is allowed to.
fn without_roots_rights(test: &str) {
    let rerun = "USHER_WITHOUT_RIGHTS";
    assert!(std::env::var_os(rerun).is_none(), "the right to read everything was taken away");
    let run = Command::new("setpriv")
        .args(["--bounding-set", "-dac_override,-dac_read_search"])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", &format!("files::tests::{test}")])
        .env(rerun, "1")
        .output()
        .expect("util-linux is installed");
    let told = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn a_key_that_everybody_may_read_is_used_and_told_of() {
    let good = texts(&Pki::new());
    for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        let mut place = Place::new();
        place.write(&good.0, &good.1);
        fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(place.told().is_ok());
        assert_eq!(place.pair.key_is_open(), open, "{mode:o}");
    }
}

#[test]
fn swaps_of_links_are_seen_as_kubernetes_and_certbot_make_them() {
    let pki = Pki::new();
    let mut place = Place::new();
    let folder = place.folder.path().to_owned();
    let fill = |name: &str, (chain, key): (Vec<u8>, Vec<u8>)| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("chain.pem"), chain).unwrap();
        fs::write(folder.join(name).join("key.pem"), key).unwrap();
    };
    fill("..1", texts(&pki));
    symlink("..1", place.path("..data")).unwrap();
    for name in ["chain.pem", "key.pem"] {
        symlink(Path::new("..data").join(name), place.path(name)).unwrap();
    }
    let first = place.told().unwrap();
    // One rename, and both files are others.
    fill("..2", texts(&pki));
    symlink("..2", place.path("..new")).unwrap();
    fs::rename(place.path("..new"), place.path("..data")).unwrap();
    let second = place.told().unwrap();
    assert_ne!(first.fingerprint(), second.fingerprint());
    place.is_quiet();
    // Two renames, and a look between them.
    fill("archive", texts(&pki));
    let swap = |name: &str| {
        symlink(Path::new("archive").join(name), folder.join("new")).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    };
    swap("chain.pem");
    let between = place.pair.look(Instant::now());
    assert!(matches!(between, Look::Unchanged), "{between:?}");
    swap("key.pem");
    let third = place.told().unwrap();
    assert_ne!(second.fingerprint(), third.fingerprint());
    // Touched, and the same as before.
    fs::write(place.path("chain.pem"), fs::read(place.path("chain.pem")).unwrap()).unwrap();
    place.is_quiet();
}

#[test]
fn no_swap_however_fast_is_taken_for_a_bad_pair() {
    let pki = Pki::new();
    let mut place = Place::new();
    let folder = place.folder.path().to_owned();
    let pairs: Vec<_> = (0..4).map(|_| texts(&pki)).collect();
    let swap = move |number: usize| {
        let (next, (chain, key)) = (folder.join(format!("..{number}")), &pairs[number % pairs.len()]);
        fs::create_dir(&next).expect("it is new");
        fs::write(next.join("chain.pem"), chain).expect("it can be written");
        fs::write(next.join("key.pem"), key).expect("it can be written");
        symlink(&next, folder.join("..new")).expect("it is new");
        fs::rename(folder.join("..new"), folder.join("..data")).expect("links can be replaced");
    };
    swap(0);
    for name in ["chain.pem", "key.pem"] {
        symlink(Path::new("..data").join(name), place.path(name)).unwrap();
    }
    let swaps = std::thread::spawn(move || (1..500).for_each(swap));
    let mut told = 0;
    while !swaps.is_finished() {
        match place.pair.look(Instant::now()) {
            Look::Unchanged => {}
            Look::Changed(Ok(_)) => told += 1,
            Look::Changed(Err(error)) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }
    swaps.join().unwrap();
    assert!(told > 0, "{told}");
}

/// After how many milliseconds a look finds which stamps, what it would read, and whether it skips that, waits or tells.
const LOOKS: [(&str, &str); 10] = [
    ("a good pair at once, and one look more", "0 1 good-1 tells, 500 1 good-1 waits, 1000 1 good-1 skips"),
    (
        "a change within the tick of the first look",
        "0 1 good-1 tells, 500 1 good-2 tells, 1000 1 good-2 waits, 1500 1 good-2 skips",
    ),
    ("a bad pair the second time", "0 1 missing-a waits, 500 1 missing-a tells, 1000 1 missing-a skips"),
    (
        "the middle of a swap never",
        "0 1 good-1 tells, 500 2 missing-a waits, 1000 3 good-2 tells, 1500 3 good-2 waits, 2000 3 good-2 skips",
    ),
    (
        "a swap that is undone never",
        "0 1 good-1 tells, 500 2 missing-a waits, 1000 3 good-1 waits, 1500 3 good-1 waits, 2000 3 good-1 skips",
    ),
    (
        "what changes all the time in the end",
        "0 1 missing-a waits, 5000 2 missing-a waits, 9999 3 missing-b waits, 10000 4 missing-a tells, \
         10500 5 missing-a waits, 11000 5 missing-a waits, 11500 5 missing-a skips",
    ),
    (
        "another reason after the same doubt",
        "0 1 missing-a waits, 500 1 missing-a tells, 20000 2 missing-b waits, 20500 2 missing-b tells",
    ),
    (
        "what was refused is tried again",
        "0 1 refused-a waits, 500 1 refused-a tells, 1000 1 refused-a waits, 1500 1 good-1 tells, \
         2000 1 good-1 waits, 2500 1 good-1 skips",
    ),
    (
        "a chain that is being written is not taken for a leaf alone, and a leaf alone is one",
        "0 1 good-1 tells, 500 2 alone-2 waits, 1000 3 good-3 tells, 1500 4 alone-4 waits, 2000 4 alone-4 tells",
    ),
    (
        "a leaf alone that is the first, or after another",
        "0 1 alone-1 tells, 500 2 alone-2 tells, 1000 3 good-3 tells",
    ),
];

#[test]
fn what_is_told_and_when() {
    let found = |text: &str| match text.split_once('-').unwrap() {
        (kind @ ("good" | "alone"), digest) => {
            Found::Good { digest: [digest.parse().unwrap(); 32], is_alone: kind == "alone" }
        }
        ("missing", path) => Found::Bad(FileError::Missing { path: path.into() }),
        (_, path) => Found::Bad(FileError::Unreadable { path: path.into(), reason: "denied".to_owned() }),
    };
    let began = Instant::now();
    for (what, looks) in LOOKS {
        let mut watch = Watch::default();
        for look in looks.split(", ") {
            let [after, stamp, text, expected] = look.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{look}")
            };
            let stamps = [Stamp(Some([stamp.parse().unwrap(); 6])), Stamp(None)];
            let now = began + Duration::from_millis(after.parse().unwrap());
            let does = match () {
                () if watch.is_settled(&stamps) => "skips",
                () if watch.see(stamps, found(text), now) => "tells",
                () => "waits",
            };
            assert_eq!(does, expected, "{what}: {look}");
        }
    }
}

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

const LINE: &[u8] = b"{\"nth\":1}\n";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn open(&self) -> Trail {
        Trail::open(&self.path(), 64, 2).unwrap()
    }

    /// What each file has, by its name.
    fn files(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }
}

#[test]
fn the_file_is_for_its_owner_alone_and_goes_on_where_it_ended() {
    let place = Place::new();
    place.open().append(LINE).unwrap();
    place.open().append(LINE).unwrap();
    assert_eq!(place.text().as_bytes(), [LINE, LINE].concat());
    assert_eq!(place.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn at_its_size_a_new_one_is_begun_and_as_many_stay_as_are_kept() {
    let place = Place::new();
    let mut trail = place.open();
    let line = |nth: u8| format!("{{\"nth\":\"{nth:020}\"}}\n");
    for nth in 0..8 {
        trail.append(line(nth).as_bytes()).unwrap();
    }
    let file = |name: &str, nths: [u8; 2]| (name.to_owned(), nths.map(line).concat());
    let expected =
        [file("audit.jsonl", [6, 7]), file("audit.jsonl.1", [4, 5]), file("audit.jsonl.2", [2, 3])];
    assert_eq!(place.files(), expected);
    assert_eq!(place.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn where_none_is_kept_the_full_one_goes() {
    let place = Place::new();
    let mut trail = Trail::open(&place.path(), 64, 0).unwrap();
    for _ in 0..7 {
        trail.append(LINE).unwrap();
    }
    assert_eq!(place.files(), [("audit.jsonl".to_owned(), "{\"nth\":1}\n".to_owned())]);
}

#[test]
fn a_line_that_a_kill_tore_costs_itself_alone() {
    let place = Place::new();
    fs::write(place.path(), [LINE, b"{\"nth\":2"].concat()).unwrap();
    place.open().append(LINE).unwrap();
    assert_eq!(place.text(), "{\"nth\":1}\n{\"nth\":2\n{\"nth\":1}\n");
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
    let place = Place::new();
    let mut trail = place.open();
    trail.append(LINE).unwrap();
    let aside = place.folder.path().join("aside");
    fs::rename(place.path(), &aside).unwrap();
    trail.append(LINE).unwrap();
    assert_eq!((fs::read(aside).unwrap(), place.text().as_bytes()), (LINE.to_vec(), LINE));
}

#[test]
fn a_full_disk_costs_its_lines_and_when_there_is_room_it_goes_on() {
    let place = Place::new();
    let room = place.folder.path().join("room");
    symlink("/dev/full", place.path()).unwrap();
    let mut trail = place.open();
    assert_eq!(trail.append(LINE).unwrap_err().kind(), ErrorKind::StorageFull);
    fs::remove_file(place.path()).unwrap();
    symlink(&room, place.path()).unwrap();
    trail.append(LINE).unwrap();
    assert_eq!(fs::read(&room).unwrap(), LINE);
}

#[test]
fn a_disk_that_fills_up_within_a_line_costs_that_line_alone() {
    let place = Place::new();
    let mut trail = place.open();
    trail.append(LINE).unwrap();
    // What a write that was cut short leaves.
    OpenOptions::new().append(true).open(place.path()).unwrap().write_all(b"{\"nth\"").unwrap();
    trail.torn = true;
    trail.append(LINE).unwrap();
    assert_eq!(place.text(), "{\"nth\":1}\n{\"nth\"\n{\"nth\":1}\n");
}

#[test]
fn a_folder_that_lets_nothing_be_renamed_costs_no_line() {
    let place = Place::new();
    let mut trail = place.open();
    // A folder of that name which is not empty cannot be renamed over.
    fs::create_dir_all(place.folder.path().join("audit.jsonl.1/x")).unwrap();
    fs::create_dir_all(place.folder.path().join("audit.jsonl.2/x")).unwrap();
    for _ in 0..7 {
        trail.append(LINE).unwrap();
    }
    assert_eq!(place.text(), "{\"nth\":1}\n".repeat(7));
}

#[test]
fn a_pipe_and_a_folder_are_no_audit_files() {
    let place = Place::new();
    assert!(Trail::open(place.folder.path(), 64, 2).is_err());
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path(), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    assert_eq!(Trail::open(&place.path(), 64, 2).unwrap_err().kind(), ErrorKind::InvalidInput);
}

//! The command line: what operators type, and what they are told.

use std::process::Command;
use tests::Usher;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(Usher::binary()).args(arguments).output().expect("the program can be started");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn check(toml: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), toml).expect("the file is ours");
    run(&["check", &file.path().display().to_string()])
}

#[test]
fn the_quickstart_is_a_valid_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/quickstart.toml");
    let (code, text) = run(&["check", file]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn every_mistake_is_told_in_one_run_with_its_place() {
    let (code, text) = check(
        "domain = \"lab.localhost\"\n\n[spawn]\nconcurent = 8\n\n[workspaces]\nidle_after = \"10\"\n\n\
         [access]\nallow = \"usr == 'x'\"\n",
    );
    assert_eq!(code, Some(2), "{text}");
    for expected in
        ["4:1", "spawn.concurent", "concurrent", "7:", "workspaces.idle_after", "10:", "access.allow"]
    {
        assert!(text.contains(expected), "{expected:?} is missing in: {text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_wrong_use() {
    let (code, text) = run(&["check", "/nonexistent/usher.toml"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/nonexistent/usher.toml"), "{text}");
}

#[test]
fn serve_refuses_a_bad_configuration() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "domain = 1\n").unwrap();
    let (code, text) = run(&["serve", "--config", &file.path().display().to_string()]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("domain"), "{text}");
}

#[test]
fn the_version_is_told() {
    let (code, text) = run(&["version"]);
    assert_eq!(code, Some(0));
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("the system gives a pipe");
    drop(reader);
    let mut command = Command::new(Usher::binary());
    let output = command.arg("version").stdout(writer).output().expect("the program can be started");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn help_teaches_every_command() {
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for command in ["serve", "check", "status", "stop", "delete", "version"] {
        assert!(text.contains(command), "{command} is missing in: {text}");
    }
}

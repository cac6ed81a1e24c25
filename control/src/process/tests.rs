//! The driver with real processes. Each test has an installation of its own.

pub(super) mod support;

use super::*;
use crate::{Address, CauseCode, Generation, Kind, StartSpec, Stop};
use config::{Connect, Template, Value};
use proc::process_of;
use std::path::Path;
use support::*;
use tokio::time::{Instant, timeout};

/// The descriptors that the test itself was started with, which whoever started it left open.
fn inherited() -> Vec<String> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let kept = |fd: &String| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("").trim();
        fd.parse::<u32>().unwrap() > 2
            && u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    names(Path::new("/proc/self/fd")).into_iter().filter(kept).collect()
}

#[tokio::test]
async fn a_workspace_has_an_environment_of_its_own_and_no_descriptor_of_ushers() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut given = shell(
        "env >env; ls -l /proc/self/fd >fds; pwd >pwd; echo $$ $(cut -d' ' -f6 /proc/$$/stat) >session; exec sleep 60",
    );
    process(&mut given).environment.insert("SOCKET".into(), Value::Plain("{socket}".into()));
    let (generation, address) = opened.start("alice", given).await;
    let home = installation.home("alice");

    let session = written(&home.join("session")).await;
    let (pid, leader) = session.trim().split_once(' ').unwrap();
    assert_eq!(pid, leader, "it leads a session of its own");
    let home_text = home.canonicalize().unwrap().to_str().unwrap().to_owned();
    assert_eq!(written(&home.join("pwd")).await.trim(), home_text);
    let Address::Unix(socket) = address else { panic!("{address:?}") };
    let mut variables: Vec<String> = written(&home.join("env")).await.lines().map(str::to_owned).collect();
    // These the shell adds itself.
    variables.retain(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)));
    variables.sort();
    let installation_id = std::fs::read_to_string(installation.state.path().join("installation")).unwrap();
    let or = |name: &str, default: &str| std::env::var(name).unwrap_or(default.into());
    let expected = [
        format!("HOME={home_text}"),
        format!("LANG={}", or("LANG", "C.UTF-8")),
        format!("PATH={}", or("PATH", "")),
        format!("SOCKET={}", socket.display()),
        format!("USHER_GENERATION={generation}"),
        format!("USHER_WORKSPACE={}/alice", installation_id.trim()),
    ];
    assert_eq!(variables, expected);
    let descriptors = written(&home.join("fds")).await;
    let own: Vec<&str> = descriptors
        .lines()
        .filter(|line| line.contains(" -> "))
        .filter(|line| inherited().iter().all(|fd| !line.contains(&format!(" {fd} -> "))))
        .collect();
    // stdin, the file that `ls` writes to, the log, and the folder that `ls` reads.
    assert_eq!(own.len(), 4, "{own:?}");
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn a_workspace_has_the_limit_of_open_files_that_it_is_given_and_may_raise_it() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let script =
        "until [ -e go ]; do sleep 0.01; done; echo $(ulimit -Sn) $(ulimit -Hn) >limits; exec sleep 60";
    let (generation, _) = opened.start("alice", shell(script)).await;
    std::fs::write(installation.home("alice").join("go"), "").unwrap();
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let hard = hard.map_or("unlimited".to_owned(), |most| most.to_string());
    let limits = written(&installation.home("alice").join("limits")).await;
    assert_eq!(limits, format!("{OPEN_FILES} {hard}\n"));
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn a_stop_ends_grandchildren_in_sessions_of_their_own() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let script = r#"
setsid sh -c 'trap "" HUP; echo $$ >one; exec sleep 600' &
(setsid sh -c 'setsid sleep 600 & echo $! >two' &)
sleep 600 & echo $! >three
exec sleep 600"#;
    let (generation, _) = opened.start("alice", shell(script)).await;
    let mut processes = Vec::new();
    for file in ["one", "two", "three"] {
        let pid = written(&installation.home("alice").join(file)).await.trim().parse().unwrap();
        processes.push(process_of(pid).unwrap());
    }
    opened.stop("alice", generation).await;
    assert!(processes.iter().all(|process| !proc::lives(*process)));
    assert_eq!(installation.bearers(), []);
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_after_the_grace() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut deaf = shell("trap '' TERM; echo deaf >deaf; while :; do sleep 600; done");
    deaf.stop_grace = Duration::from_millis(300);
    let (generation, _) = opened.start("alice", deaf).await;
    written(&installation.home("alice").join("deaf")).await;
    let began = Instant::now();
    opened.stop("alice", generation).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(installation.bearers(), []);
}

#[tokio::test]
async fn one_that_ends_at_sigterm_does_not_wait_for_the_grace() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut patient = shell("trap 'echo bye >bye; exit' TERM; echo >ready; while :; do sleep 0.01; done");
    patient.stop_grace = Duration::from_secs(600);
    let (generation, _) = opened.start("alice", patient).await;
    written(&installation.home("alice").join("ready")).await;
    opened.stop("alice", generation).await;
    assert_eq!(written(&installation.home("alice").join("bye")).await, "bye\n");
}

#[tokio::test]
async fn a_second_start_of_a_running_one_changes_nothing() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let script = "echo $$ >>starts; exec sleep 600";
    let (generation, _) = opened.start("alice", shell(script)).await;
    written(&installation.home("alice").join("starts")).await;
    opened.driver.act(Action::Start(spec("alice", shell(script)))).await.unwrap();
    // The next thing told is the stop.
    opened.stop("alice", generation).await;
    assert_eq!(written(&installation.home("alice").join("starts")).await.lines().count(), 1);
}

#[tokio::test]
async fn a_stop_of_another_generation_changes_nothing() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let (generation, _) = opened.start("alice", shell("exec sleep 600")).await;
    let old = Generation("0000000000000000".into());
    opened
        .driver
        .act(Action::Stop { id: id("alice"), generation: Some(old), why: Stop::Asked })
        .await
        .unwrap();
    opened.driver.act(Action::Delete { id: id("alice"), volume: false, owner: None }).await.unwrap();
    // The deletion found it running: without it nothing would have been stopped.
    assert_eq!(opened.phase().await, ObservedPhase::stopping(generation));
    assert!(matches!(opened.next().await, Event::Gone(_)));
}

#[tokio::test]
async fn a_start_during_a_stop_is_carried_out_after_it() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let (first, first_address) = opened.start("alice", shell("exec sleep 600")).await;
    opened
        .driver
        .act(Action::Stop { id: id("alice"), generation: Some(first.clone()), why: Stop::Asked })
        .await
        .unwrap();
    opened.driver.act(Action::Start(spec("alice", shell("exec sleep 600")))).await.unwrap();
    assert_eq!(opened.phase().await, ObservedPhase::stopping(first.clone()));
    assert_eq!(opened.phase().await, ObservedPhase::Stopped);
    let ObservedPhase::Running { generation, address, .. } = opened.phase().await else {
        panic!("not running")
    };
    let generation = generation.unwrap();
    assert_ne!((&generation, address.unwrap()), (&first, first_address));
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn nobody_else_can_start_a_workspace() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let (generation, _) = opened.start("alice", shell("exec sleep 600")).await;
    let stolen = StartSpec { owner: owner("mallory"), ..spec("alice", shell("exec sleep 600")) };
    let refused = opened.driver.act(Action::Start(stolen)).await.unwrap_err();
    assert_eq!(refused.code, CauseCode::NotTheOwner);
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn a_crash_is_told_in_words_and_takes_the_rest_along() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let crash = "setsid sleep 600 & echo working; printf 'it \\033[31mbroke\\033[0m\\n' >&2; exit 3";
    opened.start("alice", shell(crash)).await;
    let cause = opened.failure().await;
    assert_eq!(cause.code, CauseCode::Crashed);
    let told = "The workspace's program failed with exit code 3. Its last output: working\nit broke";
    assert_eq!(cause.detail, told);
    assert_eq!(installation.bearers(), []);
    assert_eq!(opened.driver.log_tail(&id("alice")).await, "working\nit broke");

    opened.start("alice", shell("kill -SEGV $$")).await;
    assert_eq!(opened.failure().await.detail, "The workspace's program was ended by signal 11 (SIGSEGV).");
    opened.start("alice", shell("exit 0")).await;
    assert_eq!(opened.failure().await.detail, "The workspace ended by itself, with exit code 0.");
    assert_eq!(installation.record("alice").await.unwrap().run, None);
}

#[tokio::test]
async fn one_that_cannot_be_started_is_told_by_its_cause() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut fail = async |name: &str, template: Template| {
        opened.driver.act(Action::Start(spec(name, template))).await.unwrap();
        opened.failure().await
    };
    let missing = fail("alice", template(&["/no/such/program"])).await;
    assert_eq!(missing.code, CauseCode::ProgramNotFound);
    assert_eq!(missing.detail, "The program \"/no/such/program\" of this workspace was not found.");
    let forbidden = fail("alice", template(&["/etc/passwd"])).await;
    assert_eq!(forbidden.detail, "The program \"/etc/passwd\" of this workspace may not be executed.");
    std::fs::write(installation.home("bob"), "in the way").unwrap();
    let homeless = fail("bob", shell("true")).await;
    assert_eq!(homeless.code, CauseCode::NoResources);
    assert!(homeless.detail.starts_with("Usher could not make the workspace's home"), "{}", homeless.detail);
    // It exists now, and can be started when the cause is gone.
    assert_eq!(installation.record("alice").await.unwrap().wanted, Wanted::Stopped);
}

#[tokio::test]
async fn a_port_is_free_and_known_to_the_workspace() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut web = template(&["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"]);
    process(&mut web).connect = Connect::Port;
    let (generation, address) = opened.start("alice", web).await;
    assert!(matches!(address, Address::Tcp(address) if address.ip().is_loopback()));
    let ready =
        config::ReadyProbe { path: "/".into(), status: Some(200), contains: Some("Directory".into()) };
    timeout(PATIENCE, crate::probe::probe(&address, Some(&ready), "alice.lab.localhost")).await.unwrap();
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn the_log_is_bounded_while_it_is_written_fast() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    // 200 lines of 100 bytes each 10 ms: 2 MB a second.
    let line = "x".repeat(99);
    let mut chatty = shell(&format!(
        "n=0; while [ $n -lt 150 ]; do n=$((n+1)); yes {line} | head -n 200; sleep 0.01; done; echo the end; echo >done; exec sleep 600"
    ));
    process(&mut chatty).log_size = 64 << 10;
    let (generation, _) = opened.start("alice", chatty).await;
    let log = installation.state.path().join("logs/alice.log");
    written(&installation.home("alice").join("done")).await;
    let size = || std::fs::metadata(&log).unwrap().len();
    until("the log is trimmed", || size() <= 64 << 10).await;
    assert!(opened.driver.log_tail(&id("alice")).await.ends_with(&format!("{line}\nthe end")));
    assert_eq!(opened.driver.log_tail(&id("alice")).await.lines().count(), 64);
    opened.stop("alice", generation).await;
}

#[tokio::test]
async fn a_restart_adopts_what_runs() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let mut web = shell("echo $$ >pid; echo before; exec sleep 600");
    process(&mut web).connect = Connect::Port;
    let (generation, address) = opened.start("alice", web).await;
    let pid = written(&installation.home("alice").join("pid")).await.trim().parse().unwrap();
    let process = process_of(pid).unwrap();
    drop(opened);

    let mut again = installation.open().await;
    let adopted = ObservedPhase::started(generation.clone(), Some(address));
    let any = TemplateName::parse("any").unwrap();
    let expected = Observed::alone(id("alice"), owner("alice"), any, Default::default(), adopted);
    assert!(matches!(again.next().await, Event::Seen(seen) if seen == expected));
    assert!(matches!(again.next().await, Event::Synced));
    assert!(proc::lives(process));
    assert_eq!(again.driver.log_tail(&id("alice")).await, "before");
    again.stop("alice", generation).await;
    assert!(!proc::lives(process));
}

#[tokio::test]
async fn the_end_of_an_adopted_one_is_seen_and_its_exit_code_is_not_guessed() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    opened.start("alice", shell("echo >ready; until [ -e go ]; do sleep 0.01; done; exit 7")).await;
    written(&installation.home("alice").join("ready")).await;
    drop(opened);
    let mut again = installation.open().await;
    std::fs::write(installation.home("alice").join("go"), "").unwrap();
    let cause = again.failure().await;
    assert_eq!(cause.code, CauseCode::Crashed);
    assert!(cause.detail.starts_with("The workspace ended; how is not known"), "{}", cause.detail);
}

#[tokio::test]
async fn a_pid_that_was_used_again_or_is_of_another_boot_is_not_adopted() {
    for change in [
        (|process: &mut recorded::RecordedProcess| process.id.started -= 1)
            as fn(&mut recorded::RecordedProcess),
        |process| process.boot = "another".into(),
    ] {
        let installation = Installation::new();
        let mut opened = installation.open().await;
        opened.start("alice", shell("exec sleep 600")).await;
        drop(opened);
        // A bystander that has the recorded pid.
        let mut bystander =
            tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let pid = i32::try_from(bystander.id().unwrap()).unwrap();
        installation
            .rewrite("alice", |recorded| {
                let process = recorded.run.as_mut().unwrap().process.as_mut().unwrap();
                process.id = process_of(pid).unwrap();
                change(process);
            })
            .await;
        let mut again = installation.open().await;
        while again.phase().await != ObservedPhase::Stopped {}
        assert_eq!(bystander.try_wait().unwrap(), None, "the bystander lives");
        assert_eq!(installation.bearers(), [], "the orphan does not");
        assert_eq!(installation.record("alice").await.unwrap().run, None);
    }
}

#[tokio::test]
async fn what_was_forked_but_not_recorded_is_ended_by_the_next_usher() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    opened.start("alice", shell("exec sleep 600")).await;
    drop(opened);
    installation.rewrite("alice", |recorded| recorded.run.as_mut().unwrap().process = None).await;
    let mut again = installation.open().await;
    while again.phase().await != ObservedPhase::Stopped {}
    assert_eq!(installation.bearers(), []);
}

#[tokio::test]
async fn a_stop_that_was_cut_off_is_finished_by_the_next_usher() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let (generation, _) = opened.start("alice", shell("exec sleep 600")).await;
    drop(opened);
    installation.rewrite("alice", |recorded| recorded.wanted = Wanted::Stopped).await;
    let mut again = installation.open().await;
    assert_eq!(again.phase().await, ObservedPhase::stopping(generation));
    assert_eq!(again.phase().await, ObservedPhase::Stopped);
    assert_eq!(installation.bearers(), []);
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_by_the_next_usher() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    opened.start("alice", shell("exec sleep 600")).await;
    drop(opened);
    installation.rewrite("alice", |recorded| recorded.wanted = Wanted::Deleted { volume: true }).await;
    let mut again = installation.open().await;
    while !matches!(again.next().await, Event::Gone(_)) {}
    assert_eq!(installation.bearers(), []);
    assert!(!installation.home("alice").exists());
    assert_eq!(installation.record("alice").await, None);
}

#[tokio::test]
async fn processes_that_no_record_knows_are_ended() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    opened.start("alice", shell("exec sleep 600")).await;
    drop(opened);
    installation.records.delete(Kind::Workspace, "alice").await.unwrap();
    let mut again = installation.open().await;
    assert!(matches!(again.next().await, Event::Synced));
    assert_eq!(installation.bearers(), []);
}

#[tokio::test]
async fn two_installations_leave_each_other_alone() {
    let (here, there) = (Installation::new(), Installation::new());
    let (mut opened_here, mut opened_there) = (here.open().await, there.open().await);
    let (generation_here, _) = opened_here.start("alice", shell("exec sleep 600")).await;
    let (generation_there, _) = opened_there.start("alice", shell("exec sleep 600")).await;
    opened_here.stop("alice", generation_here).await;
    drop(opened_here);
    here.open().await;
    assert_eq!(here.bearers(), []);
    assert_eq!(there.bearers().len(), 1);
    opened_there.stop("alice", generation_there).await;
}

#[tokio::test]
async fn a_deletion_keeps_the_files_unless_they_are_to_go() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let script = "echo mine >file; exec sleep 600";
    opened.start("alice", shell(script)).await;
    written(&installation.home("alice").join("file")).await;
    opened.delete("alice", false).await;
    assert_eq!(installation.bearers(), []);
    let record = installation.record("alice").await.expect("it says whose the files are");
    assert_eq!((record.wanted, record.run), (Wanted::Deleted { volume: false }, None));
    assert_eq!(names(&installation.state.path().join("logs")), [""; 0]);
    assert_eq!(written(&installation.home("alice").join("file")).await, "mine\n");

    opened.start("alice", shell(script)).await;
    opened.delete("alice", true).await;
    assert!(!installation.home("alice").exists());
    assert_eq!(installation.record("alice").await, None);
    opened.delete("alice", true).await;
}

#[tokio::test]
async fn files_that_were_kept_are_their_owners_until_they_are_removed_also_after_a_restart() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    opened.start("alice", shell("echo mine >file; exec sleep 600")).await;
    written(&installation.home("alice").join("file")).await;
    opened.delete("alice", false).await;
    let (alice, bob) = (owner("alice"), owner("bob"));
    for restarts in [false, true] {
        if restarts {
            drop(opened);
            opened = installation.open().await;
        }
        let driver = &opened.driver;
        let refused = driver.remove_kept_files(&id("alice"), Some(&bob)).await.unwrap_err();
        assert_eq!(refused.code, CauseCode::NotTheOwner);
        let theirs = StartSpec { owner: bob.clone(), ..spec("alice", shell("true")) };
        assert_eq!(driver.act(Action::Start(theirs)).await.unwrap_err().code, CauseCode::NotTheOwner);
        let delete = Action::Delete { id: id("alice"), volume: true, owner: Some(bob.clone()) };
        assert_eq!(driver.act(delete).await.unwrap_err().code, CauseCode::NotTheOwner);
        assert!(installation.home("alice").join("file").exists());
        assert_eq!(driver.remove_kept_files(&id("bob"), Some(&bob)).await, Ok(false));
    }
    assert_eq!(opened.driver.remove_kept_files(&id("alice"), Some(&alice)).await, Ok(true));
    while !matches!(opened.next().await, Event::Gone(_)) {}
    assert!(!installation.home("alice").exists());
    assert_eq!(installation.record("alice").await, None);
    assert_eq!(opened.driver.remove_kept_files(&id("alice"), None).await, Ok(false));
}

#[tokio::test]
async fn the_socket_of_an_earlier_start_does_not_stay() {
    let installation = Installation::new();
    let mut opened = installation.open().await;
    let listen = "import os, socket, time; s = socket.socket(socket.AF_UNIX); s.bind(os.environ['AT']); s.listen(); time.sleep(600)";
    let mut listener = template(&["python3", "-c", listen]);
    process(&mut listener).environment.insert("AT".into(), Value::Plain("{socket}".into()));
    let (generation, address) = opened.start("alice", listener).await;
    timeout(PATIENCE, crate::probe::probe(&address, None, "alice.lab.localhost")).await.unwrap();
    opened.stop("alice", generation).await;
    assert_eq!(names(&installation.state.path().join("run")), [""; 0]);
}

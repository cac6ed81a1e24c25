//! Programs that write the records: what they get, what becomes of them, and the recipes of `deploy/dns`.

use super::bind::program;
use super::servers::{Servers, host};
use super::{PATIENCE, wait_for};
use certs::{DnsError, DnsRecords};
use config::{DnsProvider, DnsProviderKind, DnsProviderName};
use rustix::process::{Pid, test_kill_process};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NAME: &str = "_acme-challenge.lab.test";

fn records(command: &[&str], timeout: Duration) -> DnsRecords {
    let command = command.iter().map(ToString::to_string).collect();
    let provider = DnsProvider {
        name: DnsProviderName::parse("home").expect("a name"),
        kind: DnsProviderKind::Exec { command, timeout },
        check_propagation: false,
        propagation_timeout: PATIENCE,
        resolvers: Vec::new(),
    };
    DnsRecords::new(Arc::new(provider)).expect("it can be used")
}

/// A script in a folder of its own, for `/bin/sh`: a program that was just written may be busy, as long as another test's
/// child has its file open.
fn script(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("the folder for temporary files can be written");
    let file = write_program(dir.path(), "program", text);
    (dir, file)
}

fn write_program(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("the folder can be written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    file.to_str().expect("temporary folders have plain names").to_owned()
}

fn read(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_default()
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_nothing_of_the_environment_that_it_does_not_need() {
    let (dir, file) = script("{ echo \"$@\"; env; cat; } >>\"$1/said\"");
    let folder = dir.path().to_str().unwrap();
    let records = records(&["/bin/sh", &file, folder, "two words"], PATIENCE);
    records.present(&host("lab.test"), "text").await.unwrap();
    records.clear(&host("lab.test"), "text").await.unwrap();
    let said = read(&dir, "said");
    let calls: Vec<&str> = said.lines().filter(|line| line.starts_with(folder)).collect();
    assert_eq!(
        calls,
        [format!("{folder} two words present {NAME} text"), format!("{folder} two words clear {NAME} text")]
    );
    // `PWD` and its like are the shell's own.
    let names = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    for name in names {
        assert!(["PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name), "{name} in {said}");
    }
    assert!(said.contains("PATH="), "{said}");
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_the_end_of_what_it_said() {
    let (_dir, file) = script("seq 100000; echo 'the zone is locked' >&2; exit 3");
    let error = records(&["/bin/sh", &file], PATIENCE).present(&host("lab.test"), "text").await.unwrap_err();
    assert!(matches!(error, DnsError::Failed { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("home failed for _acme-challenge.lab.test (exit status: 3): "), "{told}");
    assert!(told.ends_with("99999 | 100000 | the zone is locked"), "{told}");
    assert!(told.len() < 12_000, "{}", told.len());
    let error = records(&["/nowhere/at-all"], PATIENCE).present(&host("lab.test"), "text").await.unwrap_err();
    assert!(matches!(error, DnsError::NotStarted { .. }), "{error:?}");
    let error = records(&["/bin/false"], PATIENCE).present(&host("lab.test"), "text").await.unwrap_err();
    assert!(error.to_string().ends_with("(exit status: 1): it said nothing"), "{error}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let text = "sleep 1000 & echo $! >\"$1/child.new\"; mv \"$1/child.new\" \"$1/child\"; echo waiting; wait";
    let (dir, file) = script(text);
    let folder = dir.path().to_str().unwrap();
    let child = || Pid::from_raw(read(&dir, "child").trim().parse().ok()?);
    let is_gone = || {
        let pid = child().expect("it was written");
        // A zombie is over as well; whoever inherits it reaps it when they like.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        test_kill_process(pid).is_err() || state.map_or(true, |state| state.contains(") Z "))
    };
    let waited = Duration::from_secs(2);
    let error =
        records(&["/bin/sh", &file, folder], waited).present(&host("lab.test"), "text").await.unwrap_err();
    assert!(matches!(error, DnsError::Killed { .. }), "{error:?}");
    assert!(error.to_string().ends_with("after 2s: waiting"), "{error}");
    wait_for("the child is gone", is_gone).await;
    // And when nobody waits for it any more.
    std::fs::remove_file(dir.path().join("child")).unwrap();
    let records = records(&["/bin/sh", &file, folder], PATIENCE);
    let lab = host("lab.test");
    tokio::select! {
        done = records.present(&lab, "text") => panic!("{done:?}"),
        () = wait_for("it runs", || child().is_some()) => (),
    }
    wait_for("the child is gone", is_gone).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_holds_nobody_up() {
    let (_dir, file) = script("setsid sleep 20 & exit \"$1\"");
    for (code, is_fine) in [("0", true), ("1", false)] {
        let began = Instant::now();
        let done = records(&["/bin/sh", &file, code], PATIENCE).present(&host("lab.test"), "text").await;
        assert_eq!(done.is_ok(), is_fine, "{done:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

/// A recipe of `deploy/dns`.
fn recipe(name: &str) -> String {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "deploy", "dns", name].iter().collect();
    file.to_str().expect("the tree has plain names").to_owned()
}

/// Route 53's API on this machine, and what the CLI needs to be told to ask it.
struct Moto {
    server: Child,
    home: TempDir,
    path: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _gone = self.server.wait();
    }
}

impl Moto {
    async fn start() -> Self {
        let bin = std::env::var("DNS_PROGRAMS").unwrap_or_default();
        let address = super::bind::free();
        let mut server = Command::new("setpriv");
        server.args(["--pdeathsig", "KILL"]).arg(program("moto_server", &bin));
        server.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("setpriv of util-linux is there");
        let home = tempfile::tempdir().expect("the folder for temporary files can be written");
        let folder = home.path().join(".aws");
        std::fs::create_dir(&folder).expect("it is new");
        let config = format!("[default]\nregion = us-east-1\nendpoint_url = http://{address}\n");
        std::fs::write(folder.join("config"), config).expect("it is new");
        let keys = "[default]\naws_access_key_id = any\naws_secret_access_key = any\n";
        std::fs::write(folder.join("credentials"), keys).expect("it is new");
        let aws = program("aws", &bin);
        let path = format!("{}:/usr/bin:/bin", aws.parent().expect("it is in a folder").display());
        wait_for("moto answers", || std::net::TcpStream::connect(address).is_ok()).await;
        Self { server, home, path }
    }

    /// A command with the environment in which `aws` finds this server.
    fn command(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let home = format!("HOME={}", self.home.path().display());
        let mut command = vec!["/usr/bin/env".to_owned(), home, format!("PATH={}", self.path)];
        command.push(program.to_owned());
        command.extend(arguments.iter().map(ToString::to_string));
        command
    }

    fn aws(&self, arguments: &[&str]) -> String {
        let command = self.command("aws", arguments);
        let ran = Command::new(&command[0]).args(&command[1..]).output().expect("it can be started");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }
}

#[tokio::test]
async fn the_recipe_for_route_53_keeps_what_others_wrote() {
    let moto = Moto::start().await;
    let create = [
        "route53",
        "create-hosted-zone",
        "--name",
        "lab.test",
        "--caller-reference",
        "1",
        "--output",
        "text",
    ];
    let zone = moto.aws(&[&create[..], &["--query", "HostedZone.Id"]].concat());
    let zone = zone.rsplit('/').next().unwrap();
    let listed = || {
        let query = "ResourceRecordSets[?Type=='TXT'].[Name,TTL,ResourceRecords[].Value | sort(@)]";
        let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
        let listed = moto.aws(&[&list[..], &["--query", query]].concat());
        listed.split_ascii_whitespace().collect::<String>()
    };
    let command = moto.command(&recipe("route53.sh"), &[zone]);
    let records = records(&command.iter().map(String::as_str).collect::<Vec<_>>(), PATIENCE);
    let lab = host("lab.test");
    for text in ["one", "two", "two"] {
        records.present(&lab, text).await.unwrap();
    }
    let of = |texts: &str| format!(r#"[["_acme-challenge.lab.test.",60,[{texts}]]]"#);
    assert_eq!(listed(), of(r#""\"one\"","\"two\"""#));
    records.clear(&lab, "one").await.unwrap();
    assert_eq!(listed(), of(r#""\"two\"""#));
    for _ in 0..2 {
        records.clear(&lab, "two").await.unwrap();
    }
    assert_eq!(listed(), "[]");
}

#[tokio::test]
async fn the_recipe_for_route_53_tells_what_went_wrong() {
    let moto = Moto::start().await;
    let command = moto.command(&recipe("route53.sh"), &["Z0NOSUCHZONE"]);
    let records = records(&command.iter().map(String::as_str).collect::<Vec<_>>(), PATIENCE);
    for done in
        [records.present(&host("lab.test"), "text").await, records.clear(&host("lab.test"), "text").await]
    {
        let told = done.unwrap_err().to_string();
        assert!(told.contains("NoSuchHostedZone"), "{told}");
    }
}

/// Keeps each call, and one record: what `transaction execute` made of it.
const GCLOUD: &str = r#"
here=$(dirname "$0")
printf '%s ' "$@" | sed 's/ $//; s, --transaction-file=[^ ]*,,' >>"$here/calls"; echo >>"$here/calls"
case "$3 $4" in
  list*) [ ! -s "$here/record" ] || printf '60\t%s\n' "$(paste -sd';' "$here/record")" ;;
  "transaction start") : >"$here/added" ;;
  "transaction add") for last do case $last in \"*) echo "$last" >>"$here/added" ;; esac; done ;;
  "transaction execute") if [ -e "$here/conflict" ]; then rm "$here/conflict"; exit 1; fi; mv "$here/added" "$here/record" ;;
esac
"#;

#[tokio::test]
async fn the_recipe_for_google_changes_a_record_in_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    write_program(dir.path(), "gcloud", GCLOUD);
    let path = format!("PATH={}:/usr/bin:/bin", dir.path().display());
    let script = recipe("google-cloud-dns.sh");
    let records = records(&["/usr/bin/env", &path, &script, "acme", "main"], PATIENCE);
    let lab = host("lab.test");
    records.present(&lab, "one").await.unwrap();
    std::fs::write(dir.path().join("conflict"), "").unwrap();
    records.present(&lab, "two").await.unwrap();
    assert_eq!(read(&dir, "record"), "\"one\"\n\"two\"\n");
    records.clear(&lab, "one").await.unwrap();
    assert_eq!(read(&dir, "record"), "\"two\"\n");
    records.clear(&lab, "two").await.unwrap();
    records.clear(&lab, "two").await.unwrap();
    assert_eq!(read(&dir, "record"), "");
    let calls = read(&dir, "calls").replace(" --project=acme --zone=main", "");
    let list = format!("dns record-sets list --name={NAME}. --type=TXT --format=value(ttl,rrdatas)");
    let step = |step: &str, ttl: &str, values: &str| {
        format!("dns record-sets transaction {step} --name={NAME}. --type=TXT --ttl={ttl} {values}")
    };
    let start = || "dns record-sets transaction start".to_owned();
    let execute = || "dns record-sets transaction execute".to_owned();
    let (one, both, two) = (r#""one""#, r#""one" "two""#, r#""two""#);
    let second =
        || vec![list.clone(), start(), step("remove", "60", one), step("add", "60", both), execute()];
    let wanted = [
        vec![list.clone(), start(), step("add", "60", one), execute()],
        // The one that meets another's change, and the next one.
        second(),
        second(),
        vec![list.clone(), start(), step("remove", "60", both), step("add", "60", two), execute()],
        vec![list.clone(), start(), step("remove", "60", two), execute()],
        vec![list.clone()],
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), wanted.concat());
}

#[tokio::test]
async fn a_program_is_told_the_name_as_it_is() {
    let servers = Servers::start().await;
    let (dir, file) = script("echo \"$@\" >\"$1/said\"");
    let folder = dir.path().to_str().unwrap().to_owned();
    let kind = DnsProviderKind::Exec { command: vec!["/bin/sh".to_owned(), file, folder], timeout: PATIENCE };
    let records = servers.records_of(servers.provider(kind));
    records.present(&host("alias.lab.test"), "text").await.unwrap();
    assert!(read(&dir, "said").contains("present _acme-challenge.alias.lab.test text"));
}

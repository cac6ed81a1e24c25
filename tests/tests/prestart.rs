//! Workspaces that start before their users come.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::{Person, Setup, Usher};

/// A minute ago, by the clocks of UTC: what is due and not yet too late.
fn a_minute_ago() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_mins(1);
    let minutes = now.as_secs() / 60 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

const DEMO: &str = "command = [\"{usher}\", \"demo\", \"--socket\", \"{socket}\"]\nconnect = \"socket\"\n";

/// Alice's workspaces are of `demo`, bob's of `course`, everybody else's of `never`.
fn templates(demo: &str, course: &str) -> String {
    format!(
        "[access]\nallow = \"true\"\n\
         template = \"user.name == 'alice' ? 'demo' : user.name == 'bob' ? 'course' : 'never'\"\n\
         [templates.demo]\n{DEMO}{demo}[templates.course]\n{DEMO}{course}[templates.never]\n{DEMO}"
    )
}

#[tokio::test]
async fn who_has_logged_in_before_finds_their_workspace_running_at_the_time_that_the_template_names() {
    let usher = Usher::start(&templates("", "")).await;
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let person = Person::at_work(&usher, name).await;
        assert!(person.press("stop").await.status.is_success());
        person.await_phase("stopped").await;
        people.push(person);
    }
    let at = a_minute_ago();
    let demo = format!("[[templates.demo.prestart]]\nat = \"{at}\"\n");
    // Bob was in no group when he logged in.
    let course = format!("[[templates.course.prestart]]\nat = \"{at}\"\ngroups = [\"course-a\"]\n");
    let usher = usher.replaced_by(Setup::new(&templates(&demo, &course))).await;
    for person in &mut people {
        person.moved_to(&usher);
    }
    people[0].await_phase("ready").await;
    for person in &people[1..] {
        assert_eq!(person.status().await["phase"], "stopped", "{}", person.name);
    }
}

//! The README's tables say what the code says.
//!
//! A table that is out of date fails with the lines that belong between its marks.

use config::{KeyDefault, KeyDoc};
use control::{CauseCode, CauseWords};
use proxy::{audit, refusal};
use tests::Setup;

const README: &str = include_str!("../../README.md");

/// What stands between `<!-- NAME -->` and `<!-- /NAME -->`.
fn section(name: &str) -> &'static str {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = README.find(&open).unwrap_or_else(|| panic!("the README has no mark {open}")) + open.len();
    let length = README[from..].find(&close).unwrap_or_else(|| panic!("the README has no mark {close}"));
    README[from..from + length].trim_matches('\n')
}

fn assert_stands(name: &str, head: &str, rows: impl Iterator<Item = String>) {
    let columns = head.matches('|').count() - 1;
    let rule = format!("|{}", "---|".repeat(columns));
    let table = [head.to_owned(), rule].into_iter().chain(rows).collect::<Vec<_>>().join("\n");
    assert!(section(name) == table, "between the marks `{name}` of README.md must stand:\n\n{table}\n");
}

fn key(doc: &KeyDoc) -> String {
    let default = match doc.default {
        KeyDefault::Required => "required".to_owned(),
        KeyDefault::Value(value) => format!("`{value}`"),
        KeyDefault::Otherwise(words) => words.to_owned(),
    };
    let driver = doc.driver.map_or_else(|| "any".to_owned(), |driver| driver.to_string());
    format!("| `{}` | {driver} | {} | {default} | {} |", doc.path, doc.kind, doc.meaning)
        .replace("||", "\\|\\|")
}

#[test]
fn the_readme_tells_every_key() {
    assert_stands(
        "keys",
        "| key | driver | value | default | meaning |",
        config::reference().iter().map(key),
    );
}

#[test]
fn the_readme_tells_every_refusal() {
    let rows = refusal::all().iter().map(|code| {
        let row = code.row();
        format!("| `{}` | {} | {} | {} |", row.code, row.status.as_u16(), row.detail, row.hint)
    });
    assert_stands("refusals", "| code | status | what the user is told | what the operator can do |", rows);
}

#[test]
fn the_readme_tells_every_cause() {
    let rows = CauseCode::ALL.iter().map(|code| {
        let CauseWords { name, detail, hint } = code.words();
        format!("| `{name}` | {detail} | {hint} |")
    });
    assert_stands("causes", "| cause | what the user is told | what the operator can do |", rows);
}

/// The names of the labels of a value, but for the `le` of buckets.
fn labels(line: &str) -> String {
    let inside =
        line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(inside, _)| inside);
    let names = inside.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    names.filter(|name| *name != "le").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_readme_tells_every_metric() {
    let usher = Setup::new("[certificates.site]\nsource = \"self-signed\"\n").https().start().await;
    let text = usher.admin("/metrics").send().await.text();
    let mut metrics: Vec<(&str, &str, &str, String)> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                metrics.push((name, "", help, String::new()))
            }
            (Some("#"), Some("TYPE"), Some(_), Some(kind)) => {
                metrics.last_mut().expect("HELP comes before TYPE").1 = kind;
            }
            _ => metrics.last_mut().expect("HELP comes before values").3 = labels(line),
        }
    }
    metrics.sort_unstable();
    let rows =
        metrics.iter().map(|(name, kind, help, labels)| format!("| `{name}` | {kind} | {labels} | {help} |"));
    assert_stands("metrics", "| metric | type | labels | meaning |", rows);
}

/// These have no series where there is no cluster, so they are asked of what makes them.
#[test]
fn the_readme_tells_every_metric_of_the_driver_kubernetes() {
    let registry = prometheus::Registry::new();
    let _metrics = control::kubernetes::ClientMetrics::new(&registry).expect("a registry of its own");
    // What it tells of each template has no series before there is one.
    let _warm = control::kubernetes::WarmMetrics::new(&registry).expect("and of nobody else");
    let rows = registry.gather().into_iter().map(|family| {
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        let series = family.get_metric().first().expect("every series begins at 0");
        let mut labels: Vec<_> =
            series.get_label().iter().map(|label| format!("`{}`", label.name())).collect();
        labels.sort_unstable();
        format!("| `{}` | {kind} | {} | {} |", family.name(), labels.join(", "), family.help())
    });
    assert_stands("kubernetes metrics", "| metric | type | labels | meaning |", rows);
}

#[test]
fn the_readme_tells_every_audited_event() {
    let words =
        |words: Vec<&str>| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let rows = audit::ROWS.iter().map(|row| {
        let outcomes = row.outcomes.iter().map(|outcome| outcome.as_str()).collect();
        let reasons = row.reasons.iter().map(|reason| reason.as_str()).collect();
        let fields = row.always.iter().map(|field| field.name()).collect();
        let (outcomes, reasons, fields) = (words(outcomes), words(reasons), words(fields));
        format!("| `{}` | {} | {outcomes} | {fields} | {reasons} |", row.name, row.meaning)
    });
    assert_stands("audit events", "| event | meaning | outcomes | fields | reasons |", rows);
}

#[test]
fn the_readme_tells_every_field_of_the_trail() {
    let more = audit::Field::ALL.into_iter().map(|field| (field.name(), field.meaning()));
    let rows =
        audit::COMMON.into_iter().chain(more).map(|(name, meaning)| format!("| `{name}` | {meaning} |"));
    assert_stands("audit fields", "| field | says |", rows);
}

#[test]
fn the_readme_tells_every_reason_of_the_trail() {
    let row = |reason: audit::Reason| format!("| `{}` | {} |", reason.as_str(), reason.meaning());
    assert_stands("audit reasons", "| reason | says |", audit::Reason::ALL.into_iter().map(row));
}

#[test]
fn the_readme_shows_a_line_of_the_trail_as_it_can_be() {
    let line = section("audit example").trim_start_matches("```json").trim_end_matches("```").trim();
    let line: serde_json::Value = serde_json::from_str(line).expect("the example is JSON");
    let judge = jsonschema::draft202012::new(&audit::schema()).expect("the schema is one");
    judge.validate(&line).unwrap_or_else(|error| panic!("{error}"));
}

//! The alert rules that come with Usher: what they ask for is there, and what they ask of it is what they say.

use serde_json::Value;
use std::collections::BTreeMap;
use tests::{Certificate, DOMAIN, Setup, Usher};

const RULES: &str = include_str!("../../deploy/alerts.yaml");
const EXPIRY: &str = "usher_certificate_expiry_timestamp_seconds";
const NOT_BEFORE: &str = "usher_certificate_not_before_timestamp_seconds";

/// The expressions, by the names of their alerts.
fn rules() -> BTreeMap<String, String> {
    let rules: Value = serde_saphyr::from_str(RULES).expect("the rules are YAML");
    let groups = rules["groups"].as_array().expect("there are groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("a group has rules"));
    let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

/// The metrics that an expression asks for.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("usher_"))
}

#[tokio::test]
async fn alerts_ask_for_metrics_that_there_are() {
    let usher = Setup::new("").certificate(&Certificate::for_names(&[DOMAIN])).start().await;
    for (alert, expression) in rules() {
        assert!(metrics(&expression).count() > 0, "{alert}");
        for metric in metrics(&expression) {
            assert!(usher.metric(&format!("{metric}{{")).await.is_some(), "{alert}: there is no {metric}");
        }
    }
}

/// By hand, since there is no Prometheus: each expression is this one, which is evaluated here as it is defined there.
fn fires(expression: &str, (expiry, not_before): (f64, f64), now: f64) -> bool {
    let (asked, threshold) = expression.rsplit_once(" < ").expect("it compares");
    let meant = format!("min by (certificate) (({EXPIRY} - time()) / clamp_min({EXPIRY} - {NOT_BEFORE}, 1))");
    assert_eq!(asked, meant);
    (expiry - now) / (expiry - not_before).max(1.0) < threshold.parse().expect("a number")
}

async fn life(usher: &Usher) -> (f64, f64) {
    let of = async |metric: &str| {
        let sample = format!("{metric}{{certificate=\"files\"}}");
        usher.metric(&sample).await.unwrap_or_else(|| panic!("no {sample}"))
    };
    (of(EXPIRY).await, of(NOT_BEFORE).await)
}

#[tokio::test]
async fn a_certificate_alarms_at_a_fifth_and_at_a_tenth_of_its_life_left_and_when_there_is_none() {
    let usher = Setup::new("").certificate(&Certificate::by_an_authority(&[DOMAIN])).start().await;
    let (expiry, not_before) = life(&usher).await;
    assert_eq!(expiry - not_before, 90.0 * 86_400.0);
    let rules = rules();
    let [warning, critical] =
        ["UsherCertificateNotRenewed", "UsherCertificateExpires"].map(|name| &rules[name]);
    for (left, warns, is_critical) in [
        (0.9, false, false),
        (0.21, false, false),
        (0.19, true, false),
        (0.09, true, true),
        (-0.1, true, true),
    ] {
        let now = expiry - left * (expiry - not_before);
        assert_eq!(fires(warning, (expiry, not_before), now), warns, "{left} left");
        assert_eq!(fires(critical, (expiry, not_before), now), is_critical, "{left} left");
        assert!(fires(critical, (0.0, 0.0), now), "there is none");
    }
}

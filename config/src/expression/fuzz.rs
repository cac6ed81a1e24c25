//! Random well-formed expressions, for what could be a panic at run time.

use super::{Scope, compile};
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

/// Values at the edges of their types.
fn leaf() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "json",
        "json.a",
        "json.n",
        "json.t",
        "json.l",
        "json['a']",
        "json.l[0]",
        "json.missing",
        "now",
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2.5",
        "1e308",
        "-1e-308",
        "0u",
        "18446744073709551615u",
        "9223372036854775807",
        "-9223372036854775808",
        "''",
        "'a'",
        "'é\\U0001F600'",
        "'(['",
        "b'\\xff'",
        "[]",
        "{}",
        "[1, 'a', null]",
        "{'a': 1, 2: 'b'}",
        "duration('9223372036s')",
        "duration('-9223372036s')",
        "duration('1ns')",
        "timestamp('9999-12-31T23:59:59.999999999Z')",
        "timestamp('0001-01-01T00:00:00Z')",
        "timestamp(json.t)",
        "type(1)",
        "'9999-12-31T23:59:59Z'",
        "'-9223372036854775808'",
        "'1e999'",
        "'NaN'",
    ])
    .prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 12, 3, |inner| {
        let binary = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let unary = prop::sample::select(vec![
            "-({})",
            "!({})",
            "size({})",
            "int({})",
            "uint({})",
            "double({})",
            "string({})",
            "bytes({})",
            "bool({})",
            "dyn({})",
            "type({})",
            "duration({})",
            "timestamp({})",
            "({}).size()",
            "({}).getFullYear()",
            "({}).getDayOfYear()",
            "({}).getHours()",
            "({}).getMilliseconds()",
            "({}).a",
            "({})[0]",
            "({})['a']",
            "({}).all(x, x == 1)",
            "({}).map(x, x)",
            "({}).filter(x, x)",
            "({}).exists_one(x, x == x)",
            "has(({}).a)",
            "[{}]",
            "{'a': {}}",
            "{{}: 1}",
        ]);
        let method = prop::sample::select(vec![
            "({}).contains({})",
            "({}).startsWith({})",
            "({}).endsWith({})",
            "({}).matches({})",
            "({})[{}]",
            "({}).getHours({})",
            "({}).getDate({})",
            "[{}, {}]",
            "({}).map(x, x + ({}))",
            "({}).exists(x, x == ({}))",
        ]);
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("(({a}) {op} ({b}))")),
            (unary, inner.clone()).prop_map(|(form, a)| form.replacen("{}", &a, 1)),
            (method, inner.clone(), inner.clone())
                .prop_map(|(form, a, b)| form.replacen("{}", &a, 1).replacen("{}", &b, 1)),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(({a}) ? ({b}) : ({c}))")),
        ]
    })
}

#[test]
fn no_arithmetic_at_the_edges_panics() {
    let edges = [
        "0",
        "-1",
        "9223372036854775807",
        "(-9223372036854775807 - 1)",
        "18446744073709551615u",
        "1e308",
        "-0.0",
        "duration('9223372036s')",
        "duration('-9223372036s')",
        "duration('1ns')",
        "now",
        "timestamp('9999-12-31T23:59:59.999999999Z')",
        "timestamp('0001-01-01T00:00:00Z')",
    ];
    for (a, b) in edges.iter().flat_map(|a| edges.map(|b| (*a, b))) {
        let all = ["+", "-", "*", "/", "%", "<", "=="].map(|op| format!("(({a}) {op} ({b})) == 1"));
        // `||` goes on past an error, so that one expression tries all.
        let text = all.join(" || ");
        let compiled = compile::<bool>(&text, Scope::Probe);
        let compiled = compiled.unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        for now in [Duration::ZERO, Duration::from_secs(253_402_300_799)] {
            let _ = compiled.expression.evaluate_json(&serde_json::json!({}), UNIX_EPOCH + now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_evaluation_panics(text in expression(), number in any::<i64>(), word in any::<String>()) {
        let answer = serde_json::json!({
            "a": word, "n": number, "l": [number, word, null, { "a": true }], "t": "9999-12-31T23:59:59.999999999-23:59",
        });
        let text = format!("({text}) == 1");
        let now = UNIX_EPOCH + Duration::from_secs(number.unsigned_abs() >> 20);
        match compile::<bool>(&text, Scope::Probe) {
            Ok(compiled) => {
                let _ = compiled.expression.evaluate_json(&answer, now);
            }
            // A panic at load, when the sample is tried, would be told as this.
            Err(faults) => prop_assert!(faults.iter().all(|f| !f.problem.contains("parser failed")), "{text}: {faults:?}"),
        }
    }
}

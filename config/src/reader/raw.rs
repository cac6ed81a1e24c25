//! Values that are handed on as they are, to be judged by whoever knows what they mean.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A TOML value as JSON; `Err` with the place of a number that JSON does not have.
///
/// A date becomes the text that it is written as.
pub(super) fn json(value: &Spanned<DeValue<'_>>) -> Result<Value, usize> {
    let number = |number: Option<Number>| number.map(Value::Number).ok_or(value.span().start);
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::String(text.as_ref().to_owned())),
        DeValue::Boolean(truth) => Ok(Value::Bool(*truth)),
        DeValue::Datetime(date) => Ok(Value::String(date.to_string())),
        DeValue::Integer(written) => {
            number(i64::from_str_radix(written.as_str(), written.radix()).ok().map(Number::from))
        }
        DeValue::Float(written) => number(written.as_str().parse().ok().and_then(Number::from_f64)),
        DeValue::Array(items) => list(items),
        DeValue::Table(entries) => table(entries),
    }
}

fn list(items: &DeArray<'_>) -> Result<Value, usize> {
    items.iter().map(json).collect::<Result<_, _>>().map(Value::Array)
}

fn table(entries: &DeTable<'_>) -> Result<Value, usize> {
    let entries = entries.iter().map(|(key, value)| Ok((key.get_ref().clone().into_owned(), json(value)?)));
    entries.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_becomes_the_json_that_it_looks_like() {
        let read = |text: &str| json(&DeValue::parse(text).expect("the test's own TOML"));
        for (text, expected) in [
            ("'a'", r#""a""#),
            ("0x10", "16"),
            ("1_000", "1000"),
            ("1.5", "1.5"),
            ("[true, {a = 1}]", r#"[true,{"a":1}]"#),
            ("1979-05-27", r#""1979-05-27""#),
        ] {
            assert_eq!(read(text).map(|json| json.to_string()), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(read("[1, inf]"), Err(4));
        assert_eq!(read("{a = 99999999999999999999}"), Err(5));
    }
}

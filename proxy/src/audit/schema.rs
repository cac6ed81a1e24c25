//! The JSON Schema (2020-12) of a line, made from the table of events.

use super::field::{COMMON, SCHEMA};
use super::{By, Field, Outcome, ROWS, Reason, Row};
use serde_json::{Map, Value, json};

/// The schema. `deploy/audit.schema.json` has it as a file.
pub fn schema() -> Value {
    let mut properties = Map::new();
    for (name, meaning) in COMMON {
        properties.insert(name.to_owned(), common(name, meaning));
    }
    for field in Field::ALL {
        properties.insert(field.name().to_owned(), text(field));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of Usher's audit trail",
        "type": "object",
        "required": ["time", "schema", "event", "outcome", "by"],
        "additionalProperties": false,
        "properties": properties,
        "if": { "properties": { "outcome": { "enum": ["refused", "failed"] } } },
        "then": { "required": ["reason"] },
        "allOf": ROWS.iter().map(of_event).collect::<Vec<_>>(),
    })
}

fn common(name: &str, meaning: &str) -> Value {
    let outcomes = [Outcome::Done, Outcome::Refused, Outcome::Failed];
    match name {
        "time" => json!({
            "description": meaning, "type": "string", "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
        }),
        "schema" => json!({ "description": meaning, "const": SCHEMA }),
        "event" => {
            json!({ "description": meaning, "enum": ROWS.iter().map(|row| row.name).collect::<Vec<_>>() })
        }
        "outcome" => json!({ "description": meaning, "enum": outcomes.map(Outcome::as_str) }),
        "by" => json!({ "description": meaning, "enum": By::ALL.map(By::as_str) }),
        _ => json!({ "description": meaning, "enum": Reason::ALL.map(Reason::as_str).to_vec() }),
    }
}

fn text(field: Field) -> Value {
    let meaning = field.meaning();
    match field {
        Field::Session => json!({ "description": meaning, "type": "string", "pattern": "^[0-9a-f]{16}$" }),
        // Characters, of which none has less than one of the 256 bytes.
        _ => json!({ "description": meaning, "type": "string", "maxLength": 256 }),
    }
}

fn of_event(row: &Row) -> Value {
    let names = |fields: &[Field]| fields.iter().map(|field| field.name()).collect::<Vec<_>>();
    let known: Vec<_> = row.always.iter().chain(row.sometimes).collect();
    let mut properties = Map::new();
    for field in Field::ALL.iter().filter(|field| !known.contains(field)) {
        properties.insert(field.name().to_owned(), json!(false));
    }
    let outcomes = row.outcomes.iter().map(|outcome| outcome.as_str());
    properties.insert("outcome".to_owned(), json!({ "enum": outcomes.collect::<Vec<_>>() }));
    let reasons: Vec<_> = row.reasons.iter().map(|reason| reason.as_str()).collect();
    let reason = if reasons.is_empty() { json!(false) } else { json!({ "enum": reasons }) };
    properties.insert("reason".to_owned(), reason);
    json!({
        "if": { "properties": { "event": { "const": row.name } } },
        "then": {
            "description": row.meaning,
            "properties": properties,
            "if": { "properties": { "outcome": { "const": "done" } } },
            "then": { "required": names(row.always) },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../../deploy/audit.schema.json");

    #[test]
    fn the_file_has_the_schema() {
        let made = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        assert!(FILE == made, "deploy/audit.schema.json must be:\n{made}");
    }
}

//! What an expression can name: its variables and their fields, its functions, its types.

use super::{RequestFacts, Subject, bound};
use cel::objects::{Key, Map};
use cel::{Context, Env, Value};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Which variables an expression has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `user`, `claims`, `request`: before it is known which groups somebody is in.
    Claims,
    /// `user`, `claims`, `groups`, `request`.
    Person,
    /// `user`, `claims`, `groups`: what is asked of somebody now and then, by no request in particular.
    Tier,
    /// As [`Scope::Tier`], with `user.tier`.
    Limit,
    /// `json`, `now`.
    Probe,
}

impl Scope {
    /// The variables, each with its fields where they are fixed.
    pub(crate) fn variables(self) -> &'static [(&'static str, &'static [&'static str])] {
        const USER: (&str, &[&str]) = ("user", &["issuer", "subject", "name"]);
        const TIERED: (&str, &[&str]) = ("user", &["issuer", "subject", "name", "tier"]);
        const REQUEST: (&str, &[&str]) = ("request", &["host", "method", "path", "address"]);
        match self {
            Self::Claims => &[USER, ("claims", &[]), REQUEST],
            Self::Person => &[USER, ("claims", &[]), ("groups", &[]), REQUEST],
            Self::Tier => &[USER, ("claims", &[]), ("groups", &[])],
            Self::Limit => &[TIERED, ("claims", &[]), ("groups", &[])],
            Self::Probe => &[("json", &[]), ("now", &[])],
        }
    }

    /// A made-up world in which an expression is tried at load: no claims, no groups, an empty answer.
    pub(crate) fn sample(self) -> Context<'static, 'static> {
        let text = str::to_owned;
        let alice = Subject {
            issuer: text("https://issuer.example.org"),
            subject: text("4711"),
            name: text("alice"),
            ..Subject::default()
        };
        match self {
            Self::Claims | Self::Person => person(
                &alice,
                &RequestFacts {
                    host: text("alice.lab.example.org"),
                    method: text("GET"),
                    path: text("/"),
                    address: text("192.0.2.1"),
                },
            ),
            Self::Tier => being(&alice, None),
            Self::Limit => being(&alice, Some("")),
            Self::Probe => probe(&serde_json::json!({}), UNIX_EPOCH),
        }
    }
}

/// The functions that an expression may call: CEL's standard library, without its optional values.
pub(crate) const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// The functions that are unrolled while an expression is compiled.
pub(crate) const MACROS: &[&str] = &["all", "exists", "exists_one", "filter", "has", "map"];

/// The types that an expression may name, to compare with `type(x)`.
pub(crate) const TYPES: &[&str] =
    &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// CEL's standard library; without `a.?b`, whose rules for errors differ from the rest.
pub(crate) fn env() -> Arc<Env> {
    static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));
    Arc::clone(&ENV)
}

/// How much there is to go through, for [`bound`]; none if the claims are nested too deeply.
pub(crate) fn person_size(subject: &Subject) -> Option<usize> {
    let claims = subject.claims.iter().map(|(key, value)| Some(bound::text_size(key) + bound::size(value)?));
    let groups = subject.groups.iter().map(|group| Some(bound::text_size(group)));
    claims.chain(groups).try_fold(1, |sum, size| Some(sum + size?))
}

/// The world of [`Scope::Person`].
pub(crate) fn person(subject: &Subject, request: &RequestFacts) -> Context<'static, 'static> {
    let mut context = being(subject, None);
    let facts = [
        ("host", &*request.host),
        ("method", &*request.method),
        ("path", &*request.path),
        ("address", &*request.address),
    ];
    context.add_variable_from_value("request", texts(&facts));
    context
}

/// The world of [`Scope::Limit`]; without a tier that of [`Scope::Tier`].
pub(crate) fn being(subject: &Subject, tier: Option<&str>) -> Context<'static, 'static> {
    let mut context = Context::with_env(env());
    let mut user =
        vec![("issuer", &*subject.issuer), ("subject", &*subject.subject), ("name", &*subject.name)];
    user.extend(tier.map(|tier| ("tier", tier)));
    context.add_variable_from_value("user", texts(&user));
    context.add_variable_from_value("claims", object(&subject.claims));
    context.add_variable_from_value("groups", subject.groups.clone());
    context
}

/// The world of [`Scope::Probe`].
pub(crate) fn probe(json: &serde_json::Value, now: SystemTime) -> Context<'static, 'static> {
    let mut context = Context::with_env(env());
    context.add_variable_from_value("json", value(json));
    context.add_variable_from_value("now", Value::Timestamp(timestamp(now).fixed_offset()));
    context
}

/// A clock beyond what CEL's timestamps hold counts as their beginning.
fn timestamp(now: SystemTime) -> DateTime<Utc> {
    now.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| {
            DateTime::from_timestamp(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos())
        })
        .unwrap_or_default()
}

fn texts(fields: &[(&str, &str)]) -> Value {
    let fields = fields.iter().map(|(key, text)| (Key::from(*key), Value::from(*text)));
    Value::Map(Map { map: Arc::new(fields.collect()) })
}

fn object(fields: &serde_json::Map<String, serde_json::Value>) -> Value {
    let fields = fields.iter().map(|(key, field)| (Key::from(key.as_str()), value(field)));
    Value::Map(Map { map: Arc::new(fields.collect::<HashMap<_, _>>()) })
}

/// JSON as CEL sees it: whole numbers are ints, as a person writes them in an expression.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => {
            if let Some(int) = number.as_i64() {
                Value::Int(int)
            } else if let Some(uint) = number.as_u64() {
                Value::UInt(uint)
            } else {
                Value::Float(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(value).collect())),
        serde_json::Value::Object(fields) => object(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_functions_are_in_the_library_and_in_order() {
        assert!(FUNCTIONS.is_sorted() && MACROS.is_sorted() && TYPES.is_sorted());
        let context = Scope::Person.sample();
        let declared = |call: String| {
            let failed = env().compile(&call).expect("a call compiles").execute(&context).err();
            !matches!(failed, Some(cel::ExecutionError::UndeclaredReference(_)))
        };
        for name in FUNCTIONS {
            assert!(declared(format!("{name}('a')")) || declared(format!("'a'.{name}('a')")), "{name}");
        }
        for name in TYPES {
            let value = env().compile(&format!("type(1) == {name}")).unwrap().execute(&context);
            assert_eq!(value, Ok(Value::Bool(*name == "int")), "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_out_of_range_is_no_panic() {
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(5)), DateTime::UNIX_EPOCH);
        for seconds in [1, 1 << 40, 1 << 50, 1 << 62] {
            if let Some(now) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
                let _ = probe(&serde_json::Value::Null, now);
            }
        }
    }
}

//! Rules of the operator: CEL expressions, compiled once at load.

mod bound;
mod check;
mod compile;
#[cfg(test)]
mod fuzz;
mod judge;
mod scope;

pub(crate) use compile::compile;
pub(crate) use scope::Scope;

use bound::Bound;
use cel::{Context, ExecutionError, Program, Value};
use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

/// A compiled CEL expression whose value is a `T`.
///
/// Its variables and functions are known to exist, and for a sample user it gave a `T` or asked for something
/// that only a real user has, such as a claim. At run time an error, another type or a missing claim is an
/// [`EvalError`], and whoever asked denies.
///
/// An evaluation is bounded: the expression's length and depth are limited at load, and it is refused as an
/// error when its loops could take too many steps over what was given.
pub struct Expression<T> {
    text: String,
    program: Program,
    bound: Bound,
    value: PhantomData<fn() -> T>,
}

impl<T> Expression<T> {
    /// The expression as it stands in the configuration.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T> fmt::Debug for Expression<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

/// What the rules about a person see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subject {
    /// `user.issuer`.
    pub issuer: String,
    /// `user.subject`.
    pub subject: String,
    /// `user.name`: for display; what was typed in the development login.
    pub name: String,
    /// `claims`: the provider's claims, as they came.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// `groups`.
    pub groups: Vec<String>,
}

/// What the rules see of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// `request.host`, without the port.
    pub host: String,
    /// `request.method`.
    pub method: String,
    /// `request.path`, without the query.
    pub path: String,
    /// `request.address`: the client's address, without the port.
    pub address: String,
}

/// Why an expression gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{text}` failed: {reason}")]
pub struct EvalError {
    /// The expression.
    pub text: String,
    /// What CEL says, or which type came instead; never a value that the expression saw.
    pub reason: String,
}

/// A type that an expression can have: bool, string, int or a list of strings. Nobody else can add one.
pub trait Answer: sealed::Answer {}

impl Answer for bool {}
impl Answer for String {}
impl Answer for i64 {}
impl Answer for Vec<String> {}

impl<T: Answer> Expression<T> {
    /// Evaluates over `user`, `claims`, `groups` and `request`.
    ///
    /// # Errors
    /// A missing claim, a wrong type, a failing function, or too much to go through.
    pub fn evaluate(&self, subject: &Subject, request: &RequestFacts) -> Result<T, EvalError> {
        let size = scope::person_size(subject).ok_or_else(|| self.failed(TOO_DEEP))?;
        self.within_bound(size, bound::PERSON_STEPS)?;
        self.answer(&scope::person(subject, request))
    }

    /// Evaluates over `user`, `claims` and `groups`, for [`crate::Limits`] and [`crate::Access::tier`]: the rules of
    /// the former know `user.tier`.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate_being(&self, subject: &Subject, tier: Option<&str>) -> Result<T, EvalError> {
        let size = scope::person_size(subject).ok_or_else(|| self.failed(TOO_DEEP))?;
        self.within_bound(size, bound::PERSON_STEPS)?;
        self.answer(&scope::being(subject, tier))
    }

    /// Evaluates over `json` and `now`, for [`crate::BusyProbe`].
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate_json(&self, json: &serde_json::Value, now: SystemTime) -> Result<T, EvalError> {
        let size = bound::size(json).ok_or_else(|| self.failed(TOO_DEEP))?;
        self.within_bound(size, bound::PROBE_STEPS)?;
        self.answer(&scope::probe(json, now))
    }

    fn within_bound(&self, size: usize, most: u64) -> Result<(), EvalError> {
        if self.bound.steps(size) <= most { Ok(()) } else { Err(self.failed(TOO_LONG)) }
    }

    fn answer(&self, context: &Context) -> Result<T, EvalError> {
        let value = self.program.execute(context).map_err(|e| self.failed(&reason(&e)))?;
        let given = value.type_of();
        T::from_value(value).ok_or_else(|| self.failed(&format!("it gave {given}, not {}", T::NAME)))
    }

    fn failed(&self, reason: &str) -> EvalError {
        EvalError { text: self.text.clone(), reason: reason.to_owned() }
    }
}

const TOO_DEEP: &str = "the input is nested too deeply";
const TOO_LONG: &str = "its loops would take too many steps over this input";

/// What failed, without the values: they are a person's claims or a workspace's answer.
fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => {
            format!("no such key: {}", key.chars().take(64).collect::<String>())
        }
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
            format!("wrong types for the operator {operator}")
        }
        ExecutionError::UnexpectedType { got, want } => format!("a {got} where a {want} belongs"),
        ExecutionError::UndeclaredReference(name) => format!("unknown name {name}"),
        ExecutionError::FunctionError { function, .. } => format!("the function {function} failed"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::Overflow(operator, ..) => format!("overflow in {operator}"),
        ExecutionError::ValuesNotComparable(..) => "values of types that cannot be compared".to_owned(),
        _ => "a value of a type that does not fit".to_owned(),
    }
}

mod sealed {
    use super::Value;

    /// How a CEL value becomes the type; see [`super::Answer`].
    pub trait Answer: Sized {
        /// CEL's name of the type.
        const NAME: &'static str;
        /// `None` if the value is of another type.
        fn from_value(value: Value) -> Option<Self>;
    }

    impl Answer for bool {
        const NAME: &'static str = "bool";
        fn from_value(value: Value) -> Option<Self> {
            if let Value::Bool(value) = value { Some(value) } else { None }
        }
    }

    impl Answer for String {
        const NAME: &'static str = "string";
        fn from_value(value: Value) -> Option<Self> {
            if let Value::String(value) = value { Some(value.as_str().to_owned()) } else { None }
        }
    }

    impl Answer for i64 {
        const NAME: &'static str = "int";
        fn from_value(value: Value) -> Option<Self> {
            if let Value::Int(value) = value { Some(value) } else { None }
        }
    }

    impl Answer for Vec<String> {
        const NAME: &'static str = "list of strings";
        fn from_value(value: Value) -> Option<Self> {
            let Value::List(items) = value else { return None };
            items.iter().cloned().map(String::from_value).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::thread;
    use std::time::{Duration, UNIX_EPOCH};

    fn alice() -> Subject {
        let claims = json!({ "groups": ["astro"], "age": 30, "email": "alice@example.org", "manager": null });
        let serde_json::Value::Object(claims) = claims else { unreachable!() };
        Subject {
            issuer: "https://id.example.org".to_owned(),
            subject: "7".to_owned(),
            name: "alice".to_owned(),
            claims,
            groups: vec!["staff".to_owned(), "astro".to_owned()],
        }
    }

    fn request() -> RequestFacts {
        RequestFacts {
            host: "lab.example.org".to_owned(),
            method: "GET".to_owned(),
            path: "/tree".to_owned(),
            address: "192.0.2.7".to_owned(),
        }
    }

    fn expression<T: Answer + Send>(text: &str, scope: Scope) -> Expression<T> {
        compile(text, scope).unwrap_or_else(|faults| panic!("{text}: {faults:?}")).expression
    }

    fn evaluate<T: Answer + Send>(text: &str) -> Result<T, String> {
        expression(text, Scope::Person).evaluate(&alice(), &request()).map_err(|e| e.reason)
    }

    #[test]
    fn an_expression_may_be_shared_by_all_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Expression<bool>>();
        shared::<Expression<String>>();
        shared::<Expression<i64>>();
    }

    #[test]
    fn rules_see_the_user_their_claims_and_groups_and_the_request() {
        for rule in [
            "user.issuer == 'https://id.example.org' && user.subject == '7' && user.name == 'alice'",
            "'astro' in claims.groups && 'staff' in groups",
            "claims.age > 18 && claims.age == 30",
            "has(claims.email) && !has(claims.phone)",
            "claims.email.endsWith('@example.org')",
            "claims.manager == null",
            "groups.exists(g, g.startsWith('ast'))",
            "request.host == 'lab.example.org' && request.method == 'GET'",
            "request.path.matches('^/tr(ee)?$') && request.address != ''",
        ] {
            assert_eq!(evaluate::<bool>(rule), Ok(true), "{rule}");
        }
        assert_eq!(evaluate::<String>("'astro' in groups ? 'big' : 'small'"), Ok("big".to_owned()));
        assert_eq!(evaluate::<i64>("size(groups) + 1"), Ok(3));
    }

    #[test]
    fn a_missing_claim_or_another_type_is_an_error_that_shows_no_value() {
        for (rule, reason) in [
            ("claims.phone == '1'", "no such key: phone"),
            (
                "claims.manager.name == 'x'",
                "found no matching overload for '_._' applied to '(null_type, string)'",
            ),
            ("claims.email", "it gave string, not bool"),
            ("claims.email > 5", "found no matching overload for '_>_' applied to '(string, int)'"),
            ("int(claims.email) > 5", "the function int failed"),
            ("groups[9] == 'x'", "index out of bounds"),
            ("1 / (claims.age - 30) > 0", "division by zero"),
            ("claims.age + 9223372036854775807 > 0", "overflow in add"),
            ("user.name.matches(claims.groups[0] + '(')", "the function matches failed"),
        ] {
            let given = evaluate::<bool>(rule);
            let Err(given) = given else { panic!("{rule} gave {given:?}") };
            assert!(!given.contains("alice"), "{given}");
            assert_eq!(given, reason, "{rule}");
        }
    }

    #[test]
    fn an_error_names_the_expression() {
        let rule = expression::<bool>("claims.phone == '1'", Scope::Person);
        let error = rule.evaluate(&alice(), &request()).unwrap_err();
        assert_eq!(error.to_string(), "the expression `claims.phone == '1'` failed: no such key: phone");
    }

    #[test]
    fn a_limit_sees_the_tier_and_no_request() {
        let rule = expression::<i64>("user.tier == 'gold' && 'astro' in groups ? 9 : 1", Scope::Limit);
        let given = |tier| rule.evaluate_being(&alice(), Some(tier));
        assert_eq!((given("gold"), given("")), (Ok(9), Ok(1)));
        let tier = expression::<String>("claims.age > 18 ? 'gold' : ''", Scope::Tier);
        assert_eq!(tier.evaluate_being(&alice(), None), Ok("gold".to_owned()));
        for (rule, scope) in [
            ("request.path == '/' ? 1 : 2", Scope::Limit),
            ("request.path == '/' ? 1 : 2", Scope::Tier),
            ("user.tier == '' ? 1 : 2", Scope::Tier),
            ("user.tier == '' ? 1 : 2", Scope::Person),
        ] {
            assert!(compile::<i64>(rule, scope).is_err(), "{rule} {scope:?}");
        }
    }

    #[test]
    fn a_probe_sees_the_answer_and_the_time() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let kernels = json!([{ "execution_state": "idle", "last_activity": "2023-11-14T22:10:00.5Z" }]);
        for (rule, expected) in [
            ("json.exists(k, k.execution_state == 'busy')", Ok(false)),
            ("json.exists(k, now - timestamp(k.last_activity) < duration('5m'))", Ok(true)),
            ("json.exists(k, now - timestamp(k.last_activity) < duration('1m'))", Ok(false)),
            ("json.busy", Err(())),
        ] {
            let rule = expression::<bool>(rule, Scope::Probe);
            assert_eq!(rule.evaluate_json(&kernels, now).map_err(drop), expected, "{rule:?}");
        }
    }

    #[test]
    fn a_large_answer_cannot_hold_a_thread() {
        let many =
            |count: usize| json!((0..count).map(|i| json!({ "id": i, "state": "idle" })).collect::<Vec<_>>());
        let single = expression::<bool>("json.exists(k, k.state == 'busy')", Scope::Probe);
        let double = expression::<bool>("json.exists(k, json.exists(l, l.id == k))", Scope::Probe);
        assert_eq!(single.evaluate_json(&many(5_000), UNIX_EPOCH), Ok(false));
        assert_eq!(double.evaluate_json(&many(30), UNIX_EPOCH), Ok(false));
        assert_eq!(double.evaluate_json(&many(300), UNIX_EPOCH).unwrap_err().reason, TOO_LONG);
        let deep = (0..1_000).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(single.evaluate_json(&deep, UNIX_EPOCH).unwrap_err().reason, TOO_DEEP);
    }

    #[test]
    fn a_probe_of_a_thousand_kernels_is_answered() {
        let kernel = json!({
            "id": "1b671a64-40d5-491e-99b0-da01ff1f3341", "name": "python3", "connections": 1,
            "last_activity": "2026-11-14T22:10:00.512345Z", "execution_state": "idle",
        });
        let kernels = |count| serde_json::Value::Array(vec![kernel.clone(); count]);
        let single = expression::<bool>("json.exists(k, k.execution_state == 'busy')", Scope::Probe);
        let double = expression::<bool>("json.all(k, json.exists(l, l.id == k.id))", Scope::Probe);
        assert_eq!(single.evaluate_json(&kernels(1_000), UNIX_EPOCH), Ok(false));
        assert_eq!(double.evaluate_json(&kernels(20), UNIX_EPOCH), Ok(true));
    }

    #[test]
    fn two_hundred_groups_are_not_too_many() {
        let mut person = alice();
        person.groups = (0..200).map(|i| format!("department-{i}")).collect();
        person.claims.insert("groups".to_owned(), json!(person.groups));
        let rule = expression::<bool>("claims.groups.all(g, g in groups)", Scope::Person);
        assert_eq!(rule.evaluate(&person, &request()), Ok(true));
    }

    #[test]
    fn the_deepest_expression_fits_half_of_a_worker_threads_stack() {
        let shapes: [fn(usize) -> String; 9] = [
            |n| format!("1{} > 0", "+1".repeat(n)),
            |n| format!("{}true", "!(".repeat(n)) + &")".repeat(n),
            |n| format!("[{}1{}] == []", "[".repeat(n), "]".repeat(n)),
            |n| format!("{}false", "false ? true : ".repeat(n)),
            |n| format!("{}true{}", "[1].all(x, ".repeat(n), ")".repeat(n)),
            |n| format!("[1]{} == []", ".map(x, x)".repeat(n)),
            |n| format!("{}1{} == 1", "int(".repeat(n), ")".repeat(n)),
            |n| format!("true{}", " && (true".repeat(n)) + &")".repeat(n),
            |n| format!("{}1{} == {{}}", "{'a': ".repeat(n), "}".repeat(n)),
        ];
        for shape in shapes {
            // The deepest that is let in, found from above.
            let deepest = (1..90).rev().find_map(|n| compile::<bool>(&shape(n), Scope::Person).ok());
            let rule = deepest.expect("one level is not too deep").expression;
            let small = thread::Builder::new().stack_size(1 << 20);
            let thread = small.spawn(move || drop(rule.evaluate(&alice(), &request())));
            thread.expect("a thread starts").join().expect("it ends");
        }
    }
}

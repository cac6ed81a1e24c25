//! Rules of the operator: CEL expressions, compiled once at load.

use std::marker::PhantomData;
use std::time::SystemTime;

/// A compiled CEL expression whose value is a `T`.
///
/// Its variables and functions are known to exist and it gave a `T` for a sample user at load. At run time
/// an error, another type or a missing claim is an [`EvalError`], and whoever asked denies.
#[derive(Debug)]
pub struct Expression<T> {
    text: String,
    value: PhantomData<fn() -> T>,
}

impl<T> Expression<T> {
    /// The expression as it stands in the configuration.
    pub fn text(&self) -> &str {
        &self.text
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
    /// What CEL says, or which type came instead.
    pub reason: String,
}

impl<T> Expression<T> {
    /// Evaluates over `user`, `claims`, `groups` and `request`.
    pub fn evaluate(&self, _subject: &Subject, _request: &RequestFacts) -> Result<T, EvalError> {
        todo!()
    }
    /// Evaluates over `json` and `now`, for [`crate::BusyProbe`].
    pub fn evaluate_json(&self, _json: &serde_json::Value, _now: SystemTime) -> Result<T, EvalError> {
        todo!()
    }
}

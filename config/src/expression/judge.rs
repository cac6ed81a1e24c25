//! Trying an expression on a made-up user, for its type.
//!
//! The sample has no claims and no groups, and a probe's answer is empty, so an expression that needs them
//! fails there and yet may be right. What is refused is what no input would mend: a value of another type, an
//! operator or function that does not take the types that the variables always have, and a pattern that is no
//! regular expression. All else is left to run time, where an error denies.

use super::Answer;
use super::bound::children;
use super::compile::Fault;
use super::scope::Scope;
use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::{Context, ExecutionError, IdedExpr, Program, Value};

/// Whether a program can give a `T`.
pub(crate) fn judge<T: Answer>(program: &Program, scope: Scope) -> Result<(), Fault> {
    let sample = scope.sample();
    let at = |id, problem| {
        let offset = program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
        Fault { offset, problem, accepted: format!("an expression that gives {}", T::NAME) }
    };
    if let Some((id, problem)) = bad_pattern(program.expression(), &sample) {
        return Err(Fault { accepted: "a regular expression (RE2)".to_owned(), ..at(id, problem) });
    }
    let first = leftmost(program.expression()).id;
    match program.execute(&sample) {
        Ok(value) => {
            let given = value.type_of();
            T::from_value(value).map(drop).ok_or_else(|| at(first, format!("the expression gives {given}")))
        }
        Err(error) if scope != Scope::Probe && is_certain(&error) => {
            Err(at(first, format!("the expression cannot work: {}", super::reason(&error))))
        }
        Err(_) => Ok(()),
    }
}

/// Whether an error comes of types that are the same for every user.
fn is_certain(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UndeclaredReference(_)
            | ExecutionError::ValuesNotComparable(..)
    )
}

/// The first `matches` whose pattern is written out and cannot be compiled.
fn bad_pattern(expression: &IdedExpr, context: &Context) -> Option<(u64, String)> {
    if let Expr::Call(call) = &expression.expr
        && call.func_name == "matches"
        && let Some(pattern) = call.args.last()
        && matches!(pattern.expr, Expr::Literal(LiteralValue::String(_)))
    {
        // Asked of CEL itself, so that the answer is that of run time.
        let text = LiteralValue::String(String::new().into());
        let target = IdedExpr { id: expression.id, expr: Expr::Literal(text) };
        let args = vec![pattern.clone()];
        let call = CallExpr { func_name: call.func_name.clone(), target: Some(Box::new(target)), args };
        let call = IdedExpr { id: expression.id, expr: Expr::Call(call) };
        if let Err(ExecutionError::FunctionError { .. }) = Value::resolve(&call, context) {
            return Some((pattern.id, "the pattern is no regular expression".to_owned()));
        }
    }
    let parts = match &expression.expr {
        Expr::Comprehension(looped) => vec![&looped.iter_range, &looped.loop_cond, &looped.loop_step],
        _ => children(expression),
    };
    parts.into_iter().find_map(|part| bad_pattern(part, context))
}

/// The part that stands first in the text: a call's own place is its operator or parenthesis.
fn leftmost(expression: &IdedExpr) -> &IdedExpr {
    match &expression.expr {
        Expr::Comprehension(looped) => leftmost(&looped.iter_range),
        _ => children(expression).first().map_or(expression, |child| leftmost(child)),
    }
}

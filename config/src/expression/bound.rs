//! How many steps an evaluation can take at most, known before it begins.
//!
//! Who writes the expression is trusted; what it goes over is not: a workspace answers a probe, a provider
//! sends claims. CEL has no recursion, only loops over collections, so the steps grow as a power of the
//! input's size, and the power is the nesting of the loops: known from the expression alone.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

/// Most steps over a person's claims and groups: 200 groups in one loop within another fit.
pub(crate) const PERSON_STEPS: u64 = 10_000_000;

/// Most steps over the answer to a probe: one loop over a thousand kernels fits, and a loop within a loop over
/// twenty. It is less than a person's, because whoever answers chooses the size and is asked again and again.
pub(crate) const PROBE_STEPS: u64 = 4_000_000;

/// Deepest nesting of an input; the reader of JSON stops at 128 by itself.
const INPUT_DEPTH: usize = 64;

/// So many bytes of text count as one value.
const TEXT_STEP: usize = 32;

/// How the steps of an expression grow with the size of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Nodes of the expression: the steps for one turn of all its loops.
    nodes: u64,
    /// The power.
    degree: u32,
}

impl Bound {
    /// Of an expression over the variables of a scope.
    pub(crate) fn of(expression: &IdedExpr) -> Self {
        let mut walk = Walk { nodes: 0, locals: Vec::new() };
        // One pass over the input is always possible: comparing it, searching a text.
        let degree = walk.degree(expression, 0).max(1);
        Self { nodes: walk.nodes, degree }
    }

    /// The most steps for an input of this size; lists written out in the expression are looped over, too.
    pub(crate) fn steps(self, size: usize) -> u64 {
        let size = u64::try_from(size).unwrap_or(u64::MAX).max(self.nodes);
        self.nodes.saturating_mul(size.saturating_pow(self.degree))
    }
}

/// The size of a JSON value; none if it is nested too deeply.
pub(crate) fn size(json: &serde_json::Value) -> Option<usize> {
    size_at(json, INPUT_DEPTH)
}

/// The size of a text.
pub(crate) fn text_size(text: &str) -> usize {
    1 + text.len() / TEXT_STEP
}

fn size_at(json: &serde_json::Value, depth: usize) -> Option<usize> {
    let below = depth.checked_sub(1)?;
    match json {
        serde_json::Value::String(text) => Some(text_size(text)),
        serde_json::Value::Array(items) => {
            items.iter().try_fold(1, |sum, item| Some(sum + size_at(item, below)?))
        }
        serde_json::Value::Object(fields) => {
            fields.iter().try_fold(1, |sum, (key, item)| Some(sum + text_size(key) + size_at(item, below)?))
        }
        _ => Some(1),
    }
}

struct Walk<'a> {
    nodes: u64,
    locals: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// The power by which the steps of `expression` grow, standing within `loops` loops.
    fn degree(&mut self, expression: &'a IdedExpr, loops: u32) -> u32 {
        self.nodes += 1;
        match &expression.expr {
            // A whole variable within a loop may be gone through at each turn (`x in groups`).
            Expr::Ident(name) if loops > 0 && !self.locals.contains(&name.as_str()) => loops + 1,
            Expr::Comprehension(looped) => {
                let range = self.degree(&looped.iter_range, loops);
                let init = self.degree(&looped.accu_init, loops);
                let before = self.locals.len();
                self.locals.extend([looped.iter_var.as_str(), looped.accu_var.as_str()]);
                self.locals.extend(looped.iter_var2.as_deref());
                let turn = [&looped.loop_cond, &looped.loop_step, &looped.result]
                    .map(|part| self.degree(part, loops + 1).max(loops + 1));
                self.locals.truncate(before);
                turn.into_iter().fold(range.max(init), u32::max)
            }
            _ => children(expression).into_iter().map(|child| self.degree(child, loops)).max().unwrap_or(0),
        }
    }
}

/// The parts of an expression, save a loop's.
pub(crate) fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::scope::env;

    fn degree(text: &str) -> u32 {
        Bound::of(env().compile(text).unwrap().expression()).degree
    }

    #[test]
    fn the_power_is_the_nesting_of_the_loops() {
        for (text, expected) in [
            ("true", 1),
            ("'a' in groups", 1),
            ("json.exists(k, k.state == 'busy')", 1),
            ("json.exists(k, k.state == 'busy') || json.all(k, k.done)", 1),
            ("json.filter(k, k.x).map(k, k.y).size() > 1", 1),
            ("json.all(k, k in groups)", 2),
            ("json.exists(k, k.list.exists(l, l == k.name))", 2),
            ("json.exists(k, json.exists(l, l == k))", 2),
            ("json.exists(k, json.exists(l, l in json))", 3),
            ("json.all(a, a.all(b, b.all(c, c == b)))", 3),
        ] {
            assert_eq!(degree(text), expected, "{text}");
        }
    }

    #[test]
    fn the_size_counts_values_and_long_texts_and_refuses_depth() {
        assert_eq!(size(&serde_json::json!(null)), Some(1));
        assert_eq!(size(&serde_json::json!(["x".repeat(64), 1])), Some(1 + 3 + 1));
        assert_eq!(size(&serde_json::json!({ "a": [1, 2] })), Some(1 + 1 + 3));
        let nest = |depth| (0..depth).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        assert!(size(&nest(INPUT_DEPTH - 1)).is_some());
        assert_eq!(size(&nest(INPUT_DEPTH)), None);
    }
}

//! Whether an expression names only what there is: variables, their fields, functions, types; and how deep it is.

use super::bound::children;
use super::compile::Fault;
use super::scope::{FUNCTIONS, MACROS, Scope, TYPES};
use crate::near::{list, nearest};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, SelectExpr};
use cel::{IdedExpr, Program};

/// All names in a program that do not exist, and whether it is nested deeper than `deepest`.
pub(crate) fn check(program: &Program, scope: Scope, deepest: usize) -> Vec<Fault> {
    let mut check = Check { program, scope, deepest, locals: Vec::new(), faults: Vec::new() };
    check.expression(program.expression(), 1);
    check.faults.sort_by_key(|fault| fault.offset);
    check.faults
}

struct Check<'a> {
    program: &'a Program,
    scope: Scope,
    deepest: usize,
    locals: Vec<&'a str>,
    faults: Vec<Fault>,
}

impl<'a> Check<'a> {
    fn expression(&mut self, expression: &'a IdedExpr, depth: usize) {
        if depth > self.deepest {
            if self.faults.last().is_none_or(|fault| fault.problem != TOO_DEEP) {
                let accepted = format!("at most {} levels; split the rule or use a list", self.deepest);
                self.fault(expression.id, TOO_DEEP.to_owned(), accepted);
            }
            return;
        }
        match &expression.expr {
            Expr::Ident(name) => self.ident(expression.id, name),
            Expr::Call(call) => self.call(expression.id, call),
            Expr::Select(select) => self.select(expression.id, select),
            Expr::Struct(fields) => {
                let problem = format!("unknown type `{}`", fields.type_name);
                self.fault(expression.id, problem, "a map, such as `{'key': value}`".to_owned());
            }
            Expr::Comprehension(looped) => self.looped(looped, depth),
            _ => {}
        }
        for child in children(expression) {
            self.expression(child, depth + 1);
        }
    }

    fn looped(&mut self, looped: &'a ComprehensionExpr, depth: usize) {
        self.expression(&looped.iter_range, depth + 1);
        self.expression(&looped.accu_init, depth + 1);
        let before = self.locals.len();
        self.locals.extend([looped.iter_var.as_str(), looped.accu_var.as_str()]);
        self.locals.extend(looped.iter_var2.as_deref());
        for part in [&looped.loop_cond, &looped.loop_step, &looped.result] {
            self.expression(part, depth + 1);
        }
        self.locals.truncate(before);
    }

    fn ident(&mut self, id: u64, name: &str) {
        let variables: Vec<&str> = self.scope.variables().iter().map(|(name, _)| *name).collect();
        let known = [&self.locals[..], &variables, TYPES].concat();
        if !known.contains(&name) {
            let hint = suggestion(name, &known);
            self.fault(id, format!("unknown variable `{name}`{hint}"), list(&variables));
        }
    }

    fn select(&mut self, id: u64, select: &SelectExpr) {
        let Expr::Ident(variable) = &select.operand.expr else { return };
        if self.locals.contains(&variable.as_str()) {
            return;
        }
        let fields =
            self.scope.variables().iter().find(|(name, _)| name == variable).map(|(_, fields)| *fields);
        if let Some(fields) = fields
            && !fields.is_empty()
            && !fields.contains(&select.field.as_str())
        {
            let hint = suggestion(&select.field, fields);
            let problem = format!("`{variable}` has no `{}`{hint}", select.field);
            // The parser gives the dot's place.
            let dot = self.offset(id);
            let field = self.source().get(dot..).and_then(|rest| rest.find(&select.field)).unwrap_or(0);
            self.faults.push(Fault { offset: dot + field, problem, accepted: list(fields) });
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) {
        let name = call.func_name.as_str();
        // Operators are calls, too, of functions that no expression can spell.
        let is_operator = !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_operator || FUNCTIONS.contains(&name) {
            return;
        }
        let (problem, accepted) = if MACROS.contains(&name) {
            (format!("`{name}` does not take these arguments"), "`has(a.b)`, `list.exists(x, …)`".to_owned())
        } else {
            let hint = suggestion(name, &[FUNCTIONS, MACROS].concat());
            (format!("unknown function `{name}`{hint}"), list(&[FUNCTIONS, MACROS].concat()))
        };
        let parenthesis = self.offset(id);
        let offset =
            self.source().get(..parenthesis).and_then(|before| before.rfind(name)).unwrap_or(parenthesis);
        self.faults.push(Fault { offset, problem, accepted });
    }

    fn fault(&mut self, id: u64, problem: String, accepted: String) {
        self.faults.push(Fault { offset: self.offset(id), problem, accepted });
    }

    fn offset(&self, id: u64) -> usize {
        let start = self.program.source_info().offset_for(id).map_or(0, |(start, _)| start);
        usize::try_from(start).unwrap_or(0)
    }

    fn source(&self) -> &'a str {
        &self.program.source_info().source
    }
}

const TOO_DEEP: &str = "nested too deeply";

fn suggestion(given: &str, known: &[&str]) -> String {
    nearest(given, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

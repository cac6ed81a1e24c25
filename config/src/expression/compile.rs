//! From text to a checked expression.

use super::bound::{Bound, PROBE_STEPS};
use super::check::check;
use super::judge::judge;
use super::scope::{Scope, env};
use super::{Answer, Expression};
use cel::common::ast::{Expr, LiteralValue, operators};
use cel::{IdedExpr, ParseErrors};
use std::marker::PhantomData;
use std::thread;

/// Longest expression, in bytes: far more than a rule that a person can review.
const LENGTH_MAX: usize = 2_000;

/// Deepest nesting of what is evaluated.
///
/// Evaluation descends once per level, on the stack of a worker thread: some 30 KiB per level in an
/// unoptimised build (measured). A test holds the deepest to half of Rust's 2 MiB.
const DEPTH_MAX: usize = 24;

/// Stack for the parser, which descends some 20 KiB per level in an unoptimised build and knows no limit for
/// chains such as `1+1+1`: four times what the deepest texts of [`LENGTH_MAX`] needed (16 MiB, measured).
const PARSER_STACK: usize = 64 << 20;

/// A mistake in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// In bytes, from the beginning of the expression.
    pub(crate) offset: usize,
    /// What is wrong.
    pub(crate) problem: String,
    /// What would be accepted.
    pub(crate) accepted: String,
}

/// An expression and what the cross checks want to know of it.
#[derive(Debug)]
pub(crate) struct Compiled<T> {
    /// The expression.
    pub(crate) expression: Expression<T>,
    /// The strings that it can only be, each with its offset, where they are written out.
    pub(crate) literals: Vec<(String, usize)>,
}

/// Compiles and checks an expression.
pub(crate) fn compile<T: Answer>(text: &str, scope: Scope) -> Result<Compiled<T>, Vec<Fault>> {
    let accepted = || format!("a CEL expression that gives {}", T::NAME);
    if text.len() > LENGTH_MAX {
        let problem = format!("the expression is longer than {LENGTH_MAX} bytes");
        return Err(vec![Fault { offset: 0, problem, accepted: accepted() }]);
    }
    on_a_large_stack(|| compile_here(text, scope, &accepted())).unwrap_or_else(|| {
        let problem = "the CEL parser failed at this expression".to_owned();
        Err(vec![Fault { offset: 0, problem, accepted: accepted() }])
    })
}

/// Runs in a thread of its own; none if it cannot be had or panicked.
fn on_a_large_stack<R: Send>(run: impl FnOnce() -> R + Send) -> Option<R> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("cel-parser".to_owned()).stack_size(PARSER_STACK);
        thread.spawn_scoped(scope, run).ok()?.join().ok()
    })
}

fn compile_here<T: Answer>(text: &str, scope: Scope, accepted: &str) -> Result<Compiled<T>, Vec<Fault>> {
    let program = env().compile(text).map_err(|errors| vec![syntax(text, &errors, accepted)])?;
    let faults = check(&program, scope, DEPTH_MAX);
    if !faults.is_empty() {
        return Err(faults);
    }
    let bound = Bound::of(program.expression());
    if bound.steps(0) > PROBE_STEPS {
        let problem = "loops within loops take too many steps".to_owned();
        let accepted = "an expression with fewer loops within each other".to_owned();
        return Err(vec![Fault { offset: 0, problem, accepted }]);
    }
    judge::<T>(&program, scope).map_err(|fault| vec![fault])?;
    let literals = literals(program.expression())
        .into_iter()
        .map(|(text, id)| (text, program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize)))
        .collect();
    let expression = Expression { text: text.to_owned(), program, bound, value: PhantomData };
    Ok(Compiled { expression, literals })
}

/// The first syntax error: the others are mostly its echoes.
fn syntax(text: &str, errors: &ParseErrors, accepted: &str) -> Fault {
    const PREFIX: &str = "Syntax error: ";
    let first = errors.errors.iter().find(|e| e.msg.starts_with(PREFIX)).or(errors.errors.first());
    let (message, position) = first.map_or(("", (1, 1)), |e| (e.msg.as_str(), e.pos));
    let message = message.strip_prefix(PREFIX).unwrap_or(message);
    let (what, expected) = message.split_once(" expecting ").unwrap_or((message, ""));
    let expected: String = expected.chars().take(120).collect();
    let accepted =
        if expected.is_empty() { accepted.to_owned() } else { format!("{accepted}; here: {expected}") };
    let what: String = what.chars().take(120).collect();
    Fault { offset: offset(text, position), problem: format!("no CEL expression: {what}"), accepted }
}

/// The byte at a line and column, both from 1, columns in characters.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
    let Some(content) = text.split_inclusive('\n').nth(line) else { return text.len() };
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    start + content.char_indices().nth(column).map_or(content.len(), |(at, _)| at)
}

/// The strings written out as results: `'a'`, or `'a'` and `'b'` in `x ? 'a' : 'b'`.
fn literals(expression: &IdedExpr) -> Vec<(String, u64)> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => vec![(text.inner().to_owned(), expression.id)],
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            call.args.iter().skip(1).flat_map(literals).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault<T: Answer + Send>(text: &str, scope: Scope) -> (usize, String) {
        let faults = compile::<T>(text, scope).err().unwrap_or_else(|| panic!("{text} compiled"));
        (faults[0].offset, faults[0].problem.clone())
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, offset, problem) in [
            ("", 0, "no CEL expression: mismatched input '<EOF>'"),
            ("user.name ==", 12, "no CEL expression: mismatched input '<EOF>'"),
            ("'é' == 'è' && ) ", 16, "no CEL expression: mismatched input ')'"),
            ("true &&\n\n  && true", 11, "no CEL expression: extraneous input '&&'"),
            ("true && usr.name == 'a'", 8, "unknown variable `usr`; did you mean `user`?"),
            ("'é' == user.nam", 13, "`user` has no `nam`; did you mean `name`?"),
            ("has(user.email)", 9, "`user` has no `email`"),
            ("request.query == ''", 8, "`request` has no `query`"),
            ("json.x", 0, "unknown variable `json`"),
            ("true || startWith('a')", 8, "unknown function `startWith`; did you mean `startsWith`?"),
            ("user.name.lower() == 'a'", 10, "unknown function `lower`"),
            ("groups.exists(g)", 7, "`exists` does not take these arguments"),
            ("groups.exists(g, h == g)", 17, "unknown variable `h`"),
            ("optional.none() == 1", 0, "unknown variable `optional`"),
            ("Person{name: 'a'} == 1", 6, "unknown type `Person`"),
            ("user.name", 0, "the expression gives string"),
            ("1 + 'a' == 2", 0, "the expression cannot work: wrong types for the operator add"),
            ("user.name > 5", 0, "the expression cannot work: found no matching overload"),
            ("has(claims.x) && user.name.matches('(')", 35, "the pattern is no regular expression"),
            ("groups.exists(g, g.matches('['))", 27, "the pattern is no regular expression"),
        ] {
            let given = fault::<bool>(text, Scope::Person);
            assert!(given.1.starts_with(problem), "{text}: {given:?}");
            assert_eq!(given.0, offset, "{text}: {given:?}");
        }
    }

    #[test]
    fn all_unknown_names_are_told_at_once() {
        let faults = compile::<bool>("usr.name == 'a' || group == 'b'", Scope::Person).err().unwrap();
        assert_eq!(faults.iter().map(|f| f.offset).collect::<Vec<_>>(), [0, 19]);
    }

    #[test]
    fn what_a_sample_user_lacks_is_no_mistake() {
        for text in [
            "claims.admin",
            "'a' in claims.groups",
            "groups[0] == 'a'",
            "int(user.name) > 5",
            "claims.a.b > 5",
        ] {
            assert!(compile::<bool>(text, Scope::Person).is_ok(), "{text}");
        }
        for text in
            ["json.busy", "json[0].x > 1", "json.exists(k, k.x)", "json > 5", "now > timestamp(json.at)"]
        {
            assert!(compile::<bool>(text, Scope::Probe).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_type_other_than_the_wanted_one_is_refused() {
        assert_eq!(fault::<i64>("'2'", Scope::Person), (0, "the expression gives string".to_owned()));
        assert_eq!(fault::<String>("true", Scope::Person), (0, "the expression gives bool".to_owned()));
        assert_eq!(fault::<bool>("json", Scope::Probe), (0, "the expression gives map".to_owned()));
    }

    #[test]
    fn written_out_results_are_found_with_their_places() {
        let literals = |text: &str| compile::<String>(text, Scope::Person).ok().map(|c| c.literals);
        assert_eq!(literals("'demo'"), Some(vec![("demo".to_owned(), 0)]));
        let both = vec![("big".to_owned(), 16), ("small".to_owned(), 24)];
        assert_eq!(literals("'a' in groups ? 'big' : 'small'"), Some(both));
        assert_eq!(literals("user.name"), Some(vec![]));
    }

    #[test]
    fn long_and_deep_expressions_are_refused() {
        let long = format!("'{}' == ''", "x".repeat(LENGTH_MAX));
        assert!(fault::<bool>(&long, Scope::Person).1.contains("longer than"));
        for deep in [
            format!("1{} > 0", "+1".repeat(990)),
            format!("a{}", "[1]".repeat(660)),
            format!("{}1{}", "(".repeat(990), ")".repeat(990)),
            format!("{}1", "!(".repeat(999)),
            format!("{}1", "[".repeat(1_999)),
            format!("claims{}", ".a()".repeat(490)),
            format!("claims{}", ".a".repeat(990)),
            format!("{}true", "true?true:".repeat(199)),
            // Shallow enough, and 40 to the power of 6 turns.
            (0..6).fold("true".to_owned(), |inner, _| format!("[{}1].all(x, {inner})", "1,".repeat(39))),
        ] {
            assert!(compile::<bool>(&deep, Scope::Person).is_err(), "{deep}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_text_makes_the_compiler_panic(text in any::<String>()) {
            never_panics(&text);
        }

        #[test]
        fn no_sequence_of_cel_tokens_makes_the_compiler_panic(tokens in prop::collection::vec(token(), 0..30)) {
            never_panics(&tokens.join(" "));
            never_panics(&tokens.concat());
        }
    }

    /// A panic within the parser would be caught, and told as this fault.
    fn never_panics(text: &str) {
        let faults = compile::<bool>(text, Scope::Person).err().unwrap_or_default();
        assert!(faults.iter().all(|f| !f.problem.contains("parser failed")), "{text}");
        assert!(faults.iter().all(|f| f.offset <= text.len()), "{text}: {faults:?}");
    }

    fn token() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "user",
            ".",
            "name",
            "claims",
            "groups",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "?",
            "+",
            "-",
            "*",
            "/",
            "%",
            "!",
            "==",
            "<",
            "in",
            "&&",
            "||",
            "'a'",
            "\"b",
            "b'",
            "r'\\'",
            "'\\u00e9'",
            "1",
            "1u",
            "0x",
            "1e99",
            "9223372036854775808",
            "null",
            "true",
            "has",
            "exists",
            "map",
            "x",
            "all",
            "matches",
            "size",
            "`",
            "\\",
            "\n",
            "//",
            "é",
            "@",
            ".?",
        ])
    }
}

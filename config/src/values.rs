//! Texts of a template that may differ from user to user.

mod kind;

pub(crate) use kind::Kind;

use crate::expression::{Expression, RequestFacts, Subject};
use crate::reader::Wrong;
use std::collections::BTreeMap;

/// A text of a template: the same for all, or made for each user.
#[derive(Debug)]
pub enum Text {
    /// As it is written.
    Plain(String),
    /// `{ expression = "…" }`: evaluated when a start is admitted; see [`Values`].
    Rule(Rule),
}

/// A text that is made for each user.
#[derive(Debug)]
pub struct Rule {
    /// Below the template: `resources.memory`.
    key: String,
    expression: Expression<String>,
    kind: Kind,
}

/// What the rules of one template gave for one user, by the key below the template: `resources.memory`.
///
/// They are part of what a workspace is started with: whoever starts it later uses these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<String, String>);

/// Why a rule of a template gave no value for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadValue {
    /// The key below the template: `resources.memory`.
    pub key: String,
    /// What is wrong; never what the expression saw.
    pub problem: String,
}

/// Longest value: all of a workspace's are written down beside it.
const VALUE_MAX: usize = 4 << 10;

impl Text {
    /// A rule under a key that must give a text of this kind.
    pub(crate) fn rule(key: String, expression: Expression<String>, kind: Kind) -> Self {
        Self::Rule(Rule { key, expression, kind })
    }

    /// The text, of the values if it is made for each user.
    ///
    /// # Errors
    /// The values have none for it: they were made of another template.
    pub fn given<'a>(&'a self, values: &'a Values) -> Result<&'a str, BadValue> {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Rule(rule) => values.0.get(&rule.key).map(String::as_str).ok_or_else(|| BadValue {
                key: rule.key.clone(),
                problem: "has no value for this user".to_owned(),
            }),
        }
    }
}

impl Rule {
    /// The key below the template: `resources.memory`.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn evaluate(&self, subject: &Subject, request: &RequestFacts) -> Result<String, BadValue> {
        let bad = |problem: String| BadValue { key: self.key.clone(), problem };
        let text = self.expression.evaluate(subject, request).map_err(|error| bad(error.to_string()))?;
        if text.len() > VALUE_MAX {
            return Err(bad(format!("what the expression gave is longer than {VALUE_MAX} bytes")));
        }
        let judged = self.kind.judge(&text);
        let told = |wrong: Wrong| bad(format!("what the expression gave {}", wrong.problem));
        judged.map_err(told).map(|()| text)
    }
}

impl Values {
    /// Evaluates all rules of a template for a user.
    ///
    /// # Errors
    /// The first rule that fails, or that gives what its key does not take.
    pub(crate) fn evaluate<'a>(
        texts: impl Iterator<Item = &'a Text>,
        subject: &Subject,
        request: &RequestFacts,
    ) -> Result<Self, BadValue> {
        let evaluated = rules(texts).map(|rule| Ok((rule.key.clone(), rule.evaluate(subject, request)?)));
        evaluated.collect::<Result<_, _>>().map(Self)
    }

    /// Values of the right kinds for all rules of a template.
    pub(crate) fn sample<'a>(texts: impl Iterator<Item = &'a Text>) -> Self {
        Self(rules(texts).map(|rule| (rule.key.clone(), rule.kind.sample().to_owned())).collect())
    }
}

fn rules<'a>(texts: impl Iterator<Item = &'a Text>) -> impl Iterator<Item = &'a Rule> {
    texts.filter_map(|text| if let Text::Rule(rule) = text { Some(rule) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{Scope, compile};

    fn rule(text: &str, kind: Kind) -> Text {
        Text::rule("it".to_owned(), compile(text, Scope::Person).unwrap().expression, kind)
    }

    fn evaluate(text: &str, kind: Kind) -> Result<Values, BadValue> {
        let (rule, plain) = (rule(text, kind), Text::Plain("as it is".to_owned()));
        let alice =
            Subject { name: "alice".to_owned(), groups: vec!["gpu".to_owned()], ..Subject::default() };
        Values::evaluate([&plain, &rule].into_iter(), &alice, &RequestFacts::default())
    }

    #[test]
    fn a_rule_gives_what_its_key_takes_or_nothing() {
        let given = |text, kind| evaluate(text, kind).map(|values| values.0["it"].clone());
        assert_eq!(given("'gpu' in groups ? '8Gi' : '2Gi'", Kind::Quantity).as_deref(), Ok("8Gi"));
        assert_eq!(given("'sa-' + user.name", Kind::Name).as_deref(), Ok("sa-alice"));
        for (text, kind, problem) in [
            ("user.name", Kind::Quantity, "it: what the expression gave is not a quantity"),
            ("user.name + '_'", Kind::Name, "it: what the expression gave is not a name of Kubernetes"),
            ("claims.team", Kind::Environment, "it: the expression `claims.team` failed: no such key: team"),
        ] {
            assert_eq!(given(text, kind).map_err(|bad| bad.to_string()), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_text_is_its_own_or_the_users() {
        let values = evaluate("user.name", Kind::Environment).unwrap();
        assert_eq!(values.0.len(), 1, "what is written down is only what differs");
        assert_eq!(Text::Plain("a".into()).given(&values), Ok("a"));
        let rule = rule("user.name", Kind::Environment);
        assert_eq!(rule.given(&values), Ok("alice"));
        assert!(rule.given(&Values::default()).is_err());
    }
}

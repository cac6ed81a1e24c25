//! One table of the file: hands out typed values by key, records what is wrong, and goes on.

use super::raw::json;
use super::value::Wrong;
use super::{Report, places};
use crate::expression::{Answer, Expression, Scope, compile};
use crate::near::{list, nearest};
use crate::places::{Places, written};
use crate::schema::{self, KeyDefault};
use crate::values::{Kind, Text};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table, present or not: one that is absent has all its defaults.
///
/// Its keys must stand in [`crate::schema`]; what is asked for is what is known, and what is in the file and
/// was not asked for is a finding.
pub(crate) struct Table<'a> {
    report: &'a Report<'a>,
    /// `templates.demo`; empty for the file.
    path: String,
    /// The same in the schema: `templates.NAME`.
    schema: String,
    entries: Option<&'a DeTable<'a>>,
    /// Where findings about the table stand.
    at: usize,
    /// Whether its values must not be shown.
    secret: bool,
    asked: Vec<&'static str>,
    /// Whether its other keys were read, too, whatever their names.
    rest: bool,
}

/// A value in the file.
pub(crate) struct Field<'a> {
    report: &'a Report<'a>,
    path: String,
    schema: String,
    value: &'a Spanned<DeValue<'a>>,
    /// Whether the value must not be shown.
    secret: bool,
}

/// An expression, and the results that are written out in it with their places.
pub(crate) struct Rule<T> {
    /// The expression.
    pub(crate) expression: Expression<T>,
    /// Each string that it can only be, with its place in the file.
    pub(crate) literals: Vec<(String, usize)>,
}

impl<'a> Table<'a> {
    /// The file itself.
    pub(crate) fn root(report: &'a Report<'a>, entries: &'a DeTable<'a>) -> Self {
        let (path, schema) = (String::new(), String::new());
        Self {
            report,
            path,
            schema,
            entries: Some(entries),
            at: 0,
            secret: false,
            asked: Vec::new(),
            rest: false,
        }
    }

    /// Reads all of the table; then reports the keys that `read` did not ask for.
    pub(crate) fn read<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let value = read(&mut self);
        self.asked.sort_unstable();
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if !self.rest && !self.asked.contains(&name) {
                self.report.add(
                    key.span().start,
                    &join(&self.path, name),
                    self.stray(name),
                    list(&self.asked),
                );
            }
        }
        value
    }

    /// What is wrong with a key that nobody asked for.
    fn stray(&self, name: &str) -> String {
        // A documented key that was not asked for is one of the other driver.
        if let Some(driver) = schema::owner(&join(&self.schema, name)) {
            return format!("belongs to the driver `{driver}`, which is not the one chosen");
        }
        let hint = nearest(name, &self.asked).map(|near| format!("; did you mean `{near}`?"));
        format!("unknown key{}", hint.unwrap_or_default())
    }

    /// The value of a key that is required or has a default; `None` after a finding.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        match self.field(key) {
            Some(field) => field.parse(parse),
            None => self.default(key, parse),
        }
    }

    /// The value of a key that may be absent: `Some(None)` without it, `None` after a finding.
    pub(crate) fn maybe<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<Option<T>> {
        match self.field(key) {
            Some(field) => field.parse(parse).map(Some),
            None => Some(None),
        }
    }

    /// The items of a list, or of a value that may stand alone for a list of one.
    pub(crate) fn items(&mut self, key: &'static str, alone: bool) -> Option<Vec<Field<'a>>> {
        match self.field(key) {
            Some(field) if alone && matches!(field.value.get_ref(), DeValue::String(_)) => Some(vec![field]),
            Some(field) => field.items(),
            // The only default that a list has.
            None => self.default(key, |_| Ok(Vec::new())),
        }
    }

    /// The items of a list that may be absent; with `alone`, a string stands for a list of it.
    pub(crate) fn maybe_items(&mut self, key: &'static str, alone: bool) -> Option<Option<Vec<Field<'a>>>> {
        if self.has(key) {
            return self.items(key, alone).map(Some);
        }
        self.asked.push(key);
        Some(None)
    }

    /// An expression that is required or has a default.
    pub(crate) fn rule<T: Answer + Send>(&mut self, key: &'static str, scope: Scope) -> Option<Rule<T>> {
        match self.field(key) {
            Some(field) => field.rule(scope),
            None => {
                let text = self.default(key, super::value::string)?;
                let Ok(compiled) = compile(&text, scope) else {
                    unreachable!("the defaults compile (tested)")
                };
                Some(Rule { expression: compiled.expression, literals: Vec::new() })
            }
        }
    }

    /// `expression`, for a text of a kind.
    fn text_rule(&mut self, kind: Kind) -> Option<Text> {
        let rule = self.rule::<String>("expression", Scope::Person)?;
        for (text, at) in &rule.literals {
            if let Err(wrong) = kind.judge(text) {
                self.fault_at(*at, "expression", format!("`{text}` {}", wrong.problem), wrong.accepted);
            }
        }
        // `templates.NAME.` is not part of the key: names of templates hold no dot.
        let key = self.path.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
        Some(Text::rule(key, rule.expression, kind))
    }

    /// A table whose keys all have defaults, or are missing at this table's place.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.field(key) {
            Some(field) => field.table()?.read(read),
            None => {
                let (path, schema) = (join(&self.path, key), join(&self.schema, key));
                let (report, at, secret) = (self.report, self.at, self.secret);
                Table { report, path, schema, entries: None, at, secret, asked: Vec::new(), rest: false }
                    .read(read)
            }
        }
    }

    /// A table that may be absent.
    pub(crate) fn maybe_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.field(key) {
            Some(field) => field.table()?.read(read).map(Some),
            None => Some(None),
        }
    }

    /// `[[key]]`: at least one table.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let accepted = format!("one table or more, each beginning with `[[{key}]]`");
        let Some(field) = self.field(key) else {
            self.report.add(self.at, &join(&self.path, key), "is missing", accepted);
            return None;
        };
        let DeValue::Array(items) = field.value.get_ref() else {
            self.report.add(field.at(), &field.path, "is not a list of tables", accepted);
            return None;
        };
        if items.is_empty() {
            self.report.add(field.at(), &field.path, "is empty", accepted);
        }
        // Items have the schema of the list itself: there is no further name between them.
        let read_all: Vec<Option<T>> = field
            .items_as(field.schema.clone())?
            .into_iter()
            .map(|item| item.table()?.read(&mut read))
            .collect();
        read_all.into_iter().collect::<Option<Vec<T>>>().filter(|tables| !tables.is_empty())
    }

    /// `[key.NAME]`: each entry by its name; names that do not parse are findings.
    pub(crate) fn named<K: Ord, T, E: ToString>(
        &mut self,
        key: &'static str,
        parse_name: impl Fn(&str) -> Result<K, E>,
        mut read: impl FnMut(Option<&K>, Field<'a>) -> Option<T>,
    ) -> Option<BTreeMap<K, T>> {
        let Some(field) = self.field(key) else { return Some(BTreeMap::new()) };
        field.table()?.others(parse_name, &mut read)
    }

    /// The keys that were not asked for, each an entry by its name.
    pub(crate) fn others<K: Ord, T, E: ToString>(
        &mut self,
        parse_name: impl Fn(&str) -> Result<K, E>,
        mut read: impl FnMut(Option<&K>, Field<'a>) -> Option<T>,
    ) -> Option<BTreeMap<K, T>> {
        self.rest = true;
        let entries = self.entries.into_iter().flatten();
        let read_all: Vec<Option<(K, T)>> = entries
            .filter(|(name, _)| !self.asked.contains(&&**name.get_ref()))
            .map(|(name, value)| {
                let path = join(&self.path, name.get_ref());
                let schema = join(&self.schema, "NAME");
                let (report, secret) = (self.report, self.secret);
                let parsed = parse_name(name.get_ref());
                if let Err(bad) = &parsed {
                    report.add(name.span().start, &path, bad.to_string(), "another name");
                }
                // What stands under a bad name is read, too, for its own mistakes.
                let parsed = parsed.ok();
                let value = read(parsed.as_ref(), Field { report, path, schema, value, secret });
                Some((parsed?, value?))
            })
            .collect();
        read_all.into_iter().collect()
    }

    /// Where a table's keys stand, and all below them.
    pub(crate) fn places(&self, key: &'static str) -> Places {
        let entry = self.entries.and_then(|entries| entries.get_key_value(key));
        let offsets =
            entry.map(|(name, value)| places::of(key, name.span().start, value)).unwrap_or_default();
        self.report.places(offsets)
    }

    /// The names of `[key.NAME]`, as they are written.
    pub(crate) fn names(&self, key: &str) -> Vec<&'a str> {
        match self.entries.and_then(|entries| entries.get(key)).map(Spanned::get_ref) {
            Some(DeValue::Table(entries)) => entries.keys().map(|name| &**name.get_ref()).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the file gives the key something else than an empty list.
    pub(crate) fn has_items(&self, key: &str) -> bool {
        let value = self.entries.and_then(|entries| entries.get(key)).map(Spanned::get_ref);
        value.is_some_and(|value| !matches!(value, DeValue::Array(items) if items.is_empty()))
    }

    /// Whether the file gives the key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Adds a finding about a key's value, or about the table where the key is absent.
    pub(crate) fn fault(&self, key: &str, problem: impl Into<String>, accepted: impl Into<String>) {
        let at =
            self.entries.and_then(|entries| entries.get(key)).map_or(self.at, |value| value.span().start);
        self.fault_at(at, key, problem, accepted);
    }

    /// Adds a finding about a key at a place in the file.
    pub(crate) fn fault_at(
        &self,
        at: usize,
        key: &str,
        problem: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        self.report.add(at, &join(&self.path, key), problem, accepted);
    }

    /// The value of a key, as it stands in the file.
    pub(crate) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.asked.push(key);
        let (path, schema) = (join(&self.path, key), join(&self.schema, key));
        debug_assert!(schema::knows(&schema), "{schema} is not documented");
        let value = self.entries?.get(key)?;
        Some(Field { report: self.report, path, schema, value, secret: self.secret })
    }

    fn default<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) -> Option<T> {
        let known = schema::keys(&join(&self.schema, key))
            .next()
            .expect("the reader asks for keys of the schema (tested)");
        let KeyDefault::Value(written) = known.default else {
            let accepted = format!("{}: {}", known.kind, known.meaning);
            self.report.add(self.at, &join(&self.path, key), "is missing", accepted);
            return None;
        };
        let value = DeValue::parse(written).expect("the defaults are TOML (tested)");
        Some(parse(value.get_ref()).expect("the defaults are accepted (tested)"))
    }
}

impl<'a> Field<'a> {
    /// Marks the value, and all within it, as one that must not be shown.
    pub(crate) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Its place in the file.
    pub(crate) fn at(&self) -> usize {
        self.span().start
    }

    /// Whether it is a table.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// Parses it; `None` after a finding.
    pub(crate) fn parse<T>(&self, parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) -> Option<T> {
        parse(self.value.get_ref()).map_err(|wrong| self.wrong(&wrong)).ok()
    }

    /// Adds a finding about it.
    pub(crate) fn fault(&self, problem: impl Into<String>, accepted: impl Into<String>) {
        self.report.add(self.at(), &self.path, problem, accepted);
    }

    /// Adds a finding about a byte within its text.
    pub(crate) fn fault_inside(
        &self,
        offset: usize,
        problem: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        self.report.add(self.report.inside(self.span(), offset), &self.path, problem, accepted);
    }

    /// The table that it is.
    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value.get_ref() else {
            self.wrong(&Wrong::new("is not a table", format!("a table: `[{}]`", self.path)));
            return None;
        };
        let (path, schema) = (self.path.clone(), self.schema.clone());
        let (report, at, secret) = (self.report, self.at(), self.secret);
        Some(Table {
            report,
            path,
            schema,
            entries: Some(entries),
            at,
            secret,
            asked: Vec::new(),
            rest: false,
        })
    }

    /// A text of a kind, or `{ expression = "…" }`, which gives one for each user.
    pub(crate) fn text(&self, kind: Kind) -> Option<Text> {
        if self.is_table() {
            // One entry of the schema tells of the expression of all of them.
            let field = Field { schema: schema::RULE.to_owned(), path: self.path.clone(), ..*self };
            return field.table()?.read(|table| table.text_rule(kind));
        }
        self.parse(|value| super::value::of_kind(value, kind)).map(Text::Plain)
    }

    /// The value as JSON, whatever it is.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        let number =
            |at| self.report.add(at, &self.path, "holds a number that is none in JSON", "a finite number");
        json(self.value).map_err(number).ok()
    }

    fn rule<T: Answer + Send>(&self, scope: Scope) -> Option<Rule<T>> {
        let text = self.parse(super::value::string)?;
        match compile::<T>(&text, scope) {
            Ok(compiled) => {
                let place = |offset| self.report.inside(self.span(), offset);
                let literals = compiled.literals.into_iter().map(|(text, offset)| (text, place(offset)));
                Some(Rule { expression: compiled.expression, literals: literals.collect() })
            }
            Err(faults) => {
                for fault in faults {
                    self.fault_inside(fault.offset, fault.problem, fault.accepted);
                }
                None
            }
        }
    }

    /// The items of the list that it is.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        self.items_as(join(&self.schema, "NAME"))
    }

    fn items_as(&self, schema: String) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong(&Wrong::new("is not a list", "a list in brackets, such as [\"a\", \"b\"]"));
            return None;
        };
        let item = |(index, value)| {
            let (path, schema) = (format!("{}[{index}]", self.path), schema.clone());
            Self { report: self.report, path, schema, value, secret: self.secret }
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    fn wrong(&self, wrong: &Wrong) {
        let given = match self.value.get_ref() {
            _ if self.secret => "the value (not shown)".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            _ => format!("`{}`", self.report.excerpt(self.span())),
        };
        self.fault(format!("{given} {}", wrong.problem), wrong.accepted.clone());
    }

    fn span(&self) -> Range<usize> {
        self.value.span()
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, written(key).as_str()) {
        ("", key) => key.to_owned(),
        (_, "") => path.to_owned(),
        (_, key) => format!("{path}.{key}"),
    }
}

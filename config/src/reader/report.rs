//! The findings of one reading.

use super::Source;
use crate::finding::Finding;
use crate::places::{KeyPath, Place, Places};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// Most findings that are kept: whoever has more has the wrong file.
const FINDINGS_MAX: usize = 1_000;

/// Collects what is wrong with one text.
pub(crate) struct Report<'a> {
    source: Source<'a>,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Report<'a> {
    /// An empty one.
    pub(crate) fn new(source: Source<'a>) -> Self {
        Self { source, findings: RefCell::default() }
    }

    /// Adds a finding at a byte of the text.
    pub(crate) fn add(
        &self,
        offset: usize,
        key: &str,
        problem: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < FINDINGS_MAX {
            findings.push(self.source.finding(offset, key, problem.into(), accepted.into()));
        }
    }

    /// A value as it is written, to be shown in a finding.
    pub(crate) fn excerpt(&self, span: Range<usize>) -> String {
        self.source.excerpt(span)
    }

    /// The places of keys whose names and values stand at these bytes.
    pub(crate) fn places(&self, keys: BTreeMap<KeyPath, (usize, usize)>) -> Places {
        let offsets = keys.values().flat_map(|(name, value)| [*name, *value]).collect();
        let positions = self.source.positions(&offsets);
        let place = |(name, value)| Place { name: positions[&name], value: positions[&value] };
        let keys = keys.into_iter().map(|(key, offsets)| (key, place(offsets))).collect();
        Places::new(self.source.file().to_owned(), keys)
    }

    /// See [`Source::inside`].
    pub(crate) fn inside(&self, span: Range<usize>, offset: usize) -> usize {
        self.source.inside(span, offset)
    }

    /// All findings, in the order of the file.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        findings
    }
}

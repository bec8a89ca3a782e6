//! Reads a TOML table key by key, and notes every mistake on the way instead of stopping at the first.

use std::cell::RefCell;

use toml::{Table, Value};

use super::Problem;

/// Longest value that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Where mistakes are noted.
pub(super) struct Problems {
    file: String,
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(super) fn new(file: String) -> Self {
        Self { file, found: RefCell::default() }
    }

    pub(super) fn note(&self, key: String, message: String) {
        self.found.borrow_mut().push(Problem { file: self.file.clone(), key, message });
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        self.found.into_inner()
    }
}

/// A table of the file. Every key that may stand in it is asked for, then [`Section::end`] refuses the
/// others. A method returns `None` if it has noted a mistake (or, where the key is optional, `Some(None)` if
/// the key is absent).
pub(super) struct Section<'a> {
    path: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: Table, problems: &'a Problems) -> Self {
        Self { path: String::new(), table, known: Vec::new(), problems }
    }

    /// Whether there is something at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The table at `key`; empty if it is absent, so that what it must hold is asked for.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.path_of(key);
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problems.note(path.clone(), is_needed(&other, &format!("a section [{path}] is needed")));
                Table::new()
            }
        };
        Section { path, table, known: Vec::new(), problems: self.problems }
    }

    /// The tables at `key`, each a section of its own; none if it is absent.
    pub(super) fn sections(&mut self, key: &'static str, needed: &str) -> Vec<Section<'a>> {
        let values = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.problems.note(self.path_of(key), is_needed(&other, needed));
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (place, value) in values.into_iter().enumerate() {
            let path = format!("{}[{place}]", self.path_of(key));
            match value {
                Value::Table(table) => {
                    sections.push(Section { path, table, known: Vec::new(), problems: self.problems });
                }
                other => self.problems.note(path, is_needed(&other, needed)),
            }
        }
        sections
    }

    /// The value at `key`, which must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        needed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        match self.optional(key, needed, parse)? {
            Some(value) => Some(value),
            None => {
                self.problems.note(self.path_of(key), format!("is missing; {needed}"));
                None
            }
        }
    }

    /// The text at `key`, as `parse` understands it.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        needed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.take(key) {
            None => Some(None),
            Some(value) => self.parsed(self.path_of(key), &value, needed, parse).map(Some),
        }
    }

    /// The texts of the array at `key`; none if it is absent.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        needed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let values = match self.take(key) {
            None => return Some(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.problems
                    .note(self.path_of(key), is_needed(&other, &format!("a list is needed: {needed}")));
                return None;
            }
        };
        let path = self.path_of(key);
        let parsed = |(place, value)| self.parsed(format!("{path}[{place}]"), value, needed, &parse);
        // Collected before it is judged, so that every entry's mistake is noted.
        let entries: Vec<Option<T>> = values.iter().enumerate().map(parsed).collect();
        entries.into_iter().collect()
    }

    /// The whole number at `key`, within a range.
    pub(super) fn number(&mut self, key: &'static str, min: u64, max: u64) -> Option<Option<u64>> {
        let needed = format!("a whole number from {min} to {max} is needed");
        match self.take(key) {
            None => Some(None),
            Some(Value::Integer(number)) if u64::try_from(number).is_ok_and(|n| (min..=max).contains(&n)) => {
                Some(u64::try_from(number).ok())
            }
            Some(other) => {
                self.problems.note(self.path_of(key), is_needed(&other, &needed));
                None
            }
        }
    }

    /// Notes a mistake that concerns a key as a whole.
    pub(super) fn note(&self, key: &str, message: &str) {
        self.problems.note(self.path_of(key), message.into());
    }

    /// Refuses every key that was not asked for.
    pub(super) fn end(self) {
        for key in self.table.keys() {
            let known: Vec<_> = self.known.iter().map(|k| format!("`{k}`")).collect();
            let message = format!("is not known here; possible are {}", known.join(", "));
            self.problems.note(self.path_of(key), message);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    fn parsed<T>(
        &self,
        path: String,
        value: &Value,
        needed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = value.as_str().and_then(parse);
        if found.is_none() {
            self.problems.note(path, is_needed(value, needed));
        }
        found
    }
}

fn is_needed(value: &Value, needed: &str) -> String {
    let shown = value.to_string();
    let cut: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if cut.len() < shown.len() { "…" } else { "" };
    format!("is {cut}{dots}; {needed}")
}

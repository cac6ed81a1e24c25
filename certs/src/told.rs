//! How errors and others' words are told: in one line, bounded.

use std::error::Error;

/// How many characters of what somebody else says are told.
const TOLD_MAX: usize = 1024;

/// An error with its causes, each once.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    cut(&text)
}

/// On one line, and no longer than is read.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(TOLD_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

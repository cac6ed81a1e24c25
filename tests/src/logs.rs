//! What the process under test logs: one JSON object a line, and whatever else it prints.

use crate::{SOON, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The log of one process, read as it is written.
#[derive(Clone, Default)]
pub struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Logs {
    /// Reads a stream to its end, in a thread of its own.
    pub fn follow(&self, stream: impl Read + Send + 'static) {
        let logs = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                logs.locked().push(line);
            }
        });
    }

    /// All events with this message, oldest first.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let lines = self.locked();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|event| field(event, "message") == Some(&Value::from(message))).collect()
    }

    /// Every value of a field in the events with this message.
    pub fn values(&self, message: &str, name: &str) -> Vec<String> {
        let events = self.events(message);
        events.iter().filter_map(|event| field(event, name)).map(text).collect()
    }

    /// The lines that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        self.locked().iter().filter(|line| line.contains("panicked at")).cloned().collect()
    }

    /// Waits until this stands in it: it comes through a pipe, after what the process did.
    pub async fn tell(&self, text: &str) {
        wait_for(text, SOON, async || self.all().contains(text).then_some(())).await;
    }

    /// Everything, as it was printed.
    pub fn all(&self) -> String {
        self.locked().join("\n")
    }

    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A field of an event, whether the subscriber nests fields or flattens them.
fn field<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    event.get("fields").and_then(|fields| fields.get(name)).or_else(|| event.get(name))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

//! `warm`: pods that run before their users come.

use crate::layout::placeholder;
use crate::model::{PodTemplate, PodVariable, Warm};
use crate::reader::{Table, value};
use crate::values::Text;

/// What of a template's placeholders is known only when its user is.
const OF_A_USER: [&str; 3] = ["host", "label", "name"];

/// Reads `warm`.
pub(super) fn warm(table: &mut Table<'_>) -> Option<Warm> {
    // More would start together when a template changes than most clusters have room for.
    table.table("warm", |table| Some(Warm { ready: table.value("ready", value::integer(0..=1_000))? }))
}

/// Whether the pod can run before its user is known.
pub(super) fn is_nobodys(table: &Table<'_>, pods: &PodTemplate) -> bool {
    if pods.warm.ready == 0 {
        return true;
    }
    let Some((problem, accepted)) = hinders(pods) else { return true };
    table.fault("warm", problem, accepted);
    false
}

/// What of the template is a user's own, and what is accepted in its place.
fn hinders(pods: &PodTemplate) -> Option<(String, String)> {
    if let Some(key) = pods.of_a_user() {
        let problem = format!("`{key}` is made for each user, and a warm pod runs before its user comes");
        return Some((problem, "the same for all users, or no warm pods".to_owned()));
    }
    let plain = pods.environment.values().filter_map(|variable| match variable {
        PodVariable::Text(Text::Plain(text)) => Some(text),
        PodVariable::Text(Text::Rule(_)) | PodVariable::FromSecret { .. } => None,
    });
    let mut texts = pods.command.iter().chain(plain);
    let name = texts.find_map(|text| OF_A_USER.into_iter().find(|name| placeholder::has(text, name)))?;
    let problem = format!("`{{{name}}}` is of a user, and a warm pod runs before its user comes");
    Some((problem, "what is the same for all; a warm pod reads whose it is in /run/usher".to_owned()))
}

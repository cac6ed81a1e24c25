//! The command line and the environment of a workspace, from its template.

use super::proc::MARK;
use crate::placeholders::Placeholders;
use config::{ProcessTemplate, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variable with the generation of a workspace's processes.
const GENERATION: &str = "USHER_GENERATION";
/// Where programs are sought if Usher itself was started without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to be started: secrets are in the environment, so it has no `Debug`.
pub(super) struct CommandLine {
    pub program: String,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, OsString>,
}

/// Why a template makes no command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadCommand {
    /// The command is empty.
    Empty,
    /// The secret for this variable is empty.
    NoSecret(String),
}

/// The command line of a template. `mark` and `generation` are how its processes are found again.
///
/// `inherited` looks up what is taken over from Usher's own environment, which is as good as nothing.
pub(super) fn command_line(
    template: &ProcessTemplate,
    placeholders: &Placeholders<'_>,
    mark: &str,
    generation: &str,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Result<CommandLine, BadCommand> {
    let mut words = template.command.iter().map(|word| placeholders.fill(word));
    let program = words.next().ok_or(BadCommand::Empty)?;
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), inherited("PATH").unwrap_or_else(|| DEFAULT_PATH.into())),
        ("LANG".to_owned(), inherited("LANG").unwrap_or_else(|| "C.UTF-8".into())),
        ("HOME".to_owned(), placeholders.home.into()),
    ]);
    for (name, value) in &template.environment {
        let value = match value {
            Value::Plain(text) => placeholders.fill(text),
            Value::Secret(secret) if secret.reveal().is_empty() => {
                return Err(BadCommand::NoSecret(name.clone()));
            }
            Value::Secret(secret) => secret.reveal().to_owned(),
        };
        environment.insert(name.clone(), value.into());
    }
    // Last, so that no template can take its processes out of sight.
    environment.insert(MARK.to_owned(), mark.into());
    environment.insert(GENERATION.to_owned(), generation.into());
    Ok(CommandLine { program, arguments: words.collect(), environment })
}

#[cfg(test)]
mod tests {
    use super::super::tests::support::{process, template};
    use super::*;
    use config::Secret;

    fn placeholders<'a>() -> Placeholders<'a> {
        Placeholders {
            socket: Some("/s/run/1.sock"),
            port: Some(4711),
            host: "alice.lab.localhost",
            home: "/s/{port}/alice",
            label: "alice",
            name: "",
            usher: Some("/bin/usher"),
        }
    }

    #[test]
    fn the_environment_is_made_of_what_is_listed() {
        let mut template = template(&["sh", "-c", "{label}"]);
        let template = process(&mut template);
        template.environment.insert("GREETING".into(), Value::Plain("hello {label}".into()));
        template.environment.insert("TOKEN".into(), Value::Secret(Secret::new("{label}".into())));
        template.environment.insert("USHER_WORKSPACE".into(), Value::Plain("hidden".into()));
        let inherited = |name: &str| (name != "LANG").then(|| OsString::from(format!("usher's {name}")));
        let line = command_line(template, &placeholders(), "i/alice", "g1", inherited).ok().unwrap();
        assert_eq!(
            (line.program.as_str(), line.arguments.as_slice()),
            ("sh", &["-c".to_owned(), "alice".into()][..])
        );
        let environment: Vec<_> =
            line.environment.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        let expected = [
            ("GREETING", "hello alice"),
            ("HOME", "/s/{port}/alice"),
            ("LANG", "C.UTF-8"),
            ("PATH", "usher's PATH"),
            ("TOKEN", "{label}"),
            ("USHER_GENERATION", "g1"),
            ("USHER_WORKSPACE", "i/alice"),
        ];
        assert_eq!(environment, expected);
    }

    #[test]
    fn a_template_without_command_or_secret_starts_nothing() {
        let make =
            |template: &ProcessTemplate| command_line(template, &placeholders(), "m", "g", |_| None).err();
        assert_eq!(make(process(&mut template(&[]))), Some(BadCommand::Empty));
        let mut secretless = template(&["sh"]);
        let secretless = process(&mut secretless);
        secretless.environment.insert("TOKEN".into(), Value::Secret(Secret::new(String::new())));
        assert_eq!(make(secretless), Some(BadCommand::NoSecret("TOKEN".into())));
    }
}

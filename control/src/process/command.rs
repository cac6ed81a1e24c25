//! The command line and the environment of a workspace, from its template.

use super::proc::MARK;
use config::{ProcessTemplate, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// The variable with the generation of a workspace's processes.
const GENERATION: &str = "USHER_GENERATION";
/// Where programs are sought if Usher itself was started without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the placeholders of a template stand for.
pub(super) struct Placeholders<'a> {
    pub socket: &'a str,
    /// None where the template connects by socket: `{port}` stays as it is.
    pub port: Option<u16>,
    pub host: &'a str,
    pub home: &'a str,
    pub label: &'a str,
    pub name: &'a str,
    pub usher: &'a str,
}

impl Placeholders<'_> {
    /// Replaces the placeholders in a text, in one pass: what was put in is not looked at again.
    ///
    /// Other braces stay: arguments hold JSON.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            match after.split_once('}').and_then(|(name, after)| Some((self.value(name)?, after))) {
                Some((value, after)) => {
                    filled.push_str(&value);
                    rest = after;
                }
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled + rest
    }

    fn value(&self, name: &str) -> Option<String> {
        Some(match name {
            "socket" => self.socket.to_owned(),
            "port" => self.port?.to_string(),
            "host" => self.host.to_owned(),
            "home" => self.home.to_owned(),
            "label" => self.label.to_owned(),
            "name" => self.name.to_owned(),
            "usher" => self.usher.to_owned(),
            _ => return None,
        })
    }
}

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
            socket: "/s/run/1.sock",
            port: Some(4711),
            host: "alice.lab.localhost",
            home: "/s/{port}/alice",
            label: "alice",
            name: "",
            usher: "/bin/usher",
        }
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("{port}", "4711"),
            ("--at={socket}{port}", "--at=/s/run/1.sock4711"),
            (r#"["localhost","{host}"]"#, r#"["localhost","alice.lab.localhost"]"#),
            (r#"{"a":{"b":"{label}"}}"#, r#"{"a":{"b":"alice"}}"#),
            ("{home}/x", "/s/{port}/alice/x"),
            ("[{name}]", "[]"),
            ("{usher} {unknown} {", "/bin/usher {unknown} {"),
            ("}{label", "}{label"),
        ];
        for (text, filled) in table {
            assert_eq!(placeholders().fill(text), filled, "{text}");
        }
        assert_eq!(Placeholders { port: None, ..placeholders() }.fill("{port}"), "{port}");
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

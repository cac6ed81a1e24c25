//! `{home}` and its like in the commands and environments of templates.

/// What the placeholders of a template stand for.
pub(crate) struct Placeholders<'a> {
    /// None where the workspace has none: `{socket}` stays as it is. Likewise the others.
    pub(crate) socket: Option<&'a str>,
    pub(crate) port: Option<u16>,
    pub(crate) host: &'a str,
    pub(crate) home: &'a str,
    pub(crate) label: &'a str,
    pub(crate) name: &'a str,
    pub(crate) usher: Option<&'a str>,
}

impl Placeholders<'_> {
    /// Replaces the placeholders in a text, in one pass: what was put in is not looked at again.
    ///
    /// Other braces stay: arguments hold JSON.
    pub(crate) fn fill(&self, text: &str) -> String {
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
            "socket" => self.socket?.to_owned(),
            "port" => self.port?.to_string(),
            "host" => self.host.to_owned(),
            "home" => self.home.to_owned(),
            "label" => self.label.to_owned(),
            "name" => self.name.to_owned(),
            "usher" => self.usher?.to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

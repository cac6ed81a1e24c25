//! What a configuration allows and hardly anybody wants: told by `usher check` and at start.

use config::{Config, HostName, Listener, ListenerProtocol};

/// One sentence for each thing that will not work as somebody may think, with the way out.
pub fn of(config: &Config) -> Vec<String> {
    let cleartext = config.listeners.iter().filter(|listener| listener.protocol == ListenerProtocol::Http);
    let cookieless = cleartext.flat_map(|listener| cookieless(config, listener));
    no_login(config).into_iter().chain(trusts_all(config)).chain(cookieless).collect()
}

/// Whoever is trusted says from where they come.
fn trusts_all(config: &Config) -> Option<String> {
    let all = config.proxies.trusted.iter().find(|network| network.is_everything())?;
    Some(format!(
        "trusted_proxies names {all}, so that whoever connects to Usher can be any address: name the networks of \
         your proxies",
    ))
}

fn no_login(config: &Config) -> Option<String> {
    let none = !config.login.development && config.login.providers.is_empty();
    none.then(|| "no login is enabled in [login], so nobody can log in".to_owned())
}

/// Over plain http browsers keep our cookies on localhost names alone.
fn cookieless(config: &Config, listener: &Listener) -> Option<String> {
    let name = [&config.portal, &config.domain].into_iter().find(|name: &&HostName| !name.is_localhost())?;
    let addresses: Vec<_> = listener.addresses.iter().map(ToString::to_string).collect();
    Some(format!(
        "the listener {} is cleartext, and browsers keep no login for {name} over plain http: say protocol = \
         \"https\" and name a certificate, or a domain that ends in .localhost",
        addresses.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(domain: &str, address: &str, login: &str) -> Vec<String> {
        warned_with("", domain, address, login)
    }

    fn warned_with(root: &str, domain: &str, address: &str, login: &str) -> Vec<String> {
        let toml = format!(
            "{root}domain = \"{domain}\"\nstate_dir = \"/nowhere\"\nlisteners = [{{ address = \"{address}\" }}]\n\
             access = {{ allow = \"true\", template = \"'demo'\" }}\nlogin = {{ {login} }}\n\
             templates.demo = {{ command = [\"demo\", \"{{port}}\"], connect = \"port\" }}\n"
        );
        of(&Config::parse("test", &toml, &|_| None).unwrap_or_else(|findings| panic!("{findings}")))
    }

    #[test]
    fn trust_in_everybody_is_told() {
        for (networks, told) in [("10.0.0.0/8", 0), ("0.0.0.0/0", 1), ("::/0", 1)] {
            let root = format!("trusted_proxies = [\"{networks}\"]\nclient_address = \"forwarded\"\n");
            let warned = warned_with(&root, "lab.localhost", "127.0.0.1:8080", "development = true");
            assert_eq!(warned.len(), told, "{warned:?}");
        }
    }

    #[test]
    fn what_will_not_work_is_told_and_what_will_is_not() {
        let (on, anywhere) =
            ("development = true", "development = true, development_from_anywhere_unsafe = true");
        for (domain, address, login, expected) in [
            ("lab.localhost", "127.0.0.1:8080", on, vec![]),
            ("lab.localhost", "[::1]:8080", on, vec![]),
            ("lab.localhost", "127.0.0.1:8080", "", vec!["no login"]),
            ("lab.localhost", "192.0.2.1:8080", anywhere, vec![]),
            ("lab.example.org", "127.0.0.1:8080", on, vec!["127.0.0.1:8080 is cleartext"]),
            ("lab.example.org", "192.0.2.1:80", "", vec!["no login", "192.0.2.1:80 is cleartext"]),
        ] {
            let told = warned(domain, address, login);
            assert_eq!(told.len(), expected.len(), "{domain} {address} {login}: {told:?}");
            assert!(told.iter().zip(&expected).all(|(told, part)| told.contains(part)), "{told:?}");
        }
    }
}

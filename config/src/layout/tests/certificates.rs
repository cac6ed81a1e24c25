use super::{GOOD, findings, parse};
use crate::{CertificateSource, Challenge, DnsProviderKind};
use std::time::Duration;

/// [`GOOD`] over TLS, with these tables.
fn over_tls(tables: &str) -> String {
    format!("{}{tables}", GOOD.replacen("8080\"", "8443\"\nprotocol = 'https'", 1))
}

const LETS_ENCRYPT: &str = "[acme.le]\ndirectory = 'https://acme.test/dir'\nterms_of_service_agreed = true\n";
const EXEC: &str = "[dns_providers.own]\nkind = 'exec'\ncommand = ['/bin/sh']\n";

#[test]
fn a_certificate_by_acme_is_for_all_hosts_by_default() {
    let text = over_tls(&format!(
        "{LETS_ENCRYPT}{EXEC}[certificates.site]\nsource = 'acme'\nchallenge = 'dns-01'\n"
    ));
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let site = config.certificates.values().next().unwrap();
    let names: Vec<String> = site.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["lab.example.org", "*.lab.example.org"]);
    let CertificateSource::Acme(acme) = &site.source else { panic!("{site:?}") };
    assert_eq!(acme.authorities[0].directory, "https://acme.test/dir");
    assert_eq!(acme.per_host, None);
    let Challenge::Dns01(provider) = &acme.challenge else { panic!("{acme:?}") };
    assert!(provider.check_propagation && provider.propagation_timeout == Duration::from_mins(5));
    assert!(matches!(&provider.kind, DnsProviderKind::Exec { command, .. } if command == &["/bin/sh"]));
    assert_eq!(config.tls.hsts_max_age, Duration::from_hours(365 * 24));
}

#[test]
fn a_portal_elsewhere_is_among_the_usual_names() {
    let text = over_tls("[certificates.site]\nsource = 'self-signed'\n").replacen(
        "[[",
        "portal = 'login.test'\n[[",
        1,
    );
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<String> =
        config.certificates.values().next().unwrap().names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["lab.example.org", "*.lab.example.org", "login.test"]);
}

#[test]
fn certificates_that_cannot_be_had_or_shown_are_told_where_they_stand() {
    let site = "[certificates.site]\nsource = 'acme'\n";
    for (tables, told) in [
        (format!("{site}challenge = 'http-01'\n"), "certificates.site.authorities: is missing, and there is not one"),
        (format!("{LETS_ENCRYPT}{site}"), "certificates.site.challenge: is missing"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'dns-01'\n"), "certificates.site.dns_provider: is missing, and there"),
        (format!("{LETS_ENCRYPT}{EXEC}{site}challenge = 'dns-01'\ndns_provider = 'other'\n"), "no DNS provider `other` (accepted: a name of a table of [dns_providers]: `own`)"),
        (format!("{LETS_ENCRYPT}{EXEC}{site}challenge = 'http-01'\ndns_provider = 'own'\n"), "site.dns_provider: is asked for nothing"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'http-01'\n"), "site.challenge: `*.lab.example.org` can be had by `dns-01` alone"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'tls-alpn-01'\nnames = ['lab.example.org', '*.x']\n"), "site.names[1]: `*.x` can be had"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'http-01'\nper_host = true\n"), "certificates.site: the authority asks on port 80, where nobody answers"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'tls-alpn-01'\nauthorities = ['x']\n"), "authorities[0]: there is no authority `x`"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'tls-alpn-01'\nauthorities = []\n"), "authorities: is empty"),
        (format!("{LETS_ENCRYPT}{site}challenge = 'tls-alpn-01'\nper_host = true\nnames = ['a.test']\n"), "certificates: there is none for the portal"),
        ("[certificates.a]\nsource = 'self-signed'\nnames = ['lab.example.org']\n".to_owned(), "certificates: there is none for the hosts of workspaces"),
        ("[certificates.a]\nsource = 'self-signed'\n[certificates.b]\nsource = 'self-signed'\nnames = ['lab.example.org']\n".to_owned(), "certificates.b.names[0]: `lab.example.org` is a name of the certificate `a`"),
        ("[certificates.a]\nsource = 'self-signed'\nnames = ['a_b']\n".to_owned(), "names[0]: `'a_b'` is not a name for a certificate"),
        ("[certificates.a]\nsource = 'files'\ncertificate = 'c'\n".to_owned(), "certificates.a.private_key: is missing"),
        ("[certificates.a]\nsource = 'secret'\nsecret = 'x'\n".to_owned(), "belongs to the driver `kubernetes`"),
        ("[certificates.a]\nsource = 'self-signed'\nper_host = true\n".to_owned(), "certificates.a.per_host: unknown key"),
        ("[certificates.A]\nsource = 'self-signed'\n".to_owned(), "\"A\" is not a name of a certificate"),
        ("[acme.le]\ndirectory = 'http://acme.test/dir'\nterms_of_service_agreed = true\n".to_owned(), "acme.le.directory: `'http://acme.test/dir'` is not an address"),
        ("[acme.le]\ndirectory = 'https://acme.test/dir'\nterms_of_service_agreed = false\n".to_owned(), "acme.le.terms_of_service_agreed: the authority gives"),
        (format!("{LETS_ENCRYPT}contact = ['ops@example.org']\n"), "acme.le.contact: `['ops@example.org']` is no contact"),
        (
            format!("{LETS_ENCRYPT}external_account = {{ key_id = 'a', hmac_key = {{ from_env = 'TOKEN' }} }}\naccount_key = 'k'\n"),
            "acme.le.account_key: stands beside an external_account",
        ),
        (format!("{LETS_ENCRYPT}external_account = {{ key_id = 'a' }}\n"), "acme.le.external_account.hmac_key: is not one source of a secret"),
        ("[dns_providers.own]\nkind = 'exec'\ncommand = []\n".to_owned(), "dns_providers.own.command: names no program"),
        ("[dns_providers.own]\nkind = 'rfc2136'\n".to_owned(), "dns_providers.own.server: is missing"),
        ("[tls]\nmin_version = '1.1'\n".to_owned(), "tls.min_version: `'1.1'` is not a version of TLS"),
    ] {
        let found = findings(&over_tls(&tables));
        assert!(found.contains(told), "{told}\n{found}");
    }
    let unshown = findings(&format!("{GOOD}[certificates.a]\nsource = 'self-signed'\n"));
    assert!(unshown.contains("certificates.a: no listener shows it"), "{unshown}");
}

#[test]
fn secrets_of_authorities_and_dns_providers_are_never_shown() {
    let tables = format!(
        "{LETS_ENCRYPT}external_account = {{ key_id = 'a', hmac_key = {{ from_env = 'TOKEN' }} }}\n\
         [dns_providers.cf]\nkind = 'cloudflare'\ntoken = {{ from_env = 'TOKEN' }}\n\
         [dns_providers.bind]\nkind = 'rfc2136'\nserver = '127.0.0.1:53'\n\
         tsig = {{ key_name = 'k', secret = {{ from_env = 'TOKEN' }} }}\n\
         [certificates.site]\nsource = 'acme'\nchallenge = 'dns-01'\ndns_provider = 'bind'\n"
    );
    let config = parse(&over_tls(&tables)).unwrap_or_else(|e| panic!("{e}"));
    let shown = format!("{:?}", config.certificates);
    assert!(!shown.contains("s3cret") && shown.contains("Secret(…)"), "{shown}");
}

#[test]
fn what_would_fail_only_when_a_certificate_is_wanted_is_told_at_once_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let script = file("dns.sh", "#!/bin/sh\n");
    let exec = |program: &str| format!("[dns_providers.own]\nkind = 'exec'\ncommand = ['{program}']\n");
    let eab = |key: &str| {
        format!("{LETS_ENCRYPT}external_account = {{ key_id = 'a', hmac_key = {{ from_file = '{key}' }} }}\n")
    };
    let tsig = |key: &str| {
        format!(
            "[dns_providers.own]\nkind = 'rfc2136'\nserver = '127.0.0.1:53'\n\
             tsig = {{ key_name = 'k', secret = {{ from_file = '{key}' }} }}\n"
        )
    };
    let (hmac_key, secret) =
        ("acme.le.external_account.hmac_key.from_file", "dns_providers.own.tsig.secret.from_file");
    for (tables, told) in [
        (eab(&file("standard", "hunter2+/w==")), Some((hmac_key, "is not base64url"))),
        (eab(&file("short", "hunter2hu")), Some((hmac_key, "is not base64url"))),
        (eab(&file("empty", "")), Some((hmac_key, "is not base64url"))),
        (eab(&file("padded", "hunter2-_w==\n")), None),
        (tsig(&file("url", "hunter2-_w==")), Some((secret, "is not base64"))),
        (tsig(&file("unpadded", "hunter2+/w")), Some((secret, "is not base64"))),
        (tsig(&file("good", "hunter2+/w==\n")), None),
        (exec("/nowhere/dns.sh"), Some(("dns_providers.own.command", "`/nowhere/dns.sh` is no program"))),
        (exec(&script), Some(("dns_providers.own.command", "is no program that can be run"))),
        (exec(folder.path().to_str().unwrap()), Some(("dns_providers.own.command", "is no program"))),
        (exec("/bin/sh"), None),
    ] {
        let found = findings(&format!("{}[certificates.site]\nsource = 'self-signed'\n", over_tls(&tables)));
        match told {
            Some((key, told)) => {
                assert!(found.contains(&format!("{key}: ")) && found.contains(told), "{found}")
            }
            None => assert_eq!(found, "", "{tables}"),
        }
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn a_program_without_a_folder_is_looked_for_where_the_system_does() {
    let text = over_tls("[dns_providers.own]\nkind = 'exec'\ncommand = ['sh']\n");
    let told = |path: &str| {
        let read = crate::Config::parse("f", &text, &|name| (name == "PATH").then(|| path.to_owned()));
        read.err().map(|findings| findings.to_string()).unwrap_or_default()
    };
    assert!(!told("/nowhere:/bin").contains("command"), "{}", told("/nowhere:/bin"));
    assert!(
        told("/nowhere").contains("dns_providers.own.command: `sh` is no program"),
        "{}",
        told("/nowhere")
    );
}

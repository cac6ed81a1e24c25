//! `usher certs` and `usher ca`.

use super::{RemoteError, ask, ask_with, columns, span};
use crate::admin::certificates::Import;
use certs::{Listed, Next};
use http::Method;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that is to be imported cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("the file {} cannot be read", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What became of it at the running usher.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// `usher certs list`: the text to print.
///
/// # Errors
/// No usher answers.
pub async fn list(socket: &Path, json: bool) -> Result<String, RemoteError> {
    let text = ask(socket, Method::GET, "/certificates").await?;
    if json {
        return Ok(format!("{text}\n"));
    }
    let listed: Vec<Listed> = serde_json::from_str(&text)?;
    Ok(table(&listed, SystemTime::now()))
}

/// `usher certs renew NAME`: what the running usher says to it.
///
/// # Errors
/// No usher answers, or there is no such certificate.
pub async fn renew(socket: &Path, name: &str) -> Result<String, RemoteError> {
    ask(socket, Method::POST, &format!("/certificates/{}/renew", escaped(name))).await
}

/// `usher certs import NAME`: what the running usher says to it.
///
/// # Errors
/// A file cannot be read, no usher answers, or it cannot serve what was brought.
pub async fn import(
    socket: &Path,
    name: &str,
    certificate: &Path,
    private_key: &Path,
) -> Result<String, ImportError> {
    let read = |file: &Path| {
        // What is no text is told by whoever reads it what it should be.
        std::fs::read(file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|source| ImportError::Unreadable { file: file.to_owned(), source })
    };
    let import = Import { chain: read(certificate)?, private_key: read(private_key)? };
    let body = serde_json::to_vec(&import).map_err(RemoteError::from)?;
    Ok(ask_with(socket, Method::POST, &format!("/certificates/{}/import", escaped(name)), Some(body)).await?)
}

/// `usher ca`: the certificate of the running usher's own authority; to a person, also how it is trusted.
///
/// # Errors
/// No usher answers, or it has no authority of its own.
pub async fn authority(socket: &Path) -> Result<String, RemoteError> {
    ask(socket, Method::GET, "/certificate-authority").await
}

/// How a machine is told to trust it.
pub const TRUST: &str = "\
Whoever trusts this certificate trusts the hosts of this usher, and nothing else. Write it to a file, by
`usher ca > usher-ca.crt`; then
  Debian, Ubuntu   sudo cp usher-ca.crt /usr/local/share/ca-certificates/ && sudo update-ca-certificates
  Fedora           sudo cp usher-ca.crt /etc/pki/ca-trust/source/anchors/ && sudo update-ca-trust
  macOS            sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain usher-ca.crt
  Windows          certutil -addstore -f ROOT usher-ca.crt
  Chromium         mkdir -p $HOME/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n usher -i usher-ca.crt   (on Linux; libnss3-tools)
  Firefox          Settings, Privacy & Security, View Certificates, Authorities, Import
  curl             curl --cacert usher-ca.crt https://…
";

fn escaped(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// The list as a person reads it.
fn table(listed: &[Listed], now: SystemTime) -> String {
    if listed.is_empty() {
        return "no certificate is configured: [certificates.NAME] in the configuration names one\n"
            .to_owned();
    }
    let head = ["CERTIFICATE", "SOURCE", "FROM", "EXPIRES IN", "NEXT", "FINGERPRINT", "NAMES"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(listed.iter().map(|one| row(one, now)));
    let mut text = columns(&rows);
    for one in listed {
        for failure in &one.failures {
            text.push_str(&format!("{}: {failure}\n", one.id));
        }
    }
    text
}

fn row(one: &Listed, now: SystemTime) -> [String; 7] {
    let served = one.served.as_ref();
    let dash = || "-".to_owned();
    [
        one.id.clone(),
        one.source.clone(),
        served.map_or_else(dash, |served| served.origin.clone()),
        served.map_or_else(|| "there is none".to_owned(), |served| within(served.not_after, now)),
        match one.next {
            None => dash(),
            Some(Next::UnderWay) => "under way".to_owned(),
            Some(Next::At(at)) if UNIX_EPOCH + Duration::from_secs(at) <= now => "now".to_owned(),
            Some(Next::At(at)) => format!("in {}", within(at, now)),
        },
        served.map_or_else(dash, |served| served.fingerprint.chars().take(16).collect()),
        one.names.join(" "),
    ]
}

/// How long it is until then.
fn within(at: u64, now: SystemTime) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(at);
    at.duration_since(now).map_or_else(|_| "expired".to_owned(), |left| span(left.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use certs::ListedCertificate;

    #[test]
    fn a_list_says_what_is_served_until_when_and_what_failed() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let served = ListedCertificate {
            fingerprint: "0123456789abcdef0123".to_owned(),
            origin: "letsencrypt".to_owned(),
            not_before: 0,
            not_after: 1_000_000 + 40 * 86_400,
        };
        let site = Listed {
            id: "site".to_owned(),
            source: "acme".to_owned(),
            names: vec!["lab.test".to_owned(), "*.lab.test".to_owned()],
            served: Some(served),
            next: Some(Next::At(1_000_000 + 5 * 3600)),
            failures: vec!["letsencrypt: rateLimited: too many".to_owned()],
        };
        let none = Listed {
            id: "none".to_owned(),
            served: None,
            next: Some(Next::UnderWay),
            failures: vec![],
            ..site.clone()
        };
        let text = table(&[site, none], now);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(
            lines[1],
            ["site", "acme", "letsencrypt", "40d00h", "in 5h00m", "0123456789abcdef", "lab.test *.lab.test"]
        );
        assert_eq!(lines[2], ["none", "acme", "-", "there is none", "under way", "-", "lab.test *.lab.test"]);
        assert_eq!(lines[3], ["site: letsencrypt: rateLimited: too many"]);
    }
}

//! The document of a certificate.

use crate::certificate::{Certificate, Unfit};
use crate::state::{time, unix};
use crate::store::Document;
use config::AuthorityName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::SystemTime;

/// A colon stands in no name of an authority.
const LOCAL: &str = "usher:local";
const IMPORTED: &str = "usher:imported";

/// A certificate as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// The certificate.
    pub certificate: Certificate,
    /// Where it came from.
    pub origin: Origin,
    /// When it came, to the second.
    pub obtained: SystemTime,
}

/// Where a certificate that is kept came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An authority by ACME.
    Acme(AuthorityName),
    /// Usher's own authority.
    Local,
    /// The operator.
    Imported,
}

/// As people and programs are told.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acme(name) => write!(f, "{name}"),
            Self::Local => f.write_str("local"),
            Self::Imported => f.write_str("imported"),
        }
    }
}

/// Why a document is no certificate; it is as good as none, and made anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It does not say what it must.
    #[error("the document {name} does not say what a certificate's says")]
    Malformed {
        /// Which document.
        name: String,
    },
    /// What it holds cannot be served.
    #[error("the certificate in the document {name} cannot be used")]
    Unfit {
        /// Which document.
        name: String,
        /// Why not.
        source: Unfit,
    },
}

/// What the value of the document says, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    /// PEM.
    chain: String,
    /// PEM.
    key: String,
    /// The name of an authority of the configuration, or [`LOCAL`] or [`IMPORTED`].
    authority: String,
    /// UNIX seconds.
    obtained: u64,
}

impl Kept {
    /// Reads a document. Whether the certificate is good for names and a time is for the reader to check.
    ///
    /// # Errors
    /// Which document it is, and what is wrong with it; nothing of its value.
    pub(crate) fn read(document: &Document) -> Result<Self, Unreadable> {
        let malformed = || Unreadable::Malformed { name: document.name.clone() };
        let value: Value = serde_json::from_slice(&document.value).map_err(|_| malformed())?;
        let origin = match value.authority.as_str() {
            LOCAL => Origin::Local,
            IMPORTED => Origin::Imported,
            name => Origin::Acme(AuthorityName::parse(name).map_err(|_| malformed())?),
        };
        // A time that no clock has.
        let obtained = Some(time(value.obtained)).filter(|at| unix(*at) == value.obtained);
        let obtained = obtained.ok_or_else(malformed)?;
        let certificate = Certificate::parse(value.chain.as_bytes(), value.key.as_bytes())
            .map_err(|source| Unreadable::Unfit { name: document.name.clone(), source })?;
        Ok(Self { certificate, origin, obtained })
    }

    /// The value of its document.
    pub(crate) fn write(&self) -> Vec<u8> {
        let authority = match &self.origin {
            Origin::Acme(name) => name.as_str(),
            Origin::Local => LOCAL,
            Origin::Imported => IMPORTED,
        };
        let value = Value {
            chain: self.certificate.chain_pem(),
            key: self.certificate.key_pem().to_owned(),
            authority: authority.to_owned(),
            obtained: unix(self.obtained),
        };
        serde_json::to_vec(&value).expect("numbers and texts are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broken::{Pki, cases, now};
    use crate::store::Version;

    fn document(value: Vec<u8>) -> Document {
        Document { name: "certificate-site".to_owned(), version: Version(1), value }
    }

    fn kept(origin: Origin) -> Kept {
        let pki = Pki::new();
        let pair = pki.good();
        let key = pair.key.serialize_pem();
        let certificate =
            Certificate::parse(pki.chain(&pair).as_bytes(), key.as_bytes()).expect("it is good");
        Kept { certificate, origin, obtained: now() }
    }

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        let of_acme = |name| Origin::Acme(AuthorityName::parse(name).unwrap());
        for origin in
            [Origin::Local, Origin::Imported, of_acme("letsencrypt"), of_acme("local"), of_acme("imported")]
        {
            let kept = kept(origin);
            let read = Kept::read(&document(kept.write())).unwrap();
            assert_eq!((read.origin, read.obtained), (kept.origin, kept.obtained));
            assert_eq!(read.certificate.chain_pem(), kept.certificate.chain_pem());
            assert_eq!(read.certificate.key_pem(), kept.certificate.key_pem());
        }
    }

    #[test]
    fn a_document_that_is_no_certificate_is_refused_by_name_without_its_value() {
        let good = kept(Origin::Local);
        let value: serde_json::Value = serde_json::from_slice(&good.write()).unwrap();
        let with = |key: &str, changed: serde_json::Value| {
            let mut value = value.clone();
            value[key] = changed;
            value.to_string().into_bytes()
        };
        let mut bad =
            vec![Vec::new(), b"{}".to_vec(), b"[]".to_vec(), vec![0; 100], good.write()[1..].to_vec()];
        bad.extend([
            with("more", 1.into()),
            with("authority", "a/b".into()),
            with("obtained", u64::MAX.into()),
        ]);
        bad.extend([
            with("obtained", (-1).into()),
            with("key", 1.into()),
            with("chain", serde_json::Value::Null),
        ]);
        for value in bad {
            let text = String::from_utf8_lossy(&value).into_owned();
            let refused = Kept::read(&document(value));
            assert!(
                matches!(&refused, Err(Unreadable::Malformed { name }) if name == "certificate-site"),
                "{text}"
            );
        }
        for case in cases() {
            let changed = |value: &mut serde_json::Value| {
                value["chain"] = String::from_utf8_lossy(&case.chain).into();
                value["key"] = String::from_utf8_lossy(&case.key).into();
            };
            let mut value = value.clone();
            changed(&mut value);
            match Kept::read(&document(value.to_string().into_bytes())) {
                // What time and names say is not looked at here.
                Ok(kept) => assert_eq!(
                    kept.certificate.check(&crate::broken::wanted(), now()),
                    case.expected,
                    "{}",
                    case.name
                ),
                Err(Unreadable::Unfit { .. }) => assert!(case.expected.is_err(), "{}", case.name),
                Err(malformed) => panic!("{}: {malformed}", case.name),
            }
        }
    }
}

//! Why a chain and a key are no certificate to serve.

use super::{CHAIN_MAX, TEXT_MAX};
use config::NamePattern;
use std::fmt;

/// One of the two texts that make a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The chain.
    Certificate,
    /// The private key.
    PrivateKey,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "private key",
        })
    }
}

/// Why a chain and a key cannot be served. Positions count from 1, which is the server's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A text is longer than any that makes sense.
    #[error("the {part} is longer than {max} KiB", part = .0, max = TEXT_MAX / 1024)]
    TooLong(Part),
    /// A text without a block of PEM.
    #[error("there is no {0} in it (PEM is expected)")]
    Absent(Part),
    /// The binary form.
    #[error("the {part} is in DER: convert it, with `openssl {command} -inform der -in FILE -out FILE.pem`",
        part = .0, command = match .0 { Part::Certificate => "x509", Part::PrivateKey => "pkey" })]
    Der(Part),
    /// Blocks of PEM, and none that is wanted.
    #[error("where the {part} should be stands a block named {label}")]
    Other {
        /// What is wanted.
        part: Part,
        /// What the first block is.
        label: String,
    },
    /// A block that does not end, or is not base64.
    #[error("the {0} is damaged: a block of PEM in it does not end or cannot be decoded")]
    Damaged(Part),
    /// More certificates than a chain has.
    #[error("there are more than {CHAIN_MAX} certificates")]
    TooMany,
    /// It takes a passphrase.
    #[error(
        "the private key is encrypted: take the passphrase off, with `openssl pkey -in FILE -out FILE.pem`"
    )]
    Encrypted,
    /// Which one is meant cannot be known.
    #[error("there are {found} private keys where one is expected")]
    ManyKeys {
        /// How many.
        found: usize,
    },
    /// Not of a kind that is spoken.
    #[error(
        "the private key is none that can be used: RSA (2048 to 4096 bits), ECDSA (P-256 or P-384) or Ed25519"
    )]
    UnusableKey,
    /// The key is another certificate's.
    #[error("the private key does not belong to the first certificate")]
    WrongKey,
    /// Not what X.509 prescribes (RFC 5280).
    #[error("certificate {position} is no X.509 certificate of version 3")]
    NotX509 {
        /// Which one.
        position: usize,
    },
    /// No `dNSName` that a host can have (RFC 9525 §6.3: common names are not read).
    #[error("the certificate is for no host: it has no subject alternative name that is a DNS name")]
    NoName,
    /// Of an authority that sent its issuer with the one before.
    #[error(
        "the certificate came alone: the one before came with its issuer, without which clients refuse it"
    )]
    Alone,
    /// Names that it shall be for.
    #[error("the certificate is not for {}", listed(.0))]
    Names(Vec<NamePattern>),
    /// It begins later.
    #[error("certificate {position} is not valid before {from}")]
    NotYet {
        /// Which one.
        position: usize,
        /// From when on, UTC.
        from: String,
    },
    /// It has ended.
    #[error("certificate {position} expired on {at}")]
    Expired {
        /// Which one.
        position: usize,
        /// When, UTC.
        at: String,
    },
    /// The certificate is one that signs others, which clients refuse.
    #[error("the first certificate is an authority's (CA:TRUE), not a server's")]
    Authority,
    /// Its extended key usage has no `serverAuth`.
    #[error("the certificate may not be used by a server: its extended key usage lacks serverAuth")]
    Usage,
    /// The same certificate stands in the chain twice.
    #[error("certificate {position} stands in the chain twice")]
    Twice {
        /// Where it stands again.
        position: usize,
    },
    /// The next one's subject is not its issuer.
    #[error("certificate {position} was not issued by the one after it: leaf first, then each one's issuer")]
    Order {
        /// Which one.
        position: usize,
    },
    /// A server's certificate stands where an authority's should.
    #[error("certificate {position} is no authority's, and may not have issued the one before it")]
    NoAuthority {
        /// Which one.
        position: usize,
    },
    /// A signature or a constraint does not hold.
    #[error("the chain does not hold")]
    Chain(#[source] webpki::Error),
}

fn listed(names: &[NamePattern]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

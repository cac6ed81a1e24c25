//! The files that are looked at again and again, each in a task of its own: one on a mount that hangs holds nobody up.

use super::Loop;
use crate::files::{FilePair, Look};
use config::{CertificateName, CertificateSource, Certificates};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often files are looked at: what is changed there is shown within a second.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the start waits for files: a mount may hang.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// What a look at a pair has shown.
pub(super) struct Looked {
    /// Of which certificate of the configuration.
    pub(super) name: CertificateName,
    pub(super) look: Look,
    /// Others than its owner and a group may use the file of its key.
    pub(super) key_is_open: bool,
}

/// All pairs of the configuration.
pub(super) struct Watched {
    at_rest: Vec<(CertificateName, FilePair)>,
    looking: JoinSet<(CertificateName, FilePair, Look)>,
}

impl Watched {
    pub(super) fn new(certificates: &Certificates) -> Self {
        let pair = |declared: &std::sync::Arc<config::DeclaredCertificate>| match &declared.source {
            CertificateSource::Files { certificate, private_key } => {
                Some((declared.name.clone(), FilePair::new(certificate.clone(), private_key.clone())))
            }
            _ => None,
        };
        Self { at_rest: certificates.values().filter_map(pair).collect(), looking: JoinSet::new() }
    }

    /// Looks at each that is not being looked at.
    pub(super) fn begin(&mut self) {
        for (name, mut pair) in self.at_rest.drain(..) {
            self.looking.spawn_blocking(move || {
                let look = pair.look(Instant::now());
                (name, pair, look)
            });
        }
    }

    /// The next look that comes to an end; `None` when none is under way.
    pub(super) async fn next(&mut self) -> Option<Looked> {
        loop {
            match self.looking.join_next().await? {
                Ok((name, pair, look)) => {
                    let key_is_open = pair.key_is_open();
                    self.at_rest.push((name.clone(), pair));
                    return Some(Looked { name, look, key_is_open });
                }
                Err(error) => {
                    tracing::error!(%error, "a look at the files of a certificate ended in a panic; they are looked at no more");
                }
            }
        }
    }
}

impl Loop {
    /// Looks at all files once, so that the first handshake finds them.
    pub(super) async fn look_at_files(&mut self) {
        self.files.begin();
        let all = async {
            while let Some(looked) = self.files.next().await {
                self.take_files(looked);
            }
        };
        if tokio::time::timeout(FIRST_LOOK, all).await.is_err() {
            tracing::error!(
                after_s = FIRST_LOOK.as_secs(),
                "files of certificates are not read yet: what they are on does not answer; what is there is served without them"
            );
        }
    }
}

//! The files that are looked at again and again, each in a task of its own: one on a mount that hangs holds nobody up.

use super::Loop;
use super::tasks::AFTER_A_MISHAP;
use crate::files::{FilePair, Look};
use config::{CertificateName, CertificateSource, Certificates};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

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
    at_rest: Vec<Resting>,
    looking: JoinSet<(Resting, Option<Look>)>,
}

/// A pair that nobody looks at now.
struct Resting {
    name: CertificateName,
    pair: FilePair,
    /// It is not looked at before.
    until: Instant,
}

impl Watched {
    pub(super) fn new(certificates: &Certificates) -> Self {
        let until = Instant::now();
        let pair = |declared: &std::sync::Arc<config::DeclaredCertificate>| match &declared.source {
            CertificateSource::Files { certificate, private_key } => {
                let pair = FilePair::new(certificate.clone(), private_key.clone());
                Some(Resting { name: declared.name.clone(), pair, until })
            }
            _ => None,
        };
        Self { at_rest: certificates.values().filter_map(pair).collect(), looking: JoinSet::new() }
    }

    /// Looks at each that is not being looked at.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begin_with(now, FilePair::look);
    }

    fn begin_with(&mut self, now: Instant, look: fn(&mut FilePair, std::time::Instant) -> Look) {
        for mut one in self.at_rest.extract_if(.., |one| one.until <= now) {
            self.looking.spawn_blocking(move || {
                let mut looking = AssertUnwindSafe(&mut one.pair);
                let look = catch_unwind(move || look(&mut looking, std::time::Instant::now()));
                (one, look.ok())
            });
        }
    }

    /// The next look that comes to an end; `None` when none is under way.
    pub(super) async fn next(&mut self) -> Option<Looked> {
        loop {
            // None is lost but where the whole runtime ends.
            let Ok((mut one, look)) = self.looking.join_next().await? else { continue };
            let Some(look) = look else {
                tracing::error!(
                    certificate.name = %one.name, again_in_s = AFTER_A_MISHAP.as_secs(),
                    "a look at the files of a certificate ended in a panic"
                );
                // Whatever was half done is begun anew.
                one.pair = one.pair.anew();
                one.until = Instant::now() + AFTER_A_MISHAP;
                self.at_rest.push(one);
                continue;
            };
            let looked = Looked { name: one.name.clone(), look, key_is_open: one.pair.key_is_open() };
            self.at_rest.push(one);
            return Some(looked);
        }
    }
}

impl Loop {
    /// Looks at all files once, so that the first handshake finds them.
    pub(super) async fn look_at_files(&mut self) {
        self.files.begin(Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[tokio::test(start_paused = true)]
    async fn a_pair_whose_look_ended_in_a_panic_is_looked_at_again() {
        let name = CertificateName::parse("site").unwrap();
        let pair = FilePair::new(PathBuf::from("/dev/null/c"), PathBuf::from("/dev/null/k"));
        let one = Resting { name, pair, until: Instant::now() };
        let mut watched = Watched { at_rest: vec![one], looking: JoinSet::new() };
        watched.begin_with(Instant::now(), |_, _| panic!("as the test wants"));
        assert!(watched.next().await.is_none());
        watched.begin(Instant::now());
        assert!(watched.looking.is_empty(), "it is looked at again at once");
        watched.begin(Instant::now() + AFTER_A_MISHAP);
        assert!(watched.next().await.is_some());
    }
}

//! Who comes without a browser: records when a token is made, first used and revoked; a snapshot for every request.
//!
//! There are two sorts. An API token is a secret that its owner shows each time. A login of `usher login` is a family of
//! secrets that follow each other: each is shown once and brings the next, so that a stolen one is found out (`family`).
//! Either way the record has the hash of the secret alone: 256 random bits cannot be guessed from it, so it need not be
//! slow as that of a password.

mod document;
mod family;
mod keeper;
mod token;

pub use family::{RefreshSecret, Rotated};
pub(crate) use keeper::Keeper;
pub use token::{NewToken, Token, TokenSort};

use crate::mirror::Mirror;
use crate::{Identity, IdentityRef, Kind, RecordError, Records, Session, SessionRef, hash};
use document::Document;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many logins of `usher login` one user may have; the oldest leaves.
const LOGINS_PER_USER: usize = 20;

/// The secret of an API token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenSecret(pub [u8; 32]);

/// The name of a token's record: a hash, from which nobody gets the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenRef([u8; 16]);

/// The tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    snapshot: Mirror<Snapshot>,
    records: Arc<dyn Records>,
}

/// As they are published: written by the [`Keeper`] alone.
type Snapshot = HashMap<TokenRef, Arc<Token>>;

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Their owner has as many as they may.
    #[error("there are {0} API tokens already")]
    TooMany(usize),
    /// The session that it was made with has ended.
    #[error("the session has ended")]
    SessionOver,
    /// It could not be written down.
    #[error(transparent)]
    Records(#[from] RecordError),
}

/// What became of tokens that were to be revoked.
#[derive(Debug, Default)]
pub struct Revoking {
    /// Those that were revoked by this, and not meanwhile by somebody else.
    pub revoked: Vec<Arc<Token>>,
    /// Why it stopped before all were, or could not tell; those above are revoked all the same.
    pub failed: Option<RecordError>,
}

impl Revoking {
    /// How many were revoked.
    ///
    /// # Errors
    /// The store failed; some may be revoked.
    pub fn result(self) -> Result<usize, RecordError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.revoked.len()),
        }
    }
}

impl Tokens {
    /// The token of this name, if it is good: one atomic load and one look into a map.
    pub fn find(&self, token: TokenRef, now: SystemTime) -> Option<Arc<Token>> {
        self.snapshot.load().get(&token).filter(|token| token.is_good(now)).cloned()
    }

    /// Waits up to `patience` for a token that another replica may just have made.
    pub async fn await_known(
        &self,
        token: TokenRef,
        now: SystemTime,
        patience: Duration,
    ) -> Option<Arc<Token>> {
        self.snapshot.await_that(patience, || self.find(token, now)).await
    }

    /// Makes an API token of this session's owner, `by` the session. The secret is here and nowhere else.
    ///
    /// # Errors
    /// They have `most` already, the session has ended, or the store fails.
    pub async fn make(
        &self,
        owner: &Session,
        by: SessionRef,
        new: NewToken,
        most: usize,
    ) -> Result<(TokenSecret, Arc<Token>), MakeError> {
        let count = || self.of(owner.identity(), TokenSort::Api).len();
        if count() >= most {
            return Err(MakeError::TooMany(count()));
        }
        let secret = TokenSecret(hash::random()?);
        let token = self.write_down(by, secret.reference(), Document::new(owner, new, None)).await?;
        // Of several that are made at once, each looks again.
        if count() > most {
            self.revoke(token.reference).await.result()?;
            return Err(MakeError::TooMany(most));
        }
        tracing::info!(user.label = %owner.label, token.id = %token.reference, token.scopes = %token.scopes, "an API token was made");
        Ok((secret, token))
    }

    /// All of somebody, the oldest first, those that have expired included.
    pub fn list(&self, identity: IdentityRef<'_>) -> Vec<Arc<Token>> {
        let snapshot = self.snapshot.load();
        let theirs = snapshot.values().filter(|token| token.session.identity() == identity);
        let mut tokens: Vec<_> = theirs.cloned().collect();
        tokens.sort_by_key(|token| (token.made, token.reference));
        tokens
    }

    /// Revokes a token everywhere; here it is revoked when this returns, and its sockets are cut. Revoking an unknown one is
    /// fine.
    pub async fn revoke(&self, token: TokenRef) -> Revoking {
        self.revoke_these(&[token]).await
    }

    /// Revokes all of somebody, or all of one sort.
    pub async fn revoke_all(&self, identity: IdentityRef<'_>, sort: Option<TokenSort>) -> Revoking {
        // Of the store: one that another Usher has made a moment ago is not known here yet.
        let recorded = match self.records.list(Kind::Token).await {
            Ok(recorded) => recorded,
            Err(error) => return Revoking { failed: Some(error), ..Revoking::default() },
        };
        let is_meant = |document: &Document| {
            document.identity.as_ref() == identity && sort.is_none_or(|sort| document.sort() == sort)
        };
        let meant =
            recorded.iter().filter(|record| Document::read(&record.value).is_ok_and(|one| is_meant(&one)));
        let names: Vec<_> = meant.filter_map(|record| TokenRef::parse(&record.name)).collect();
        self.revoke_these(&names).await
    }

    /// Who has this label, among those who have tokens.
    pub fn labelled(&self, label: &str) -> Option<Identity> {
        let snapshot = self.snapshot.load();
        let theirs = snapshot.values().find(|token| token.session.label.as_str() == label);
        theirs.map(|token| token.session.identity().to_identity())
    }

    fn of(&self, identity: IdentityRef<'_>, sort: TokenSort) -> Vec<Arc<Token>> {
        self.list(identity).into_iter().filter(|token| token.sort == sort).collect()
    }

    async fn revoke_these(&self, tokens: &[TokenRef]) -> Revoking {
        let (known, mut revoking) = (self.snapshot.load(), Revoking::default());
        for token in tokens {
            match self.records.delete(Kind::Token, &token.to_string()).await {
                Ok(true) => revoking.revoked.extend(known.get(token).cloned()),
                Ok(false) => {}
                Err(error) => return Revoking { failed: Some(error), ..revoking },
            }
        }
        let gone = || {
            let snapshot = self.snapshot.load();
            tokens.iter().all(|token| !snapshot.contains_key(token)).then_some(())
        };
        let failed = self.snapshot.await_echo(gone).await.err();
        Revoking { failed, ..revoking }
    }

    /// Writes a token down that is made by a session which is still there afterwards: whoever ends somebody's sessions and
    /// then revokes their tokens has missed no token that was made in between.
    async fn write_down(
        &self,
        by: SessionRef,
        name: TokenRef,
        document: Document,
    ) -> Result<Arc<Token>, MakeError> {
        let text = name.to_string();
        self.records.create(Kind::Token, &text, document.write()).await?;
        if self.records.get(Kind::Session, &by.to_string()).await?.is_none() {
            self.records.delete(Kind::Token, &text).await?;
            return Err(MakeError::SessionOver);
        }
        Ok(self.snapshot.await_echo(|| self.snapshot.load().get(&name).cloned()).await?)
    }
}

impl TokenSecret {
    /// Its record.
    pub fn reference(&self) -> TokenRef {
        TokenRef(hash::short(&[b"api token", &self.0]))
    }
}

impl TokenRef {
    /// Parses what [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Option<Self> {
        hash::unhex(text).map(Self)
    }

    /// As it is.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(self.0))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

#[cfg(test)]
mod tests;

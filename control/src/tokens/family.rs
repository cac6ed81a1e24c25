//! Logins of `usher login`: a secret is good once and brings the next.
//!
//! One that comes twice was copied, and nobody can say who holds the right one: the login ends, everywhere (RFC 9700
//! §4.14.2). So does that of a machine whose answer got lost on the way; its person logs in again.

use super::document::Document;
use super::{LOGINS_PER_USER, MakeError, NewToken, Revoking, Token, TokenRef, TokenSort, Tokens};
use crate::{IdentityRef, Kind, RecordError, Session, SessionRef, hash};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often a record that others write at the same time is read again.
const TRIES: usize = 5;

/// What a machine shows once to get the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RefreshSecret {
    /// Of which login: as secret as the rest, so that nobody else can end it.
    pub family: [u8; 16],
    /// The secret.
    pub secret: [u8; 32],
}

/// What became of a secret that was shown.
#[derive(Debug)]
pub enum Rotated {
    /// It was good: the next.
    Next(RefreshSecret, Arc<Token>),
    /// It was used before: its login ends.
    Reused(Revoking),
    /// There is no such login, or it has ended.
    Unknown,
}

impl RefreshSecret {
    /// The record of its login.
    pub fn reference(&self) -> TokenRef {
        TokenRef(hash::short(&[b"login", &self.family]))
    }

    fn hash(&self) -> String {
        hash::text(&hash::digest(&[b"refresh", &self.family, &self.secret]))
    }
}

impl fmt::Debug for RefreshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshSecret(…)")
    }
}

impl Tokens {
    /// Begins a login of `usher login` for this session's owner, `by` the session; of too many the oldest are to end, see [`Tokens::end_excess`].
    ///
    /// # Errors
    /// The session has ended, or the store fails.
    pub async fn begin_login(
        &self,
        owner: &Session,
        by: SessionRef,
        new: NewToken,
    ) -> Result<(RefreshSecret, Arc<Token>), MakeError> {
        let first = RefreshSecret { family: hash::random()?, secret: hash::random()? };
        let document = Document::new(owner, new, Some(first.hash()));
        let token = self.write_down(by, first.reference(), document).await?;
        tracing::info!(user.label = %owner.label, token.id = %token.reference, token.scopes = %token.scopes, "somebody logged in at a command line");
        Ok((first, token))
    }

    /// Ends the oldest of somebody's logins where they have too many.
    pub async fn end_excess(&self, identity: IdentityRef<'_>) -> Revoking {
        let theirs = self.of(identity, TokenSort::Login);
        let excess = theirs.len().saturating_sub(LOGINS_PER_USER);
        let oldest: Vec<_> = theirs.into_iter().take(excess).map(|token| token.reference).collect();
        self.revoke_these(&oldest).await
    }

    /// Takes a secret for the next one; from now on its login is good for `lifetime`, and for no longer than `last` after it
    /// began.
    ///
    /// Of an unknown login no record is asked for.
    ///
    /// # Errors
    /// The store fails; whether the secret is still good is then unknown.
    pub async fn rotate(
        &self,
        shown: &RefreshSecret,
        now: SystemTime,
        lifetime: Duration,
        last: Duration,
    ) -> Result<Rotated, RecordError> {
        let reference = shown.reference();
        let held = self.snapshot.load().get(&reference).cloned();
        let Some(token) = held.filter(|token| now < token.expires) else { return Ok(Rotated::Unknown) };
        if !token.is_known {
            return Err(RecordError::Store("who owns the login is not known yet".to_owned()));
        }
        let name = reference.to_string();
        for _ in 0..TRIES {
            let Some(record) = self.records.get(Kind::Token, &name).await? else {
                return Ok(Rotated::Unknown);
            };
            let mut document = Document::read(&record.value).map_err(|error| {
                RecordError::Store(format!("the record of a token cannot be read: {error}"))
            })?;
            if document.secret.as_deref() != Some(shown.hash().as_str()) {
                tracing::warn!(user.label = %token.session.label, token.id = %reference, "a secret of a command line's login came twice: the login ends");
                return Ok(Rotated::Reused(self.revoke(reference).await));
            }
            let next = RefreshSecret { family: shown.family, secret: hash::random()? };
            document.secret = Some(next.hash());
            document.set_expires((now + lifetime).min(document.made() + last));
            document.set_used(now);
            match self.records.replace(Kind::Token, &name, record.version, document.write()).await {
                Ok(_) => return Ok(Rotated::Next(next, token)),
                // Somebody else has used it, or its last use was written down.
                Err(RecordError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RecordError::Conflict(name))
    }
}

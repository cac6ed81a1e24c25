//! Somebody on their way in: past the operator's rules, to a label, to a session.

use super::{NotIn, denied, store_failed};
use crate::access::authorise;
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::identity::{self, Handed, refresh};
use crate::own::Asked;
use crate::session_cookie;
use config::{Label, ProviderName, Subject};
use control::{Identity, Kept, Login, NewSession, RecordError, Session, SessionId};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::SystemTime;

/// Somebody whom the operator's rules let in.
pub(super) struct Entering {
    identity: Identity,
    subject: Subject,
    /// The label that the rules want for them.
    wanted: String,
    login: Login,
    kept: Option<Kept>,
}

impl Entering {
    /// By a name that was typed; none if this browser has a session of that name.
    pub(super) fn by_name(asked: &Asked, headers: &HeaderMap, name: &str) -> Result<Option<Self>, NotIn> {
        let mut subject = Subject {
            issuer: Identity::DEVELOPMENT.to_owned(),
            subject: name.to_owned(),
            name: name.to_owned(),
            ..Subject::default()
        };
        let login = Login::now(None, None, device(asked, headers));
        let entering = Self::allowed(asked, &mut subject, login)?;
        let here = asked.own.caller.as_ref().map(|caller| caller.session.identity());
        Ok((here != Some(entering.identity.as_ref())).then_some(entering))
    }

    /// By what a provider says of them.
    pub(super) async fn by_provider(
        edge: &Edge,
        asked: &Asked,
        headers: &HeaderMap,
        name: &ProviderName,
        handed: Handed,
    ) -> Result<Self, NotIn> {
        let Handed { mut subject, sid, refresh, lasts } = handed;
        let login = Login::now(Some(name.clone()), sid, device(asked, headers));
        let kept = refresh.and_then(|token| refresh::keep(&edge.keys, &subject, &token, lasts));
        let entering = Self::allowed(asked, &mut subject, login);
        if entering.is_err() {
            // Their tokens are kept out with them.
            let identity = Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() };
            if let Err(error) = edge.users.remember(identity.as_ref(), &subject).await {
                return Err(store_failed(&error));
            }
        }
        Ok(Self { kept, ..entering? })
    }

    fn allowed(asked: &Asked, subject: &mut Subject, login: Login) -> Result<Self, NotIn> {
        let facts = authorise::facts(&asked.host, "POST", "/login", &asked.connection);
        let rules = &asked.config.access;
        let wanted = identity::judge(&asked.config, subject, &facts).and_then(|()| {
            let wanted = rules.label.evaluate(subject, &facts);
            wanted.map_err(|error| authorise::rule_failed("access.label", &error))
        });
        let identity = Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() };
        let wanted = wanted.map_err(|refusal| denied(asked, &identity, &refusal))?;
        Ok(Self { identity, subject: subject.clone(), wanted, login, kept: None })
    }

    /// Makes their session: its cookie. The one that was this browser's ends.
    pub(super) async fn enter(
        self,
        edge: &Edge,
        asked: &Asked,
        now: SystemTime,
    ) -> Result<HeaderValue, NotIn> {
        let (id, session) = self.record(edge).await.map_err(|error| store_failed(&error))?;
        let by_them = |event| Entry::done(event).asked(asked).actor(session.identity(), Some(&session.label));
        let entry = by_them(Event::Login).session(id.reference()).agent(&session.device().agent);
        edge.audit.record(entry.provider(session.provider()));
        if let Some(other) = &asked.own.caller {
            let ending = edge.sessions.end(&other.id).await;
            edge.audit.ended(&ending, &by_them(Event::SessionEnded).because(Reason::Replaced));
            if let Err(error) = ending.result() {
                tracing::error!(error = %error, "the session of the person who was here before could not be ended");
            }
        }
        Ok(session_cookie::issue(&edge.keys, &asked.own.place, &asked.host, id, now))
    }

    async fn record(self, edge: &Edge) -> Result<(SessionId, Arc<Session>), RecordError> {
        let Self { identity, subject, wanted, login, kept } = self;
        let (_, label): (_, Label) = edge.users.enter(&identity, &wanted).await?;
        let method = login.provider.as_ref().map_or("development", ProviderName::as_str);
        tracing::info!(user.label = %label, login.method = method, "somebody logged in");
        if let Err(error) = edge.users.remember(identity.as_ref(), &subject).await {
            // It is for what starts before they come: no reason to keep them out now.
            tracing::warn!(%error, "how somebody was at their login could not be written down");
        }
        let display_name = subject.name.clone();
        let new = NewSession { identity, label, display_name, subject, login, kept };
        edge.sessions.create(new).await
    }
}

fn device(asked: &Asked, headers: &HeaderMap) -> control::Device {
    identity::device::of(headers, asked.connection.client.ip())
}

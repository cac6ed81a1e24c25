//! Somebody on their way in: past the operator's rules, to a label, to a session.

use super::{NotIn, denied, store_failed};
use crate::access::authorise;
use crate::edge::Edge;
use crate::identity::Handed;
use crate::metrics::LoginResult;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::session_cookie;
use config::{Config, Label, ProviderName, RequestFacts, Subject};
use control::{Identity, NewSession, RecordError, SessionId};
use http::HeaderValue;
use std::time::SystemTime;

/// Somebody whom the operator's rules let in.
pub(super) struct Entering {
    identity: Identity,
    subject: Subject,
    /// The label that the rules want for them.
    wanted: String,
    /// By which login; none = the one for development.
    provider: Option<ProviderName>,
}

impl Entering {
    /// By a name that was typed; none if this browser has a session of that name.
    pub(super) fn by_name(asked: &Asked, name: &str) -> Result<Option<Self>, NotIn> {
        let subject = Subject {
            issuer: Identity::DEVELOPMENT.to_owned(),
            subject: name.to_owned(),
            name: name.to_owned(),
            ..Subject::default()
        };
        let entering = Self::allowed(asked, subject, None)?;
        let here = asked.own.caller.as_ref().map(|caller| &caller.session.identity);
        Ok((here != Some(&entering.identity)).then_some(entering))
    }

    /// By what a provider says of them.
    pub(super) fn by_provider(asked: &Asked, name: &ProviderName, handed: Handed) -> Result<Self, NotIn> {
        Self::allowed(asked, handed.subject, Some(name.clone()))
    }

    fn allowed(asked: &Asked, mut subject: Subject, provider: Option<ProviderName>) -> Result<Self, NotIn> {
        let facts = authorise::facts(&asked.host, "POST", "/login", &asked.connection);
        let wanted = judge(&asked.config, &mut subject, &facts).map_err(|refusal| denied(asked, &refusal))?;
        let identity = Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() };
        Ok(Self { identity, subject, wanted, provider })
    }

    /// Makes their session: its cookie. The one that was this browser's ends.
    pub(super) async fn enter(self, edge: &Edge, asked: &Asked, now: SystemTime) -> Result<HeaderValue, NotIn> {
        let id = match self.record(edge).await {
            Ok(id) => id,
            Err(error) => return Err((LoginResult::Failed, store_failed(&error))),
        };
        if let Some(other) = &asked.own.caller
            && let Err(error) = edge.sessions.end(&other.id).await
        {
            tracing::error!(error = %error, "the session of the person who was here before could not be ended");
        }
        Ok(session_cookie::issue(&edge.keys, &asked.own.place, &asked.host, id, now))
    }

    async fn record(self, edge: &Edge) -> Result<SessionId, RecordError> {
        let Self { identity, subject, wanted, provider } = self;
        let (_, label): (_, Label) = edge.users.enter(&identity, &wanted).await?;
        let method = provider.as_ref().map_or("development", ProviderName::as_str);
        tracing::info!(user.label = %label, login.method = method, "somebody logged in");
        if let Err(error) = edge.users.remember(&identity, &subject).await {
            // It is for what starts before they come: no reason to keep them out now.
            tracing::warn!(%error, "how somebody was at their login could not be written down");
        }
        let display_name = subject.name.clone();
        edge.sessions.create(NewSession { identity, label, display_name, subject }).await.map(|(id, _)| id)
    }
}

/// Tells the groups of somebody, whether they may enter, and which label they get if so.
fn judge(config: &Config, subject: &mut Subject, facts: &RequestFacts) -> Result<String, Refusal> {
    let rules = &config.access;
    let failed = |rule| move |error| authorise::rule_failed(rule, &error);
    subject.groups = rules.groups.evaluate(subject, facts).map_err(failed("access.groups"))?;
    if !rules.allow.evaluate(subject, facts).map_err(failed("access.allow"))? {
        return Err(Refusal::new(Code::NotAllowed));
    }
    rules.label.evaluate(subject, facts).map_err(failed("access.label"))
}

//! Phase 5: whether they may. The only file that can make a [`Permit`].

use crate::access::authenticate::Caller;
use crate::access::route::Place;
use crate::connection::ConnectionFacts;
use crate::edge::{Edge, ListenerFacts};
use crate::handoff;
use crate::machines;
use crate::refusal::{Code, Refusal};
use crate::request::{Intent, Request};
use config::{
    BadValue, Config, EvalError, HostName, Quota, QuotaName, RequestFacts, RouteName, Subject, Template,
    TemplateName, WorkspaceId,
};
use control::{Entry, Grant, Identity, LastSeen, Phase, Wake};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The proof that a caller may use a workspace: their own, or what a route leads to.
///
/// It says nothing of how the workspace would be started: the rules for that are asked by [`Permit::wake`]
/// alone, so that a request to a ready workspace evaluates no expression.
#[derive(Debug, Clone)]
pub struct Permit {
    id: WorkspaceId,
    port: Option<u16>,
    caller: Caller,
    /// What a route's rule saw of the request; none where no rule was asked.
    asked: Option<Box<RequestFacts>>,
}

impl Permit {
    /// The workspace.
    pub fn id(&self) -> &WorkspaceId {
        &self.id
    }
    /// Another port of it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether a rule gave it, which may say something else once its provider says something else of the caller. Who comes by
    /// a token is let in by a rule each time.
    pub fn is_by_rule(&self) -> bool {
        self.asked.is_some() || self.caller.bearer.is_some()
    }

    /// This permit for the caller as they are now; none if their session ended or the rule does not let them in any more.
    pub fn renewed(&self, edge: &Edge, config: &Config) -> Option<Self> {
        let caller = self.caller.renewed(edge)?;
        if caller.bearer.is_some() {
            let facts = RequestFacts {
                host: self.host(config),
                method: "GET".to_owned(),
                path: "/".to_owned(),
                ..RequestFacts::default()
            };
            machines::may_enter(config, &caller.session, &facts).ok()?;
        }
        let place = Place::Workspace { id: self.id.clone(), port: self.port };
        match &self.asked {
            Some(asked) => allowed(edge, config, &place, &caller, || RequestFacts::clone(asked)).ok(),
            None => Some(Self { id: self.id.clone(), port: self.port, caller, asked: None }),
        }
    }

    /// The template whose ports count.
    pub fn template(
        &self,
        config: &Config,
        entry: Option<&Entry>,
        facts: impl FnOnce() -> RequestFacts,
    ) -> Option<Arc<Template>> {
        template_in_force(config, &self.id, &self.caller, entry, facts)
    }

    /// The workspace's host name, as `{host}` in its template.
    pub fn host(&self, config: &Config) -> String {
        self.id.host(config.domain.as_str())
    }

    /// Whether it is the caller's own. What many share is stopped and deleted by none of them.
    pub fn is_owners(&self) -> bool {
        self.id.route().is_none()
    }

    /// What to ask the control loop for, to have this workspace started. `retry`: a person asked again.
    ///
    /// # Errors
    /// A rule (`access.template`, `access.running_max`) gives no answer for this user: 403. A rule of the template
    /// gives none, or one that its key does not take: 500. Both with a warning in the log for the operator.
    pub fn wake(
        &self,
        config: &Config,
        entry: Option<&Entry>,
        facts: &RequestFacts,
        retry: bool,
    ) -> Result<Wake, Refusal> {
        if let Some(name) = self.id.route() {
            return self.wake_shared(config, name, retry);
        }
        let subject = &self.caller.session.subject();
        let limit = config.access.running_max.evaluate(subject, facts);
        let limit = limit.map_err(|error| rule_failed("access.running_max", &error))?;
        let by_rule = template_by_rule(config, &self.id, subject, facts)?;
        // A workspace keeps its template.
        let template = entry.map_or(by_rule, |entry| entry.template.clone());
        Ok(Wake {
            id: self.id.clone(),
            owner: self.caller.session.identity().to_identity(),
            grant: grant(config, &template, subject, facts)?,
            template,
            host: self.host(config),
            // A negative number allows as little as 0 does.
            running_max: usize::try_from(limit).unwrap_or(0),
            retry,
        })
    }
}

impl Permit {
    /// What a route leads to is the only one of its owner, and counts against nobody.
    fn wake_shared(&self, config: &Config, name: &RouteName, retry: bool) -> Result<Wake, Refusal> {
        let route = config.routes.get(name).ok_or_else(|| Refusal::new(Code::NotFound))?;
        Ok(Wake {
            id: self.id.clone(),
            owner: Identity::of_route(name),
            template: route.template.name.clone(),
            grant: Grant::default(),
            host: self.host(config),
            running_max: 1,
            retry,
        })
    }
}

/// What to ask the control loop for, to have somebody's first workspace started before they come, from this template;
/// none = it has another template, or they may not enter any more, by what the rules saw of them at their last login.
pub fn before_they_come(
    config: &Config,
    who: &LastSeen,
    template: &TemplateName,
    entry: Option<&Entry>,
) -> Option<Wake> {
    let id = WorkspaceId::Own { label: who.label.clone(), name: None };
    if entry.is_some_and(|entry| entry.owner != who.identity) {
        return None;
    }
    let host = id.host(config.domain.as_str());
    let facts = RequestFacts {
        host: host.clone(),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        address: String::new(),
    };
    let may_enter = config.access.allow.evaluate(&who.subject, &facts);
    if !may_enter.map_err(|error| rule_failed("access.allow", &error)).ok()? {
        return None;
    }
    let limit = config.access.running_max.evaluate(&who.subject, &facts);
    let limit = limit.map_err(|error| rule_failed("access.running_max", &error)).ok()?;
    let theirs = match entry {
        Some(entry) => entry.template.clone(),
        None => template_by_rule(config, &id, &who.subject, &facts).ok()?,
    };
    let grant = (theirs == *template).then(|| grant(config, template, &who.subject, &facts))?.ok()?;
    Some(Wake {
        id,
        owner: who.identity.clone(),
        template: theirs,
        grant,
        host,
        running_max: usize::try_from(limit).unwrap_or(0),
        retry: false,
    })
}

/// Lets the owner of a declared workspace in, by a port that its template allows; to a route, whom its rule allows.
///
/// # Errors
/// No caller: to the login for navigations ([`handoff::start`]), 401 with its address otherwise. Not theirs,
/// not declared, a port that is not allowed: one 404, the same for all. Not whom a route's rule allows: 403.
pub fn permit(
    edge: &Edge,
    config: &Config,
    place: Place,
    caller: Option<Caller>,
    request: &Request<'_>,
) -> Result<Permit, Refusal> {
    let Some(caller) = caller else {
        let Request { host, connection, .. } = request;
        let page = request.page();
        return Err(login_needed(config, host, &connection.listener, request.intent, &page));
    };
    let facts = || facts(&request.host, request.head.method.as_str(), request.path, request.connection);
    allowed(edge, config, &place, &caller, facts)
}

/// The same decision for our own endpoints, of somebody who is known. `facts` is asked only if a rule must be
/// evaluated.
///
/// # Errors
/// As [`permit`].
pub fn allowed(
    edge: &Edge,
    config: &Config,
    place: &Place,
    caller: &Caller,
    facts: impl FnOnce() -> RequestFacts,
) -> Result<Permit, Refusal> {
    let not_found = || Refusal::new(Code::NotFound);
    let Place::Workspace { id, port } = place else { return Err(not_found()) };
    let permit = |asked| Permit { id: id.clone(), port: *port, caller: caller.clone(), asked };
    if let Some(name) = id.route() {
        let route = config.routes.get(name).filter(|_| port.is_none()).ok_or_else(not_found)?;
        let facts = facts();
        let allows = route.allow.evaluate(&caller.session.subject(), &facts);
        return match allows.map_err(|error| rule_failed("routes.allow", &error))? {
            true => Ok(permit(Some(Box::new(facts)))),
            false => Err(Refusal::with(Code::NotAllowed, format!("{name} is not open to you"))),
        };
    }
    if !owns(config, id, caller) {
        return Err(not_found());
    }
    if let Some(port) = port {
        let entry = edge.workspaces.lookup(id);
        let template =
            template_in_force(config, id, caller, entry.as_deref(), facts).ok_or_else(not_found)?;
        if !template.ports.contains(port) {
            return Err(not_found());
        }
    }
    Ok(permit(None))
}

/// What the rules see of a request.
pub fn facts(host: &HostName, method: &str, path: &str, connection: &ConnectionFacts) -> RequestFacts {
    RequestFacts {
        host: host.to_string(),
        method: method.to_owned(),
        path: path.to_owned(),
        address: connection.client.ip().to_canonical().to_string(),
    }
}

/// The refusal for a rule that gave no answer: denied, and the operator is told which and why.
pub fn rule_failed(rule: &str, error: &EvalError) -> Refusal {
    tracing::warn!(rule, rule.expression = %error.text, rule.error = %error.reason, "a rule gave no answer and denies");
    Refusal::with(Code::NotAllowed, format!("the rule `{rule}` gives no answer for this user"))
}

/// Whether a workspace exists for its owner, and the caller is that owner.
fn owns(config: &Config, id: &WorkspaceId, caller: &Caller) -> bool {
    let declared = id.name().is_none_or(|name| config.named_workspaces.contains_key(name));
    declared && id.label() == Some(&caller.session.label)
}

/// The template whose ports count: what runs was started from; else the one that the workspace has; else the
/// one that it would get.
fn template_in_force(
    config: &Config,
    id: &WorkspaceId,
    caller: &Caller,
    entry: Option<&Entry>,
    facts: impl FnOnce() -> RequestFacts,
) -> Option<Arc<Template>> {
    match entry {
        Some(Entry { phase: Phase::Ready(route), .. }) => Some(Arc::clone(&route.template)),
        Some(entry) => config.templates.get(&entry.template).cloned(),
        None => config
            .templates
            .get(&template_by_rule(config, id, &caller.session.subject(), &facts()).ok()?)
            .cloned(),
    }
}

fn template_by_rule(
    config: &Config,
    id: &WorkspaceId,
    subject: &Subject,
    facts: &RequestFacts,
) -> Result<TemplateName, Refusal> {
    let (rule, expression) = match id.name().and_then(|name| config.named_workspaces.get(name)) {
        Some(named) => ("named_workspaces.template", &named.template),
        None => ("access.template", &config.access.template),
    };
    let text = expression.evaluate(subject, facts).map_err(|error| rule_failed(rule, &error))?;
    TemplateName::parse(&text).map_err(|bad| {
        let error = EvalError { text: expression.text().to_owned(), reason: bad.to_string() };
        rule_failed(rule, &error)
    })
}

/// What a start is admitted with. Of a template that is gone the control loop will tell.
fn grant(
    config: &Config,
    template: &TemplateName,
    subject: &Subject,
    facts: &RequestFacts,
) -> Result<Grant, Refusal> {
    let Some(template) = config.templates.get(template) else { return Ok(Grant::default()) };
    let values = template.evaluate(subject, facts);
    let values = values.map_err(|bad| value_failed(config, template, &bad))?;
    Ok(Grant { values, quotas: quotas(config, subject, facts)? })
}

/// The quotas that this user's workspaces count against. One whose rule gives no answer might be theirs: nothing is
/// started.
fn quotas(config: &Config, subject: &Subject, facts: &RequestFacts) -> Result<BTreeSet<QuotaName>, Refusal> {
    let applies = |(name, quota): (&QuotaName, &Arc<Quota>)| match quota.applies_to.evaluate(subject, facts) {
        Ok(applies) => applies.then(|| Ok(name.clone())),
        Err(error) => Some(Err(rule_failed(&format!("quotas.{name}.applies_to"), &error))),
    };
    config.quotas.iter().filter_map(applies).collect()
}

/// The refusal for a rule of a template that gave no value: nothing is started, and the operator is told where the
/// rule stands and why.
fn value_failed(config: &Config, template: &Template, bad: &BadValue) -> Refusal {
    let key = format!("templates.{}.{}", template.name, bad.key);
    let place = config.place(&key);
    tracing::warn!(config.key = key, config.place = place, rule.error = %bad.problem, "a rule of a template gave no value");
    let detail = format!("The configuration gives no value of `{key}` for you, so that nothing was started.");
    Refusal::with(Code::Misconfigured, detail)
}

/// What somebody without a session is told. `page` is path and query of what they wanted on this host.
pub(crate) fn login_needed(
    config: &Config,
    host: &HostName,
    listener: &ListenerFacts,
    intent: Intent,
    page: &str,
) -> Refusal {
    match intent {
        Intent::Navigation => {
            Refusal { location: Some(handoff::start(page)), ..Refusal::new(Code::LoginNeeded) }
        }
        // A page that may be a tab and may be a frame: only a click in a tab leads to the login.
        Intent::Page => {
            Refusal { location: Some(handoff::start(page)), ..Refusal::new(Code::Unauthenticated) }
        }
        Intent::Background | Intent::Script => {
            let back = format!("{}/", listener.origin(host.as_str()));
            let login = handoff::login_address(config, listener, &back);
            Refusal { location: Some(login), ..Refusal::new(Code::Unauthenticated) }
        }
    }
}

//! Phase 2: whether this address, and then this user, may ask for more just now. Before anything dear is done.

use crate::access::authenticate::Caller;
use crate::edge::Edge;
use crate::limits::PerUser;
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use config::{AddressLists, Config, TemplateName};
use control::{Entry, Phase};
use std::net::IpAddr;

/// Lets in who may come from their address, and counts the request as its own.
///
/// # Errors
/// 403: the address is shut out of everything. 429: it has asked for all that it may.
pub fn address(edge: &Edge, config: &Config, request: &Request<'_>) -> Result<(), Refusal> {
    let client = request.connection.client.ip();
    permits(&config.access.addresses, client)?;
    if request.again { Ok(()) } else { edge.limits.request(config, client) }
}

/// Counts the request as the caller's, if it is known who asks.
///
/// # Errors
/// 429: they have asked for all that they may. 403: their rule gives no answer.
pub fn user(
    edge: &Edge,
    config: &Config,
    caller: Option<&Caller>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    match caller {
        Some(caller) if !request.again => edge.limits.user(PerUser::Requests, config, &caller.session),
        _ => Ok(()),
    }
}

/// Counts a start that the caller asks for, before any rule about it is asked.
///
/// # Errors
/// As [`user`].
pub fn spawn(edge: &Edge, config: &Config, caller: &Caller) -> Result<(), Refusal> {
    edge.limits.user(PerUser::Spawns, config, &caller.session)
}

/// Lets in who may reach what runs of this template from their address.
///
/// # Errors
/// 403.
pub fn template(config: &Config, name: &TemplateName, client: IpAddr) -> Result<(), Refusal> {
    config.template(name).map_or(Ok(()), |template| permits(&template.addresses, client))
}

/// The same for what stands in the table. Of a template that is not in the configuration any more what it said when the
/// workspace was started.
///
/// # Errors
/// 403.
pub fn entry(config: &Config, entry: Option<&Entry>, client: IpAddr) -> Result<(), Refusal> {
    match entry {
        Some(Entry { phase: Phase::Ready(route), template, .. }) if config.template(template).is_none() => {
            permits(&route.template.addresses, client)
        }
        Some(entry) => template(config, &entry.template, client),
        None => Ok(()),
    }
}

fn permits(lists: &AddressLists, client: IpAddr) -> Result<(), Refusal> {
    if lists.permits(client) { Ok(()) } else { Err(Refusal::new(Code::AddressNotAllowed)) }
}

#[cfg(test)]
mod tests {
    use crate::access::route::Place;
    use crate::access::{Verdict, admit};
    use crate::lab::{CONFIG, Lab};
    use crate::refusal::Code;
    use crate::request::Request;
    use crate::request::tests::{Client, head};
    use crate::session_cookie;
    use config::{HostName, Label, Subject, WorkspaceId};
    use control::{Device, Identity, Login, NewSession, Session};
    use std::sync::Arc;
    use std::time::SystemTime;

    const TAB: [(&str, &str); 2] = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

    /// A session of alice's, and the cookie of her host.
    async fn alice(lab: &Lab) -> (Arc<Session>, String) {
        let (issuer, subject) = (Identity::DEVELOPMENT.to_owned(), "alice".to_owned());
        let subject = Subject { issuer, subject, name: "alice".to_owned(), ..Subject::default() };
        let identity = Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() };
        let label = Label::parse("alice").unwrap();
        let login = Login::now(None, None, Device::default());
        let new =
            NewSession { identity, label, display_name: "alice".to_owned(), subject, login, kept: None };
        let (id, session) = lab.edge.sessions.create(new).await.unwrap();
        let place = Place::Workspace { id: WorkspaceId::parse("alice").unwrap(), port: None };
        let host = HostName::parse("alice.lab.localhost").unwrap();
        let set = session_cookie::issue(&lab.edge.keys, &place, &host, id, SystemTime::now());
        (session, set.to_str().unwrap().split(';').next().unwrap().to_owned())
    }

    /// What becomes of her visit, with so many that she may make in a minute.
    async fn visit(lab: &Lab, cookie: &str) -> Result<Verdict, Code> {
        let fields = [&TAB[..], &[("cookie", cookie)]].concat();
        let (head, client) = (head("GET", "alice.lab.localhost", "/", &fields), Client::plain());
        let request = Request::parse(&head, &client.0).unwrap();
        let config = lab.edge.config.load_full();
        admit(&lab.edge, &config, &request).await.map_err(|refusal| refusal.code)
    }

    #[tokio::test]
    async fn a_request_too_many_wakes_nothing_and_keeps_no_session() {
        for (requests, expected) in [("0", Some(Code::RateLimited)), ("1", None)] {
            let lab = lab(&format!("requests_per_user = '{requests}'")).await;
            let (session, cookie) = alice(&lab).await;
            assert_eq!(visit(&lab, &cookie).await.err(), expected);
            assert_eq!(session.use_mark().time().is_some(), expected.is_none());
            assert_eq!(
                lab.edge.workspaces.lookup(&WorkspaceId::parse("alice").unwrap()).is_some(),
                expected.is_none()
            );
        }
    }

    #[tokio::test]
    async fn a_start_too_many_is_asked_of_no_rule_and_of_no_driver() {
        let lab = lab("spawns_per_user = '0'").await;
        let (_, cookie) = alice(&lab).await;
        assert_eq!(visit(&lab, &cookie).await.err(), Some(Code::RateLimited));
        assert!(lab.starts().is_empty());
    }

    async fn lab(limits: &str) -> Lab {
        let facts =
            crate::edge::ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        Lab::with(&format!("{CONFIG}[limits]\n{limits}\n"), facts).await
    }
}

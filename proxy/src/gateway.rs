//! Pingora's callbacks, translated to ours.

use crate::access::Forward;
use crate::access::ensure::is_theirs;
use crate::access::route::Place;
use crate::answer;
use crate::connection::Link;
use crate::dial::Dial;
use crate::edge::Edge;
use crate::exchange::{Exchange, Handover, OpenResponse};
use crate::judge::{Next, judge};
use crate::log::{self, PendingEvent};
use crate::notice::Injector;
use crate::own::{self, Asked};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use crate::{dial, head, hold, portal, upstream, witness, workspace_host};
use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use http::Response;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::any::Any;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long an HTTP/1.1 connection waits for its next request.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How many interim answers (1xx) a workspace may send before its answer.
const INTERIM_MAX: u32 = 8;

/// The edge, as Pingora sees it: one per core, all of them copies, since what the routers count is for all cores.
#[derive(Clone)]
pub struct Gateway {
    edge: Arc<Edge>,
    portal: Router,
    workspace_host: Router,
}

impl Gateway {
    /// A gateway with routers of its own.
    pub fn new(edge: Arc<Edge>) -> Self {
        Self {
            portal: portal::router(edge.clone()),
            workspace_host: workspace_host::router(edge.clone()),
            edge,
        }
    }

    async fn own(&self, session: &mut Session, exchange: &mut Exchange, asked: Asked) -> Result<()> {
        let router = match asked.own.place {
            Place::Portal => &self.portal,
            Place::Workspace { .. } => &self.workspace_host,
        };
        match own::read_body(session).await? {
            // While the body was read: nobody changes anything with a session that has ended.
            Ok(_) if asked.own.caller.as_ref().is_some_and(|caller| caller.session.ended().is_given()) => {
                let refused = exchange.refuse(session.req_header(), &Refusal::new(Code::Unauthenticated));
                answer::send(session, refused).await
            }
            Ok(body) => own::answer(router, session, asked, body, &mut exchange.refusal).await,
            Err(code) => {
                let refused = exchange.refuse(session.req_header(), &Refusal::new(code));
                answer::send(session, refused).await
            }
        }
    }

    /// Lets no byte pass once the permit is worth nothing any more: the session has ended, or the workspace is
    /// somebody else's, or a rule does not let its user in any more. An answer may stream for hours.
    fn check_permit(&self, exchange: &mut Exchange) -> Result<()> {
        let Some(Forward { permit, route, .. }) = &mut exchange.forward else { return Ok(()) };
        if permit.is_by_rule() && permit.caller().session.changed().is_given() {
            match permit.renewed(&self.edge, &exchange.config) {
                Some(renewed) => *permit = renewed,
                None => return Err(exchange.give_up(Refusal::new(Code::NotAllowed))),
            }
        }
        let entry = || self.edge.workspaces.lookup(permit.id());
        let code = if permit.caller().session.ended().is_given() {
            Code::Unauthenticated
        } else if route.ended.is_cancelled() && !is_theirs(permit.caller(), entry().as_deref()) {
            Code::NotFound
        } else {
            return Ok(());
        };
        Err(exchange.give_up(Refusal::new(code)))
    }

    /// What a person sees whose workspace cannot be dialled just now: the page that goes on by itself.
    async fn waits(&self, session: &Session, exchange: &Exchange) -> Option<Response<Bytes>> {
        let (forward, connection) = (exchange.forward.as_ref()?, exchange.connection()?);
        let request = Request::parse(session.req_header(), &connection).ok()?;
        if !request.intent.wants_page() {
            return None;
        }
        Some(workspace_host::waiting_page(&self.edge, &request, forward.permit.id(), false).await)
    }

    /// Whether a dial that failed may be tried again: the same instance still takes traffic.
    fn may_dial_again(exchange: &Exchange) -> bool {
        let ended = exchange.forward.as_ref().is_none_or(|forward| forward.route.ended.is_cancelled());
        exchange.tries < upstream::TRIES && !ended
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(self.edge.config.load_full())
    }

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        let link = Link::of(session).ok_or_else(|| internal("the connection has no facts"))?;
        link.head_complete();
        exchange.on(&link, session.req_header());
        // Pingora takes a keep-alive without a limit from every request that asks for one.
        if session.get_keepalive().is_some() {
            // Whoever comes again is to come by way of another, which serves better.
            let stays = !self.edge.workspaces.cut_off();
            session.set_keepalive(stays.then_some(KEEP_ALIVE.as_secs()));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let mut next = judge(&self.edge, session, exchange).await;
        if let Next::Hold(waiting) = next {
            next = hold::hold(&self.edge, session, exchange, *waiting).await?;
        }
        match next {
            Next::Forward(forward) => {
                exchange.forward = Some(*forward);
                return Ok(false);
            }
            Next::Tunnel(upgrade) => {
                let event = PendingEvent::new(exchange.event(session).into_owned(), self.edge.clone());
                exchange.hand_over(Handover { upgrade: *upgrade, event });
                session.set_keepalive(Some(KEEP_ALIVE.as_secs()));
            }
            Next::Own(asked) => self.own(session, exchange, *asked).await.map_err(of_client)?,
            Next::Answer(response) => answer::send(session, response).await.map_err(of_client)?,
            Next::Hold(_) => return Err(internal("a hold ended in a hold")),
        }
        Ok(true)
    }

    fn persist_connection_context(
        &self,
        _session: &Session,
        exchange: &Exchange,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        exchange.take_handover().map(|handover| handover as _)
    }

    async fn upstream_peer(&self, _session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        // Pingora tries again at once; a workspace that just refused needs a moment.
        if let Some(moment) = upstream::back_off(exchange.tries) {
            tokio::time::sleep(moment).await;
        }
        let forward = admitted(&exchange.forward)?;
        let dial = Dial::of(self.edge.clone(), exchange.config.clone(), forward);
        Ok(Box::new(upstream::peer(forward, dial)?))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        exchange.tries += 1;
        if let Some(refusal) = dial::refusal_of(&error) {
            return exchange.give_up(refusal);
        }
        // Nothing was sent yet, so that any method may be tried again.
        error.set_retry(Self::may_dial_again(exchange));
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.opened = Some(witness::opened(digest));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        // It may have waited for a connection for long.
        self.check_permit(exchange)?;
        let forward = admitted(&exchange.forward)?;
        let connection = exchange.connection().ok_or_else(|| internal("the connection has no facts"))?;
        let now = SystemTime::now();
        let told = self.edge.assertions.told(&forward.permit, &exchange.config, &connection.listener, now);
        head::to_upstream(upstream, session.req_header(), forward, told);
        exchange.sent = Some(Instant::now());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        self.check_permit(exchange)?;
        let is_empty = body.as_ref().is_some_and(Bytes::is_empty);
        if is_empty && end_of_stream {
            // Else Pingora writes the last chunk twice for an HTTP/2 client (cloudflare/pingora#935).
            *body = None;
        } else if let Some(forward) =
            exchange.forward.as_ref().filter(|forward| forward.counts && body.is_some())
        {
            forward.activity.request();
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.interim += u32::from(response.status.is_informational());
        if let (Some(forward), Some(opened), Some(sent)) = (&exchange.forward, exchange.opened, exchange.sent)
        {
            forward.route.proof.heard(sent, opened, &forward.route.sight);
        }
        let checked = if exchange.interim > INTERIM_MAX {
            Err(Refusal::with(Code::BadUpstream, "The workspace sent too many interim answers."))
        } else {
            head::check_upstream(response)
        };
        // An error here is the end of the upstream connection, too: nothing more is believed that it says.
        checked.map_err(|refusal| exchange.give_up(refusal))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        head::from_upstream(response, &exchange.config.domain);
        answer::speak_for_site(response, session);
        if response.status.is_informational() {
            return Ok(());
        }
        let forward = admitted(&exchange.forward)?;
        exchange.open = Some(OpenResponse::new(forward.activity.clone()));
        exchange.notice = Injector::for_response(session.req_header(), &forward.route.template, response);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<Duration>> {
        self.check_permit(exchange)?;
        if let Some(notice) = &mut exchange.notice {
            notice.chunk(body);
        }
        // This chunk is asked for since the client took those before it. What polls all by itself downloads nothing.
        let has_bytes = body.as_ref().is_some_and(|body| !body.is_empty());
        if let Some(forward) = exchange.forward.as_ref().filter(|forward| forward.counts && has_bytes) {
            forward.activity.bytes_taken();
        }
        Ok(None)
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        // A tunnel's event belongs to its end.
        if !exchange.is_handed_over() {
            log::request_event(&exchange.event(session), &self.edge.metrics, Instant::now());
        }
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let refusal = exchange.given_up().or_else(|| refusal_of(error));
        exchange.fault = fault(error);
        let error_code = match refusal {
            // After the head of an answer only its end can tell: the connection closes.
            Some(refusal) if session.response_written().is_none_or(|head| head.status.is_informational()) => {
                let refused = exchange.refuse(session.req_header(), &refusal);
                let refused = match refusal.code {
                    Code::Unseen => self.waits(session, exchange).await.unwrap_or(refused),
                    _ => refused,
                };
                let status = refused.status().as_u16();
                session.set_keepalive(None);
                // The client may be gone meanwhile: there is nobody left to tell.
                let _ = answer::send(session, refused).await;
                status
            }
            _ => 0,
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn request_summary(&self, _session: &Session, exchange: &Exchange) -> String {
        // Pingora's own would have the query in it.
        format!("request {}", exchange.id)
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        // The request's event tells the refusal and the fault, at its own level.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        // A workspace that has just begun to accept refuses a few times: not worth a warning each.
        true
    }
}

/// What a failed exchange is refused with; `None` where the client itself is gone.
fn refusal_of(error: &Error) -> Option<Refusal> {
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, _) => Some(Refusal::new(Code::BadUpstream)),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error,
        ) => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Refusal::new(Code::RequestTimeout)),
        (ErrorSource::Downstream, _) => Some(Refusal::new(Code::BadRequest)),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::new(Code::Internal)),
    }
}

/// What fails while we ourselves answer is the client's connection, unless the error says otherwise; Pingora only
/// marks what fails in its own phases.
fn of_client(mut error: Box<Error>) -> Box<Error> {
    if *error.esource() == ErrorSource::Unset {
        error.as_down();
    }
    error
}

/// What failed, for the event; none where a client left, which is no fault. Pingora's own words may hold a part of
/// what a peer sent.
fn fault(error: &Error) -> Option<String> {
    let source = error.esource();
    (*source != ErrorSource::Downstream).then(|| {
        let cause = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<io::Error>());
        let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
        log::cut(format!("{} {}{cause}", source.as_str(), error.etype().as_str()).trim_start().as_bytes())
            .into_owned()
    })
}

/// The way of a request that phases let through: Pingora goes upstream with no other.
fn admitted(forward: &Option<Forward>) -> Result<&Forward> {
    forward.as_ref().ok_or_else(|| internal("a request goes upstream that was not admitted"))
}

fn internal(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, what).into_in()
}

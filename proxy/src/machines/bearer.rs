//! Whether a request shows a token that is meant for Usher, by its form alone.
//!
//! An application may have an `Authorization` of its own: what is not ours goes to it as it came.

use super::form;
use crate::edge::Edge;
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Config, TrustedIssuer};
use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// A token that is meant for Usher; whether it is any good is not known yet.
#[derive(Debug, Clone)]
pub(crate) enum Shown<'a> {
    /// It has the form of a secret of Usher's own.
    Secret(&'a str),
    /// It is a JWT that says that Usher made it.
    Access(&'a str),
    /// It is a JWT that says that this issuer made it, for Usher.
    Issued(&'a str, Arc<TrustedIssuer>),
}

/// What a JWT says of itself, before anything of it is believed.
#[derive(Deserialize)]
struct Said {
    iss: String,
    #[serde(default)]
    aud: Value,
}

/// The token of a request that is meant for Usher, if it shows one.
///
/// # Errors
/// 400: it has another `Authorization` beside it.
pub(crate) fn shown<'a>(
    edge: &Edge,
    config: &Config,
    request: &'a Request<'_>,
) -> Result<Option<Shown<'a>>, Refusal> {
    let fields = request.head.headers.get_all(AUTHORIZATION);
    let mut ours = fields.iter().filter_map(|field| of_field(edge, config, request, field.to_str().ok()?));
    let first = ours.next();
    if first.is_some() && fields.iter().count() > 1 {
        return Err(Refusal::with(Code::BadRequest, "There are several Authorization fields."));
    }
    Ok(first)
}

fn of_field<'a>(edge: &Edge, config: &Config, request: &Request<'_>, field: &'a str) -> Option<Shown<'a>> {
    let (scheme, token) = field.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let token = token.trim();
    if token.starts_with(form::OURS) {
        return Some(Shown::Secret(token));
    }
    let Said { iss, aud } = said(token)?;
    if is_portal(edge, config, request, &iss) {
        return Some(Shown::Access(token));
    }
    // An issuer's token for another audience is the application's own business.
    let is_meant = |told: &&Arc<TrustedIssuer>| told.issuer.as_str() == iss && is_for(&aud, &told.audience);
    config.machines.issuers.values().find(is_meant).map(|told| Shown::Issued(token, told.clone()))
}

/// Whether a text is the portal's origin, as this listener or another serves it.
pub(super) fn is_portal(edge: &Edge, config: &Config, request: &Request<'_>, text: &str) -> bool {
    let mut listeners = std::iter::once(&*request.connection.listener).chain(&edge.origins.0);
    listeners.any(|listener| listener.origin(config.portal.as_str()) == text)
}

/// Whether `aud` (RFC 7519 §4.1.3) names an audience.
pub(super) fn is_for(aud: &Value, audience: &str) -> bool {
    match aud {
        Value::String(one) => one == audience,
        Value::Array(several) => several.iter().any(|one| one == audience),
        _ => false,
    }
}

fn said(token: &str) -> Option<Said> {
    let mut parts = token.split('.');
    let (_head, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::ListenerFacts;
    use crate::lab::{CONFIG, Lab};
    use crate::request::tests::{Client, head};
    use serde_json::json;

    const ISSUERS: &str =
        "[machines.issuers.ci]\nissuer = 'https://ci.test'\naudience = 'usher'\nallow = 'true'\n";

    fn jwt(claims: &Value) -> String {
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#.to_owned()), part(claims.to_string()))
    }

    #[tokio::test]
    async fn what_is_ours_is_told_by_its_form_and_what_is_not_is_left_alone() {
        let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        let lab = Lab::with(&format!("{CONFIG}{ISSUERS}"), facts).await;
        let config = lab.edge.config.load_full();
        let portal = json!({ "iss": "http://lab.localhost:8080", "aud": "x" });
        let bearer = |claims: Value| format!("Bearer {}", jwt(&claims));
        let issued = bearer(json!({ "iss": "https://ci.test", "aud": ["x", "usher"] }));
        for (fields, expected) in [
            (vec!["Bearer usher_pat_x"], Ok("secret")),
            (vec!["bEARER   usher_prt_x "], Ok("secret")),
            (vec![&*bearer(portal)], Ok("access")),
            (vec![&*issued], Ok("issued")),
            (vec![&*bearer(json!({ "iss": "https://ci.test", "aud": "others" }))], Ok("")),
            (vec![&*bearer(json!({ "iss": "https://ci.test" }))], Ok("")),
            (vec![&*bearer(json!({ "iss": "https://ci.test/", "aud": "usher" }))], Ok("")),
            (vec![&*bearer(json!({ "iss": "http://lab.localhost", "aud": "x" }))], Ok("")),
            (vec!["Bearer x"], Ok("")),
            (vec!["Bearer"], Ok("")),
            (vec!["token usher_pat_x"], Ok("")),
            (vec!["Basic dXNoZXJfcGF0Xw=="], Ok("")),
            (vec!["Basic eA==", "Bearer x"], Ok("")),
            (vec!["Basic eA==", "Bearer usher_pat_x"], Err(Code::BadRequest)),
            (vec!["Bearer usher_pat_x", "Bearer usher_pat_x"], Err(Code::BadRequest)),
            (vec![], Ok("")),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| ("authorization", *field)).collect();
            let (head, client) = (head("GET", "lab.localhost:8080", "/", &fields), Client::plain());
            let request = Request::parse(&head, &client.0).unwrap();
            let told = shown(&lab.edge, &config, &request).map_err(|refusal| refusal.code);
            let told = told.map(|shown| match shown {
                Some(Shown::Secret(_)) => "secret",
                Some(Shown::Access(_)) => "access",
                Some(Shown::Issued(..)) => "issued",
                None => "",
            });
            assert_eq!(told, expected, "{fields:?}");
        }
    }
}

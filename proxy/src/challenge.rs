//! What an authority asks over HTTP before it signs (RFC 8555 §8.3): answered on every host, by every listener, to
//! everybody. Who can answer shows that the name is Usher's; the answer itself is no secret.

use crate::edge::Edge;
use crate::page;
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use bytes::Bytes;
use config::Config;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};

const PATH: &str = "/.well-known/acme-challenge/";
/// The longest token: authorities give 43 characters, and are free to give more.
const TOKEN_MAX: usize = 128;

/// The answer, if this is such a question. Neither rules about addresses nor a login are asked: authorities come from
/// wherever they like.
///
/// # Errors
/// 404 for a token that is unknown, 429 for an address that asks too much.
pub fn answer(
    edge: &Edge,
    config: &Config,
    request: &Request<'_>,
) -> Result<Option<Response<Bytes>>, Refusal> {
    let Some(token) = asked(request) else { return Ok(None) };
    if !request.again {
        edge.limits.request(config, request.connection.client.ip())?;
    }
    let Some(known) = edge.challenges.answer(token) else { return Err(Refusal::new(Code::NotFound)) };
    let mut response = Response::new(Bytes::copy_from_slice(known.as_bytes()));
    *response.headers_mut() = page::common_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(Some(response))
}

/// The token that is asked for, exactly so written; whatever else may stand under the path is none of this.
fn asked<'a>(request: &Request<'a>) -> Option<&'a str> {
    let reads = matches!(request.head.method, Method::GET | Method::HEAD);
    request.path.strip_prefix(PATH).filter(|token| reads && is_token(token))
}

/// Base64url (RFC 8555 §8.1).
fn is_token(text: &str) -> bool {
    (1..=TOKEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;
    use crate::request::tests::{Client, head};
    use certs::HttpChallenges;
    use http::StatusCode;

    #[tokio::test]
    async fn an_authority_is_answered_on_every_host_and_nobody_else_is() {
        let lab = Lab::asked_for(HttpChallenges::of(&[("token-1_A", "token-1_A.thumb")])).await;
        let config = lab.edge.config.load_full();
        let ask = |method: &str, host: &str, path: &str| {
            let head = head(method, host, path, &[]);
            let client = Client::plain();
            let request = Request::parse(&head, &client.0).unwrap();
            match answer(&lab.edge, &config, &request) {
                Ok(None) => None,
                Ok(Some(response)) => Some((response.status(), response.into_body())),
                Err(refusal) => Some((refusal.code.row().status, Bytes::new())),
            }
        };
        let good = Some((StatusCode::OK, Bytes::from("token-1_A.thumb")));
        let known = "/.well-known/acme-challenge/token-1_A";
        for host in ["lab.localhost", "alice.lab.localhost", "nobody.example", "192.0.2.1"] {
            assert_eq!(ask("GET", host, known), good, "{host}");
            assert_eq!(ask("HEAD", host, known), good, "{host}");
            assert_eq!(ask("POST", host, known), None);
        }
        assert_eq!(ask("GET", "lab.localhost", &format!("{known}?x=1")), good);
        let longest = "a".repeat(TOKEN_MAX);
        for unknown in ["other", "-", longest.as_str()] {
            let path = format!("{PATH}{unknown}");
            assert_eq!(ask("GET", "lab.localhost", &path), Some((StatusCode::NOT_FOUND, Bytes::new())));
        }
        let too_long = "a".repeat(TOKEN_MAX + 1);
        for none in ["", "a/b", "a.b", "%41", "token-1_A/", "..", too_long.as_str()] {
            assert_eq!(ask("GET", "lab.localhost", &format!("{PATH}{none}")), None, "{none}");
        }
    }
}

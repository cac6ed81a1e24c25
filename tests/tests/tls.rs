//! Over TLS: HTTP/2 and `wss`, with the operator's own certificate.

use http::{Method, StatusCode};
use tests::{Certificate, DOMAIN, Person, Setup, Usher, h2_answer};

async fn secure_usher() -> Usher {
    let certificate = Certificate::for_names(&[DOMAIN, &format!("*.{DOMAIN}")]);
    Setup::new("").certificate(&certificate).start().await
}

#[tokio::test]
async fn the_road_leads_over_tls() {
    let usher = secure_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    assert_eq!(alice.fetch(Method::GET, "/").send().await.status, StatusCode::OK);
    let mut socket = alice.socket("/ws").await.unwrap();
    socket.echoes("over wss").await;
}

#[tokio::test]
async fn a_workspace_is_reached_over_http_2() {
    let usher = secure_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let cookies = alice.jar.field(&alice.host()).unwrap();
    let headers =
        [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
    let answer = h2_answer(&usher.client(), &alice.host(), "/headers", &headers).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(!answer.text().contains("__Host-usher"), "our cookie reached the workspace: {}", answer.text());
}

#[tokio::test]
async fn another_host_over_the_same_http_2_connection_is_judged_by_itself() {
    let usher = secure_usher().await;
    let bob = Person::at_work(&usher, "bob").await;
    let cookies = bob.jar.field(&bob.host()).unwrap();
    let headers =
        [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
    let answer = h2_answer(&usher.client(), &format!("alice.{DOMAIN}"), "/headers", &headers).await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
}

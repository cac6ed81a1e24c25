use super::*;
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::access::route::Place;
use crate::edge::Edge;
use crate::lab::{CONFIG, Lab};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Label, RequestFacts, Subject, WorkspaceId};
use control::{Device, Identity, Login, NewSession};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

const PORTAL: &str = "http://lab.localhost:8080";
const ALICE: &str = "alice.lab.localhost";
const PLAIN: ListenerFacts =
    ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };

fn alice() -> NewSession {
    let identity = Identity { issuer: "https://idp.test".to_owned(), subject: "a-1".to_owned() };
    let subject = Subject { groups: vec!["astro".to_owned()], ..Subject::default() };
    NewSession {
        identity,
        label: Label::parse("alice").unwrap(),
        display_name: "Alice Å".to_owned(),
        subject,
        login: Login::now(None, None, Device::default()),
        kept: None,
    }
}

async fn permit(lab: &Lab, new: NewSession, workspace: &str) -> Permit {
    let (id, session) = lab.edge.sessions.create(new).await.unwrap();
    permitted(&lab.edge, &Caller::in_person(id, session), workspace)
}

fn permitted(edge: &Edge, caller: &Caller, workspace: &str) -> Permit {
    let (workspace, port) = match workspace.split_once(':') {
        Some((workspace, port)) => (workspace, port.parse().ok()),
        None => (workspace, None),
    };
    let place = Place::Workspace { id: WorkspaceId::parse(workspace).unwrap(), port };
    authorise::allowed(edge, &edge.config.load(), &place, caller, RequestFacts::default).unwrap()
}

/// What an edge of this ring tells the workspace.
fn assertion(lab: &Lab, permit: &Permit, listener: &ListenerFacts, now: SystemTime) -> String {
    let header = lab.edge.assertions.told(permit, &lab.edge.config.load(), listener, now).assertion;
    header.to_str().unwrap().to_owned()
}

/// What an application does that follows the README.
fn verified(keys: &Value, token: &str, issuer: &str, audience: &str) -> Result<Value, ErrorKind> {
    let keys: JwkSet = serde_json::from_value(keys.clone()).unwrap();
    let kid = decode_header(token).map_err(|error| error.into_kind())?.kid.unwrap();
    let Some(key) = keys.find(&kid) else { return Err(ErrorKind::InvalidKeyFormat) };
    let mut checks = Validation::new(Algorithm::ES256);
    checks.leeway = 0;
    checks.set_audience(&[audience]);
    checks.set_issuer(&[issuer]);
    checks.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    decode::<Value>(token, &key, &checks).map(|token| token.claims).map_err(|error| error.into_kind())
}

#[tokio::test]
async fn a_workspace_learns_who_asks_from_nobody_but_the_portal_it_trusts() {
    let lab = Lab::new().await;
    let permit = permit(&lab, alice(), "alice").await;
    let now = SystemTime::now();
    let (token, keys) = (assertion(&lab, &permit, &PLAIN, now), lab.edge.assertions.jwks(now));
    let issued = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(
        verified(&keys, &token, PORTAL, ALICE),
        Ok(json!({
            "iss": PORTAL, "aud": ALICE, "sub": permit.caller().session.identity().key(),
            "iat": issued, "exp": issued + 60,
            "name": "Alice Å", "preferred_username": "alice", "groups": ["astro"],
            "identity": { "iss": "https://idp.test", "sub": "a-1" },
        }))
    );
    let head = decode_header(&token).unwrap();
    assert_eq!((head.alg, head.typ.as_deref()), (Algorithm::ES256, Some("JWT")));
    let bob = "bob.lab.localhost";
    assert_eq!(verified(&keys, &token, PORTAL, bob), Err(ErrorKind::InvalidAudience));
    let evil = "http://evil.localhost:8080";
    assert_eq!(verified(&keys, &token, evil, ALICE), Err(ErrorKind::InvalidIssuer));
    let other = Lab::new().await.edge.assertions.jwks(now);
    assert_eq!(verified(&other, &token, PORTAL, ALICE), Err(ErrorKind::InvalidKeyFormat));
}

#[tokio::test]
async fn no_changed_character_passes() {
    let lab = Lab::new().await;
    let permit = permit(&lab, alice(), "alice").await;
    let now = SystemTime::now();
    let (token, keys) = (assertion(&lab, &permit, &PLAIN, now), lab.edge.assertions.jwks(now));
    // The head says which key and which algorithm, so each of its changes fails in a way of its own.
    for at in token.find('.').unwrap()..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verified(&keys, &changed, PORTAL, ALICE).is_err(), "at {at}: {changed}");
    }
}

#[tokio::test]
async fn an_assertion_is_over_after_a_minute() {
    let lab = Lab::new().await;
    let permit = permit(&lab, alice(), "alice").await;
    let now = SystemTime::now();
    let keys = lab.edge.assertions.jwks(now);
    for (age, expected) in [(58, Ok(())), (61, Err(ErrorKind::ExpiredSignature))] {
        let token = assertion(&lab, &permit, &PLAIN, now - Duration::from_secs(age));
        assert_eq!(verified(&keys, &token, PORTAL, ALICE).map(drop), expected, "{age} s");
    }
}

#[tokio::test]
async fn each_workspace_and_each_listener_has_an_assertion_of_its_own_and_a_port_that_of_its_workspace() {
    let lab = Lab::new().await;
    let (id, session) = lab.edge.sessions.create(alice()).await.unwrap();
    let caller = Caller::in_person(id, session);
    let now = SystemTime::now();
    let keys = lab.edge.assertions.jwks(now);
    let tls = ListenerFacts { tls: true, public_port: 443, loopback: false, redirects: false };
    for (workspace, listener, issuer, audience) in [
        ("alice", &PLAIN, PORTAL, ALICE),
        ("gpu--alice", &PLAIN, PORTAL, "gpu--alice.lab.localhost"),
        ("alice:8888", &PLAIN, PORTAL, ALICE),
        ("alice", &tls, "https://lab.localhost", ALICE),
    ] {
        let permit = permitted(&lab.edge, &caller, workspace);
        let token = assertion(&lab, &permit, listener, now);
        assert!(verified(&keys, &token, issuer, audience).is_ok(), "{workspace} by {listener:?}");
    }
}

#[tokio::test]
async fn an_assertion_is_used_again_while_half_of_its_life_is_left() {
    let lab = Lab::new().await;
    let permit = permit(&lab, alice(), "alice").await;
    let start = UNIX_EPOCH + Duration::from_millis(1_800_000_000_900);
    let first = assertion(&lab, &permit, &PLAIN, start);
    for (ahead, same) in [(0, true), (29, true), (30, false), (31, false)] {
        // A signature is never the same twice.
        let again = assertion(&lab, &permit, &PLAIN, start + Duration::from_secs(ahead));
        assert_eq!(again == first, same, "{ahead} s later");
    }
    let last = assertion(&lab, &permit, &PLAIN, start + Duration::from_secs(31));
    assert_ne!(assertion(&lab, &permit, &PLAIN, start), last, "the clock went back: it is not valid yet");
}

#[tokio::test]
async fn a_renewed_session_gets_an_assertion_of_what_it_says_now() {
    let lab = Lab::new().await;
    let (id, before) = lab.edge.sessions.create(alice()).await.unwrap();
    let (_, renewed) = lab.edge.sessions.create(alice()).await.unwrap();
    let whose =
        || Whose { session: id, workspace: WorkspaceId::parse("alice").unwrap(), listener: PLAIN.clone() };
    let (mut kept, now) = (Kept::default(), Duration::from_secs(1_800_000_000));
    let told = Told::lab("a");
    kept.keep(whose(), &before, now, told);
    assert!(kept.find(&whose(), &before, now).is_some());
    assert!(kept.find(&whose(), &renewed, now).is_none());
}

#[tokio::test]
async fn two_people_never_share_an_assertion() {
    let lab = Lab::new().await;
    let now = SystemTime::now();
    let keys = lab.edge.assertions.jwks(now);
    let mut twin = alice();
    twin.identity.issuer = "https://other.test".to_owned();
    let mut subjects = Vec::new();
    for new in [alice(), twin] {
        let permit = permit(&lab, new, "alice").await;
        let claims = verified(&keys, &assertion(&lab, &permit, &PLAIN, now), PORTAL, ALICE).unwrap();
        subjects.push(claims["sub"].clone());
    }
    assert_ne!(subjects[0], subjects[1], "one subject of two providers is two people");
}

#[tokio::test]
async fn the_longest_of_everything_still_fits_into_a_header() {
    let lab = Lab::new().await;
    let now = SystemTime::now();
    let keys = lab.edge.assertions.jwks(now);
    let mut new = alice();
    new.display_name = "\u{1}".repeat(1000);
    new.identity.subject = "s".repeat(500);
    new.subject.groups = vec!["g".repeat(3068)];
    let email = format!("{}@x.test", "e".repeat(247));
    new.subject.claims = serde_json::from_value(json!({ "email": email, "email_verified": true })).unwrap();
    let token = assertion(&lab, &permit(&lab, new.clone(), "alice").await, &PLAIN, now);
    let claims = verified(&keys, &token, PORTAL, ALICE).unwrap();
    assert!((6500..8000).contains(&token.len()), "{} bytes", token.len());
    assert_eq!((&claims["email"], &claims["email_verified"]), (&json!(email), &json!(true)));
    assert_eq!(
        (claims["groups"][0].as_str(), claims.get("groups_omitted")),
        (Some(&*"g".repeat(3068)), None)
    );

    new.identity.subject = "s".repeat(10_000);
    new.subject.groups = (0..200).map(|group| format!("department-{group}-members")).collect();
    new.subject.claims =
        serde_json::from_value(json!({ "email": "e".repeat(10_000), "email_verified": true })).unwrap();
    let token = assertion(&lab, &permit(&lab, new, "alice").await, &PLAIN, now);
    let claims = verified(&keys, &token, PORTAL, ALICE).unwrap();
    for gone in ["groups", "email", "email_verified", "identity"] {
        assert_eq!(claims.get(gone), None);
    }
    assert_eq!(claims["groups_omitted"], true);
}

#[test]
fn an_older_keys_assertions_verify_for_as_long_as_the_key_opens() {
    let now = SystemTime::now();
    let folder = |keys: &[u8]| {
        let since = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let kept =
            keys.iter().map(|key| json!({ "secret": URL_SAFE_NO_PAD.encode([*key; 32]), "since": since }));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, json!({ "keys": kept.collect::<Vec<_>>() }).to_string()).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Assertions::new(&Keys::open_dir(folder.path()).unwrap())
    };
    let (old, rotated) = (folder(&[1]), folder(&[2, 1]));
    let kids = |assertions: &Assertions, now| {
        let keys = assertions.jwks(now)["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let [old_kid] = kids(&old, now).try_into().unwrap();
    let [new_kid, listed] = kids(&rotated, now).try_into().unwrap();
    assert_eq!(listed, old_kid, "every replica makes the same key of the same ring");
    assert_ne!(new_kid, old_kid);
    assert_eq!(kids(&rotated, now + crate::keys::OPENS_FOR), std::slice::from_ref(&new_kid));
    let signs = |now| json!(rotated.signers().signing(now).jwk())["kid"].as_str().unwrap().to_owned();
    assert_eq!(signs(now), new_kid, "the newest signs");
    assert_eq!(signs(now - Duration::from_secs(60)), old_kid, "until its time comes, the one before it does");
}

#[tokio::test]
async fn neither_key_nor_assertion_shows_in_a_debug_text() {
    let lab = Lab::with(CONFIG, PLAIN).await;
    let permit = permit(&lab, alice(), "alice").await;
    let header =
        lab.edge.assertions.told(&permit, &lab.edge.config.load(), &PLAIN, SystemTime::now()).assertion;
    assert_eq!(format!("{header:?} {:?}", lab.edge.assertions), "Sensitive Assertions(1 …)");
}

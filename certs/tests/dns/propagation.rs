//! What is waited for, and what is not, before the authority is told to look.

use super::bind::SECRET;
use super::servers::{Notify, Servers, host};
use certs::DnsError;
use futures_util::poll;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const NAME: &str = "_acme-challenge.lab.test";

#[tokio::test]
async fn a_secondary_that_lags_is_waited_for() {
    let servers = Servers::with(Notify::Never).await;
    let records = servers.records();
    let (lab, texts) = (host("lab.test"), ["text".to_owned()]);
    records.present(&lab, "text").await.unwrap();
    let mut propagated = pin!(records.propagated(&lab, &texts));
    // Several rounds.
    assert!(timeout(Duration::from_secs(2), propagated.as_mut()).await.is_err(), "the secondary has nothing");
    assert_eq!(servers.primary.texts(NAME), ["text"]);
    assert!(servers.secondary.texts(NAME).is_empty());
    servers.secondary.notify("lab.test");
    assert!(propagated.await.unwrap().silent.is_empty());
    assert_eq!(servers.secondary.texts(NAME), ["text"]);
}

#[tokio::test]
async fn a_secondary_that_never_gets_the_record_is_an_error_that_names_it() {
    let servers = Servers::with(Notify::Never).await;
    let mut provider = servers.provider(servers.updates("usher", SECRET));
    provider.propagation_timeout = Duration::from_secs(2);
    let records = servers.records_of(provider);
    let lab = host("lab.test");
    records.present(&lab, "text").await.unwrap();
    let began = Instant::now();
    let error = records.propagated(&lab, &["text".to_owned()]).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(
        error.to_string(),
        format!(
            "{NAME} is not at all authoritative servers of lab.test after 2s (dns_providers.home): missing at \
             ns2.lab.test ({})",
            servers.secondary.address
        )
    );
}

#[tokio::test]
async fn a_secondary_that_says_nothing_for_a_while_is_waited_for() {
    let servers = Servers::start().await;
    let records = servers.records();
    let (lab, texts) = (host("lab.test"), ["text".to_owned()]);
    servers.secondary.freeze();
    records.present(&lab, "text").await.unwrap();
    let mut propagated = pin!(records.propagated(&lab, &texts));
    // Longer than one round, which gives each server some seconds.
    assert!(timeout(Duration::from_secs(6), propagated.as_mut()).await.is_err(), "the secondary is frozen");
    servers.secondary.thaw();
    assert!(propagated.await.unwrap().silent.is_empty());
}

#[tokio::test]
async fn a_dead_secondary_is_told_and_does_not_block_for_ever() {
    let servers = Servers::start().await;
    let mut provider = servers.provider(servers.updates("usher", SECRET));
    provider.propagation_timeout = Duration::from_secs(2);
    let records = servers.records_of(provider);
    let dead = host("dead.test");
    records.present(&dead, "text").await.unwrap();
    let began = Instant::now();
    let propagated = records.propagated(&dead, &["text".to_owned()]).await.unwrap();
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(1) && waited < Duration::from_secs(4), "{waited:?}");
    let [told] = &propagated.silent[..] else { panic!("{propagated:?}") };
    assert!(told.starts_with(&format!("ns4.lab.test ({}: ", servers.at(4))), "{told}");
    // The dead one vouches for nothing.
    let error = records.propagated(&dead, &["another".to_owned()]).await.unwrap_err();
    let DnsError::NotShown { lacking, silent, .. } = &error else { panic!("{error:?}") };
    assert_eq!((lacking.len(), silent.len()), (1, 1), "{error}");
}

#[tokio::test]
async fn servers_that_all_say_nothing_are_an_error() {
    let servers = Servers::start().await;
    let mut provider = servers.provider(servers.updates("usher", SECRET));
    provider.propagation_timeout = Duration::from_secs(1);
    let records = servers.records_of(provider);
    servers.primary.freeze();
    servers.secondary.freeze();
    // The resolver knows who they are only from them.
    let error = records.propagated(&host("lab.test"), &["text".to_owned()]).await.unwrap_err();
    assert!(matches!(error, DnsError::Slow { .. } | DnsError::Resolving { .. }), "{error:?}");
    servers.primary.thaw();
}

#[tokio::test]
async fn nothing_is_asked_where_the_check_is_off() {
    let servers = Servers::start().await;
    let mut provider = servers.provider(servers.updates("usher", SECRET));
    provider.check_propagation = false;
    // Whoever asked these would wait.
    provider.resolvers = vec![servers.at(4)];
    let records = servers.records_of(provider);
    let lab = host("lab.test");
    records.present(&lab, "text").await.unwrap();
    let texts = ["not there".to_owned()];
    let mut propagated = pin!(records.propagated(&lab, &texts));
    assert!(poll!(propagated.as_mut()).is_ready());
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_one_packet_is_read_whole() {
    let servers = Servers::start().await;
    let records = servers.records();
    let host = host("long.records.test");
    let texts: Vec<String> = (0..30).map(|number| format!("{number:0>43}")).collect();
    for text in &texts {
        records.present(&host, text).await.unwrap();
    }
    assert!(records.propagated(&host, &texts).await.unwrap().silent.is_empty());
}

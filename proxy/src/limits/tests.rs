use super::*;
use crate::lab::CONFIG;
use std::net::{Ipv4Addr, Ipv6Addr};

fn config(limits: &str) -> Config {
    Config::parse("test", &format!("{CONFIG}[limits]\n{limits}"), &|_| None).unwrap_or_else(|e| panic!("{e}"))
}

fn limits() -> Limits {
    Limits::new(&Metrics::new().unwrap())
}

#[test]
fn an_address_that_has_asked_enough_is_told_when_to_come_again() {
    let (limits, config) = (limits(), config("requests_per_address = 3"));
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    assert!((0..3).all(|_| limits.request(&config, client).is_ok()));
    let refusal = limits.request(&config, client).unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after), (Code::RateLimited, Some(20)));
    assert!(
        refusal.detail.contains("at most 3 a minute (limits.requests_per_address)"),
        "{}",
        refusal.detail
    );
    assert!(limits.login(&config, client).is_ok(), "logins are counted by themselves");
    assert!(limits.request(&config, "192.0.2.2".parse().unwrap()).is_ok());
}

#[test]
fn all_of_a_64_count_as_one_address() {
    let (limits, config) = (limits(), config("requests_per_address = 100"));
    let host = |network: u16, host: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host).into();
    assert!((0..100).all(|n| limits.request(&config, host(1, n)).is_ok()));
    assert!(limits.request(&config, host(1, 100)).is_err());
    assert!(limits.request(&config, host(2, 100)).is_ok());
}

#[test]
fn cores_that_hear_of_an_address_at_the_same_moment_count_in_one_cell() {
    let (limits, config) = (limits(), config("requests_per_address = 100"));
    for n in 0..50 {
        let client = Ipv4Addr::new(192, 0, 2, n).into();
        let ask = || (0..60).filter(|_| limits.request(&config, client).is_ok()).count();
        let passed: usize = std::thread::scope(|scope| {
            let cores: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            cores.into_iter().map(|core| core.join().unwrap()).sum()
        });
        assert!((100..110).contains(&passed), "{passed}");
    }
}

#[test]
fn a_changed_configuration_counts_at_once() {
    let limits = limits();
    let client: IpAddr = "192.0.2.1".parse().unwrap();
    let (few, more) = (config("requests_per_address = 1"), config("requests_per_address = 2"));
    assert!(limits.request(&few, client).is_ok() && limits.request(&few, client).is_err());
    assert!(limits.request(&more, client).is_ok());
}

#[test]
fn an_address_that_has_begun_enough_handshakes_begins_no_more() {
    let (limits, config) = (limits(), config("handshakes_per_address = 2"));
    let begin = |client: &str| limits.handshake(&config, client.parse().unwrap()).is_some();
    assert_eq!(["192.0.2.1"; 3].map(begin), [true, true, false]);
    assert!(begin("192.0.2.2"));
    assert_eq!(["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(begin), [true, true, false]);
    let client = "192.0.2.1".parse().unwrap();
    assert!(limits.request(&config, client).is_ok(), "requests are counted by themselves");
    assert_eq!(limits.metrics.count_of(Limit::HandshakesPerAddress), 2);
}

#[test]
fn a_trusted_proxy_begins_handshakes_for_many() {
    let trusting = format!(
        "trusted_proxies = ['192.0.2.0/24']\nclient_address = 'forwarded'\n{CONFIG}\
         [limits]\nhandshakes_per_address = 1\nhandshakes = 2"
    );
    let config = Config::parse("test", &trusting, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let limits = limits();
    let begin = |client: &str| limits.handshake(&config, client.parse().unwrap());
    assert!((0..5).all(|_| begin("192.0.2.1").is_some()));
    assert_eq!((begin("198.51.100.1").is_some(), begin("198.51.100.1").is_some()), (true, false));
    let both = [begin("192.0.2.1"), begin("192.0.2.1")];
    assert!(both.iter().all(Option::is_some) && begin("192.0.2.1").is_none());
    drop(both);
    assert!(begin("192.0.2.1").is_some(), "what has ended makes room");
    assert_eq!(limits.metrics.count_of(Limit::Handshakes), 1);
}

/// Whether it is to end, without waiting.
fn is_ended(under_way: &UnderWay) -> bool {
    futures_util::FutureExt::now_or_never(under_way.ended()).is_some()
}

#[test]
fn one_address_has_no_more_than_its_share_of_what_is_under_way() {
    let (limits, config) = (limits(), config("handshakes = 8"));
    let begin = |client: &str| limits.handshake(&config, client.parse().unwrap());
    let first: Vec<_> = (0..2).map(|_| begin("192.0.2.1").unwrap()).collect();
    assert!(begin("192.0.2.1").is_none());
    drop(first);
    assert!(begin("192.0.2.1").is_some(), "what has ended makes room");
    assert_eq!(limits.metrics.count_of(Limit::HandshakesPerAddress), 1);
}

#[test]
fn silent_connections_of_some_make_room_for_a_newcomer_oldest_first() {
    let (limits, config) = (limits(), config("handshakes = 8"));
    let begin = |client: &str| limits.handshake(&config, client.parse().unwrap());
    let silent: Vec<_> =
        (1..5).flat_map(|n| [n; 2]).map(|n| begin(&format!("192.0.2.{n}")).unwrap()).collect();
    let newcomer = begin("198.51.100.1").unwrap();
    let ended: Vec<usize> = (0..8).filter(|n| is_ended(&silent[*n])).collect();
    assert_eq!(ended, [0]);
    assert!(begin("192.0.2.2").is_none(), "it has no fewer than the others");
    assert_eq!(limits.metrics.count_of(Limit::HandshakesPerAddress), 1);
    assert!(!is_ended(&newcomer));
}

/// A /48 has 65,536 of what counts as one address elsewhere.
#[test]
fn the_networks_of_one_48_have_together_no_more_than_one_address() {
    let (limits, config) = (limits(), config("handshakes = 8"));
    let begin = |client: &str| limits.handshake(&config, client.parse().unwrap());
    let of_one = [begin("2001:db8:0:1::1").unwrap(), begin("2001:db8:0:1::2").unwrap()];
    let beside: Vec<_> = (2..9).map(|n| begin(&format!("2001:db8:0:{n}::1")).unwrap()).collect();
    assert_eq!(of_one.each_ref().map(is_ended), [true, true]);
    assert_eq!(beside.iter().filter(|one| !is_ended(one)).count(), 2, "they end each other's");
    let others: Vec<_> = (1..8).map(|n| begin(&format!("2001:db8:{n}::1")).unwrap()).collect();
    assert!(others.iter().all(|one| !is_ended(one)), "each has one now");
}

#[test]
fn two_hundred_thousand_addresses_leave_no_more_cells_than_there_may_be() {
    let (limits, config) = (limits(), config("requests_per_address = 5\nlogins_per_address = 5"));
    let persistent: IpAddr = "198.51.100.1".parse().unwrap();
    let (begun, mut passed) = (Instant::now(), 0);
    for n in 0..200_000_u32 {
        let client = Ipv4Addr::from_bits(0x0a00_0000 + n).into();
        assert!(limits.request(&config, client).is_ok());
        assert!(limits.login(&config, client).is_ok());
        assert!(limits.bad_token(&config, client).is_ok());
        assert!(limits.handshake(&config, client).is_some());
        if n % 1000 == 0 {
            passed += u64::from(limits.request(&config, persistent).is_ok());
        }
    }
    // Whoever asks often is known all the while.
    let refilled = begun.elapsed().as_secs() / 12 + 1;
    assert!((5..=5 + refilled).contains(&passed), "{passed}");
    for cells in [&limits.requests, &limits.logins, &limits.bad_tokens] {
        assert!(count(cells) <= ADDRESSES_MAX, "{}", cells.entry_count());
    }
    assert!(limits.handshakes.entries() <= ADDRESSES_MAX);
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test(start_paused = true)]
#[ignore = "soak: measures the memory of a process that does nothing else; `make soak` runs it"]
async fn full_caches_take_no_more_than_their_budget() {
    let (limits, config) = (limits(), config(""));
    let before = resident();
    let mut last = before;
    let mut step = |what, entries: u64| {
        let took = resident().saturating_sub(last);
        last += took;
        println!("{what}: {entries} entries, {} bytes each", took as u64 / entries.max(1));
    };
    for n in 0..ADDRESSES_MAX as u32 * 2 {
        assert!(limits.handshake(&config, Ipv4Addr::from_bits(n).into()).is_some());
    }
    step("handshakes", limits.handshakes.entries());
    for n in 0..ADDRESSES_MAX as u32 * 2 {
        limits.request(&config, Ipv4Addr::from_bits(n).into()).unwrap();
    }
    step("requests", count(&limits.requests));
    for n in 0..ADDRESSES_MAX as u32 * 2 {
        limits.login(&config, Ipv4Addr::from_bits(n).into()).unwrap();
    }
    step("logins", count(&limits.logins));
    for n in 0..ADDRESSES_MAX as u32 * 2 {
        limits.bad_token(&config, Ipv4Addr::from_bits(n).into()).unwrap();
    }
    step("bad tokens", count(&limits.bad_tokens));
    for n in 0..ADDRESSES_MAX as u32 * 2 {
        limits.delays.hold(Source::of(Ipv4Addr::from_bits(n).into())).await.unwrap();
    }
    step("failures", limits.delays.entries());
    for n in 0..USERS_MAX * 2 {
        let label = Label::parse(&format!("somebody-with-a-long-nam-{n:05}")).unwrap();
        let allowance = Allowance::judge(&config, &Default::default(), None, Instant::now());
        limits.users.insert(label, Arc::new(allowance));
    }
    step("users", count(&limits.users));
    let took = resident() - before;
    println!("together: {} MiB", took >> 20);
    assert!(took <= BUDGET, "{took} bytes");
}

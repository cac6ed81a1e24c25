//! An open connection to an instance as a witness that its address is still its own.

use control::{Proof, Sight};
use pingora::protocols::Digest;
use pingora::protocols::l4::ext::get_tcp_info;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;

/// How fresh the proof is kept: a small part of the time for which it is believed.
const EVERY: Duration = Duration::from_secs(1);

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What Pingora is to keep as the time at which a connection was opened: by a clock that nobody sets.
pub(crate) fn opened_now() -> SystemTime {
    UNIX_EPOCH + BEGINNING.elapsed()
}

/// When a connection of Pingora's was [opened](opened_now); one of which that is not known counts as new.
pub(crate) fn opened(digest: Option<&Digest>) -> Instant {
    let timing = digest.and_then(|digest| digest.timing_digest.first()?.as_ref());
    let since = timing.and_then(|timing| timing.established_ts.duration_since(UNIX_EPOCH).ok());
    let now = Instant::now();
    since.and_then(|since| BEGINNING.checked_add(since)).map_or(now, |opened| opened.min(now))
}

/// A TCP connection. Lives beside it and no longer.
#[derive(Debug)]
pub(crate) struct Witness {
    proof: Arc<Proof>,
    sight: Sight,
    opened: Instant,
    socket: RawFd,
}

impl Witness {
    /// For a connection that was just opened.
    pub(crate) fn new(proof: Arc<Proof>, sight: Sight, stream: &TcpStream) -> Self {
        Self { proof, sight, opened: Instant::now(), socket: stream.as_raw_fd() }
    }

    /// Bytes went over it, in whichever direction. Once a second the kernel is asked when it last heard of the other
    /// side: what was just read may have lain there since long before, while its reader could not go on or the whole
    /// process was paused.
    pub(crate) fn carried(&self, now: Instant) {
        if now.checked_sub(EVERY).is_none_or(|due| self.proof.is_newer_than(due)) {
            return;
        }
        let Ok(info) = get_tcp_info(self.socket) else { return };
        let silent = Duration::from_millis(info.tcpi_last_data_recv.min(info.tcpi_last_ack_recv).into());
        if let Some(heard) = now.checked_sub(silent) {
            self.proof.heard(heard, self.opened, &self.sight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::protocols::TimingDigest;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    /// A connection, its other end, and it as a witness of this.
    async fn witness(proof: &Arc<Proof>) -> (TcpStream, TcpStream, Witness) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let sight = Sight::default();
        let witness = Witness::new(proof.clone(), sight.clone(), &ours);
        sight.reaches(witness.opened + Duration::from_millis(1));
        (ours, theirs, witness)
    }

    /// How long ago the kernel last heard of the other side.
    fn silent(stream: &TcpStream) -> Duration {
        let info = get_tcp_info(stream.as_raw_fd()).unwrap();
        Duration::from_millis(info.tcpi_last_data_recv.min(info.tcpi_last_ack_recv).into())
    }

    async fn until_silent_for(stream: &TcpStream, time: Duration) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while silent(stream) < time {
            assert!(Instant::now() < deadline, "its kernel hears something all the time");
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_connection_is_as_old_as_it_is_whatever_the_wall_clock_says() {
        let digest = |opened| {
            let timing = TimingDigest { established_ts: opened, ..TimingDigest::default() };
            Digest { timing_digest: vec![Some(timing)], ..Digest::default() }
        };
        let before = Instant::now();
        let known = digest(opened_now());
        let after = Instant::now();
        assert!((before..=after).contains(&opened(Some(&known))));
        for unknown in [None, Some(digest(SystemTime::now())), Some(digest(UNIX_EPOCH - EVERY))] {
            assert!(opened(unknown.as_ref()) >= after, "it counts as new");
        }
    }

    #[tokio::test]
    async fn what_lay_in_the_kernel_proves_nothing_of_the_time_at_which_it_is_read() {
        let proof = Arc::new(Proof::default());
        let begun = Instant::now();
        assert!(!proof.holds(begun));
        let (ours, mut theirs, witness) = witness(&proof).await;
        theirs.write_all(b"x").await.unwrap();
        ours.readable().await.unwrap();
        let silence = Duration::from_millis(100);
        until_silent_for(&ours, silence).await;
        let read = Instant::now();
        witness.carried(read);
        // The kernel counts in steps of some milliseconds.
        assert!(proof.is_newer_than(begun - silence / 2), "it came after that");
        assert!(!proof.is_newer_than(read - silence / 2), "it came before that");
    }

    #[tokio::test]
    async fn what_is_only_sent_proves_something_once_it_is_acknowledged() {
        let proof = Arc::new(Proof::default());
        let (mut ours, _theirs, witness) = witness(&proof).await;
        until_silent_for(&ours, Duration::from_millis(100)).await;
        let sent = Instant::now();
        ours.write_all(b"x").await.unwrap();
        let deadline = sent + Duration::from_secs(20);
        while silent(&ours) >= sent.elapsed() + Duration::from_millis(50) {
            assert!(Instant::now() < deadline, "its kernel acknowledges nothing");
            tokio::task::yield_now().await;
        }
        witness.carried(Instant::now());
        assert!(proof.is_newer_than(sent - Duration::from_millis(60)));
    }
}

//! What is counted of certificates.

use prometheus::{GaugeVec, IntCounterVec, Opts, Registry};

/// All metrics of this package. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    expiry: GaugeVec,
    not_before: GaugeVec,
    renewals: IntCounterVec,
    orders: IntCounterVec,
}

/// When a certificate expires, and since when it is good, in UNIX seconds. Zeros = there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) expiry: u64,
    pub(crate) not_before: u64,
}

impl Life {
    /// Of both the one with the smaller part of its life left: lives may be of any length, and alerts go by their parts.
    pub(crate) fn nearer(self, other: Self, now: u64) -> Self {
        let left = |life: Self| u128::from(life.expiry.saturating_sub(now));
        let whole = |life: Self| u128::from(life.expiry.saturating_sub(life.not_before).max(1));
        if left(self) * whole(other) <= left(other) * whole(self) { self } else { other }
    }
}

/// What came of a renewal, or of getting a first certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewalResult {
    /// There is a new one.
    Renewed,
    /// There is none; what there was serves on.
    Failed,
}

/// What came of asking an authority for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderResult {
    /// It was made.
    Made,
    /// It was not.
    Refused,
}

impl RenewalResult {
    const ALL: [Self; 2] = [Self::Renewed, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Failed => "failed",
        }
    }
}

impl OrderResult {
    const ALL: [Self; 2] = [Self::Made, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Refused => "refused",
        }
    }
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// One of their names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let expiry = GaugeVec::new(
            Opts::new(
                "usher_certificate_expiry_timestamp_seconds",
                "When the certificate that is shown expires, by its name in the configuration; with per_host of the host with the smallest part of its life left; 0 = there is none.",
            ),
            &["certificate"],
        )?;
        let not_before = GaugeVec::new(
            Opts::new(
                "usher_certificate_not_before_timestamp_seconds",
                "When the life of that certificate began; 0 = there is none.",
            ),
            &["certificate"],
        )?;
        let renewals = IntCounterVec::new(
            Opts::new(
                "usher_certificate_renewals_total",
                "Certificates that were got or renewed, or could not be by any authority that may be asked.",
            ),
            &["result"],
        )?;
        let orders = IntCounterVec::new(
            Opts::new("usher_acme_orders_total", "Orders that authorities were asked for by ACME."),
            &["result"],
        )?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(not_before.clone()))?;
        registry.register(Box::new(renewals.clone()))?;
        registry.register(Box::new(orders.clone()))?;
        for result in RenewalResult::ALL {
            renewals.with_label_values(&[result.as_str()]);
        }
        for result in OrderResult::ALL {
            orders.with_label_values(&[result.as_str()]);
        }
        Ok(Self { expiry, not_before, renewals, orders })
    }

    pub(crate) fn renewal(&self, result: RenewalResult) {
        self.renewals.with_label_values(&[result.as_str()]).inc();
    }

    pub(crate) fn order(&self, result: OrderResult) {
        self.orders.with_label_values(&[result.as_str()]).inc();
    }

    /// UNIX seconds; 0 = there is no certificate.
    pub(crate) fn lives(&self, certificate: &str, Life { expiry, not_before }: Life) {
        // Exact for some 280 million years.
        #[expect(clippy::cast_precision_loss, reason = "UNIX seconds are small")]
        let set = |gauge: &GaugeVec, at: u64| gauge.with_label_values(&[certificate]).set(at as f64);
        set(&self.expiry, expiry);
        set(&self.not_before, not_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_lives_the_one_with_less_of_its_own_left_counts() {
        const HOUR: u64 = 3600;
        let life =
            |from: u64, days: u64| Life { not_before: from * 24 * HOUR, expiry: (from + days) * 24 * HOUR };
        let (long, short) = (life(0, 90), life(79, 6));
        for (at, nearer) in [(79 * 24, long), (84 * 24, long), (84 * 24 + 18, short), (89 * 24, short)] {
            assert_eq!(long.nearer(short, at * HOUR), nearer, "hour {at}");
            assert_eq!(short.nearer(long, at * HOUR), nearer, "hour {at}");
        }
    }
}

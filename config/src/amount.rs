//! Amounts of what Kubernetes counts, so that they can be added and compared.

use std::fmt;

/// An amount, exact to a thousand-millionth; what is too large to be told apart counts as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u128);

/// How many of the smallest there are in one.
const ONE: u128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
/// Suffixes and the power of ten of the smallest that they stand for.
const DECIMAL: [(&str, u32); 10] =
    [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];

impl Amount {
    /// So many whole ones.
    pub fn of(number: u64) -> Self {
        Self(u128::from(number) * ONE)
    }

    /// Reads a quantity of Kubernetes: `500m`, `2`, `1.5Gi`, `1e3`. `None` = it is none, or is negative.
    pub fn parse(text: &str) -> Option<Self> {
        let length = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = text.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || fraction.contains('.') || digits.len() > 30 {
            return None;
        }
        let digits: u128 = digits.parse().ok()?;
        let places = u32::try_from(fraction.len()).ok()?;
        if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Some(Self::scaled(digits, ONE << bits, places));
        }
        let power = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Some((_, power)) => i32::try_from(*power).ok()?,
            None => suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?.checked_add(9)?,
        };
        let factor = |power: u32| 10_u128.checked_pow(power).unwrap_or(u128::MAX);
        match u32::try_from(power) {
            Ok(power) => Some(Self::scaled(digits, factor(power), places)),
            Err(_) => Some(Self::scaled(digits, 1, places.saturating_add(power.unsigned_abs()))),
        }
    }

    /// `digits · factor / 10^places`, rounded up as Kubernetes does.
    fn scaled(digits: u128, factor: u128, places: u32) -> Self {
        let divisor = 10_u128.checked_pow(places).unwrap_or(u128::MAX);
        Self(digits.saturating_mul(factor).div_ceil(divisor))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// As people write it: the largest suffix that leaves a whole number.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(amount) = *self;
        if let Some((suffix, bits)) =
            BINARY.iter().find(|(_, bits)| amount >= ONE << bits && amount % (ONE << bits) == 0)
        {
            return write!(f, "{}{suffix}", amount / (ONE << bits));
        }
        let whole = ["", "m", "u", "n"].iter().zip([ONE, 1_000_000, 1_000, 1]);
        let (suffix, unit) = whole.into_iter().find(|(_, unit)| amount % unit == 0).unwrap_or((&"n", 1));
        write!(f, "{}{suffix}", amount / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn what_is_as_much_is_the_same_however_it_is_written() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500000u"),
            ("2.", "2"),
            ("1Ki", "1024"),
            ("1.5Gi", "1536Mi"),
            ("2G", "2e9"),
            ("2000", "2k"),
            ("1E", "1e18"),
            ("5e-1", "0.5"),
            ("0", "0Gi"),
            ("1n", "0.1n"),
        ] {
            assert_eq!(amount(one), amount(other), "{one} {other}");
        }
        assert!(amount("999Mi") < amount("1Gi") && amount("1Gi") > amount("1G"));
        for bad in ["", ".", "Gi", "-1", "1.2.3", "1GiB", "1e", "e3", "1 Gi"] {
            assert_eq!(Amount::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_quantity_has_an_amount(text in "[0-9.]{1,20}(n|u|m|k|[KMGTPE]i?|[eE][+-]?[0-9]{1,2})?") {
            if crate::values::Kind::Quantity.judge(&text).is_ok() {
                proptest::prop_assert!(Amount::parse(&text).is_some(), "{}", text);
            }
        }
    }

    #[test]
    fn amounts_are_added_and_told_as_people_write_them() {
        for (amounts, sum) in [
            (["1", "500m"], "1500m"),
            (["1Gi", "1Gi"], "2Gi"),
            (["1Gi", "512Mi"], "1536Mi"),
            (["2", "0"], "2"),
            (["1n", "1"], "1000000001n"),
        ] {
            assert_eq!(amounts.map(amount).into_iter().reduce(Amount::plus).unwrap().to_string(), sum);
        }
        let much = amount("99999999999999999999E");
        assert_eq!(much.plus(much), much, "nothing overflows");
        assert_eq!(Amount::of(3), amount("3"));
    }
}

//! Fleet sizes: the setting `--fleet-sizes`, and which bucket a fleet falls into.

use std::sync::Arc;

/// Buckets of fleet sizes, without gaps from 1 on; the last one has no upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetSizes {
    /// The lower bound of each bucket.
    lower: Arc<[i32]>,
    labels: Arc<[String]>,
}

impl FleetSizes {
    /// Reads `1-2,3-9,10-99`: sizes above the last are counted as `100+`.
    pub fn parse(text: &str) -> Result<FleetSizes, String> {
        let mut lower = Vec::new();
        let mut labels = Vec::new();
        let mut next = 1;
        for part in text.split(',').map(str::trim) {
            let (from, until) = part.split_once('-').unwrap_or((part, part));
            let bound = |text: &str| match text.trim().parse::<i32>() {
                Ok(number) if number > 0 && number < i32::MAX => Ok(number),
                _ => Err(format!("holds {part:?}, which is no range of sizes such as 3-9")),
            };
            let (from, until) = (bound(from)?, bound(until)?);
            if from != next {
                return Err(format!("goes on with {part:?} where a range from {next} is expected: ranges start at 1 and leave no gap"));
            }
            if until < from {
                return Err(format!("holds {part:?}, which ends before it starts"));
            }
            lower.push(from);
            labels.push(part.to_string());
            next = until + 1;
        }
        lower.push(next);
        labels.push(format!("{next}+"));
        if labels.len() > usize::from(u16::MAX) {
            return Err("has too many ranges".into());
        }
        Ok(FleetSizes { lower: lower.into(), labels: labels.into() })
    }

    /// The labels, by bucket.
    pub fn labels(&self) -> Arc<[String]> {
        Arc::clone(&self.labels)
    }

    /// The bucket of a fleet of `size` devices, which is at least 1.
    pub fn bucket(&self, size: i32) -> u16 {
        let behind = self.lower.partition_point(|lower| *lower <= size);
        u16::try_from(behind.saturating_sub(1)).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_buckets_and_nothing_is_lost() {
        let sizes = FleetSizes::parse("1-2, 3-9,10").unwrap();
        assert_eq!(*sizes.labels(), ["1-2", "3-9", "10", "11+"].map(String::from));
        let buckets: Vec<u16> = [1, 2, 3, 9, 10, 11, 1_000_000].map(|size| sizes.bucket(size)).into();
        assert_eq!(buckets, [0, 0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn gaps_and_nonsense_are_refused() {
        for (text, why) in [
            ("", "no range of sizes"),
            ("1-2,4-9", "a range from 3 is expected"),
            ("2-3", "a range from 1 is expected"),
            ("1-x", "no range of sizes"),
            ("1-0", "no range of sizes"),
            ("1-3,4-3", "ends before it starts"),
            ("1-99999999999", "no range of sizes"),
        ] {
            let error = FleetSizes::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}

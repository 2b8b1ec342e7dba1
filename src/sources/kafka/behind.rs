//! Where a partition is read on, where its broker does not have the message that comes next.

/// What is so of a partition whose next message is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It is there after all, or will be.
    There,
    /// The broker has removed messages before they were read, this many: reading goes on with the first that is there.
    Removed(u64),
    /// The broker has lost the end of what was read: all that it has is read again, since what it gets now has the same offsets.
    Shortened,
}

impl Behind {
    /// By the next offset, the first that the broker has, and the one behind its last.
    pub fn of(next: i64, earliest: i64, latest: i64) -> Behind {
        if next < earliest {
            Behind::Removed(earliest.abs_diff(next))
        } else if next > latest {
            Behind::Shortened
        } else {
            Behind::There
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_from_what_is_to_come() {
        for (next, earliest, latest, expected) in [
            (5, 0, 5, Behind::There),
            (0, 0, 0, Behind::There),
            (5, 5, 9, Behind::There),
            (4, 5, 9, Behind::Removed(1)),
            (0, 9, 9, Behind::Removed(9)),
            (10, 5, 9, Behind::Shortened),
            (1, 0, 0, Behind::Shortened),
        ] {
            assert_eq!(Behind::of(next, earliest, latest), expected, "{next} in {earliest}..{latest}");
        }
    }
}

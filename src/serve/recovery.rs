//! What a service does when it starts, decided from what is there.
//!
//! The journal is the truth. What the tables have reached is taken up as one epoch and compared with them by checksums; what the journal
//! has besides is applied batch by batch, as it was when it came.

use retally_core::Epoch;

/// What is there of a dataflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The epoch of its last batch in the journal; 0 where there is none.
    pub journal: Epoch,
    /// The epoch up to which they are known as one, and not one by one.
    pub folded: Epoch,
    /// What the tables have reached; nothing where there are none.
    pub tables: Option<Reached>,
}

/// What tables have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Their epoch.
    pub epoch: Epoch,
    /// Whether they are of the same settings as now.
    pub same_settings: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The batches up to this epoch are taken up as one. The tables are read meanwhile, and rebuilt where they turn out to be others.
    Compare(Epoch),
    /// The batches up to this epoch are taken up as one, and the tables made of them. Nothing is read before.
    Make(Epoch),
    /// The tables know a batch that the journal does not: its end is missing, and nothing is done.
    Refuse {
        /// The epoch of the tables.
        tables: Epoch,
    },
}

/// Decides.
pub fn decide(facts: Facts) -> Decision {
    match facts.tables {
        Some(tables) if tables.epoch > facts.journal => Decision::Refuse { tables: tables.epoch },
        Some(Reached { epoch, same_settings: true }) if epoch >= facts.folded => Decision::Compare(epoch),
        Some(_) | None => Decision::Make(facts.journal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_decides() {
        let reached = |epoch, same_settings| Some(Reached { epoch, same_settings });
        for (journal, tables, expected) in [
            (0, None, Decision::Make(0)),
            (7, None, Decision::Make(7)),
            (0, reached(0, true), Decision::Compare(0)),
            (7, reached(0, true), Decision::Compare(0)),
            (7, reached(5, true), Decision::Compare(5)),
            (7, reached(7, true), Decision::Compare(7)),
            (7, reached(5, false), Decision::Make(7)),
            (7, reached(7, false), Decision::Make(7)),
            (7, reached(8, true), Decision::Refuse { tables: 8 }),
            (7, reached(8, false), Decision::Refuse { tables: 8 }),
            (0, reached(1, true), Decision::Refuse { tables: 1 }),
        ] {
            assert_eq!(decide(Facts { journal, folded: 0, tables }), expected, "{journal} {tables:?}");
        }
        // What is known as one can't be taken up in part.
        for (folded, expected) in [(4, Decision::Compare(5)), (5, Decision::Compare(5)), (6, Decision::Make(7)), (7, Decision::Make(7))] {
            assert_eq!(decide(Facts { journal: 7, folded, tables: reached(5, true) }), expected, "{folded}");
        }
    }
}

//! When an operator handles the updates of an epoch.

/// When an operator handles the updates of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// When the epoch is complete: each key's changes at once.
    Complete,
    /// As soon as no earlier epoch can change and this many updates are there; the rest when the epoch is complete. For logic that says
    /// the difference between two states whatever lies between them: what is said too early is taken back within the epoch. It
    /// saves the memory of waiting, and costs what is said in vain.
    Early(usize),
    /// As [`Early`](Timing::Early), from the first update on; and where a key's updates come together as it is, as from an operator by the
    /// same key, they are not brought together once more.
    AsTheyCome,
}

impl Timing {
    /// How many updates are enough to begin early.
    pub(super) fn enough(self) -> Option<usize> {
        match self {
            Timing::Complete => None,
            Timing::Early(enough) => Some(enough),
            Timing::AsTheyCome => Some(1),
        }
    }
}

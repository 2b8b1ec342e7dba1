//! Folding the journal while batches are taken.
//!
//! What is folded is sealed, so a thread of its own does it, and nobody waits for it. Where it fails, that is reported, nothing is lost,
//! and it is tried again when as much has come once more.

use super::ServeError;
use super::further::Further;
use super::service::Service;
use crate::sinks::live;
use crate::state::{Folded, GRACE, State, StateError};
use retally_core::Epoch;
use retally_core::contract::Definition;
use std::thread::JoinHandle;

/// What is being folded, where anything is.
#[derive(Default)]
pub struct Folding {
    thread: Option<JoinHandle<Ended>>,
}

impl Folding {
    /// Begins where it is time to, and nothing is being folded; but not before the tables have all that is sealed, for which `applied`
    /// waits: it gets the epoch of each dataflow, and reports whether that came to be.
    pub fn look(
        &mut self,
        service: &Service,
        state: &mut State,
        applied: impl FnOnce(&[Epoch]) -> bool + Send + 'static,
    ) -> Result<(), ServeError> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.end(service);
        if state.is_due(service.limits.fold_after) {
            let until: Vec<Epoch> = service.dataflows.iter().map(|served| state.epoch(served.name())).collect();
            let plain: Vec<Definition> = service.dataflows.iter().map(|served| served.plain.clone()).collect();
            let sealed = state.seal()?;
            // What the tables have reached must not be in the middle of what is known as one: they would be rebuilt at the next start.
            let fold = move || {
                let known = |name: &str| plain.iter().find(|plain| plain.name == name).cloned();
                applied(&until).then(|| sealed.fold(GRACE, &known))
            };
            self.thread = Some(std::thread::Builder::new().name("folding".into()).spawn(fold)?);
        }
        Ok(())
    }

    /// Waits until nothing is being folded.
    pub fn end(&mut self, service: &Service) {
        match self.thread.take().map(JoinHandle::join) {
            None => {}
            // It ended before the tables had what was to be folded.
            Some(Ok(None)) => {}
            Some(Ok(Some(Ok(Folded { batches, erased, holding, gone })))) => {
                service.metrics.folds.inc();
                if let Err(error) = live::forget_rejected(&State::tables(&service.local), &gone) {
                    service.tell(&format!("rows of rejected may still hold what was forgotten: {error}"));
                }
                if !gone.is_empty() {
                    service.further.iter().for_each(Further::doubt);
                }
                service.tell(&format!(
                    "the journal has been folded: {} a snapshot",
                    if batches == 1 { "1 batch is".into() } else { format!("{batches} batches are") }
                ));
                if erased > 0 {
                    let files =
                        if erased == 1 { "1 file any more, which has".into() } else { format!("{erased} files any more, which have") };
                    service.tell(&format!("what was forgotten is not in {files} been written anew"));
                }
                holding
                    .iter()
                    .for_each(|name| service.tell(&format!("what was forgotten is still in {name:?}, which can't be written anew")));
            }
            Some(Ok(Some(Err(error)))) => service.tell(&format!("the journal could not be folded, and is kept as it is: {error}")),
            Some(Err(_)) => service.tell("the journal could not be folded, and is kept as it is"),
        }
    }
}

/// What came of it, where anything was folded.
type Ended = Option<Result<Folded, StateError>>;

//! `--state` and `--sync`: a run that goes on where the last one ended.

use super::error::{CliError, say};
use super::job;
use super::show;
use crate::engine::summary::Summary;
use crate::engine::{self, Job, Next};
use crate::ingest::batch::Batch;
use crate::ingest::rejected::KEPT_MAX;
use crate::shown;
use crate::sinks::Sink;
use crate::sinks::live::{ByRun, note_settings};
use crate::state::folders::{Difference, Folder};
use crate::state::frame::{Answer, Part};
use crate::state::home::Home;
use crate::state::{Kept, Of, State};
use clap::ArgMatches;
use retally_core::Epoch;
use retally_core::contract::{Definition, InputKind};
use retally_core::time::Moment;
use std::collections::VecDeque;
use std::path::PathBuf;

/// A state, and what a run adds to it.
pub struct Stored {
    state: State,
    /// The folder of this machine with its tables.
    local: PathBuf,
    /// The dataflow's definition as it is, and as the command line has it.
    plain: Definition,
    definition: Definition,
    accept_from: Moment,
    folders: Vec<Folder>,
    /// A folder may have become empty.
    any_may_go: bool,
    /// So many refused records of a batch are kept as rows, where that is not the usual number.
    rejected_kept: Option<u64>,
    is_taken_up: bool,
    /// The batch that is being applied, and when it arrived.
    pending: Option<(Vec<Part>, Moment)>,
    quiet: bool,
}

impl Stored {
    /// Opens the state of a command line, and the database of its tables.
    pub fn open(home: &Home, plain: Definition, job: &Job, matches: &ArgMatches) -> Result<(Stored, Box<dyn Sink>), CliError> {
        let folders = folders(&job.definition, matches)?;
        let state = State::open(home)?;
        if state.torn() > 0 {
            let journal = state.path().join("journal");
            say(&format!("note: {journal:?} ends with a batch that was not there yet when its process ended; it is cut off"));
        }
        if state.is_scratch_new() {
            say(&format!("note: the scratch folder {:?} was that of another state: all in it is rebuilt", home.local()));
        }
        let mut tables = ByRun::open(&State::tables(home.local()), job.graph.tables())?;
        if let Some(reached) = tables.reached(plain.name)? {
            state.check_reached(plain.name, reached.epoch)?;
        }
        let stored = Stored {
            state,
            local: home.local().into(),
            plain,
            definition: job.definition.clone(),
            accept_from: job.accept_from,
            folders,
            any_may_go: matches.get_flag("replace"),
            rejected_kept: Some(job.rejected_kept).filter(|kept| *kept != KEPT_MAX),
            is_taken_up: false,
            pending: None,
            quiet: matches.get_flag("quiet"),
        };
        Ok((stored, Box::new(tables)))
    }

    /// What is applied next: all that is there, as one; then each batch, whose files are kept first.
    pub fn next(&mut self, batches: &mut VecDeque<Batch>) -> Result<Option<Next>, CliError> {
        let of = Of { plain: &self.plain, definition: &self.definition };
        if !std::mem::replace(&mut self.is_taken_up, true)
            && let Some((epoch, plan)) = self.state.replay(of, Epoch::MAX)?
        {
            return Ok(Some(Next::Replay(epoch, plan)));
        }
        if self.state.epoch(self.plain.name) == 0 && batches.is_empty() && self.folders.is_empty() {
            let message = format!("the state {:?} has no batches of {} yet", self.state.path(), self.plain.name);
            return Err(CliError::usage(message).hint("say what is in them: INPUT=PATH, or --sync INPUT=DIR"));
        }
        loop {
            let (batch, folders) = (batches.pop_front(), std::mem::take(&mut self.folders));
            if batch.is_none() && folders.is_empty() {
                return Ok(None);
            }
            let (arrival, arrived) = (engine::arrival(self.accept_from), engine::now());
            let mut kept = batch.map_or(Ok(Kept::default()), |batch| self.state.files().keep(of, &batch, arrival))?;
            for folder in folders {
                let difference = self.state.compare(of, &folder, arrival)?;
                self.check_gone(&folder, &difference)?;
                kept.append(difference.kept);
            }
            if kept.parts.is_empty() {
                continue;
            }
            kept.parts.iter_mut().for_each(|part| part.rejected_kept = self.rejected_kept);
            let mut plan = self.state.files().plan(of, &kept.parts.iter().collect::<Vec<_>>())?;
            plan.passed_over.append(&mut kept.passed_over);
            plan.notes.append(&mut kept.notes);
            self.pending = Some((kept.parts, arrived));
            return Ok(Some(Next::Planned(plan)));
        }
    }

    /// A folder that is empty may be one that is not mounted.
    fn check_gone(&self, folder: &Folder, difference: &Difference) -> Result<(), CliError> {
        if difference.there > 0 || difference.gone == 0 || self.any_may_go {
            return Ok(());
        }
        let (path, gone) = (shown::location(&folder.path), difference.gone);
        let files = if gone == 1 { "the only file".into() } else { format!("all {gone} files") };
        let message = format!("would retract {files} of {path:?}: the folder is empty");
        Err(CliError::failed(message).hint("nothing was written; see that it is mounted, or say that all may go: --replace"))
    }

    /// All that was there is applied.
    pub fn taken_up(&self, summary: &Summary) {
        if !self.quiet {
            let batches = self.state.frames(self.plain.name).count() as u64;
            say(&show::taken_up(&self.state.path().display().to_string(), batches, summary));
        }
    }

    /// Writes down what the tables in its database were computed with, for who looks at them without this command line.
    pub fn keep_settings(&self, job: &Job) -> Result<(), CliError> {
        let path = State::tables(&self.local);
        Ok(note_settings(&path, self.plain.name, &job.fingerprint(), &job.settings_json())?)
    }

    /// The batch that was applied is there from now on.
    pub fn commit(&mut self, summary: &Summary) -> Result<(), CliError> {
        let Some((parts, arrived)) = self.pending.take() else { return Ok(()) };
        let Summary { delivered, retracted, late, rejected, changed, .. } = summary;
        let answer = Answer { accepted: delivered + retracted, late: *late, rejected: *rejected, changed: changed.clone() };
        self.state.append(self.plain.name, parts, arrived, answer)?;
        Ok(())
    }
}

/// The folders of `--sync`.
fn folders(definition: &Definition, matches: &ArgMatches) -> Result<Vec<Folder>, CliError> {
    let mut folders = Vec::new();
    for given in matches.get_many::<String>("sync").into_iter().flatten() {
        let batch = job::batch(definition, std::slice::from_ref(given))?;
        let folder = batch.folder().and_then(|(place, path)| Some((place, definition.inputs.get(place)?, path)));
        let Some((place, input, path)) = folder else {
            return Err(CliError::usage(format!("--sync takes INPUT=DIR, and not {:?}", shown::location(given))));
        };
        if input.kind != InputKind::Records {
            let error = CliError::usage(format!("--sync is of files of records, and {} has datasets", input.name));
            let hint = format!("deliver the folder, {}={}: what changed is read again", input.name, shown::location(&path));
            return Err(error.hint(hint));
        }
        if input.files.first_header {
            let error = CliError::usage("--header first and --sync don't go together: each file of the folder is read by itself");
            return Err(error.hint("give each file a header, or deliver the files as a batch"));
        }
        folders.push(Folder { input: place, path });
    }
    Ok(folders)
}

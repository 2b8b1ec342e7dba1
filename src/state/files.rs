//! The files of a state: keeping what is delivered, and planning what was kept. Any thread may.

use super::blobs::Blobs;
use super::frame::{Blob, Content, KeptShape, Only, Part};
use super::home::Home;
use super::shelf::Shelf;
use super::tail::JOURNAL;
use super::{Kept, Of, StateError};
use crate::ingest::batch::{self, Arrival, Batch, Body, Source};
use crate::ingest::header::{Purpose, SeenHeaders};
use crate::ingest::jobs::{self, BadDatasetJob, DatasetJob};
use crate::ingest::plan::{self, Origin, Plan, is_pipe};
use crate::ingest::rejected::KEPT_MAX;
use crate::ingest::version::Changed;
use crate::ingest::{paths, streams};
use crate::shown;
use retally_core::condition::Condition;
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::split::{Dataset, Lines, RefusedJob};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The blob of a stream that could not be read: there is none of this name.
pub(super) const MISSING: &str = "missing";

/// What was delivered to a state.
#[derive(Clone, Debug)]
pub struct Files {
    /// The state's folder, or its scratch folder.
    dir: PathBuf,
    shelf: Arc<dyn Shelf>,
    blobs: Arc<Blobs>,
    /// The headers of files that were planned, by dataflow.
    headers: Arc<Mutex<BTreeMap<String, SeenHeaders>>>,
}

impl Files {
    /// Those of a state, with what is in a folder of this machine.
    pub(super) fn open(dir: &Path, shelf: Arc<dyn Shelf>) -> Result<Files, StateError> {
        let blobs = Arc::new(Blobs::open(&dir.join("blobs"), Arc::clone(&shelf))?);
        Ok(Files { dir: dir.into(), shelf, blobs, headers: Arc::default() })
    }

    /// Those of a state that can't be opened.
    pub fn of(home: &Home) -> Result<Files, StateError> {
        Files::open(home.local(), home.shelf()?)
    }

    pub(super) fn shelf(&self) -> &dyn Shelf {
        &*self.shelf
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Keeps what a stream holds, as a file of this name would. When this returns, the disk has it.
    pub fn keep_stream(&self, name: &str, stream: impl io::Read) -> Result<Blob, StateError> {
        self.blobs.keep_stream(name, stream)
    }

    /// Removes blobs that were kept for a batch which is refused, and that no other needs.
    pub fn withdraw(&self, blobs: &[Blob]) {
        self.blobs.withdraw(blobs);
    }

    /// A part of a batch whose content was kept.
    pub fn part(&self, of: Of<'_>, input: &Input, sign: isize, name: &str, content: Content, arrival: Arrival) -> Part {
        made(input, sign, name, content, shape(of.plain, input), arrival)
    }

    /// Copies the files of a batch, which is accepted as of `arrival`. When this returns, the disk has them.
    pub fn keep(&self, of: Of<'_>, batch: &Batch, arrival: Arrival) -> Result<Kept, StateError> {
        let Of { plain, definition } = of;
        let mut kept = Kept::default();
        for part in &batch.parts {
            let Some(input) = definition.inputs.get(part.input) else { continue };
            let shape = shape(plain, input);
            let add = |kept: &mut Kept, name: &str, content: Content| {
                kept.parts.push(made(input, part.sign, name, content, shape.clone(), arrival));
            };
            match (&part.source, input.kind) {
                (Source::Path(path), InputKind::Datasets(files)) => {
                    for mut queue in jobs::open(path, files)? {
                        while let Some(job) = queue.next()? {
                            let content = self.keep_job(job)?;
                            add(&mut kept, queue.name(), content);
                        }
                        kept.passed_over.extend(queue.passed_over());
                    }
                }
                (Source::Path(path), InputKind::Records) if is_pipe(path) => {
                    // What it holds is not known from the name of what is kept.
                    let (input, stream) = plan::pipe(path, input)?;
                    let content = Content::Blob(self.blobs.keep_stream(path, stream)?);
                    kept.parts.push(self.part(of, &input, part.sign, path, content, arrival));
                }
                (Source::Path(path), InputKind::Records) => {
                    let found = paths::find(path, |_| true)?;
                    kept.passed_over.extend(found.passed_over.iter().cloned());
                    kept.notes.extend(plan::unnamed_note(&found));
                    for file in &found.files {
                        add(&mut kept, file, Content::Blob(self.blobs.keep_file(file)?));
                    }
                }
                (Source::Bytes(body), _) => add(&mut kept, &body.name, Content::Blob(self.blobs.keep_stream(&body.name, &*body.bytes)?)),
                // What was kept is kept.
                (Source::Kept { .. } | Source::Dataset { .. } | Source::Refused { .. }, _) => {}
            }
        }
        Ok(kept)
    }

    fn keep_job(&self, job: Result<DatasetJob, BadDatasetJob>) -> Result<Content, StateError> {
        match job {
            Ok(DatasetJob { key, streams: locations }) => {
                let names = locations.iter().map(|location| shown::location(location).into_owned()).collect();
                let (mut streams, mut missing) = (Vec::new(), None);
                for location in &locations {
                    let kept = self.keep_stream_of_dataset(location)?;
                    streams.push(kept.unwrap_or_else(|why| {
                        missing.get_or_insert(why);
                        Blob { file: MISSING.into(), bytes: 0 }
                    }));
                }
                Ok(Content::Dataset { key, streams, names, missing })
            }
            Err(BadDatasetJob { line, reason, raw }) => Ok(Content::Refused { line, reason, raw }),
        }
    }

    /// A stream that can't be read is missing, with the reason: its dataset is failed, as it would be without a state. One that changes
    /// while it is copied is an error, as it would be too.
    fn keep_stream_of_dataset(&self, location: &str) -> Result<Result<Blob, String>, StateError> {
        let mut attempt = 0;
        loop {
            match self.blobs.keep_file(location) {
                Err(StateError::Input { path, cause }) if Changed::of(&cause).is_some() => return Err(StateError::Input { path, cause }),
                Err(StateError::Input { cause, .. }) if cause.kind() == io::ErrorKind::NotFound || attempt + 1 >= streams::ATTEMPTS_MAX => {
                    return Ok(Err(streams::could_not_open(&shown::location(location), &cause)));
                }
                Err(StateError::Input { .. }) => {
                    attempt += 1;
                    std::thread::sleep(streams::pause(attempt));
                }
                kept => return kept.map(Ok),
            }
        }
    }

    /// Plans the parts of a new batch, which were kept.
    pub fn plan(&self, of: Of<'_>, parts: &[&Part]) -> Result<Plan, StateError> {
        let parts: Vec<(Origin, &Part)> = (1..).map(|part| Origin { batch: 0, part }).zip(parts.iter().copied()).collect();
        self.planned(of, &parts, Purpose::Keep)
    }

    /// Plans parts that were planned before.
    pub fn plan_again(&self, of: Of<'_>, parts: &[(Origin, &Part)]) -> Result<Plan, StateError> {
        self.planned(of, parts, Purpose::Again)
    }

    fn headers(&self) -> MutexGuard<'_, BTreeMap<String, SeenHeaders>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planned(&self, of: Of<'_>, parts: &[(Origin, &Part)], purpose: Purpose) -> Result<Plan, StateError> {
        let was_planned = purpose == Purpose::Again;
        if was_planned {
            let blobs = parts.iter().flat_map(|(_, part)| part.blobs()).filter(|blob| blob.file != MISSING);
            blobs.into_iter().try_for_each(|blob| self.blobs.check_unguarded(blob))?;
        }
        let before = self.headers().get(of.plain.name).cloned().unwrap_or_default();
        let mut plan = Plan::default();
        let mut rest = parts;
        while let Some((_, first)) = rest.first() {
            // What is accepted, and how the files of an input become records, is said for a whole plan.
            let mut shapes: BTreeMap<&str, &Option<KeptShape>> = BTreeMap::new();
            let mut count = 0;
            for (_, part) in rest {
                let is_other = part.accepts() != first.accepts()
                    || part.only != first.only
                    || *shapes.entry(&part.input).or_insert(&part.shape) != &part.shape;
                // Of a file of which some lines count, no other one knows anything.
                if is_other || (count > 0 && (first.again.is_some() || part.again.is_some())) {
                    break;
                }
                count += 1;
            }
            let (parts, others) = rest.split_at(count);
            rest = others;
            let mut shaped = of.plain.clone();
            for input in &mut shaped.inputs {
                if let Some(Some(shape)) = shapes.get(input.name) {
                    let unknown =
                        |field| format!("a batch of {} names the field {field:?}, which {} does not have", of.plain.name, input.name);
                    *input = shape.shaped(input).map_err(|field| StateError::damaged(&self.shelf.path(JOURNAL), unknown(field)))?;
                }
            }
            let (accept_from, accept_until) = first.accepts();
            let (origins, parts): (Vec<(Origin, &Part)>, Vec<batch::Part>) =
                parts.iter().filter_map(|part| Some((*part, self.source(&shaped, part.1)?))).unzip();
            // Messages have a header of their own, which says nothing of others; what is meant of files that are there is as it was.
            let are_messages = origins.iter().any(|(_, part)| part.messages.is_some());
            let is_known = are_messages || first.again.is_some() || !first.only.is_empty();
            let purpose = if is_known { Purpose::Again } else { purpose };
            let arrival = Arrival { accept_from, accept_until };
            let planned = plan::plan_behind(&shaped, &Batch { parts }, arrival, purpose, &before);
            let mut planned = planned.map_err(|error| {
                let parts = origins.iter().map(|(_, part)| *part);
                // What was planned once can be, unless a blob is not what it was.
                let damaged = || parts.clone().filter(|_| was_planned).find_map(|part| self.damaged(part));
                self.missing(parts.clone()).or_else(damaged).unwrap_or(error.into())
            })?;
            planned.shape(&shaped.inputs, &of.definition.inputs);
            if !first.only.is_empty() {
                for split in &mut planned.splits {
                    split.conditions = self.conditions(&shaped, split.input, &first.only)?;
                }
            }
            for (planned, (origin, part)) in planned.parts.iter_mut().zip(&origins) {
                let undoes = part.again.as_ref().and_then(|again| again.undoes);
                (planned.origin, planned.undone) = (undoes.unwrap_or(*origin), undoes.is_some());
                planned.rejected_kept = Some(part.rejected_kept.unwrap_or(KEPT_MAX));
            }
            for (nth, (_, part)) in origins.iter().enumerate() {
                part.messages.iter().for_each(|messages| planned.of_messages(nth, Arc::clone(messages)));
            }
            if let Some(again) = first.again.as_ref().filter(|again| !again.lines.is_empty()) {
                planned.only(Lines::new(again.lines.iter().map(|of| (of.member.clone(), of.line.saturating_sub(1), of.nth))));
            }
            planned.is_of_folder = origins.iter().any(|(_, part)| part.folder.is_some());
            if are_messages {
                planned.headers = SeenHeaders::default();
            }
            plan.append(planned);
        }
        self.headers().entry(of.plain.name.into()).or_default().add(&plan.headers);
        Ok(plan)
    }

    fn conditions(&self, definition: &Definition, input: usize, only: &[Only]) -> Result<Vec<Condition>, StateError> {
        let input = definition.inputs.get(input);
        let condition = |only: &Only| {
            let unknown = || format!("a batch of {} is of records with a field {:?} that they don't have", definition.name, only.field);
            input.and_then(|input| only.condition(input)).ok_or_else(|| StateError::damaged(&self.shelf.path(JOURNAL), unknown()))
        };
        only.iter().map(condition).collect()
    }

    /// That a file which was kept is not what it was.
    fn damaged(&self, part: &Part) -> Option<StateError> {
        part.blobs().iter().filter(|blob| blob.file != MISSING).find_map(|blob| self.blobs.check(blob).err())
    }

    /// That a file is not there any more which was kept.
    fn missing<'p>(&self, parts: impl Iterator<Item = &'p Part>) -> Option<StateError> {
        let blobs = parts.flat_map(Part::blobs).filter(|blob| blob.file != MISSING);
        let path = blobs.map(|blob| PathBuf::from(self.blobs.path(blob))).find(|path| !path.exists())?;
        Some(StateError::damaged(&path, "it is missing".into()))
    }

    fn source(&self, definition: &Definition, part: &Part) -> Option<batch::Part> {
        let input = definition.inputs.iter().position(|input| input.name == part.input)?;
        let name = part.name.clone();
        let source = match &part.content {
            Content::Blob(blob) => Source::Kept { name, path: self.blobs.path(blob) },
            Content::Inline(inline) => Source::Bytes(Body { name, ..Body::plain(inline.format.into(), inline.text.clone()) }),
            Content::Dataset { key, streams: blobs, names, missing } => {
                let streams = blobs.iter().map(|blob| self.blobs.path(blob)).collect();
                // Older batches have no names: then a stream is called as in the table `rejected`.
                let files = definition.inputs.get(input).map_or(&[][..], |input| match input.kind {
                    InputKind::Datasets(files) => files.streams,
                    InputKind::Records => &[],
                });
                let usual = || files.iter().map(|(_, file)| format!("{name}/{}/{file}", key.join("/"))).collect();
                let names: Vec<String> = if names.is_empty() { usual() } else { names.clone() };
                let lost = blobs.iter().zip(&names).find(|(blob, _)| blob.file == MISSING);
                let lost = lost.map(|(_, name)| format!("could not open {name:?}: it could not be read when it was delivered"));
                let dataset = Dataset { names, missing: missing.clone().or(lost), ..Dataset::new(key.clone(), streams) };
                Source::Dataset { name, dataset }
            }
            Content::Refused { line, reason, raw } => {
                Source::Refused { name, job: RefusedJob { line: *line, reason: reason.clone(), raw: raw.clone() } }
            }
        };
        Some(batch::Part { input, sign: part.sign.into(), source })
    }
}

/// How the files of an input become records, where that is not as the dataflow has it.
pub(super) fn shape(plain: &Definition, input: &Input) -> Option<KeptShape> {
    let own = plain.inputs.iter().find(|own| own.name == input.name).map(KeptShape::of).unwrap_or_default();
    Some(KeptShape::of(input)).filter(|shape| *shape != own)
}

pub(super) fn made(input: &Input, sign: isize, name: &str, content: Content, shape: Option<KeptShape>, arrival: Arrival) -> Part {
    Part {
        input: input.name.into(),
        sign: if sign < 0 { -1 } else { 1 },
        // Queries and passwords of URLs are kept nowhere.
        name: shown::location(name).into_owned(),
        content,
        accept_from: arrival.accept_from.0,
        accept_until: arrival.accept_until.0,
        shape,
        folder: None,
        only: Vec::new(),
        again: None,
        messages: None,
        origin: None,
        rejected_kept: None,
    }
}

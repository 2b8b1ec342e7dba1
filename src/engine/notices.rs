//! What people should know of a batch: fields that none of its objects names, times that were read in a default zone, files and
//! datasets of which nothing could be read, and files that turned out to be of no use.

use super::gather::EpochReports;
use super::job::Job;
use super::unread::Unread;
use crate::ingest::IngestError;
use crate::ingest::nearest::{map_flag, nearest};
use crate::ingest::plan::Plan;
use retally_core::contract::Input;
use retally_core::noticed::Notice;
use retally_core::record::{Field, Presence};
use retally_core::split::{Done, Location, SecondHeader, UnreadDataset};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// So many reasons are named.
const REASONS_MAX: usize = 3;

/// What was noticed in a batch.
pub struct Notices<'b> {
    job: &'b Job,
    plan: &'b Plan,
    /// By input.
    inputs: Vec<Notice>,
    /// The datasets of which nothing could be read, by their splits.
    unread: BTreeMap<u64, &'b UnreadDataset>,
}

impl<'b> Notices<'b> {
    /// What was noticed in the splits of a batch.
    pub fn new(job: &'b Job, plan: &'b Plan, done: &'b [Done]) -> Notices<'b> {
        let mut inputs = vec![Notice::default(); job.definition.inputs.len()];
        for done in done {
            let split = usize::try_from(done.sequence).ok().and_then(|place| plan.splits.get(place));
            split.and_then(|split| inputs.get_mut(split.input)).into_iter().for_each(|notice| notice.add(&done.notice));
        }
        let unread = done.iter().filter_map(|done| Some((done.sequence, done.unread.as_ref()?))).collect();
        Notices { job, plan, inputs, unread }
    }

    fn inputs(&self) -> impl Iterator<Item = (&Input, &Notice)> {
        self.job.definition.inputs.iter().zip(&self.inputs)
    }

    /// Notes for the summary.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.inputs().flat_map(|(input, notice)| unnamed(input, notice).filter_map(Unnamed::note)).collect();
        notes.extend(self.unread_note());
        let zone = self.job.definition.settings.iter().find(|setting| setting.name == "timezone");
        let is_default = zone.is_some_and(|zone| zone.default == Some(self.job.settings.text(zone.name)));
        if is_default && self.inputs.iter().any(|notice| notice.local_times) {
            notes.push(format!("times without an offset were read in {} (--timezone says another zone)", self.job.graph.calendar().name()));
        }
        notes
    }

    /// That nothing could be read of some datasets.
    fn unread_note(&self) -> Option<String> {
        let (split, first) = self.unread.first_key_value()?;
        let split = self.plan.splits.get(usize::try_from(*split).ok()?)?;
        let Location::Dataset(dataset) = &split.location else { return None };
        let (count, all) = (self.unread.len(), self.datasets_delivered());
        let datasets = if all == 1 { "dataset" } else { "datasets" };
        let mut note = format!("not read: {count} of {all} {datasets}, {:?} the first: {}", dataset.key.join("/"), first.why);
        let replaced = self.unread.values().filter(|unread| unread.replaces).count();
        if replaced > 0 {
            // Writing to a string can't fail.
            write!(note, "; {replaced} of them had been read before: the last delivery counts, and their rows are gone").ok();
        }
        Some(note)
    }

    fn datasets_delivered(&self) -> usize {
        self.plan.splits.iter().filter(|split| split.sign > 0 && matches!(split.location, Location::Dataset(_))).count()
    }

    /// That nothing could be read of any dataset that was delivered.
    fn unread_datasets(&self) -> Option<Unread> {
        let (first, _) = self.unread.first_key_value()?;
        if self.unread.len() < self.datasets_delivered() {
            return None;
        }
        let file = self.plan.files.partition_point(|file| file.first_split <= *first).checked_sub(1);
        let mut reasons: Vec<String> = Vec::new();
        for unread in self.unread.values() {
            if reasons.len() < REASONS_MAX && !reasons.contains(&unread.why) {
                reasons.push(unread.why.clone());
            }
        }
        let path = file.and_then(|file| self.plan.files.get(file)).map_or_else(String::new, |file| file.name.clone());
        let hint = "look at the files, or say that it may be so: --max-rejected N, with as many as are rejected";
        Some(Unread { path, what: "datasets", records: self.unread.len() as u64, reasons, hint: Some(hint.into()) })
    }

    /// The first file of which nothing could be read, when all have been; or the datasets, when nothing could be read of any.
    pub fn unread(&self, reports: &EpochReports) -> Option<Unread> {
        self.unread_file(reports).or_else(|| self.unread_datasets())
    }

    fn unread_file(&self, reports: &EpochReports) -> Option<Unread> {
        if reports.rejected.is_empty() {
            return None;
        }
        let mut counts = vec![(0, 0); self.plan.splits.len()];
        for done in &reports.done {
            let count = usize::try_from(done.sequence).ok().and_then(|place| counts.get_mut(place));
            count.into_iter().for_each(|count| *count = (done.accepted, done.rejected));
        }
        let ends = self.plan.files.iter().skip(1).map(|file| file.first_split).chain([self.plan.splits.len() as u64]);
        self.plan.files.iter().zip(ends).find_map(|(file, end)| {
            let splits = file.first_split..end;
            let (accepted, rejected) = sum(&counts, &splits);
            if rejected == 0 || self.is_of_datasets(&splits) {
                return None;
            }
            let done = reports.done.iter().filter(|done| accepted > 0 && splits.contains(&done.sequence));
            let member = done.filter_map(|done| Some((done.sequence, done.unread_member.as_ref()?))).min_by_key(|(sequence, _)| *sequence);
            let (path, member, rejected) = match member {
                Some((_, (member, rejected))) => (format!("{}/{member}", file.name), Some(member.as_str()), *rejected),
                None if accepted > 0 => return None,
                None => (file.name.clone(), None, rejected),
            };
            let (input, notice) = self.inputs().nth(file.input)?;
            let flags: Vec<String> =
                unnamed(input, notice).filter(|unnamed| unnamed.field.presence == Presence::Always).map(|unnamed| unnamed.flag()).collect();
            let keys = notice.keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
            let mut reasons = reports.rejected.reasons(&splits, member, REASONS_MAX);
            if reasons.is_empty() {
                // None of its records is kept; of all files, the most frequent.
                reasons = reports.rejected.reasons_counted().most_frequent(REASONS_MAX).into_iter().map(|(kind, _)| kind).collect();
            }
            let lacking = reasons.iter().any(|reason| reason.ends_with(" is missing"));
            let hint = (lacking && !flags.is_empty()).then(|| format!("start from {} (keys that name no field: {keys})", flags.join(" ")));
            Some(Unread { path, what: "records", records: rejected, reasons, hint })
        })
    }

    fn is_of_datasets(&self, splits: &Range<u64>) -> bool {
        let split = usize::try_from(splits.start).ok().and_then(|place| self.plan.splits.get(place));
        split.is_some_and(|split| matches!(split.location, Location::Dataset(_)))
    }
}

/// Why the first file can't be used of which that showed when it was read: a second header in it, or, of an archive, no file that is read.
pub fn unusable(plan: &Plan, done: &[Done], passed_over: &[String]) -> Option<IngestError> {
    if done.iter().all(|done| done.second_header.is_none() && done.members.is_none_or(|members| members > 0)) {
        return None;
    }
    let ends = plan.files.iter().skip(1).map(|file| file.first_split).chain([plan.splits.len() as u64]);
    let second = plan.files.iter().zip(ends).find_map(|(file, end)| {
        let mut done: Vec<&Done> = done.iter().filter(|done| (file.first_split..end).contains(&done.sequence)).collect();
        done.sort_unstable_by_key(|done| done.sequence);
        let at = done.iter().position(|done| done.second_header.is_some())?;
        let SecondHeader { member, line, own_line } = done.get(at)?.second_header.clone()?;
        let before: u64 = done.iter().take(at).map(|done| done.lines).sum();
        let (path, before) = match member {
            Some(member) => (format!("{}/{member}", file.name), 0),
            None => (file.name.clone(), before),
        };
        Some(IngestError::SecondHeader { path, line: before + line + 1, own_line })
    });
    second.or_else(|| without_members(plan, done, passed_over))
}

/// The first archive of an input that has nothing but archives, of whose files none is read. A folder that is the table of an input may be
/// empty.
fn without_members(plan: &Plan, done: &[Done], passed_over: &[String]) -> Option<IngestError> {
    let split = |sequence: u64| plan.splits.get(usize::try_from(sequence).ok()?);
    plan.files.iter().filter(|_| !plan.is_of_folder).find_map(|file| {
        let is_of_input = |done: &&Done| split(done.sequence).is_some_and(|split| split.input == file.input);
        let members: Option<u64> = done.iter().filter(is_of_input).map(|done| done.members).sum();
        let Location::File(archive) = &split(file.first_split).filter(|_| members == Some(0))?.location else { return None };
        let within = |name: &String| Some(name.strip_prefix(&archive.location)?.strip_prefix('/')?.to_string());
        let passed_over: Vec<String> = passed_over.iter().filter_map(within).collect();
        (!passed_over.is_empty()).then(|| IngestError::NoMember { path: file.name.clone(), passed_over })
    })
}

fn sum(counts: &[(u64, u64)], splits: &Range<u64>) -> (u64, u64) {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    let counts = counts.get(at(splits.start)..at(splits.end)).unwrap_or_default();
    counts.iter().fold((0, 0), |(accepted, rejected), count| (accepted + count.0, rejected + count.1))
}

/// A field that no JSON object of an input has.
struct Unnamed<'n> {
    input: &'n Input,
    field: &'n Field,
    /// What is looked for: its own name, or what it is mapped to.
    sought: &'n str,
    /// The key that may be meant.
    near: Option<&'n str>,
}

fn unnamed<'n>(input: &'n Input, notice: &'n Notice) -> impl Iterator<Item = Unnamed<'n>> {
    let keys: Vec<&str> = notice.keys.iter().map(String::as_str).collect();
    let unseen = move |place: usize| notice.objects && notice.fields >> place & 1 == 0 && input.mapping.is_sought(place);
    let fields = input.fields.iter().enumerate().filter(move |(place, _)| unseen(*place));
    fields.map(move |(place, field)| {
        let sought = input.mapping.name(place, field);
        Unnamed { input, field, sought, near: nearest(sought, &keys) }
    })
}

impl Unnamed<'_> {
    fn note(self) -> Option<String> {
        let Unnamed { input, field, sought, near } = &self;
        let no_object = match *sought == field.name {
            true => format!("no object of {:?} names {sought}", input.name),
            false => format!("no object of {:?} names {sought:?}, which {} is mapped to", input.name, field.name),
        };
        match (field.presence, near) {
            (Presence::Always, _) | (Presence::OfSome, None) => None,
            (_, Some(_)) => Some(format!("{no_object}; perhaps {}", self.flag())),
            (Presence::Optional, None) => Some(no_object),
        }
    }

    fn flag(&self) -> String {
        map_flag(self.input, self.field, self.near.unwrap_or("KEY"))
    }
}

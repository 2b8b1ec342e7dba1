//! What people should know of a batch: fields that none of its objects names, times that were read in a default zone, and files of which
//! nothing could be read.

use super::gather::EpochReports;
use super::job::Job;
use super::unread::Unread;
use crate::ingest::nearest::{map_flag, nearest};
use crate::ingest::plan::Plan;
use retally_core::contract::Input;
use retally_core::noticed::Notice;
use retally_core::record::{Field, Presence};
use retally_core::split::{Done, Location};
use std::ops::Range;

/// So many reasons are named.
const REASONS_MAX: usize = 3;

/// What was noticed in a batch.
pub struct Notices<'b> {
    job: &'b Job,
    plan: &'b Plan,
    /// By input.
    inputs: Vec<Notice>,
}

impl<'b> Notices<'b> {
    /// What was noticed in the splits of a batch.
    pub fn new(job: &'b Job, plan: &'b Plan, done: &[Done]) -> Notices<'b> {
        let mut inputs = vec![Notice::default(); job.definition.inputs.len()];
        for done in done {
            let split = usize::try_from(done.sequence).ok().and_then(|place| plan.splits.get(place));
            split.and_then(|split| inputs.get_mut(split.input)).into_iter().for_each(|notice| notice.add(&done.notice));
        }
        Notices { job, plan, inputs }
    }

    fn inputs(&self) -> impl Iterator<Item = (&Input, &Notice)> {
        self.job.definition.inputs.iter().zip(&self.inputs)
    }

    /// Notes for the summary.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.inputs().flat_map(|(input, notice)| unnamed(input, notice).filter_map(note)).collect();
        let zone = self.job.definition.settings.iter().find(|setting| setting.name == "timezone");
        let is_default = zone.is_some_and(|zone| zone.default == Some(self.job.settings.text(zone.name)));
        if is_default && self.inputs.iter().any(|notice| notice.local_times) {
            notes.push(format!("times without an offset were read in {} (--timezone says another zone)", self.job.graph.calendar().name()));
        }
        notes
    }

    /// The first file of which nothing could be read, when all have been.
    pub fn unread(&self, reports: &EpochReports) -> Option<Unread> {
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
            if accepted > 0 || rejected == 0 || self.is_of_datasets(&splits) {
                return None;
            }
            let (input, notice) = self.inputs().nth(file.input)?;
            let flags: Vec<String> = unnamed(input, notice).filter(|(_, field, _)| field.presence == Presence::Always).map(flag).collect();
            let keys = notice.keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
            let mut reasons = reports.rejected.reasons(&splits, REASONS_MAX);
            if reasons.is_empty() {
                // None of its records is kept; of all files, the most frequent.
                reasons = reports.rejected.reasons_counted().most_frequent(REASONS_MAX).into_iter().map(|(kind, _)| kind).collect();
            }
            let lacking = reasons.iter().any(|reason| reason.ends_with(" is missing"));
            let hint = (lacking && !flags.is_empty()).then(|| format!("start from {} (keys that name no field: {keys})", flags.join(" ")));
            Some(Unread { path: file.name.clone(), records: rejected, reasons, hint })
        })
    }

    fn is_of_datasets(&self, splits: &Range<u64>) -> bool {
        let split = usize::try_from(splits.start).ok().and_then(|place| self.plan.splits.get(place));
        split.is_some_and(|split| matches!(split.location, Location::Dataset(_)))
    }
}

fn sum(counts: &[(u64, u64)], splits: &Range<u64>) -> (u64, u64) {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    let counts = counts.get(at(splits.start)..at(splits.end)).unwrap_or_default();
    counts.iter().fold((0, 0), |(accepted, rejected), count| (accepted + count.0, rejected + count.1))
}

/// The fields of an input that no JSON object named, each with the key that may be meant.
fn unnamed<'n>(input: &'n Input, notice: &'n Notice) -> impl Iterator<Item = (&'n Input, &'n Field, Option<&'n str>)> {
    let keys: Vec<&str> = notice.keys.iter().map(String::as_str).collect();
    let unseen = move |place: usize| notice.objects && notice.fields >> place & 1 == 0 && input.mapping.is_sought(place);
    let fields = input.fields.iter().enumerate().filter(move |(place, _)| unseen(*place));
    fields.map(move |(place, field)| (input, field, nearest(input.mapping.name(place, field), &keys)))
}

fn note((input, field, key): (&Input, &Field, Option<&str>)) -> Option<String> {
    let no_object = format!("no object of {:?} names {}", input.name, field.name);
    match (field.presence, key) {
        (Presence::Always, _) | (Presence::OfSome, None) => None,
        (_, Some(_)) => Some(format!("{no_object}; perhaps {}", flag((input, field, key)))),
        (Presence::Optional, None) => Some(no_object),
    }
}

fn flag((input, field, key): (&Input, &Field, Option<&str>)) -> String {
    map_flag(input, field, key.unwrap_or("KEY"))
}

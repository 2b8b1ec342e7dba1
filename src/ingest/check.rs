//! What is understood of a file, and what would be refused: a look at its first records, or at the beginnings of its first datasets, before
//! anything is built of them.

use super::plan::{Plan, PlannedFile};
use super::read::FileOpener;
use super::unpack::packing_name;
use retally_core::contract::{Graph, Input, InputKind};
use retally_core::ids::Ids;
use retally_core::mapping::{Origin, Rule};
use retally_core::record::{Context, Refusal, texts};
use retally_core::split::{Archive, Columns, Format, Line, Location, Opener, Split, SplitError};
use retally_core::texts::Texts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// So many records of each file are read.
const RECORDS_MAX: u64 = 1_000;
/// So many are shown as they are read.
const SAMPLES_MAX: usize = 5;
/// So many datasets are looked at.
const DATASETS_MAX: usize = 20;
/// While a stream has nothing to give.
const PAUSE: Duration = Duration::from_millis(1);

/// What was seen of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The input.
    pub input: &'static str,
    /// Its name.
    pub name: String,
    /// What it is, in words.
    pub format: String,
    /// Each field, and where its values come from, in words.
    pub fields: Vec<(&'static str, String)>,
    /// Of a folder or a file of datasets, how many there are. Then what is said of records is of the first datasets.
    pub datasets: Option<usize>,
    /// Lines of datasets that can be read that would be skipped.
    pub skipped_lines: u64,
    /// Records that can be read.
    pub accepted: u64,
    /// Records that are refused.
    pub refused: u64,
    /// Whether there is more behind what was read.
    pub more: bool,
    /// The first records, as they are read: a text for each field.
    pub samples: Vec<Vec<String>>,
    /// Why records are refused, in the order of the lines where that came first.
    pub reasons: Vec<Reason>,
    /// The zone in which times without an offset were read; nothing where there are none.
    pub zone: Option<String>,
}

/// Why records are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The reason.
    pub reason: String,
    /// How many records.
    pub records: u64,
    /// The line of the first of them.
    pub line: u64,
    /// The first of them, where it is a dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
}

/// Looks at the file with this place in a plan, which was made for this input.
///
/// # Errors
/// The file can't be opened or read.
pub fn check(graph: &dyn Graph, input: &Input, plan: &Plan, place: usize) -> Result<Checked, SplitError> {
    let Some(file) = plan.files.get(place) else { return Ok(Checked::default()) };
    let mut checked = Checked { input: input.name, name: file.name.clone(), ..Checked::default() };
    let splits = splits(plan, file, place);
    let Some(split) = splits.first() else { return Ok(checked) };
    if matches!(input.kind, InputKind::Datasets(_)) {
        checked.add_datasets(graph, splits);
        return Ok(checked);
    }
    checked.format = format(split);
    checked.fields = input.fields.iter().enumerate().map(|(place, field)| (field.name, origin(input, place, split))).collect();
    let calendar = graph.calendar();
    let context = match graph.ids() {
        Ids::Declared => input.context(calendar.clone()),
        Ids::Text => input.context(calendar.clone()).with_text_ids(Texts::of_workers(1)),
    };
    // Line numbers are those of the first split alone; the others are read only where that one is short.
    let mut reader = FileOpener::default().open(split, input)?;
    let mut reasons = BTreeMap::new();
    while reader.read(&mut |line| checked.add(&line, split, input, &context, &mut reasons))? && !checked.more {}
    checked.reasons = reasons.into_iter().map(|(reason, (records, line))| Reason { reason, records, line, dataset: None }).collect();
    checked.reasons.sort_by_key(|reason| (reason.line, reason.records));
    let notice = context.noticed.take();
    for (place, (_, origin)) in checked.fields.iter_mut().enumerate().filter(|_| notice.objects) {
        if input.mapping.is_sought(place) && notice.fields >> place & 1 == 0 {
            origin.push_str(", which none of them has");
        }
    }
    checked.zone = notice.local_times.then(|| calendar.name().to_string());
    Ok(checked)
}

/// The splits of a file.
fn splits<'p>(plan: &'p Plan, file: &PlannedFile, place: usize) -> &'p [Split] {
    let number = |split: u64| usize::try_from(split).unwrap_or(usize::MAX);
    let until = plan.files.get(place + 1).map_or(plan.splits.len(), |next| number(next.first_split));
    plan.splits.get(number(file.first_split)..until).unwrap_or_default()
}

impl Checked {
    /// Looks at the first datasets, and at the jobs before them that are none.
    fn add_datasets(&mut self, graph: &dyn Graph, splits: &[Split]) {
        let opener = FileOpener::default();
        let (mut all, mut seen) = (0, 0);
        for split in splits {
            let (dataset, line, error) = match &split.location {
                Location::Dataset(dataset) => {
                    all += 1;
                    let wait = &mut || std::thread::sleep(PAUSE);
                    let Some(looked) = (seen < DATASETS_MAX).then(|| graph.look(split, &opener, wait)).flatten() else { continue };
                    seen += 1;
                    self.accepted += u64::from(looked.error.is_none());
                    self.skipped_lines += if looked.error.is_none() { looked.skipped_lines } else { 0 };
                    (Some(dataset.key.join("/")), 1, looked.error)
                }
                Location::Refused(job) => (None, job.line + 1, Some(job.reason.clone())),
                _ => continue,
            };
            let Some(reason) = error else { continue };
            self.refused += 1;
            match self.reasons.iter_mut().find(|known| known.reason == reason && known.dataset.is_some() == dataset.is_some()) {
                Some(known) => known.records += 1,
                None => self.reasons.push(Reason { reason, records: 1, line, dataset }),
            }
        }
        self.datasets = Some(all);
        self.more = seen < all;
    }

    fn add(&mut self, line: &Line<'_>, split: &Split, input: &Input, context: &Context, reasons: &mut BTreeMap<String, (u64, u64)>) {
        if self.accepted + self.refused >= RECORDS_MAX {
            self.more = true;
            return;
        }
        let record = line.record.map_err(|why| Refusal::from(why.to_string())).and_then(|raw| {
            let time = (input.read)(raw, context)?;
            time.map_or(Ok(()), |time| split.accepts(time))?;
            Ok(raw)
        });
        match record {
            Ok(raw) => {
                self.accepted += 1;
                if self.samples.len() < SAMPLES_MAX {
                    self.samples.extend(texts(raw, input.fields, context));
                }
            }
            Err(reason) => {
                self.refused += 1;
                reasons.entry(reason.into_owned()).or_insert((0, line.number + 1)).0 += 1;
            }
        }
    }
}

/// What a file is, in words.
fn format(split: &Split) -> String {
    let format = match &split.format {
        Format::Csv(columns) => {
            let delimiter = match columns.delimiter {
                b'\t' => "tabs".into(),
                other => format!("{:?}", char::from(other)),
            };
            let header = match columns.head_lines {
                _ if !columns.header => "without a header".to_string(),
                line => format!("with a header that ends in line {line}"),
            };
            let count = columns.places.len();
            let columns = if count == 1 { "1 column".into() } else { format!("{count} columns") };
            format!("CSV, {columns} between {delimiter}, {header}")
        }
        Format::JsonLines => "JSON objects by line".into(),
        Format::Json { wrapper: None } => "JSON objects, one after the other or in arrays".into(),
        Format::Json { wrapper: Some(key) } => format!("JSON objects in the array {key:?} of others"),
        Format::Parquet => "Parquet".into(),
        Format::Archive(Archive::Zip) => "a zip archive".into(),
        Format::Archive(Archive::Tar) => "a tar archive".into(),
    };
    let packing = packing_name(split.packing).map(|name| format!(", packed with {name}")).unwrap_or_default();
    let encoding = split.encoding.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    format!("{format}{packing}{encoding}")
}

/// Where a field's values come from, in words.
fn origin(input: &Input, place: usize, split: &Split) -> String {
    let Rule { origin, time, truth } = input.mapping.rule(place).cloned().unwrap_or_default();
    let name = input.fields.get(place).map_or("", |field| input.mapping.name(place, field));
    let mut text = match (&origin, &split.format) {
        (Origin::Constant(value), _) => format!("is always {value:?}"),
        (Origin::Absent, _) => "is not there".into(),
        (_, Format::Csv(Columns { wide: Some(wide), .. })) => {
            let shared = wide.names.get(wide.shared).map(String::as_str).unwrap_or_default();
            match place {
                _ if place == wide.fields.line => format!("is column {}, {shared:?}", wide.shared + 1),
                _ if place == wide.fields.column => "is the name of each other column".into(),
                _ if place == wide.fields.cell => "is in each other column".into(),
                _ => "is not there".into(),
            }
        }
        (_, Format::Csv(columns)) => {
            let from = columns.copies.iter().find(|(_, to)| *to == place).map_or(place, |(from, _)| *from);
            match columns.places.iter().position(|column| *column == Some(from)) {
                Some(column) if columns.header => format!("is column {}, {name:?}", column + 1),
                Some(column) => format!("is column {}", column + 1),
                None => "is not there".into(),
            }
        }
        _ => format!("is under {name:?}"),
    };
    if let Some(format) = time {
        write!(text, ", a time as {format}").ok();
    }
    if let Some(truth) = truth {
        write!(text, ", true as {}, false as {}", truth.yes.join(" or "), truth.no.join(" or ")).ok();
    }
    text
}

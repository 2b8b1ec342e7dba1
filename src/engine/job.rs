//! A job: a dataflow with its settings, and what of it is built.
//!
//! A job has two fingerprints, which are the same in every build: one of what its tables are computed with, which databases keep, and one
//! of all that the processes of a run must agree on.

use crate::points::Destination;
use retally_core::contract::{AsOf, Definition, Graph, Settings, Table};
use retally_core::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// As-of, where it is the machine's clock.
pub const NOW: &str = "now";

/// What is run.
#[derive(Clone)]
pub struct Job {
    /// The dataflow.
    pub definition: Definition,
    /// Its graph.
    pub graph: Arc<dyn Graph>,
    /// The settings, which all processes must share.
    pub settings: Settings,
    /// The tables that are built, those of charts of single keys among them.
    pub tables: BTreeSet<String>,
    /// Events before this are refused.
    pub accept_from: Moment,
    /// So many refused records of a batch are kept as rows of the table `rejected`; all are counted.
    pub rejected_kept: u64,
    /// The rows of `rejected` name the batch that they came with, and which record they are.
    pub rejected_by_batch: bool,
    /// The run fails when more records are refused.
    pub rejected_max: Option<u64>,
    /// Where points go.
    pub points: Destination,
    /// What is delivered, as it was given: `NAME=VALUE`, which all processes must have the same.
    pub given: Vec<String>,
}

impl Job {
    /// A job that refuses no event for being early, keeps some refused records, and writes no points.
    pub fn new(definition: Definition, graph: Box<dyn Graph>, settings: Settings, tables: BTreeSet<String>) -> Job {
        Job {
            definition,
            graph: Arc::from(graph),
            settings,
            tables,
            accept_from: Moment::FIRST,
            rejected_kept: 1_000,
            rejected_by_batch: false,
            rejected_max: None,
            points: Destination::Nowhere,
            given: Vec::new(),
        }
    }

    /// The tables that are built, in the order of the dataflow, and those that are left out.
    pub fn divided(&self) -> (Vec<Table>, Vec<Table>) {
        self.graph.tables().into_iter().partition(|table| self.tables.contains(table.name))
    }

    /// The settings by name, as texts.
    pub fn named_settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.definition.settings.iter().map(|setting| (setting.name, self.settings.text(setting.name)))
    }

    /// As-of as it is given, where it is.
    fn as_of(&self) -> Option<String> {
        match self.settings.as_of() {
            AsOf::Latest => None,
            AsOf::At(moment) => Some(moment.to_string()),
            AsOf::Now => Some(NOW.into()),
        }
    }

    /// The settings as a JSON object, with `as-of` where it is set, and `tables` where not all are built.
    pub fn settings_json(&self) -> String {
        let named = self.named_settings().map(|(name, value)| (name, value.to_string()));
        let as_of = self.as_of().map(|as_of| ("as-of", as_of));
        let all = self.graph.tables().iter().all(|table| self.tables.contains(table.name));
        let tables = (!all).then(|| ("tables", self.tables.iter().cloned().collect::<Vec<_>>().join(",")));
        // Texts can always be written.
        serde_json::to_string(&named.chain(as_of).chain(tables).collect::<BTreeMap<_, _>>()).unwrap_or_default()
    }

    /// A fingerprint of what tables are computed with: two jobs that differ in the dataflow, its settings, as-of or the columns of its
    /// tables have different ones. Settings that choose charts do not change tables, and are left out.
    pub fn fingerprint(&self) -> String {
        let charts: Vec<&str> = self.graph.key_charts().iter().map(|chart| chart.setting).collect();
        let settings = self.named_settings().filter(|(name, _)| !charts.contains(name));
        let settings = settings.map(|(name, value)| format!("{name}={value}"));
        let as_of = match self.settings.as_of() {
            AsOf::Latest => "latest".to_string(),
            AsOf::At(moment) => moment.0.to_string(),
            AsOf::Now => NOW.to_string(),
        };
        let mapped = self.definition.inputs.iter().map(|input| format!("{} {}", input.name, input.mapping.fingerprint()));
        let mapped = mapped.filter(|_| self.definition.inputs.iter().any(|input| !input.mapping.is_empty()));
        let tables = self.graph.tables().into_iter().map(|table| {
            let columns = table.columns.iter().map(|column| format!("{} {:?} {}", column.name, column.kind, column.nullable));
            format!("{} {} {}", table.name, table.key_columns, columns.collect::<Vec<_>>().join(","))
        });
        format!("{:016x}", fnv([self.definition.name.to_string(), as_of].into_iter().chain(settings).chain(mapped).chain(tables)))
    }
}

/// A fingerprint of what the processes of a run must agree on: the jobs in their order, all their settings, and the tables that are built.
pub fn agreement(jobs: &[Job]) -> u64 {
    fnv(jobs.iter().flat_map(|job| {
        let settings = job.named_settings().map(|(name, value)| format!("{name}={value}"));
        let files = job
            .definition
            .inputs
            .iter()
            .map(|input| format!("{:?}", input.files))
            .chain([job.accept_from.to_string(), job.points.agreement(), format!("{:?}", job.rejected_max)])
            .chain(job.given.iter().cloned());
        [job.fingerprint()].into_iter().chain(settings).chain(files).chain(job.tables.iter().cloned()).collect::<Vec<_>>()
    }))
}

/// The same for people: `NAME=VALUE`, a line each, without what is secret. Columns of tables are not among them. What may be long comes
/// last, since there is a limit on all of it, and a long value is cut, with a number for the rest.
pub fn terms(jobs: &[Job]) -> String {
    let (mut lines, mut long) = (Vec::new(), Vec::new());
    for job in jobs {
        let of_dataflow = |name: &str, value: String| match jobs {
            [_] => format!("{name}={value}"),
            _ => format!("{}.{name}={value}", job.definition.name),
        };
        lines.push(of_dataflow("dataflow", job.definition.name.to_string()));
        lines.extend(job.named_settings().map(|(name, value)| of_dataflow(name, value.to_string())));
        let as_of = job.as_of().unwrap_or_else(|| "latest".into());
        let tables = job.tables.iter().cloned().collect::<Vec<_>>().join(",");
        for (name, value) in
            [("as-of", as_of), ("not-before", job.accept_from.to_string()), ("points", job.points.agreement()), ("tables", tables)]
        {
            lines.push(of_dataflow(name, value));
        }
        lines.extend(job.rejected_max.map(|max| of_dataflow("max-rejected", max.to_string())));
        for input in &job.definition.inputs {
            let said = input.files.described().chain(input.mapping.described(input.fields));
            long.extend(said.map(|(name, value)| of_dataflow(&format!("{}.{name}", input.name), value)));
        }
        long.extend(job.given.iter().cloned());
    }
    let plain = |line: &String| crate::shown::text(line).replace(['\n', '\r'], " ");
    lines.iter().chain(&long).map(|line| cut(plain(line)) + "\n").collect()
}

/// So many characters of a term are said, and a number for the rest.
const TERM_CHARS_MAX: usize = 240;

fn cut(term: String) -> String {
    match term.char_indices().nth(TERM_CHARS_MAX) {
        None => term,
        Some((end, _)) => {
            let (begin, rest) = term.split_at(end);
            format!("{begin}… and {} bytes, {:08x}", rest.len(), fnv([rest.to_string()].into_iter()) >> 32)
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo), of 64 bits. A zero byte, which no part holds, ends each part.
fn fnv(parts: impl Iterator<Item = String>) -> u64 {
    let bytes = parts.flat_map(|part| part.into_bytes().into_iter().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use retally_core::definition::FileOptions;
    use retally_core::mapping::{Column, Origin, Rule};

    fn online() -> Job {
        let dataflow = registry::dataflow("online").unwrap();
        let definition = dataflow.definition();
        let settings = Settings::defaults(&definition.settings);
        Job::new(definition, dataflow.graph(&settings).unwrap(), settings, BTreeSet::new())
    }

    /// Two jobs that differ only so are told apart, by a line that one of them has.
    #[test]
    fn what_is_delivered_mapped_and_read_otherwise_is_a_term() {
        let plain = online();
        let differs = |change: &dyn Fn(&mut Job), line: &str| {
            let mut job = online();
            change(&mut job);
            assert_ne!(agreement(std::slice::from_ref(&job)), agreement(std::slice::from_ref(&plain)), "{line}");
            let terms = terms(std::slice::from_ref(&job));
            assert!(terms.lines().any(|term| term == line) && !self::terms(std::slice::from_ref(&plain)).contains(line), "{line}: {terms}");
        };
        differs(&|job| job.rejected_max = Some(7), "max-rejected=7");
        differs(&|job| job.given = vec!["inputs=events=a.csv".into()], "inputs=events=a.csv");
        differs(
            &|job| job.definition.inputs[0].files = FileOptions { first_header: true, ..FileOptions::default() },
            "events.header=first",
        );
        let rule = Rule { origin: Origin::Column(Column::parse("imei")), ..Rule::default() };
        let place = plain.definition.inputs[0].fields.iter().position(|field| field.name == "device_id").unwrap();
        let map = |job: &mut Job| {
            let input = &mut job.definition.inputs[0];
            input.mapping = input.mapping.with(input.fields, place, rule.clone());
        };
        differs(&map, "events.device_id=imei");
    }

    #[test]
    fn a_long_term_is_cut_and_still_differs() {
        let [one, other] = ["a", "b"].map(|end| cut(format!("inputs={}{end}", "é".repeat(1000))));
        assert!(one != other && one.len() < 600 && one.contains("… and "), "{one}");
        assert_eq!(cut("a=b".into()), "a=b");
    }
}

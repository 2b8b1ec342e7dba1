//! Reading a file to its end, as a worker does, with what must hold of every file: for tests of mutated ones, and for libFuzzer's targets.

use retally::ingest::batch::{Arrival, Batch, Part, Source};
use retally::ingest::plan;
use retally::ingest::read::FileOpener;
use retally::registry;
use retally_core::calendar::Calendar;
use retally_core::split::{Format, Opener, Packing};
use retally_core::time::Moment;
use std::path::Path;

/// What text files hold: dataflow, input, and the ending of the name.
pub const KINDS: [(&str, &str, &str); 7] = [
    ("online", "events", "csv"),
    ("online", "servers", "csv"),
    ("sensors", "data", "csv"),
    ("online", "events", "jsonl"),
    ("online", "events", "json"),
    ("usage", "events", "json"),
    ("active", "events", "jsonl"),
];

/// A file of some thousand bytes takes a few reads.
const READS_MAX: usize = 100_000;

/// Reads the file at a path. Returns how many records were accepted, when it was not refused as a whole.
pub fn read(dataflow: &str, input: &str, path: &Path) -> Result<u64, String> {
    let definition = registry::dataflow(dataflow).unwrap().definition();
    let place = definition.inputs.iter().position(|known| known.name == input).unwrap();
    let input = &definition.inputs[place];
    let batch = Batch { parts: vec![Part { input: place, sign: 1, source: Source::Path(path.display().to_string()) }] };
    let arrival = Arrival { accept_from: Moment::NOT_BEFORE, accept_until: Moment::LAST };
    let plan = plan::plan(&definition, &batch, arrival).map_err(|error| error.to_string())?;
    let context = input.context(Calendar::utc());
    let (mut accepted, mut refused) = (0, 0);
    for split in &plan.splits {
        let mut reader = FileOpener::default().open(split, input).map_err(|error| error.message)?;
        let mut reads = 0;
        loop {
            let more = reader.read(&mut |line| {
                let record = line.record.map_err(Into::into).and_then(|raw| (input.read)(raw, &context));
                match record {
                    Ok(_) => accepted += 1,
                    Err(reason) => {
                        assert!(!reason.is_empty());
                        refused += 1;
                    }
                }
            });
            let more = more.map_err(|error| error.message)?;
            reads += 1;
            assert!(reads < READS_MAX, "it goes on and on");
            if !more {
                break;
            }
        }
    }
    // Without quotes, every line of CSV that is not blank is a record, but for those before the first one.
    let lined = plan
        .splits
        .iter()
        .all(|split| matches!(split.format, Format::Csv(_)) && split.packing == Packing::Plain && split.encoding.is_none());
    if let ([split], true) = (plan.splits.as_slice(), lined) {
        let bytes = std::fs::read(path).unwrap();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        if let Format::Csv(columns) = &split.format
            && !text.contains(&b'"')
        {
            let rest = text.get(columns.head_bytes as usize..).unwrap_or_default();
            let lines = rest.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
            assert_eq!(accepted + refused, lines, "accepted and refused, and lines");
        }
    }
    Ok(accepted)
}

//! Bodies: input in memory, as it comes from a client. It is unpacked and looked at before any of it reaches a dataflow.
//!
//! A body that can't be unpacked, is cut off, or would be too large is refused whole. Large ones are cut into splits at line ends, each
//! with its own part of the same bytes: nothing is copied.
//!
//! # Limits
//! [`check_split`] does not look into datasets: one that can't be read fails alone, and its table reports it. A body that is not packed has
//! no limit here: it is in memory already.

use super::archive::{self, Members};
use super::batch::Body;
use super::file::InputFile;
use super::format::Content;
use super::look::Looker;
use super::unpack::{all_within, too_large, unpacked};
use super::within::Within;
use super::{IngestError, SPLIT_BYTES};
use bytes::Bytes;
use retally_core::contract::Input;
use retally_core::split::{Format, Packing, SourceFile, Split};
use std::io::{self, Cursor, ErrorKind, Read};

/// What bodies may become when they are unpacked: 4 GiB.
pub const UNPACKED_BYTES_MAX: u64 = 4 << 30;

/// A body that has been looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) format: Format,
    /// Unpacked.
    pub(super) bytes: Bytes,
    /// Where it is cut: each split starts at a line.
    pub(super) cuts: Vec<u64>,
}

/// Unpacks a body, up to so many bytes, and looks at its beginning.
pub(super) fn look(body: &Body, looker: &Looker, unpacked_bytes_max: u64) -> Result<Looked, IngestError> {
    let failed = |why: String| IngestError::Body { name: body.name.clone(), why };
    let content = Content::from(body.format);
    let bytes = match body.packing {
        Packing::Plain => body.bytes.clone(),
        packing => unpack(Cursor::new(body.bytes.clone()), packing, unpacked_bytes_max).map_err(|error| failed(error.to_string()))?.into(),
    };
    let (found, mut text) = looker.look(&body.name, Some(content), Box::new(Cursor::new(bytes.clone())))?;
    let bytes = if found.encoding.is_some() {
        let mut decoded = Vec::new();
        text.read_to_end(&mut decoded).map_err(|error| failed(error.to_string()))?;
        decoded.into()
    } else {
        bytes
    };
    let format = found.format;
    let hides_lines =
        |columns| memchr::memchr(b'"', &bytes).is_some() || Within::new(columns, looker.input()).is_some_and(|it| it.is_in(&bytes));
    let cuts = match &format {
        _ if bytes.len() as u64 <= SPLIT_BYTES => Vec::new(),
        Format::Json { .. } => Vec::new(),
        Format::Csv(columns) if hides_lines(columns) => Vec::new(),
        _ => cuts(&bytes),
    };
    Ok(Looked { format, bytes, cuts })
}

/// Where lines start, about a split apart.
fn cuts(bytes: &[u8]) -> Vec<u64> {
    let split = usize::try_from(SPLIT_BYTES).unwrap_or(usize::MAX);
    let mut cuts = Vec::new();
    let mut at = split;
    while let Some(newline) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let start = at + newline + 1;
        if start < bytes.len() {
            cuts.push(start as u64);
        }
        at = start + split;
    }
    cuts
}

fn unpack(stream: impl Read + 'static, packing: Packing, bytes_max: u64) -> io::Result<Vec<u8>> {
    all_within(unpacked(stream, packing)?, bytes_max)?.ok_or_else(|| too_large(bytes_max))
}

/// Unpacks a split of a packed file or of an archive to its end, and keeps nothing of it: what is wrong with it shows before any of it
/// reaches a dataflow. Returns what it found in an archive.
pub(super) fn check_split(split: &Split, file: &SourceFile, input: &Input, unpacked_bytes_max: u64) -> Result<Members, IngestError> {
    let (name, packing) = (&file.location, split.packing);
    let checked = || {
        if let Format::Archive(archive) = split.format {
            return archive::check(file, archive, packing, split.range, input, unpacked_bytes_max);
        }
        // What says that it may be cut is in the file itself: each part is looked at as it will be read.
        let (from, until) = split.range;
        let end = Some(until).filter(|until| *until != u64::MAX);
        let packed = InputFile::open_planned(file, from, end)?.take(until - from);
        let mut stream = unpacked(packed, packing)?.take(unpacked_bytes_max.saturating_add(1));
        let mut last = LastByte(None);
        let bytes = io::copy(&mut stream, &mut last)?;
        match last.0 {
            _ if bytes > unpacked_bytes_max => Err(too_large(unpacked_bytes_max)),
            Some(byte) if end.is_some() && byte != b'\n' => Err(io::Error::new(ErrorKind::InvalidData, "it is cut within a line")),
            _ => Ok(Members::default()),
        }
    };
    checked().map_err(|error: io::Error| match error.kind() {
        // What unpackers say of what they unpack.
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            IngestError::Body { name: name.clone(), why: error.to_string() }
        }
        _ => IngestError::Io { what: "read", path: name.clone(), source: error },
    })
}

/// Keeps the last byte of what is written.
struct LastByte(Option<u8>);

impl io::Write for LastByte {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = bytes.last().copied().or(self.0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::batch::{Arrival, Batch, Part, Source, TextFormat};
    use crate::ingest::plan::{Plan, plan};
    use crate::ingest::read::FileOpener;
    use crate::ingest::rejected::Refused;
    use crate::ingest::sample::{self, definition};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use retally_core::record::Raw;
    use retally_core::split::{Done, Opener, Rejected};
    use retally_core::time::Moment;
    use std::io::Write;

    fn planned(source: Source) -> Result<Plan, IngestError> {
        let batch = Batch { parts: vec![Part { input: 0, sign: 1, source }] };
        plan(&definition(), &batch, Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST })
    }

    fn body(format: TextFormat, packing: Packing, bytes: impl Into<Bytes>) -> Body {
        Body { name: "upload".into(), format, packing, bytes: bytes.into() }
    }

    fn looker() -> Looker {
        Looker::new(&sample::input())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    /// Reads all splits. Returns the ids, and the rows of `rejected` as (source, line).
    fn read(plan: &Plan) -> (Vec<String>, Vec<(String, u64)>) {
        let (mut ids, mut refused, mut done) = (Vec::new(), Refused::default(), Vec::new());
        for split in &plan.splits {
            let mut reader = FileOpener::default().open(split, &sample::input()).unwrap();
            let mut each = |line: retally_core::split::Line<'_>| match line.record {
                Ok(Raw::Fields(fields)) => ids.push(String::from_utf8_lossy(fields.text(1)).into_owned()),
                Ok(Raw::Json(object)) => ids.push(String::from_utf8_lossy(object).into_owned()),
                Err(reason) => refused.push(&Rejected {
                    sequence: split.sequence,
                    member: None,
                    line: line.number,
                    nth: 0,
                    reason: reason.into(),
                    raw: line.text().into_owned(),
                }),
            };
            while reader.read(&mut each).unwrap() {}
            done.push(Done { sequence: split.sequence, lines: reader.lines_read(), ..Done::default() });
        }
        let rows = refused.rows(&Refused::default(), &definition(), plan, &done, None);
        let columns = retally_core::contract::Table::rejected().columns;
        let row = |(row, _): (&[u8], i64)| {
            let values: Vec<String> = retally_core::row::values(&columns, row).map(|value| value.to_string()).collect();
            (values[1].clone(), values[2].parse().unwrap())
        };
        (ids, rows.iter().flat_map(|batch| batch.iter().map(row).collect::<Vec<_>>()).collect())
    }

    #[test]
    fn a_body_has_a_header_or_none_and_is_packed_or_not() {
        let csv = |packing, bytes: Vec<u8>| read(&planned(Source::Bytes(body(TextFormat::Csv, packing, bytes))).unwrap()).0;
        assert_eq!(csv(Packing::Plain, b"2026-01-01 00:00:00,7".into()), ["7"]);
        assert_eq!(csv(Packing::Plain, b"\xef\xbb\xbfid;time\n7;x\n8;y\n".into()), ["7", "8"]);
        assert_eq!(csv(Packing::Gzip, gzip(b"id,time\n7,x\n")), ["7"]);
        assert_eq!(csv(Packing::Zstd, zstd::encode_all(&b"x,7\ny,8"[..], 1).unwrap()), ["7", "8"]);
        assert_eq!(csv(Packing::Plain, Vec::new()), [""; 0]);
        let json = |bytes: &'static [u8]| read(&planned(Source::Bytes(body(TextFormat::Json, Packing::Plain, bytes))).unwrap()).0;
        assert_eq!(json(b"{\"id\":1}\n{\"id\":2}"), json(b" [{\"id\":1},{\"id\":2}]"));
    }

    /// Three splits: as a file of the same lines, with the right numbers of refused lines.
    #[test]
    fn a_large_body_is_cut_at_lines_and_shares_its_bytes() {
        let line = |number: usize| {
            if number % 50_000 == 49_999 { "a,b,c,d,e".into() } else { format!("2026-01-01 00:00:00.{number:06},{number}") }
        };
        let text: String = (0..300_000).map(|number| line(number) + "\n").collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upload.csv");
        std::fs::write(&path, &text).unwrap();
        let bytes = Bytes::from(text);
        let plan = planned(Source::Bytes(body(TextFormat::Csv, Packing::Plain, bytes.clone()))).unwrap();
        assert_eq!(plan.splits.len(), 3);
        let whole = bytes.as_ptr_range();
        for split in &plan.splits {
            let retally_core::split::Location::Inline(part) = &split.location else { panic!("{split:?}") };
            assert!(whole.contains(&part.as_ptr()), "a copy");
        }
        let (ids, refused) = read(&plan);
        let (expected_ids, expected_refused) = read(&planned(Source::Path(path.display().to_string())).unwrap());
        assert!(ids == expected_ids, "{} records, and {} of the file", ids.len(), expected_ids.len());
        let lines = |rows: &[(String, u64)]| rows.iter().map(|(_, line)| *line).collect::<Vec<_>>();
        assert_eq!((lines(&refused), refused[0].0.as_str()), (lines(&expected_refused), "upload"));
        assert_eq!(lines(&refused), [50_000, 100_000, 150_000, 200_000, 250_000, 300_000]);
    }

    #[test]
    fn what_can_not_be_unpacked_is_refused_whole() {
        let packed = gzip(&b"x,7\n".repeat(10_000));
        let zstd = zstd::encode_all(&b"x,7\n".repeat(10_000)[..], 1).unwrap();
        let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
        let garbage = [packed.clone(), b"garbage".to_vec()].concat();
        let folder = tempfile::tempdir().unwrap();
        for (packing, ending, bytes) in [
            (Packing::Gzip, "gz", cut(&packed)),
            (Packing::Gzip, "gz", garbage),
            (Packing::Zstd, "zst", cut(&zstd)),
            (Packing::Zstd, "zst", b"rubbish".to_vec()),
        ] {
            let error = planned(Source::Bytes(body(TextFormat::Csv, packing, bytes.clone()))).unwrap_err();
            assert!(error.to_string().starts_with("could not unpack \"upload\": "), "{error}");
            // A file is only looked at, unless it is to be checked.
            let path = folder.path().join(format!("upload.csv.{ending}"));
            std::fs::write(&path, bytes).unwrap();
            if let Ok(plan) = planned(Source::Path(path.display().to_string())) {
                let error = plan.check_packed(&sample::definition(), UNPACKED_BYTES_MAX).unwrap_err();
                assert!(matches!(&error, IngestError::Body { .. }), "{error}");
            }
        }
        let error = look(&body(TextFormat::Csv, Packing::Plain, zstd), &looker(), 100).unwrap_err();
        assert_eq!(error.to_string(), "could not read \"upload\": it holds zstd");
    }

    /// A line without end: what is looked at of it is bounded, and so is the header.
    #[test]
    fn a_first_line_without_end_is_cut() {
        let bytes = vec![b','; 4 << 20];
        let looked = look(&body(TextFormat::Csv, Packing::Plain, bytes), &looker(), UNPACKED_BYTES_MAX).unwrap();
        assert!(matches!(looked.format, Format::Csv(columns) if !columns.header));
    }

    #[test]
    fn what_is_wrong_is_told_from_what_may_pass() {
        use crate::failure::Kind;
        let io = |path: &str, kind: ErrorKind| IngestError::Io { what: "read", path: path.into(), source: kind.into() }.kind();
        for (path, kind, expected) in [
            ("events.csv", ErrorKind::NotFound, Kind::BadInput),
            ("events.csv", ErrorKind::PermissionDenied, Kind::BadInput),
            ("events.csv", ErrorKind::InvalidData, Kind::BadInput),
            ("events.csv", ErrorKind::OutOfMemory, Kind::TryAgain),
            ("s3://bucket/events.csv", ErrorKind::NotFound, Kind::BadInput),
            ("s3://bucket/events.csv.gz", ErrorKind::UnexpectedEof, Kind::BadInput),
            ("s3://bucket/events.csv", ErrorKind::TimedOut, Kind::TryAgain),
            ("s3://bucket/events.csv", ErrorKind::ConnectionReset, Kind::TryAgain),
            ("s3://bucket/events.csv", ErrorKind::Other, Kind::TryAgain),
        ] {
            assert_eq!(io(path, kind), expected, "{path}, {kind}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing.csv.gz");
        std::fs::write(&path, gzip(b"x,7\n")).unwrap();
        let plan = planned(Source::Path(path.display().to_string())).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(plan.check_packed(&sample::definition(), UNPACKED_BYTES_MAX).unwrap_err().kind(), Kind::BadInput);
    }

    const PLAIN: &str = "x,7\n";

    fn zipped(packed: &[u8]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in [("a.csv", PLAIN.repeat(10_000).as_bytes()), ("b.csv.gz", packed)] {
            let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(name, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn tarred(packed: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [("a.csv", PLAIN.repeat(10_000).as_bytes()), ("b.csv.gz", packed)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// An archive in which a packed file is not what it was.
    fn broken(archive: &[u8], packed: &[u8]) -> Vec<u8> {
        let at = archive.windows(packed.len()).position(|window| window == packed).unwrap();
        let mut broken = archive.to_vec();
        broken[at + packed.len() - 8..at + packed.len()].fill(0x55);
        broken
    }

    #[test]
    fn an_archive_without_a_file_of_input_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upload.zip");
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("README.md", zip::write::SimpleFileOptions::default()).unwrap();
        std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
        let plan = planned(Source::Path(path.display().to_string())).unwrap();
        let error = plan.check_packed(&sample::definition(), UNPACKED_BYTES_MAX).unwrap_err();
        assert!(matches!(&error, IngestError::NoMember { passed_over, .. } if *passed_over == ["README.md"]), "{error}");
    }

    #[test]
    fn what_would_be_too_large_is_refused_before_it_is() {
        let packed = gzip(&b"x,7\n".repeat(10_000));
        let look = |limit| look(&body(TextFormat::Csv, Packing::Gzip, packed.clone()), &looker(), limit);
        assert!(look(40_000).is_ok());
        assert_eq!(look(39_999).unwrap_err().to_string(), "could not unpack \"upload\": it holds more than 39999 bytes");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upload.csv.gz");
        std::fs::write(&path, &packed).unwrap();
        let plan = planned(Source::Path(path.display().to_string())).unwrap();
        assert!(plan.check_packed(&sample::definition(), 40_000).is_ok() && plan.check_packed(&sample::definition(), 39_999).is_err());
        for (name, bytes) in [("upload.zip", zipped(&packed)), ("upload.tar", tarred(&packed))] {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let plan = planned(Source::Path(path.display().to_string())).unwrap();
            // Both files in it, of which one is packed itself.
            assert!(plan.check_packed(&sample::definition(), 80_000).is_ok());
            let error = plan.check_packed(&sample::definition(), 79_999).unwrap_err().to_string();
            assert!(error.ends_with("it holds more than 79999 bytes"), "{error}");
            std::fs::write(&path, broken(&bytes, &packed)).unwrap();
            let plan = planned(Source::Path(path.display().to_string())).unwrap();
            assert!(matches!(plan.check_packed(&sample::definition(), 80_000), Err(IngestError::Body { .. })), "{name}");
        }
    }
}

//! `retally feed`: a batch for a service.
//!
//! Files are sent as one batch, packed on the way and never held in memory. The batch has a key: where a connection breaks off, or the
//! service is busy or away for a moment, all of it is sent again under the same key, and counts once.

use super::client::{Server, failed, is_lasting};
use super::error::{CliError, say, unless_broken_pipe};
use super::job;
use crate::backoff::Backoff;
use crate::engine::EngineError;
use crate::ingest::batch::Source;
use crate::ingest::cuts::Packer;
use crate::ingest::file::InputFile;
use crate::ingest::format::{self, Content, Kind};
use crate::ingest::unpack::unpacked;
use crate::ingest::{look, paths, plan};
use crate::numbers::counted;
use crate::registry;
use crate::shown;
use crate::staged::why;
use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use retally_core::contract::{Definition, Input, InputKind};
use retally_core::split::Packing;
use serde_json::Value;
use std::fs;
use std::io::{self, PipeWriter, Read, Seek, Write, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::SendBody;
use uuid::Uuid;

/// So long it is tried again; and so long, where the service was never reached: its address may be wrong.
const TRIES_FOR: Duration = Duration::from_secs(120);
const FIRST_TRIES_FOR: Duration = Duration::from_secs(5);
/// The first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// So much is read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// A file that is sent.
#[derive(Clone, Debug)]
struct File {
    /// The name of the part: INPUT, or INPUT- where it is taken back.
    part: String,
    path: String,
    /// What it is called.
    name: String,
    sent: Sent,
    bytes: u64,
    /// What came from a pipe, in a file without a name.
    copy: Option<Arc<fs::File>>,
}

impl File {
    /// Its bytes from the first on.
    fn open(&self) -> io::Result<Box<dyn Read>> {
        let Some(copy) = &self.copy else { return Ok(Box::new(InputFile::open(&self.path)?)) };
        let mut copy = copy.try_clone()?;
        copy.rewind()?;
        Ok(Box::new(copy))
    }
}

/// Runs the command.
pub fn main(matches: &ArgMatches) -> Result<(), CliError> {
    let name = matches.get_one::<String>("dataflow").map_or("", String::as_str);
    let Some(dataflow) = registry::dataflow(name) else { return Ok(()) };
    let inputs: Vec<String> = matches.get_many::<String>("inputs").into_iter().flatten().cloned().collect();
    let files = files(&dataflow.definition(), &inputs)?;
    let server = Server::of(matches)?;
    let wait = matches.get_one::<String>("wait").map_or("visible", String::as_str);
    let is_quiet = matches.get_flag("quiet");
    let answer = send(&server, name, &files, wait, is_quiet)?;
    if !is_quiet {
        unless_broken_pipe(stdout().write_all(shown_answer(&answer).as_bytes()))?;
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let rejected = number("rejected");
    if number("accepted") > 0 || rejected == 0 {
        return Ok(());
    }
    let error = CliError::failed(format!("none of {} records could be read", indicatif::HumanCount(rejected)));
    Err(error.hint(format!("`retally rejected list {name}` says why; `retally check` looks at files before they are sent")))
}

/// The files of a batch.
fn files(definition: &Definition, inputs: &[String]) -> Result<Vec<File>, CliError> {
    let batch = job::batch(definition, inputs)?;
    let mut files = Vec::new();
    for part in &batch.parts {
        let (Some(input), Source::Path(path)) = (definition.inputs.get(part.input), &part.source) else { continue };
        let name = format!("{}{}", input.name, if part.sign < 0 { "-" } else { "" });
        if let InputKind::Datasets(_) = input.kind
            && fs::metadata(path).is_ok_and(|folder| folder.is_dir())
        {
            let error = CliError::usage(format!("{:?} is a folder of datasets, which a service can't be sent", shown::location(path)));
            return Err(error.hint("send a file of jobs, a JSON object a line, that names where the service finds them"));
        }
        if plan::is_pipe(path) {
            let (copy, kind) = copied(path, input)?;
            let sent = Sent::of(kind).ok_or_else(|| not_sent(path))?;
            let bytes = copy.metadata().map_or(0, |file| file.len());
            files.push(File { part: name, path: path.clone(), name: path.clone(), sent, bytes, copy: Some(Arc::new(copy)) });
            continue;
        }
        let found = paths::find(path, |_| true).map_err(|error| CliError::from(EngineError::from(error)))?;
        for file in found.files {
            let sent = format::kind_with(&file, input.files.format).and_then(Sent::of).ok_or_else(|| not_sent(&file))?;
            let (shown, bytes) = (shown::location(&file).into_owned(), fs::metadata(&file).map_or(0, |file| file.len()));
            files.push(File { part: name.clone(), path: file, name: shown, sent, bytes, copy: None });
        }
    }
    Ok(files)
}

fn not_sent(file: &str) -> CliError {
    let error = CliError::usage(format!("{:?} can't be sent to a service", shown::location(file)));
    error.hint("CSV and JSON can, plain or with .gz, .zst, .bz2 or .xz, and Parquet")
}

/// A copy of what comes by a pipe, which can be sent again; and what it is.
fn copied(path: &str, input: &Input) -> Result<(fs::File, Kind), CliError> {
    let (input, mut stream) = plan::pipe(path, input).map_err(EngineError::from)?;
    let failed = |error: io::Error| CliError::failed(format!("could not copy {:?}: {error}", shown::location(path)));
    let mut copy = tempfile::tempfile().map_err(failed)?;
    io::copy(&mut stream, &mut copy).and_then(|_| copy.rewind()).map_err(failed)?;
    let kind = match (format::kind_with(path, input.files.format), input.files.format) {
        (Some(kind), _) => kind,
        (None, format) => {
            let packing = look::packing(path, &mut copy).map_err(EngineError::from)?;
            Kind { content: format.map_or(Content::Parquet, Content::from), packing }
        }
    };
    Ok((copy, kind))
}

/// How a file is sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// What it holds, and how it is packed when it is sent.
    content_type: &'static str,
    encoding: &'static str,
    /// It is text, and packed on the way: how it is packed now, and whether newlines in it may be in quotes.
    packed: Option<(Packing, bool)>,
}

impl Sent {
    /// A file of some kind, where a service takes it.
    fn of(kind: Kind) -> Option<Sent> {
        let content_type = match kind.content {
            Content::Csv => "text/csv",
            // By line or not: it is looked at.
            Content::Json => "application/json",
            Content::Parquet => "application/vnd.apache.parquet",
            Content::Archive(_) => return None,
        };
        let (encoding, packed) = match kind.packing {
            Packing::Plain if kind.content == Content::Parquet => ("identity", None),
            // HTTP has no names for the last two.
            Packing::Plain | Packing::Bzip2 | Packing::Xz => ("zstd", Some((kind.packing, kind.content == Content::Csv))),
            Packing::Gzip => ("gzip", None),
            Packing::Zstd => ("zstd", None),
        };
        Some(Sent { content_type, encoding, packed })
    }
}

/// Sends a batch until it is answered.
fn send(server: &Server, dataflow: &str, files: &[File], wait: &str, is_quiet: bool) -> Result<Value, CliError> {
    let key = Uuid::new_v4().to_string();
    let (began, mut backoff, mut tries_for) = (Instant::now(), Backoff::new(PAUSE, PAUSE_MAX), FIRST_TRIES_FOR);
    loop {
        let (error, is_there) = match send_once(server, dataflow, files, wait, &key, is_quiet)? {
            Came::Answer(answer) => return Ok(answer),
            Came::Again(error, is_there) => (error, is_there),
        };
        if is_there {
            tries_for = TRIES_FOR;
        }
        if began.elapsed() >= tries_for {
            return Err(error);
        }
        if !is_quiet {
            say(&format!("note: {error}; sending it again"));
        }
        std::thread::sleep(backoff.pause());
    }
}

/// What came of sending a batch.
enum Came {
    Answer(Value),
    /// It may be sent again; and whether anybody was there.
    Again(CliError, bool),
}

fn send_once(server: &Server, dataflow: &str, files: &[File], wait: &str, key: &str, is_quiet: bool) -> Result<Came, CliError> {
    let boundary = format!("retally-{key}");
    let (reader, writer) = io::pipe().map_err(|error| CliError::failed(format!("could not make a pipe: {error}")))?;
    let bar = bar(files.iter().map(|file| file.bytes).sum(), is_quiet);
    let (sent, boundary_written, shown) = (files.to_vec(), boundary.clone(), bar.clone());
    let writing = std::thread::spawn(move || write(writer, &sent, &boundary_written, &shown));
    let mut request = server
        .agent
        .post(server.url(&format!("/v1/{dataflow}/batches")))
        .query("wait", wait)
        .header("content-type", format!("multipart/form-data; boundary={boundary}"))
        .header("idempotency-key", key)
        // What is refused at once is not sent.
        .header("expect", "100-continue");
    if let Some(authorization) = server.authorization() {
        request = request.header("authorization", authorization);
    }
    let response = request.send(SendBody::from_owned_reader(reader));
    bar.finish_and_clear();
    // Whether all was written shows in the answer; why a file could not be read does not.
    if let Ok(Err((file, error))) = writing.join()
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(CliError::failed(format!("could not read {:?}: {}", shown::location(&file), why(&error)))
            .hint("nothing was sent; look at the file"));
    }
    let response = match response {
        Ok(response) => response,
        Err(error) if is_lasting(&error) => return Err(server.unreachable(&error)),
        Err(error) => {
            let is_there = !matches!(&error, ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionRefused)
                && !matches!(error, ureq::Error::HostNotFound);
            return Ok(Came::Again(server.unreachable(&error), is_there));
        }
    };
    let status = response.status().as_u16();
    if status != 200 {
        let failed = failed(status, response.into_body());
        return if matches!(failed.status, 409 | 502 | 503 | 504) { Ok(Came::Again(failed.error, true)) } else { Err(failed.error) };
    }
    let mut text = String::new();
    match response.into_body().into_reader().read_to_string(&mut text) {
        Ok(_) => Ok(Came::Answer(serde_json::from_str(&text).unwrap_or_default())),
        Err(error) => Ok(Came::Again(CliError::failed(format!("the answer was cut off: {error}")), true)),
    }
}

/// Writes all parts. Where a file can't be read, what was written has no end, and is refused.
fn write(mut to: PipeWriter, files: &[File], boundary: &str, bar: &ProgressBar) -> Result<(), (String, io::Error)> {
    for file in files {
        let failed = |error| (file.path.clone(), error);
        // Names are shown: quotes and line ends would end the header.
        let name: String =
            file.name.chars().map(|character| if matches!(character, '"' | '\r' | '\n' | '\\') { '_' } else { character }).collect();
        let disposition = format!("Content-Disposition: form-data; name=\"{}\"; filename=\"{name}\"", file.part);
        let Sent { content_type, encoding, packed } = file.sent;
        write!(to, "--{boundary}\r\n{disposition}\r\nContent-Type: {content_type}\r\nContent-Encoding: {encoding}\r\n\r\n")
            .map_err(failed)?;
        let from = bar.wrap_read(file.open().map_err(failed)?);
        match packed {
            None => copy(from, &mut to),
            Some((packing, has_quotes)) => Packer::new(&mut to, has_quotes).and_then(|mut packer| {
                copy(unpacked(from, packing)?, &mut packer)?;
                packer.finish()
            }),
        }
        .map_err(failed)?;
        to.write_all(b"\r\n").map_err(failed)?;
    }
    write!(to, "--{boundary}--\r\n").map_err(|error| (String::new(), error))
}

fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let length = from.read(&mut block)?;
        let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        to.write_all(bytes)?;
    }
}

fn bar(bytes: u64, is_quiet: bool) -> ProgressBar {
    let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("sending {wide_bar} {bytes}/{total_bytes}, {eta} left");
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What came of a batch, in words.
pub fn shown_answer(answer: &Value) -> String {
    let number = |name: &str| indicatif::HumanCount(answer.get(name).and_then(Value::as_u64).unwrap_or(0));
    let epoch = number("epoch");
    if answer.get("durable").is_some() {
        return format!("batch {epoch}: the disk has it\n");
    }
    let duplicate = if answer.get("duplicate").and_then(Value::as_bool) == Some(true) { ", sent before" } else { "" };
    let ms = answer.get("ms").and_then(Value::as_f64).unwrap_or(0.0);
    let mut text = format!(
        "batch {epoch}: {}, {} late, {} rejected, in {ms:.1} ms{duplicate}\n",
        counted(answer.get("accepted").and_then(Value::as_u64).unwrap_or(0), "record"),
        number("late"),
        number("rejected")
    );
    let changed = answer.get("changed").and_then(Value::as_object);
    for (table, rows) in changed.into_iter().flatten() {
        let rows = rows.as_u64().unwrap_or(0);
        text += &format!("  {table}: {} row{} changed\n", indicatif::HumanCount(rows), if rows == 1 { "" } else { "s" });
    }
    text
}

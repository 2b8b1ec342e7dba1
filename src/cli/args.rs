//! The definition of the command line: the one list that parser, help, completions and man page come from.
//!
//! What a dataflow takes, and what its help says of inputs, fields, tables and columns, comes from its definition.

use super::error::CliError;
use super::{files, values};
use crate::engine::job::NOW;
use crate::registry;
use crate::shown;
use crate::sinks::Format;
use crate::state::home::Home;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use retally_core::calendar::Calendar;
use retally_core::contract::{AsOf, Dataflow, Definition, InputKind, Setting, Settings};
use retally_core::ids::Ids;
use retally_core::points::Measurement;
use retally_core::time::{self, Moment, Written};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// The whole command line.
pub fn command() -> Command {
    Command::new("retally")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Event metrics that stay right when events arrive late, twice, or wrong")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
        .subcommand(
            Command::new("run")
                .about("One batch in (and any number after it), tables out, exit")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand_value_name("DATAFLOW")
                .subcommand_help_heading("Dataflows")
                .subcommands(registry::dataflows().iter().map(|dataflow| run(*dataflow))),
        )
        .subcommand(
            Command::new("check")
                .about("What is understood of some files, and what would be refused, without building anything")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand_value_name("DATAFLOW")
                .subcommand_help_heading("Dataflows")
                .subcommands(registry::dataflows().iter().map(|dataflow| check(&dataflow.definition()))),
        )
        .subcommand(
            Command::new("demo")
                .about("Generate input, run it, feed a late batch, and show what changed")
                .arg(dataflow().default_value("online"))
                .arg(out_dir("Where input, tables and charts go [default: a new folder below the system's temporary one]").required(false))
                .arg(replace_files()),
        )
        .subcommand(
            Command::new("generate")
                .about("Realistic messy input of any size, the same for the same options")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand_value_name("DATAFLOW")
                .subcommand_help_heading("Dataflows")
                .subcommands(registry::dataflows().iter().map(|dataflow| generate(&dataflow.definition()))),
        )
        .subcommand(serve())
        .subcommand(launch())
        .subcommand(feed())
        .subcommand(query())
        .subcommand(follow())
        .subcommand(why())
        .subcommand(rejected())
        .subcommand(forget())
        .subcommand(verify())
        .subcommand(
            Command::new("compact")
                .about("Fold the batches of a state into what they come to, and remove what was taken back")
                .arg(own_state())
                .arg(scratch()),
        )
        .subcommand(
            Command::new("status")
                .about("How a service is, or what is in a state: its batches, and what came of them")
                .arg(state())
                .args(server()),
        )
        .subcommand(
            Command::new("completions")
                .about("Completions for a shell, to be sourced or installed")
                .arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell)).help("Which shell")),
        )
        .subcommand(Command::new("man").about("The man page, in roff"))
}

/// A flag with a value.
fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// Which dataflow.
fn dataflow() -> Arg {
    Arg::new("dataflow").value_name("DATAFLOW").value_parser(PossibleValuesParser::new(names())).help("Which dataflow")
}

/// The workers of a process.
fn workers() -> Arg {
    flag("workers", "N", "Workers of this process [default: the cores of the machine]").short('w').value_parser(clap::value_parser!(u64))
}

/// The certificate of a process.
fn certificate() -> [Arg; 2] {
    [
        flag("tls-cert", "FILE", "The certificates of this process, in PEM: a service answers by HTTPS").requires("tls-key"),
        flag("tls-key", "FILE", "And their key").requires("tls-cert"),
    ]
}

/// The workers of a process, and the processes.
fn cluster() -> [Arg; 8] {
    let number = || ValueParser::from(clap::value_parser!(u64));
    [
        workers(),
        flag("processes", "N", "Processes that run together").short('n').value_parser(number()).default_value("1"),
        flag("process", "I", "The number of this process, from 0").short('p').value_parser(number()).default_value("0"),
        flag("hosts", "FILE", "The address of each process, a HOST:PORT a line [default: localhost, from port 2101]"),
        flag("secret-file", "FILE", "What proves that a process is one of them, at least 16 bytes; or RETALLY_CLUSTER_SECRET. Needed on any address that others can reach"),
        flag("join-timeout", "DURATION", "How long processes wait for one another [default: 1m]").value_parser(values::join_timeout),
        flag("heartbeat", "DURATION", "A process that gives no sign of life for three times as long is lost, and ends all others [default: 1s]")
            .value_parser(values::heartbeat),
        flag("tls-ca", "FILE", "Connections between processes are mutual TLS 1.3: the authorities that certificates must be of, in PEM; --tls-cert is that of this host")
            .requires("tls-cert"),
    ]
    .map(|arg| arg.help_heading("Workers"))
}

/// The state that is opened.
fn own_state() -> Arg {
    flag("state", "DIR", "The folder of the state, which nobody has open; or s3://BUCKET/PREFIX").required(true)
}

/// What a state in a bucket needs on this machine.
fn scratch() -> Arg {
    flag("scratch", "DIR", "With a state in a bucket: the folder of this machine for its tables and points; what is lost of it is rebuilt")
}

/// The folder of a state that is read.
fn state() -> Arg {
    flag("state", "DIR", "The folder of a state, instead of a service; one may have it open").conflicts_with("server")
}

/// Which service, and who asks.
fn server() -> [Arg; 2] {
    [
        flag("server", "URL", "Where the service is [default: http://127.0.0.1:7878]"),
        flag("token-file", "FILE", "A file with the secret of a token"),
    ]
}

fn serve() -> Command {
    Command::new("serve")
        .about("Keep dataflows right for as long as it is left alone: batches in by HTTP, tables and changes out")
        .arg(
            Arg::new("dataflows")
                .value_name("DATAFLOW")
                .num_args(1..)
                .required_unless_present("demo")
                .value_parser(PossibleValuesParser::new(names()))
                .help("Which dataflows; with --demo, online, usage, active and sensors unless some are named"),
        )
        .arg(
            flag("demo", "SEED", "Show what it does: generated data keeps arriving, in a state that is gone in the end unless --state names one")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("1")
                .value_parser(clap::value_parser!(u64)),
        )
        .arg(flag("state", "DIR", "The folder of what it is given and what follows from it, or s3://BUCKET/PREFIX; `retally run --state` takes it too"))
        .arg(scratch())
        .arg(flag("listen", "HOST:PORT", "Where it listens; port 0 finds a free one [default: 127.0.0.1:7878]"))
        .arg(flag("config", "FILE", "listen, state, scratch, and settings and mappings of dataflows, from a file such as retally.toml"))
        .arg(
            flag("watch", "DATAFLOW.INPUT=DIR", "This folder is the table of the input: what appears in it is delivered, what is gone or changed is taken back")
                .action(ArgAction::Append),
        )
        .arg(flag("settle", "DURATION", "Take a file of a watched folder when it has stayed the same for so long [default: 2s]").value_parser(values::every))
        .arg(
            flag("source", "DATAFLOW.INPUT=URL", "Read messages of a broker: mqtt://USER@HOST:PORT/TOPIC-FILTER, mqtts://, nats://HOST:PORT/STREAM?subject=SUBJECTS, or tls:// of NATS, kafka://HOST:PORT,HOST:PORT/TOPIC?start=earliest|latest|TIME&key=FIELD, or kafkas://; ?format=jsonl|json|csv, ?columns=a,b, ?topic=devices/{device_id}/status, ?password-file=FILE, ?ca=FILE; @time, @key and @topic are columns that --map may name")
                .action(ArgAction::Append),
        )
        .arg(flag("batch-events", "N", "A batch of a source has so many messages at most [default: 10000]").value_parser(clap::value_parser!(u64).range(1..=1_000_000)))
        .arg(flag("batch-time", "DURATION", "Or what has come within so long: 0 takes what is there [default: 50ms]").value_parser(values::batch_time))
        .arg(
            flag("out", "DEST", "Where tables go besides: postgres://USER@HOST/DATABASE, sqlite:PATH, or a folder of files: csv:DIR, json:DIR, parquet:DIR; changes:FILE gets each change of them, and a server those of a table: webhook:URL#DATAFLOW.TABLE?COLUMN=VALUE")
                .action(ArgAction::Append),
        )
        .arg(flag("points", "DEST", "Where points go: store:DIR, read by `retally query` and by HTTP; http://HOST:PORT/..., a server that takes line protocol; file:PATH, which is written when the service ends [default: the store in the folder of the state]"))
        .arg(flag("export-every", "DURATION", "How often the files of a folder are written; at the end they are too [default: 1h]").value_parser(values::every))
        .arg(
            Arg::new("replace")
                .long("replace")
                .action(ArgAction::SetTrue)
                .help("Delete at first whatever a database of --out has that does not follow from the state"),
        )
        .arg(
            flag("network-timeout", "DURATION", "Take a server for gone that gives no sign of life for so long [default: 1m for databases and points, 30s for buckets and the web, tried again]")
                .value_parser(values::network_timeout),
        )
        .arg(flag("webhook-secret-file", "FILE", "Sign what webhooks are sent with the secret in this file"))
        .arg(flag("webhook-retry", "DURATION", "How long a webhook is tried again before it is given up [default: 1d]").value_parser(values::every))
        .arg(
            flag("tables", "DATAFLOW.TABLE", "Build only these of a dataflow, separated by commas [default: all]")
                .value_delimiter(',')
                .action(ArgAction::Append),
        )
        .arg(
            flag("set", "DATAFLOW.SETTING=VALUE", "A setting of a dataflow, or how its files are read: encoding, skip-rows")
                .action(ArgAction::Append),
        )
        .arg(flag(
            "as-of",
            "TIME",
            "Count open facts up to this time, and leave out later events: a time; `now` goes on with the clock, each minute [default: the latest event]",
        ))
        .arg(flag("map", "DATAFLOW.INPUT.FIELD=COLUMN", "Where a field of an input is, as in `retally run`").action(ArgAction::Append))
        .arg(flag("not-before", "TIME", "Refuse events before this time: a clock that was never set").default_value("2000-01-01"))
        .arg(flag("tokens", "FILE", "Who may ask, a line each: NAME read|write SECRET; needed on any address that others can reach"))
        .args(certificate())
        .arg(flag("log-format", "FORMAT", "How it says on stderr what happens").value_parser(["text", "json"]).default_value("text"))
        .arg(flag("max-body", "BYTES", "The largest body, as it comes [default: 256MiB]").value_parser(values::bytes))
        .arg(flag("max-unpacked", "BYTES", "The largest body when it is unpacked [default: 4GiB]").value_parser(values::bytes))
        .arg(flag("max-streams", "N", "So many streams of changes may be open [default: 10000]").value_parser(clap::value_parser!(u64)))
        .arg(
            flag("compact-after", "BYTES", "Fold the journal after so much was delivered, and half of what there was [default: 64MiB]")
                .value_parser(values::bytes),
        )
        .arg(flag("keep-changes", "DURATION", "How long changes can be followed from [default: 30d]").value_parser(values::time_kept))
        .args(cluster())
        .after_help(
            "Examples:\n  retally serve online --state state\n  curl -H 'content-type: text/csv' --data-binary @events.csv http://127.0.0.1:7878/v1/online/events\n  \
             curl -N 'http://127.0.0.1:7878/v1/changes?tables=online.online_daily'",
        )
}

fn launch() -> Command {
    let number = || ValueParser::from(clap::value_parser!(u64));
    Command::new("launch")
        .about("Start a run or a service as several processes, here or by ssh on other hosts, and start a service again when one is lost")
        .arg(
            flag("processes", "N", "How many [default: one for each line of --hosts]")
                .short('n')
                .value_parser(clap::value_parser!(u64).range(1..=1024))
                .required_unless_present("hosts"),
        )
        .arg(flag("workers", "N", "Workers of each process [default: the cores of its machine]").short('w').value_parser(number()))
        .arg(flag("hosts", "FILE", "The address of each process, a HOST:PORT a line; with --ssh also USER@HOST:PORT [default: free ports of this host]"))
        .arg(
            flag("ssh", "COMMAND", "Start process I on the host of line I, by ssh or by this command, such as 'ssh -i KEY': the same program in a folder of the same name")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("ssh")
                .requires("hosts"),
        )
        .arg(flag("program", "PATH", "Where the program is on the hosts [default: where it is here]"))
        .arg(
            flag("max-restarts", "N", "Give up when a service has been started again so often within the window [default: 10]")
                .value_parser(number()),
        )
        .arg(flag("restart-window", "DURATION", "The window [default: 10m]").value_parser(values::every))
        .arg(flag("stop-timeout", "DURATION", "Kill processes that take longer to end when they are asked to [default: 30s]").value_parser(values::every))
        .arg(flag("log-format", "FORMAT", "How the processes' lines on stderr are printed: as they are, or as JSON").value_parser(["text", "json"]).default_value("text"))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .num_args(1..)
                .last(true)
                .required(true)
                .help("run DATAFLOW ... or serve DATAFLOW ..., as they are without launch"),
        )
        .after_help(
            "Examples:\n  retally launch -n 2 -w 2 -- serve online --state state\n  \
             retally launch --hosts hosts.txt --ssh -- serve online --state /mnt/shared/state",
        )
}

fn feed() -> Command {
    Command::new("feed")
        .about("Send a batch to a service, and show what it changed")
        .arg(dataflow().required(true))
        .arg(inputs("Records: a file, a folder, a glob or s3://BUCKET/PREFIX; INPUT-=PATH retracts them"))
        .args(server())
        .arg(wait())
        .arg(Arg::new("quiet").short('q').long("quiet").action(ArgAction::SetTrue).help("No progress, no summary"))
}

fn follow() -> Command {
    Command::new("follow")
        .about("Changes of a service's tables as they come, a JSON object a line")
        .arg(Arg::new("tables").value_name("DATAFLOW.TABLE").num_args(1..).required(true).help("Which tables"))
        .args(server())
        .arg(flag("since", "EPOCH", "Changes behind this epoch; of several dataflows DATAFLOW:EPOCH,... [default: from now on]"))
        .arg(
            flag("epochs", "N", "End after so many epochs with changes [default: never]").value_parser(clap::value_parser!(u64).range(1..)),
        )
}

fn why() -> Command {
    Command::new("why")
        .about("How a row of a table became what it is: its changes, each with its batch, the last first")
        .arg(Arg::new("measurement").value_name("DATAFLOW.TABLE").required(true).help("Which table"))
        .arg(conditions("Which row: a value for each column of the table's key").num_args(1..).required(true))
        .args(server())
        .arg(state())
}

fn verify() -> Command {
    Command::new("verify")
        .about("Compute everything that a state holds anew from its journal, and compare: exit code 1 where anything differs")
        .arg(own_state())
        .arg(scratch())
        .arg(
            flag("out", "DEST", "Compare what is there, too (repeatable): a folder, sqlite:PATH, or postgres://USER@HOST/DATABASE")
                .action(ArgAction::Append),
        )
        .arg(workers())
}

fn rejected() -> Command {
    let list = Command::new("list")
        .about("Records that were refused, with their place and the reason")
        .arg(dataflow().required(true))
        .arg(conditions("Only records with this value: input, source, line, reason, raw, batch or id"))
        .args(server())
        .arg(state())
        .args(shown());
    let replay = Command::new("replay")
        .about("Deliver refused records once more, as a batch, under the settings of now: those that are good leave `rejected`")
        .arg(dataflow().required(true))
        .arg(
            Arg::new("ids")
                .value_name("ID")
                .num_args(1..)
                .conflicts_with("reason")
                .help("Which records: BATCH.PART.LINE, as the list has them"),
        )
        .arg(
            flag("reason", "TEXT", "All with this reason; … in it stands for any value, as summaries have it")
                .required_unless_present("ids"),
        )
        .arg(wait())
        .args(server());
    Command::new("rejected")
        .about("Records that a service refused")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(list)
        .subcommand(replay)
}

/// How long a batch is waited for.
fn wait() -> Arg {
    Arg::new("wait")
        .long("wait")
        .value_name("UNTIL")
        .value_parser(["durable", "visible", "sinks"])
        .default_value("visible")
        .help("How far the batch must be: the disk has it, its changes can be read, or every sink has them")
}

fn forget() -> Command {
    Command::new("forget")
        .about("Take back all records of a device, a user or a sensor, and erase them when the state is next compacted")
        .arg(dataflow().required(true))
        .arg(Arg::new("input").value_name("INPUT").required(true).help("Of which input, such as events"))
        .arg(Arg::new("which").value_name("FIELD=VALUE").required(true).help("Which records: those of which this field holds this value"))
        .arg(
            Arg::new("exact")
                .long("exact")
                .action(ArgAction::SetTrue)
                .help("The value is the text itself, and not also the same number or UUID written otherwise (as it is with ids=text)"),
        )
        .args(server())
        .arg(
            flag("state", "DIR", "The folder of a state that nobody has open, or s3://BUCKET/PREFIX, instead of a service")
                .conflicts_with("server"),
        )
        .arg(scratch())
        .arg(wait())
        .after_help("Example:\n  retally forget online events device_id=17 --state state\n  retally compact --state state")
}

/// `COLUMN=VALUE`, any number of them.
fn conditions(help: &'static str) -> Arg {
    Arg::new("tags").value_name("COLUMN=VALUE").num_args(0..).help(help)
}

/// Which rows are shown, and how.
fn shown() -> [Arg; 3] {
    [
        flag("limit", "N", "So many at most, the first ones [default: 12 for a table, else all]").value_parser(clap::value_parser!(u64)),
        flag("order", "COLUMN", "By this column first; -COLUMN: its greatest first").allow_hyphen_values(true),
        flag("format", "FORMAT", "How they are printed").value_parser(["table", "csv", "json"]).default_value("table"),
    ]
}

fn query() -> Command {
    Command::new("query")
        .about("Rows of a table, or points, of a service, a state or a store, within a range of time")
        .arg(Arg::new("measurement").value_name("DATAFLOW.TABLE").required(true).help("Which table, or which measurement: points"))
        .arg(conditions("Only rows with this value; a column that is given more than once has any of them. Of points: a tag, and they have all"))
        .args(server())
        .arg(state())
        .arg(flag("points", "DEST", "The store that a run wrote: store:DIR").conflicts_with_all(["server", "state"]))
        .arg(flag("from", "TIME", "From this time on, or from the beginning of this day"))
        .arg(flag("to", "TIME", "Up to this time, or to the beginning of this day, without it"))
        .args(shown())
        .arg(flag("timezone", "IANA", "With --points: the zone of times without an offset, and of days").default_value("UTC").requires("points"))
        .after_help(
            "Examples:\n  retally query online.online_daily fleet_size=1-2 --from 2026-03-01\n  retally query brushing.settings toothbrush_id=t1 --points store:points\n  \
             retally query brushing.brushing dataset_id=d1 --from 2026-03-01 --to 2026-03-02 --format csv --points store:points",
        )
}

fn names() -> Vec<&'static str> {
    registry::dataflows().iter().map(|dataflow| dataflow.definition().name).collect()
}

/// The path of a file or folder that is written. The URL of a database or a server would become names of folders, with all that is in it.
pub fn written(flag: &str, text: &str) -> Result<PathBuf, CliError> {
    if text.is_empty() {
        return Err(CliError::usage(format!("--{flag} \"\": the path is missing")).hint("give the name of a file or folder"));
    }
    if !text.contains("://") && !shown::has_secret(text) {
        return Ok(text.into());
    }
    let error = CliError::usage(format!("--{flag} {:?} is no path of this machine", shown::location(text)));
    Err(error.hint("give the name of a file or folder, without a user, a password or a server"))
}

/// Where the state of a run is, if a command line names it.
pub fn home_of(matches: &ArgMatches) -> Result<Option<Home>, CliError> {
    // Not every command has the flags.
    let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten();
    text("state").map(|state| home(state, text("scratch"))).transpose()
}

/// Where a state is, by its folder or URL, and by its scratch folder.
pub fn home(state: &str, scratch: Option<&String>) -> Result<Home, CliError> {
    match scratch {
        None if Home::is_bucket(state) => {
            let error = CliError::usage("a state in a bucket needs a folder of this machine for its tables");
            Err(error.hint("say which: --scratch DIR; what is lost of it is rebuilt"))
        }
        Some(scratch) if Home::is_bucket(state) && !state.contains(['@', '?', '#']) => {
            Ok(Home::Bucket { url: state.trim_end_matches('/').into(), scratch: written("scratch", scratch)? })
        }
        Some(_) if !state.contains("://") => {
            Err(CliError::usage("--scratch is of a state in a bucket").hint("leave it out: a folder has all that it needs"))
        }
        _ => Ok(Home::Folder(written("state", state)?)),
    }
}

/// Whether files of others may go.
fn replace_files() -> Arg {
    Arg::new("replace").long("replace").action(ArgAction::SetTrue).help("Replace files there that are not what these options generate")
}

fn out_dir(help: &'static str) -> Arg {
    Arg::new("out").long("out").value_name("DIR").required(true).help(help)
}

fn generate(definition: &Definition) -> Command {
    Command::new(definition.name)
        .about(format!("Input for `{}`: {}", definition.name, definition.about))
        .arg(out_dir("The folder that files are written to"))
        .arg(replace_files())
        .args(definition.generator.iter().map(setting))
}

fn setting(setting: &Setting) -> Arg {
    let arg = Arg::new(setting.name).long(setting.name).value_name(setting.value).help(setting.about).help_heading("Settings");
    // An offset may be to the west: -05:00.
    let arg = arg.allow_hyphen_values(setting.name == "timezone");
    match setting.default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

fn run(dataflow: &dyn Dataflow) -> Command {
    let definition = dataflow.definition();
    let number = || ValueParser::from(clap::value_parser!(u64));
    Command::new(definition.name)
        .about(definition.about)
        .after_long_help(describe(dataflow))
        .arg(
            inputs("Records: a file, a folder, a glob, s3://BUCKET/PREFIX, or - for standard input; INPUT-=PATH retracts them")
                .required(false)
                .required_unless_present("state"),
        )
        .arg(
            flag(
                "then",
                "INPUTS",
                "A further batch, applied after the ones before it: \"INPUT=PATH INPUT-=PATH ...\", quoted as in a shell",
            )
            .action(ArgAction::Append),
        )
        .arg(flag("state", "DIR", "Go on where the last run with this folder ended: what it was given is there, and this input is added to it. Tables are in DIR/tables.sqlite too. Or s3://BUCKET/PREFIX"))
        .arg(scratch().requires("state"))
        .arg(
            flag("sync", "INPUT=DIR", "With --state: this folder is the table of the input. What is new in it is delivered, what is gone or changed is retracted")
                .action(ArgAction::Append)
                .requires("state"),
        )
        .arg(flag("out", "DEST", "Write the tables into this folder, or bring a database to them: sqlite:PATH or postgres://USER@HOST/DATABASE; without it they are printed"))
        .arg(
            flag("format", "FORMAT", "The format of table files")
                .value_parser(Format::ALL.map(Format::extension))
                .default_value("csv"),
        )
        .arg(
            Arg::new("csv-safe")
                .long("csv-safe")
                .action(ArgAction::SetTrue)
                .help("In CSV files, put a quote (') before texts that a spreadsheet would run: those that begin with = + - @, a tab or a return"),
        )
        .arg(flag("tables", "TABLES", "Build only these, separated by commas [default: all]").value_delimiter(','))
        .arg(flag("changes", "FILE", "Write every change of a row, as a JSON object a line"))
        .arg(flag("charts", "DIR", "Draw the dataflow's charts, as SVG and PNG"))
        .args((!measurements(dataflow).is_empty()).then(|| {
            flag("points", "DEST", "Where points go: file:PATH, line protocol; store:DIR, read by `retally query`; http://HOST:PORT/..., a server that takes line protocol [default: points.lp in the folder of --out]")
        }))
        .arg(flag(
            "as-of",
            "TIME",
            "Count open facts up to this time, and leave out later events: a time, or `now` [default: the latest event]",
        ))
        .arg(
            flag("max-rejected", "N", "Fail, and write nothing, when more records are refused [default: any number, but not all of a file]")
                .value_parser(number()),
        )
        .arg(
            flag("keep-rejected", "N", "Keep so many refused records of a batch as rows; all are counted [default: 1,000,000]")
                .value_parser(clap::value_parser!(u64).range(1..)),
        )
        .arg(
            Arg::new("replace")
                .long("replace")
                .action(ArgAction::SetTrue)
                .help("Delete from a database whatever is not in this input, however much that is"),
        )
        .arg(
            flag("network-timeout", "DURATION", "Give up a server that gives no sign of life for so long; a database that works may go on [default: 1m for databases and points, 30s for buckets and the web, tried again]")
                .value_parser(values::network_timeout),
        )
        .args(input_args())
        .arg(Arg::new("quiet").short('q').long("quiet").action(ArgAction::SetTrue).help("No progress, no summaries"))
        .args(cluster())
        .args(certificate().map(|arg| arg.help_heading("Workers")))
        .args(definition.settings.iter().map(setting))
}

fn inputs(help: &'static str) -> Arg {
    Arg::new("inputs").value_name("INPUT=PATH").required(true).num_args(1..).help(help)
}

/// Settings that decide how records are read.
const OF_READING: [&str; 4] = ["timezone", Ids::SETTING, "layout", "user-field"];

fn check(definition: &Definition) -> Command {
    Command::new(definition.name)
        .about(definition.about)
        .arg(inputs("Files to look at: the first 1,000 records of each are read"))
        .args(input_args())
        .args(definition.settings.iter().filter(|setting| OF_READING.contains(&setting.name)).map(setting))
}

/// How input is read that is not as the dataflow expects it.
fn input_args() -> [Arg; 7] {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading("Your own data")
    };
    [
        flag(
            "map",
            "INPUT.FIELD=COLUMN",
            "Where a field is: a column, a JSON key, a.path.of.keys; ==VALUE: all have this value; = alone: there is none",
        )
        .action(ArgAction::Append),
        flag("config", "FILE", "Mappings and settings from a file such as retally.toml"),
        flag("input-format", "FORMAT", "What standard input holds, or files whose names don't say it").value_parser(files::FORMATS),
        flag("encoding", "NAME", "The encoding of text, such as windows-1252 [default: UTF-8, or UTF-16 with its mark]"),
        flag("header", "WHICH", "first: the header of the first CSV file counts for those without one").value_parser(files::HEADERS),
        flag("skip-rows", "N", "Pass over so many lines at the beginning of each CSV file").value_parser(clap::value_parser!(u64)),
        flag("not-before", "TIME", "Refuse events before this time: a clock that was never set").default_value("2000-01-01"),
    ]
}

/// The kinds of points that a dataflow has, by default.
pub fn measurements(dataflow: &dyn Dataflow) -> Vec<Measurement> {
    dataflow.graph(&Settings::defaults(&dataflow.definition().settings)).map_or(Vec::new(), |graph| graph.measurements())
}

/// What long help says of inputs and tables.
fn describe(dataflow: &dyn Dataflow) -> String {
    let definition = dataflow.definition();
    let mut text = String::new();
    let mut inputs = || -> std::fmt::Result {
        writeln!(text, "Inputs:")?;
        for input in &definition.inputs {
            let formats = match input.kind {
                InputKind::Records => "CSV, JSON or Parquet",
                InputKind::Datasets(_) => "jobs: a JSON object a line",
            };
            writeln!(text, "  {}: {} ({formats})", input.name, input.about)?;
            for field in input.fields {
                writeln!(text, "      {:<26} {}", field.name, field.about)?;
            }
        }
        writeln!(
            text,
            "  In buckets (s3://BUCKET/PREFIX) as in folders: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY say where and who"
        )?;
        if let Ok(graph) = dataflow.graph(&Settings::defaults(&definition.settings)) {
            writeln!(text, "\nTables:")?;
            for table in graph.tables() {
                writeln!(text, "  {}: {}", table.name, table.about)?;
                for column in table.columns {
                    writeln!(text, "      {:<26} {}", column.name, column.about)?;
                }
            }
        }
        writeln!(text, "  rejected: records that could not be read (input, source, line, reason, raw)")?;
        let measurements = measurements(dataflow);
        if !measurements.is_empty() {
            writeln!(text, "\nPoints:")?;
        }
        for measurement in measurements {
            writeln!(text, "  {}: {}", measurement.name, measurement.about)?;
            let tags = measurement.tags.iter().map(|tag| (tag.name, format!("{} (tag)", tag.about)));
            for (name, about) in tags.chain(measurement.fields.iter().map(|field| (field.name, field.about.to_string()))) {
                writeln!(text, "      {name:<26} {about}")?;
            }
        }
        Ok(())
    };
    // Writing to a string can't fail.
    inputs().ok();
    text
}

/// The values of `declared` settings that are known by name; of others the defaults.
pub fn known_settings(declared: &[Setting], known: BTreeMap<String, String>) -> Settings {
    let given = declared.iter().filter_map(|setting| Some((setting.name, known.get(setting.name)?)));
    given.fold(Settings::defaults(declared), |settings, (name, value)| settings.with(name, value))
}

/// The values of `declared` settings: as given on the command line, or in a file, or by default.
pub fn settings<'f>(declared: &[Setting], file: impl Iterator<Item = (&'f str, String)>, matches: &ArgMatches) -> Settings {
    let by_file = file.fold(Settings::defaults(declared), |settings, (name, value)| settings.with(name, &value));
    // Not every command takes all of them.
    let taken = |setting: &Setting| Some((setting.name, matches.try_get_one::<String>(setting.name).ok()??));
    let given = |(name, _): &(&str, &String)| matches.value_source(name) == Some(ValueSource::CommandLine);
    declared.iter().filter_map(taken).filter(given).fold(by_file, |settings, (name, value)| settings.with(name, value))
}

/// A time on the command line; without an offset it is of the dataflow's zone.
pub fn time(name: &str, text: &str, settings: &Settings) -> Result<Moment, String> {
    let calendar = settings.calendar().unwrap_or_else(|_| Calendar::utc());
    calendar.parse(text.as_bytes()).map_err(|error| format!("--{name} {text:?} {error}"))
}

/// From when on events are accepted, as given. A time before all that are read, such as a local midnight of 1970-01-01 east of UTC, refuses
/// nothing, and is the first of them.
pub fn not_before(text: &str, settings: &Settings) -> Result<Moment, String> {
    let is_early = || time::parse(text.as_bytes()).is_ok_and(Written::is_early);
    match time("not-before", text, settings) {
        Err(_) if is_early() => Ok(Moment::FIRST),
        read => read,
    }
}

/// As-of, as given: of a run, whose `now` is when it begins.
pub fn as_of(text: Option<&String>, settings: &Settings) -> Result<AsOf, String> {
    as_of_service(text, settings).map(|as_of| if as_of == AsOf::Now { AsOf::At(crate::engine::now()) } else { as_of })
}

/// As-of, as given: of a service, whose `now` goes on.
pub fn as_of_service(text: Option<&String>, settings: &Settings) -> Result<AsOf, String> {
    match text {
        None => Ok(AsOf::Latest),
        Some(text) if text == NOW => Ok(AsOf::Now),
        Some(text) => time("as-of", text, settings).map(AsOf::At),
    }
}

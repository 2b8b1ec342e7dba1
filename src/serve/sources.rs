//! Live sources of a service: their messages go the way of all batches, and how far they have been read stands in the frame of the batch.
//!
//! Each source gathers on a thread of its own; one thread speaks to all brokers. A source has one batch on its way into the journal at a
//! time, so what is in it is everything up to its positions; and no more than [`BEHIND_MAX`] of its batches are in the journal and not in
//! the tables, so a source that is faster than the tables is slowed.

use super::served::Served;
use super::service::{Incoming, Phase, Refused, Reply, Service, Wait};
use crate::backoff::Backoff;
use crate::engine;
use crate::ingest::plan::Plan;
use crate::sources::gather::{Acknowledge, Delivered, Limits, gather};
use crate::sources::inlet::{Inlet, inlet};
use crate::sources::kind::Kind;
use crate::sources::lost::{PAUSE, PAUSE_MAX};
use crate::sources::status::Status;
use crate::sources::text::{MessageFormat, Text};
use crate::sources::url::Url;
use crate::sources::{kafka, mqtt, nats};
use crate::state::frame::{Content, Frame, Inline, InlineFormat, Part, Position};
use crate::state::{State, StateError};
use retally_core::Epoch;
use retally_core::contract::Input;
use retally_core::definition::FileOptions;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Messages of up to so many bytes stand in the journal itself; more are a file: 2 MiB.
const INLINE_BYTES_MAX: usize = 2 << 20;
/// So many batches of a source may be in the journal and not in the tables.
const BEHIND_MAX: usize = 16;
/// How often is looked whether the tables have them.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A source that was asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The dataflow's place.
    pub dataflow: usize,
    /// The input's place.
    pub input: usize,
    /// Where messages come from.
    pub url: Url,
    /// When a batch of them is complete.
    pub limits: Limits,
}

/// A source, and what the journal knows of it.
pub struct Source {
    wanted: Wanted,
    /// Its place among those of the service.
    number: usize,
    client_id: String,
    /// The number of the last message in the journal, by what is counted and its partition.
    last: BTreeMap<(String, i32), u64>,
}

impl Wanted {
    /// How it is before it has begun.
    pub fn status(&self, dataflow: &str, input: &str) -> Status {
        Status::new(self.url.shown(), format!("{dataflow}.{input}"))
    }
}

/// The sources of a service, with what the journal knows of them.
pub fn known(service: &Service, state: &State, wanted: &[Wanted]) -> Result<Vec<Source>, StateError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let identity = state.identity()?;
    let source = |(number, wanted): (usize, &Wanted)| {
        let of = service.sources.get(number).map(|status| status.of.clone()).unwrap_or_default();
        let client_id = wanted.url.client.clone().unwrap_or_else(|| client_id(&identity, &of, &wanted.url));
        let name = |served: &Served| Some((served.name(), served.job.definition.inputs.get(wanted.input)?.name));
        let named = service.dataflows.get(wanted.dataflow).and_then(name);
        let last = named.map(|(dataflow, input)| last(state.frames(dataflow), input)).unwrap_or_default();
        Source { wanted: wanted.clone(), number, client_id, last }
    };
    Ok(wanted.iter().enumerate().map(source).collect())
}

/// The name of a session: the same for a state, an input and a filter, and 23 letters, as many as each broker takes.
fn client_id(identity: &str, of: &str, url: &Url) -> String {
    let mut hash = Sha256::new();
    // No part has a zero byte in it.
    [identity, of, &url.path].iter().for_each(|part| hash.update(format!("{part}\0")));
    format!("retally{}", crate::hex::hex(&hash.finalize()).get(..16).unwrap_or_default())
}

/// Starts the sources: until the service ends.
pub fn start(service: &Arc<Service>, sources: Vec<Source>) -> io::Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    let mut connectors: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for source in sources {
        let Some(status) = service.sources.get(source.number) else { continue };
        let status = Arc::clone(status);
        let Some(delivering) = Delivering::new(service, &source, &status) else { continue };
        let (url, limits, client_id) = (source.wanted.url, source.wanted.limits, source.client_id);
        let told = {
            let service = Arc::clone(service);
            move |what: &str| service.tell(what)
        };
        match url.kind {
            Kind::Mqtt => {
                let inlet = delivering.start(source.number, limits)?;
                connectors.push(Box::pin(async move { mqtt::run(&url, &client_id, &inlet, &status, told).await }));
            }
            Kind::Kafka => {
                let inlet = delivering.start(source.number, limits)?;
                let last = source.last;
                connectors.push(Box::pin(async move {
                    let reader = kafka::Reader { url: &url, last, inlet: &inlet, status: &status };
                    reader.run(told).await;
                }));
            }
            Kind::Nats => {
                let inlet = delivering.start(source.number, limits)?;
                let last = source.last.into_iter().map(|((of, _), last)| (of, last)).collect();
                connectors.push(Box::pin(async move {
                    let reader = nats::Reader { url: &url, last, inlet: &inlet, status: &status };
                    reader.run(told).await;
                }));
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let service = Arc::clone(service);
    std::thread::Builder::new().name("sources".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = service.ending() => {}
                _ = futures_util::future::join_all(connectors) => {}
            }
        });
    })?;
    Ok(())
}

/// Puts batches of a source into the journal.
struct Delivering {
    service: Arc<Service>,
    status: Arc<Status>,
    dataflow: usize,
    /// As messages are read: their text is UTF-8, and lines.
    input: Input,
    format: Arc<MessageFormat>,
    name: String,
    /// Batches that are in the journal, and maybe not in the tables.
    behind: VecDeque<Epoch>,
}

impl Delivering {
    fn new(service: &Arc<Service>, source: &Source, status: &Arc<Status>) -> Option<Delivering> {
        let Wanted { dataflow, input, url, .. } = &source.wanted;
        let mut input = service.dataflows.get(*dataflow)?.job.definition.inputs.get(*input)?.clone();
        input.files = FileOptions::default();
        let format = Arc::new(MessageFormat::new(url, &input));
        Some(Delivering {
            service: Arc::clone(service),
            status: Arc::clone(status),
            dataflow: *dataflow,
            input,
            format,
            name: url.shown(),
            behind: VecDeque::new(),
        })
    }

    /// Gathers what comes in by the inlet that is returned, on a thread of its own.
    fn start<A: Acknowledge + Send + 'static>(mut self, number: usize, limits: Limits) -> io::Result<Inlet<A>> {
        let (inlet, messages) = inlet(&self.status);
        let (format, status) = (Arc::clone(&self.format), Arc::clone(&self.status));
        let run = move || gather(&messages, &format, limits, &status, |text| self.deliver(text));
        std::thread::Builder::new().name(format!("source-{number}")).spawn(run)?;
        Ok(inlet)
    }

    /// Puts a batch into the journal, as soon as the service takes it.
    fn deliver(&mut self, text: &Text) -> Delivered {
        let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
        loop {
            if !self.is_ready() {
                return Delivered::Ending;
            }
            let why = match self.offer(text) {
                Ok(epoch) => {
                    self.behind.push_back(epoch);
                    return Delivered::Durable;
                }
                Err(Failed::Ending) => return Delivered::Ending,
                Err(Failed::Not(why)) => why,
            };
            self.status.held_up(&why);
            self.service.tell(&format!("{}: a batch is not taken: {why}; trying again", self.name));
            std::thread::sleep(backoff.pause());
        }
    }

    /// Waits until the service takes batches, and the tables are not too far behind. Not so, where it ends.
    fn is_ready(&mut self) -> bool {
        loop {
            let reached = self.service.readable().borrow().get(self.dataflow).copied().flatten().unwrap_or(0);
            while self.behind.front().is_some_and(|epoch| *epoch <= reached) {
                self.behind.pop_front();
            }
            match self.service.phase() {
                Phase::Ready if self.behind.len() < BEHIND_MAX => return true,
                Phase::Ending | Phase::Damaged(_) => return false,
                Phase::Ready | Phase::Recovering | Phase::Stuck(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn offer(&self, text: &Text) -> Result<Epoch, Failed> {
        let (parts, plan) = self.parts(text).map_err(|error| Failed::Not(error.to_string()))?;
        let position = |((of, partition), last): (&(Arc<str>, i32), &u64)| Position {
            input: self.input.name.into(),
            source: of.to_string(),
            partition: *partition,
            last: *last,
        };
        let positions = text.positions.iter().map(position).collect();
        let (reply, answer) = oneshot::channel();
        let (dataflow, arrived, began) = (self.dataflow, engine::now(), Instant::now());
        let batch = Incoming { dataflow, parts, plan, positions, key: None, arrived, began, wait: Wait::Durable, reply };
        self.service.take_in_turn(batch).map_err(Failed::from)?;
        match answer.blocking_recv() {
            Ok(Ok(Reply { epoch, .. })) => Ok(epoch),
            Ok(Err(refused)) => Err(refused.into()),
            Err(_) => Err(Failed::Ending),
        }
    }

    fn parts(&self, text: &Text) -> Result<(Vec<Part>, Plan), StateError> {
        let Some(served) = self.service.dataflows.get(self.dataflow) else { return Ok((Vec::new(), Plan::default())) };
        let arrival = engine::arrival(served.job.accept_from);
        let part = |name: &str, content| self.service.files.part(served.of(), &self.input, 1, name, content, arrival);
        let mut parts = Vec::new();
        if !text.messages.is_empty() {
            let format = if self.format.is_csv() { InlineFormat::Csv } else { InlineFormat::Json };
            let content = if text.lines.len() <= INLINE_BYTES_MAX {
                Content::Inline(Inline { format, text: text.lines.clone() })
            } else {
                let file = if self.format.is_csv() { "messages.csv" } else { "messages.jsonl" };
                Content::Blob(self.service.files.keep_stream(file, text.lines.as_bytes())?)
            };
            parts.push(Part { messages: Some(Arc::new(text.messages.clone())), ..part(&self.name, content) });
        }
        for unreadable in &text.unreadable {
            let content = Content::Refused { line: 0, reason: unreadable.reason.clone(), raw: unreadable.raw.clone() };
            parts.push(part(&unreadable.message, content));
        }
        let plan = self.service.files.plan(served.of(), &parts.iter().collect::<Vec<_>>())?;
        Ok((parts, plan))
    }
}

/// Why a batch is not in the journal.
enum Failed {
    /// The service ends.
    Ending,
    /// It was not taken: why.
    Not(String),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Failed {
        match refused {
            Refused::Phase(Phase::Ending) => Failed::Ending,
            Refused::Phase(_) => Failed::Not("the service takes none".into()),
            Refused::Full(waiting) => Failed::Not(format!("{waiting} batches wait")),
            Refused::Disk(why) => Failed::Not(why),
        }
    }
}

/// The number of the last message of each partition of each source of an input, as the journal has it.
fn last<'f>(frames: impl Iterator<Item = &'f Frame>, input: &str) -> BTreeMap<(String, i32), u64> {
    let mut last = BTreeMap::new();
    for position in frames.flat_map(|frame| &frame.positions).filter(|position| position.input == input) {
        last.insert((position.source.clone(), position.partition), position.last);
    }
    last
}

//! What a service counts, for Prometheus.

use super::limits::Limits;
use crate::cluster::traffic::{Sent, Totals};
use crate::sources::status::Status;
use crate::state::frame::Answer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use retally_core::Epoch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfDataflow {
    /// The dataflow.
    pub dataflow: &'static str,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfAnswer {
    /// The status.
    pub status: u16,
}

/// Which further sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfSink {
    /// Where it is, without secrets.
    pub sink: String,
}

/// Which live source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfSource {
    /// Where it is, without secrets.
    pub source: String,
    /// What it feeds: DATAFLOW.INPUT.
    pub input: String,
}

/// What a further sink has of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfSinkAndDataflow {
    /// Where it is, without secrets.
    pub sink: String,
    /// The dataflow.
    pub dataflow: &'static str,
}

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfProcess {
    /// Its number.
    pub process: u64,
}

/// What a service counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Batches applied.
    pub batches: Family<OfDataflow, Counter>,
    /// Records accepted.
    pub accepted: Family<OfDataflow, Counter>,
    /// Late records.
    pub late: Family<OfDataflow, Counter>,
    /// Records refused.
    pub rejected: Family<OfDataflow, Counter>,
    /// Rows changed.
    pub changed: Family<OfDataflow, Counter>,
    /// The epoch that can be read.
    pub epoch: Family<OfDataflow, Gauge>,
    /// How often the journal was folded.
    pub folds: Counter,
    /// Requests answered.
    pub requests: Family<OfAnswer, Counter>,
    /// Batches that wait for the journal.
    pub waiting: Gauge,
    /// Batches in the journal that can't be read yet.
    pub under_way: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Open streams.
    pub streams: Gauge,
    /// Epochs that can be read, and that a further sink has not got.
    pub sink_behind: Family<OfSinkAndDataflow, Gauge>,
    /// 1 where a further sink has an error.
    pub sink_error: Family<OfSink, Gauge>,
    /// Messages of a live source in the journal.
    pub source_messages: Family<OfSource, Gauge>,
    /// Likewise batches.
    pub source_batches: Family<OfSource, Gauge>,
    /// Messages that have arrived, and are not in the journal.
    pub source_waiting: Family<OfSource, Gauge>,
    /// 1 where a live source's broker is there.
    pub source_connected: Family<OfSource, Gauge>,
    /// How often it was lost.
    pub source_lost: Family<OfSource, Gauge>,
    /// Messages that could not be read as text.
    pub source_unreadable: Family<OfSource, Gauge>,
    /// Messages that the broker had removed before they were read.
    pub source_removed: Family<OfSource, Gauge>,
    /// Messages that the broker has behind the last that arrived, where it reports that.
    pub source_lag: Family<OfSource, Gauge>,
    /// Seconds that a sync of the journal takes.
    pub sync: Histogram,
    /// Seconds that a commit of the tables takes.
    pub commit: Histogram,
    /// Seconds from a batch's arrival until it can be read.
    pub visible: Histogram,
    /// Bytes of memory that the process holds.
    pub memory: Gauge,
    /// Processes of the service.
    pub processes: Gauge,
    /// Bytes that this one has sent to the others.
    pub mesh_sent: Counter,
    /// Likewise messages.
    pub mesh_messages: Counter,
    /// Those for several workers at once: about progress.
    pub mesh_progress: Counter,
    /// Bytes that came from the others.
    pub mesh_received: Counter,
    /// Seconds since another process gave a sign of life.
    pub mesh_silent: Family<OfProcess, Gauge<f64, AtomicU64>>,
}

fn latencies() -> Histogram {
    // From a tenth of a millisecond to almost a minute.
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

impl Metrics {
    /// All at zero.
    pub fn new(limits: &Limits) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("retally"),
            batches: Family::default(),
            accepted: Family::default(),
            late: Family::default(),
            rejected: Family::default(),
            changed: Family::default(),
            epoch: Family::default(),
            folds: Counter::default(),
            requests: Family::default(),
            waiting: Gauge::default(),
            under_way: Gauge::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            sink_behind: Family::default(),
            sink_error: Family::default(),
            source_messages: Family::default(),
            source_batches: Family::default(),
            source_waiting: Family::default(),
            source_connected: Family::default(),
            source_lost: Family::default(),
            source_unreadable: Family::default(),
            source_removed: Family::default(),
            source_lag: Family::default(),
            sync: latencies(),
            commit: latencies(),
            visible: latencies(),
            memory: Gauge::default(),
            processes: Gauge::default(),
            mesh_sent: Counter::default(),
            mesh_messages: Counter::default(),
            mesh_progress: Counter::default(),
            mesh_received: Counter::default(),
            mesh_silent: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("batches", "Batches whose changes can be read", metrics.batches.clone());
        registry.register("records_accepted", "Records accepted, delivered and retracted ones", metrics.accepted.clone());
        registry.register("records_late", "Accepted records earlier than one of the batches before", metrics.late.clone());
        registry.register("records_rejected", "Records refused", metrics.rejected.clone());
        registry.register("rows_changed", "Rows of tables that came or went", metrics.changed.clone());
        registry.register("epoch", "The last epoch that can be read", metrics.epoch.clone());
        registry.register("journal_folds", "How often the journal was folded into a snapshot", metrics.folds.clone());
        registry.register("requests", "Requests answered, by status", metrics.requests.clone());
        registry.register("batches_waiting", "Batches that wait for the journal", metrics.waiting.clone());
        registry.register("batches_under_way", "Batches in the journal whose changes can't be read yet", metrics.under_way.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("streams", "Open streams of changes", metrics.streams.clone());
        registry.register("sink_epochs_behind", "Epochs that can be read, and a further sink has not got", metrics.sink_behind.clone());
        registry.register("sink_error", "1 where a further sink has an error, and is tried again or given up", metrics.sink_error.clone());
        registry.register("source_messages", "Messages of a live source in the journal", metrics.source_messages.clone());
        registry.register("source_batches", "Batches of a live source in the journal", metrics.source_batches.clone());
        registry.register("source_waiting", "Messages that have arrived, and are not in the journal", metrics.source_waiting.clone());
        registry.register("source_connected", "1 where the broker of a live source is there", metrics.source_connected.clone());
        registry.register("source_lost", "How often the broker of a live source was lost", metrics.source_lost.clone());
        registry.register("source_unreadable", "Messages that could not be read as text", metrics.source_unreadable.clone());
        registry.register("source_removed", "Messages that the broker had removed before they were read", metrics.source_removed.clone());
        registry.register("source_lag", "Messages that the broker has behind the last that arrived", metrics.source_lag.clone());
        registry.register_with_unit("memory", "Memory that the process holds", Unit::Bytes, metrics.memory.clone());
        registry.register("processes", "Processes of the service, of which this is the first", metrics.processes.clone());
        registry.register_with_unit("mesh_sent", "What was sent to workers of other processes", Unit::Bytes, metrics.mesh_sent.clone());
        registry.register("mesh_messages", "Messages sent to workers of other processes", metrics.mesh_messages.clone());
        registry.register(
            "mesh_progress_messages",
            "Those of them that are for several workers at once: about progress",
            metrics.mesh_progress.clone(),
        );
        registry.register_with_unit(
            "mesh_received",
            "What came from workers of other processes",
            Unit::Bytes,
            metrics.mesh_received.clone(),
        );
        registry.register_with_unit(
            "mesh_silent",
            "Time since another process gave a sign of life",
            Unit::Seconds,
            metrics.mesh_silent.clone(),
        );
        registry.register_with_unit("journal_sync", "Time of a sync of the journal", Unit::Seconds, metrics.sync.clone());
        registry.register_with_unit("tables_commit", "Time of a commit of the tables", Unit::Seconds, metrics.commit.clone());
        registry.register_with_unit(
            "visible",
            "Time from a batch's arrival until its changes can be read",
            Unit::Seconds,
            metrics.visible.clone(),
        );
        let limits = [
            ("batches_waiting_limit", "Batches that may wait for the journal", limits.waiting as u64),
            ("connections_limit", "Connections that may be open", limits.connections as u64),
            ("streams_limit", "Streams of changes that may be open", limits.streams as u64),
            ("body_bytes_limit", "Bytes that a body may have", limits.body),
            ("unpacked_bytes_limit", "Bytes that a body may have when it is unpacked", limits.unpacked),
        ];
        for (name, about, limit) in limits {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(limit).unwrap_or(i64::MAX));
            registry.register(name, about, gauge);
        }
        metrics
    }

    /// A batch can be read.
    pub fn add(&self, dataflow: &'static str, epoch: Epoch, answer: &Answer) {
        let of = OfDataflow { dataflow };
        self.batches.get_or_create(&of).inc();
        self.accepted.get_or_create(&of).inc_by(answer.accepted);
        self.late.get_or_create(&of).inc_by(answer.late);
        self.rejected.get_or_create(&of).inc_by(answer.rejected);
        self.changed.get_or_create(&of).inc_by(answer.changed.values().sum());
        self.reached(dataflow, epoch);
    }

    /// A request was answered.
    pub fn answered(&self, status: u16) {
        self.requests.get_or_create(&OfAnswer { status }).inc();
    }

    /// An epoch can be read.
    pub fn reached(&self, dataflow: &'static str, epoch: Epoch) {
        self.epoch.get_or_create(&OfDataflow { dataflow }).set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// How a further sink is.
    pub fn sink(&self, sink: &str, behind: impl Iterator<Item = (&'static str, u64)>, has_error: bool) {
        for (dataflow, epochs) in behind {
            let of = OfSinkAndDataflow { sink: sink.into(), dataflow };
            self.sink_behind.get_or_create(&of).set(i64::try_from(epochs).unwrap_or(i64::MAX));
        }
        self.sink_error.get_or_create(&OfSink { sink: sink.into() }).set(i64::from(has_error));
    }

    /// How a live source is.
    pub fn source(&self, source: &Status) {
        let of = OfSource { source: source.shown.clone(), input: source.of.clone() };
        let set = |gauge: &Family<OfSource, Gauge>, value: u64| {
            gauge.get_or_create(&of).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.source_messages, source.messages.load(Ordering::Relaxed));
        set(&self.source_batches, source.batches.load(Ordering::Relaxed));
        set(&self.source_waiting, source.waiting.load(Ordering::Relaxed));
        set(&self.source_connected, u64::from(source.is_connected()));
        set(&self.source_lost, source.lost.load(Ordering::Relaxed));
        set(&self.source_unreadable, source.unreadable.load(Ordering::Relaxed));
        set(&self.source_removed, source.removed.load(Ordering::Relaxed));
        if let Some(lag) = source.lag() {
            set(&self.source_lag, lag);
        }
    }

    /// What has passed between this process and the others.
    pub fn mesh(&self, processes: usize, traffic: &Totals) {
        self.processes.set(i64::try_from(processes).unwrap_or(i64::MAX));
        let Sent { bytes, messages, progress, .. } = traffic.sent();
        let counted = [
            (&self.mesh_sent, bytes),
            (&self.mesh_messages, messages),
            (&self.mesh_progress, progress),
            (&self.mesh_received, traffic.received()),
        ];
        counted.iter().for_each(|(counter, value)| counter.inner().store(*value, Ordering::Relaxed));
        for (process, silent) in traffic.silent(Instant::now()) {
            self.mesh_silent.get_or_create(&OfProcess { process: process as u64 }).set(silent.as_secs_f64());
        }
    }

    /// As OpenMetrics has them, for which Prometheus asks.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text can't fail.
        encode(&mut text, &self.registry).ok();
        text
    }
}

/// What OpenMetrics says, in the older format of Prometheus. There a counter is named as its samples are, with `_total`; nothing else of
/// what is counted here differs.
pub fn plain(text: &str) -> String {
    let is_counter = |name: &str| text.contains(&format!("# TYPE {name} counter\n"));
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(kind), Some(name), Some(rest)) if is_counter(name) => plain += &format!("# {kind} {name}_total {rest}"),
            _ => plain += line,
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let metrics = Metrics::new(&Limits::default());
        metrics.answered(200);
        metrics.memory.set(7);
        metrics.visible.observe(0.5);
        let (open, plain) = (metrics.text(), plain(&metrics.text()));
        assert!(open.contains("# TYPE retally_requests counter\nretally_requests_total{status=\"200\"} 1\n") && open.ends_with("# EOF\n"));
        for block in [
            "# HELP retally_requests_total Requests answered, by status.\n# TYPE retally_requests_total counter\n\
             retally_requests_total{status=\"200\"} 1\n",
            "# TYPE retally_memory_bytes gauge\nretally_memory_bytes 7\n",
            "# TYPE retally_visible_seconds histogram\nretally_visible_seconds_sum 0.5\nretally_visible_seconds_count 1\n",
        ] {
            assert!(plain.contains(block), "{block}: {plain}");
        }
        assert!(!plain.contains("# UNIT") && !plain.contains("# EOF"), "{plain}");
    }
}

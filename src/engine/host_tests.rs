//! Hosted dataflows against their oracles: after every epoch, with any number of epochs in flight, on any workers.

use super::host::{self, Completed, Host, OFFERS_MAX};
use super::{EngineError, Job, Passing};
use crate::cluster::Cluster;
use crate::failure::Kind;
use crate::ingest::batch::{Arrival, Batch, Body, Part, Source, TextFormat};
use crate::ingest::plan::{self, Plan};
use crate::tables::Tables;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::calendar::Calendar;
use retally_core::contract::{AsOf, Dataflow, Settings};
use retally_core::row;
use retally_core::testing::{Delivery, compare};
use retally_core::time::{DAY, HOUR, MINUTE, Moment};
use retally_online::oracle::Oracle;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Longer than any epoch takes: what takes longer hangs.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// 2024-03-28T00:00:00Z.
const START: i64 = 1_711_584_000_000_000;
const ONLINE: usize = 0;

fn job(dataflow: &dyn Dataflow, settings: &[(&str, &str)]) -> Job {
    let definition = dataflow.definition();
    let with = |settings: Settings, (name, value): &(&str, &str)| settings.with(name, value);
    let settings = settings.iter().fold(Settings::defaults(&definition.settings), with);
    let graph = dataflow.graph(&settings).unwrap();
    let tables = graph.tables().iter().map(|table| table.name.to_string()).collect();
    Job::new(definition, graph, settings, tables)
}

fn online() -> Job {
    job(&retally_online::Online, &[("timezone", "Europe/Berlin"), ("fleet-sizes", "1,2-3")])
}

fn active() -> Job {
    job(&retally_active::Active, &[("timezone", "UTC")])
}

/// The same job with another as-of.
fn under(job: Job, as_of: AsOf) -> Job {
    let settings = job.settings.with_as_of(as_of);
    let dataflow = crate::registry::dataflow(job.definition.name).unwrap();
    Job { graph: dataflow.graph(&settings).unwrap().into(), settings, ..job }
}

/// A part for each input and sign.
fn batch(deliveries: &[Delivery]) -> Batch {
    let mut lines: BTreeMap<(usize, isize), Vec<&str>> = BTreeMap::new();
    deliveries.iter().for_each(|delivery| lines.entry((delivery.input, delivery.sign)).or_default().push(&delivery.line));
    let part = |((input, sign), lines): ((usize, isize), Vec<&str>)| {
        let bytes = lines.join("\n").into_bytes();
        let format = if bytes.starts_with(b"{") { TextFormat::Json } else { TextFormat::Csv };
        Part { input, sign, source: Source::Bytes(Body::plain(format, bytes)) }
    };
    Batch { parts: lines.into_iter().map(part).collect() }
}

fn offer(host: &Host, jobs: &[Job], dataflow: usize, batch: &Batch) -> Result<u64, EngineError> {
    offer_at(host, jobs, dataflow, batch, None)
}

/// Offers a batch that arrived at a time, where that counts.
fn offer_at(host: &Host, jobs: &[Job], dataflow: usize, batch: &Batch, arrived: Option<Moment>) -> Result<u64, EngineError> {
    let plan = plan::plan(&jobs[dataflow].definition, batch, Arrival { accept_from: Moment::FIRST, accept_until: Moment::LAST })?;
    host.offer(dataflow, Plan { arrived, ..plan }, Instant::now())
}

/// What is held of a hosted dataflow as its epochs become complete.
struct Held {
    tables: Tables,
    /// How many batches are complete.
    complete: usize,
    batches: Vec<Vec<Delivery>>,
    latest: Option<Moment>,
    /// What the clock shows, where that is as-of.
    clock: Option<Moment>,
}

impl Held {
    fn texts(&self) -> retally_core::testing::Tables {
        let states = self.tables.all().into_iter().filter(|state| state.table().name != "rejected");
        let texts = states.map(|state| {
            let values = |row| row::values(&state.table().columns, row).map(|value| value.to_string()).collect();
            (state.table().name.to_string(), state.rows().map(values).collect())
        });
        texts.collect()
    }

    /// Late events of the batch that has become complete, by a plain count.
    fn late(&mut self, time: impl Fn(&Delivery) -> Option<Moment>) -> u64 {
        let times: Vec<Moment> = self.batches[self.complete].iter().filter(|delivery| delivery.sign > 0).filter_map(time).collect();
        let late = times.iter().filter(|time| Some(**time) < self.latest).count();
        self.latest = times.into_iter().chain(self.latest).max();
        late as u64
    }
}

/// The set of lines.
fn present(delivered: &[Delivery]) -> BTreeSet<(usize, String)> {
    let mut counts: BTreeMap<(usize, String), isize> = BTreeMap::new();
    delivered.iter().for_each(|delivery| *counts.entry((delivery.input, delivery.line.clone())).or_default() += delivery.sign);
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(line, _)| line).collect()
}

fn expected_online(delivered: &[Delivery], as_of: AsOf) -> retally_core::testing::Tables {
    let sizes = vec![("1", 1), ("2-3", 3), ("4+", usize::MAX)];
    Oracle { calendar: Calendar::named("Europe/Berlin").unwrap(), sizes, as_of }.tables(&present(delivered))
}

fn time_of_engagement(line: &str) -> Moment {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    Moment(event["event_timestamp"].as_i64().unwrap())
}

/// As-of of what was delivered, under this clock: the end of the latest minute, as the oracles take it.
fn as_of(dataflow: usize, delivered: &[Delivery], clock: Option<Moment>) -> AsOf {
    let Some(clock) = clock else { return AsOf::Latest };
    let time = |(input, line): (usize, String)| match dataflow {
        ONLINE => time_of(&Delivery { input, sign: 1, line }),
        _ => Some(time_of_engagement(&line)),
    };
    let latest = present(delivered).into_iter().filter_map(time).fold(clock, Moment::max);
    AsOf::At(Moment(latest.0 - latest.0.rem_euclid(MINUTE) + MINUTE - 1))
}

fn time_of(delivery: &Delivery) -> Option<Moment> {
    let text = delivery.line.split(',').next().filter(|_| delivery.input == 0)?;
    Calendar::utc().parse(text.as_bytes()).ok()
}

/// Offers all batches of two dataflows, so many of each in flight, and checks tables and late events after every epoch. With a clock, each
/// arrives at one of these times, and as-of is not before the end of that minute.
fn check(workers: usize, passing: Passing, in_flight: usize, batches: [Vec<Vec<Delivery>>; 2], clock: &[Moment]) {
    let now = if clock.is_empty() { AsOf::Latest } else { AsOf::Now };
    let jobs = [online(), active()].map(|job| under(job, now));
    let arrived = |epoch: usize| clock.iter().cycle().nth(epoch).copied();
    let (host, completed) = host::start(jobs.to_vec(), Cluster::local(workers), passing).unwrap();
    let new = |(job, batches): (&Job, Vec<Vec<Delivery>>)| Held {
        tables: Tables::new(&*job.graph, &job.tables),
        complete: 0,
        batches,
        latest: None,
        clock: None,
    };
    let mut held: Vec<Held> = jobs.iter().zip(batches).map(new).collect();
    let mut offered = [0; 2];
    while held.iter().any(|held| held.complete < held.batches.len()) {
        for (dataflow, held) in held.iter().enumerate() {
            while offered[dataflow] < held.batches.len().min(held.complete + in_flight) {
                let batch = batch(&held.batches[offered[dataflow]]);
                let epoch = offer_at(&host, &jobs, dataflow, &batch, arrived(offered[dataflow])).unwrap();
                offered[dataflow] += 1;
                assert_eq!(epoch, offered[dataflow] as u64);
            }
        }
        let run = completed.poll(WAIT_MAX).unwrap();
        assert!(!run.is_empty(), "nothing is complete after {WAIT_MAX:?}");
        for commit in run {
            let held = &mut held[commit.dataflow];
            assert_eq!(commit.summary.epoch, held.complete as u64 + 1, "epochs are complete in order");
            if commit.dataflow == ONLINE {
                assert_eq!(commit.summary.late, held.late(time_of), "late events of epoch {}", commit.summary.epoch);
            }
            // To the minute, and never back.
            let minute = arrived(held.complete).map(|arrived| Moment(arrived.0 - arrived.0.rem_euclid(MINUTE)));
            held.clock = held.clock.max(minute);
            held.complete += 1;
            held.tables.apply(commit.changes, commit.rejected);
            let delivered = held.batches[..held.complete].concat();
            let as_of = as_of(commit.dataflow, &delivered, held.clock);
            let expected = match commit.dataflow {
                ONLINE => expected_online(&delivered, as_of),
                _ => retally_active::oracle::tables(&under(active(), as_of).settings, 3_000_000, &delivered),
            };
            if let Err(different) = compare(&held.texts(), &expected) {
                panic!("{different}\nafter epoch {} of {:#?}, {workers} workers, {in_flight} in flight", held.complete, held.batches);
            }
        }
    }
    host.close().unwrap();
}

fn event() -> impl Strategy<Value = Delivery> {
    (0i64..8, 0i64..24, 0u64..4, 0u64..3, any::<bool>()).prop_map(|(day, hour, device, server, connected)| {
        let time = Moment(START + day * DAY + hour * HOUR);
        Delivery { input: 0, sign: 1, line: format!("{time},{device},{},{server},{connected}", device / 2) }
    })
}

fn server() -> impl Strategy<Value = Delivery> {
    (0u64..3, 0i64..8).prop_map(|(id, day)| {
        let line = format!("{id},{},{}", Moment(START - DAY), Moment(START + day * DAY + HOUR));
        Delivery { input: 1, sign: 1, line }
    })
}

fn engagement() -> impl Strategy<Value = Delivery> {
    (0i64..40, 0i64..24, 0u8..4, prop_oneof![Just(100), Just(3_000), Just(5_000)], any::<bool>()).prop_map(
        |(day, hour, user, milliseconds, valuable)| {
            let mut parameters = vec![serde_json::json!({"key": "engagement_time_msec", "value": {"int_value": milliseconds}})];
            if valuable {
                parameters.push(serde_json::json!({"key": "engaged_session_event", "value": {"int_value": 1}}));
            }
            let line = serde_json::json!({
                "event_name": "user_engagement", "event_timestamp": START + day * DAY + hour * HOUR, "event_params": parameters,
                "user_pseudo_id": format!("user{user}"),
            });
            Delivery { input: 0, sign: 1, line: line.to_string() }
        },
    )
}

/// Batches that deliver, deliver again and retract what is in one pool of lines.
fn batches(line: impl Strategy<Value = Delivery>) -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    proptest::collection::vec(line, 1..16).prop_flat_map(|pool| {
        let delivery = (0..pool.len(), prop_oneof![4 => Just(1isize), 1 => Just(-1)])
            .prop_map(move |(place, sign)| Delivery { sign, ..pool[place].clone() });
        proptest::collection::vec(proptest::collection::vec(delivery, 0..8), 1..12)
    })
}

fn proptests() -> ProptestConfig {
    let kept = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { cases: 60, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(proptests())]

    #[test]
    fn tables_are_those_of_the_oracles_after_every_epoch(
        online in batches(prop_oneof![5 => event(), 1 => server()]),
        active in batches(engagement()),
        workers in 1usize..=3,
        passing in prop_oneof![Just(Passing::Values), Just(Passing::Bytes)],
        in_flight in 1usize..=8,
    ) {
        check(workers, passing, in_flight, [online, active], &[]);
    }

    #[test]
    fn as_of_goes_on_with_the_clock(
        online in batches(prop_oneof![5 => event(), 1 => server()]),
        active in batches(engagement()),
        clock in proptest::collection::vec((0i64..12 * 24 * 60, 0i64..MINUTE), 1..12),
        workers in 1usize..=3,
        passing in prop_oneof![Just(Passing::Values), Just(Passing::Bytes)],
        in_flight in 1usize..=8,
    ) {
        let clock: Vec<Moment> = clock.into_iter().map(|(minute, rest)| Moment(START + minute * MINUTE + rest)).collect();
        check(workers, passing, in_flight, [online, active], &clock);
    }
}

fn delivery(line: &str) -> Delivery {
    Delivery { input: 0, sign: 1, line: line.into() }
}

/// The next epoch that is complete.
fn next(completed: &Completed) -> super::Commit {
    let mut run = completed.poll(WAIT_MAX).unwrap();
    assert_eq!(run.len(), 1);
    run.remove(0)
}

#[test]
fn a_batch_that_can_not_be_planned_leaves_all_else_as_it_is() {
    let jobs = [online(), active()];
    let (host, completed) = host::start(jobs.to_vec(), Cluster::local(2), Passing::Values).unwrap();
    let good = batch(&[delivery("2024-03-28T10:00:00Z,1,1,1,true")]);
    assert_eq!(offer(&host, &jobs, ONLINE, &good).unwrap(), 1);
    let missing = Batch { parts: vec![Part { input: 0, sign: 1, source: Source::Path("missing/events.csv".into()) }] };
    assert_eq!(offer(&host, &jobs, ONLINE, &missing).unwrap_err().kind(), Kind::BadInput);
    let again = batch(&[delivery("2024-03-28T09:00:00Z,1,1,1,true")]);
    let first = next(&completed);
    assert_eq!(offer(&host, &jobs, ONLINE, &again).unwrap(), 2, "the refused batch has no epoch");
    let second = next(&completed);
    assert_eq!((first.summary.epoch, first.summary.delivered, first.summary.late), (1, 1, 0));
    assert_eq!((second.summary.epoch, second.summary.delivered, second.summary.late), (2, 1, 1));
    host.close().unwrap();
}

#[test]
fn offers_are_bounded_and_taken_again_when_some_are_complete() {
    let jobs = [online()];
    let (host, completed) = host::start(jobs.to_vec(), Cluster::local(1), Passing::Values).unwrap();
    let nothing = Batch::default();
    for epoch in 1..=OFFERS_MAX {
        assert_eq!(offer(&host, &jobs, ONLINE, &nothing).unwrap(), epoch as u64);
    }
    let full = offer(&host, &jobs, ONLINE, &nothing).unwrap_err();
    assert_eq!((full.kind(), full.to_string()), (Kind::TryAgain, "could not take another batch of \"online\": 1024 are waiting".into()));
    assert!(!completed.poll(WAIT_MAX).unwrap().is_empty());
    assert_eq!(offer(&host, &jobs, ONLINE, &nothing).unwrap(), OFFERS_MAX as u64 + 1);
    host.close().unwrap();
}

#[test]
fn too_many_refused_records_end_the_host_with_the_reason() {
    let jobs = [Job { rejected_max: Some(1), ..online() }];
    let (host, completed) = host::start(jobs.to_vec(), Cluster::local(2), Passing::Bytes).unwrap();
    offer(&host, &jobs, ONLINE, &batch(&[delivery("1,2,3,4,5,6")])).unwrap();
    assert_eq!(next(&completed).summary.rejected, 1, "so many may be");
    offer(&host, &jobs, ONLINE, &batch(&[delivery("6,5,4,3,2,1")])).unwrap();
    assert!(matches!(completed.poll(WAIT_MAX), Err(EngineError::Ended)));
    let error = host.close().unwrap_err();
    assert!(matches!(&error, EngineError::Rejected { limit: 1, .. }), "{error}");
    assert_eq!(error.kind(), Kind::Lost);
}

//! The law: whatever the batches, orders, duplicates, retractions and workers, the tables are those of the set of records.

use crate::Usage;
use crate::oracle::Oracle;
use crate::tables::{charts, tables};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::chart::{Mark, Series};
use retally_core::contract::{AsOf, Dataflow, Graph, Settings};
use retally_core::ids::Ids;
use retally_core::row::TextId;
use retally_core::testing::only::Only;
use retally_core::testing::text_ids::Renamed;
use retally_core::testing::{Config, Delivery, check_law, run_graph};
use retally_core::time::{DAY, HOUR, Moment};
use std::sync::Arc;

/// 2024-03-28T00:00:00Z: the clocks of Europe change three days later.
const START: i64 = 1_711_584_000_000_000;

/// The settings by default.
fn defaults() -> Settings {
    Settings::defaults(&Usage.definition().settings)
}

fn settings(zone: &str, max_session: Option<(&str, i64)>, as_of: AsOf) -> (Settings, Oracle) {
    let settings = defaults().with("timezone", zone).with("max-session", max_session.map_or("", |(text, _)| text)).with_as_of(as_of);
    let as_of_micros = if let AsOf::At(moment) = as_of { Some(moment.0) } else { None };
    (settings, Oracle { zone: zone.parse().unwrap(), max_session_micros: max_session.map(|(_, micros)| micros), as_of_micros })
}

fn graph(settings: &Settings) -> Arc<dyn Graph> {
    Usage.graph(settings).unwrap().into()
}

/// Times with many collisions, on midnights and beside them, mostly over two weeks.
fn time() -> impl Strategy<Value = Moment> {
    let hour = prop_oneof![1 => Just(0i64), 2 => 0i64..24, 2 => 21i64..24];
    let beside = prop_oneof![6 => Just(0i64), 1 => Just(1), 1 => Just(-1)];
    (prop_oneof![4 => 0i64..5, 2 => 0i64..15, 1 => 0i64..60], hour, beside)
        .prop_map(|(day, hour, beside)| Moment(START + day * DAY + hour * HOUR + beside))
}

/// Logs and sessions are told apart by their last digit.
pub(crate) fn id(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

/// An event of one of five logs. Most often the first two are schools and the others devices.
fn event() -> impl Strategy<Value = Delivery> {
    let name = prop_oneof![Just("North"), Just("South"), Just("\\u00c9cole")];
    let what = prop_oneof![
        2 => any::<bool>().prop_map(|school| format!(r#""type":"SetLogType","logType":"{}""#, if school { "School" } else { "Device" })),
        2 => name.prop_map(|name| format!(r#""eventType":"SetNameEvent","name":"{name}""#)),
        4 => (0u8..5).prop_map(|school| format!(r#""event":"AssignToSchool","schoolId":"{}""#, id(school % 4))),
        8 => (10u8..14).prop_map(|session| format!(r#""@type":"StartSessionEvent","sessionId":"{}""#, id(session))),
        8 => (10u8..14).prop_map(|session| format!(r#""type":"EndSession","sessionId":"{}""#, id(session))),
    ];
    (time(), 0u8..5, what, 0u8..8).prop_map(|(time, log, mut what, wrong)| {
        // Few events are of the wrong type for their log.
        let log = match (what.contains("SetName"), what.contains("SetLogType")) {
            (_, true) if wrong > 0 => {
                what = format!(r#""type":"SetLogType","logType":"{}""#, if log < 2 { "School" } else { "Device" });
                log
            }
            (true, _) if wrong > 0 => log % 2,
            (false, false) if wrong > 0 => 2 + log % 3,
            _ => log,
        };
        Delivery { input: 0, sign: 1, line: format!(r#"{{"time":"{time}","logId":"{}",{what}}}"#, id(log)) }
    })
}

/// Batches that deliver, deliver again and retract what is in one pool of lines.
fn batches() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    prop::collection::vec(event(), 1..30).prop_flat_map(|pool| {
        let delivery = (0..pool.len(), prop_oneof![4 => Just(1isize), 1 => Just(-1)])
            .prop_map(move |(place, sign)| Delivery { sign, ..pool[place].clone() });
        prop::collection::vec(prop::collection::vec(delivery, 0..20), 1..5)
    })
}

fn as_of() -> impl Strategy<Value = AsOf> {
    prop_oneof![3 => Just(AsOf::Latest), 1 => time().prop_map(AsOf::At)]
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Chicago", "America/Santiago", "Africa/Cairo"])
}

fn max_session() -> impl Strategy<Value = Option<(&'static str, i64)>> {
    prop::sample::select(vec![None, None, Some(("0s", 0)), Some(("2h", 2 * HOUR)), Some(("2d", 2 * DAY))])
}

/// Failures are kept in this crate's folder. (By default they are in the folder above a `lib.rs`, which is that of all crates.)
fn proptests(cases: u32) -> ProptestConfig {
    let kept = FileFailurePersistence::SourceParallel("usage/proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

/// Batches of few devices that are assigned at few times, so that the ids of schools decide.
fn batches_of_ties() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let what = prop_oneof![
        1 => (0u8..4).prop_map(|log| (log, r#""type":"SetLogType","logType":"School""#.to_string())),
        4 => (4u8..6, 0u8..4).prop_map(|(log, school)| (log, format!(r#""type":"AssignToSchool","schoolId":"{}""#, id(school)))),
        3 => (4u8..6, 10u8..14).prop_map(|(log, session)| (log, format!(r#""type":"StartSession","sessionId":"{}""#, id(session)))),
        2 => (4u8..6, 10u8..14).prop_map(|(log, session)| (log, format!(r#""type":"EndSession","sessionId":"{}""#, id(session)))),
    ];
    let delivery = (0i64..4, what, prop_oneof![5 => Just(1isize), 1 => Just(-1)]).prop_map(|(hours, (log, what), sign)| {
        let time = Moment(START + hours * 9 * HOUR);
        Delivery { input: 0, sign, line: format!(r#"{{"time":"{time}","logId":"{}",{what}}}"#, id(log)) }
    });
    prop::collection::vec(prop::collection::vec(delivery, 0..16), 1..6)
}

proptest! {
    #![proptest_config(proptests(100))]

    #[test]
    fn text_ids_have_the_tables_of_uuids(batches in prop_oneof![batches(), batches_of_ties()], config in 0..Config::ALL.len()) {
        let (declared, text) = (graph(&defaults()), graph(&defaults().with("ids", "text")));
        let ids: Vec<String> = (0u8..14).map(id).collect();
        let inputs = Usage.definition().inputs;
        let renamed = Renamed { declared: &declared, text: &text, inputs: &inputs, ids: ids.clone(), width: TextId::Uuid };
        renamed.check(Config::choose(config), &batches, |delivery, text| {
            ids.iter().fold(delivery.line.clone(), |line, id| line.replace(id.as_str(), &text(id)))
        });
    }
}

proptest! {
    #![proptest_config(proptests(200))]

    #[test]
    fn the_tables_depend_on_the_set_of_records_alone(
        batches in batches(),
        zone in zone(),
        max_session in max_session(),
        as_of in as_of(),
        config in (0..Config::ALL.len()).prop_map(Config::choose),
    ) {
        let (settings, oracle) = settings(zone, max_session, as_of);
        check_law(config, &graph(&settings), &Usage.definition().inputs, &batches, |lines| oracle.tables(lines));
    }
}

/// A long history of few devices in one batch and in many, on all kinds of workers.
#[test]
fn every_kind_of_worker() {
    let (settings, oracle) = settings("Europe/Berlin", Some(("2d", 2 * DAY)), AsOf::Latest);
    let graph = graph(&settings);
    let mut lines: Vec<String> = (0u8..6)
        .map(|log| {
            let kind = if log < 2 { "School" } else { "Device" };
            format!(r#"{{"time":"{}","logId":"{}","type":"SetLogType","logType":"{kind}"}}"#, Moment(START), id(log))
        })
        .collect();
    for n in 0..700u64 {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let start = Moment(START + (mixed % 1_000) as i64 * HOUR);
        let end = start.plus((mixed % 7_001) as i64 * 60_000_000);
        let (device, session) = (id(2 + u8::try_from(mixed % 4).unwrap()), format!("00000000-0000-4000-8000-{n:012x}"));
        let event = |time: Moment, what: &str| format!(r#"{{"time":"{time}","logId":"{device}",{what}}}"#);
        lines.push(match mixed % 20 {
            0 => event(start, &format!(r#""type":"AssignToSchool","schoolId":"{}""#, id(u8::try_from((mixed >> 9) % 3).unwrap()))),
            _ => event(start, &format!(r#""type":"StartSession","sessionId":"{session}""#)),
        });
        if mixed % 7 > 0 {
            lines.push(event(end, &format!(r#""type":"EndSession","sessionId":"{session}""#)));
        }
    }
    let lines: Vec<Delivery> = lines.into_iter().map(|line| Delivery { input: 0, sign: 1, line }).collect();
    for config in Config::ALL {
        for size in [2_000, 311] {
            let mut batches: Vec<Vec<Delivery>> = lines.chunks(size).map(<[_]>::to_vec).collect();
            // A part is taken back.
            batches.push(lines.iter().step_by(9).map(|line| Delivery { sign: -1, ..line.clone() }).collect());
            check_law(config, &graph, &Usage.definition().inputs, &batches, |lines| oracle.tables(lines));
        }
    }
}

proptest! {
    #![proptest_config(proptests(100))]

    #[test]
    fn a_table_is_the_same_without_the_others(
        batches in batches(),
        zone in zone(),
        as_of in as_of(),
        table in prop::sample::select(tables(Ids::Declared).iter().map(|table| table.name).collect::<Vec<_>>()),
    ) {
        let inputs = Usage.definition().inputs;
        let (settings, _) = settings(zone, None, as_of);
        let only: Arc<dyn Graph> = Arc::new(Only(table, Arc::from(Usage.graph(&settings).unwrap())));
        let alone = run_graph(Config::default(), &only, &inputs, &batches);
        for (mut all, alone) in run_graph(Config::default(), &graph(&settings), &inputs, &batches).into_iter().zip(alone) {
            all.retain(|name, _| name == table);
            prop_assert_eq!(all, alone);
        }
    }
}

#[test]
fn charts_name_columns_that_exist() {
    for layer in charts().into_iter().flat_map(|chart| chart.layers) {
        let table = tables(Ids::Declared).into_iter().find(|table| table.name == layer.table).unwrap();
        let columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        let series = match layer.series {
            Series::By(column) => column,
            Series::One(_) => layer.x,
        };
        let values = match layer.mark {
            Mark::Bars(values) => values,
            Mark::Count => layer.x,
            other => panic!("an unexpected mark: {other:?}"),
        };
        assert!([layer.x, series, values].iter().all(|column| columns.contains(column)), "{columns:?}");
    }
}

//! The law: whatever the batches, orders, duplicates, retractions and workers, the tables are those of the set of records.

use crate::oracle::Oracle;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::calendar::Calendar;
use retally_core::contract::{AsOf, Dataflow, Graph, Settings};
use retally_core::row::TextId;
use retally_core::testing::text_ids::Renamed;
use retally_core::testing::{Config, Delivery, check_law};
use retally_core::time::{DAY, HOUR, Moment};
use std::sync::Arc;

/// 2024-03-28T00:00:00Z: the clocks of Europe change three days later.
const START: i64 = 1_711_584_000_000_000;

fn settings(zone: &str, as_of: AsOf) -> (Arc<dyn Graph>, Oracle) {
    let defaults = Settings::defaults(&crate::Online.definition().settings);
    let settings = defaults.with("timezone", zone).with("fleet-sizes", "1,2-3").with_as_of(as_of);
    let graph = crate::Online.graph(&settings).unwrap();
    let sizes = vec![("1", 1), ("2-3", 3), ("4+", usize::MAX)];
    (Arc::from(graph), Oracle { calendar: Calendar::named(zone).unwrap(), sizes, as_of })
}

/// Times with many collisions, on midnights and beside them, over some days or some months.
fn time() -> impl Strategy<Value = Moment> {
    let hour = prop_oneof![Just(0i64), 0i64..24, 21i64..24];
    let beside = prop_oneof![6 => Just(0i64), 1 => Just(1), 1 => Just(-1)];
    (prop_oneof![3 => 0i64..6, 1 => 0i64..100], hour, beside)
        .prop_map(|(day, hour, beside)| Moment(START + day * DAY + hour * HOUR + beside))
}

fn event() -> impl Strategy<Value = Delivery> {
    (time(), 0u64..4, 0u64..3, 0u64..3, any::<bool>()).prop_map(|(time, device, user, server, connected)| {
        // Few devices change their user.
        let user = if user == 0 { device / 2 } else { 0 };
        Delivery { input: 0, sign: 1, line: format!("{time},{device},{user},{server},{connected}") }
    })
}

fn server() -> impl Strategy<Value = Delivery> {
    (0u64..3, time(), proptest::option::weighted(0.8, time())).prop_map(|(id, created, destroyed)| {
        let destroyed = destroyed.map(|time| time.to_string()).unwrap_or_default();
        Delivery { input: 1, sign: 1, line: format!("{id},{created},{destroyed}") }
    })
}

/// Batches that deliver, deliver again and retract what is in one pool of lines.
fn batches() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let line = prop_oneof![5 => event(), 1 => server()];
    proptest::collection::vec(line, 1..16).prop_flat_map(|pool| {
        let delivery = (0..pool.len(), prop_oneof![4 => Just(1isize), 1 => Just(-1)])
            .prop_map(move |(place, sign)| Delivery { sign, ..pool[place].clone() });
        proptest::collection::vec(proptest::collection::vec(delivery, 0..12), 1..5)
    })
}

fn as_of() -> impl Strategy<Value = AsOf> {
    prop_oneof![3 => Just(AsOf::Latest), 1 => time().prop_map(AsOf::At)]
}

/// Failures are kept in this crate's folder. (By default they are in the folder above a `lib.rs`, which is that of all crates.)
fn proptests() -> ProptestConfig {
    let kept = FileFailurePersistence::SourceParallel("online/proptest-regressions");
    ProptestConfig { cases: 150, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(proptests())]

    #[test]
    fn the_tables_depend_on_the_set_of_records_alone(
        batches in batches(),
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/Chicago"), Just("America/Santiago")],
        as_of in as_of(),
        config in 0..Config::ALL.len(),
    ) {
        let (graph, oracle) = settings(zone, as_of);
        check_law(Config::choose(config), &graph, &crate::Online.definition().inputs, &batches, |lines| oracle.tables(lines));
    }
}

/// Batches of few devices whose events are at few times, so that ids decide their order.
fn batches_of_ties() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let event = (0i64..3, 0u64..2, 0u64..4, 0u64..4, any::<bool>()).prop_map(|(hours, device, user, server, connected)| {
        let time = Moment(START + hours * 9 * HOUR);
        Delivery { input: 0, sign: 1, line: format!("{time},{device},{user},{server},{connected}") }
    });
    let delivery = (prop_oneof![6 => event, 1 => server()], prop_oneof![5 => Just(1isize), 1 => Just(-1)]);
    let delivery = delivery.prop_map(|(delivery, sign)| Delivery { sign, ..delivery });
    proptest::collection::vec(proptest::collection::vec(delivery, 0..14), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..proptests() })]

    #[test]
    fn text_ids_have_the_tables_of_numbers(
        batches in prop_oneof![batches(), batches_of_ties()],
        as_of in as_of(),
        config in 0..Config::ALL.len(),
    ) {
        let of = |ids| {
            let settings = Settings::defaults(&crate::Online.definition().settings).with("ids", ids).with_as_of(as_of);
            Arc::from(crate::Online.graph(&settings).unwrap())
        };
        let (declared, text) = (of("number"), of("text"));
        let ids = (0..4u64).map(|id| id.to_string()).collect();
        let inputs = crate::Online.definition().inputs;
        let renamed = Renamed { declared: &declared, text: &text, inputs: &inputs, ids, width: TextId::Number };
        renamed.check(Config::choose(config), &batches, |delivery, text| {
            let places = if delivery.input == 0 { 1..4 } else { 0..1 };
            let cells = delivery.line.split(',').enumerate();
            cells.map(|(place, cell)| if places.contains(&place) { text(cell) } else { cell.into() }).collect::<Vec<_>>().join(",")
        });
    }
}

/// The same set in one batch and in many, on all kinds of workers.
#[test]
fn every_kind_of_worker() {
    let (graph, oracle) = settings("Europe/Berlin", AsOf::Latest);
    let lines: Vec<Delivery> = (0..400u64)
        .map(|n| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let time = Moment(START + (mixed % 2_000) as i64 * HOUR);
            let line = format!("{time},{},{},{},{}", mixed % 17, mixed % 5, mixed % 3, mixed % 7 < 4);
            Delivery { input: 0, sign: 1, line }
        })
        .collect();
    let server = |line: &str| Delivery { input: 1, sign: 1, line: line.into() };
    let servers = vec![server("0,2024-03-01 00:00:00,2024-04-20 12:00:00"), server("1,2024-03-01 00:00:00,")];
    for config in Config::ALL {
        for size in [1_000, 97] {
            let mut batches: Vec<Vec<Delivery>> = lines.chunks(size).map(<[_]>::to_vec).collect();
            batches.push(servers.clone());
            check_law(config, &graph, &crate::Online.definition().inputs, &batches, |lines| oracle.tables(lines));
        }
    }
}

/// In Newfoundland, clocks went back from 00:01 to 23:01: what happened then is of the day that had begun, and of no other.
#[test]
fn a_moment_that_is_shown_once_more_before_midnight_is_on_one_day() {
    let (graph, oracle) = settings("America/St_Johns", AsOf::Latest);
    let batch = vec![Delivery { input: 0, sign: 1, line: "2010-11-07T02:48:10Z,1,1,1,true".into() }];
    check_law(Config::ALL[0], &graph, &crate::Online.definition().inputs, &[batch], |lines| {
        let tables = oracle.tables(lines);
        assert_eq!(tables["online_summary"].len(), 1, "{tables:?}");
        tables
    });
}

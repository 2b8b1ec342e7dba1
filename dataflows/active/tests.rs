//! The law: the tables are those of the oracle, after every batch, whatever came before, on any workers.

use crate::tables::{charts, tables};
use crate::{Active, oracle};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use retally_core::chart::{Mark, Series};
use retally_core::contract::{AsOf, Dataflow, Graph, Settings};
use retally_core::testing::only::Only;
use retally_core::testing::{Config, Delivery, Tables, run_graph};
use retally_core::time::{HOUR, Moment, parse};
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;

/// The settings by default.
fn defaults() -> Settings {
    Settings::defaults(&Active.definition().settings)
}

/// Runs the graph, and returns its tables after each batch, which are those of the oracle.
pub(crate) fn check(config: Config, settings: &Settings, min_engagement_micros: i64, batches: &[Vec<Delivery>]) -> Vec<Tables> {
    let graph: Arc<dyn Graph> = Active.graph(settings).unwrap().into();
    let found = run_graph(config, &graph, &Active.definition().inputs, batches);
    let mut delivered = Vec::new();
    for (number, (batch, tables)) in batches.iter().zip(&found).enumerate() {
        delivered.extend_from_slice(batch);
        let expected = oracle::tables(settings, min_engagement_micros, &delivered);
        assert_eq!(tables, &expected, "after batch {} of {batches:#?}, {config:?}, {settings:?}", number + 1);
    }
    found
}

/// An event, and how a line says it.
#[derive(Clone, Debug)]
struct Sample {
    user: Option<&'static str>,
    /// The user by `user_id`.
    account: Option<&'static str>,
    time: Moment,
    name: &'static str,
    engagement: Value,
    valuable: bool,
    offset: Value,
    /// Numbers as text, in other kinds of values, the fields in another order, and with others between them; where the offset stands.
    style: u8,
}

impl Sample {
    fn line(&self) -> String {
        let time = if self.style & 1 == 0 { json!(self.time.0) } else { json!(self.time.0.to_string()) };
        let engagement = match (&self.engagement, self.style & 2) {
            (Value::Null, 0) => json!({"key": "screen", "value": {"int_value": 7}}),
            (Value::Null, _) => json!({"key": "engagement_time_msec", "value": {"string_value": "much"}}),
            (number @ Value::Number(_), 0) => json!({"key": "engagement_time_msec", "value": {"double_value": number}}),
            (other, 0) => json!({"key": "engagement_time_msec", "value": {"string_value": null, "int_value": other}}),
            (other, _) => json!({"key": "engagement_time_msec", "value": {"string_value": "", "float_value": other}}),
        };
        let mut parameters = vec![engagement, json!({"key": "event_origin", "value": {"string_value": "auto\u{e9}\"_event"}})];
        if self.valuable {
            parameters.push(json!({"key": "engaged_session_event", "value": {"int_value": 1}}));
        }
        if self.style & 4 != 0 {
            parameters.reverse();
        }
        let mut object = json!({
            "event_name": self.name, "event_timestamp": time, "event_params": parameters, "user_pseudo_id": self.user,
            "user_properties": [{"key": "event_name", "value": {"string_value": "x"}}], "version": 1.5,
        });
        if let Some(account) = self.account {
            object["user_id"] = json!(account);
        }
        object["device"] = json!({"category": "mobile", "language": null});
        if self.style & 8 != 0 {
            object["device"]["time_zone_offset_seconds"] = self.offset.clone();
        } else if !self.offset.is_null() {
            object["time_zone_offset_seconds"] = self.offset.clone();
        }
        if self.style & 24 == 24 {
            object["time_zone_offset_seconds"] = json!(-7200);
        }
        object.to_string()
    }
}

fn moment(text: &str) -> Moment {
    Moment(parse(text.as_bytes()).unwrap().wall)
}

fn sample() -> impl Strategy<Value = Sample> {
    // The second is the first in another dress, and no packed number.
    let users = [Some("00ff41d2813527501f6c9fd2c66bd59c"), Some("00FF41d2813527501f6c9fd2c66bd59c"), Some("ann"), Some("1577.42"), None];
    let names = prop_oneof![6 => Just("user_engagement"), 1 => Just("read"), 1 => Just("share"), 1 => Just("scroll")];
    let engagements = [json!(null), json!(0), json!("2999"), json!(2999.5), json!(3000), json!("3000.0"), json!(-5), json!(86_400_000)];
    let offsets = [json!(null), json!("-21600"), json!(-18000), json!("50400"), json!(3600), json!("soon")];
    // Around the changes of the clock in Chicago and in Berlin, and three weeks on; often close to midnight.
    let starts = [moment("2024-03-09 00:00:00"), moment("2024-03-30 00:00:00"), moment("2024-11-02 00:00:00")];
    let time =
        (prop::sample::select(starts.to_vec()), 0i64..60, -2i64..3).prop_map(|(start, hours, micros)| start.plus(hours * HOUR + micros));
    (
        prop::sample::select(users.to_vec()),
        prop::sample::select(vec![None, Some("ann"), Some("bob")]),
        time,
        names,
        prop::sample::select(engagements.to_vec()),
        any::<bool>(),
        prop::sample::select(offsets.to_vec()),
        0u8..32,
    )
        .prop_map(|(user, account, time, name, engagement, valuable, offset, style)| Sample {
            user,
            account,
            time,
            name,
            engagement,
            valuable,
            offset,
            style,
        })
}

/// Batches from a small pool of lines, so that they come twice, are retracted, and retracted before they come.
fn batches() -> impl Strategy<Value = Vec<Vec<Delivery>>> {
    let sign = prop_oneof![5 => Just(1isize), 2 => Just(-1)];
    let picks = prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), sign), 0..25), 1..6);
    (prop::collection::vec(sample(), 1..30), picks).prop_map(|(pool, picks)| {
        let delivery = |(index, sign): (prop::sample::Index, isize)| Delivery { input: 0, sign, line: index.get(&pool).line() };
        picks.into_iter().map(|batch| batch.into_iter().map(delivery).collect()).collect()
    })
}

/// Settings, with the least engagement in microseconds.
fn settings() -> impl Strategy<Value = (Settings, i64)> {
    let zone = prop::sample::select(vec!["America/Chicago", "Europe/Berlin", "event", "UTC"]);
    let least = prop::sample::select(vec![("3s", 3_000_000), ("0s", 0), ("2999ms", 2_999_000), ("1h", 3_600_000_000)]);
    let names = prop::sample::select(vec!["", "read", "share,read", "user_engagement"]);
    let as_of = prop_oneof![2 => Just(None), 1 => (0i64..40 * 24).prop_map(|hours| Some(moment("2024-03-08 00:00:00").plus(hours * HOUR)))];
    let engagements = prop::sample::select(vec!["user_engagement", "scroll,user_engagement", "any"]);
    let field = prop::sample::select(vec!["user_pseudo_id", "user_id"]);
    (zone, least, names, engagements, field, as_of).prop_map(|(zone, (text, micros), names, engagements, field, as_of)| {
        let settings = defaults().with("timezone", zone).with("min-engagement", text).with("valuable-events", names);
        let settings = settings.with("engagement-events", engagements).with("user-field", field);
        (settings.with_as_of(as_of.map_or(AsOf::Latest, AsOf::At)), micros)
    })
}

/// Failures are kept in this crate's folder. (By default they are in the folder above a `lib.rs`, which is that of all crates.)
fn proptests() -> ProptestConfig {
    let kept = FileFailurePersistence::SourceParallel("active/proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(proptests())]

    #[test]
    fn the_graph_is_the_oracle_after_every_batch(
        (settings, least) in settings(),
        batches in batches(),
        config in (0..Config::ALL.len()).prop_map(Config::choose),
    ) {
        check(config, &settings, least, &batches);
    }
}

proptest! {
    #![proptest_config(proptests())]

    #[test]
    fn a_table_is_the_same_without_the_others(
        (settings, _) in settings(),
        batches in batches(),
        table in prop::sample::select(vec!["active_user_table", "active_rolling", "active_issues"]),
    ) {
        let inputs = Active.definition().inputs;
        let all: Arc<dyn Graph> = Active.graph(&settings).unwrap().into();
        let only: Arc<dyn Graph> = Arc::new(Only(table, Arc::from(Active.graph(&settings).unwrap())));
        let alone = run_graph(Config::default(), &only, &inputs, &batches);
        for (mut all, alone) in run_graph(Config::default(), &all, &inputs, &batches).into_iter().zip(alone) {
            all.retain(|name, _| name == table);
            prop_assert_eq!(all, alone);
        }
    }
}

#[test]
fn charts_name_columns_that_exist() {
    for layer in charts().into_iter().flat_map(|chart| chart.layers) {
        let table = tables().into_iter().find(|table| table.name == layer.table).unwrap();
        let columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        let series = match layer.series {
            Series::By(column) => column,
            Series::One(_) => layer.x,
        };
        let (Mark::Bars(values) | Mark::Line(values)) = layer.mark else { panic!("an unexpected mark: {:?}", layer.mark) };
        assert!([layer.x, series, values].iter().all(|column| columns.contains(column)), "{columns:?}");
    }
}

/// A sample in the form of an export, with the result that was published for one of its kind.
#[test]
fn the_published_result() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/published.jsonl");
    let lines = fs::read_to_string(path).unwrap();
    let batch = lines.lines().map(|line| Delivery { input: 0, sign: 1, line: line.into() }).collect();
    let tables = check(Config::choose(1), &defaults(), 3_000_000, &[batch]);
    let rows: Vec<_> = tables[0]["active_user_table"].iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, ["2019-12-29 11", "2019-12-30 31", "2019-12-31 22"]);
}

//! Charts of made-up tables. `RETALLY_CHARTS=DIR` keeps the pictures, to be looked at.

#![expect(clippy::cast_possible_truncation, reason = "made-up counts")]

use super::*;
use crate::tables::TableState;
use retally_core::calendar::Day;
use retally_core::chart::{Layer, Mark, Series};
use retally_core::contract::Table;
use retally_core::row::{Column, ColumnType, Row, batches};
use std::sync::Arc;

fn sizes() -> ColumnType {
    ColumnType::Label(Arc::from(["1-2", "3-9", "10-99", "100-999", "1000+"].map(String::from)))
}

fn table(name: &'static str, columns: Vec<Column>, rows: impl IntoIterator<Item = Row>) -> TableState {
    let mut state = TableState::new(Table::new(name, "", 2, columns));
    state.apply(batches(rows.into_iter().map(|row| (row, 1)).collect()));
    state
}

fn by_size(name: &'static str, rows: impl IntoIterator<Item = (Day, u16, u64)>) -> TableState {
    let columns =
        vec![Column::new("day", ColumnType::Day, ""), Column::new("fleet_size", sizes(), ""), Column::new("devices", ColumnType::UInt, "")];
    table(name, columns, rows.into_iter().map(|(day, size, devices)| Row::default().day(day).label(size).uint(devices)))
}

fn projection(rows: impl IntoIterator<Item = (Day, u16, f64, f64)>) -> TableState {
    let float = |name| Column::new(name, ColumnType::Float, "");
    let columns = vec![
        Column::new("day", ColumnType::Day, ""),
        Column::new("fleet_size", sizes(), ""),
        float("devices"),
        float("low"),
        float("high"),
    ];
    let row = |(day, size, devices, error): (Day, u16, f64, f64)| {
        Row::default().day(day).label(size).float(devices).float((devices - error).max(0.0)).float(devices + error)
    };
    table("projection", columns, rows.into_iter().map(row))
}

fn users(name: &'static str, rows: impl IntoIterator<Item = (Day, u64)>) -> TableState {
    let columns = vec![Column::new("day", ColumnType::Day, ""), Column::new("users", ColumnType::UInt, "")];
    table(name, columns, rows.into_iter().map(|(day, users)| Row::default().day(day).uint(users)))
}

fn layer(table: &'static str, mark: Mark, series: Series) -> Layer {
    Layer { table, x: "day", mark, series, days_before: None }
}

fn stacked() -> Chart {
    let layers = vec![layer("online_daily", Mark::StackedArea("devices"), Series::By("fleet_size"))];
    Chart {
        name: "online_daily",
        title: "Devices online per day, by the size of their user's fleet",
        y_label: "devices",
        layers,
        today: None,
    }
}

fn projected() -> Chart {
    let by = || Series::By("fleet_size");
    let layers = vec![layer("projection", Mark::Band("low", "high"), by()), layer("projection", Mark::Line("devices"), by())];
    Chart {
        name: "online_projection",
        title: "Devices online in the next 28 days, with the 95 % interval of a day",
        y_label: "devices",
        layers,
        today: None,
    }
}

fn active() -> Chart {
    let layers = vec![
        layer("daily", Mark::Bars("users"), Series::One("active that day")),
        layer("weekly", Mark::Line("users"), Series::One("within 7 days")),
        layer("monthly", Mark::Line("users"), Series::One("within 28 days")),
    ];
    Chart { name: "active_users", title: "Active users", y_label: "unique users", layers, today: None }
}

/// Draws into a directory and returns the SVG text.
fn drawn(name: &str, chart: &Chart, tables: &[&TableState]) -> String {
    let kept = std::env::var_os("RETALLY_CHARTS").map(|kept| PathBuf::from(kept).join(name));
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| temporary.path().join("new"));
    let find = |name: &str| tables.iter().find(|state| state.table().name == name).copied();
    let paths = draw(chart, &find, &dir).unwrap();
    assert_eq!(paths, [dir.join(format!("{}.svg", chart.name)), dir.join(format!("{}.png", chart.name))]);
    let read = || paths.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let first = read();
    draw(chart, &find, &dir).unwrap();
    assert_eq!(first, read(), "the same rows give the same bytes");
    assert_eq!(first[1][..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(first[1][16..24], [2400u32.to_be_bytes(), 1200u32.to_be_bytes()].concat());
    let svg = String::from_utf8(first[0].clone()).unwrap();
    assert!(svg.contains(r#"width="1200" height="600""#));
    svg
}

/// A number that looks random, from 0 to 1.
fn noise(seed: i32) -> f64 {
    f64::from((seed.wrapping_mul(1_103_515_245).wrapping_add(12_345).cast_unsigned() >> 8) % 1000) / 1000.0
}

fn fleet(day: Day, since: Day, size: u16) -> u64 {
    let age = f64::from(day.0 - since.0);
    let week = if (day.0 - 4).rem_euclid(7) >= 5 { 0.82 } else { 1.0 };
    let full = [5200.0, 9100.0, 14_000.0, 8_700.0, 4_100.0][usize::from(size)];
    let growth = 1.0 / (1.0 + (-(age - 420.0 - 90.0 * f64::from(size)) / 150.0).exp());
    (full * (0.05 + growth) * week * (0.97 + 0.06 * noise(day.0 * 5 + i32::from(size)))).round() as u64
}

fn texts(svg: &str) -> Vec<&str> {
    svg.lines().zip(svg.lines().skip(1)).filter(|(tag, _)| tag.starts_with("<text ")).map(|(_, text)| text).collect()
}

#[test]
fn three_years_of_stacked_areas() {
    let since = Day::from_civil(2023, 5, 17);
    let days = (0..3 * 365).map(|day| since.plus(day));
    let rows = days.flat_map(|day| (0..5).map(move |size| (day, size, fleet(day, since, size))));
    let svg = drawn("years", &stacked(), &[&by_size("online_daily", rows)]);
    let texts = texts(&svg);
    assert_eq!(texts[1..8], ["devices", "0", "10k", "20k", "30k", "40k", "50k"]);
    assert_eq!(texts[8..14], ["Jul 2023", "Jan 2024", "Jul 2024", "Jan 2025", "Jul 2025", "Jan 2026"]);
    assert_eq!(texts[14..], ["1000+", "100-999", "10-99", "3-9", "1-2"], "from the top of the stack down");
}

/// Rows are counted by a text, the most frequent first; the rarest share a bar.
#[test]
fn rows_by_text() {
    let columns = vec![Column::new("id", ColumnType::UInt, ""), Column::nullable("school", ColumnType::Text, "")];
    let sessions = |schools: u64| {
        let rows = (0..schools).flat_map(|school| (0..=school).map(move |id| (school, id)));
        let name = |school: u64| (school > 0).then(|| format!("School {school}"));
        let row = |(school, id)| Row::default().uint(school << 32 | id).optional(name(school), |row, name| row.text(&name));
        table("sessions", columns.clone(), rows.map(row))
    };
    let layers = vec![Layer { table: "sessions", x: "school", mark: Mark::Count, series: Series::One("sessions"), days_before: None }];
    let chart = Chart { name: "sessions", title: "Sessions per school", y_label: "sessions", layers, today: None };
    let svg = drawn("few-texts", &chart, &[&sessions(3)]);
    assert_eq!(texts(&svg), ["Sessions per school", "sessions", "0", "1", "2", "3", "School 2", "School 1", "none", "sessions"]);
    let svg = drawn("many-texts", &chart, &[&sessions(40)]);
    assert!(texts(&svg).contains(&"33 others"), "{:?}", texts(&svg));
    assert!(texts(&drawn("no-texts", &chart, &[])).contains(&"no data"));
}

#[test]
fn forty_days_of_bars_under_lines() {
    let first = Day::from_civil(2026, 2, 3);
    let count = |day: i32, scale: f64| (scale * (1.0 + f64::from(day) / 60.0)).round() as u64;
    let weekend = |day: i32| if day % 7 >= 4 { 0.7 } else { 1.0 };
    let daily = users("daily", (0..40).map(|day| (first.plus(day), count(day, 1800.0 * weekend(day) * (0.9 + 0.2 * noise(day))))));
    let weekly = users("weekly", (0..46).map(|day| (first.plus(day), count(day.min(39), 1000.0 * f64::from(day.min(6) + 1).sqrt() * 1.7))));
    let monthly =
        users("monthly", (0..67).map(|day| (first.plus(day), count(day.min(39), 1000.0 * f64::from(day.min(27) + 1).sqrt() * 1.3))));
    drawn("bars", &active(), &[&daily, &weekly, &monthly]);
}

fn projected_rows(first: Day) -> Vec<(Day, u16, f64, f64)> {
    let line = [(2, 410.0, 3.1, 55.0), (3, 260.0, -1.4, 40.0), (4, 90.0, 0.3, 18.0)];
    let days = (0..28).map(move |day| (day, first.plus(day)));
    days.flat_map(|(age, day)| {
        line.map(|(size, level, slope, error)| (day, size, level + slope * f64::from(age), error * (1.0 + f64::from(age) / 60.0)))
    })
    .collect()
}

#[test]
fn lines_in_bands() {
    let svg = drawn("projection", &projected(), &[&projection(projected_rows(Day::from_civil(2026, 3, 1)))]);
    assert!(svg.contains("<polygon opacity=\"0.22\" fill=\"#009E73\""), "10-99 is the third label, though the first series here");
    assert_eq!(texts(&svg).into_iter().rev().take(3).collect::<Vec<_>>(), ["1000+", "100-999", "10-99"]);
}

#[test]
fn layers_of_several_tables_share_colours() {
    let first = Day::from_civil(2026, 2, 1);
    let past = by_size("online_daily", (0..28).flat_map(|day| [(first.plus(day), 2, 400 + 3 * day as u64), (first.plus(day), 3, 260)]));
    let mut chart = projected();
    chart.layers.insert(0, layer("online_daily", Mark::StackedArea("devices"), Series::By("fleet_size")));
    let svg = drawn("mixed", &chart, &[&past, &projection(projected_rows(first.plus(28)))]);
    assert!(svg.contains("<polygon opacity=\"1\" fill=\"#009E73\""), "the area of 10-99");
    assert!(svg.contains("<polyline fill=\"none\" opacity=\"1\" stroke=\"#009E73\""), "the line of 10-99");
}

/// What was, up to the day that is not over, and what is expected behind it.
#[test]
fn the_day_of_as_of_is_marked() {
    let first = Day::from_civil(2026, 1, 1);
    let past = by_size("online_daily", (0..60).map(|day| (first.plus(day), 2, 400 + 3 * day as u64)));
    let mut chart = projected();
    chart.today = Some("online_daily");
    let before = Layer { days_before: Some(28), ..layer("online_daily", Mark::Line("devices"), Series::By("fleet_size")) };
    chart.layers.insert(0, before);
    let tables = [&past, &projection(projected_rows(first.plus(60)))];
    let find = |name: &str| tables.iter().find(|state| state.table().name == name).copied();
    let figure = Figure::read(&chart, &find).unwrap();
    assert_eq!(figure.days(), Some((first.plus(31), first.plus(87))), "28 days before that of as-of");
    assert_eq!(figure.today, Some(first.plus(59)));
    assert!(!figure.layers[0].series[0].1.contains_key(&first.plus(59)), "which is not over");
    assert!(texts(&drawn("as-of", &chart, &tables)).contains(&"as of 2026-03-01, not over"));
    chart.today = None;
    assert!(!texts(&drawn("as-of-unknown", &chart, &tables)).iter().any(|text| text.starts_with("as of")));
}

#[test]
fn short_and_long_spans() {
    let day = Day::from_civil(2026, 3, 1);
    let svg = drawn("one-day", &stacked(), &[&by_size("online_daily", (0..5).map(|size| (day, size, fleet(day, day.plus(-600), size))))]);
    assert_eq!(texts(&svg).iter().filter(|text| text.starts_with("2026")).count(), 1);
    drawn("one-day-lines", &projected(), &[&projection([(day, 1, 40.0, 6.0), (day, 2, 70.0, 9.0)])]);
    drawn("one-day-bars", &active(), &[&users("daily", [(day, 12)]), &users("weekly", [(day, 15)])]);
    let three = (0..3).flat_map(|after| (0..5).map(move |size| (day.plus(after), size, u64::from(size) + 2)));
    drawn("three-days", &stacked(), &[&by_size("online_daily", three)]);
    let decade =
        (0..3653).flat_map(|after| (0..3).map(move |size| (day.plus(after - 3653), size, 40 * fleet(day.plus(after / 4), day, size))));
    drawn("decade", &stacked(), &[&by_size("online_daily", decade)]);
    let gaps =
        (0..60).filter(|day| day % 11 != 3 && !(20..27).contains(day)).map(|after| (day.plus(after), 50_000 + (after % 7) as u64 * 900));
    drawn("gaps", &active(), &[&users("weekly", gaps)]);
}

#[test]
fn without_rows_a_chart_says_so() {
    for (name, tables) in [("empty", vec![by_size("online_daily", [])]), ("missing", Vec::new())] {
        let svg = drawn(name, &stacked(), &tables.iter().collect::<Vec<_>>());
        assert_eq!(texts(&svg), ["Devices online per day, by the size of their user&apos;s fleet", "no data"]);
    }
}

#[test]
fn names_may_have_what_xml_and_the_font_lack() {
    let mut chart = active();
    chart.layers[1].series = Series::One("<&\"'>\0 日本 é");
    let day = Day::from_civil(2026, 3, 1);
    let svg = drawn("names", &chart, &[&users("weekly", (0..9).map(|after| (day.plus(after), 7)))]);
    assert_eq!(texts(&svg).last(), Some(&"&lt;&amp;&quot;&apos;&gt;\u{fffd} 日本 é"));
}

#[test]
fn a_missing_day_is_nothing_in_a_stack_and_a_gap_in_a_line() {
    let day = Day::from_civil(2026, 3, 1);
    let stack = by_size("online_daily", [(day, 0, 4), (day.plus(2), 0, 6), (day.plus(1), 1, 5)]);
    let find = |_: &str| Some(&stack);
    let figure = Figure::read(&stacked(), &find).unwrap();
    let spans = |place: usize| figure.layers[0].series[place].1.values().copied().collect::<Vec<_>>();
    assert_eq!(spans(0), [(0.0, 4.0), (0.0, 0.0), (0.0, 6.0)]);
    assert_eq!(spans(1), [(4.0, 4.0), (0.0, 5.0), (6.0, 6.0)]);
    let mut lines = stacked();
    lines.layers[0].mark = Mark::Line("devices");
    let figure = Figure::read(&lines, &find).unwrap();
    assert_eq!(figure.layers[0].series[0].1.keys().copied().collect::<Vec<_>>(), [day, day.plus(2)]);
}

#[test]
fn errors_say_what_is_wrong() {
    let state = by_size("online_daily", []);
    let find = |_: &str| Some(&state);
    let mut chart = stacked();
    chart.layers[0].mark = Mark::StackedArea("fleet_size");
    let error = draw(&chart, &find, Path::new("unused")).unwrap_err().to_string();
    assert_eq!(error, "could not draw chart \"online_daily\": table \"online_daily\" has no column \"fleet_size\" of numbers");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = draw(&stacked(), &find, &file).unwrap_err().to_string();
    assert_eq!(error, format!("could not write chart {file:?}: a file stands where a directory is needed"));
}

//! Charts of made-up keys. `RETALLY_CHARTS=DIR` keeps the pictures, to be looked at.

use super::*;
use retally_core::key_chart::Piece;
use retally_core::row::{ColumnType, batches};
use retally_core::time::{DAY, HOUR, Moment, SECOND};

/// 2024-03-01T00:00:00Z.
const START: Moment = Moment(1_709_251_200 * SECOND);

fn chart(asked: &[&str]) -> KeyChart {
    KeyChart {
        noun: "sensor",
        table: "pieces",
        setting: "chart-sensor",
        id: ColumnType::Text,
        named_by_id: false,
        asked: asked.iter().map(ToString::to_string).collect(),
        y_label: "value",
        values: "values".into(),
        band: "expected".into(),
        lines: "segments".into(),
        stretches: "incidents".into(),
        marks: ["point", "level_shift", "collective", "flatline", "gap"].map(String::from).to_vec(),
    }
}

fn state(pieces: &[(&str, Piece)]) -> TableState {
    let mut state = TableState::new(chart(&[]).pieces());
    state.apply(batches(pieces.iter().map(|(id, piece)| (piece.row(|row| row.text(id)), 1)).collect()));
    state
}

fn title(name: &str) -> Piece {
    Piece::Drawn { name: name.into(), asked: String::new() }
}

fn value(hours: f64, value: f64) -> Piece {
    #[expect(clippy::cast_possible_truncation, reason = "made-up times")]
    let time = START.plus((hours * HOUR as f64) as i64);
    Piece::Value { time, value, breaks: false }
}

/// Draws into a directory and returns the files' names, and the texts and bytes of the first document.
fn drawn(folder: &str, pieces: &[(&str, Piece)]) -> (Vec<String>, Vec<String>, String) {
    let kept = std::env::var_os("RETALLY_CHARTS").map(|kept| PathBuf::from(kept).join(folder));
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.unwrap_or_else(|| temporary.path().join("new"));
    let calendar = Calendar::named("Europe/Berlin").unwrap();
    let paths = draw_keys(&chart(&[]), &state(pieces), &calendar, &["daily"], &dir).unwrap();
    let names = paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let svg = paths.first().map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
    let lines = svg.lines().zip(svg.lines().skip(1));
    let texts = lines.filter(|(tag, _)| tag.starts_with("<text ")).map(|(_, text)| text.to_string()).collect();
    (names, texts, svg)
}

fn day_of_values() -> Vec<(&'static str, Piece)> {
    let mut pieces: Vec<(&str, Piece)> = (0..288).map(|n| ("u1", value(f64::from(n) / 12.0, 20.0 + f64::from(n % 7) / 10.0))).collect();
    pieces.push(("u1", title("boiler")));
    pieces
}

#[test]
fn all_that_is_known_of_a_key_is_in_its_picture() {
    let mut pieces = day_of_values();
    let at = |hours: i64| START.plus(hours * HOUR);
    for hours in 6..24 {
        pieces.push(("u1", Piece::Band { time: at(hours), low: 19.5, high: 21.0, breaks: hours == 6 }));
    }
    pieces.push(("u1", Piece::Line { from: (at(0), 20.3), until: (at(24), 20.3) }));
    pieces.push(("u1", Piece::Stretch { from: at(10), until: at(10) }));
    for kind in 0..5 {
        pieces.push(("u1", Piece::Mark { time: at(10 + kind), value: 22.0, kind: kind.unsigned_abs(), weight: 1 }));
    }
    // What is another's is not in it, and what is not drawn in none.
    pieces.push(("u2", Piece::Mark { time: at(1), value: 1e9, kind: 0, weight: 9 }));
    let (files, texts, svg) = drawn("all", &pieces);
    assert_eq!(files, ["boiler.svg", "boiler.png"]);
    assert_eq!(texts[..3], ["boiler", "u1 · times in Europe/Berlin", "value"]);
    let legend = ["values", "expected", "segments", "incidents", "point", "level_shift", "collective", "flatline", "gap"];
    assert_eq!(texts[texts.len() - 9..], legend);
    assert!(texts.iter().any(|text| text == "Fri 1 Mar 2024") && texts.iter().any(|text| text == "06:00"), "{texts:?}");
    assert_eq!(svg.matches("<polyline").count(), svg.matches("<polyline fill=\"none\"").count());
    assert_eq!(drawn("again", &pieces).2, svg, "the same pieces give the same bytes");
}

#[test]
fn the_legend_shows_what_is_there() {
    let (_, texts, _) = drawn("values", &day_of_values());
    assert_eq!(texts.last().map(String::as_str), Some("values"));
    assert!(!texts.iter().any(|text| text == "incidents" || text == "point"));
}

#[test]
fn a_key_may_have_one_value_or_none_or_no_name() {
    let (_, texts, svg) = drawn("one", &[("u1", title("")), ("u1", value(0.0, 3.5))]);
    assert_eq!(texts[0], "sensor without a name");
    assert!(texts.iter().any(|text| text == "01:00:00") && svg.contains("<circle"), "{texts:?}");
    let (files, texts, _) = drawn("none", &[("u1", title("<empty> & more"))]);
    assert_eq!(files[0], "_empty____more-u1.svg");
    assert_eq!(texts, ["&lt;empty&gt; &amp; more", "u1 · times in Europe/Berlin", "no data"]);
    assert!(drawn("nothing", &[]).0.is_empty());
}

#[test]
fn a_key_that_has_no_name_but_its_id_is_titled_by_it() {
    let pieces = [("u1", title("")), ("u1", value(0.0, 3.5))];
    let chart = KeyChart { named_by_id: true, ..chart(&[]) };
    let folder = tempfile::tempdir().unwrap();
    let files = draw_keys(&chart, &state(&pieces), &Calendar::utc(), &[], folder.path()).unwrap();
    let svg = std::fs::read_to_string(&files[0]).unwrap();
    let is_line = |text: &str| svg.lines().any(|line| line == text);
    assert!(is_line("u1") && is_line("times in UTC") && !svg.contains("without a name"), "{svg}");
}

#[test]
fn a_line_is_broken_where_it_says_so() {
    let values = |breaks: bool| {
        let piece = move |n: i64| Piece::Value { time: START.plus(n * DAY), value: n as f64, breaks: breaks && n == 100 };
        (0..200).map(|n| ("u1", piece(n))).chain([("u1", title("k"))]).collect::<Vec<_>>()
    };
    let lines = |breaks| drawn("breaks", &values(breaks)).2.matches("stroke=\"#0072B2\"").count();
    assert_eq!(lines(true), lines(false) + 1);
}

/// Nothing is drawn outside of the plot: of what was expected as much is seen as leaves values room.
#[test]
fn a_wide_band_leaves_values_room() {
    let mut pieces = day_of_values();
    let at = |hours: i64| START.plus(hours * HOUR);
    pieces.extend((0..24).map(|hours| ("u1", Piece::Band { time: at(hours), low: -1e6, high: 1e6, breaks: false })));
    let (_, texts, _) = drawn("band", &pieces);
    assert_eq!(texts[3..9], ["19.8", "20.0", "20.2", "20.4", "20.6", "20.8"]);
}

#[test]
fn names_of_other_charts_are_taken() {
    let pieces = [("u1", title("daily")), ("u1", value(0.0, 1.0)), ("u2", title("x")), ("u3", title("X"))];
    assert_eq!(drawn("taken", &pieces).0, ["X.svg", "X.png", "daily-u1.svg", "daily-u1.png", "x-u2.svg", "x-u2.png"]);
}

#[test]
fn keys_that_are_not_there_are_missing() {
    let found = Piece::Drawn { name: "boiler".into(), asked: "u1".into() };
    let pieces = [("u1", found), ("u1", Piece::Known("boiler".into())), ("u2", Piece::Known(String::new()))];
    let (missing, known) = missing_keys(&chart(&["u1", "boilr", "u3"]), &state(&pieces));
    assert_eq!((missing, known), (vec!["boilr".to_string(), "u3".into()], vec!["boiler".to_string(), "u1".into(), "u2".into()]));
}
